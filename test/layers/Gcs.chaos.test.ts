import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Option, Scope } from "effect"
import { LockBackend, withLock } from "effect-lock"
import { HttpClient } from "effect/http"
import { TestClock } from "effect/testing"
import * as Gcs from "../../src/layers/Gcs.ts"
import { type Fault, GcsServer, problem } from "../servers/GcsServer.ts"

const workers = 8
const minutes = 6

/** Repeatable: the same seed, the same faults. */
const randomness = (seed: number) => () => {
  seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0
  return seed / 2 ** 32
}

const faults: ReadonlyArray<Fault> = [
  { _tag: "Reset", applied: true },
  { _tag: "Reset", applied: false },
  { _tag: "Hang", applied: true },
  { _tag: "Hang", applied: false },
  { _tag: "Answer", reply: problem(503, "backendError"), applied: true },
  { _tag: "Answer", reply: problem(503, "backendError"), applied: false },
  { _tag: "Answer", reply: problem(429, "rateLimitExceeded"), applied: true },
  { _tag: "Answer", reply: problem(429, "rateLimitExceeded"), applied: false },
  { _tag: "Answer", reply: problem(412, "conditionNotMet"), applied: true },
  // Late, but in time.
  { _tag: "Meanwhile", effect: Effect.sleep(600) }
]

/** A process: a backend of its own, until it dies. While it is cut off, and when it is dead, its requests go nowhere. */
const born = (server: GcsServer, options: Partial<Gcs.Options>) =>
  Effect.gen(function*() {
    const scope = yield* Scope.make()
    let reachable = true
    const client = HttpClient.make((request) => reachable ? server.client.execute(request) : Effect.never)
    const backend = yield* Gcs.make({ bucket: "locks", endpoint: "http://127.0.0.1:1", ...options }).pipe(
      Effect.provideService(HttpClient.HttpClient, client),
      Scope.provide(scope)
    )
    const die = Effect.gen(function*() {
      reachable = false
      yield* Effect.forkDetach(Scope.close(scope, Exit.void))
    })
    const cutOff = Effect.acquireUseRelease(
      Effect.sync(() => {
        reachable = false
      }),
      () => Effect.sleep("15 seconds"),
      () =>
        Effect.sync(() => {
          reachable = true
        })
    )
    return { backend, die, cutOff }
  })

const chaos = (seed: number, options: Partial<Gcs.Options>) =>
  Effect.gen(function*() {
    const random = randomness(seed)
    const server = new GcsServer()
    server.fault = () => random() < 0.25 ? faults[Math.floor(random() * faults.length)] : undefined
    const seen = { grants: 0, deaths: 0, losses: 0, overlaps: 0, last: 0n, regressions: 0 }
    let inside = 0

    const worker = Effect.gen(function*() {
      let round = Math.floor(random() * 7)
      let self = yield* born(server, options)
      while (true) {
        // Each sooner or later, so that it happens in every run.
        round++
        const dies = round % 11 === 5
        const isCutOff = round % 7 === 2
        // Some work longer than a ttl, which takes renewals.
        const stays = random() < 0.2 ? 5000 + random() * 15_000 : 200 + random() * 2000
        const work = (token: bigint) =>
          Effect.acquireUseRelease(
            Effect.sync(() => {
              inside++
              seen.grants++
              if (inside > 1) seen.overlaps++
              if (token <= seen.last) seen.regressions++
              if (token > seen.last) seen.last = token
            }),
            () => isCutOff ? self.cutOff : Effect.sleep(stays),
            () =>
              Effect.sync(() => {
                inside--
              })
          )
        const exit = yield* Effect.exit(
          Effect.scoped(Effect.gen(function*() {
            const lease = yield* withLock("k", { ttl: "10 seconds", outageBudget: "10 minutes" })
            yield* lease.guard(work(Option.getOrThrow(lease.fencingToken)))
            if (dies) yield* self.die
          })).pipe(Effect.provideService(LockBackend, self.backend))
        )
        if (Exit.isFailure(exit)) seen.losses++
        if (dies) {
          seen.deaths++
          self = yield* born(server, options)
        }
        yield* Effect.sleep(random() * 500)
      }
    })

    const all = yield* Effect.forEach(
      Array.from({ length: workers }),
      () => Effect.forkDetach(worker, { startImmediately: true })
    )
    for (let step = 0; step < minutes * 600; step++) {
      yield* TestClock.adjust(100)
      const broken = all.find((fiber) => fiber.pollUnsafe() !== undefined)
      if (broken !== undefined) return yield* Fiber.join(broken)
    }
    return { ...seen, requests: server.asked.length }
  })

describe(`${workers} workers, of whose requests a quarter goes wrong, who are cut off and die,`, () => {
  const kinds: ReadonlyArray<readonly [string, number, Partial<Gcs.Options>]> = [
    ["by the server's clock", 1, { expiry: "serverDate" }],
    ["by the server's clock, with objects that are kept", 2, { expiry: "serverDate", onRelease: "keep" }],
    ["by observation", 3, {}]
  ]
  for (const [how, seed, options] of kinds) {
    it.effect(`never hold the lock at once, and their fencing tokens grow, ${how}`, () =>
      Effect.gen(function*() {
        const seen = yield* chaos(seed, options)
        assert.deepInclude(seen, { overlaps: 0, regressions: 0 })
        // That it was chaos indeed, and that the lock was of use in it.
        assert.isAbove(seen.grants, 20, JSON.stringify({ ...seen, last: String(seen.last) }))
        assert.isAbove(seen.deaths, 0)
        assert.isAbove(seen.losses, 0)
      }))
  }
})
