import { mkdir } from "node:fs/promises"
import * as path from "node:path"
import { type Contestant, looping, type Place } from "../harness/Contestant.ts"

const open = async ({ directory = "" }: Place) => {
  const { lock } = await import("proper-lockfile")
  const folder = path.join(directory, "proper-lockfile")
  await mkdir(folder, { recursive: true })
  // Waiting is left to `retry`; these are as patient as the floor.
  const retries = { forever: true, factor: 1, minTimeout: 25, maxTimeout: 75, randomize: true }
  return {
    loop: looping((key) => lock(path.join(folder, key), { realpath: false, stale: 10_000, retries })),
    close: async () => {}
  }
}

export const contestants: ReadonlyArray<Contestant> = [
  { name: "proper-lockfile", role: "peer", package: "proper-lockfile", open }
]
