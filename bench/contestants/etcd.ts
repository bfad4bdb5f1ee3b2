import { NodeHttpClient } from "@effect/platform-node"
import { Layer } from "effect"
import type { LockBackend } from "effect-lock"
import * as Etcd from "effect-lock/layers/Etcd"
import type { Contestant, Place } from "../harness/Contestant.ts"
import { guarded, type Locked, scoped, session } from "./effectLoop.ts"

const ours = (locked: Locked<LockBackend>) => ({ url = "" }: Place) =>
  session(
    Layer.provide(Etcd.layer({ endpoints: [url], defaults: { ttl: "10 seconds" } }), NodeHttpClient.layerUndici),
    locked
  )

export const contestants: ReadonlyArray<Contestant> = [
  { name: "effect-lock", role: "effect-lock", open: ours(scoped) },
  { name: "effect-lock, Lock.guard", role: "effect-lock", open: ours(guarded) }
]
