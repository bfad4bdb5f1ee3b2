/**
 * The model server: the simplest thing that keeps the port's laws, with the truth about who holds the lock for the
 * oracles to compare with. It has one lock.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Holder } from "../../Holder.ts"
import type * as LockBackend from "../../LockBackend.ts"
import { backendName, type Network } from "./Network.ts"
import type { Process } from "./Process.ts"
import type { World } from "./World.ts"

/**
 * Who holds the lock, by the server's own clock.
 *
 * @category models
 */
export interface Grant {
  readonly ownerId: string
  readonly fence: number
  /** The server's time. */
  expiresAt: number
  /** True time: from when, and until when at most. */
  readonly from: number
  until: number
}

/**
 * What the oracles want to know of a server.
 *
 * @category models
 */
export interface Truth {
  /** Who holds the lock now. */
  readonly holder: () => { readonly ownerId: string; readonly fence: number } | undefined
  /** Every grant that there was, the oldest first. */
  readonly grants: ReadonlyArray<Grant>
}

/**
 * Whom a server tells what it does.
 *
 * @category models
 */
export interface GrantOracles {
  readonly violated: (oracle: "revenant", detail: string) => void
  readonly onGrant: (ownerId: string, fence: number) => void
}

/**
 * The server.
 *
 * @category models
 */
export class Server implements Truth {
  readonly grants: Array<Grant> = []
  private readonly world: World
  private readonly rate: number
  private readonly oracles: GrantOracles
  /** Whether requests may arrive twice, so that also an answered one may still come. */
  private readonly mayRepeat: boolean
  private lastFence = 0
  private grant: Grant | undefined
  /** Owner ids that were released and may still have a request under way. */
  private readonly dead = new Set<string>()
  /** What the oracle remembers, whatever the server forgets. */
  private readonly released = new Set<string>()
  private readonly waiters = new Set<() => void>()

  constructor(world: World, rate: number, mayRepeat: boolean, oracles: GrantOracles) {
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
    held.until = this.world.now
    this.grant = undefined
    for (const tell of [...this.waiters]) tell()
    return "Released"
  }

  inspect(): ReadonlyArray<Holder> {
    const held = this.holder()
    return held === undefined ? [] : [this.describe(held)]
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
    this.grants.push(grant)
    this.oracles.onGrant(ownerId, grant.fence)
    return grant
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
  drain: false
}

/**
 * The port to `server`, as one process has it.
 *
 * @category constructors
 */
export const clientOf = (
  server: Server,
  network: Network,
  process: Process,
  push: boolean
): LockBackend.Implementation => ({
  name: backendName,
  capabilities,
  tryAcquire: (request) =>
    network.send(process, { operation: "acquire", key: request.key }, () => server.tryAcquire(request)),
  renew: (request) => network.send(process, { operation: "renew", key: request.key }, () => server.renew(request)),
  release: (request) =>
    network.send(process, { operation: "release", key: request.key }, () => server.release(request)),
  inspect: ({ key }) => network.send(process, { operation: "inspect", key }, () => server.inspect()),
  awaitTurn: push
    ? () =>
      Effect.callback<void>((resume) => {
        const unwatch = server.watch(() => network.tell(process, () => resume(Effect.void)))
        return Effect.sync(unwatch)
      })
    : undefined
})
