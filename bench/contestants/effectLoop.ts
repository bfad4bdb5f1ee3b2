/** The loop of contestants that are Effects: one fiber per caller, as a program has it. */
import { Effect, type Layer, ManagedRuntime } from "effect"
import { Lock, type LockBackend, withLock } from "effect-lock"
import type { Session, Steps } from "../harness/Contestant.ts"

/** Runs a body under the lock. */
export type Locked<R> = (key: string, body: Effect.Effect<void>) => Effect.Effect<void, unknown, R>

/** A lease as a scoped resource. */
export const scoped: Locked<LockBackend> = (key, body) => Effect.scoped(Effect.andThen(withLock(key), body))

/** The same around an effect, which is interrupted if the lease is lost. */
export const guarded: Locked<LockBackend> = (key, body) => Lock.guard(body, key)

export const effectLoop = <R>(locked: Locked<R>, key: string, steps: Steps): Effect.Effect<void, unknown, R> =>
  Effect.gen(function*() {
    const turn = locked(
      key,
      Effect.suspend(() => {
        const work = steps.held()
        return work === undefined ? Effect.void : Effect.promise(() => work)
      })
    )
    while (true) {
      const more = steps.more()
      if (!(typeof more === "boolean" ? more : yield* Effect.promise(() => more))) return
      yield* turn
    }
  })

export const session = async <R, E>(layer: Layer.Layer<R, E>, locked: Locked<R>): Promise<Session> => {
  const runtime = ManagedRuntime.make(layer)
  await runtime.context()
  return { loop: (key, steps) => runtime.runPromise(effectLoop(locked, key, steps)), close: () => runtime.dispose() }
}
