/**
 * One connection for messages, shared by all subscriptions of a client; made when the first one is.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { Redis } from "ioredis"
import { type BackendReason, Misconfigured } from "../../LockError.ts"
import { closed, reasonOf } from "./redisFailure.ts"

interface Subscription {
  readonly onMessage: (message: string) => void
  readonly onReconnect: () => void
  confirmed: boolean
  /** Called with what became of it, until it was confirmed once. */
  settle: ((reason: BackendReason | undefined) => void) | undefined
}

/** The connection and who listens. */
export class Subscriber {
  private readonly makeDriver: () => Redis | undefined
  private readonly endpoint: string
  private readonly channels = new Map<string, Set<Subscription>>()
  private driver: Redis | undefined
  private lastError: unknown
  private closed = false

  constructor(makeDriver: () => Redis | undefined, endpoint: string) {
    this.makeDriver = makeDriver
    this.endpoint = endpoint
  }

  subscribe(
    channel: string,
    onMessage: (message: string) => void,
    onReconnect: () => void
  ): Effect.Effect<void, BackendReason, Scope.Scope> {
    return Effect.uninterruptibleMask((restore) =>
      Effect.flatMap(
        restore(Effect.callback<Subscription, BackendReason>((resume) => {
          const subscription: Subscription = {
            onMessage,
            onReconnect,
            confirmed: false,
            settle: (reason) => {
              subscription.settle = undefined
              if (reason === undefined) return resume(Effect.succeed(subscription))
              this.unsubscribe(channel, subscription)
              resume(Effect.fail(reason))
            }
          }
          const known = this.channels.get(channel)
          if (known === undefined) this.channels.set(channel, new Set([subscription]))
          else known.add(subscription)
          this.open(channel)
          return Effect.sync(() => this.unsubscribe(channel, subscription))
        })),
        (subscription) => Effect.addFinalizer(() => Effect.sync(() => this.unsubscribe(channel, subscription)))
      )
    )
  }

  close(): void {
    this.closed = true
    this.driver?.disconnect()
    this.settleAll(closed(this.endpoint))
  }

  private open(channel: string): void {
    if (this.closed) return this.settleAll(closed(this.endpoint))
    if (this.driver === undefined) {
      this.driver = this.makeDriver()
      if (this.driver === undefined) {
        return this.settleAll(new Misconfigured({ detail: "there are no subscriptions on a Redis Cluster" }))
      }
      this.driver.on("error", this.onError)
      this.driver.on("ready", this.onReady)
      this.driver.on("close", this.onClose)
      this.driver.on("message", this.onMessage)
    }
    const { status } = this.driver
    if (status === "ready") this.confirm(channel)
    else if (status === "wait" || status === "end") this.driver.connect().then(ignore, this.onError)
  }

  private confirm(channel: string): void {
    this.driver?.subscribe(channel).then(
      () => {
        for (const subscription of this.channels.get(channel) ?? []) {
          const again = subscription.confirmed
          subscription.confirmed = true
          if (subscription.settle !== undefined) subscription.settle(undefined)
          else if (again) subscription.onReconnect()
        }
      },
      (error) => {
        const reason = reasonOf(error, this.endpoint)
        for (const subscription of [...this.channels.get(channel) ?? []]) subscription.settle?.(reason)
      }
    )
  }

  private unsubscribe(channel: string, subscription: Subscription): void {
    const known = this.channels.get(channel)
    if (known === undefined || !known.delete(subscription) || known.size > 0) return
    this.channels.delete(channel)
    if (this.driver?.status === "ready") this.driver.unsubscribe(channel).then(ignore, ignore)
  }

  private settleAll(reason: BackendReason): void {
    for (const subscriptions of [...this.channels.values()]) {
      for (const subscription of [...subscriptions]) subscription.settle?.(reason)
    }
  }

  private readonly onError = (error: unknown): void => {
    this.lastError = error
  }

  private readonly onReady = (): void => {
    this.lastError = undefined
    for (const channel of this.channels.keys()) this.confirm(channel)
  }

  private readonly onClose = (): void => {
    this.settleAll(this.lastError === undefined ? closed(this.endpoint) : reasonOf(this.lastError, this.endpoint))
    this.lastError = undefined
  }

  private readonly onMessage = (channel: string, message: string): void => {
    for (const subscription of this.channels.get(channel) ?? []) subscription.onMessage(message)
  }
}

const ignore = () => {}
