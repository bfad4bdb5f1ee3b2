/**
 * Who waits for which key of the memory backend, first come first called.
 *
 * A key that becomes free calls one waiter, not all. The one behind it watches: if the key is still free a moment
 * later, because the one called was interrupted or does not come, it is called too. So no wake-up is lost with the
 * waiter it was given to, and a key nobody waits for costs nothing.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Latch from "effect/Latch"

/** The lines of one namespace, by key; a line without waiters does not exist. */
export type Lines = Map<string, Set<Waiter>>

/** `turn` ends the waiting, once `called`; `watch` starts the look after the waiter in front. */
export interface Waiter {
  readonly turn: Latch.Latch
  readonly watch: Latch.Latch
  called: boolean
}

/** How long the one called has the key to itself. */
export const grace = Duration.millis(50)

/** Calls the first waiter of `key`, if any; the second begins to watch. */
export const callNext = (lines: Lines, key: string, fiber: Fiber.Fiber<unknown, unknown>): void => {
  const first = firstOf(lines, key)
  if (first !== undefined) call(lines, key, fiber, first)
}

/**
 * Ends when `key` may be free: at once if it is free already, else when this waiter is called.
 *
 * `isFree` is asked on the calling fiber's clock.
 */
export const awaitTurn = (
  lines: Lines,
  key: string,
  isFree: (fiber: Fiber.Fiber<unknown, unknown>) => boolean
): Effect.Effect<void> =>
  Effect.acquireUseRelease(
    Effect.withFiberSucceed((fiber) => isFree(fiber) ? undefined : join(lines, key)),
    (waiter) =>
      waiter === undefined
        ? Effect.void
        : Effect.raceFirst(Latch.await(waiter.turn), watch(lines, key, isFree, waiter)),
    (waiter, exit) =>
      waiter === undefined || exit._tag === "Success" ?
        Effect.void :
        Effect.withFiberSucceed((fiber) => leave(lines, key, fiber, isFree(fiber), waiter))
  )

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const watch = (
  lines: Lines,
  key: string,
  isFree: (fiber: Fiber.Fiber<unknown, unknown>) => boolean,
  waiter: Waiter
): Effect.Effect<void> =>
  Latch.await(waiter.watch).pipe(
    Effect.andThen(Effect.sleep(grace)),
    Effect.andThen(Effect.withFiber((fiber) => {
      if (isFree(fiber)) {
        call(lines, key, fiber, waiter)
        return Effect.void
      }
      Latch.closeUnsafe(waiter.watch)
      return watch(lines, key, isFree, waiter)
    }))
  )

const join = (lines: Lines, key: string): Waiter => {
  const waiter: Waiter = { turn: Latch.makeUnsafe(false), watch: Latch.makeUnsafe(false), called: false }
  const line = lines.get(key)
  if (line === undefined) lines.set(key, new Set([waiter]))
  else line.add(waiter)
  return waiter
}

// The latches are opened by a task of their own: a waiter runs at once when its latch opens, and must not run inside
// the release that called it, nor the next inside its own.
const call = (lines: Lines, key: string, fiber: Fiber.Fiber<unknown, unknown>, waiter: Waiter): void => {
  remove(lines, key, waiter)
  waiter.called = true
  openSoon(fiber, waiter.turn)
  watchNext(lines, key, fiber)
}

// One that goes unserved passes on what it was told: its call, or its watch.
const leave = (
  lines: Lines,
  key: string,
  fiber: Fiber.Fiber<unknown, unknown>,
  free: boolean,
  waiter: Waiter
): void => {
  remove(lines, key, waiter)
  if (!free) return
  if (waiter.called) callNext(lines, key, fiber)
  else if (Latch.isOpen(waiter.watch)) watchNext(lines, key, fiber)
}

const watchNext = (lines: Lines, key: string, fiber: Fiber.Fiber<unknown, unknown>): void => {
  const first = firstOf(lines, key)
  if (first !== undefined) openSoon(fiber, first.watch)
}

const openSoon = (fiber: Fiber.Fiber<unknown, unknown>, latch: Latch.Latch): void =>
  fiber.currentDispatcher.scheduleTask(() => Latch.openUnsafe(latch), 0)

const firstOf = (lines: Lines, key: string): Waiter | undefined => {
  const line = lines.get(key)
  if (line === undefined) return undefined
  for (const waiter of line) return waiter
  return undefined
}

const remove = (lines: Lines, key: string, waiter: Waiter): void => {
  const line = lines.get(key)
  if (line !== undefined && line.delete(waiter) && line.size === 0) lines.delete(key)
}
