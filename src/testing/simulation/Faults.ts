/**
 * What goes wrong in a simulation, as a list: drawn from a seed by a mix, or given, so that a history can be replayed
 * with some of its faults left out.
 */
import { chance } from "./World.ts"

/**
 * A kind of fault.
 *
 * **Details**
 *
 * Of messages: `lostRequest` · `lostReply` (both unnoticed) · `resetBefore`, `resetAfter` (the connection is cut, before
 * or after the effect) · `slow` (the reply takes up to 200 ms) · `late` (the request arrives up to three ttls later) · `duplicate` (it arrives twice) · `resent`
 * (its reply is lost, and the driver sends it again within the call).
 *
 * Of processes: `pause` (SIGSTOP) · `suspend` (the machine sleeps, and its monotonic clock stands still) · `kill` ·
 * `forward`, `backward` (its wall clock is set) · `close` (its backend is closed under whoever uses it, and opened
 * again). Of calls: `interrupt`.
 *
 * Of the server: `restart` (it is away for up to 600 ms) · `forget` (the same, and it has lost everything). Of an operator,
 * who has a process of his own: `drain`, `break` (he looks who has a lock, and breaks it up to 600 ms later, the second
 * with `now`).
 *
 * @category models
 */
export type Kind = MessageKind | ProcessKind | ServerKind | OperatorKind | "interrupt"

/**
 * What can happen to one request.
 *
 * @category models
 */
export type MessageKind =
  | "lostRequest"
  | "lostReply"
  | "resetBefore"
  | "resetAfter"
  | "slow"
  | "late"
  | "duplicate"
  | "resent"

/**
 * What can happen to one process.
 *
 * @category models
 */
export type ProcessKind = "pause" | "suspend" | "kill" | "forward" | "backward" | "close"

/**
 * What can happen to the server.
 *
 * @category models
 */
export type ServerKind = "restart" | "forget"

/**
 * What an operator can do.
 *
 * @category models
 */
export type OperatorKind = "drain" | "break"

/**
 * In the place of a process: the server, the operator.
 *
 * @category constants
 */
export const ofServer = -1

/**
 * See `ofServer`.
 *
 * @category constants
 */
export const ofOperator = -2

/**
 * One fault. `at` is the number of the message, or of the call, or the time in milliseconds; `by` is how long it lasts
 * or how late it is, in milliseconds. An operator's also says which lock he means.
 *
 * @category models
 */
export interface Fault {
  readonly kind: Kind
  readonly process: number
  readonly at: number
  readonly by: number
}

/**
 * How often what goes wrong: the probability per message, per look at a process (three a second in all), per call.
 *
 * **Details**
 *
 * - `rate`: how much the clocks' rates differ from true time at most: 0.005 is half a percent.
 * - `disorder`: how often a fiber is made to yield where it need not.
 * - `renews`: `false` = leases are not renewed.
 * - `push`: in this part of the histories the server tells waiters when the lock may be free; in half of that it gives
 *   the lock to the first of them.
 * - `machine`: `"one"` = all processes run on one machine: it sleeps, and its wall clock is set, for all of them.
 * - `takeover`: `"observed"` = the server knows no time; contenders take over what was unchanged for its ttl.
 *
 * @category models
 */
export interface Mix extends Readonly<Partial<Record<Kind, number>>> {
  readonly rate?: number | undefined
  readonly disorder?: number | undefined
  readonly renews?: boolean | undefined
  readonly push?: number | undefined
  readonly machine?: "one" | undefined
  readonly takeover?: "expired" | "observed" | undefined
}

/**
 * How long a lease of the simulation lives, in milliseconds.
 *
 * @category constants
 */
export const ttl = 1000

/**
 * When drawn faults end, in milliseconds.
 *
 * @category constants
 */
export const healedAt = 20_000

const messageKinds: ReadonlyArray<MessageKind> = [
  ...["lostRequest", "lostReply", "resetBefore", "resetAfter", "slow", "late", "duplicate", "resent"] as const
]
const processKinds: ReadonlyArray<ProcessKind> = ["pause", "suspend", "kill", "forward", "backward", "close"]
const serverKinds: ReadonlyArray<ServerKind> = ["restart", "forget"]
const operatorKinds: ReadonlyArray<OperatorKind> = ["drain", "break"]
const timedKinds: ReadonlyArray<Kind> = [...processKinds, ...serverKinds, ...operatorKinds]
const longest: Partial<Record<Kind, number>> = {
  slow: 200,
  late: 3 * ttl,
  duplicate: 3 * ttl,
  resent: 200,
  pause: 3 * ttl,
  suspend: 3 * ttl,
  forward: 5 * ttl,
  backward: 5 * ttl,
  interrupt: 900,
  restart: 600,
  forget: 600,
  drain: 600,
  break: 600
}

/**
 * The faults of one history, and which of them have happened.
 *
 * @category models
 */
export class Faults {
  /** Those that met something, in order. */
  readonly happened: Array<Fault> = []
  private readonly seed: number
  private readonly mix: Mix
  private isHealed = false
  private readonly given: ReadonlyMap<string, Fault> | undefined

  constructor(seed: number, mix: Mix, given: ReadonlyArray<Fault> | undefined) {
    this.seed = seed
    this.mix = mix
    this.given = given && new Map(given.map((fault) => [placeOf(fault.kind, fault.process, fault.at), fault]))
  }

  /** What happens to a process's next message. */
  ofMessage(process: number, message: number, now: number): Fault | undefined {
    if (this.given !== undefined) return this.note(this.given.get(placeOf("late", process, message)))
    if (this.isHealed || now >= healedAt) return undefined
    return this.note(this.draw(messageKinds, chance(this.seed, 3, process, message), process, message))
  }

  /** When a call is interrupted, if it is. */
  ofCall(process: number, call: number): Fault | undefined {
    if (this.given !== undefined) return this.note(this.given.get(placeOf("interrupt", process, call)))
    return this.note(this.draw(["interrupt"], chance(this.seed, 4, process, call), process, call))
  }

  /** What happens to processes, to the server and by the operator, in the order of time; noted when it happens. */
  ofTimes(processes: number): ReadonlyArray<Fault> {
    if (this.given !== undefined) {
      return [...this.given.values()].filter(({ kind }) => timedKinds.includes(kind)).sort((a, b) => a.at - b.at)
    }
    const faults: Array<Fault> = []
    const next = chance(this.seed, 5)
    // A machine that sleeps while its wall clock is set back hides the sleep from both clocks: most histories have one
    // or the other, so that they can be judged by more than the order of fences.
    const which = next()
    const isBoth = (this.mix.suspend ?? 0) > 0 && (this.mix.backward ?? 0) > 0
    const without = !isBoth || which >= 0.96 ? undefined : which < 0.48 ? "suspend" : "backward"
    for (let at = next() * 300; at < healedAt; at += 100 + next() * 400) {
      const process = Math.floor(next() * processes)
      const fault = this.draw(timedKinds, next, process, at)
      if (fault === undefined || fault.kind === without) continue
      if (isOf(serverKinds, fault.kind)) faults.push({ ...fault, process: ofServer })
      else if (isOf(operatorKinds, fault.kind)) faults.push({ ...fault, process: ofOperator })
      else faults.push(fault)
    }
    return faults
  }

  /** Ends the faults of messages. */
  heal(): void {
    this.isHealed = true
  }

  /** Notes that a fault happened. */
  note(fault: Fault | undefined): Fault | undefined {
    if (fault !== undefined) this.happened.push(fault)
    return fault
  }

  private draw(kinds: ReadonlyArray<Kind>, next: () => number, process: number, at: number): Fault | undefined {
    let x = next()
    const by = next()
    for (const kind of kinds) {
      const probability = this.mix[kind] ?? 0
      if (x < probability) return { kind, process, at, by: by * (longest[kind] ?? 0) }
      x -= probability
    }
    return undefined
  }
}

const isOf = (kinds: ReadonlyArray<Kind>, kind: Kind): boolean => kinds.includes(kind)

// Where a fault meets something; of each class, one thing happens at one place.
const placeOf = (kind: Kind, process: number, at: number): string =>
  `${isOf(messageKinds, kind) ? "message" : isOf(timedKinds, kind) ? "time" : "call"}/${process}/${at}`
