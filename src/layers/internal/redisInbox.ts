/**
 * Where this process is told that its turn has come: one channel for all keys and waiters of a backend.
 *
 * The subscription is made when the first waiter needs it. It is confirmed before anybody is queued, because a queued
 * waiter whose inbox nobody listens to is taken for dead.
 */
import * as Effect from "effect/Effect"
import * as Hex from "effect/encoding/Hex"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import type { BackendReason } from "../../LockError.ts"
import type { RedisClient } from "./redisClient.ts"

interface Waiter {
  /** Its member of the queue; empty until it was sent. */
  member: string
  /** Told that its turn has come, since its last try was sent. */
  called: boolean
  /** The fencing token that it was given with that; empty if it only has to look. */
  given: string
  /** The fencing token of whoever had the lock when its last try was refused. */
  refusedBy: bigint | undefined
  /** Gave up; its release is on the way. */
  gone: boolean
  wake: (() => void) | undefined
}

/** The inbox of one backend. */
export class Inbox {
  /** Half of the channel's name; unguessable, so that no other process uses it. */
  readonly id = Hex.encode(globalThis.crypto.getRandomValues(new Uint8Array(12)))
  private readonly client: RedisClient
  private readonly channels: string
  private readonly scope: Scope.Scope
  private readonly decline: (owner: string, record: string) => Effect.Effect<void>
  private readonly waiters = new Map<string, Waiter>()
  isOpen = false
  private opening: Fiber.Fiber<void, BackendReason> | undefined

  /** `decline` gives back what nobody here waits for. */
  constructor(
    client: RedisClient,
    channels: string,
    scope: Scope.Scope,
    decline: (owner: string, record: string) => Effect.Effect<void>
  ) {
    this.client = client
    this.channels = channels
    this.scope = scope
    this.decline = decline
  }

  /** Subscribes, or joins whoever is at it. An interruption of the caller leaves the subscribing to the layer. */
  get open(): Effect.Effect<void, BackendReason> {
    return Effect.uninterruptibleMask((restore) => {
      if (this.isOpen) return Effect.void
      if (this.opening !== undefined) return restore(Fiber.join(this.opening))
      const subscribe = this.client.subscribe(this.channels + this.id, this.onMessage, this.onReconnect)
      const inScope = Effect.provideService(Effect.interruptible(subscribe), Scope.Scope, this.scope)
      return Effect.flatMap(Effect.forkIn(inScope, this.scope, { startImmediately: true }), (opening) => {
        this.opening = opening
        opening.addObserver((exit) => {
          this.opening = undefined
          if (Exit.isSuccess(exit)) this.isOpen = true
        })
        return restore(Fiber.join(opening))
      })
    })
  }

  /** `owner` is about to try, and to wait if it is refused: its member of the queue. */
  enter(owner: string, ttl: string, metadata: string): string {
    const waiter = this.waiterOf(owner)
    // What comes from now on comes after this try was sent, so it may come before its refusal is read.
    waiter.called = false
    waiter.given = ""
    waiter.refusedBy = undefined
    if (waiter.member === "") waiter.member = `${this.id}|${ttl}|${owner}|${metadata}`
    return waiter.member
  }

  /** The last try of `owner` was refused: the holder with the fencing token `by` was before it. */
  refused(owner: string, by: bigint | undefined): void {
    const waiter = this.waiters.get(owner)
    if (waiter !== undefined) waiter.refusedBy = by
  }

  /**
   * Takes what `owner` was given since its last try was refused, if it was: the fencing token. Tokens grow, so one that
   * is greater than that of the refusal came after it, however long the message took.
   */
  take(owner: string): string | undefined {
    const waiter = this.waiters.get(owner)
    if (waiter === undefined || waiter.given === "" || waiter.refusedBy === undefined) return undefined
    if (BigInt(waiter.given) <= waiter.refusedBy) return undefined
    this.waiters.delete(owner)
    return waiter.given
  }

  /** `owner` gives up, or gives back: the member that has to leave the queue, if any. */
  leave(owner: string): string {
    const waiter = this.waiters.get(owner)
    if (waiter === undefined) return ""
    waiter.gone = true
    return waiter.member
  }

  /** `owner` has the lock, or has left the queue. */
  delete(owner: string): void {
    this.waiters.delete(owner)
  }

  /** Ends when `owner` was called since its last try was sent. */
  awaitCall(owner: string): Effect.Effect<void> {
    return Effect.callback((resume) => {
      // It may not be queued yet: a subscription that failed is made anew by the next try.
      const waiter = this.waiterOf(owner)
      if (waiter.called) return resume(Effect.void)
      const wake = () => resume(Effect.void)
      waiter.wake = wake
      return Effect.sync(() => {
        if (waiter.wake === wake) waiter.wake = undefined
      })
    })
  }

  /** How many wait, or have not been seen to leave. */
  get size(): number {
    return this.waiters.size
  }

  private waiterOf(owner: string): Waiter {
    const known = this.waiters.get(owner)
    if (known !== undefined) return known
    const waiter: Waiter = { member: "", called: false, given: "", refusedBy: undefined, gone: false, wake: undefined }
    this.waiters.set(owner, waiter)
    return waiter
  }

  private readonly onMessage = (message: string): void => {
    const [, owner, fence, record] = /^([^|]*)\|(\d{1,19})\|(.*)$/s.exec(message) ?? []
    if (owner === undefined) return
    const waiter = this.waiters.get(owner)
    if (waiter !== undefined && !waiter.gone) return call(waiter, fence!)
    // The one called has given up, and its release may have been lost.
    Effect.runFork(Effect.forkIn(this.decline(owner, record!), this.scope))
  }

  // Calls may have been missed, and places lost: everybody asks again.
  private readonly onReconnect = (): void => {
    for (const [owner, waiter] of [...this.waiters]) {
      if (waiter.gone) this.waiters.delete(owner)
      else call(waiter, "")
    }
  }
}

const call = (waiter: Waiter, given: string): void => {
  waiter.called = true
  waiter.given = given
  waiter.wake?.()
}
