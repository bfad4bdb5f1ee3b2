import { Duration, Effect } from "effect"
import { HttpClient } from "effect/http"
import * as Gcs from "../../src/layers/Gcs.ts"
import { LawEnvironment } from "../../src/testing/BackendLaws.ts"
import { testLaws } from "../../src/testing/vitest.ts"
import { GcsServer } from "../servers/GcsServer.ts"
import { pass } from "./internal/gcsLocks.ts"

const environment = (onRelease: "delete" | "keep") =>
  Effect.gen(function*() {
    const server = new GcsServer()
    const make = (namespace?: string) =>
      Gcs.make({
        bucket: "locks",
        namespace,
        onRelease,
        expiry: "serverDate",
        endpoint: "http://127.0.0.1:1"
      }).pipe(Effect.provideService(HttpClient.HttpClient, server.client))
    return LawEnvironment.make({
      first: yield* make(),
      second: yield* make(),
      withNamespace: make,
      pass,
      // The grace of two seconds, and up to one that `Date` is behind.
      expirySlack: Duration.seconds(4),
      acquisitions: 100,
      positions: 100
    })
  })

await testLaws("Gcs keeps the laws, on a server without a network", environment("delete"), { clock: "virtual" })
await testLaws("Gcs that keeps its objects keeps the laws", environment("keep"), { clock: "virtual" })
