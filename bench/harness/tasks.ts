/** What a child process can be asked to do, and what it answers. */
import type { Place, Reference } from "./Contestant.ts"
import type { Turn } from "./turns.ts"

/** The contestant and its floors take turns, slice by slice, in one process: what disturbs one, disturbs all. */
export interface SlicesTask {
  readonly kind: "slices"
  readonly contestant: Reference
  readonly floors: ReadonlyArray<Reference>
  readonly place: Place
  /** Callers at once, each with a key of its own. */
  readonly keys: number
  readonly slices: number
  readonly slice: number
  /** How long each runs before anything is measured, in milliseconds: until its code is compiled. */
  readonly warmUp: number
}

export interface Slice {
  readonly perSecond: number
  /** Of acquiring and releasing, in milliseconds. */
  readonly p50: number
  readonly p99: number
}

export interface SlicesAnswer {
  readonly slices: ReadonlyArray<Slice>
  /** By floor: before and after each slice of the contestant, so one more than it has; empty if it is not installed. */
  readonly floors: ReadonlyArray<ReadonlyArray<Slice>>
  readonly violations: number
}

/** Callers of one process, all at once, on one key. */
export interface RoundTask {
  readonly kind: "rounds"
  readonly contestant: Reference
  readonly place: Place
  readonly waiters: number
  readonly rounds: number
  readonly within: number
  /** What a holder does, in milliseconds. */
  readonly work: number
  /** How long rounds run before one is counted, in milliseconds. */
  readonly warmUp: number
}

export interface Round {
  readonly milliseconds: number
  readonly turns: ReadonlyArray<Turn>
}

/**
 * One process of many. It warms up by itself, reports `ready`, and begins when it is told to; the crowd warms up together
 * then, and what comes after that is counted.
 */
export interface MemberTask {
  readonly kind: "member"
  readonly contestant: Reference
  readonly place: Place
  readonly member: number
  readonly waiters: number
  readonly milliseconds: number
  readonly work: number
  /** The longest that a caller rests between two locks, in milliseconds. */
  readonly rest: number
  /** How long it takes a lock of its own again and again at first, in milliseconds. */
  readonly warmUp: number
  /** How long the crowd runs before its turns are counted, in milliseconds. */
  readonly runIn: number
}

/** One caller, through states that the parent brings about in between. */
export interface PhasesTask {
  readonly kind: "phases"
  readonly contestant: Reference
  readonly place: Place
  readonly phases: number
  readonly milliseconds: number
}

export interface Phase {
  readonly done: number
  readonly milliseconds: number
  /** The longest acquisition with its release, also of one that did not end. */
  readonly longest: number
  readonly violations: number
}

/** Holds many leases and watches their renewal. */
export interface RenewalTask {
  readonly kind: "renewal"
  readonly backend: "memory" | "redis"
  readonly place: Place
  readonly leases: number
  readonly ttl: number
  readonly milliseconds: number
}

export interface RenewalAnswer {
  readonly acquiredPerSecond: number
  /** Of one core: 1 is all of it. */
  readonly cpu: number
  /** Of heap, for all leases together. */
  readonly megabytes: number
  readonly renewalsPerSecond: number
  /** By lease that was looked at: how long after its due time it was renewed, in milliseconds. */
  readonly lateness: ReadonlyArray<number>
  readonly lost: number
  /** The longest that the event loop stood still, in milliseconds. */
  readonly stalled: number
}

export type Task = SlicesTask | RoundTask | MemberTask | PhasesTask | RenewalTask
