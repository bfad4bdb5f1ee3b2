import type { LockBackend } from "effect-lock"
import * as Memcached from "effect-lock/layers/Memcached"
import type { Contestant, Place } from "../harness/Contestant.ts"
import { guarded, type Locked, scoped, session } from "./effectLoop.ts"

const ours = (locked: Locked<LockBackend>) => ({ port = 0 }: Place) =>
  session(Memcached.layer({ host: "127.0.0.1", port, defaults: { ttl: "10 seconds" } }), locked)

export const contestants: ReadonlyArray<Contestant> = [
  { name: "effect-lock", role: "effect-lock", open: ours(scoped) },
  { name: "effect-lock, Lock.guard", role: "effect-lock", open: ours(guarded) }
]
