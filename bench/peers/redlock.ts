/** Redlock of the peers; the clients are ioredis as it comes, with its own timeouts and queues. */
import { type Contestant, looping, type Place } from "../harness/Contestant.ts"

const ttl = 10_000

const ioredis = async ({ urls = [] }: Place) => {
  const { Redis } = await import("ioredis")
  const clients = urls.map((url) => new Redis(url))
  for (const client of clients) client.on("error", () => {})
  await Promise.all(clients.map((client) => client.ping()))
  const close = async () => {
    for (const client of clients) client.disconnect()
  }
  return { clients, close }
}

const redlock4 = async (place: Place) => {
  const { default: Redlock } = await import("redlock4")
  const { clients, close } = await ioredis(place)
  const redlock = new Redlock(clients, { retryCount: -1 })
  redlock.on("error", () => {})
  const acquire = async (key: string) => {
    const lock = await redlock.lock(key, ttl)
    return () => lock.unlock()
  }
  return { loop: looping(acquire), close }
}

const redlock5 = async (place: Place) => {
  const { default: Redlock } = await import("redlock5")
  const { clients, close } = await ioredis(place)
  const redlock = new Redlock(clients, { retryCount: -1 })
  redlock.on("error", () => {})
  const acquire = async (key: string) => {
    const lock = await redlock.acquire([key], ttl)
    return () => lock.release()
  }
  return { loop: looping(acquire), close }
}

const sesame = async (place: Place) => {
  const { Redlock } = await import("@sesamecare-oss/redlock")
  const { clients, close } = await ioredis(place)
  const redlock = new Redlock(clients, { retryCount: -1 })
  redlock.on("error", () => {})
  const acquire = async (key: string) => {
    const lock = await redlock.acquire([key], ttl)
    return () => lock.release()
  }
  return { loop: looping(acquire), close }
}

const universal = async (place: Place) => {
  const { createRedlock, IoredisAdapter } = await import("redlock-universal")
  const { clients, close } = await ioredis(place)
  const adapters = clients.map((client) => new IoredisAdapter(client))
  const acquire = async (key: string) => {
    const lock = createRedlock({ adapters, key, ttl, retryAttempts: 1_000_000 })
    const handle = await lock.acquire()
    return () => lock.release(handle)
  }
  return { loop: looping(acquire), close }
}

const semaphore = async (place: Place) => {
  const { RedlockMutex } = await import("redis-semaphore")
  const { clients, close } = await ioredis(place)
  const acquire = async (key: string) => {
    const mutex = new RedlockMutex(clients, key, { lockTimeout: ttl, acquireTimeout: 1_000_000 })
    await mutex.acquire()
    return () => mutex.release()
  }
  return { loop: looping(acquire), close }
}

export const contestants: ReadonlyArray<Contestant> = [
  { name: "redlock 4.2", role: "peer", package: "redlock4", open: redlock4 },
  { name: "redlock 5 beta", role: "peer", package: "redlock5", open: redlock5 },
  { name: "@sesamecare-oss/redlock", role: "peer", package: "@sesamecare-oss/redlock", open: sesame },
  { name: "redlock-universal", role: "peer", package: "redlock-universal", open: universal },
  { name: "redis-semaphore RedlockMutex", role: "peer", package: "redis-semaphore", open: semaphore }
]
