import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { type Child, kill, start as startChild } from "../process/children.ts"
import { isInstalled, start, until } from "./redis/redisLocks.ts"

const script = "../layers/redis/worker.ts"

const workers = (count: number, port: number, callers: number, rounds: number, ttl: number) =>
  Effect.gen(function*() {
    const children = yield* Effect.forEach(
      Array.from({ length: count }),
      () => startChild(script, [port, callers, rounds, ttl].map(String)),
      { concurrency: "unbounded" }
    )
    for (const child of children) yield* child.expect("ready")
    return children
  })

const go = (children: ReadonlyArray<Child>) => Effect.forEach(children, (child) => child.say("go"), { discard: true })
const done = (children: ReadonlyArray<Child>) =>
  Effect.forEach(children, (child) => child.expect("done"), { discard: true })

/** One holder at a time, each with a larger token than all before it. How many came, how many left. */
const audit = (journal: ReadonlyArray<string>) => {
  let holder = 0n
  let [entered, left] = [0, 0]
  for (const [index, line] of journal.entries()) {
    const [what, text = ""] = line.split(" ")
    const token = BigInt(text)
    if (what === "in") {
      assert.isTrue(token > holder, `line ${index}: token ${token} after ${holder}`)
      holder = token
      entered++
    } else {
      assert.strictEqual(token, holder, `line ${index}: the holder of ${token} was still there under ${holder}`)
      left++
    }
  }
  return { entered, left }
}

describe.skipIf(!isInstalled("redis-server"))("processes", () => {
  it.live("8 of them with 10 waiters each: one holder at a time, tokens in order, at most 4 requests for each", () =>
    Effect.gen(function*() {
      const { server, visitor } = yield* start()
      const children = yield* workers(8, server.port, 10, 5, 30_000)
      const before = yield* visitor.scripts
      yield* go(children)
      yield* done(children)
      const requests = (yield* visitor.scripts) - before
      const journal = (yield* visitor.call("LRANGE", "journal", 0, -1)) as Array<string>
      assert.deepStrictEqual(audit(journal), { entered: 400, left: 400 })
      assert.isAtMost(requests / 400, 4)
      const left = Effect.map(visitor.keys, (keys) => keys.filter((key) => key !== "journal" && !key.endsWith(":f")))
      yield* until("nothing is left but the token's counter", Effect.map(left, (keys) => keys.length === 0))
    }).pipe(Effect.provide(NodeServices.layer)))

  it.live("when waiters and holders are killed, the others go on, one at a time and in order", () =>
    Effect.gen(function*() {
      const { server, visitor } = yield* start()
      const survivors = yield* workers(2, server.port, 4, 10, 1000)
      const victims = yield* workers(3, server.port, 4, 100_000, 1000)
      yield* go(victims)
      const length = Effect.map(visitor.call("LLEN", "journal"), Number)
      for (const victim of victims) {
        const before = yield* length
        yield* until("they work", Effect.map(length, (now) => now > before + 20))
        yield* kill([victim])
        if (victim === victims[0]) yield* go(survivors)
      }
      yield* done(survivors)
      const journal = (yield* visitor.call("LRANGE", "journal", 0, -1)) as Array<string>
      const { entered, left } = audit(journal)
      assert.isAtMost(entered - left, victims.length)
      const queue = Effect.map(visitor.keys, (keys) => keys.includes("lock::{k}:q"))
      assert.isFalse(yield* queue)
    }).pipe(Effect.provide(NodeServices.layer)))
})
