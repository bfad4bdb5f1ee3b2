import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Option } from "effect"
import { LockBackend, withLock } from "effect-lock"
import { TestClock } from "effect/testing"
import type { Fault } from "../servers/kubernetesClient.ts"
import { edit, fakeApi, only, processOn } from "./internal/kubernetesLocks.ts"

/** Numbers from 0 to 1 that are the same for the same seed (mulberry32). */
const randomOf = (seed: number) => () => {
  seed = (seed + 0x6d2b79f5) | 0
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296
}

const pick = (random: () => number): Fault | undefined => {
  if (random() > 0.35) return undefined
  const when = random() < 0.5 ? "before" : "after"
  const kind = random()
  if (kind < 0.3) return { when, drop: true }
  if (kind < 0.4) return { when: "before", status: 429, retryAfter: 1 }
  if (kind < 0.55) return { when, status: 500 }
  if (kind < 0.7) return { when, status: 504 }
  return { when, delay: Math.floor(random() ** 3 * 12_000) }
}

const story = (seed: number, expiry: "observed" | "serverDate") =>
  Effect.gen(function*() {
    const random = randomOf(seed)
    const api = yield* fakeApi()
    let calm = false
    const processes = yield* Effect.forEach([0, 1, 2], () => processOn(api, { expiry }))
    for (const process of processes) process.fault = () => calm ? undefined : pick(random)
    let inside = 0
    let overlaps = 0
    let grants = 0
    const tokens: Array<bigint> = []
    const caller = (index: number) =>
      Effect.gen(function*() {
        for (let round = 0; round < 6; round++) {
          const dies = random() < 0.2
          const work = 200 + random() * 9000
          yield* Effect.scoped(Effect.gen(function*() {
            const lease = yield* withLock("k", { ttl: "6 seconds", outageBudget: "10 minutes" })
            yield* lease.guard(Effect.acquireUseRelease(
              Effect.sync(() => {
                grants++
                if (inside++ > 0) overlaps++
                tokens.push(Option.getOrThrow(lease.fencingToken))
              }),
              () => Effect.sleep(work),
              () =>
                Effect.sync(() => {
                  inside--
                })
            ))
            if (dies) processes[index]!.fault = () => ({ when: "before", drop: true })
          })).pipe(
            Effect.provideService(LockBackend, processes[index]!.backend),
            // Losses and outages are what this is about; defects are not, and pass.
            Effect.result
          )
          processes[index]!.fault = () => calm ? undefined : pick(random)
        }
      })
    // Somebody edits the object now and then, as a controller may.
    const editor = Effect.forever(Effect.andThen(
      Effect.sleep("1700 millis"),
      Effect.sync(() => {
        if (api.leases.length === 1) {
          edit(api, (lease) => {
            lease.metadata.annotations["example.com/seen"] = String(random())
          })
        }
      })
    ))
    const editing = yield* Effect.forkChild(editor)
    const callers = yield* Effect.forkChild(
      Effect.forEach([0, 1, 2, 0, 1], caller, { concurrency: "unbounded", discard: true }),
      { startImmediately: true }
    )
    for (let step = 0; callers.pollUnsafe() === undefined; step++) {
      if (step > 20_000) assert.fail(`seed ${seed}: the callers never end`)
      if (step > 10_000) calm = true
      yield* TestClock.adjust("100 millis")
    }
    yield* Fiber.interrupt(editing)
    yield* Fiber.join(callers)
    assert.strictEqual(overlaps, 0, `seed ${seed}: two trusted leases at once`)
    assert.isAbove(grants, 10, `seed ${seed}`)
    tokens.forEach((token, index) => {
      assert.isTrue(
        index === 0 || token > tokens[index - 1]!,
        `seed ${seed}: token ${token} after ${tokens[index - 1]}`
      )
    })
    assert.lengthOf(Object.keys(only(api).metadata.labels), 2)
  })

describe("under faults before and after the server's work", () => {
  for (const expiry of ["observed", "serverDate"] as const) {
    for (const seed of [1, 2, 3, 4]) {
      it.effect(`three processes never overlap and tokens grow (${expiry}, seed ${seed})`, () => story(seed, expiry))
    }
  }
})
