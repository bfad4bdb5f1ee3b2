import { assert, describe, it } from "@effect/vitest"
import { Duration, Option } from "effect"
import { BackendLaws } from "effect-lock/testing"
import * as Record from "../../../src/layers/internal/memcachedRecord.ts"

describe("memcachedRecord", () => {
  it("no two pairs of namespace and key have one name, and each is one that memcached takes", () => {
    const texts = ["", ...BackendLaws.hostileKeys]
    const names = texts.flatMap((namespace) => texts.map((key) => Record.nameOf(namespace, key)))
    assert.strictEqual(new Set(names).size, texts.length ** 2)
    for (const name of names) assert.match(name, /^[\x21-\x7e]{1,250}$/)
  })

  it("an expiry is never shorter than the ttl, though the server's ticks take up to a second of it", () => {
    const expiries = [1, 999, 1000, 1001, 2000, 2000.5, 86_400_000].map((ttl) => Record.expiryOf(Duration.millis(ttl)))
    assert.deepStrictEqual(expiries, [2, 2, 2, 3, 3, 4, 86_401])
    assert.isBelow(Record.expiryOf(Duration.days(1)), Record.longestExpiry)
  })

  it("a handle comes back as it was, for its owner id only", () => {
    const text = JSON.stringify({ metadata: { note: "two words\u2028and } a brace" } })
    for (const ownerId of ["abc", "two words", "{\"", "é%"]) {
      const handle = { session: "s.1", cas: "18446744073709551615", expiry: 31, grant: "s.7", ownerId, text }
      assert.deepStrictEqual(Record.decodeHandle(Record.encodeHandle(handle), ownerId), handle)
      assert.isUndefined(Record.decodeHandle(Record.encodeHandle(handle), `${ownerId}x`))
    }
    for (const handle of ["", "1", "a b c d e f", "s 1 1 g abc {}\r\nflush_all"]) {
      assert.isUndefined(Record.decodeHandle(handle, "abc"), handle)
    }
  })

  it("what is no record is none", () => {
    const record: Record.MemcachedRecord = {
      ...{ v: 1, namespace: "n", key: "k", ownerId: "o", grant: "g", since: 1, metadata: { ["__proto__"]: "x" } }
    }
    const text = Record.encodeRecord(record)
    assert.strictEqual(Object.keys(Option.getOrThrow(Record.decodeRecord(text)).metadata).join(), "__proto__")
    for (const other of ["", "1", "{}", text.slice(1), text.replace("\"v\":1", "\"v\":2")]) {
      assert.isTrue(Option.isNone(Record.decodeRecord(other)), other)
    }
  })
})
