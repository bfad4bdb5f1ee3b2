/**
 * What happened in a run: what the checker judges.
 *
 * Times are milliseconds of the host's monotonic clock. Every process of a machine reads the same one, so what different
 * processes say can be compared; the library itself never does that.
 */

/** Milliseconds on the host's monotonic clock. */
export const hostTime = (): number => Number(process.hrtime.bigint()) / 1e6

/** A read or a write, as the register saw it arrive. */
export interface Contact {
  readonly kind: "read" | "write"
  readonly key: string
  readonly hold: string
  /** The life of a worker that sent it: a worker that was killed and started again is another. */
  readonly life: string
  /** None where the backend has no fencing tokens. */
  readonly fence: bigint | undefined
  /** When it was sent, and until when its lease was trusted then. */
  readonly at: number
  readonly deadline: number
  readonly receivedAt: number
  readonly accepted: boolean
}

/** One hold of a lock, as its holder told it. */
export interface Hold {
  readonly id: string
  readonly key: string
  readonly life: string
  readonly fence: bigint | undefined
  readonly askedAt: number
  /** When the holder had the lease in its hands. */
  readonly grantedAt: number
  /** Until when the lease was trusted, as far as its holder told: renewals move it. */
  deadline: number
  /** When the holder knew that its trust was over; before the release was sent, where it gave the lease back. */
  endedAt?: number
  /** When the release, or what the loss of the lease entails, was done. */
  returnedAt?: number
}

/** What ends trust without its holder telling. */
export interface Upheavals {
  /** When lives were ended by `kill`: before the signal was sent. */
  readonly kills: ReadonlyMap<string, number>
  /** When wall clocks were set, before it was: trust may end early by that, and what was claimed before is void. */
  readonly skews: ReadonlyArray<{ readonly life: string; readonly at: number }>
  /** When a backend that may forget was made to, before it did: nobody's trust of before counts any more. */
  readonly amnesias: ReadonlyArray<number>
}

/** A run, as far as safety is concerned. */
export interface History extends Upheavals {
  /** In the order of their arrival. */
  readonly contacts: ReadonlyArray<Contact>
  readonly holds: ReadonlyArray<Hold>
  readonly counters: ReadonlyMap<string, { readonly value: number; readonly written: number }>
}

/** What came after the faults, and what was left. */
export interface Aftermath {
  /** Milliseconds from the end of all faults until each key was acquired anew; `undefined`: it was not, in time. */
  readonly recoveries: ReadonlyMap<string, number | undefined>
  /** What should not be there at the end, in words: keys, leases, file descriptors, processes that did not end. */
  readonly residue: ReadonlyArray<string>
  /** What the processes wrote to standard error, and unexpected ends of theirs. */
  readonly complaints: ReadonlyArray<string>
}
