/** effect-distributed-lock: on Effect 3, which is installed beside this file. */
import type { Contestant, Place, Steps } from "../harness/Contestant.ts"

const open = async ({ url = "" }: Place) => {
  const { DistributedSemaphore, RedisBacking } = await import("effect-distributed-lock")
  const { Effect, ManagedRuntime } = await import("effect")
  const { Redis } = await import("ioredis")
  const client = new Redis(url)
  await client.ping()
  const runtime = ManagedRuntime.make(RedisBacking.layer(client, { keyPrefix: "bench:" }))
  const program = (key: string, steps: Steps) =>
    Effect.gen(function*() {
      const semaphore = yield* DistributedSemaphore.make(key, { limit: 1, ttl: "10 seconds" })
      const turn = semaphore.withPermits(1)(Effect.suspend(() => {
        const work = steps.held()
        return work === undefined ? Effect.void : Effect.promise(() => work)
      }))
      while (true) {
        const more = steps.more()
        if (!(typeof more === "boolean" ? more : yield* Effect.promise(() => more))) return
        yield* turn
      }
    })
  return {
    loop: (key: string, steps: Steps) => runtime.runPromise(program(key, steps)),
    close: async () => client.disconnect()
  }
}

export const contestants: ReadonlyArray<Contestant> = [
  {
    name: "effect-distributed-lock",
    role: "peer",
    package: "effect-distributed-lock",
    open
  }
]
