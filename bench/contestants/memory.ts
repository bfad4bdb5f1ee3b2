import { Effect, Layer, Semaphore } from "effect"
import * as Memory from "effect-lock/layers/Memory"
import type { Contestant } from "../harness/Contestant.ts"
import { guarded, type Locked, scoped, session } from "./effectLoop.ts"

const semaphores = new Map<string, Semaphore.Semaphore>()

const semaphore = (key: string): Semaphore.Semaphore => {
  const known = semaphores.get(key)
  if (known !== undefined) return known
  const made = Semaphore.makeUnsafe(1)
  semaphores.set(key, made)
  return made
}

const withPermit: Locked<never> = (key, body) => Semaphore.withPermit(semaphore(key), body)

const takeScoped: Locked<never> = (key, body) =>
  Effect.scoped(Effect.andThen(Semaphore.takeScoped(semaphore(key), 1), body))

export const contestants: ReadonlyArray<Contestant> = [
  { name: "Effect Semaphore.withPermit", role: "floor", open: () => session(Layer.empty, withPermit) },
  { name: "Effect Semaphore.takeScoped", role: "floor", open: () => session(Layer.empty, takeScoped) },
  { name: "effect-lock", role: "effect-lock", open: () => session(Memory.layer(), scoped) },
  { name: "effect-lock, Lock.guard", role: "effect-lock", open: () => session(Memory.layer(), guarded) }
]
