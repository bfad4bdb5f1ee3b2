import { type Contestant, looping, type Place, polling } from "../harness/Contestant.ts"

const connected = async ({ url = "" }: Place) => {
  const { Etcd3, EtcdLockFailedError } = await import("etcd3")
  return { client: new Etcd3({ hosts: url }), EtcdLockFailedError }
}

/** It gives up at once where somebody has the lock, so it polls. */
const lock = async (place: Place) => {
  const { client, EtcdLockFailedError } = await connected(place)
  const tryAcquire = async (key: string) => {
    const lock = client.lock(key).ttl(10)
    try {
      await lock.acquire()
      return () => lock.release()
    } catch (error) {
      if (error instanceof EtcdLockFailedError) return undefined
      throw error
    }
  }
  return { loop: looping(polling(50, tryAcquire)), close: async () => client.close() }
}

const election = async (place: Place) => {
  const { client } = await connected(place)
  const acquire = async (key: string) => {
    const campaign = client.election(key, 10).campaign("me")
    await campaign.wait()
    return () => campaign.resign()
  }
  return { loop: looping(acquire), close: async () => client.close() }
}

const put = async (place: Place) => {
  const { client } = await connected(place)
  const acquire = async (key: string) => {
    await client.put(`put/${key}`).value("")
    return async () => {}
  }
  return { loop: looping(acquire), close: async () => client.close() }
}

export const contestants: ReadonlyArray<Contestant> = [
  { name: "one put over gRPC, etcd3 (excludes nobody)", role: "floor", package: "etcd3", open: put },
  { name: "etcd3 Lock, retry 50±25 ms", role: "peer", package: "etcd3", open: lock },
  { name: "etcd3 Election", role: "peer", package: "etcd3", open: election }
]
