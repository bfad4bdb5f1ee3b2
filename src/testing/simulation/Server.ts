/**
 * The model server with all its locks.
 */
import * as LockBackend from "../../LockBackend.ts"
import { clientOf } from "./Client.ts"
import { ttl } from "./Faults.ts"
import { Inbox, window } from "./Line.ts"
import type { Model, Surroundings } from "./Model.ts"
import { ServedLock } from "./ServedLock.ts"
import { chance } from "./World.ts"

// Callers of the simulation that have gone without their release.
const mostInLine = 6

/**
 * The server with all its locks. Of those that push, one half tells everybody who waits that the lock may be free, the
 * other gives it to the first of them.
 *
 * @category constructors
 */
export const serverOf = (of: Surroundings): Model => {
  const { mix, network, oracles, seed, world } = of
  const rate = of.rate()
  const locks = new Map<string, ServedLock>()
  const lockOf = (key: string): ServedLock => {
    let lock = locks.get(key)
    if (lock === undefined) {
      lock = new ServedLock(key, world, rate, (mix.duplicate ?? 0) > 0, oracles)
      locks.set(key, lock)
    }
    return lock
  }
  const draw = chance(seed, 10)
  const pushes = draw() < (mix.push ?? 0)
  const gives = pushes && draw() < 0.5
  return {
    truthOf: lockOf,
    open: (process) =>
      LockBackend.LockBackend.make(
        clientOf(lockOf, network, process, pushes, gives ? new Inbox(network, process) : undefined, oracles.onTold)
      ),
    // Whoever gave up and could not say so is given the lock once more.
    ...(gives ? { mostUntilFree: 1.05 * (ttl + mostInLine * window) } : {}),
    restart: (forgets, millis) => {
      network.downUntil = Math.max(network.downUntil, world.now + millis)
      for (const lock of locks.values()) {
        if (forgets) lock.forget()
        else lock.disconnect()
      }
    }
  }
}
