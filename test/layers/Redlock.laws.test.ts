import { afterAll, describe } from "@effect/vitest"
import { Duration, Effect, Exit, Scope } from "effect"
import * as Redlock from "effect-lock/layers/Redlock"
import { LawEnvironment } from "../../src/testing/BackendLaws.ts"
import { testLaws } from "../../src/testing/vitest.ts"
import { redisServer } from "../servers/RedisServer.ts"
import { isInstalled } from "../servers/ServerProcess.ts"

describe.skipIf(!isInstalled("redis-server"))("five masters", async () => {
  if (!isInstalled("redis-server")) return
  const scope = Scope.makeUnsafe()
  afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))
  const servers = await Effect.runPromise(
    Effect.forEach(Array.from({ length: 5 }), () => redisServer(), { concurrency: "unbounded" }).pipe(
      Scope.provide(scope)
    )
  )
  const make = (namespace = "") =>
    Redlock.make({ nodes: servers.map(({ url }) => url), namespace, restartGuard: false, perNodeTimeout: "4 seconds" })

  await testLaws(
    "Redlock",
    Effect.gen(function*() {
      const first = yield* make()
      const second = yield* make()
      // Connected: the laws have short leases.
      const budget = Duration.seconds(30)
      yield* Effect.forEach([first, second], (backend) => backend.inspect({ key: "k", budget }))
      return LawEnvironment.make({
        first,
        second,
        withNamespace: make,
        ttl: Duration.seconds(2),
        expirySlack: Duration.seconds(1),
        budget: Duration.seconds(15),
        contenders: 12,
        acquisitions: 100,
        positions: 60
      })
    }),
    { concurrent: true }
  )
})
