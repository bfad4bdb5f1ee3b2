import type { LockBackend } from "effect-lock"
import * as RedisLock from "effect-lock/layers/Redis"
import type { Contestant, Place } from "../harness/Contestant.ts"
import { guarded, type Locked, scoped, session } from "./effectLoop.ts"

const ttl = 10_000

const ours = (locked: Locked<LockBackend>) => ({ url = "" }: Place) =>
  session(RedisLock.layer({ url, defaults: { ttl } }), locked)

export const contestants: ReadonlyArray<Contestant> = [
  { name: "effect-lock", role: "effect-lock", open: ours(scoped) },
  { name: "effect-lock, Lock.guard", role: "effect-lock", open: ours(guarded) }
]
