/**
 * A program on a backend of its own: nothing but the layer tells that it is one.
 *
 *     node --conditions=effect-lock-source examples/custom-backend/main.ts
 */
import { Console, Effect, Option } from "effect"
import { Lock, withLock } from "effect-lock"
import * as KeyValueLock from "./KeyValueLock.ts"
import * as KeyValueStore from "./KeyValueStore.ts"

const program = Effect.gen(function*() {
  for (const turn of ["first", "second"]) {
    yield* Effect.scoped(Effect.gen(function*() {
      const lease = yield* withLock("invoices/2026-11", { metadata: { turn } })
      const [holder] = yield* Lock.inspect("invoices/2026-11")
      yield* Console.log(`held by the ${holder?.metadata["turn"]}, token ${Option.getOrThrow(lease.fencingToken)}`)
    }))
  }
})

await Effect.runPromise(program.pipe(Effect.provide(KeyValueLock.layer(KeyValueStore.make()))))
// prints: held by the first, token 1
// prints: held by the second, token 2
