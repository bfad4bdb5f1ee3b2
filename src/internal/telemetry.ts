/**
 * What the core tells the outside: metrics, spans, log lines. Keys go on spans and into log lines, never on metric
 * labels, whose number must not grow with the number of locks.
 */
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Metric from "effect/Metric"
import type * as Tracer from "effect/Tracer"
import type { LockBackendError, LockContended, LockLost } from "../LockError.ts"

const seconds = Metric.boundariesFromIterable([0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800])

const contended = Metric.counter("effect_lock_contended", {
  description: "Acquisitions given up because somebody else has the lock",
  incremental: true
})
const lost = Metric.counter("effect_lock_lost", { description: "Leases lost while in use", incremental: true })
const backendErrors = Metric.counter("effect_lock_backend_errors", {
  description: "Backend operations that failed",
  incremental: true
})

/**
 * The metrics of one backend instance. Those of every lock are made with their label: `Metric.withAttributes` would
 * copy the context at each update.
 */
export class Telemetry {
  readonly backend: string
  private readonly labels: { readonly backend: string }
  private readonly acquired
  private readonly held
  private readonly waiting
  private readonly wait
  private readonly hold
  private readonly renewLatency
  private readonly renewMargin
  private heldNow = 0
  private waitingNow = 0

  constructor(backend: string) {
    const attributes = { backend }
    this.backend = backend
    this.labels = attributes
    this.acquired = Metric.counter("effect_lock_acquired", {
      description: "Locks acquired",
      incremental: true,
      attributes
    })
    this.held = Metric.gauge("effect_lock_held", { description: "Leases held now", attributes })
    this.waiting = Metric.gauge("effect_lock_waiting", { description: "Callers waiting for a lock now", attributes })
    const histogram = (name: string, description: string) =>
      Metric.histogram(`effect_lock_${name}_seconds`, { description, boundaries: seconds, attributes })
    this.wait = histogram("wait", "From the call to the grant")
    this.hold = histogram("hold", "From the grant to the end of the lease")
    this.renewLatency = histogram("renew", "Duration of a confirmed renewal")
    this.renewMargin = histogram("renew_margin", "Trust that was left when a renewal was confirmed")
  }

  onAcquired(context: Context.Context<never>, waitedMillis: number): void {
    this.acquired.updateUnsafe(1, context)
    this.wait.updateUnsafe(waitedMillis / 1000, context)
    this.held.updateUnsafe(++this.heldNow, context)
  }
  onEnded(context: Context.Context<never>, heldMillis: number): void {
    this.hold.updateUnsafe(heldMillis / 1000, context)
    this.held.updateUnsafe(--this.heldNow, context)
  }
  onWaiting(context: Context.Context<never>, change: 1 | -1): void {
    this.waitingNow += change
    this.waiting.updateUnsafe(this.waitingNow, context)
  }
  onContended(context: Context.Context<never>, reason: LockContended["reason"]): void {
    Metric.withAttributes(contended, { ...this.labels, reason }).updateUnsafe(1, context)
  }
  onLost(context: Context.Context<never>, reason: LockLost["reason"]): void {
    Metric.withAttributes(lost, { ...this.labels, reason }).updateUnsafe(1, context)
  }
  onBackendError(context: Context.Context<never>, error: LockBackendError): void {
    Metric.withAttributes(backendErrors, {
      ...this.labels,
      operation: error.operation,
      reason: error.reason._tag
    }).updateUnsafe(1, context)
  }
  onRenewed(context: Context.Context<never>, tookMillis: number, trustLeftMillis: number): void {
    this.renewLatency.updateUnsafe(tookMillis / 1000, context)
    this.renewMargin.updateUnsafe(trustLeftMillis / 1000, context)
  }
}

/**
 * Whether anybody looks at spans. Without a tracer of the user's the native one would make them for nobody, on the hot
 * path.
 */
const isTraced = (fiber: Fiber.Fiber<unknown, unknown>): boolean =>
  fiber.cache.tracer !== undefined && fiber.cache.tracerEnabled

/** `self` inside a span of the lock's, if anybody looks. */
export const spanned = <A, E, R>(
  fiber: Fiber.Fiber<unknown, unknown>,
  name: "Lock.wait" | "Lock.renew",
  attributes: Record<string, unknown>,
  self: Effect.Effect<A, E, R>
): Effect.Effect<A, E, R> =>
  isTraced(fiber) ? Effect.withSpan(self, name, { attributes }) as Effect.Effect<A, E, R> : self

/** Starts the span of a hold, if anybody looks; what it returns ends it. */
export const holdSpan = (
  fiber: Fiber.Fiber<unknown, unknown>,
  attributes: Record<string, unknown>
): ((end: Exit.Exit<unknown, unknown>, at: bigint) => void) | undefined => {
  if (!isTraced(fiber)) return undefined
  const span: Tracer.Span = Effect.runSyncWith(fiber.context)(Effect.makeSpan("Lock.hold", { attributes }))
  return (exit, at) => span.end(at, exit)
}

/** Logs a warning in the context of the acquisition, from code that is not an effect. */
export const warn = (context: Context.Context<never>, message: string, ...details: ReadonlyArray<unknown>): void => {
  Effect.runForkWith(context)(Effect.logWarning(message, ...details))
}
