/**
 * Owner ids whose life is over, remembered in this process: a `tryAcquire` of one that arrives late must not take the key.
 *
 * An id with an attempt that stayed unanswered is dead for a minute. One whose attempts all were answered is remembered
 * only while it is among the last `ringSize`: a minute's worth of a busy program's ids would be gigabytes.
 */

/** The dead; bounded by the ring and by the unanswered of one minute. */
export interface Tombstones {
  readonly answered: Set<string>
  readonly ring: Array<string>
  next: number
  readonly unanswered: Map<string, number>
}

/** How many released grants are remembered. */
export const ringSize = 1024

/** How long an owner id of unknown outcome stays dead, in milliseconds. */
export const tombstoneLife = 60_000

/** Nobody is dead yet. */
export const make = (): Tombstones => ({ answered: new Set(), ring: [], next: 0, unanswered: new Map() })

/** Whether `ownerId` is dead. */
export const has = (self: Tombstones, ownerId: string, now: number): boolean => {
  prune(self, now)
  return self.answered.has(ownerId) || self.unanswered.has(ownerId)
}

/** Ends the life of `ownerId`. */
export const add = (self: Tombstones, ownerId: string, answered: boolean, now: number): void => {
  prune(self, now)
  if (!answered) {
    self.unanswered.delete(ownerId)
    self.unanswered.set(ownerId, now + tombstoneLife)
  } else if (!self.answered.has(ownerId)) {
    const oldest = self.ring[self.next]
    if (oldest !== undefined) self.answered.delete(oldest)
    self.answered.add(ownerId)
    self.ring[self.next] = ownerId
    self.next = (self.next + 1) % ringSize
  }
}

// Oldest first: a map keeps the order of insertion, and all live equally long.
const prune = (self: Tombstones, now: number): void => {
  if (self.unanswered.size === 0) return
  for (const [ownerId, until] of self.unanswered) {
    if (until > now) return
    self.unanswered.delete(ownerId)
  }
}
