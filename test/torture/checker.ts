/**
 * The rules that a history is judged by. Pure.
 *
 * - R1: among what the register accepted, fencing tokens never fall, and no two holds share one.
 * - R2: nothing arrives within its sender's trust after a larger token was accepted. Where there are no tokens: nothing
 *   arrives within its sender's trust while another hold, as it last told, is trusted too.
 * - R3: each counter is the number of writes accepted.
 * - R4: acquisitions and releases are those of one mutex (`linearizable.ts`).
 * - R5: once all faults are over, each key is acquired anew.
 * - R6: nothing is left at the end.
 * - R7: no process said anything on standard error, or ended by itself.
 *
 * A claim of trust ends early when its holder told so, was killed, had its clock set, or its backend was made to forget.
 */
import type { Aftermath, Contact, History, Hold, Upheavals } from "./history.ts"
import { firstImpossible, type Operation } from "./linearizable.ts"

export type Rule = "R1" | "R2" | "R3" | "R4" | "R5" | "R6" | "R7"

export interface Violation {
  readonly rule: Rule
  readonly what: string
}

type Judge = (history: History) => ReadonlyArray<string>

const growingTokens: Judge = ({ contacts }) => {
  const highest = new Map<string, Contact>()
  const holdOf = new Map<string, string>()
  const wrong: Array<string> = []
  for (const contact of contacts) {
    const { accepted, fence, hold, key } = contact
    if (fence === undefined) continue
    const name = `${key} ${fence}`
    const other = holdOf.get(name)
    if (other !== undefined && other !== hold) {
      wrong.push(`token ${fence} of ${key} was given to two holds, ${other} and ${hold}`)
    }
    holdOf.set(name, hold)
    if (!accepted) continue
    const before = highest.get(key)?.fence
    if (before !== undefined && fence < before) {
      wrong.push(`a ${contact.kind} of ${hold} with token ${fence} of ${key} was accepted after one with ${before}`)
    } else highest.set(key, contact)
  }
  return wrong
}

const trustedWrites: Judge = (history) => {
  const end = endsOf(history)
  const holds = new Map(history.holds.map((hold) => [hold.id, hold]))
  const highest = new Map<string, Contact>()
  const trusted = new Map<string, { readonly contact: Contact; readonly until: number }>()
  const wrong: Array<string> = []
  for (const contact of history.contacts) {
    const { accepted, fence, hold, key, receivedAt } = contact
    const until = end(contact, holds.get(hold))
    const inTrust = receivedAt < until
    const higher = fence === undefined ? undefined : highest.get(key)
    if (inTrust && higher?.fence !== undefined && higher.fence > fence!) {
      wrong.push(
        `${show(contact, until)}, ${millis(receivedAt - higher.receivedAt)} after the larger token ${higher.fence} of `
          + `${higher.hold} was accepted`
      )
    }
    if (fence !== undefined && accepted && (higher?.fence === undefined || fence > higher.fence)) {
      highest.set(key, contact)
    }
    if (fence === undefined && inTrust) {
      const other = trusted.get(key)
      if (other !== undefined && other.contact.hold !== hold && receivedAt < other.until) {
        wrong.push(`${show(contact, until)}, while ${show(other.contact, other.until)}`)
      }
      trusted.set(key, { contact, until })
    }
  }
  return wrong
}

const counted: Judge = ({ counters }) =>
  [...counters].flatMap(([key, { value, written }]) =>
    value === written ? [] : [`${key} is ${value} after ${written} accepted writes`]
  )

const oneMutex: Judge = (history) => {
  const end = endsOf(history)
  const wrong: Array<string> = []
  for (const [key, holds] of Map.groupBy(history.holds, ({ key }) => key)) {
    const operations = holds.flatMap((hold): ReadonlyArray<Operation> => [
      { kind: "acquire", hold: hold.id, invoked: hold.askedAt, returned: hold.grantedAt, fence: hold.fence },
      {
        kind: "end",
        hold: hold.id,
        invoked: Math.max(end({ ...hold, at: hold.grantedAt }, hold), hold.askedAt),
        returned: hold.endedAt === undefined ? Infinity : hold.returnedAt ?? Infinity
      }
    ])
    const stuck = firstImpossible(operations)
    if (stuck === undefined) continue
    const near = operations.filter(({ invoked, returned }) =>
      invoked < stuck.returned + 1 && returned > stuck.invoked - 1
    )
    wrong.push(
      `${key}: no order explains the ${stuck.kind} of ${stuck.hold}; around it: ${
        near.slice(-12).map(showOperation).join("; ")
      }`
    )
  }
  return wrong
}

const rules: Readonly<Record<"R1" | "R2" | "R3" | "R4", Judge>> = {
  R1: growingTokens,
  R2: trustedWrites,
  R3: counted,
  R4: oneMutex
}

/** What is wrong with a history, by the rules that its backend has to obey. */
export const judge = (history: History, by: ReadonlyArray<Rule>): ReadonlyArray<Violation> =>
  Object.entries(rules).flatMap(([rule, find]) =>
    by.includes(rule as Rule) ? find(history).map((what): Violation => ({ rule: rule as Rule, what })) : []
  )

/** What is wrong with what came after. */
export const judgeAftermath = ({ complaints, recoveries, residue }: Aftermath): ReadonlyArray<Violation> => [
  ...[...recoveries].flatMap(([key, after]): ReadonlyArray<Violation> =>
    after === undefined ? [{ rule: "R5", what: `${key} was not acquired again after the faults` }] : []
  ),
  ...residue.map((what): Violation => ({ rule: "R6", what })),
  ...complaints.map((what): Violation => ({ rule: "R7", what }))
]

// -----------------------------------------------------------------------------
// until when a claim counts
// -----------------------------------------------------------------------------

interface Claim {
  readonly life: string
  readonly at: number
  readonly deadline: number
}

const endsOf = ({ amnesias, kills, skews }: Upheavals) => {
  const skewsOf = Map.groupBy(skews, ({ life }) => life)
  return ({ at, deadline, life }: Claim, hold: Hold | undefined): number =>
    Math.min(
      deadline,
      kills.get(life) ?? Infinity,
      hold?.endedAt ?? Infinity,
      ...(skewsOf.get(life) ?? []).flatMap((skew) => skew.at >= at ? [skew.at] : []),
      ...amnesias.filter((amnesia) => hold === undefined || amnesia >= hold.askedAt)
    )
}

const millis = (time: number): string => `${time.toFixed(1)} ms`

const show = ({ fence, hold, key, kind, receivedAt }: Contact, until: number): string =>
  `${hold}${fence === undefined ? "" : ` with token ${fence}`} trusts its lease of ${key} for ${
    millis(until - receivedAt)
  } more when its ${kind} arrives at ${millis(receivedAt)}`

const showOperation = ({ fence, hold, invoked, kind, returned }: Operation): string =>
  `${kind} ${hold}${fence === undefined ? "" : ` token ${fence}`} ${millis(invoked)} to ${millis(returned)}`
