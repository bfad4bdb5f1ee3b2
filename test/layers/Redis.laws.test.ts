import { afterAll, describe, it } from "@effect/vitest"
import { Effect, Exit, Scope } from "effect"
import * as Redis from "effect-lock/layers/Redis"
import { BackendLaws } from "effect-lock/testing"
import { testLaws } from "effect-lock/testing/vitest"
import { redisServer } from "../servers/RedisServer.ts"
import { isInstalled } from "../servers/ServerProcess.ts"

if (isInstalled("redis-server")) {
  const scope = Scope.makeUnsafe()
  afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))
  const { url } = await Effect.runPromise(Scope.provide(redisServer(), scope))
  const environment = Effect.gen(function*() {
    return BackendLaws.LawEnvironment.make({
      first: yield* Redis.make({ url }),
      second: yield* Redis.make({ url }),
      withNamespace: (namespace) => Redis.make({ url, namespace }),
      contenders: 20,
      acquisitions: 300,
      positions: 60
    })
  })
  await testLaws("Redis keeps the laws", environment, { concurrent: true })
} else describe.skip("Redis keeps the laws", () => it("redis-server is not installed", () => {}))
