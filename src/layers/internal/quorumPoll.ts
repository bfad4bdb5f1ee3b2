/**
 * Asking all nodes at once and deciding as soon as the answers allow it, at the latest when time is up.
 *
 * Whoever has not answered by then is left behind, not called back: what was sent may take effect, and its late answer
 * still tells that the node lives.
 */
import * as Cause from "effect/Cause"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import { type BackendReason, Protocol, TimedOut } from "../../LockError.ts"
import type { Deadlines, Timed } from "./deadlines.ts"
import type { Member } from "./quorumMember.ts"

/** What one node has said so far. */
export type Vote<A> =
  | { readonly _tag: "Pending" }
  | { readonly _tag: "Answered"; readonly reply: A }
  | { readonly _tag: "Failed"; readonly reason: BackendReason }

/**
 * One question to all.
 *
 * - `ask`: the question to one node, in a fiber of its own that is started at once; a reason counts as its failure, and
 *   nothing is sent.
 * - `onEnd`: called when the question to a node has ended, in time or not.
 * - `timeout`: milliseconds until the decision; `patience`: how long an answer may take at all.
 * - `decide`: called after each answer with all votes and the number of answers that may still come in time; where
 *   that is 0 it must decide.
 */
export interface Question<A, D> {
  readonly members: ReadonlyArray<Member>
  readonly ask: (member: Member) => Effect.Effect<A, BackendReason> | BackendReason
  readonly onEnd?: (member: Member, exit: Exit.Exit<A, BackendReason>) => void
  readonly timeout: number
  readonly decide: (votes: ReadonlyArray<Vote<A>>, waiting: number) => D | undefined
}

/** The fibers that outlive their question; they end with the layer. */
export type Stragglers = Set<Fiber.Fiber<unknown, unknown>>

/** Where questions are asked: who outlives them, and the one timer for all of them. */
export interface Floor {
  readonly stragglers: Stragglers
  readonly deadlines: Deadlines<Timed>
}

/** Runs `self` in a fiber that nobody waits for, at the latest until the layer ends. */
export const leave = <A, E>(stragglers: Stragglers, self: Effect.Effect<A, E>): Effect.Effect<void> =>
  Effect.withFiber((fiber) => {
    start(stragglers, fiber, self, ignore)
    return Effect.void
  })

/** Asks. */
export const poll = <A, D>(floor: Floor, question: Question<A, D>): Effect.Effect<D> =>
  Effect.withFiber((fiber) =>
    Effect.callback<D>((resume) => {
      const poll = new Poll(floor, question, (decision) => resume(Effect.succeed(decision)))
      poll.begin(fiber)
      return Effect.sync(() => poll.end())
    })
  )

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

class Poll<A, D> implements Timed {
  deadline = Infinity
  private readonly floor: Floor
  private readonly question: Question<A, D>
  private readonly onDecision: (decision: D) => void
  private readonly votes: Array<Vote<A>> = []
  // Those whose answer is waited for.
  private readonly awaited = new Set<Member>()
  private readonly startedAt: number
  private isGraced = false
  private isAsked = false
  private isOver = false

  constructor(floor: Floor, question: Question<A, D>, onDecision: (decision: D) => void) {
    this.floor = floor
    this.question = question
    this.onDecision = onDecision
    this.startedAt = floor.deadlines.now()
  }

  begin(fiber: Fiber.Fiber<unknown, unknown>): void {
    const { awaited, floor: { deadlines, stragglers }, question, votes } = this
    const { ask, members, timeout } = question
    for (const _ of members) votes.push(pending)
    // Where the others can't decide, also those are waited for that did not answer the last time.
    const isNeeded = 2 * members.filter(({ isSuspect }) => !isSuspect).length <= members.length
    members.forEach((member, index) => {
      const { knock } = member
      if (knock !== undefined) start(stragglers, fiber, knock, ignore)
      const answer = ask(member)
      // A reason is an error, and as such an effect too.
      if (isReason(answer)) {
        votes[index] = { _tag: "Failed", reason: answer }
        return
      }
      if (!member.isSuspect || isNeeded) awaited.add(member)
      start(stragglers, fiber, answer, (exit) => this.onExit(member, index, exit))
    })
    this.isAsked = true
    if (awaited.size > 0) {
      // From when all were asked: who is interrupted while he sends does not take that from the nodes.
      this.deadline = deadlines.now() + timeout
      deadlines.add(this)
    }
    this.settle()
  }

  /** Nobody waits any more. */
  end(): void {
    this.isOver = true
    this.floor.deadlines.delete(this)
  }

  expire(): void {
    const { awaited, floor: { deadlines }, question: { members, timeout }, votes } = this
    if (this.isOver) return
    const now = deadlines.now()
    // Who stood still himself finds the timer due before the answers that have come meanwhile.
    if (now - this.startedAt > timeout * 1.5 && !this.isGraced) {
      this.isGraced = true
      this.deadline = now + Math.min(timeout / 4, 20)
      return deadlines.add(this)
    }
    for (const member of awaited) {
      member.isSuspect = true
      votes[members.indexOf(member)] = { _tag: "Failed", reason: late(member, timeout) }
    }
    awaited.clear()
    this.settle()
  }

  private onExit(member: Member, index: number, exit: Exit.Exit<A, BackendReason>): void {
    this.question.onEnd?.(member, exit)
    const vote = voteOf(exit)
    if (isAnswer(vote)) member.isSuspect = false
    // Also where others were faster, and nobody has waited for it.
    else if (vote._tag === "Failed" && vote.reason._tag === "TimedOut") member.isSuspect = true
    if (this.isOver) return
    this.votes[index] = vote
    this.awaited.delete(member)
    this.settle()
  }

  private settle(): void {
    if (this.isOver || !this.isAsked) return
    const decision = this.question.decide(this.votes, this.awaited.size)
    if (decision === undefined) return
    this.end()
    this.onDecision(decision)
  }
}

const isReason = (answer: object): answer is BackendReason => "isRetryable" in answer

const pending = { _tag: "Pending" } as const

const ignore = () => {}

const start = <A, E>(
  stragglers: Stragglers,
  fiber: Fiber.Fiber<unknown, unknown>,
  self: Effect.Effect<A, E>,
  onExit: (exit: Exit.Exit<A, E>) => void
): void => {
  const straggler = Effect.runForkWith(fiber.context)(self)
  const exit = straggler.pollUnsafe()
  if (exit !== undefined) return onExit(exit)
  stragglers.add(straggler)
  straggler.addObserver((exit) => {
    stragglers.delete(straggler)
    onExit(exit)
  })
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
