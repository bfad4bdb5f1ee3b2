import { Redis } from "ioredis"
import { randomBytes } from "node:crypto"
import { type Contestant, looping, type Place, polling } from "../harness/Contestant.ts"

const ttl = 10_000

const release = `if redis.call("GET", KEYS[1]) == ARGV[1] then return redis.call("DEL", KEYS[1]) end return 0`

// A fence that grows from grant to grant, seeded from the server's clock, in the step that takes the lock.
const acquireFenced = `
if redis.call("EXISTS", KEYS[1]) == 1 then return {0, redis.call("PTTL", KEYS[1])} end
local time = redis.call("TIME")
local fence = time[1] * 1000000 + time[2]
local last = tonumber(redis.call("GET", KEYS[2]) or 0)
if last >= fence then fence = last + 1 end
local text = string.format("%.0f", fence)
redis.call("SET", KEYS[2], text, "PX", "86400000")
redis.call("SET", KEYS[1], ARGV[1] .. "|" .. text, "PX", ARGV[2])
return {1, text}`

const releaseFenced = `
if redis.call("GET", KEYS[1]) == ARGV[1] .. "|" .. ARGV[2] then return redis.call("DEL", KEYS[1]) end
return 0`

const connected = async ({ url = "" }: Place) => {
  const client = new Redis(url)
  await client.ping()
  const load = async (text: string) => String(await client.script("LOAD", text))
  return { client, load, close: async () => client.disconnect() }
}

const raw = async (place: Place) => {
  const { client, close, load } = await connected(place)
  const sha = await load(release)
  const tryAcquire = async (key: string) => {
    const owner = randomBytes(16).toString("hex")
    const answer = await client.set(key, owner, "PX", ttl, "NX")
    return answer === null ? undefined : () => client.evalsha(sha, 1, key, owner)
  }
  return { loop: looping(polling(50, tryAcquire)), close }
}

const rawFenced = async (place: Place) => {
  const { client, close, load } = await connected(place)
  const [acquireSha, releaseSha] = [await load(acquireFenced), await load(releaseFenced)]
  const tryAcquire = async (key: string) => {
    const owner = randomBytes(16).toString("hex")
    const name = `{${key}}`
    const [got, fence] = await client.evalsha(acquireSha, 2, name, `${name}:f`, owner, ttl) as [number, string]
    return got === 0 ? undefined : () => client.evalsha(releaseSha, 1, name, owner, fence)
  }
  return { loop: looping(polling(50, tryAcquire)), close }
}

export const contestants: ReadonlyArray<Contestant> = [
  { name: "raw ioredis: SET NX PX + compare-and-delete", role: "floor", package: "ioredis", sends: ["set"], open: raw },
  { name: "raw ioredis, with a fencing token", role: "floor", package: "ioredis", open: rawFenced }
]
