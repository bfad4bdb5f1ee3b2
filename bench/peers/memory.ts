import { type Contestant, looping } from "../harness/Contestant.ts"

const open = async () => {
  const { Mutex } = await import("async-mutex")
  const mutexes = new Map<string, InstanceType<typeof Mutex>>()
  const acquire = async (key: string) => {
    const mutex = mutexes.get(key) ?? new Mutex()
    mutexes.set(key, mutex)
    const release = await mutex.acquire()
    return async () => release()
  }
  return { loop: looping(acquire), close: async () => {} }
}

export const contestants: ReadonlyArray<Contestant> = [
  { name: "async-mutex", role: "peer", package: "async-mutex", open }
]
