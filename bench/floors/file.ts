import { closeSync, openSync, unlinkSync } from "node:fs"
import { open, unlink } from "node:fs/promises"
import * as path from "node:path"
import { type Contestant, looping, type Place, polling } from "../harness/Contestant.ts"

const fileIn = ({ directory = "" }: Place, key: string) => path.join(directory, `${key}.raw`)

const isHeld = (error: unknown) => error instanceof Error && "code" in error && error.code === "EEXIST"

const raw = (place: Place) =>
  polling(50, async (key) => {
    const file = fileIn(place, key)
    try {
      await (await open(file, "wx")).close()
    } catch (error) {
      if (isHeld(error)) return undefined
      throw error
    }
    return () => unlink(file)
  })

const rawSync = (place: Place) =>
  polling(50, async (key) => {
    const file = fileIn(place, key)
    try {
      closeSync(openSync(file, "wx"))
    } catch (error) {
      if (isHeld(error)) return undefined
      throw error
    }
    return async () => unlinkSync(file)
  })

const close = async () => {}

export const contestants: ReadonlyArray<Contestant> = [
  { name: "open exclusively + unlink", role: "floor", open: async (place) => ({ loop: looping(raw(place)), close }) },
  {
    name: "open exclusively + unlink, synchronous",
    role: "floor",
    open: async (place) => ({ loop: looping(rawSync(place)), close })
  }
]
