import type { LockBackend } from "effect-lock"
import * as Redlock from "effect-lock/layers/Redlock"
import type { Contestant, Place } from "../harness/Contestant.ts"
import { guarded, type Locked, scoped, session } from "./effectLoop.ts"

const ttl = 10_000

// The masters of the benchmark are young, and it restarts them.
const ours = (locked: Locked<LockBackend>) => ({ urls = [] }: Place) =>
  session(Redlock.layer({ nodes: urls, restartGuard: false, defaults: { ttl } }), locked)

export const contestants: ReadonlyArray<Contestant> = [
  { name: "effect-lock", role: "effect-lock", open: ours(scoped) },
  { name: "effect-lock, Lock.guard", role: "effect-lock", open: ours(guarded) }
]
