/**
 * The model server: the simplest thing that keeps the port's laws, with the truth about who holds each lock for the
 * oracles to compare with.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Holder } from "../../Holder.ts"
import * as LockBackend from "../../LockBackend.ts"
import type { Grant, Model, Surroundings, Truth } from "./Model.ts"
import { backendName, type Network } from "./Network.ts"
import type { Process } from "./Process.ts"
import { chance, type World } from "./World.ts"

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

  tryAcquire(request: LockBackend.AcquireRequest): LockBackend.Acquired | LockBackend.Held {
    const { ownerId } = request
    const ttl = Duration.toMillis(request.ttl)
    const held = this.holder()
    if (this.dead.has(ownerId) || (held !== undefined && held.ownerId !== ownerId)) return this.refuse(ownerId)
    if (held !== undefined && this.draining) return this.refuse(ownerId)
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
    for (const tell of [...this.waiters]) tell()
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

/**
 * What the simulated backends can do.
 *
 * @category constants
 */
export const capabilities: LockBackend.Capabilities = {
  minTtl: Duration.millis(100),
  ttlGranularity: Duration.zero,
  fencing: { grade: "strict" },
  fair: false,
  lateWrites: "refused",
  drain: true
}

/**
 * The server with all its locks.
 *
 * @category constructors
 */
export const serverOf = (of: Surroundings): Model => {
  const { mix, network, oracles, seed, world } = of
  const rate = of.rate()
  const locks = new Map<string, ServedLock>()
  const lockOf = (key: string): ServedLock => {
    let lock = locks.get(key)
    if (lock === undefined) {
      lock = new ServedLock(key, world, rate, (mix.duplicate ?? 0) > 0, oracles)
      locks.set(key, lock)
    }
    return lock
  }
  const pushes = chance(seed, 10)() < (mix.push ?? 0)
  return {
    truthOf: lockOf,
    open: (process) => LockBackend.LockBackend.make(clientOf(lockOf, of.network, process, pushes, oracles.onTold)),
    restart: (forgets, millis) => {
      network.downUntil = Math.max(network.downUntil, world.now + millis)
      for (const lock of locks.values()) {
        if (forgets) lock.forget()
        else lock.disconnect()
      }
    }
  }
}

const clientOf = (
  lockOf: (key: string) => ServedLock,
  network: Network,
  process: Process,
  pushes: boolean,
  onTold: (ownerId: string) => void
): LockBackend.Implementation => ({
  name: backendName,
  // Messages overtake each other here, so this promise is broken at times, which may cost time and nothing else.
  capabilities: { ...capabilities, ordered: pushes },
  tryAcquire: (request) =>
    network.send(process, { operation: "acquire", key: request.key }, () => lockOf(request.key).tryAcquire(request)),
  renew: (request) =>
    Effect.map(
      network.send(process, { operation: "renew", key: request.key }, () => lockOf(request.key).renew(request)),
      (reply) => {
        if (reply._tag === "Lost") onTold(request.ownerId)
        return reply
      }
    ),
  release: (request) =>
    network.send(process, { operation: "release", key: request.key }, () => lockOf(request.key).release(request)),
  inspect: ({ key }) => network.send(process, { operation: "inspect", key }, () => lockOf(key).inspect()),
  break: (request) =>
    network.send(process, { operation: "break", key: request.key }, () => lockOf(request.key).break(request)),
  awaitTurn: pushes
    ? ({ key }) =>
      Effect.callback<void>((resume) => {
        const unwatch = lockOf(key).watch(() => network.tell(process, () => resume(Effect.void)))
        return Effect.sync(unwatch)
      })
    : undefined
})
