/**
 * Stands for the server of your own: a key-value store with revisions and expiry, which answers after a moment.
 */
import type { Entry, Store } from "./KeyValueLock.ts"

interface Kept extends Omit<Entry, "expiresIn"> {
  readonly expiresAt: number
}

export const make = (): Store => {
  const entries = new Map<string, Kept>()
  let revision = 0n

  const live = (name: string): Kept | undefined => {
    const entry = entries.get(name)
    return entry !== undefined && entry.expiresAt > performance.now() ? entry : undefined
  }
  // Each request is one step, as on a real server; only its answer takes time.
  const answer = <A>(value: A): Promise<A> => new Promise((resolve) => setImmediate(resolve, value))

  return {
    get: (name) => {
      const entry = live(name)
      return answer(entry === undefined ? undefined : { ...entry, expiresIn: entry.expiresAt - performance.now() })
    },
    putIfAbsent: (name, value, ttl) => {
      if (live(name) !== undefined) return answer(undefined)
      revision++
      entries.set(name, { value, created: revision, version: revision, expiresAt: performance.now() + ttl })
      return answer(revision)
    },
    replace: (name, version, value, ttl) => {
      const entry = live(name)
      if (entry?.version !== version) return answer(false)
      revision++
      entries.set(name, { value, created: entry.created, version: revision, expiresAt: performance.now() + ttl })
      return answer(true)
    },
    remove: (name, version) => answer(live(name)?.version === version && entries.delete(name))
  }
}
