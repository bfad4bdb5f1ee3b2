import { NodeServices } from "@effect/platform-node"
import { Layer } from "effect"
import type { LockBackend } from "effect-lock"
import * as File from "effect-lock/layers/File"
import * as path from "node:path"
import type { Contestant, Place } from "../harness/Contestant.ts"
import { guarded, type Locked, scoped, session } from "./effectLoop.ts"

const ours = (locked: Locked<LockBackend>) => ({ directory = "" }: Place) =>
  session(Layer.provide(File.layer({ directory: path.join(directory, "locks") }), NodeServices.layer), locked)

export const contestants: ReadonlyArray<Contestant> = [
  { name: "effect-lock", role: "effect-lock", open: ours(scoped) },
  { name: "effect-lock, Lock.guard", role: "effect-lock", open: ours(guarded) }
]
