import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { decode, encode, fileName, longest } from "../../../src/layers/internal/encodedName.ts"
import { hostileKeys } from "../../../src/testing/BackendLaws.ts"

describe("encodedName", () => {
  it("keeps lower case, digits, - and _, and escapes every other byte, upper case and dots too", () => {
    assert.strictEqual(encode("job_1-a"), "job_1-a")
    assert.strictEqual(encode("A.b/é"), "%41%2Eb%2F%C3%A9")
    assert.strictEqual(encode("%41"), "%2541")
    assert.strictEqual(encode(""), "")
  })

  it("gives every hostile key a name of its own, also on a disk that folds case", () => {
    const names = new Set(hostileKeys.map((key) => encode(key).toLowerCase()))
    assert.strictEqual(names.size, new Set(hostileKeys).size)
  })

  it("decodes what it encoded, and nothing else", () => {
    for (const key of hostileKeys) assert.strictEqual(decode(encode(key)), key)
    for (const foreign of ["A", "a.b", "%", "%4", "%4z", "%2f", "%61", "%FF", "a/b", "..", " "]) {
      assert.strictEqual(decode(foreign), undefined, foreign)
    }
  })

  it("encodes a prefix as a prefix", () => {
    for (const key of hostileKeys) {
      const characters = [...key]
      for (const length of [0, 1, 2, characters.length - 1]) {
        assert(encode(key).startsWith(encode(characters.slice(0, length).join(""))), key)
      }
    }
  })

  it.effect("names no file that leaves its directory, is reserved, or is too long", () =>
    Effect.gen(function*() {
      for (const key of hostileKeys) {
        const name = yield* fileName("l", key)
        assert.match(name, /^(l-[a-z0-9_%A-F-]*|lh-[0-9a-f]{64})$/)
        assert.isAtMost(name.length, 255)
      }
    }))

  it.effect("hashes what is too long, under a prefix that no encoded name has", () =>
    Effect.gen(function*() {
      const short = yield* fileName("l", "x".repeat(longest))
      const long = yield* fileName("l", "x".repeat(longest + 1))
      assert.strictEqual(short, `l-${"x".repeat(longest)}`)
      assert.match(long, /^lh-[0-9a-f]{64}$/)
      assert.notStrictEqual(yield* fileName("l", "x".repeat(longest + 2)), long)
      assert.notStrictEqual(yield* fileName("l", long.slice(3)), long)
      assert.notStrictEqual(yield* fileName("l", long), long)
    }))
})
