/**
 * The laws of the port, on a real etcd.
 */
import { NodeHttpClient } from "@effect/platform-node"
import { describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Layer, Scope } from "effect"
import * as Etcd from "effect-lock/layers/Etcd"
import { afterAll } from "vitest"
import { LawEnvironment } from "../../src/testing/BackendLaws.ts"
import { testLaws } from "../../src/testing/vitest.ts"
import { etcdServer } from "../servers/EtcdServer.ts"
import { isInstalled } from "../servers/ServerProcess.ts"

const installed = isInstalled("etcd")

if (installed) {
  const scope = Scope.makeUnsafe()
  afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))
  const { url } = await Effect.runPromise(Scope.provide(etcdServer(), scope))
  const environment = Effect.gen(function*() {
    const services = yield* Layer.build(NodeHttpClient.layerUndici)
    const make = (namespace = "") => Effect.provideContext(Etcd.make({ endpoints: [url], namespace }), services)
    return LawEnvironment.make({
      first: yield* make(),
      second: yield* make(),
      withNamespace: make,
      // Whole seconds, rounded up: it lives for six.
      ttl: Duration.millis(5001),
      expirySlack: Duration.seconds(3),
      contenders: 12,
      acquisitions: 60,
      positions: 60
    })
  })
  await testLaws("etcd", environment, { concurrent: true })
} else describe.skip("etcd: the program is not installed", () => void it("laws", () => {}))
