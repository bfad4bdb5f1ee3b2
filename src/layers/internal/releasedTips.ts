/**
 * Locks that this process alone took lately: it need not look at such a lock before it tries to take it again. Who was
 * quicker meanwhile is found out by the taking.
 */
import * as Listing from "./fileListing.ts"

/** What this process released last, by the lock's directory; oldest first. */
export type ReleasedTips = Map<string, { readonly generation: string; readonly isAlone: boolean }>

/** Beyond this the oldest is forgotten: its lock is looked at first, as any other. */
export const most = 1024

/** None yet. */
export const make = (): ReleasedTips => new Map()

/** This process has just released the tip of a lock, which was its grant. */
export const add = (self: ReleasedTips, directory: string, generation: string): void => {
  const before = self.get(directory)
  self.delete(directory)
  self.set(directory, { generation, isAlone: before !== undefined && Listing.next(before.generation) === generation })
  if (self.size <= most) return
  for (const oldest of self.keys()) {
    self.delete(oldest)
    return
  }
}

/**
 * The tip of a lock, released, as far as this process knows; to be tried once.
 *
 * Only if the grant before it was this process's too: where others take the lock as well, most tries would be in vain,
 * and each writes a record.
 */
export const take = (self: ReleasedTips, directory: string): string | undefined => {
  const known = self.get(directory)
  if (known?.isAlone !== true) return undefined
  self.set(directory, { generation: known.generation, isAlone: false })
  return known.generation
}
