/** Redlock on real masters that die, stand still, are cut off, and forget. */
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Option, Schedule } from "effect"
import { LockBackend, withLock } from "effect-lock"
import * as Redlock from "effect-lock/layers/Redlock"

import { isInstalled } from "../servers/ServerProcess.ts"
import {
  allFree,
  backendOn,
  grant,
  holderOf,
  type Master,
  masters,
  reasonOf,
  release,
  renew,
  tryAcquire,
  until
} from "./redlock/masters.ts"

/** The ways to lose a master, and to have it back. */
const losses: ReadonlyArray<{
  readonly name: string
  readonly lose: (master: Master) => Effect.Effect<void>
  readonly heal: (master: Master) => Effect.Effect<void>
}> = [
  { name: "killed", lose: ({ kill }) => kill, heal: ({ start }) => start },
  { name: "stopped", lose: ({ signal }) => signal("SIGSTOP"), heal: ({ signal }) => signal("SIGCONT") },
  { name: "behind a black hole", lose: ({ proxy }) => proxy.blackHole, heal: ({ proxy }) => proxy.heal }
]

/** Takes, renews and gives back, so many times one after the other. */
let round = 0
/** What a lost master keeps, because the release did not reach it, ends by its ttl. */
const brief = Duration.seconds(8)
const rounds = (backend: LockBackend["Service"], count: number) =>
  Effect.forEach(Array.from({ length: count }), () =>
    Effect.gen(function*() {
      const ownerId = `round-${++round}`
      const { handle } = yield* grant(backend, "k", ownerId, brief)
      assert.strictEqual(yield* renew(backend, "k", ownerId, handle, brief), "Renewed")
      assert.strictEqual(yield* release(backend, "k", ownerId, handle), "Released")
    }), { discard: true })

describe.skipIf(!isInstalled("redis-server")).concurrent("Redlock with masters that fail", () => {
  for (const { heal, lose, name } of losses) {
    it.live(`with two of five masters ${name}, locks are taken as if nothing was, after they were noticed once`, () =>
      Effect.gen(function*() {
        const all = yield* masters(5)
        const lost = all.slice(0, 2)
        const backend = yield* backendOn(all, { perNodeTimeout: "2 seconds" })
        yield* rounds(backend, 2)
        yield* Effect.forEach(lost, lose)
        yield* until(
          "it is noticed",
          Effect.gen(function*() {
            const ownerId = `noticer-${++round}`
            const { degraded } = yield* grant(backend, "noticed", ownerId, brief)
            yield* release(backend, "noticed", ownerId)
            return degraded?.startsWith("2 of 5") === true
          })
        )
        const since = performance.now()
        yield* rounds(backend, 30)
        // One that is waited for each time would take 30 times two seconds.
        assert.isBelow(performance.now() - since, 20_000)
        const { degraded, handle } = yield* grant(backend, "k", "holder")
        assert.match(degraded ?? "", /^2 of 5 nodes took no part: /)

        yield* Effect.forEach(lost, heal)
        yield* until(
          "renewals give the lease to the masters that are back",
          Effect.gen(function*() {
            assert.strictEqual(yield* renew(backend, "k", "holder", handle), "Renewed")
            const holders = yield* Effect.forEach(all, ({ locks }) => locks)
            return holders.every((of) => of.includes("holder"))
          })
        )
        assert.strictEqual(yield* release(backend, "k", "holder", handle), "Released")
        yield* allFree(all)
      }))
  }

  it.live("with three of five masters lost, nothing hangs, the error has each one's own, and nothing is left", () =>
    Effect.gen(function*() {
      const all = yield* masters(5)
      const backend = yield* backendOn(all)
      yield* rounds(backend, 1)
      const [one, two, three] = all
      yield* one!.kill
      yield* two!.signal("SIGSTOP")
      yield* three!.proxy.blackHole
      const reason = yield* reasonOf(tryAcquire(backend, "k", "a"))
      assert.isTrue(reason.isRetryable)
      assert(reason.cause instanceof Redlock.QuorumNotReached)
      assert.deepStrictEqual(
        reason.cause.failures.map(({ node }) => node),
        [one, two, three].map((lost) => `127.0.0.1:${lost!.proxy.port}`)
      )
      assert.strictEqual(reason.cause.granted, 2)
      assert.match(reason.detail, /^3 of 5 nodes did not take part, and it takes 3 that do\. /)
      yield* allFree(all.slice(3))
      assert.isTrue((yield* reasonOf(release(backend, "k", "a"))).isRetryable)
      yield* two!.signal("SIGCONT")
      yield* three!.proxy.heal
      yield* until(
        "it works again",
        Effect.matchEffect(tryAcquire(backend, "k", "b"), {
          onSuccess: ({ _tag }) => Effect.succeed(_tag === "Acquired"),
          onFailure: () => Effect.succeed(false)
        })
      )
      yield* release(backend, "k", "b")
      yield* allFree(all.slice(1))
    }))

  it.live("contention is told as contention while two of five masters hang", () =>
    Effect.gen(function*() {
      const all = yield* masters(5)
      const first = yield* backendOn(all)
      const second = yield* backendOn(all)
      yield* rounds(second, 1)
      yield* Effect.forEach(all.slice(0, 2), ({ proxy }) => proxy.blackHole)
      yield* grant(first, "k", "a")
      const reply = yield* tryAcquire(second, "k", "b")
      assert(reply._tag === "Held")
      assert.strictEqual(reply.holders[0]?.ownerId, "a")
      assert.strictEqual(yield* holderOf(second, "k"), "a")
    }))

  it.live("a lease outlives the loss of two of five masters, and is lost with the third", () =>
    Effect.gen(function*() {
      const all = yield* masters(5)
      const backend = yield* backendOn(all)
      const { handle } = yield* grant(backend, "k", "a")
      yield* Effect.forEach(all.slice(0, 2), ({ kill }) => kill)
      assert.strictEqual(yield* renew(backend, "k", "a", handle), "Renewed")
      yield* Effect.forEach(all.slice(2), ({ kill, start }) => Effect.andThen(kill, start))
      yield* until(
        "the masters that forgot it say so",
        Effect.map(
          Effect.orElseSucceed(renew(backend, "k", "a", handle), () => "unknown"),
          (outcome) => outcome === "Gone"
        )
      )
    }))

  it.live("masters that were restarted empty do not give a lock away that is held, until maxTtl has passed", () =>
    Effect.gen(function*() {
      const all = yield* masters(5)
      const guarded = { restartGuard: true, maxTtl: "5 seconds", defaults: { ttl: "5 seconds" } } as const
      const lives = Duration.seconds(5)
      const first = yield* backendOn(all, guarded)
      const second = yield* backendOn(all, guarded)
      const young = yield* reasonOf(tryAcquire(first, "k", "early", lives))
      assert(young._tag === "Throttled")
      assert.isTrue(Option.isSome(young.retryAfter))
      assert.match(young.detail, /was restarted and may have forgotten leases.*restartGuard: false/)
      // The masters grow old enough for both.
      const old = Schedule.spaced("100 millis").pipe(Schedule.upTo({ duration: "20 seconds" }))
      yield* Effect.retry(grant(second, "other", "second", lives), old)
      const { handle } = yield* Effect.retry(grant(first, "k", "a", lives), old)
      yield* Effect.forEach(all.slice(0, 3), ({ kill, start }) => Effect.andThen(kill, start))
      yield* until(
        "they are connected again, and refuse to vote",
        Effect.map(Effect.result(tryAcquire(second, "k", "thief", lives)), (outcome) => {
          assert(outcome._tag === "Failure" || outcome.success._tag === "Held", "it was given twice")
          return outcome._tag === "Failure" && outcome.failure.reason._tag === "Throttled"
        })
      )
      // Without the guard, it is given twice: the tokens still order the two.
      const careless = yield* backendOn(all, { restartGuard: false })
      const twice = yield* grant(careless, "k", "careless", lives)
      assert.isAbove(Number(Option.getOrThrow(twice.fencingToken)), Number(handle))
    }))

  it.live("an acquisition that is interrupted, wherever it is, leaves nothing on any master", () =>
    Effect.gen(function*() {
      const all = yield* masters(5)
      const backend = yield* backendOn(all)
      yield* rounds(backend, 1)
      yield* Effect.forEach(all, ({ proxy }, index) => proxy.set({ latency: 5 + 5 * index }))
      for (let after = 0; after < 60; after += 6) {
        const call = Effect.scoped(withLock(`k${after}`)).pipe(Effect.provideService(LockBackend, backend))
        const fiber = yield* Effect.forkChild(call, { startImmediately: true })
        yield* Effect.sleep(after)
        yield* Fiber.interrupt(fiber)
      }
      yield* allFree(all)
    }))

  it.live("a try that was never answered by some leaves nothing on them when they are back", () =>
    Effect.gen(function*() {
      const all = yield* masters(3)
      const backend = yield* backendOn(all, { perNodeTimeout: "2 seconds" })
      yield* rounds(backend, 1)
      const stopped = all.slice(0, 2)
      yield* Effect.forEach(stopped, ({ signal }) => signal("SIGSTOP"))
      yield* reasonOf(tryAcquire(backend, "k", "a"))
      yield* Effect.ignore(release(backend, "k", "a"))
      yield* Effect.forEach(stopped, ({ signal }) => signal("SIGCONT"))
      yield* allFree(all)
      const other = yield* Redlock.make({ nodes: all.map(({ url }) => url), restartGuard: false })
      yield* grant(other, "k", "b")
    }))
})
