/**
 * A law of the port as a value: an id, a claim, and an effect that checks it. No test runner in here, so the same
 * values serve our tests, a third-party backend's, and a command that checks a real server.
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { OwnerIds } from "../internal/ownerId.ts"
import type { LockBackend } from "../LockBackend.ts"
import type { LockBackendError } from "../LockError.ts"

/**
 * A backend broke a law.
 *
 * @category errors
 */
export class LawViolation extends Schema.TaggedError<LawViolation>("effect-lock/LawViolation")("LawViolation", {
  law: Schema.String,
  expected: Schema.String,
  found: Schema.String,
  cause: Schema.optional(Schema.Defect())
}) {
  override get message(): string {
    return `law ${this.law} is broken: expected ${this.expected}; found ${this.found}`
  }
}

/**
 * One law.
 *
 * **Details**
 *
 * - `id` is stable: `"<group>/<name>"`. It appears in test names and violations.
 * - `claim` is one sentence about every backend that keeps the law.
 * - `inapplicable` is the reason, in words, why the law can't be asked of this backend; `undefined` if it can.
 * - `check` fails if the law is broken. Run it only where it applies.
 *
 * @category models
 */
export interface Law {
  readonly id: string
  readonly claim: string
  readonly inapplicable: (environment: LawEnvironment["Service"]) => string | undefined
  readonly check: Effect.Effect<void, LawViolation, LawEnvironment>
}

/**
 * What laws are asked of: two backends, made separately as two processes would, on one server or store; and how time
 * goes by for it.
 *
 * **Details**
 *
 * - `second`: shares nothing with `first` but the server and the namespace.
 * - `withNamespace`: another backend of the same server in another namespace; the laws about namespaces need it.
 * - `freshKey`: a name nobody used before; under 100 bytes.
 * - `pass`: lets at least that much time go by on the backend's clock: `TestClock.adjust`, or a real wait.
 * - `ttl`: of the leases whose end a law waits for. Shorter is faster; below ten round trips it tells nothing.
 * - `expirySlack`: how much later than its ttl a lease may end (granularity, rounding, grace of the backend).
 * - `budget`: for each request.
 * - `contenders`, `acquisitions`, `positions`: how many callers compete, how many grants one key sees, at how many
 *   points at most a call is interrupted. Fewer where a server is slow or limits its rate.
 *
 * @category services
 */
export class LawEnvironment extends Context.Service<LawEnvironment, {
  readonly first: LockBackend["Service"]
  readonly second: LockBackend["Service"]
  readonly withNamespace:
    | ((namespace: string) => Effect.Effect<LockBackend["Service"], LockBackendError, Scope.Scope>)
    | undefined
  readonly freshKey: Effect.Effect<string>
  readonly pass: (duration: Duration.Duration) => Effect.Effect<void>
  readonly ttl: Duration.Duration
  readonly expirySlack: Duration.Duration
  readonly budget: Duration.Duration
  readonly contenders: number
  readonly acquisitions: number
  readonly positions: number
}>()("effect-lock/testing/LawEnvironment") {
  /**
   * Fills in the defaults: real waits, a ttl of the backend's floor but at least one second, two seconds of slack,
   * 50 contenders, 1,000 acquisitions, 200 positions.
   */
  static readonly make = (
    options:
      & Pick<LawEnvironment["Service"], "first" | "second">
      & { readonly [K in keyof LawEnvironment["Service"]]?: LawEnvironment["Service"][K] | undefined }
  ): LawEnvironment["Service"] => ({
    first: options.first,
    second: options.second,
    withNamespace: options.withNamespace,
    freshKey: options.freshKey ?? Effect.map(freshOwnerId, (id) => `law-${id}`),
    pass: options.pass ?? Effect.sleep,
    ttl: options.ttl ?? Duration.max(options.first.capabilities.minTtl, Duration.seconds(1)),
    expirySlack: options.expirySlack ?? Duration.seconds(2),
    budget: options.budget ?? Duration.seconds(5),
    contenders: options.contenders ?? 50,
    acquisitions: options.acquisitions ?? 1000,
    positions: options.positions ?? 200
  })
}

/**
 * The machine was too slow for the law to tell: a lease that had to be alive at the question may have ended by itself.
 *
 * @internal
 */
export class Inconclusive extends Data.TaggedError("Inconclusive")<{ readonly expected: string }> {}

/** @internal */
export type Problem = LawViolation | Inconclusive

/** @internal */
export const freshOwnerId: Effect.Effect<string> = Effect.map(OwnerIds, (fresh) => fresh())

/** @internal Elapsed time in milliseconds, monotonic. */
export const elapsed: Effect.Effect<number> = Effect.map(Clock.monotonicTimeNanos, (nanos) => Number(nanos) / 1e6)
