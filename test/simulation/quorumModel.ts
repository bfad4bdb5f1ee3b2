/**
 * The model of one master: what the scripts of Redlock do, on a clock of its own, with a memory that it can lose.
 *
 * It has one lock.
 */
import type {
  Greeting,
  NodeRecord,
  NodeRelease,
  NodeRenewal,
  Take,
  TakeReply
} from "../../src/layers/internal/quorumNode.ts"
import type { Grant } from "../../src/testing/simulation/Model.ts"
import type { World } from "../../src/testing/simulation/World.ts"

/** What a node may be. `rate`: how much faster than true time its clock runs; `offset`: by how much it is ahead. */
export interface NodeOptions {
  readonly id: number
  readonly rate: number
  readonly offset: number
  /** Its tokens are a counter of its own, as with INCR. */
  readonly counts: boolean
}

/** Whom a node tells what it does. */
export interface NodeOracles {
  readonly violated: (oracle: "revenant", detail: string) => void
}

interface Lock {
  readonly ownerId: string
  attempt: number
  fence: number
  expiresAt: number
  readonly grant: Grant & { until: number }
  metadata: Readonly<Record<string, string>>
  readonly since: number
}

/** Microseconds by which a token may be ahead of the node's clock, or behind it. */
const mostAhead = 60_000_000
const mostBehind = 1_000_000

/** One master. */
export class ModelNode {
  readonly options: NodeOptions
  /** How often it was started anew; a connection lives as long as it does. */
  life = 0
  isDown = false
  /** Until when it stands still. */
  stoppedUntil = 0
  private readonly world: World
  private readonly oracles: NodeOracles
  private readonly grants: Array<Grant>
  private startedAt = -1e9
  private lock: Lock | undefined
  private token = 0
  private dead = new Map<string, number>()
  /** What the oracle remembers, as long as the node could. */
  private released = new Set<string>()

  constructor(world: World, options: NodeOptions, oracles: NodeOracles, grants: Array<Grant>) {
    this.world = world
    this.options = options
    this.oracles = oracles
    this.grants = grants
  }

  get name(): string {
    return `node ${this.options.id}`
  }

  /** Who has it, whatever the try. */
  get holder(): { readonly ownerId: string; readonly attempt: number } | undefined {
    return this.live
  }

  /** Until when it keeps the lock for this grant, in true time. */
  keeps(ownerId: string, token: string): number {
    const found = this.live
    return found?.ownerId === ownerId && String(found.fence) === token ? found.grant.until : -Infinity
  }

  kill(): void {
    this.isDown = true
    this.stoppedUntil = 0
  }

  start(remembers: boolean): void {
    this.isDown = false
    this.life++
    this.startedAt = this.world.now
    if (remembers) return
    if (this.lock !== undefined) this.lock.grant.until = Math.min(this.lock.grant.until, this.world.now)
    this.lock = undefined
    this.token = 0
    this.dead = new Map()
    this.released = new Set()
  }

  /** It answers, and has done so for long. */
  heal(): void {
    this.isDown = false
    this.stoppedUntil = 0
    this.startedAt = -1e9
    this.life++
  }

  greet(): Greeting {
    return {
      identity: `${this.options.id}/${this.life}`,
      uptime: (this.world.now - this.startedAt) * this.options.rate
    }
  }

  take({ attempt, fence, metadata, mode, ownerId, ttl }: Take): TakeReply {
    const { clock } = this
    if ((this.dead.get(ownerId) ?? 0) >= attempt) return { _tag: "Dead", clock }
    const found = this.live
    if (found !== undefined && found.ownerId !== ownerId) return { _tag: "Held", record: this.describe(found), clock }
    if (found !== undefined && found.attempt > attempt) return { _tag: "Dead", clock }
    if (found?.attempt === attempt && (mode === "propose" || fence <= found.fence)) {
      this.extend(found, ttl)
      return { _tag: "Ok", fence: found.fence, clock }
    }
    const isCounted = this.options.counts && mode === "propose"
    const token = isCounted ? this.token + 1 : fence
    const behind = this.options.counts ? 0 : clock - mostBehind
    const seen = mode === "join" ? this.token - 1 : Math.max(this.token, behind)
    if (token <= seen) return { _tag: "TooLow", stored: seen, clock }
    if (token > this.token + 1 && token > clock + mostAhead) return { _tag: "TooHigh", clock }
    if (this.released.has(ownerId)) {
      this.oracles.violated("revenant", `${ownerId} was released and took ${this.name} again`)
    }
    if (found === undefined) {
      const { now } = this.world
      const grant = { ownerId, fence: token, expiresAt: Infinity, from: now, until: now }
      this.grants.push(grant)
      this.lock = { ownerId, attempt, fence: token, expiresAt: 0, grant, metadata, since: Math.floor(clock / 1000) }
    }
    const lock = found ?? this.lock!
    lock.attempt = attempt
    lock.fence = token
    this.token = token
    this.extend(lock, ttl)
    this.world.note(`${this.name} taken by ${ownerId}:${attempt}`, token % 1e9)
    return { _tag: "Ok", fence: token, clock }
  }

  renew({ fence, ownerId, ttl }: NodeRenewal): "Ok" | "Gone" | "Taken" {
    const found = this.live
    if (found === undefined) return "Gone"
    if (found.ownerId !== ownerId) return "Taken"
    if (String(found.fence) !== fence) return "Gone"
    this.extend(found, ttl)
    return "Ok"
  }

  release({ attempt, bury, ownerId }: NodeRelease): "Released" | "NotHeld" {
    if (bury) this.dead.set(ownerId, Math.max(this.dead.get(ownerId) ?? 0, attempt))
    if (attempt === Number.MAX_SAFE_INTEGER) this.released.add(ownerId)
    const found = this.live
    if (found === undefined || found.ownerId !== ownerId || found.attempt > attempt) return "NotHeld"
    found.grant.until = this.world.now
    this.lock = undefined
    this.world.note(`${this.name} released by ${ownerId}:${Math.min(attempt, 999)}`)
    return "Released"
  }

  inspect(): NodeRecord | undefined {
    return this.live && this.describe(this.live)
  }

  private get clock(): number {
    return Math.floor((this.world.now * this.options.rate + this.options.offset + 1e9) * 1000)
  }

  private get live(): Lock | undefined {
    return this.lock !== undefined && this.lock.expiresAt > this.world.now * this.options.rate ? this.lock : undefined
  }

  private extend(lock: Lock, ttl: number): void {
    lock.expiresAt = Math.max(lock.expiresAt, this.world.now * this.options.rate + ttl)
    lock.grant.until = lock.expiresAt / this.options.rate
  }

  private describe(lock: Lock): NodeRecord {
    const { fence, metadata, ownerId, since } = lock
    return { ownerId, fence, since, remaining: lock.expiresAt - this.world.now * this.options.rate, metadata }
  }
}
