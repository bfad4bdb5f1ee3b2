import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import * as Keys from "../../../src/layers/internal/redisKeys.ts"

const awkward = [
  "",
  "a",
  "a:b",
  ":",
  "{",
  "}",
  "{}",
  "}{",
  "{a}:f",
  "%7B",
  "%",
  "a*?[]\\^-",
  "ключ",
  "a b",
  "|",
  "\u{1F512}"
]

describe("the names in Redis", () => {
  it("are as documented", () => {
    const names = Keys.make("billing", "")
    assert.deepStrictEqual(names.keysOf("invoices/2026-11"), {
      record: "lock:billing:{invoices/2026-11}",
      fence: "lock:billing:{invoices/2026-11}:f",
      queue: "lock:billing:{invoices/2026-11}:q"
    })
    assert.strictEqual(names.tombstone("k", "o"), "lock:billing:{k}:d:o")
    assert.strictEqual(names.channels, "lock:billing:i:")
    // A client puts its prefix before keys, not before channels: one prefix is to cover both.
    assert.strictEqual(Keys.make("billing", "app:").channels, "app:lock:billing:i:")
  })

  it("lead back to the key, and to no other", () => {
    for (const namespace of awkward) {
      for (const clientPrefix of ["", "app:", "{x}"]) {
        const names = Keys.make(namespace, clientPrefix)
        for (const key of awkward.filter((key) => key !== "")) {
          const { fence, queue, record } = names.keysOf(key)
          assert.strictEqual(names.keyOf(`${clientPrefix}${record}`), key)
          for (const other of [fence, queue, names.tombstone(key, "o"), "x", `${record} `]) {
            assert.isUndefined(names.keyOf(`${clientPrefix}${other}`), other)
          }
        }
      }
    }
  })

  it("of two (namespace, key) pairs are never the same", () => {
    const records = awkward.flatMap((namespace) =>
      awkward.filter((key) => key !== "").map((key) => Keys.make(namespace, "").keysOf(key).record)
    )
    assert.strictEqual(new Set(records).size, records.length)
  })

  // Redis hashes what is between the first brace and the next closing one.
  it("of one lock are in one slot", () => {
    const tag = (name: string) => /\{([^}]+)\}/.exec(name)?.[1]
    for (const namespace of awkward) {
      for (const key of awkward.filter((key) => key !== "")) {
        const names = Keys.make(namespace, "")
        const { fence, queue, record } = names.keysOf(key)
        const tags = [record, fence, queue, names.tombstone(key, "o")].map(tag)
        assert.isDefined(tags[0])
        assert.strictEqual(new Set(tags).size, 1)
      }
    }
  })

  it.prop("any key leads back to itself", { key: Schema.NonEmptyString }, ({ key }) => {
    const names = Keys.make("n", "")
    assert.strictEqual(names.keyOf(names.keysOf(key).record), key)
  })

  it("an owner id keeps its parts together", () => {
    for (const ownerId of ["a|b", "%", "|%7C|", "plain"]) {
      const owner = Keys.escapeOwner(ownerId)
      assert.notInclude(owner, "|")
      assert.strictEqual(Keys.unescapeOwner(owner), ownerId)
    }
  })
})
