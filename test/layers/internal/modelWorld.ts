/**
 * A model of one machine: a file system in memory whose every step waits to be chosen, clocks that are moved by hand,
 * and processes that can die between any two steps. The code under test is the real one.
 */
import { Clock, Duration, Effect, type FileSystem, Option, type Path, PlatformError, Scheduler, Scope } from "effect"
import * as Chain from "../../../src/layers/internal/fileChain.ts"
import * as FileGrant from "../../../src/layers/internal/fileGrant.ts"
import type { FileStore } from "../../../src/layers/internal/fileStore.ts"
import * as OwnerTurns from "../../../src/layers/internal/ownerTurns.ts"
import * as ReleasedTips from "../../../src/layers/internal/releasedTips.ts"
import * as Sightings from "../../../src/layers/internal/sightings.ts"
import * as Tombstones from "../../../src/layers/internal/tombstones.ts"
import * as Lease from "../../../src/Lease.ts"
import { type Answer, Disk, fileSystemOf, missing } from "./modelDisk.ts"

/** Trust that a process has in a lease, and the token it got with it. */
interface Trust {
  readonly process: string
  token: bigint
  handle: string
  sentAt: Lease.Stamp
  trusted: number
}

export const ttl = 1000
export const directory = "/r/n-/l-k"

/** The process of a lane. */
export const processOf = (lane: string): string => lane.split("/")[0]!

/** What went wrong in one run. */
export class Violation extends Error {}

export class World {
  readonly disk = new Disk(1)
  /** Steps that may be taken next; of one process there may be several, each in a lane of its own. */
  readonly pending = new Map<string, { readonly name: string; readonly run: () => void }>()
  readonly dead = new Set<string>()
  readonly trusts = new Map<string, Trust>()
  readonly tokens = new Set<bigint>()
  readonly log: Array<string> = []
  /** The kernel's time is behind the clock by so much, in milliseconds. */
  kernelLag = 4
  wall = 1_700_000_000_000
  monotonic = 5_000_000
  /** The first thing that went wrong. */
  wrong: string | undefined

  constructor() {
    for (const each of ["/r/tmp", "/r/n-"]) this.disk.makeDirectory(each)
  }

  // ---------------------------------------------------------------------------
  // time and trust
  // ---------------------------------------------------------------------------

  get stamp(): Lease.Stamp {
    return { wall: this.wall, monotonic: this.monotonic }
  }

  pass(millis: number): void {
    this.wall += millis
    this.monotonic += millis
  }

  readonly clock: Clock.Clock = {
    currentTimeMillisUnsafe: () => this.wall,
    currentTimeMillis: Effect.sync(() => this.wall),
    currentTimeNanosUnsafe: () => BigInt(this.wall) * 1_000_000n,
    currentTimeNanos: Effect.sync(() => BigInt(this.wall) * 1_000_000n),
    monotonicTimeNanosUnsafe: () => BigInt(this.monotonic) * 1_000_000n,
    monotonicTimeNanos: Effect.sync(() => BigInt(this.monotonic) * 1_000_000n),
    sleep: () => Effect.never
  }

  /** Processes that trust a lease at this moment; a dead one trusts nothing. */
  get trusting(): ReadonlyArray<string> {
    return [...this.trusts.values()]
      .filter((trust) => !this.dead.has(trust.process) && Lease.isTrusted(trust, this.stamp))
      .map(({ process }) => process)
  }

  check(): void {
    if (this.trusting.length > 1) this.wrong ??= `${this.trusting.join(" and ")} trust the lock`
    if (this.wrong !== undefined) throw new Violation(this.wrong)
  }

  // ---------------------------------------------------------------------------
  // processes
  // ---------------------------------------------------------------------------

  /** A process with a lock directory of its own to look at; `change` may bend what it sees. */
  process(name: string, change: (fs: FileSystem.FileSystem) => FileSystem.FileSystem = (fs) => fs): Process {
    return new Process(this, name, change(this.fileSystem(name)))
  }

  /** Runs a process's call up to its first step. */
  start(name: string, call: Effect.Effect<unknown, unknown>): void {
    const fiber = Effect.runFork(
      call.pipe(
        Effect.provideService(Clock.Clock, this.clock),
        Effect.provideService(Scheduler.PreventSchedulerYield, true)
      )
    )
    fiber.addObserver((exit) => {
      this.log.push(`${name} ends: ${exit._tag === "Success" ? exit.value : exit.cause}`)
      if (exit._tag === "Failure") this.wrong ??= `${name} fails: ${exit.cause}`
    })
  }

  /** Takes the pending step of a lane. */
  step(lane: string): void {
    const step = this.pending.get(lane)!
    this.pending.delete(lane)
    this.log.push(`${lane}: ${step.name}`)
    step.run()
    this.check()
  }

  /** The lanes in which a process has a step pending. */
  lanesOf(name: string): ReadonlyArray<string> {
    return [...this.pending.keys()].filter((lane) => processOf(lane) === name)
  }

  /** The process dies with its pending steps undone. */
  crash(name: string): void {
    for (const lane of this.lanesOf(name)) {
      this.log.push(`${lane} dies before ${this.pending.get(lane)?.name}`)
      this.pending.delete(lane)
    }
    this.dead.add(name)
  }

  /** Runs one process to its end, alone. */
  settle(name: string): void {
    for (let lanes = this.lanesOf(name); lanes.length > 0; lanes = this.lanesOf(name)) this.step(lanes[0]!)
  }

  // ---------------------------------------------------------------------------
  // the file system
  // ---------------------------------------------------------------------------

  names(path = directory): ReadonlyArray<string> {
    return this.disk.names(path)
  }

  private fileSystem(process: string): FileSystem.FileSystem {
    const shared = <A>(method: string, path: string, run: () => Answer<A>) =>
      Effect.callback<A, PlatformError.PlatformError>((resume) => {
        let lane = process
        for (let other = 2; this.pending.has(lane); other++) lane = `${process}/${other}`
        this.pending.set(lane, {
          name: `${method} ${path}`,
          run: () => {
            const result = run()
            resume(PlatformError.isPlatformError(result) ? Effect.fail(result) : Effect.succeed(result))
          }
        })
      })
    // Steps on files that nobody else looks at need no order; an mtime may be that of a record by another name.
    const own = <A>(run: () => Answer<A>) =>
      Effect.suspend(() => {
        const result = run()
        return PlatformError.isPlatformError(result) ? Effect.fail(result) : Effect.succeed(result)
      })
    return fileSystemOf(
      this.disk,
      (method, path, run) => path.startsWith("/r/tmp/") && method !== "touch" ? own(run) : shared(method, path, run),
      () => this.wall - this.kernelLag,
      {
        readFileString: (path) =>
          shared("proc", path, () => {
            const name = path.split("/")[2]!
            return this.dead.has(nameOf(Number(name))) ? missing : `${name} (node) S ${"0 ".repeat(18)}77 0`
          })
      }
    )
  }
}

// -----------------------------------------------------------------------------
// a process
// -----------------------------------------------------------------------------

/** One process and its verbs, with what it trusts noted as the core would. */
export class Process {
  readonly world: World
  readonly name: string
  readonly store: FileStore

  constructor(world: World, name: string, fs: FileSystem.FileSystem) {
    this.world = world
    this.name = name
    let files = 0
    this.store = {
      fs,
      path: { join: (...parts: ReadonlyArray<string>) => parts.join("/") } as unknown as Path.Path,
      namespace: "",
      locks: "/r/n-",
      prepare: Effect.void,
      granularity: 1,
      durable: false,
      self: { ...identity, pid: pidOf(name) },
      freshPath: () => `/r/tmp/${name}-${++files}`,
      scope: Scope.makeUnsafe(),
      turns: OwnerTurns.make(),
      dead: Tombstones.make(),
      sightings: Sightings.make(),
      released: ReleasedTips.make()
    }
  }

  get ownerId(): string {
    return `owner-${this.name}`
  }

  /** One attempt; a grant begins trust, counted from before it was sent. */
  readonly acquire = Effect.suspend(() => {
    const { ownerId, store, world } = this
    const sentAt = world.stamp
    const request = {
      key: "k",
      ownerId,
      ttl: Duration.millis(ttl),
      metadata: {},
      willWait: true,
      budget: Duration.seconds(1)
    }
    return Effect.map(
      OwnerTurns.run(store.turns, ownerId, (turn) => Chain.acquire(store, request, turn)),
      ({ answer: reply }) => {
        if (reply._tag === "Held") return "Held"
        const token = Option.getOrThrow(reply.fencingToken)
        const known = world.trusts.get(this.name)
        if (known?.token !== token && world.tokens.has(token)) world.wrong ??= `token ${token} was given twice`
        world.tokens.add(token)
        world.trusts.set(this.name, {
          process: this.name,
          token,
          handle: reply.handle,
          sentAt,
          trusted: Duration.toMillis(reply.grantedTtl) - Lease.safetyMargin(ttl, 1)
        })
        return "Acquired"
      }
    )
  })

  /** Renews what it holds; the answer moves trust or ends it. */
  readonly renew = Effect.suspend(() => {
    const { ownerId, store, world } = this
    const trust = world.trusts.get(this.name)
    if (trust === undefined) return Effect.succeed("nothing to renew")
    const sentAt = world.stamp
    const request = { key: "k", ownerId, ttl: Duration.millis(ttl), handle: trust.handle, budget: Duration.seconds(1) }
    return Effect.map(
      OwnerTurns.run(store.turns, ownerId, (turn) => FileGrant.renew(store, request, turn)),
      (reply) => {
        if (reply._tag === "Lost") {
          world.trusts.delete(this.name)
          return `Lost ${reply.reason}`
        }
        world.trusts.set(this.name, { ...trust, sentAt })
        return "Renewed"
      }
    )
  })

  /** Ends trust, then gives back. */
  readonly release = Effect.suspend(() => {
    const { ownerId, store, world } = this
    const handle = Option.fromUndefinedOr(world.trusts.get(this.name)?.handle)
    world.trusts.delete(this.name)
    OwnerTurns.giveUp(store.turns, ownerId)
    const request = { key: "k", ownerId, handle, unanswered: false, budget: Duration.seconds(1) }
    return OwnerTurns.run(store.turns, ownerId, () => FileGrant.release(store, request))
  })

  /** An operator's break of another's lock. */
  breakLock(ownerId: string, now: boolean) {
    return FileGrant.breakLock(this.store, { key: "k", ownerId, now, budget: Duration.seconds(1) })
  }
}

// -----------------------------------------------------------------------------
// small parts
// -----------------------------------------------------------------------------

const identity = { host: "host", bootId: "boot", pidNs: "ns", startTime: "77" }
const pidOf = (name: string): number => 1000 + name.charCodeAt(0)
const nameOf = (pid: number): string => String.fromCharCode(pid - 1000)
