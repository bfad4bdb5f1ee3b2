import { assert, describe, it } from "@effect/vitest"
import { Effect, Option, Stream } from "effect"
import { readFileSync } from "node:fs"
import * as path from "node:path"
import { failureOf, inTime, isInstalled, start, type Verbs } from "./redis/redisLocks.ts"

const page = readFileSync(path.join(import.meta.dirname, "../../docs/backends/redis.md"), "utf8")
// The rule as it stands in the documentation.
const documented = /^ACL SETUSER locks (.*)$/m.exec(page)?.[1] ?? ""
const rule = documented.split(" ").filter((word) => !word.startsWith(">"))

const prepare = (words: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const { open, server, visitor } = yield* start()
    yield* visitor.call("ACL", "SETUSER", "locks", "reset", ">secret", ...words)
    const url = `redis://locks:secret@127.0.0.1:${server.port}`
    return { visitor, open: (namespace = "app") => open({ url, namespace }) }
  })

/** Everything that the backend does. */
const everything = (one: Verbs, two: Verbs) =>
  Effect.gen(function*() {
    const { handle } = yield* one.acquire("a", { willWait: true })
    yield* one.renew("a", handle)
    yield* two.queue("b")
    yield* one.queue("c")
    assert.strictEqual(yield* one.release("c"), "NotHeld")
    yield* one.holder
    assert(one.backend.list !== undefined)
    assert.lengthOf(yield* Stream.runCollect(one.backend.list("")), 1)
    yield* one.release("a", { handle: Option.some(handle) })
    yield* inTime("the waiter is called", two.awaitTurn("b"))
    const next = yield* two.acquire("b", { willWait: true })
    assert.strictEqual(yield* one.break("b", false), "Draining")
    assert.strictEqual(yield* two.release("b", { handle: Option.some(next.handle), unanswered: true }), "Released")
  })

describe.skipIf(!isInstalled("redis-server"))("the documented access rule", () => {
  it.live("suffices for everything", () =>
    Effect.gen(function*() {
      assert.isAbove(rule.length, 10)
      const { open } = yield* prepare(rule)
      yield* everything(yield* open(), yield* open())
    }))

  it.live("keeps the user to its namespace and to locks", () =>
    Effect.gen(function*() {
      const { open, visitor } = yield* prepare(rule)
      const other = yield* open("other")
      const error = yield* failureOf(other.tryAcquire("a"))
      assert.strictEqual(error.reason._tag, "Unauthorized", error.message)
      assert.match(error.reason.detail, /permission.*documentation/)
      assert.deepStrictEqual(yield* visitor.keys, [])
      const dry = (...command: ReadonlyArray<string>) => visitor.call("ACL", "DRYRUN", "locks", ...command)
      for (
        const command of [
          ["GET", "invoices"],
          ["SET", "lock:other:{k}", "x"],
          ["SUBSCRIBE", "lock:other:i:x"],
          ["PUBLISH", "orders", "x"],
          ["KEYS", "*"],
          ["FLUSHALL"],
          ["CONFIG", "GET", "*"],
          ["SCRIPT", "FLUSH"],
          ["ACL", "LIST"]
        ]
      ) assert.notStrictEqual(yield* dry(...command), "OK", command.join(" "))
    }))

  // What only tidies up, or names a connection, is not missed by anybody.
  const courtesies = ["+unsubscribe", "+client|setname"]
  const needed = rule.filter((word) => word.startsWith("+") && !courtesies.includes(word))
  for (const permission of needed) {
    it.live(`needs ${permission}: without it, what fails is Unauthorized`, () =>
      Effect.gen(function*() {
        const { open } = yield* prepare(rule.filter((word) => word !== permission))
        const error = yield* failureOf(everything(yield* open(), yield* open()))
        assert.strictEqual(error.reason._tag, "Unauthorized", error.message)
      }))
  }
})
