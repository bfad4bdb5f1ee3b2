/**
 * What lies between the processes and their server: latency, and the faults of messages.
 */
import * as Effect from "effect/Effect"
import { LockBackendError, Unreachable } from "../../LockError.ts"
import type { Fault, Faults } from "./Faults.ts"
import type { Process } from "./Process.ts"
import { type Chance, chance, type World } from "./World.ts"

/**
 * The name of the simulated backend.
 *
 * @category constants
 */
export const backendName = "simulated"

/**
 * A call of the port.
 *
 * @category models
 */
export interface Call {
  readonly operation: LockBackendError["operation"]
  readonly key: string
}

/**
 * The network of one simulation.
 *
 * @category models
 */
export class Network {
  private readonly world: World
  private readonly faults: Faults
  private readonly seed: number
  /** True time until which the server is away. */
  downUntil = 0

  constructor(world: World, faults: Faults, seed: number) {
    this.world = world
    this.faults = faults
    this.seed = seed
  }

  /** Sends a request; `arrive` is what the server does when it comes. */
  send<A>(process: Process, call: Call, arrive: () => A): Effect.Effect<A, LockBackendError> {
    return Effect.callback<A, LockBackendError>((resume) => {
      const { world } = this
      const message = process.sent++
      const next = chance(this.seed, 6, process.id, message)
      const fault = this.faults.ofMessage(process.id, message, world.now)
      world.note(`p${process.id} #${message} ${call.operation} ${fault?.kind ?? ""}`, fault?.by)
      if (fault !== undefined && mayLeave(call, fault)) process.hampered++
      process.open++
      let over = false
      const trouble = () => {
        process.troubles++
        if (call.operation === "acquire") process.isOut.add(call.key)
      }
      const end = (effect: Effect.Effect<A, LockBackendError>, isOut: boolean) => {
        if (over) return
        over = true
        process.open--
        if (isOut) trouble()
        else if (call.operation === "acquire") process.isOut.delete(call.key)
        resume(effect)
      }
      this.carry(fault, next, process, arrive, {
        answer: (reply, asOf) => {
          if (!over && call.operation === "acquire") process.knowsAsOf.set(call.key, asOf)
          end(Effect.succeed(reply), false)
        },
        cut: () => end(Effect.fail(connectionReset(call)), true)
      })
      return Effect.sync(() => {
        if (over) return
        over = true
        process.open--
        trouble()
      })
    })
  }

  /** Tells a process something that it did not ask for; may be late or lost as messages are. */
  tell(process: Process, hear: () => void): void {
    const message = process.sent++
    const next = chance(this.seed, 6, process.id, message)
    const fault = this.faults.ofMessage(process.id, message, this.world.now)
    const isLate = fault?.kind === "slow" || fault?.kind === "late"
    if (fault === undefined || isLate) this.world.after(latency(next) + (fault?.by ?? 0), hear, process)
  }

  private carry<A>(
    fault: Fault | undefined,
    next: Chance,
    process: Process,
    serve: () => A,
    caller: { readonly answer: (reply: A, asOf: number) => void; readonly cut: () => void }
  ): void {
    const { world } = this
    const there = latency(next)
    // A server that is away resets whatever comes.
    const arrive = (): { readonly reply: A } | undefined => world.now < this.downUntil ? undefined : { reply: serve() }
    const deliver = (after: number, back = latency(next)) =>
      world.after(after, () => {
        const served = arrive()
        const asOf = world.now
        world.after(back, () => served === undefined ? caller.cut() : caller.answer(served.reply, asOf), process)
      })
    switch (fault?.kind) {
      case "lostRequest":
        return
      case "lostReply":
        world.after(there, arrive)
        return
      case "resetBefore":
        world.after(there, caller.cut, process)
        return
      case "resetAfter":
        world.after(there, () => {
          arrive()
          world.after(latency(next), caller.cut, process)
        })
        return
      case "slow":
        deliver(there, fault.by)
        return
      case "late":
        deliver(fault.by)
        return
      case "duplicate":
        deliver(there)
        world.after(there + fault.by, arrive)
        return
      case "resent":
        world.after(there, arrive)
        deliver(there + fault.by)
        return
      default:
        deliver(there)
    }
  }
}

// A release that does not come, or a try that comes once more when its lease has expired and takes the lock anew, beyond
// the grant that the release names: what is left then ends by its ttl.
const mayLeave = ({ operation }: Call, { kind }: Fault): boolean =>
  operation === "release" || (operation === "acquire" && (kind === "late" || kind === "duplicate"))

const latency = (next: Chance): number => 1 + next() * 20

const connectionReset = ({ key, operation }: Call): LockBackendError =>
  new LockBackendError({
    backend: backendName,
    operation,
    key,
    reason: new Unreachable({ detail: "the connection was reset" })
  })
