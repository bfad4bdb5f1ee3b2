/**
 * What a quorum needs of each of its nodes: five conditional steps, each atomic on the node, and nothing of Redis.
 *
 * Times are milliseconds, fencing tokens and the nodes' clocks microseconds; all of them are safe integers.
 */
import type * as Effect from "effect/Effect"
import type { BackendReason } from "../../LockError.ts"

/**
 * An attempt to become the holder on one node.
 *
 * `attempt` numbers the tries of one owner id: what a later try has placed is not touched by an earlier one that
 * arrives late. `fence` is the proposed token; `mode` says what becomes of the token of a record that is ours already:
 *
 * - `propose`: it keeps its own.
 * - `raise`: it takes the proposed one, if that is larger.
 * - `join`: as `raise`; and a free node takes the token of a grant that it may have seen before.
 */
export interface Take {
  readonly key: string
  readonly ownerId: string
  readonly attempt: number
  readonly fence: number
  readonly ttl: number
  readonly metadata: Readonly<Record<string, string>>
  readonly mode: "propose" | "raise" | "join"
}

/** What one node knows of a holder. */
export interface NodeRecord {
  readonly ownerId: string
  readonly fence: number
  /** When it was granted, by the node's clock, in milliseconds. */
  readonly since: number
  /** Until it expires there. */
  readonly remaining: number
  readonly metadata: Readonly<Record<string, string>>
}

/**
 * - `Ok`: ours, for at least the ttl, with this token.
 * - `Held`: somebody else's, or it drains.
 * - `TooLow`: free (or ours from an earlier try), but the node has seen the token `stored` already; or its clock has, by
 *   more than a second: a node that has forgotten its tokens still refuses those of a client that is far behind.
 * - `TooHigh`: free, but the token is beyond what the node's clock can explain: it would poison the key.
 * - `Dead`: this try was given up before it arrived.
 */
export type TakeReply =
  & (
    | { readonly _tag: "Ok"; readonly fence: number }
    | { readonly _tag: "Held"; readonly record: NodeRecord }
    | { readonly _tag: "TooLow"; readonly stored: number }
    | { readonly _tag: "TooHigh" }
    | { readonly _tag: "Dead" }
  )
  & { readonly clock: number }

/** Conditional on owner id and token. */
export interface NodeRenewal {
  readonly key: string
  readonly ownerId: string
  readonly fence: string
  readonly ttl: number
}

/**
 * Frees what tries up to `attempt` of this owner id have placed. `bury`: one of them may still arrive, so the node
 * remembers for a minute that they are dead.
 */
export interface NodeRelease {
  readonly key: string
  readonly ownerId: string
  readonly attempt: number
  readonly bury: boolean
}

/** The attempt number of a release that ends an owner id's life. */
export const everyAttempt = Number.MAX_SAFE_INTEGER

/** Who a node is, and for how long it has remembered. */
export interface Greeting {
  /** Differs between two servers, and between two lives of one. */
  readonly identity: string
  /** For how long it has been running, at least, in milliseconds. */
  readonly uptime: number
}

/**
 * One independent master.
 *
 * Every effect ends within `timeout` milliseconds. One that is interrupted, or timed out, may still take effect on the
 * node. As long as a connection lives, requests take effect in the order in which they were sent.
 */
export interface QuorumNode {
  /** For errors; never with credentials. */
  readonly name: string
  /** The connection can take a request now. */
  readonly isReady: () => boolean
  /** How many connections were made so far: behind a new one there may be a node that has forgotten. */
  readonly connections: () => number
  readonly greet: (timeout: number) => Effect.Effect<Greeting, BackendReason>
  readonly take: (request: Take, timeout: number) => Effect.Effect<TakeReply, BackendReason>
  readonly renew: (request: NodeRenewal, timeout: number) => Effect.Effect<"Ok" | "Gone" | "Taken", BackendReason>
  readonly release: (request: NodeRelease, timeout: number) => Effect.Effect<"Released" | "NotHeld", BackendReason>
  readonly inspect: (key: string, timeout: number) => Effect.Effect<NodeRecord | undefined, BackendReason>
  readonly break: (
    request: { readonly key: string; readonly ownerId: string; readonly now: boolean },
    timeout: number
  ) => Effect.Effect<boolean, BackendReason>
  /** Keys that start with the prefix, as this node has them. */
  readonly list: (
    keyPrefix: string,
    timeout: number
  ) => Effect.Effect<ReadonlyArray<{ readonly key: string; readonly record: NodeRecord }>, BackendReason>
}
