/**
 * One lock of the model server: the simplest thing that keeps the port's laws, with the truth about who holds it for the
 * oracles to compare with.
 */
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import type { Holder } from "../../Holder.ts"
import type * as LockBackend from "../../LockBackend.ts"
import { type Inbox, Line, window } from "./Line.ts"
import type { Grant, Truth } from "./Model.ts"
import type { World } from "./World.ts"

/**
 * Whom a server tells what it does.
 *
 * @category models
 */
export interface GrantOracles {
  readonly violated: (oracle: "revenant", detail: string) => void
  readonly onGrant: (key: string, ownerId: string, fence: number) => void
  readonly onOverruled: (by: "operator" | "server", ownerId: string, until: number) => void
}

/**
 * One lock of the server.
 *
 * @category models
 */
export class ServedLock implements Truth {
  readonly grants: Array<Grant> = []
  private readonly key: string
  private readonly world: World
  private readonly rate: number
  private readonly oracles: GrantOracles
  /** Whether requests may arrive twice, so that also an answered one may still come. */
  private readonly mayRepeat: boolean
  private lastFence = 0
  private grant: Grant | undefined
  private draining = false
  /** Owner ids that were released and may still have a request under way. */
  private readonly dead = new Set<string>()
  /** What the oracle remembers; it forgets only what the server rightly has forgotten. */
  private readonly released = new Set<string>()
  private readonly waiters = new Set<() => void>()
  private readonly line = new Line()

  constructor(key: string, world: World, rate: number, mayRepeat: boolean, oracles: GrantOracles) {
    this.key = key
    this.world = world
    this.mayRepeat = mayRepeat
    this.rate = rate
    this.oracles = oracles
  }

  holder(): Grant | undefined {
    return this.grant !== undefined && this.grant.expiresAt > this.time ? this.grant : undefined
  }

  /** `inbox`: where the asker, if it will wait, hears that it was given the lock. */
  tryAcquire(request: LockBackend.AcquireRequest, inbox?: Inbox): LockBackend.Acquired | LockBackend.Held {
    const { ownerId } = request
    const ttl = Duration.toMillis(request.ttl)
    const isDead = this.dead.has(ownerId)
    if (inbox !== undefined && request.willWait && !isDead) this.line.join(ownerId, inbox)
    if (!isDead && this.holder() === undefined) this.pass()
    const held = this.holder()
    if (isDead || (held !== undefined && held.ownerId !== ownerId)) return this.refuse(ownerId)
    if (held !== undefined && this.draining) return this.refuse(ownerId)
    this.line.leave(ownerId)
    const grant = held ?? this.give(ownerId)
    this.extend(grant, ttl)
    this.world.note(`server acquired ${ownerId}`, grant.fence)
    return {
      _tag: "Acquired",
      fencingToken: Option.some(BigInt(grant.fence)),
      handle: String(grant.fence),
      grantedTtl: request.ttl
    }
  }

  renew(request: LockBackend.RenewRequest): LockBackend.Renewed | LockBackend.Lost {
    const held = this.holder()
    const isOurs = held !== undefined && held.ownerId === request.ownerId && String(held.fence) === request.handle
    this.world.note(`server renew ${request.ownerId}`, isOurs ? 1 : 0)
    if (!isOurs) return { _tag: "Lost", reason: held === undefined ? "Gone" : "Taken" }
    if (this.draining) return { _tag: "Lost", reason: "Gone" }
    this.extend(held, Duration.toMillis(request.ttl))
    return { _tag: "Renewed", handle: request.handle, grantedTtl: request.ttl }
  }

  release(request: LockBackend.ReleaseRequest): "Released" | "NotHeld" {
    const { ownerId } = request
    if (request.unanswered || this.mayRepeat) this.dead.add(ownerId)
    this.released.add(ownerId)
    this.line.leave(ownerId)
    const held = this.holder()
    const isOurs = held !== undefined && held.ownerId === ownerId
      && Option.getOrElse(request.handle, () => String(held.fence)) === String(held.fence)
    this.world.note(`server release ${ownerId}`, isOurs ? 1 : 0)
    if (!isOurs) return "NotHeld"
    this.free(held)
    return "Released"
  }

  inspect(): ReadonlyArray<Holder> {
    const held = this.holder()
    return held === undefined ? [] : [this.describe(held)]
  }

  break(request: LockBackend.BreakRequest): "Draining" | "Broken" | "NotHeld" {
    const held = this.holder()
    const isMeant = held !== undefined && held.ownerId === request.ownerId
    this.world.note(`server ${request.now ? "break" : "drain"} ${request.ownerId}`, isMeant ? 1 : 0)
    if (!isMeant) return "NotHeld"
    if (request.now) {
      this.oracles.onOverruled("operator", held.ownerId, held.until)
      this.free(held)
      return "Broken"
    }
    this.draining = true
    return "Draining"
  }

  /**
   * Loses everything, as a server without persistence does. Its tokens are seeded by its clock, so they grow over that;
   * owner ids that were dead may live again, which no server without a memory can prevent.
   */
  forget(): void {
    const held = this.holder()
    if (held !== undefined) {
      this.oracles.onOverruled("server", held.ownerId, held.until)
      held.until = this.world.now
    }
    this.grant = undefined
    this.draining = false
    this.dead.clear()
    this.released.clear()
    this.lastFence = Math.floor(this.time * 1000)
    this.disconnect()
  }

  /** Those who wait are not told any more. */
  disconnect(): void {
    this.waiters.clear()
    this.line.clear()
  }

  /** Calls `tell` when the lock may be free, at once if it is; returns what undoes that. */
  watch(tell: () => void): () => void {
    this.waiters.add(tell)
    if (this.holder() === undefined) tell()
    return () => this.waiters.delete(tell)
  }

  private get time(): number {
    return this.world.now * this.rate
  }

  private give(ownerId: string): Grant {
    if (this.released.has(ownerId)) this.oracles.violated("revenant", `${ownerId} was released and took the lock again`)
    const grant = { ownerId, fence: ++this.lastFence, expiresAt: 0, from: this.world.now, until: this.world.now }
    this.grant = grant
    this.draining = false
    this.grants.push(grant)
    this.oracles.onGrant(this.key, ownerId, grant.fence)
    return grant
  }

  private free(held: Grant): void {
    held.until = this.world.now
    this.grant = undefined
    this.pass()
    for (const tell of [...this.waiters]) tell()
  }

  /** Gives the free lock to the first in line, if there is one. */
  private pass(): void {
    const next = this.line.next()
    if (next === undefined) return
    const grant = this.give(next.ownerId)
    this.extend(grant, window)
    this.world.note(`server gave ${next.ownerId}`, grant.fence)
    next.inbox.tell(next.ownerId, grant.fence)
  }

  private extend(grant: Grant, ttl: number): void {
    grant.expiresAt = Math.max(grant.expiresAt, this.time + ttl)
    grant.until = grant.expiresAt / this.rate
  }

  private refuse(ownerId: string): LockBackend.Held {
    this.world.note(`server refused ${ownerId}`)
    const held = this.holder()
    return {
      _tag: "Held",
      holders: this.inspect(),
      retryAfter: held === undefined ? Option.none() : Option.some(Duration.millis(held.expiresAt - this.time))
    }
  }

  private describe(held: Grant): Holder {
    return {
      ownerId: held.ownerId,
      since: Option.none(),
      remaining: Option.some(Duration.millis(held.expiresAt - this.time)),
      fencingToken: Option.some(BigInt(held.fence)),
      metadata: {}
    }
  }
}
