/**
 * The backend's wake-ups for one acquisition. Each is only a hint, so each costs one try; a backend that pushes without
 * end is not followed into a busy loop.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type { LockBackend } from "../LockBackend.ts"

/** One acquisition's subscription, kept over its tries until it fires. */
export class Push {
  private readonly backend: LockBackend["Service"]
  private readonly fiber: Fiber.Fiber<unknown, unknown>
  private subscription: Fiber.Fiber<void, unknown> | undefined
  private inVain = 0
  private has = false
  /** Called when it fires. */
  wake: (() => void) | undefined

  constructor(backend: LockBackend["Service"], fiber: Fiber.Fiber<unknown, unknown>) {
    this.backend = backend
    this.fiber = fiber
  }

  /** How long to look away first, in milliseconds: nothing, but doubling while wake-ups come in vain. */
  get delay(): number {
    return this.backend.awaitTurn === undefined ? Infinity : Math.min(2 ** this.inVain - 1, 50)
  }

  /** Takes the wake-up, if there is one. */
  take(): boolean {
    const has = this.has
    this.has = false
    if (has) this.inVain++
    return has
  }

  /** A try that no wake-up caused was due anyway. */
  settle(): void {
    this.inVain = 0
  }

  /** Subscribes, unless it is subscribed. A subscription that fails leaves the waiting to the polls. */
  start(key: string, ownerId: string): void {
    if (this.subscription !== undefined || this.backend.awaitTurn === undefined || this.has) return
    const subscription = Effect.runForkWith(this.fiber.context)(this.backend.awaitTurn({ key, ownerId }))
    this.subscription = subscription
    subscription.addObserver((exit) => {
      this.subscription = undefined
      if (Exit.isFailure(exit)) return
      this.has = true
      this.wake?.()
    })
  }

  /** Ends it; the backend cleans up on interruption. */
  stop(): void {
    this.wake = undefined
    this.subscription?.interruptUnsafe()
  }
}
