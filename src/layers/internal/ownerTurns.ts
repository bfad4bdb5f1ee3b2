/**
 * The verbs of one owner id, one after another within this process, and whether its life is over.
 *
 * A step of a verb can hang in the file system and land late. Because release waits for what runs before it, and because
 * what runs sees that the owner id was given up and undoes itself, nothing of an owner id lands after its release was
 * answered. Verbs of different owner ids never wait for each other here.
 */
import * as Effect from "effect/Effect"

/** Owner ids with a verb in flight, and nothing of the others. */
export type OwnerTurns = Map<string, Turn>

/** One owner id with a verb in flight. */
export interface Turn {
  readonly waiting: Array<Waiter>
  /** Set before the release of this owner id waits for its turn: whoever runs must hold nothing in the end. */
  givenUp: boolean
}

interface Waiter {
  called: boolean
  resume: (() => void) | undefined
}

/** Nobody is at it. */
export const make = (): OwnerTurns => new Map()

/** Ends the life of an owner id for the verbs that are in flight. */
export const giveUp = (self: OwnerTurns, ownerId: string): void => {
  const turn = self.get(ownerId)
  if (turn !== undefined) turn.givenUp = true
}

/**
 * Runs a verb when those before it have ended. The waiting is interruptible, the verb is not: a step that is on its way
 * to the disk can't be called back, so whoever comes next must find it done.
 *
 * If the caller was interrupted meanwhile, `undo` gets what the verb answered, still within the same turn.
 */
export const run = <A, E>(
  self: OwnerTurns,
  ownerId: string,
  verb: (turn: Turn) => Effect.Effect<A, E>,
  undo?: (answer: A) => Effect.Effect<void>
): Effect.Effect<A, E> =>
  Effect.uninterruptibleMask((restore) => {
    let turn: Turn | undefined
    let waiter: Waiter | undefined
    let answer: { readonly value: A } | undefined
    // An interruption that came during the verb is seen at the end of `restore`. One that comes in the single step of
    // the runtime after that is not undone here: the answer counts as given, and whoever asked has to release.
    const inTurn = (turn: Turn) =>
      restore(Effect.uninterruptible(Effect.map(Effect.suspend(() => verb(turn)), (value) => {
        answer = { value }
        return value
      })))
    // Nothing is entered before the way out is in place: an interruption under way may still cut what comes first here.
    return Effect.onExitPrimitive(
      Effect.suspend(() => {
        turn = self.get(ownerId)
        if (turn === undefined) {
          turn = { waiting: [], givenUp: false }
          self.set(ownerId, turn)
          return inTurn(turn)
        }
        waiter = { called: false, resume: undefined }
        turn.waiting.push(waiter)
        return Effect.andThen(restore(called(waiter)), inTurn(turn))
      }),
      (exit) => {
        if (turn === undefined) return undefined
        const entered = turn
        if (exit._tag === "Failure" && answer !== undefined && undo !== undefined) {
          return Effect.ensuring(undo(answer.value), Effect.sync(() => leave(self, ownerId, entered, waiter)))
        }
        leave(self, ownerId, entered, waiter)
        return undefined
      }
    )
  })

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const called = (waiter: Waiter): Effect.Effect<void> =>
  Effect.callback((resume) => {
    if (waiter.called) return resume(Effect.void)
    waiter.resume = () => resume(Effect.void)
  })

// One that was interrupted while it waited gives way; whoever has or had the turn, or was just called, passes it on.
const leave = (self: OwnerTurns, ownerId: string, turn: Turn, waiter: Waiter | undefined): void => {
  const place = waiter === undefined ? -1 : turn.waiting.indexOf(waiter)
  if (place >= 0) {
    turn.waiting.splice(place, 1)
    return
  }
  const next = turn.waiting.shift()
  if (next === undefined) {
    self.delete(ownerId)
    return
  }
  next.called = true
  next.resume?.()
}
