/** What is written by hand with a client of Memcached: `add`, and a `delete` that does not look whose lock it is. */
import { type Contestant, looping, type Place, polling } from "../harness/Contestant.ts"

const memjs = async ({ port = 0 }: Place) => {
  const { Client } = await import("memjs")
  const client = Client.create(`127.0.0.1:${port}`)
  const tryAcquire = async (key: string) =>
    await client.add(key, "1", { expires: 10 }) ? () => client.delete(key) : undefined
  return { loop: looping(polling(50, tryAcquire)), close: async () => client.close() }
}

const memcache = async ({ port = 0 }: Place) => {
  const { Memcache } = await import("memcache")
  const client = new Memcache({ nodes: [`127.0.0.1:${port}`] })
  await client.connect()
  const tryAcquire = async (key: string) => await client.add(key, "1", 10) ? () => client.delete(key) : undefined
  return { loop: looping(polling(50, tryAcquire)), close: () => client.disconnect() }
}

export const contestants: ReadonlyArray<Contestant> = [
  { name: "memjs: add + delete", role: "peer", package: "memjs", open: memjs },
  { name: "memcache: add + delete", role: "peer", package: "memcache", open: memcache }
]
