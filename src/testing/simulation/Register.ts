/**
 * A server that knows no time, as a directory or an object store is one: it compares and sets. Contenders take over
 * what stayed unchanged for its ttl on their own clocks.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Lease from "../../Lease.ts"
import * as LockBackend from "../../LockBackend.ts"
import type { LockBackendError } from "../../LockError.ts"
import { capabilities } from "./Client.ts"
import type { Grant, Model, Surroundings, Truth } from "./Model.ts"
import { backendName, type Network } from "./Network.ts"
import type { Process } from "./Process.ts"
import type { GrantOracles } from "./ServedLock.ts"
import type { World } from "./World.ts"

/**
 * The register: one record, and a version that changes with it.
 *
 * @category models
 */
export class Register implements Truth {
  readonly grants: Array<Grant> = []
  private readonly key: string
  private readonly world: World
  private readonly oracles: GrantOracles
  private record: Grant | undefined
  private version = 0
  private readonly dead = new Set<string>()

  constructor(key: string, world: World, oracles: GrantOracles) {
    this.key = key
    this.world = world
    this.oracles = oracles
  }

  holder(): Grant | undefined {
    return this.record
  }

  read(): { readonly record: Grant | undefined; readonly version: number } {
    return { record: this.record, version: this.version }
  }

  /** Writes a new record if nothing has changed since `version`. */
  take(ownerId: string, version: number): Grant | undefined {
    if (version !== this.version || this.dead.has(ownerId)) return undefined
    if (this.record !== undefined) this.record.until = this.world.now
    const fence = ++this.version
    const record = { ownerId, fence, expiresAt: Infinity, from: this.world.now, until: Infinity }
    this.record = record
    this.grants.push(record)
    this.oracles.onGrant(this.key, ownerId, fence)
    this.world.note(`register taken by ${ownerId}`, fence)
    return record
  }

  /** Changes the version if the record is this owner's. */
  touch(ownerId: string, fence: number): boolean {
    const isOurs = this.isOf(ownerId, fence)
    this.world.note(`register touched by ${ownerId}`, isOurs ? 1 : 0)
    if (isOurs) this.version++
    return isOurs
  }

  drop(ownerId: string, handle: Option.Option<string>): "Released" | "NotHeld" {
    this.dead.add(ownerId)
    const fence = Option.match(handle, { onNone: () => this.record?.fence ?? 0, onSome: Number })
    const isOurs = this.isOf(ownerId, fence)
    this.world.note(`register dropped by ${ownerId}`, isOurs ? 1 : 0)
    if (!isOurs) return "NotHeld"
    this.record!.until = this.world.now
    this.record = undefined
    this.version++
    return "Released"
  }

  private isOf(ownerId: string, fence: number): boolean {
    return this.record !== undefined && this.record.ownerId === ownerId && this.record.fence === fence
  }
}

interface Sighting {
  readonly version: number
  /** Read when the first reply that showed this version had come. */
  readonly since: Lease.Stamp
}

/**
 * A register for each lock.
 *
 * @category constructors
 */
export const registersOf = ({ network, oracles, world }: Surroundings): Model => {
  const registers = new Map<string, Register>()
  const registerOf = (key: string): Register => {
    let register = registers.get(key)
    if (register === undefined) {
      register = new Register(key, world, oracles)
      registers.set(key, register)
    }
    return register
  }
  return {
    truthOf: registerOf,
    open: (process) => LockBackend.LockBackend.make(observerOf(registerOf, network, process))
  }
}

const observerOf = (
  registerOf: (key: string) => Register,
  network: Network,
  process: Process
): LockBackend.Implementation => {
  const sightings = new Map<string, Sighting>()
  const send = <A>(operation: LockBackendError["operation"], key: string, arrive: () => A) =>
    network.send(process, { operation, key }, arrive)

  const acquired = (request: LockBackend.AcquireRequest, fence: number): LockBackend.Acquired => ({
    _tag: "Acquired",
    fencingToken: Option.some(BigInt(fence)),
    handle: String(fence),
    grantedTtl: request.ttl
  })
  const held = (record: Grant | undefined, left: number): LockBackend.Held => ({
    _tag: "Held",
    holders: record === undefined ? [] : [describe(record)],
    retryAfter: Option.some(Duration.millis(left))
  })
  const tryAcquire = (request: LockBackend.AcquireRequest, clock: Clock.Clock) => {
    const { key, ownerId } = request
    const register = registerOf(key)
    const ttl = Duration.toMillis(request.ttl)
    const take = (record: Grant | undefined, version: number) =>
      Effect.map(
        send("acquire", key, () => register.take(ownerId, version)),
        (grant) => grant === undefined ? held(record, ttl) : acquired(request, grant.fence)
      )
    const sentAt = Lease.stamp(clock)
    return Effect.flatMap(send("acquire", key, () => register.read()), ({ record, version }) => {
      if (record === undefined) return take(record, version)
      if (record.ownerId === ownerId) {
        return Effect.map(
          send("acquire", key, () => register.touch(ownerId, record.fence)),
          (isOurs) => isOurs ? acquired(request, record.fence) : held(undefined, ttl)
        )
      }
      let sighting = sightings.get(key)
      if (sighting?.version !== version) {
        sighting = { version, since: Lease.stamp(clock) }
        sightings.set(key, sighting)
      }
      const left = ttl - Lease.elapsedForTakeover(sighting.since, sentAt)
      return left > 0 ? Effect.succeed(held(record, left)) : take(record, version)
    })
  }

  return {
    name: backendName,
    capabilities,
    tryAcquire: (request) => Effect.suspend(() => tryAcquire(request, process.clock)),
    renew: ({ handle, key, ownerId, ttl }) =>
      Effect.map(
        send("renew", key, () => registerOf(key).touch(ownerId, Number(handle))),
        (isOurs): LockBackend.Renewed | LockBackend.Lost =>
          isOurs ? { _tag: "Renewed", handle, grantedTtl: ttl } : { _tag: "Lost", reason: "Taken" }
      ),
    release: ({ handle, key, ownerId }) => send("release", key, () => registerOf(key).drop(ownerId, handle)),
    inspect: ({ key }) =>
      send("inspect", key, () => {
        const record = registerOf(key).holder()
        return record === undefined ? [] : [describe(record)]
      })
  }
}

const describe = ({ fence, ownerId }: Grant) => ({
  ownerId,
  since: Option.none(),
  remaining: Option.none(),
  fencingToken: Option.some(BigInt(fence)),
  metadata: {}
})
