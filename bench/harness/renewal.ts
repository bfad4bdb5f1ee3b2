/** One process holds many leases; this watches what keeping them costs, and how late renewals are. */
import { Duration, Effect, type Layer } from "effect"
import { type LockBackend, withLock } from "effect-lock"
import * as Memory from "effect-lock/layers/Memory"
import * as RedisLock from "effect-lock/layers/Redis"
import { monitorEventLoopDelay } from "node:perf_hooks"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import type { RenewalAnswer, RenewalTask } from "./tasks.ts"

setFlagsFromString("--expose-gc")
const collectGarbage: () => void = runInNewContext("gc")

const megabytes = (): number => {
  collectGarbage()
  return process.memoryUsage().heapUsed / 1e6
}

const layerOf = ({ backend, place, ttl }: RenewalTask): Layer.Layer<LockBackend, unknown> =>
  backend === "memory"
    ? Memory.layer({ defaults: { ttl } })
    : RedisLock.layer({ url: place.url ?? "", defaults: { ttl } })

/** So many of the leases are looked at, so often. */
const looked = 300
const everyMillis = 50

export const measureRenewal = (
  task: RenewalTask,
  say: (kind: string) => void,
  told: (kind: string) => Promise<unknown>
): Promise<RenewalAnswer> =>
  Effect.runPromise(Effect.scoped(Effect.provide(
    Effect.gen(function*() {
      yield* Effect.scoped(withLock("bench-first"))
      const before = megabytes()
      const begin = performance.now()
      const leases = yield* Effect.forEach(
        Array.from({ length: task.leases }, (_, index) => `bench-lease-${index}`),
        (key) => withLock(key),
        { concurrency: 200 }
      )
      const acquiredPerSecond = task.leases / (performance.now() - begin) * 1000
      const heap = megabytes() - before
      // Each lease was renewed at least once before anything is counted.
      yield* Effect.sleep(Duration.millis(task.ttl / 2))
      say("ready")
      yield* Effect.promise(() => told("go"))

      const step = Math.max(1, Math.floor(leases.length / looked))
      const watched = leases.filter((_, index) => index % step === 0).map((lease) => ({ lease, age: 0 }))
      const trusted = task.ttl - Math.max(50, task.ttl / 20)
      const lateness: Array<number> = []
      const delay = monitorEventLoopDelay({ resolution: 10 })
      delay.enable()
      const cpu = process.cpuUsage()
      const start = performance.now()
      while (performance.now() - start < task.milliseconds) {
        yield* Effect.sleep(Duration.millis(everyMillis))
        for (const each of watched) {
          const age = trusted - Duration.toMillis(yield* each.lease.remaining)
          if (age < each.age) lateness.push(each.age - task.ttl / 3)
          each.age = age
        }
      }
      const took = performance.now() - start
      const { system, user } = process.cpuUsage(cpu)
      delay.disable()
      const states = yield* Effect.forEach(leases, (lease) => lease.state)
      return {
        acquiredPerSecond,
        cpu: (system + user) / 1000 / took,
        megabytes: heap,
        renewalsPerSecond: lateness.length * (leases.length / watched.length) / took * 1000,
        lateness,
        lost: states.filter((state) => state === "Lost").length,
        stalled: delay.max / 1e6
      }
    }),
    layerOf(task)
  )))
