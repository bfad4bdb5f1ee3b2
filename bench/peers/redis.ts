import { type Contestant, looping, type Place } from "../harness/Contestant.ts"

/** As long for everybody. */
const ttl = 10_000

const ioredis = async ({ url = "" }: Place) => {
  const { Redis } = await import("ioredis")
  const client = new Redis(url)
  await client.ping()
  return { client, close: async () => client.disconnect() }
}

const redlock4 = (retryDelay: number, retryJitter: number) => async (place: Place) => {
  const { default: Redlock } = await import("redlock4")
  const { client, close } = await ioredis(place)
  const redlock = new Redlock([client], { retryCount: -1, retryDelay, retryJitter })
  redlock.on("error", () => {})
  const acquire = async (key: string) => {
    const lock = await redlock.lock(key, ttl)
    return () => lock.unlock()
  }
  return { loop: looping(acquire), close }
}

const redlock5 = (retryDelay: number, retryJitter: number) => async (place: Place) => {
  const { default: Redlock } = await import("redlock5")
  const { client, close } = await ioredis(place)
  const redlock = new Redlock([client], { retryCount: -1, retryDelay, retryJitter })
  redlock.on("error", () => {})
  const acquire = async (key: string) => {
    const lock = await redlock.acquire([key], ttl)
    return () => lock.release()
  }
  return { loop: looping(acquire), close }
}

const sesame = async (place: Place) => {
  const { Redlock } = await import("@sesamecare-oss/redlock")
  const { client, close } = await ioredis(place)
  const redlock = new Redlock([client], { retryCount: -1 })
  redlock.on("error", () => {})
  const acquire = async (key: string) => {
    const lock = await redlock.acquire([key], ttl)
    return () => lock.release()
  }
  return { loop: looping(acquire), close }
}

const universal = (retryDelay: number) => async (place: Place) => {
  const { createLock, IoredisAdapter } = await import("redlock-universal")
  const { client, close } = await ioredis(place)
  const adapter = new IoredisAdapter(client)
  const acquire = async (key: string) => {
    const lock = createLock({ adapter, key, ttl, retryAttempts: 1_000_000, retryDelay })
    const handle = await lock.acquire()
    return () => lock.release(handle)
  }
  return { loop: looping(acquire), close }
}

const semaphore = async (place: Place) => {
  const { Mutex } = await import("redis-semaphore")
  const { client, close } = await ioredis(place)
  const acquire = async (key: string) => {
    const mutex = new Mutex(client, key, { lockTimeout: ttl, acquireTimeout: 1_000_000 })
    await mutex.acquire()
    return () => mutex.release()
  }
  return { loop: looping(acquire), close }
}

const simple = async ({ url = "" }: Place) => {
  const { createClient } = await import("redis")
  const { lock } = await import("simple-redis-mutex")
  const client = createClient({ url })
  client.on("error", () => {})
  await client.connect()
  return {
    loop: looping((key) => lock(client as never, key, { timeout: ttl })),
    close: async () => client.destroy()
  }
}

export const contestants: ReadonlyArray<Contestant> = [
  { name: "redlock 4.2", role: "peer", package: "redlock4", open: redlock4(200, 100) },
  { name: "redlock 4.2, retry 10±5 ms", role: "peer", package: "redlock4", open: redlock4(10, 5) },
  { name: "redlock 5 beta", role: "peer", package: "redlock5", open: redlock5(200, 100) },
  { name: "redlock 5 beta, retry 10±5 ms", role: "peer", package: "redlock5", open: redlock5(10, 5) },
  { name: "@sesamecare-oss/redlock", role: "peer", package: "@sesamecare-oss/redlock", open: sesame },
  { name: "redlock-universal", role: "peer", package: "redlock-universal", sends: ["set"], open: universal(100) },
  {
    name: "redlock-universal, retry 10 ms",
    role: "peer",
    package: "redlock-universal",
    sends: ["set"],
    open: universal(10)
  },
  { name: "redis-semaphore", role: "peer", package: "redis-semaphore", sends: ["set"], open: semaphore },
  { name: "simple-redis-mutex", role: "peer", package: "simple-redis-mutex", sends: ["set", "incr"], open: simple }
]
