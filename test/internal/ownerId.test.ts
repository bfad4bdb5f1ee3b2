import { assert, describe, it } from "@effect/vitest"
import { Effect, Option, Random } from "effect"
import { withLock } from "effect-lock"
import { OwnerIds } from "../../src/internal/ownerId.ts"
import { backend } from "../backends.ts"

const ids = (count: number) => Effect.map(OwnerIds, (next) => Array.from({ length: count }, () => next()))

describe("owner ids", () => {
  it.effect("are 128 bits in lower-case hexadecimal", () =>
    Effect.gen(function*() {
      for (const id of yield* ids(1_000)) assert.match(id, /^[0-9a-f]{32}$/)
    }))

  it.effect("never repeat, also beyond one draw of randomness and between two readings of the reference", () =>
    Effect.gen(function*() {
      const all = [...yield* ids(50_000), ...yield* ids(50_000)]
      assert.strictEqual(new Set(all).size, 100_000)
    }))

  it.effect("use every bit: each is set in about half of them", () =>
    Effect.gen(function*() {
      const count = 10_000
      const set = Array.from({ length: 128 }, () => 0)
      for (const id of yield* ids(count)) {
        const bits = BigInt(`0x${id}`)
        for (let bit = 0; bit < 128; bit++) set[bit]! += Number((bits >> BigInt(bit)) & 1n)
      }
      // Ten standard deviations of a fair coin: it is never off by so much.
      for (const times of set) assert.closeTo(times, count / 2, 10 * Math.sqrt(count) / 2)
    }))

  it.effect("come from the platform's secure randomness, a seeded Random repeats nothing", () =>
    Effect.gen(function*() {
      const first = yield* ids(100).pipe(Random.withSeed("seed"))
      const second = yield* ids(100).pipe(Random.withSeed("seed"))
      assert.strictEqual(new Set([...first, ...second]).size, 200)
    }))

  it.effect("are what the backend is sent, fresh for each lease, and can be pinned", () =>
    Effect.gen(function*() {
      const { provide, sent } = yield* backend()
      const acquired = yield* Effect.all([withLock("a"), withLock("b")]).pipe(provide)
      const seen = acquired.map(({ ownerId }) => ownerId)
      assert.deepStrictEqual(sent.map(({ ownerId }) => ownerId), seen)
      assert.strictEqual(new Set(seen).size, 2)
      let last = 0
      const pinned = yield* withLock("c").pipe(provide, Effect.provideService(OwnerIds, () => `owner-${++last}`))
      assert.deepStrictEqual([pinned.ownerId, Option.isSome(pinned.fencingToken)], ["owner-1", true])
    }))
})
