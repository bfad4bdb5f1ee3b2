/**
 * A lock on a majority of independent nodes: Redlock, with a fencing token that a majority has agreed to.
 *
 * Any two majorities share a node, and a node has one holder per key: so there is one holder, as long as nodes don't
 * forget, leases are timed by clocks of about the same rate, and each is trusted for no longer than its ttl.
 *
 * Source: S. Sanfilippo, "Distributed Locks with Redis" (the Redlock algorithm); M. Kleppmann, "How to do distributed
 * locking" (2016), for what it lacks.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import type * as Scope from "effect/Scope"
import { type BackendReason, Misconfigured } from "../../LockError.ts"
import { Deadlines } from "./deadlines.ts"
import type { Claims } from "./quorumClaim.ts"
import { failuresOf, notReached, type Tally } from "./quorumFailure.ts"
import { Member } from "./quorumMember.ts"
import type { QuorumNode } from "./quorumNode.ts"
import type { Floor, Stragglers, Vote } from "./quorumPoll.ts"

/**
 * How a quorum is set up, in milliseconds.
 *
 * - `drift`: the part of a ttl by which clocks of nodes and clients may differ while a lease lives.
 * - `nodeTimeout`: how long one node is waited for; `undefined` = a twentieth of the ttl, 20 to 250 ms.
 * - `maxTtl`: the longest ttl of any client.
 * - `restartGuard`: nodes that were restarted do not vote until every lease that they may have forgotten is over.
 */
export interface Settings {
  readonly drift: number
  readonly nodeTimeout: number | undefined
  readonly maxTtl: number
  readonly restartGuard: boolean
}

/** The nodes and what this process has asked of them. */
export interface Quorum extends Floor {
  readonly settings: Settings
  readonly members: ReadonlyArray<Member>
  /** How many nodes make a majority. */
  readonly majority: number
  readonly claims: Claims
}

/** Opens a quorum; what is still under way when the scope closes is interrupted. */
export const make = (
  nodes: ReadonlyArray<QuorumNode>,
  settings: Settings
): Effect.Effect<Quorum, never, Scope.Scope> =>
  Effect.gen(function*() {
    const members: Array<Member> = []
    const guard = settings.restartGuard ? onNodes(settings, settings.maxTtl) : 0
    nodes.forEach((node, index) => members.push(new Member(node, index, guard, members)))
    const stragglers: Stragglers = new Set()
    const deadlines = new Deadlines(yield* Clock.Clock)
    yield* Effect.addFinalizer(() =>
      Effect.andThen(Fiber.interruptAll([...stragglers]), Effect.sync(() => deadlines.stop()))
    )
    return { settings, members, majority: Math.floor(nodes.length / 2) + 1, claims: new Map(), stragglers, deadlines }
  })

/**
 * The ttl that nodes are asked for: it lasts for at least `ttl` on the holder's clock, however the clocks drift. 2 ms
 * are for the nodes' own precision.
 */
export const onNodes = ({ drift }: Settings, ttl: number): number => Math.ceil(ttl * (1 + drift)) + 2

/**
 * How long nodes are waited for. A first connection takes longer than an answer: until each node was connected once, a
 * third of the budget.
 */
export const timeoutOf = ({ members, settings }: Quorum, ttl: number, budget: Duration.Duration): number => {
  const third = Duration.toMillis(budget) / 3
  const usual = settings.nodeTimeout ?? Math.min(Math.max(ttl / 20, 20), 250)
  const isFirst = members.some(({ isSuspect, node }) => node.connections() === 0 && !isSuspect)
  return Math.max(isFirst ? third : Math.min(usual, third), 1)
}

/** How long an answer is listened for when nobody waits for it any more, in milliseconds. */
export const patience = (timeout: number): number => timeout + 1000

/** The failure of a question that too few nodes have answered. */
export const failed = (
  { majority, members }: Quorum,
  votes: ReadonlyArray<Vote<unknown>>,
  tally?: Tally
): BackendReason => notReached(members.length, majority, failuresOf(members, votes), tally)

/** Refuses a ttl that the nodes' restart guard does not know of. */
export const checkTtl = ({ settings: { maxTtl } }: Quorum, ttl: number): Misconfigured | undefined =>
  ttl <= maxTtl ? undefined : new Misconfigured({
    detail: `a ttl of ${Duration.format(Duration.millis(ttl))} is more than maxTtl (${
      Duration.format(Duration.millis(maxTtl))
    }), for which restarted nodes are kept from voting. Ask for less, or set { maxTtl } on every client alike`
  })
