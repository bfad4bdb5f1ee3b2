/** Tells what happens while it happens: a line for everything that matters, one line for many ordinary increments. */
import { Console, Effect, Option } from "effect"
import type { Entry, Signalled } from "./journal.ts"
import type { WorkerEvent } from "./workerProtocol.ts"

export interface Timeline {
  readonly chapter: (title: string) => Effect.Effect<void>
  readonly tell: (entry: Entry) => Effect.Effect<void>
}

export const make = (options: {
  readonly workers: ReadonlyArray<string>
  readonly startedAt: number
  readonly colour: boolean
}): Timeline => {
  const { colour, startedAt, workers } = options
  const teller = new Teller(workers)

  const paint = (code: number, text: string) => colour ? `\u001b[${code}m${text}\u001b[0m` : text
  const format = ({ at, text, who }: Line) => {
    const time = `${((at - startedAt) / 1000).toFixed(2).padStart(6)} s`
    return `${time}  ${paint(workers.includes(who) ? 32 + workers.indexOf(who) : 2, who.padEnd(8))}  ${text}`
  }
  const print = (lines: () => ReadonlyArray<string>) =>
    Effect.suspend(() => Effect.forEach(lines(), (line) => Console.log(line), { discard: true }))

  return {
    chapter: (title) => print(() => [...teller.ordinaryIncrements().map(format), "", paint(1, title)]),
    tell: (entry) => print(() => teller.hear(entry).map(format))
  }
}

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

interface Line {
  readonly at: number
  readonly who: string
  readonly text: string
}

interface Replacement {
  readonly of: string
  readonly signal: Signalled["signal"]
  readonly at: number
  readonly by?: string
}

class Teller {
  private readonly workers: ReadonlyArray<string>
  private readonly waiting = new Set<string>()
  private readonly lingering = new Set<string>()
  private readonly trustedUntil = new Map<string, number>()
  private readonly fences = new Map<string, Option.Option<bigint>>()
  private readonly increments = new Map<string, number>()
  private replacement: Replacement | undefined
  private latest = 0

  constructor(workers: ReadonlyArray<string>) {
    this.workers = workers
  }

  hear({ event, worker }: Entry): ReadonlyArray<Line> {
    this.latest = event.at
    const say = (text: string, who = worker): ReadonlyArray<Line> => [{ at: event.at, who, text }]
    switch (event._tag) {
      case "Started":
        return say(`starts, process ${event.pid}`)
      case "Waits":
        this.waiting.add(worker)
        return []
      case "Holds":
        this.waiting.delete(worker)
        this.trustedUntil.set(worker, event.trustedUntil)
        this.fences.set(worker, event.fence)
        return this.tookOver(worker, event).flatMap((text) => say(text))
      case "Renewed":
        this.trustedUntil.set(worker, event.trustedUntil)
        return this.lingering.has(worker)
          ? say(`renews its lease: trusted for another ${seconds(event.trustedUntil - event.at)}`)
          : []
      case "Lingers": {
        this.lingering.add(worker)
        const fence = this.fences.get(worker) ?? Option.none()
        const how = Option.isSome(fence) ? `holds the lock (token ${short(fence)})` : "is at work, without a lock"
        return say(`${how}, has read ${event.read}, has not written yet`)
      }
      case "Wrote":
        return this.wrote(worker, event, say)
      case "Ended":
        return Option.isSome(event.lost)
          ? say(`is interrupted with LockLost(${event.lost.value}): trust ended ${seconds(event.at - event.until)} ago`)
          : []
      case "Signalled": {
        if (event.signal === "SIGCONT") return say(`SIGCONT to ${worker}: it wakes up`, "main")
        this.replacement = { of: worker, signal: event.signal, at: event.at }
        const others = this.workers.filter((other) => this.waiting.has(other))
        return say(`${event.signal} to ${worker}${others.length === 0 ? "" : `; ${others.join(", ")} wait`}`, "main")
      }
    }
  }

  /** One line for all that were not told yet. */
  ordinaryIncrements(): ReadonlyArray<Line> {
    const each = this.workers.flatMap((worker) => {
      const n = this.increments.get(worker)
      return n === undefined ? [] : [`${worker} ${n}`]
    })
    const total = [...this.increments.values()].reduce((sum, n) => sum + n, 0)
    this.increments.clear()
    return total === 0 ? [] : [{ at: this.latest, who: "", text: `${total} ordinary increments: ${each.join(", ")}` }]
  }

  private tookOver(worker: string, { at, fence }: WorkerEvent & { _tag: "Holds" }): ReadonlyArray<string> {
    const { replacement } = this
    if (replacement === undefined || replacement.by !== undefined || replacement.of === worker) return []
    this.replacement = { ...replacement, by: worker }
    if (Option.isNone(fence)) return ["works on: there is no lock that would keep it out"]
    const left = (this.trustedUntil.get(replacement.of) ?? at) - at
    const why = left <= 0
      ? `${replacement.of}'s lease has expired`
      : replacement.signal === "SIGKILL"
      ? `${replacement.of} is proven dead, ${seconds(left)} before its lease would have ended`
      : `but ${replacement.of}'s lease had ${seconds(left)} left`
    return [`takes over ${seconds(at - replacement.at)} later (token ${short(fence)}): ${why}`]
  }

  private wrote(
    worker: string,
    event: WorkerEvent & { _tag: "Wrote" },
    say: (text: string, who?: string) => ReadonlyArray<Line>
  ): ReadonlyArray<Line> {
    const write = `${worker}'s ${event.late ? "late write" : "write"} of ${event.value}`
    this.lingering.delete(worker)
    if (event.outcome === "refused") {
      const why = `its token ${short(event.fence)} is older than ${short(event.highest)}`
      return say(`refuses ${write}: ${why}`, "register")
    }
    if (event.late) return say(`accepts ${write}: there is no token to compare`, "register")
    if (this.replacement?.by === worker) {
      this.replacement = undefined
      return say(`writes ${event.value}`)
    }
    this.increments.set(worker, (this.increments.get(worker) ?? 0) + 1)
    return []
  }
}

/** The end of a token, which is long: enough to tell one from the next. */
const short = Option.match({
  onNone: () => "none",
  onSome: (fence: bigint) => fence < 10_000n ? String(fence) : `…${String(fence).slice(-4)}`
})

const seconds = (millis: number): string => `${(millis / 1000).toFixed(2)} s`
