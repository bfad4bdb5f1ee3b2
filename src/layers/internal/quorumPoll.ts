/**
 * Asking all nodes at once and deciding as soon as the answers allow it, at the latest when time is up.
 *
 * Whoever has not answered by then is left behind, not called back: what was sent may take effect, and its late answer
 * still tells that the node lives.
 */
import * as Cause from "effect/Cause"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { type BackendReason, Protocol, TimedOut } from "../../LockError.ts"
import type { Member } from "./quorumMember.ts"

/** What one node has said so far. */
export type Vote<A> =
  | { readonly _tag: "Pending" }
  | { readonly _tag: "Answered"; readonly reply: A }
  | { readonly _tag: "Failed"; readonly reason: BackendReason }

/**
 * One question to all.
 *
 * - `ask`: the question to one node; `undefined` leaves it out, a reason counts as its failure, and nothing is sent.
 * - `timeout`: milliseconds until the decision; `patience`: how long an answer may take at all.
 * - `decide`: called after each answer with all votes and the number of answers that may still come in time; where
 *   that is 0 it must decide.
 */
export interface Question<A, D> {
  readonly members: ReadonlyArray<Member>
  readonly ask: (member: Member) => Effect.Effect<A, BackendReason> | BackendReason
  readonly timeout: number
  readonly decide: (votes: ReadonlyArray<Vote<A>>, waiting: number) => D | undefined
}

/** The fibers that outlive their question; they end with the layer. */
export type Stragglers = Set<Fiber.Fiber<unknown, unknown>>

/** Runs `self` in a fiber that nobody waits for, at the latest until the layer ends. */
export const leave = <A, E>(
  stragglers: Stragglers,
  self: Effect.Effect<A, E>
): Effect.Effect<Fiber.Fiber<A, E>> => Effect.withFiberSucceed((fiber) => leaveWith(stragglers, fiber, self))

/** Asks. */
export const poll = <A, D>(stragglers: Stragglers, question: Question<A, D>): Effect.Effect<D> =>
  Effect.withFiber((fiber) =>
    Effect.callback<D>((resume) => {
      const clock = fiber.getRef(Clock.Clock)
      const { ask, decide, members, timeout } = question
      const votes: Array<Vote<A>> = members.map(() => pending)
      // Those whose answer is waited for.
      const awaited = new Set<Member>()
      const startedAt = monotonic(clock)
      let timer: Fiber.Fiber<void> | undefined
      let over = false
      let asked = false
      const settle = () => {
        if (over || !asked) return
        const decision = decide(votes, awaited.size)
        if (decision === undefined) return
        over = true
        timer?.interruptUnsafe()
        resume(Effect.succeed(decision))
      }
      const onEnd = (member: Member, exit: Exit.Exit<A, BackendReason>) => {
        const vote = voteOf(exit)
        if (isAnswer(vote)) member.isSuspect = false
        // Also where others were faster, and nobody has waited for it.
        else if (vote._tag === "Failed" && vote.reason._tag === "TimedOut") member.isSuspect = true
        if (over) return
        votes[members.indexOf(member)] = vote
        awaited.delete(member)
        settle()
      }
      const onTime = () => {
        if (over) return
        // Who stood still himself finds the timer due before the answers that have come meanwhile.
        if (monotonic(clock) - startedAt > timeout * 1.5 && !graced) {
          graced = true
          return arm(Math.min(timeout / 4, 20))
        }
        for (const member of [...awaited]) {
          member.isSuspect = true
          awaited.delete(member)
          votes[members.indexOf(member)] = { _tag: "Failed", reason: late(member, timeout) }
        }
        settle()
      }
      let graced = false
      const arm = (millis: number) => {
        timer = Effect.runForkWith(fiber.context)(Effect.sleep(Duration.millis(millis)))
        timer.addObserver((exit) => {
          if (Exit.isSuccess(exit)) onTime()
        })
      }
      // Where the others can't decide, also those are waited for that did not answer the last time.
      const isNeeded = 2 * members.filter(({ isSuspect }) => !isSuspect).length <= members.length
      members.forEach((member, index) => {
        const { knock } = member
        if (knock !== undefined) leaveWith(stragglers, fiber, knock)
        const answer = ask(member)
        // A reason is an error, and as such an effect too.
        if (isReason(answer)) {
          votes[index] = { _tag: "Failed", reason: answer }
          return
        }
        if (!member.isSuspect || isNeeded) awaited.add(member)
        leaveWith(stragglers, fiber, answer).addObserver((exit) => onEnd(member, exit))
      })
      asked = true
      if (awaited.size > 0) arm(timeout)
      settle()
      return Effect.sync(() => {
        over = true
        timer?.interruptUnsafe()
      })
    })
  )

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const isReason = (answer: object): answer is BackendReason => "isRetryable" in answer

const pending = { _tag: "Pending" } as const

const monotonic = (clock: Clock.Clock): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e6

const leaveWith = <A, E>(
  stragglers: Stragglers,
  fiber: Fiber.Fiber<unknown, unknown>,
  self: Effect.Effect<A, E>
): Fiber.Fiber<A, E> => {
  const straggler = Effect.runForkWith(fiber.context)(self)
  if (straggler.pollUnsafe() === undefined) {
    stragglers.add(straggler)
    straggler.addObserver(() => stragglers.delete(straggler))
  }
  return straggler
}

const voteOf = <A>(exit: Exit.Exit<A, BackendReason>): Vote<A> => {
  if (Exit.isSuccess(exit)) return { _tag: "Answered", reply: exit.value }
  const reason = Cause.findErrorOption(exit.cause)
  return {
    _tag: "Failed",
    reason: reason._tag === "Some"
      ? reason.value
      : new Protocol({ detail: "the client of a node died; this is a defect in it", cause: Cause.squash(exit.cause) })
  }
}

// Also a refusal shows that the node is there.
const isAnswer = (vote: Vote<unknown>): boolean =>
  vote._tag === "Answered" || (vote._tag === "Failed" && !isUnknown(vote.reason))

/** Whether a request that failed so may have taken effect. */
export const isUnknown = (reason: BackendReason): boolean => reason._tag === "TimedOut" || reason._tag === "Unreachable"

const late = (member: Member, timeout: number): BackendReason => {
  const after = Duration.millis(timeout)
  const detail = `${member.node.name} did not answer within ${Duration.format(after)}; the outcome is unknown`
  return new TimedOut({ detail, after })
}
