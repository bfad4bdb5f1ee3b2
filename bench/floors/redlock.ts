import { Redis } from "ioredis"
import { randomBytes } from "node:crypto"
import { type Contestant, looping, type Place, polling } from "../harness/Contestant.ts"

const ttl = 10_000

const release = `if redis.call("GET", KEYS[1]) == ARGV[1] then return redis.call("DEL", KEYS[1]) end return 0`

/** Resolves when a majority did it, or can't any more; knows no timeout, no validity and no fencing token. */
const majority = (answers: ReadonlyArray<Promise<boolean>>): Promise<boolean> =>
  new Promise((resolve) => {
    const quorum = Math.floor(answers.length / 2) + 1
    let yes = 0
    let no = 0
    for (const answer of answers) {
      void answer.then((ok) => ok, () => false).then((ok) => {
        if (ok && ++yes === quorum) resolve(true)
        if (!ok && ++no === answers.length - quorum + 1) resolve(false)
      })
    }
  })

const raw = async ({ urls = [] }: Place) => {
  const clients = urls.map((url) => new Redis(url))
  for (const client of clients) client.on("error", () => {})
  const sha = String((await Promise.all(clients.map((client) => client.script("LOAD", release))))[0])
  const tryAcquire = async (key: string) => {
    const owner = randomBytes(16).toString("hex")
    const free = () =>
      majority(clients.map((client) => client.evalsha(sha, 1, key, owner).then((count) => count === 1)))
    const won = await majority(
      clients.map((client) => client.set(key, owner, "PX", ttl, "NX").then((ok) => ok !== null))
    )
    if (won) return free
    await free()
    return undefined
  }
  return {
    loop: looping(polling(50, tryAcquire)),
    close: async () => {
      for (const client of clients) client.disconnect()
    }
  }
}

export const contestants: ReadonlyArray<Contestant> = [
  { name: "raw ioredis on five masters", role: "floor", package: "ioredis", open: raw }
]
