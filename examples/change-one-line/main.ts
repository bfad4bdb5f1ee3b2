/**
 * Thirty buyers, ten tickets, and a stock that two must not change at once.
 *
 * Where the locks are is one line. In memory they exclude the buyers of this process; change `Memory` to `Redis`, and
 * they exclude those of every process that uses the same server.
 */
import { Config, Effect, Ref } from "effect"
import { Lock } from "effect-lock"
import * as Locks from "effect-lock/layers/Memory"

const buy = Effect.fn(function*(stock: Ref.Ref<number>, sold: Ref.Ref<number>) {
  const left = yield* Ref.get(stock)
  // Others come here meanwhile, and would read the same number.
  yield* Effect.sleep("1 millis")
  if (left === 0) return
  yield* Ref.set(stock, left - 1)
  yield* Ref.update(sold, (count) => count + 1)
}, Lock.guard("tickets", { metadata: { job: "sell a ticket" } }))

const program = Effect.gen(function*() {
  const stock = yield* Ref.make(10)
  const sold = yield* Ref.make(0)
  yield* Effect.forEach(Array.from({ length: 30 }), () => buy(stock, sold), { concurrency: "unbounded" })
  console.log(`30 buyers, 10 tickets, ${yield* Ref.get(sold)} sold`)
})

const main = Effect.gen(function*() {
  const url = yield* Config.String("REDIS_URL").pipe(Config.withDefault("redis://127.0.0.1:6379"))
  const settings = { url, namespace: "box-office" }
  yield* Effect.provide(program, Locks.layer(settings))
})

await Effect.runPromise(main)
