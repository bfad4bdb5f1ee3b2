/**
 * What the nemesis will do: decided beforehand, from a seed, so that a run can be done again. What comes of it depends on
 * the machine's scheduling, which no seed decides.
 */

/** Of workers and the links between them and the servers. */
export type CommonFault =
  | "kill"
  | "pause"
  | "clock"
  | "latency"
  | "drip"
  | "black hole"
  | "lost replies"
  | "lost requests"
  | "reset"
  | "half-close"
  | "refuse"
  | "disk errors"

/** One fault: what, when, to whom, for how long. Times in milliseconds from the beginning. */
export interface Stroke {
  /** A `CommonFault`, or one that the arena names. */
  readonly fault: string
  readonly at: number
  readonly lasts: number
  readonly worker: number
  readonly server: number
  /** From 0 to 1: how bad. */
  readonly size: number
}

/** A fault that an arena can suffer. */
export interface Choice {
  readonly fault: string
  readonly weight: number
  /** What one fault at a time may happen to. */
  readonly target: "worker" | "link" | "server"
  /** Milliseconds, from and to. */
  readonly lasts: readonly [number, number]
}

export interface PlanOptions {
  readonly seed: string
  readonly millis: number
  readonly workers: number
  readonly servers: number
  readonly choices: ReadonlyArray<Choice>
  /** Milliseconds between two faults, from and to. */
  readonly every: readonly [number, number]
}

export const plan = ({ choices, every, millis, seed, servers, workers }: PlanOptions): ReadonlyArray<Stroke> => {
  const random = randomOf(seed)
  const between = ([from, to]: readonly [number, number]) => Math.round(from + random() * (to - from))
  const total = choices.reduce((sum, { weight }) => sum + weight, 0)
  const busyUntil = new Map<string, number>()
  const strokes: Array<Stroke> = []
  // The workers have a moment to begin.
  for (let at = between(every); at < millis; at += between(every)) {
    let left = random() * total
    const choice = choices.find(({ weight }) => (left -= weight) < 0) ?? choices[0]
    if (choice === undefined) break
    const worker = Math.floor(random() * workers)
    const server = Math.floor(random() * servers)
    const size = random()
    const lasts = Math.min(between(choice.lasts), Math.max(millis - at, 1))
    // Servers fail one at a time: what is tortured are locks, not the patience of a cluster without a majority.
    const target = { worker: `worker ${worker}`, link: `link ${worker} ${server}`, server: "server" }[choice.target]
    if ((busyUntil.get(target) ?? 0) > at) continue
    busyUntil.set(target, at + lasts + settling)
    strokes.push({ fault: choice.fault, at, lasts, worker, server, size })
  }
  return strokes
}

/** As a line each. */
export const showPlan = (strokes: ReadonlyArray<Stroke>): string => strokes.map(showStroke).join("\n")

export const showStroke = ({ at, fault, lasts, server, size, worker }: Stroke): string =>
  `${(at / 1000).toFixed(2)} s: ${fault}, ${lasts} ms, worker ${worker}, server ${server}, size ${size.toFixed(2)}`

const settling = 300

/** Mulberry32 of a hash of the seed: numbers from 0 to 1. */
const randomOf = (seed: string): () => number => {
  let state = 2166136261
  for (const character of seed) state = Math.imul(state ^ character.codePointAt(0)!, 16777619)
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}
