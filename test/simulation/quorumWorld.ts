/**
 * Redlock as something that simulated processes share: its own code, on model masters.
 *
 * What is judged beside what the simulation judges anyway: no two leases are trusted at once, a try that failed leaves
 * nothing on a master that can be reached, and nothing is left in a process or on a master in the end.
 */
import { Duration, Effect, Option } from "effect"
import * as Quorum from "../../src/layers/internal/quorum.ts"
import * as Acquire from "../../src/layers/internal/quorumAcquire.ts"
import * as Verbs from "../../src/layers/internal/quorumVerbs.ts"
import * as Lease from "../../src/Lease.ts"
import {
  type Acquired,
  type Held,
  type Implementation,
  LockBackend,
  type Lost,
  type Renewed
} from "../../src/LockBackend.ts"
import { type BackendReason, LockBackendError } from "../../src/LockError.ts"
import { healedAt, ttl } from "../../src/testing/simulation/Faults.ts"
import type { Grant, Model, Surroundings } from "../../src/testing/simulation/Model.ts"
import type { Oracles } from "../../src/testing/simulation/Oracles.ts"
import { instanceOf } from "../../src/testing/simulation/Place.ts"
import type { Process } from "../../src/testing/simulation/Process.ts"
import { chance, type World } from "../../src/testing/simulation/World.ts"
import { ModelNode } from "./quorumModel.ts"
import { QuorumNetwork } from "./quorumNetwork.ts"

/**
 * The masters and what goes wrong with them, by the probability per look at one (five a second).
 *
 * - `count`: how many there are, default 5; `down`: so many of them are from the beginning, and stay so.
 * - `crash`, `forget`: one is killed and started again, with its memory or without; `stop`: it stands still.
 * - `cut`: it and one process don't hear each other.
 * - `skew`: by how many milliseconds their clocks are ahead or behind at most.
 * - `counts`: they give tokens by counters of their own.
 * - `nodeTimeout`: how long each is waited for, in milliseconds.
 */
export interface Masters {
  readonly count?: number
  readonly down?: number
  readonly crash?: number
  readonly forget?: number
  readonly stop?: number
  readonly cut?: number
  readonly skew?: number
  readonly counts?: boolean
  readonly nodeTimeout?: number
}

/** Longer than any lease of the simulation, and than clocks differ. */
const maxTtl = 2 * ttl
/** How soon what a failed try has placed is gone from the masters that can be reached: one way, and some. */
const mostUntilClean = 60
/** By how much a client's clock may be wrong. */
const mostRate = 0.005

/** A quorum of masters, for `processes` processes; whoever comes after them finds everything healed. */
export const quorumOf = (masters: Masters, processes: number) => (of: Surroundings): Model => {
  const { faults, oracles, seed, world } = of
  const places: Array<{ readonly process: Process; readonly backend: LockBackend["Service"] }> = []
  const quorums: Array<{ readonly process: Process; readonly quorum: Quorum.Quorum }> = []
  const grants: Array<Grant> = []
  const draws = chance(seed, 20)
  const nodes = Array.from({ length: masters.count ?? 5 }, (_, id) => {
    const offset = (2 * draws() - 1) * (masters.skew ?? 0)
    return new ModelNode(world, { id, rate: of.rate(), offset, counts: masters.counts === true }, oracles, grants)
  })
  const down = nodes.slice(0, masters.down ?? 0)
  for (const node of down) node.kill()
  const network = new QuorumNetwork(world, faults, seed)
  disturb(of, masters, nodes, network, processes)

  const heal = () => {
    for (const { process, quorum: { claims, stragglers } } of quorums) {
      if (process.dead || claims.size + stragglers.size === 0) continue
      oracles.violated("rest", `process ${process.id} ended with ${claims.size} claims, ${stragglers.size} fibers`)
    }
    const isCalm = !isDisturbed(masters) && faults.happened.every(({ kind }) => kind === "interrupt")
    const left = nodes.find(({ holder }) => holder !== undefined)
    if (isCalm && left !== undefined) {
      oracles.violated("residue", `${left.holder?.ownerId} still had ${left.name} at the end`)
    }
    network.cut.clear()
    for (const node of nodes) if (!down.includes(node)) node.heal()
  }

  return {
    truthOf: () => ({ holder: () => trusted(places), grants }),
    open: (process) =>
      Effect.gen(function*() {
        if (process.id > processes) heal()
        const settings = { drift: 0.01, nodeTimeout: masters.nodeTimeout, maxTtl, restartGuard: true }
        const quorum = yield* Quorum.make(nodes.map((node) => network.nodeOf(process, node)), settings)
        quorums.push({ process, quorum })
        const watch = watcher(world, process, nodes, oracles)
        const backend = yield* LockBackend.make(implementation(quorum, watch))
        places.push({ process, backend })
        return backend
      })
  }
}

/** Whether masters do not always answer, which no message tells of. */
export const isDisturbed = ({ crash = 0, cut = 0, down = 0, forget = 0, stop = 0 }: Masters): boolean =>
  crash + cut + down + forget + stop > 0

// Who trusts a lease now. Two at once are told as one that nobody is.
const trusted = (
  places: ReadonlyArray<{ readonly process: Process; readonly backend: LockBackend["Service"] }>
): { readonly ownerId: string; readonly fence: number } | undefined => {
  const leases = places.flatMap(({ backend, process }) =>
    process.dead
      ? []
      : [...instanceOf(backend)?.leases ?? []].filter((lease) =>
        !lease.hasEnded && lease.renewal.remaining(Lease.stamp(process.clock)) > 0
      )
  )
  const [first, second] = leases
  if (first === undefined) return undefined
  const fence = Number(Option.getOrThrow(first.fencingToken))
  return second === undefined
    ? { ownerId: first.ownerId, fence }
    : { ownerId: leases.map(({ ownerId }) => ownerId).join(" and also "), fence }
}

const implementation = (quorum: Quorum.Quorum, watch: Watch): Implementation => {
  const failed = (operation: LockBackendError["operation"], key: string) => (reason: BackendReason) =>
    new LockBackendError({ backend: "quorum", operation, key, reason })
  return {
    name: "quorum",
    capabilities: {
      minTtl: Duration.millis(100),
      ttlGranularity: Duration.millis(1),
      fencing: { grade: "strict" },
      fair: false,
      lateWrites: "refused",
      drain: true
    },
    tryAcquire: (request) =>
      Effect.mapError(
        watch("acquire", request, quorum, Acquire.tryAcquire(quorum, request)),
        failed("acquire", request.key)
      ),
    renew: (request) =>
      Effect.mapError(watch("renew", request, quorum, Verbs.renew(quorum, request)), failed("renew", request.key)),
    release: (request) => Effect.mapError(Verbs.release(quorum, request), failed("release", request.key)),
    inspect: (request) => Effect.mapError(Verbs.inspect(quorum, request), failed("inspect", request.key))
  }
}

interface Request {
  readonly key: string
  readonly ownerId: string
}

type Reply = Acquired | Held | Renewed | Lost

type Watch = <A extends Reply>(
  operation: "acquire" | "renew",
  request: Request,
  quorum: Quorum.Quorum,
  self: Effect.Effect<A, BackendReason>
) => Effect.Effect<A, BackendReason>

const watcher =
  (world: World, process: Process, nodes: ReadonlyArray<ModelNode>, oracles: Oracles): Watch =>
  (operation, { key, ownerId }, quorum, self) =>
    Effect.suspend(() => {
      const attempt = quorum.claims.get(ownerId)?.attempt ?? 1
      const { active, hampered } = process
      const lives = livesOf(nodes)
      const startedAt = world.now
      // A try that failed leaves nothing on masters that can be reached, also where it was not answered.
      const onFailed = () => {
        if (process.hampered !== hampered || process.paused || process.dead || livesOf(nodes) !== lives) return
        const left = nodes.find(({ holder }) => holder?.ownerId === ownerId && holder.attempt === attempt)
        if (left === undefined) return
        oracles.violated(
          "residue",
          `${left.name} has try ${attempt} of ${ownerId}, ${mostUntilClean} ms after it failed`
        )
      }
      // What is promised is what a majority keeps, whatever clocks it is measured by.
      const onGranted = ({ grantedTtl, handle }: Acquired | Renewed) => {
        const stoodStill = world.now - startedAt - (process.active - active) > 1
        if (stoodStill || livesOf(nodes) !== lives) return
        const until = startedAt + Duration.toMillis(grantedTtl) * (1 - mostRate)
        const kept = nodes.filter((node) => node.keeps(ownerId, handle) >= until).length
        if (kept * 2 > nodes.length) return
        oracles.violated("trust", `${ownerId} was promised the lock, but only ${kept} masters keep it for so long`)
      }
      return Effect.onExit(self, (exit) =>
        Effect.sync(() => {
          const reply = exit._tag === "Success" ? exit.value : undefined
          if (reply?._tag === "Acquired" || reply?._tag === "Renewed") onGranted(reply)
          if (operation === "renew") return
          if (reply === undefined) process.isOut.add(key)
          else process.isOut.delete(key)
          if (reply?._tag !== "Acquired") world.after(mostUntilClean, onFailed)
        }))
    })

const livesOf = (nodes: ReadonlyArray<ModelNode>): string =>
  nodes.map(({ isDown, life, stoppedUntil }) => `${life}${isDown}${stoppedUntil}`).join()

const disturb = (
  { seed, world }: Surroundings,
  masters: Masters,
  nodes: ReadonlyArray<ModelNode>,
  network: QuorumNetwork,
  processes: number
): void => {
  const { crash = 0, cut = 0, forget = 0, stop = 0 } = masters
  const next = chance(seed, 11)
  if (crash + forget + stop + cut === 0) return
  for (let at = next() * 200; at < healedAt / 2; at += 50 + next() * 300) {
    const node = nodes[Math.floor(next() * nodes.length)]!
    const process = Math.floor(next() * processes)
    const by = next()
    const kind = next()
    const happens = (words: string, run: () => void) =>
      world.after(at, () => {
        if (node.isDown) return
        world.note(`${node.name} ${words}`, by)
        run()
      })
    if (kind < crash + forget) {
      const remembers = kind < crash
      happens(remembers ? "crashes" : "forgets", () => {
        node.kill()
        world.after(5 + by * 300, () => {
          world.note(`${node.name} is back`)
          node.start(remembers)
        })
      })
    } else if (kind < crash + forget + stop) {
      happens("stops", () => {
        node.stoppedUntil = world.now + by * 2 * ttl
      })
    } else if (kind < crash + forget + stop + cut) {
      happens(`is cut from p${process}`, () => {
        network.cut.set(`${process}/${node.options.id}`, world.now + by * 3 * ttl)
      })
    }
  }
}
