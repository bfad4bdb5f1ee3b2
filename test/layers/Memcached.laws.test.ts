import { afterAll, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Scope } from "effect"
import * as Memcached from "effect-lock/layers/Memcached"
import { BackendLaws } from "effect-lock/testing"
import { testLaws } from "effect-lock/testing/vitest"
import { memcachedServer } from "../servers/MemcachedServer.ts"
import { isInstalled } from "../servers/ServerProcess.ts"

const environment = (port: number) => {
  const backend = (namespace: string) => Memcached.make({ host: "127.0.0.1", port, namespace })
  return Effect.gen(function*() {
    return BackendLaws.LawEnvironment.make({
      first: yield* backend("laws"),
      second: yield* backend("laws"),
      withNamespace: backend,
      // Expiry is rounded up to whole seconds and one more, and noticed at the next tick.
      expirySlack: Duration.seconds(4),
      contenders: 20,
      acquisitions: 100,
      positions: 60
    })
  })
}

if (!isInstalled("memcached")) {
  describe.skip("Memcached keeps the laws (memcached is not installed)", () => it("is skipped", () => {}))
} else {
  const scope = Scope.makeUnsafe()
  afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))
  const start = (...args: ReadonlyArray<string>) =>
    Effect.runPromise(Effect.map(Scope.provide(memcachedServer(...args), scope), ({ port }) => environment(port)))

  await testLaws("Memcached keeps the laws", await start(), { concurrent: true })

  // It is asked in another order there; what waits for the end of leases is the same.
  const laws = BackendLaws.portLaws.filter(({ id }) => !/^expiry|^renewal|ttl|never-takes|late|takeover/.test(id))
  await testLaws("Memcached keeps the laws on a server that does not evict", await start("-M"), {
    concurrent: true,
    laws
  })
}
