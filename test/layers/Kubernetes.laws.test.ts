import { Duration, Effect } from "effect"
import { BackendLaws } from "effect-lock/testing"
import { testLaws, virtualTime } from "effect-lock/testing/vitest"
import { HttpClient } from "effect/http"
import * as Kubernetes from "../../src/layers/Kubernetes.ts"
import { FakeApi } from "../servers/kubernetesApi.ts"
import { makeClient } from "../servers/kubernetesClient.ts"

const endpoint = "http://127.0.0.1:8001"

const environment = (expiry: "observed" | "serverDate") =>
  Effect.gen(function*() {
    const clock = yield* Effect.clockWith(Effect.succeed)
    const api = new FakeApi({ now: () => clock.currentTimeMillisUnsafe() })
    const backend = (namespace: string) =>
      Effect.provideService(
        Kubernetes.make({ endpoint, kubernetesNamespace: "default", namespace, expiry }),
        HttpClient.HttpClient,
        makeClient(api).client
      )
    return BackendLaws.LawEnvironment.make({
      ...virtualTime,
      first: yield* backend(""),
      second: yield* backend(""),
      withNamespace: backend,
      // Who did not see the last renewal has to watch for a whole ttl.
      expirySlack: Duration.seconds(expiry === "observed" ? 6 : 3),
      contenders: 20,
      acquisitions: 200,
      positions: 120
    })
  })

await testLaws("Kubernetes keeps the laws", environment("observed"), { clock: "virtual" })
await testLaws("Kubernetes keeps the laws, by the server's time", environment("serverDate"), { clock: "virtual" })
