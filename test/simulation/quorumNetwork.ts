/**
 * What lies between processes and the nodes of a quorum: every request may be lost, late or cut, each node may be down,
 * stand still, or be unreachable for one process. A connection keeps requests in order; one that comes late was sent over
 * another, before.
 */
import { Duration, Effect } from "effect"
import type { QuorumNode } from "../../src/layers/internal/quorumNode.ts"
import { type BackendReason, TimedOut, Unreachable } from "../../src/LockError.ts"
import type { Faults } from "../../src/testing/simulation/Faults.ts"
import type { Process } from "../../src/testing/simulation/Process.ts"
import { chance, type World } from "../../src/testing/simulation/World.ts"
import type { ModelNode } from "./quorumModel.ts"

/** What one process has to one node: how often it was connected anew, and when the last request arrives. */
interface Link {
  resets: number
  last: number
}

/** The network of one simulation. */
export class QuorumNetwork {
  /** Pairs of process and node that don't hear each other, and until when. */
  readonly cut = new Map<string, number>()
  private readonly links = new Map<string, Link>()
  private readonly world: World
  private readonly faults: Faults
  private readonly seed: number

  constructor(world: World, faults: Faults, seed: number) {
    this.world = world
    this.faults = faults
    this.seed = seed
  }

  private linkOf(process: Process, node: ModelNode): Link {
    const name = `${process.id}/${node.options.id}`
    const link = this.links.get(name) ?? { resets: 0, last: 0 }
    this.links.set(name, link)
    return link
  }

  /** The node as one process has it. */
  nodeOf(process: Process, node: ModelNode): QuorumNode {
    const send = <A>(operation: string, timeout: number, work: () => A) =>
      this.send(process, node, operation, timeout, work)
    return {
      name: node.name,
      isReady: () => !node.isDown,
      connections: () => node.life + 1 + this.linkOf(process, node).resets,
      greet: (timeout) => send("greet", timeout, () => node.greet()),
      take: (take, timeout) => send("acquire", timeout, () => node.take(take)),
      renew: (renewal, timeout) => send("renew", timeout, () => node.renew(renewal)),
      release: (release, timeout) => send("release", timeout, () => node.release(release)),
      inspect: (_, timeout) => send("inspect", timeout, () => node.inspect()),
      break: () => Effect.die("nobody breaks locks here"),
      list: () => Effect.die("nobody lists locks here")
    }
  }

  private send<A>(
    process: Process,
    node: ModelNode,
    operation: string,
    timeout: number,
    work: () => A
  ): Effect.Effect<A, BackendReason> {
    return Effect.callback<A, BackendReason>((resume) => {
      const { world } = this
      const message = process.sent++
      const next = chance(this.seed, 6, process.id, message)
      const fault = this.faults.ofMessage(process.id, message, world.now)
      world.note(`p${process.id} #${message} ${operation} ${node.name} ${fault?.kind ?? ""}`, fault?.by)
      if (fault !== undefined) {
        process.troubles++
        // Answers that are slow leave nothing.
        if (fault.kind !== "slow") process.hampered++
      }
      process.open++
      let over = false
      const end = (effect: Effect.Effect<A, BackendReason>, isOut: boolean) => {
        if (over) return
        over = true
        timer.cancelled = true
        process.open--
        if (isOut) process.troubles++
        resume(effect)
      }
      const silent = new TimedOut({ detail: `${node.name} is silent`, after: Duration.millis(timeout) })
      const timer = world.after(timeout, () => end(Effect.fail(silent), true), process)
      const fail = () => end(Effect.fail(new Unreachable({ detail: `${node.name} cut the connection` })), true)
      const isCut = () => (this.cut.get(`${process.id}/${node.options.id}`) ?? 0) > world.now

      const arrive = (then: (reply: A) => void): void => {
        if (node.isDown || isCut()) {
          process.hampered++
          return
        }
        if (node.stoppedUntil > world.now) {
          world.after(node.stoppedUntil - world.now, () => arrive(then))
          return
        }
        then(work())
      }
      const answer = (reply: A, asOf: number) => {
        // A connection that was made anew brings answers only to what was sent again over it: here, all of it is.
        if (node.isDown || isCut()) return
        if (!over && operation === "acquire") process.knowsAsOf.set("lock", asOf)
        end(Effect.succeed(reply), false)
      }
      const deliver = (after: number, back = latency(next)) =>
        world.after(after, () =>
          arrive((reply) => {
            const asOf = world.now
            world.after(back, () => answer(reply, asOf), process)
          }))
      const link = this.linkOf(process, node)
      const there = Math.max(latency(next), link.last - world.now)
      link.last = world.now + there
      switch (fault?.kind) {
        case "lostRequest":
          break
        case "lostReply":
          world.after(there, () => arrive(() => {}))
          break
        case "resetBefore":
          link.resets++
          world.after(there, fail, process)
          break
        case "resetAfter":
          link.resets++
          world.after(there, () => {
            arrive(() => {})
            world.after(latency(next), fail, process)
          })
          break
        case "slow":
          deliver(there, fault.by)
          break
        case "late":
          link.resets++
          deliver(fault.by)
          break
        default:
          deliver(there)
      }
      return Effect.sync(() => {
        if (over) return
        over = true
        timer.cancelled = true
        process.open--
        process.troubles++
      })
    })
  }
}

const latency = (next: () => number): number => 1 + next() * 10
