/**
 * What was seen unchanged, and since when: the patient way to find out that a lease is not renewed any more, for when
 * its times can't be compared with ours (another boot, a clock that was set back, a damaged record).
 */
import * as Lease from "../../Lease.ts"

/** What was last seen of each thing, oldest sighting first. */
export type Sightings = Map<string, { readonly version: string; readonly since: Lease.Stamp }>

/** Beyond this the oldest is forgotten, which only starts its time anew. */
export const most = 4096

/** Nothing seen yet. */
export const make = (): Sightings => new Map()

/**
 * How much longer, in milliseconds, `thing` must be seen as `version` to have been unchanged for `needed`; 0 or less if
 * it has been.
 *
 * `before` is read before the question was sent, `after` when the answer was there: what is counted lies between the
 * answer to the first question and the sending of the last, so nothing can have happened outside of it.
 */
export const timeLeft = (
  self: Sightings,
  thing: string,
  seen: { readonly version: string; readonly before: Lease.Stamp; readonly after: Lease.Stamp },
  needed: number
): number => {
  const known = self.get(thing)
  if (known !== undefined && known.version === seen.version) {
    return needed - Lease.elapsedForTakeover(known.since, seen.before)
  }
  self.delete(thing)
  self.set(thing, { version: seen.version, since: seen.after })
  if (self.size > most) {
    for (const oldest of self.keys()) {
      self.delete(oldest)
      break
    }
  }
  return needed
}
