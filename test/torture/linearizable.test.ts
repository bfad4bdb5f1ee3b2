/** The search for an order: histories that are one mutex's, and the smallest that are not. */
import { assert, describe, it } from "@effect/vitest"
import { firstImpossible, type Operation } from "./linearizable.ts"

const acquire = (hold: string, invoked: number, returned: number, fence?: number): Operation => ({
  kind: "acquire",
  hold,
  invoked,
  returned,
  ...(fence === undefined ? {} : { fence: BigInt(fence) })
})
const end = (hold: string, invoked: number, returned = Infinity): Operation => ({
  kind: "end",
  hold,
  invoked,
  returned
})

const accepts = (...history: ReadonlyArray<Operation>) => assert.isUndefined(firstImpossible(history))
const refuses = (hold: string, ...history: ReadonlyArray<Operation>) =>
  assert.strictEqual(firstImpossible(history)?.hold, hold)

describe("linearizability", () => {
  it("nothing happened, or one hold that never ended, is fine", () => {
    accepts()
    accepts(acquire("a", 0, 1, 7))
    accepts(acquire("a", 0, 1, 7), end("a", 5))
  })

  it("holds after each other are fine", () =>
    accepts(acquire("a", 0, 1, 1), end("a", 2, 3), acquire("b", 4, 5, 2), end("b", 6, 7)))

  it("a waiter may ask long before, and be told long after", () => {
    accepts(acquire("b", 0, 30, 2), acquire("a", 1, 2, 1), end("a", 20, 25), end("b", 40, 41))
    accepts(acquire("a", 0, 1, 1), end("a", 10, 50), acquire("b", 0, 12, 2), end("b", 13, 14))
  })

  it("two holds at once are refused", () => {
    refuses("b", acquire("a", 0, 1), acquire("b", 2, 3), end("a", 4, 5), end("b", 6, 7))
    refuses("b", acquire("a", 0, 1, 1), acquire("b", 2, 3, 2), end("a", 4), end("b", 6))
    refuses("b", acquire("a", 0, 1, 1), acquire("b", 2, 3, 2))
  })

  it("an order of grants that the tokens contradict is refused", () => {
    refuses("b", acquire("a", 0, 1, 2), end("a", 2, 3), acquire("b", 4, 5, 1), end("b", 6, 7))
    refuses("b", acquire("a", 0, 1, 2), end("a", 2, 3), acquire("b", 4, 5, 2), end("b", 6, 7))
  })

  it("grants that overlap are ordered by their tokens", () => {
    accepts(acquire("a", 0, 9, 2), end("a", 12, 13), acquire("b", 1, 8, 1), end("b", 8.5, 8.7))
    refuses("b", acquire("a", 0, 9, 2), end("a", 9.5, 10), acquire("b", 1, 8, 1), end("b", 11, 12))
  })

  it("an end that nobody saw comes in time for the next grant", () => {
    accepts(acquire("a", 0, 1, 1), end("a", 10), acquire("b", 2, 12, 2), end("b", 13, 14), acquire("c", 15, 16, 3))
    refuses("b", acquire("a", 0, 1, 1), end("a", 10), acquire("b", 2, 9, 2), end("b", 13, 14))
  })

  it("an acquisition of which nothing is known hinders nobody", () =>
    accepts(
      acquire("a", 0, 1, 1),
      { kind: "acquire", hold: "x", invoked: 1, returned: Infinity, unknown: true },
      end("a", 2, 3),
      acquire("b", 4, 5, 2)
    ))

  it("ten thousand operations take no time, and one wrong one among them is found", () => {
    const history: Array<Operation> = []
    for (let i = 0; i < 5000; i++) {
      const at = 10 * i
      // Each asks three turns ahead; every seventh end is seen by nobody.
      history.push(acquire(`h${i}`, at - 25, at + 1, i), end(`h${i}`, at + 5, i % 7 === 0 ? Infinity : at + 14))
    }
    accepts(...history)
    const wrong = history.with(6001, { ...history[6001]!, invoked: 30_013 })
    assert.strictEqual(firstImpossible(wrong)?.hold, "h3001")
  })
})
