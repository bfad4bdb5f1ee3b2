/**
 * What the core keeps for one backend instance: local queues, keepers, held leases. Never module-global, so that two
 * backends in one process, or one test after another, share nothing.
 */
import type * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import type * as Option from "effect/Option"
import type * as Result from "effect/Result"
import * as Lease from "../Lease.ts"
import type { LockBackend } from "../LockBackend.ts"
import { type InvalidLockRequest, LockBackendError, Misconfigured } from "../LockError.ts"
import { LockDefaults, type LockOptions, resolve, type ResolvedOptions } from "../LockOptions.ts"
import { boundedToTheEnd } from "./bounded.ts"
import type { HeldLease } from "./heldLease.ts"
import { Keeper, nap } from "./keeper.ts"
import type { LocalQueue } from "./localQueue.ts"
import { signalWithin } from "./signal.ts"
import { Telemetry, warn } from "./telemetry.ts"

/** A release to send; `handle` is read when it is, after the last renewal has ended. */
export interface Release {
  readonly key: string
  readonly ownerId: string
  readonly handle: () => Option.Option<string>
  readonly unanswered: boolean
  /** Milliseconds: the bound of one call. */
  readonly operationTimeout: number
  /** Monotonic milliseconds: until then a failed one is tried again. */
  readonly retryUntil: number
  /** Not the acquiring fiber, which may have ended by now and has forgotten its context then. */
  readonly context: Context.Context<never>
}

/** The core's side of one backend. */
export class Instance {
  readonly backend: LockBackend["Service"]
  readonly telemetry: Telemetry
  readonly queues = new Map<string, LocalQueue>()
  readonly leases = new Set<HeldLease>()
  /** What the last grant lacked, if it lacked anything. */
  private degraded: string | undefined
  private readonly keepers: Array<Keeper> = []
  private readonly limits: { readonly minTtl: number; readonly granularity: number }
  private defaultsFor: LockOptions | undefined
  private resolvedDefaults: Result.Result<ResolvedOptions, InvalidLockRequest> | undefined
  private acquiring = 0
  private idle: (() => void) | undefined

  private constructor(backend: LockBackend["Service"]) {
    this.backend = backend
    this.telemetry = new Telemetry(backend.name)
    this.limits = {
      minTtl: Duration.toMillis(backend.capabilities.minTtl),
      granularity: Duration.toMillis(backend.capabilities.ttlGranularity)
    }
  }

  /** The instance of a backend, made at its first use. */
  static of(backend: LockBackend["Service"], operation: LockBackendError["operation"]): Instance | LockBackendError {
    const slot = backend.slot
    if (slot.service !== backend) {
      const detail = "this LockBackend is a copy of another; make it with LockBackend.make"
      return misconfigured(backend.name, operation, detail)
    }
    if (slot.closed) return closedError(backend.name, operation)
    if (slot.state !== undefined) return slot.state as Instance
    const instance = new Instance(backend)
    slot.state = instance
    return instance
  }

  get isClosed(): boolean {
    return this.backend.slot.closed
  }

  /** Options of a call, validated; those of a call without any are validated once. */
  options(
    fiber: Fiber.Fiber<unknown, unknown>,
    options: LockOptions | undefined
  ): Result.Result<ResolvedOptions, InvalidLockRequest> {
    const defaults = fiber.getRef(LockDefaults)
    if (options !== undefined) return resolve(this.limits, options, defaults, this.backend.defaults)
    if (this.resolvedDefaults === undefined || this.defaultsFor !== defaults) {
      this.defaultsFor = defaults
      this.resolvedDefaults = resolve(this.limits, undefined, defaults, this.backend.defaults)
    }
    return this.resolvedDefaults
  }

  keeperOf(fiber: Fiber.Fiber<unknown, unknown>, clock: Clock.Clock): Keeper {
    const existing = this.keepers.find((keeper) => keeper.clock === clock)
    if (existing !== undefined) return existing
    // A clock nobody holds a lease on any more (of a test that is over) needs no keeper.
    for (let i = this.keepers.length - 1; i >= 0; i--) {
      if (this.keepers[i]!.size === 0) this.keepers.splice(i, 1)
    }
    const keeper = new Keeper(fiber, clock)
    this.keepers.push(keeper)
    return keeper
  }

  /** How many leases, calls and waits have a time that is watched. */
  get kept(): number {
    return this.keepers.reduce((sum, keeper) => sum + keeper.size, 0)
  }

  /** Acquisitions under way; the backend stays open until they have let go. */
  begin(): void {
    this.acquiring++
  }
  end(): void {
    if (--this.acquiring === 0) this.idle?.()
  }

  /** Whether a grant lacks what the last one did not: a master that is down is so for hours, and is told once. */
  isNewlyDegraded({ degraded }: { readonly degraded?: string | undefined }): boolean {
    const isNew = degraded !== undefined && degraded !== this.degraded
    this.degraded = degraded
    return isNew
  }

  /** Sends a release until it is answered or its time is spent; a failure is logged and the lease ends by its ttl. */
  sendRelease(release: Release): Effect.Effect<void> {
    const { context, key, operationTimeout, ownerId, retryUntil, unanswered } = release
    const { backend, telemetry } = this
    const send = (budget: number) =>
      boundedToTheEnd(
        this,
        { backend: backend.name, operation: "release", key, budget },
        Effect.suspend(() =>
          backend.release({ key, ownerId, handle: release.handle(), unanswered, budget: Duration.millis(budget) })
        )
      )
    const attempt = (budget: number, pause: number): Effect.Effect<void> =>
      Effect.matchEffect(send(budget), {
        onSuccess: () => Effect.void,
        onFailure: (error) =>
          Effect.clockWith((clock) => {
            telemetry.onBackendError(context, error)
            const left = retryUntil - Lease.stamp(clock).monotonic - pause
            if (error.isRetryable && left > 0) {
              const again = Effect.suspend(() => attempt(Math.min(operationTimeout, left), pause * 2))
              return Effect.andThen(nap(pause), again)
            }
            warn(context, `could not release lock ${JSON.stringify(key)}; it ends by its ttl`, error)
            return Effect.void
          })
      })
    return attempt(operationTimeout, 50)
  }

  /**
   * Ends everything while the driver is still open: waiters fail, leases become `LockLost(BackendClosed)` and are
   * released. Bounded by the releases' own budgets.
   */
  get close(): Effect.Effect<void> {
    return Effect.suspend(() => {
      const error = closedError(this.backend.name, "acquire")
      for (const queue of [...this.queues.values()]) queue.close(error)
      const released = Effect.suspend(() =>
        Effect.forEach([...this.leases], (lease) => lease.finish("BackendClosed"), {
          concurrency: "unbounded",
          discard: true
        })
      )
      // Looked at when the releases are over: whoever was acquiring may have let go by then.
      const idle = Effect.suspend(() =>
        this.acquiring === 0 ? Effect.void : signalWithin<void>(this, longestClose, (signal) => {
          this.idle = () => signal()
          return () => {
            this.idle = undefined
          }
        })
      )
      // A grant that was under way has become a lease meanwhile.
      return Effect.andThen(Effect.andThen(released, idle), released)
    })
  }
}

// An acquisition is out within its attempt and its release, each at most a third of the longest ttl that anybody uses;
// this is only the bound for a driver that hangs with a huge operationTimeout.
const longestClose = 60_000

const misconfigured = (
  backend: string,
  operation: LockBackendError["operation"],
  detail: string
): LockBackendError => new LockBackendError({ backend, operation, reason: new Misconfigured({ detail }) })

/** The error of a call on a backend whose layer is closed. */
export const closedError = (backend: string, operation: LockBackendError["operation"]): LockBackendError =>
  misconfigured(
    backend,
    operation,
    "the layer of this backend is closed; provide it around everything that uses its locks"
  )
