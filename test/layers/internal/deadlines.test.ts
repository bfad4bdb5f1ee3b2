import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect } from "effect"
import { TestClock } from "effect/testing"
import { Deadlines, type Timed } from "../../../src/layers/internal/deadlines.ts"

const make = Effect.map(Clock.Clock, (clock) => {
  const deadlines = new Deadlines<Timed>(clock)
  const expired: Array<string> = []
  const add = (name: string, after: number) => {
    const timed = { deadline: deadlines.now() + after, expire: () => void expired.push(name) }
    deadlines.add(timed)
    return timed
  }
  return { deadlines, expired, add }
})

describe("deadlines", () => {
  it.effect("pass in their order, whichever was told first", () =>
    Effect.gen(function*() {
      const { add, expired } = yield* make
      add("late", 5000)
      add("early", 100)
      add("middle", 1000)
      yield* TestClock.adjust(99)
      assert.deepStrictEqual(expired, [])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(expired, ["early"])
      yield* TestClock.adjust(900)
      assert.deepStrictEqual(expired, ["early", "middle"])
      yield* TestClock.adjust(4000)
      assert.deepStrictEqual(expired, ["early", "middle", "late"])
    }))

  it.effect("of what was answered never pass, and the next one is not missed", () =>
    Effect.gen(function*() {
      const { add, deadlines, expired } = yield* make
      deadlines.delete(add("answered", 100))
      add("next", 150)
      yield* TestClock.adjust(1000)
      assert.deepStrictEqual(expired, ["next"])
    }))

  it.effect("told while others pass are kept", () =>
    Effect.gen(function*() {
      const { add, deadlines, expired } = yield* make
      deadlines.add({ deadline: deadlines.now() + 10, expire: () => void add("second", 10) })
      yield* TestClock.adjust(10)
      yield* TestClock.adjust(10)
      assert.deepStrictEqual(expired, ["second"])
    }))

  it.effect("do not pass any more after the end", () =>
    Effect.gen(function*() {
      const { add, deadlines, expired } = yield* make
      add("one", 100)
      assert.lengthOf(deadlines.stop(), 1)
      yield* TestClock.adjust(1000)
      assert.deepStrictEqual(expired, [])
    }))
})
