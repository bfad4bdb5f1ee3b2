/** Each rule accepts what is allowed, and refuses the smallest history that breaks it. */
import { assert, describe, it } from "@effect/vitest"
import { judge, judgeAftermath, type Rule } from "./checker.ts"
import type { Aftermath, Contact, History, Hold } from "./history.ts"

const nothing: History = {
  contacts: [],
  holds: [],
  counters: new Map(),
  kills: new Map(),
  skews: [],
  amnesias: []
}

const write = (hold: string, fence: number | undefined, receivedAt: number, deadline: number): Contact => ({
  kind: "write",
  key: "k",
  hold,
  life: `life of ${hold}`,
  fence: fence === undefined ? undefined : BigInt(fence),
  at: receivedAt - 1,
  deadline,
  receivedAt,
  accepted: true
})

const hold = (id: string, fence: number | undefined, from: number, deadline: number, more?: Partial<Hold>): Hold => ({
  id,
  key: "k",
  life: `life of ${id}`,
  fence: fence === undefined ? undefined : BigInt(fence),
  askedAt: from - 1,
  grantedAt: from,
  deadline,
  ...more
})

const broken = (rule: Rule, history: Partial<History>): ReadonlyArray<string> =>
  judge({ ...nothing, ...history }, [rule]).map(({ what }) => what)

const accepts = (rule: Rule, history: Partial<History>) => assert.deepStrictEqual(broken(rule, history), [])
const refuses = (rule: Rule, history: Partial<History>, why: RegExp) => {
  const found = broken(rule, history)
  assert.lengthOf(found, 1, found.join("\n"))
  assert.match(found[0]!, why)
}

describe("R1: tokens never fall", () => {
  it("growing ones are accepted, and a refused call with a small one", () =>
    accepts("R1", {
      contacts: [
        write("a", 1, 10, 20),
        write("a", 1, 11, 20),
        write("b", 2, 30, 40),
        { ...write("a", 1, 31, 31), accepted: false }
      ]
    }))

  it("one that falls is refused", () =>
    refuses("R1", { contacts: [write("b", 2, 30, 40), write("a", 1, 31, 31)] }, /token 1 .* after one with 2/))

  it("two holds with one token are refused", () =>
    refuses("R1", { contacts: [write("a", 1, 10, 20), write("b", 1, 30, 40)] }, /given to two holds, a and b/))

  it("keys have tokens of their own", () =>
    accepts("R1", { contacts: [write("b", 2, 30, 40), { ...write("a", 1, 31, 31), key: "other" }] }))
})

describe("R2: nothing comes within its trust after a larger token", () => {
  const late = [write("b", 2, 30, 40), { ...write("a", 1, 31, 32), accepted: false }]

  it("what comes after its trust is accepted: that is what the token is for", () =>
    accepts("R2", { contacts: [write("b", 2, 30, 40), { ...write("a", 1, 31, 31), accepted: false }] }))

  it("what comes within it is refused, whether the register took it or not", () => {
    refuses("R2", { contacts: late }, /a with token 1 trusts its lease of k for 1.0 ms more .* larger token 2 of b/)
    refuses("R2", { contacts: [late[0]!, { ...late[1]!, accepted: true }] }, /larger token 2/)
  })

  it("a larger token that the register did not accept proves nothing", () =>
    accepts("R2", { contacts: [{ ...late[0]!, accepted: false }, late[1]!] }))

  it("trust ends with the hold, with the process, and with the clock that it was measured on", () => {
    const holds = [hold("a", 1, 10, 32, { endedAt: 25 })]
    accepts("R2", { contacts: late, holds })
    accepts("R2", { contacts: late, kills: new Map([["life of a", 25]]) })
    accepts("R2", { contacts: late, skews: [{ life: "life of a", at: 30.5 }] })
    refuses("R2", { contacts: late, skews: [{ life: "life of a", at: 29 }] }, /larger token/)
    refuses("R2", { contacts: late, skews: [{ life: "life of b", at: 30.5 }] }, /larger token/)
    refuses("R2", { contacts: late, kills: new Map([["life of a", 31.5]]) }, /larger token/)
  })

  it("without tokens, two trusted holds at once are refused", () => {
    const overlap = [write("a", undefined, 10, 40), write("b", undefined, 30, 50)]
    refuses("R2", { contacts: overlap }, /b trusts .* while a trusts/)
    accepts("R2", { contacts: [write("a", undefined, 10, 30), write("b", undefined, 30, 50)] })
    accepts("R2", { contacts: overlap, holds: [hold("a", undefined, 9, 40, { endedAt: 20 })] })
    accepts("R2", { contacts: [overlap[0]!, { ...overlap[1]!, deadline: 30 }] })
  })

  it("a backend that was made to forget is not blamed for what it forgot, and for nothing else", () => {
    const contacts = [write("a", undefined, 10, 40), write("b", undefined, 30, 50)]
    const holds = [hold("a", undefined, 9, 40), hold("b", undefined, 29, 50)]
    accepts("R2", { contacts, holds, amnesias: [20] })
    refuses("R2", { contacts, holds, amnesias: [5] }, /while a trusts/)
  })
})

describe("R3: counters count", () => {
  it("as many as were accepted are accepted", () =>
    accepts("R3", { counters: new Map([["k", { value: 3, written: 3 }]]) }))
  it("a lost write is refused", () =>
    refuses("R3", { counters: new Map([["k", { value: 2, written: 3 }]]) }, /k is 2 after 3/))
})

describe("R4: one mutex", () => {
  it("holds after each other are accepted", () =>
    accepts("R4", {
      holds: [
        hold("a", 1, 10, 40, { endedAt: 20, returnedAt: 21 }),
        hold("b", 2, 22, 50, { endedAt: 30, returnedAt: 31 })
      ]
    }))

  it("a grant within the trust of another is refused", () => {
    refuses("R4", { holds: [hold("a", 1, 10, 40), hold("b", 2, 22, 50)] }, /no order explains the acquire of b/)
    refuses("R4", { holds: [hold("a", undefined, 10, 40), hold("b", undefined, 22, 50)] }, /acquire of b/)
  })

  it("a dead holder's lock may be given away, and that of one whose clock was set", () => {
    const holds = [hold("a", 1, 10, 40), hold("b", 2, 22, 50)]
    accepts("R4", { holds, kills: new Map([["life of a", 15]]) })
    accepts("R4", { holds, skews: [{ life: "life of a", at: 15 }] })
    refuses("R4", { holds, kills: new Map([["life of a", 30]]) }, /acquire of b/)
  })

  it("a smaller token later is refused", () =>
    refuses(
      "R4",
      { holds: [hold("a", 2, 10, 20, { endedAt: 15, returnedAt: 16 }), hold("b", 1, 22, 50)] },
      /acquire of b/
    ))

  it("keys are mutexes of their own", () =>
    accepts("R4", { holds: [hold("a", 1, 10, 40), { ...hold("b", 2, 22, 50), key: "other" }] }))
})

describe("R5 to R7: afterwards", () => {
  const well: Aftermath = { recoveries: new Map([["k", 12]]), residue: [], complaints: [] }
  const rulesOf = (aftermath: Partial<Aftermath>) => judgeAftermath({ ...well, ...aftermath }).map(({ rule }) => rule)

  it("all is well", () => assert.deepStrictEqual(rulesOf({}), []))
  it("a key that nobody acquires again is refused", () =>
    assert.deepStrictEqual(rulesOf({ recoveries: new Map([["k", 12], ["l", undefined]]) }), ["R5"]))
  it("what is left is refused", () => assert.deepStrictEqual(rulesOf({ residue: ["a key"] }), ["R6"]))
  it("what is said on standard error is refused", () =>
    assert.deepStrictEqual(rulesOf({ complaints: ["a warning"] }), ["R7"]))
})

it("only the rules that a backend has to obey are applied", () =>
  assert.deepStrictEqual(
    judge({ ...nothing, counters: new Map([["k", { value: 2, written: 3 }]]) }, ["R1", "R2", "R4"]),
    []
  ))
