/**
 * The file backend itself, in simulated processes of one machine that share a disk: every step on it takes its time, may
 * hang or fail, and a process can stand still or die between any two.
 */
import { Duration, Effect, FileSystem, Option, Path, PlatformError, Queue, Stream } from "effect"
import { type LockBackend } from "effect-lock"
import type * as File from "effect-lock/layers/File"
import type { Simulation } from "effect-lock/testing"
import type { Process } from "../../src/testing/simulation/Process.ts"
import { chance, type World } from "../../src/testing/simulation/World.ts"
import { type Answer, Disk, failure, fileSystemOf, missing } from "../layers/internal/modelDisk.ts"

/**
 * Mixes for it: a machine has one clock.
 *
 * - `files/kills`: processes die and stand still between any two steps.
 * - `files/clocks`: the machine sleeps, or its wall clock is set back.
 * - `files/hangs`: steps hang, or fail with or without having had their effect, while callers give up.
 * - `files/operators`: an operator breaks locks, and backends are closed.
 */
export const fileMixes = {
  "files/kills": { machine: "one", kill: 0.1, pause: 0.3, slow: 0.06, interrupt: 0.1 },
  "files/clocks": { machine: "one", suspend: 0.1, forward: 0.05, backward: 0.3, pause: 0.1, slow: 0.05 },
  "files/hangs": { machine: "one", late: 0.006, slow: 0.03, resetBefore: 0.006, resetAfter: 0.006, interrupt: 0.5 },
  "files/operators": { machine: "one", drain: 0.15, break: 0.15, close: 0.12, kill: 0.02, pause: 0.05, interrupt: 0.1 }
} as const satisfies Record<string, Simulation.Mix>

const root = "/locks"
const ttl = 1000

const path = Effect.runSync(Effect.provide(Path.Path, Path.layer))

/** The truth about one lock: whom it was given to, and what is on the disk. */
class Chain implements Simulation.Truth {
  readonly grants: Array<Simulation.Grant> = []
  /** The largest token that anybody heard of, and whose it was; `undefined` once that is released. */
  latest: { readonly ownerId: string; readonly fence: number } | undefined
  most = 0
  private readonly directory: string
  private readonly disk: Disk
  private readonly wall: () => number

  constructor(key: string, disk: Disk, wall: () => number) {
    this.directory = `${root}/n-/l-${key}`
    this.disk = disk
    this.wall = wall
  }

  holder() {
    return this.latest
  }

  occupant() {
    const names = this.disk.names(this.directory)
    const tip = names.filter((name) => name.startsWith("g")).at(-1)
    if (tip === undefined || names.includes(`x${tip.slice(1)}`)) return undefined
    const { content, mtime } = this.disk.at(`${this.directory}/${tip}`)!
    return mtime === 0 || mtime + ttl <= this.wall() ? undefined : { ownerId: ownerOf(content) }
  }
}

const ownerOf = (record: string): string => JSON.parse(record).ownerId

/** A model of the machine on which `make` makes file backends. */
export const fileModel = (make: typeof File.make) => (of: Simulation.Surroundings): Simulation.Model => {
  const { oracles, seed, world } = of
  const drawn = chance(seed, 20)
  const disk = new Disk([1, 1, 10, 100][Math.floor(drawn() * 4)]!)
  const provable = drawn() < 0.75
  const watched = drawn() < 0.7
  // Steps take about a millisecond on some disks, and a tenth of that on others.
  const pace = drawn() < 0.5 ? 1 : 0.1
  for (const directory of ["/locks", "/locks/tmp", "/locks/n-"]) disk.makeDirectory(directory)
  const processes = new Map<number, Process>()
  const watchers = new Set<{ readonly directory: string; readonly tell: () => void }>()
  disk.onChange = (directory) => {
    for (const watcher of watchers) if (watcher.directory === directory) watcher.tell()
  }
  const wall = () => [...processes.values()][0]!.clock.currentTimeMillisUnsafe()
  const chains = new Map<string, Chain>()
  const chainOf = (key: string): Chain => {
    let chain = chains.get(key)
    if (chain === undefined) {
      chain = new Chain(key, disk, wall)
      chains.set(key, chain)
    }
    return chain
  }

  // What a step did to a lock, as far as the oracles want to know.
  const onStep = (method: string, name: string): void => {
    const [, key, entry = ""] = /^\/locks\/n-\/l-([^/]+)(?:\/(.*))?$/.exec(name) ?? []
    if (key === undefined) return
    const { grants } = chainOf(key)
    const directory = `${root}/n-/l-${key}`
    if (method === "link" || method === "rename") {
      const record = method === "link" ? entry : disk.names(directory)[0]!
      const ownerId = ownerOf(disk.at(`${directory}/${record}`)!.content)
      const fence = Number(record.slice(1))
      grants.push({ ownerId, fence, expiresAt: Infinity, from: world.now, until: Infinity })
      return
    }
    const fence = Number(entry.slice(1))
    const isOver = (method === "write" && entry.startsWith("x")) || method === "release" || method === "remove"
    if (!isOver) return
    for (const grant of grants) {
      if (grant.fence !== fence || grant.until < Infinity) continue
      grant.until = world.now
      if (method !== "write") continue
      // Broken with `now`: its holder may trust it until its lease would have expired.
      const { mtime } = disk.at(`${directory}/g${entry.slice(1)}`) ?? { mtime: 0 }
      oracles.onOverruled("operator", grant.ownerId, world.now + Math.max(0, mtime + ttl - wall()))
    }
  }

  return {
    truthOf: chainOf,
    // A record that has to be watched because the clock was set back, and then the one below it.
    mostUntilFree: 2 * (ttl + 300) + 2000,
    open: (process) => {
      processes.set(process.id, process)
      let isOpen = false
      const step = <A>(method: string, name: string, run: () => Answer<A>) =>
        isOpen && (!name.startsWith("/locks/tmp/") || method === "touch") && !name.startsWith("/proc/self")
          ? stepOf(of, process, pace, method, name, () => {
            const answer = run()
            if (!PlatformError.isPlatformError(answer)) onStep(method, name)
            return answer
          })
          : Effect.suspend(() => toEffect(run()))
      const fs = fileSystemOf(disk, step, () => process.clock.currentTimeMillisUnsafe(), {
        readFileString: (name) => step("read", name, () => procFile(name, process, processes)),
        readLink: (name) => provable ? Effect.succeed(`${name.slice(-3)}:[1]`) : Effect.fail(missing),
        watch: (directory, options) =>
          watched
            ? watch(world, process, directory, watchers, options?.onReady)
            : Stream.fail(failure("Unknown", "EMFILE"))
      })
      return Effect.acquireUseRelease(
        Effect.sync(() => setPid(pidOf(process.id))),
        () =>
          make({ directory: root }).pipe(
            Effect.provideService(FileSystem.FileSystem, fs),
            Effect.provideService(Path.Path, path)
          ),
        (pid) => Effect.sync(() => setPid(pid))
      ).pipe(
        Effect.map((service) => {
          isOpen = true
          return listening(service, world, process, chainOf, oracles)
        })
      )
    }
  }
}

type Oracles = Simulation.Surroundings["oracles"]

/** The backend, with whom it gave what noted where it is heard. */
const listening = (
  service: LockBackend["Service"],
  world: World,
  process: Process,
  chainOf: (key: string) => Chain,
  oracles: Oracles
): LockBackend["Service"] => {
  const { release, renew, tryAcquire } = service
  const released = new Set<string>()
  const during = <A, E>(budget: Duration.Duration, key: string | undefined, verb: Effect.Effect<A, E>) =>
    Effect.suspend(() => {
      process.open++
      const askedAt = world.now
      let over = false
      const trouble = () => {
        process.troubles++
        if (key !== undefined) process.isOut.add(key)
      }
      world.after(Duration.toMillis(budget) - 0.01, () => over || trouble())
      return Effect.onExit(verb, (exit) =>
        Effect.sync(() => {
          over = true
          process.open--
          if (exit._tag === "Failure") return trouble()
          if (key === undefined) return
          process.isOut.delete(key)
          process.knowsAsOf.set(key, askedAt)
        }))
    })
  return Object.assign(service, {
    tryAcquire: (request: Parameters<typeof tryAcquire>[0]) =>
      Effect.suspend(() => {
        const { budget, key, ownerId } = request
        const chain = chainOf(key)
        const before = chain.most
        return Effect.map(during(budget, key, tryAcquire(request)), (reply) => {
          world.note(`${ownerId} hears ${reply._tag}`)
          if (reply._tag === "Held") return reply
          const fence = Number(Option.getOrThrow(reply.fencingToken))
          const isKnown = chain.latest?.ownerId === ownerId && chain.latest.fence === fence
          // Whoever asked after a grant was heard of has a larger token, unless he is told again of his own.
          if (fence <= before && !isKnown) oracles.violated("order", `${ownerId} was granted ${fence} after ${before}`)
          if (released.has(ownerId)) oracles.violated("revenant", `${ownerId} was released and has the lock again`)
          if (fence > chain.most) {
            chain.most = fence
            chain.latest = { ownerId, fence }
          }
          return reply
        })
      }),
    renew: (request: Parameters<typeof renew>[0]) =>
      Effect.map(during(request.budget, undefined, renew(request)), (reply) => {
        world.note(`${request.ownerId} hears ${reply._tag}`)
        if (reply._tag === "Lost") oracles.onTold(request.ownerId)
        return reply
      }),
    release: (request: Parameters<typeof release>[0]) =>
      Effect.suspend(() => {
        const chain = chainOf(request.key)
        released.add(request.ownerId)
        if (chain.latest?.ownerId === request.ownerId) chain.latest = undefined
        return during(request.budget, undefined, release(request))
      })
  })
}

/** One step: it takes effect after a while, and its answer comes after another. */
const stepOf = <A>(
  { faults, seed, world }: Simulation.Surroundings,
  process: Process,
  pace: number,
  method: string,
  name: string,
  run: () => Answer<A>
): Effect.Effect<A, PlatformError.PlatformError> =>
  Effect.callback<A, PlatformError.PlatformError>((resume) => {
    const message = process.sent++
    const next = chance(seed, 6, process.id, message)
    const fault = faults.ofMessage(process.id, message, world.now)
    if (fault !== undefined && fault.kind !== "slow") process.hampered++
    // A step that is on its way may take effect while the process stands still; not when it is dead.
    const runner = next() < 0.5 ? process : undefined
    const answer = (result: Answer<A>) => world.after(next() * 2 * pace, () => resume(toEffect(result)), process)
    const takes = next() * 3 * pace + (fault?.kind === "slow" || fault?.kind === "late" ? fault.by : 0)
    world.after(takes, () => {
      if (process.dead) return
      if (fault?.kind === "resetBefore") {
        world.note(`p${process.id} #${message} ${method} ${name} fails`)
        answer(broken)
        return
      }
      const result = run()
      world.note(`p${process.id} #${message} ${method} ${name} ${PlatformError.isPlatformError(result) ? "no" : "yes"}`)
      answer(fault?.kind === "resetAfter" ? broken : result)
    }, runner)
  })

const broken = failure("Unknown", "EIO")

const toEffect = <A>(answer: Answer<A>): Effect.Effect<A, PlatformError.PlatformError> =>
  PlatformError.isPlatformError(answer) ? Effect.fail(answer) : Effect.succeed(answer)

const watch = (
  world: World,
  process: Process,
  directory: string,
  watchers: Set<{ readonly directory: string; readonly tell: () => void }>,
  onReady: (() => void) | undefined
): Stream.Stream<FileSystem.WatchEvent, PlatformError.PlatformError> =>
  Stream.callback((queue) =>
    Effect.acquireRelease(
      Effect.sync(() => {
        const tell = () => world.after(1, () => Queue.offerUnsafe(queue, { _tag: "Update", path: directory }), process)
        const watcher = { directory, tell }
        watchers.add(watcher)
        onReady?.()
        return watcher
      }),
      (watcher) => Effect.sync(() => watchers.delete(watcher))
    )
  )

// -----------------------------------------------------------------------------
// /proc
// -----------------------------------------------------------------------------

const pidOf = (id: number): number => 1000 + id

/** What is read of a process's own identity while its backend is made. */
const setPid = (pid: number): number => {
  const before = globalThis.process.pid
  Object.defineProperty(globalThis.process, "pid", { value: pid, configurable: true, enumerable: true })
  return before
}

const procFile = (name: string, self: Process, processes: ReadonlyMap<number, Process>): Answer<string> => {
  const [, directory, rest] = /^\/proc\/([^/]+)\/(.*)$/.exec(name) ?? []
  if (directory === "sys") return rest === "kernel/hostname" ? "machine" : "boot"
  if (rest === "mounts") return "proc /proc proc rw 0 0\n"
  const id = directory === "self" ? self.id : Number(directory) - pidOf(0)
  const found = processes.get(id)
  return found === undefined || found.dead ? missing : `${pidOf(id)} (node) S ${"0 ".repeat(18)}${id} 0`
}
