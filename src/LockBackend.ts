/**
 * The port: what a backend must do, and nothing of how callers wait, retry, renew or trust; that is the core's part.
 *
 * A backend is four verbs, each conditional on the owner id. Somebody else holding the lock is data; the error channel
 * is for "don't know". `effect-lock/testing` has the laws as runnable values, for backends of your own.
 */
import * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Option from "effect/Option"
import * as Scope from "effect/Scope"
import type * as Stream from "effect/Stream"
import type { Holder } from "./Holder.ts"
import type { LockBackendError } from "./LockError.ts"
import type { LockOptions } from "./LockOptions.ts"

/**
 * One try to take a lock.
 *
 * - `ownerId` is fresh for every acquire call and the same for every try of that call.
 * - `ttl`: the backend's expiry must end up at least this long after the request was sent.
 * - `willWait`: the caller will try again if refused; a fair backend may queue it.
 * - `provisional`: a provisional grant will do, because an earlier try of this owner id was refused and leases are
 *   renewed.
 * - `budget`: bound of the whole verb. A backend may send several requests inside it, each at most a third of it; it
 *   need not enforce it, the core does.
 *
 * @category requests
 */
export interface AcquireRequest {
  readonly key: string
  readonly ownerId: string
  readonly ttl: Duration.Duration
  readonly metadata: Readonly<Record<string, string>>
  readonly willWait: boolean
  readonly provisional?: boolean | undefined
  readonly budget: Duration.Duration
}

/**
 * The lock is ours: a request sent during this very call set the backend's expiry to at least the ttl.
 *
 * - `handle` is opaque, serialisable, and identifies the grant together with the owner id.
 * - `grantedTtl` is at least the ttl that was asked for; trust is counted from it.
 * - `provisional`, only where it was asked for: nothing was sent. A fair backend gave the lock to the waiter, after it
 *   had refused its last try, for `grantedTtl`, which may be less than the ttl. Trust is counted from before that try
 *   was sent, and the first renewal, which comes soon, makes the grant whole.
 * - `degraded` says in words what the grant lacks (a minority of masters down, say), if anything.
 *
 * @category replies
 */
export interface Acquired {
  readonly _tag: "Acquired"
  readonly fencingToken: Option.Option<bigint>
  readonly handle: string
  readonly grantedTtl: Duration.Duration
  readonly provisional?: boolean | undefined
  readonly degraded?: string | undefined
}

/**
 * Somebody else has it. `retryAfter` is when the lock will be free if nobody renews it, where the backend knows that:
 * the core sleeps no longer than this.
 *
 * @category replies
 */
export interface Held {
  readonly _tag: "Held"
  readonly holders: ReadonlyArray<Holder>
  readonly retryAfter: Option.Option<Duration.Duration>
}

/**
 * Conditional on the grant: owner id **and** handle.
 *
 * @category requests
 */
export interface RenewRequest {
  readonly key: string
  readonly ownerId: string
  readonly ttl: Duration.Duration
  readonly handle: string
  readonly budget: Duration.Duration
}

/**
 * Still ours: a request sent during this very call set the backend's expiry to at least the ttl.
 *
 * @category replies
 */
export interface Renewed {
  readonly _tag: "Renewed"
  readonly handle: string
  readonly grantedTtl: Duration.Duration
}

/**
 * Not ours any more: somebody else's (`Taken`) or nobody's (`Gone`).
 *
 * @category replies
 */
export interface Lost {
  readonly _tag: "Lost"
  readonly reason: "Taken" | "Gone"
}

/**
 * Gives back what this owner id holds, leaves a wait queue, and ends the owner id's life: a `tryAcquire` of it that
 * arrives later must not take the key, where the backend can prevent that (`lateWrites`).
 *
 * - `handle` is `None` where the outcome of the acquisition is unknown.
 * - `unanswered`: a `tryAcquire` of this owner id stayed without an answer, so it may still arrive: only then does a
 *   backend need a tombstone, which lives at least 60 seconds.
 *
 * @category requests
 */
export interface ReleaseRequest {
  readonly key: string
  readonly ownerId: string
  readonly handle: Option.Option<string>
  readonly unanswered: boolean
  readonly budget: Duration.Duration
}

/**
 * Frees another's lock by the owner id that was seen. Without `now` it drains: renewals are refused at once and the
 * name becomes free at the holder's release or its present expiry.
 *
 * @category requests
 */
export interface BreakRequest {
  readonly key: string
  readonly ownerId: string
  readonly now: boolean
  readonly budget: Duration.Duration
}

/**
 * What a backend can and can't promise.
 *
 * - `minTtl`: the floor of the ttl; `ttlGranularity`: how coarse the backend's time is (added to the safety margin).
 * - `fencing`: `strict` = tokens strictly grow for ever; `conditional` = as long as `condition` holds; `none` = there
 *   are no tokens.
 * - `fair`: contenders of different processes are served in order.
 * - `lateWrites`: what a delayed `tryAcquire` of a dead owner id can do: nothing (`refused`), or take the key until its
 *   ttl ends (`untilTtl`).
 * - `drain`: whether `break` can drain; where it can't, only `now` exists.
 * - `ordered`: requests on one key take effect in the order in which they were made, as long as nothing fails: the next
 *   caller of the same process is then sent right behind a release instead of after its answer. A promise about speed
 *   only; where it is broken, that caller is refused and waits. Default: false.
 *
 * @category models
 */
export interface Capabilities {
  readonly minTtl: Duration.Duration
  readonly ttlGranularity: Duration.Duration
  readonly fencing:
    | { readonly grade: "strict" }
    | { readonly grade: "conditional"; readonly condition: string }
    | { readonly grade: "none"; readonly condition: string }
  readonly fair: boolean
  readonly lateWrites: "refused" | "untilTtl"
  readonly drain: boolean
  readonly ordered?: boolean | undefined
}

/**
 * One key that somebody holds.
 *
 * @category models
 */
export interface HeldKey {
  readonly key: string
  readonly holders: ReadonlyArray<Holder>
}

/**
 * What a backend's author writes.
 *
 * **Details** (the laws, checked by `effect-lock/testing`)
 *
 * - An attempt is atomic, and idempotent per owner id: a replay that finds its own owner id renews and says `Acquired`.
 * - A dead owner id (released once) stays dead, as far as `lateWrites` promises.
 * - `renew` never re-creates a lock that is gone, and never shortens one.
 * - `release` never frees another's lock; releasing what is not held is `NotHeld`, not an error.
 * - A refusal reports the holder.
 * - Fencing tokens strictly grow over acquire, release, expiry and takeover.
 * - The granted ttl is at least the ttl asked for.
 * - Every request ends within its budget, or can be interrupted; interruption leaves nothing behind.
 * - Names can't collide or escape.
 *
 * A backend never retries contention and never waits between tries; it does no logging and no jitter of its own; its
 * background fibers belong to the layer's scope. Server times never become trust.
 *
 * @category models
 */
export interface Implementation {
  /** Short name for errors and telemetry: `"memory"`, `"file"`. */
  readonly name: string
  readonly capabilities: Capabilities
  /** Option defaults of the layer and of the backend; the layer's win. */
  readonly defaults?: LockOptions | undefined
  readonly tryAcquire: (request: AcquireRequest) => Effect.Effect<Acquired | Held, LockBackendError>
  readonly renew: (request: RenewRequest) => Effect.Effect<Renewed | Lost, LockBackendError>
  readonly release: (request: ReleaseRequest) => Effect.Effect<"Released" | "NotHeld", LockBackendError>
  /** Who holds `key` now; empty = nobody. */
  readonly inspect: (
    request: { readonly key: string; readonly budget: Duration.Duration }
  ) => Effect.Effect<ReadonlyArray<Holder>, LockBackendError>
  /**
   * Ends when `key` may have become free. Its presence means that the backend can push.
   *
   * Level-triggered relative to this owner's last `Held`: a release between that refusal and the subscription is not
   * missed. Only a hint: the core then calls `tryAcquire` with the same owner id.
   */
  readonly awaitTurn?:
    | ((request: { readonly key: string; readonly ownerId: string }) => Effect.Effect<void, LockBackendError>)
    | undefined
  /** Keys that start with `keyPrefix` and are held. */
  readonly list?: ((keyPrefix: string) => Stream.Stream<HeldKey, LockBackendError>) | undefined
  readonly break?:
    | ((request: BreakRequest) => Effect.Effect<"Draining" | "Broken" | "NotHeld", LockBackendError>)
    | undefined
}

/**
 * Where the core keeps what belongs to one backend instance (local queues, keeper, held leases). Opaque.
 *
 * @category models
 */
export interface Slot {
  /** @internal */
  service: LockBackend["Service"] | undefined
  /** @internal */
  state: { readonly close: Effect.Effect<void> } | undefined
  /** @internal */
  closed: boolean
}

/**
 * The backend that locks of this program live in.
 *
 * **Gotchas**
 *
 * Build it with `LockBackend.make` (or a layer module): a copy made by spreading has no life of its own and is refused.
 *
 * @category services
 */
export class LockBackend extends Context.Service<LockBackend, Implementation & { readonly slot: Slot }>()(
  "effect-lock/LockBackend"
) {
  /**
   * Makes the service from an implementation; the only constructor.
   *
   * When the scope closes, every lease that is left is released and becomes `LockLost(BackendClosed)`. Acquire the
   * driver before calling this, so that it is still open then.
   */
  static readonly make = (
    implementation: Implementation
  ): Effect.Effect<LockBackend["Service"], never, Scope.Scope> =>
    Effect.flatMap(Effect.scope, (scope) => {
      const slot: Slot = { service: undefined, state: undefined, closed: false }
      const service = { ...implementation, slot }
      slot.service = service
      return Effect.as(
        Scope.addFinalizer(
          scope,
          Effect.suspend(() => {
            slot.closed = true
            return slot.state === undefined ? Effect.void : slot.state.close
          })
        ),
        service
      )
    })
}
