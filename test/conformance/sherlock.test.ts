/**
 * What the tests of sherlock (Python) assert of its locks, and what its locks get wrong, asked of ours on each backend
 * that it has. The numbers are those of a list of its test-suite's claims.
 */
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { Cause, Deferred, Duration, Effect, Exit, Fiber, Option, Schedule, Scope, Stream } from "effect"
import { Lock, LockBackend, LockBackendError, LockDefaults, Unreachable, withLock } from "effect-lock"
import { backends, type BackendUnderTest, isMissing, type Make, type Service } from "../everyBackend.ts"

const its = new Set(["file", "redis", "etcd", "memcached", "kubernetes"])
const start = { startImmediately: true } as const

const budget = Duration.seconds(5)

/** A try by hand, as a process that will not renew. */
const attempt = (service: Service, key: string, ownerId: string, ttl: Duration.Input = "60 seconds") =>
  service.tryAcquire({ key, ownerId, ttl: Duration.fromInputUnsafe(ttl), metadata: {}, willWait: false, budget })

const take = (service: Service, key: string, ownerId: string, ttl?: Duration.Input) =>
  Effect.flatMap(
    attempt(service, key, ownerId, ttl),
    (reply) => reply._tag === "Acquired" ? Effect.succeed(reply) : Effect.die(new Error(`${key} is held`))
  )

const owners = (service: Service, key: string) =>
  Effect.map(service.inspect({ key, budget }), (holders) => holders.map(({ ownerId }) => ownerId))

const give = (service: Service, key: string, ownerId: string, handle: Option.Option<string>) =>
  service.release({ key, ownerId, handle, unanswered: false, budget })

const on = <A, E, R>(service: Service, effect: Effect.Effect<A, E, R>) =>
  Effect.provideService(effect, LockBackend, service)

/** Asks until the key is granted, for at most the ttl and the slack. */
const takeOnceFree = (backend: BackendUnderTest, service: Service, key: string, ownerId: string) =>
  Effect.gen(function*() {
    const most = Duration.toMillis(backend.ttl) + Duration.toMillis(backend.slack)
    const from = performance.now()
    while (true) {
      const reply = yield* attempt(service, key, ownerId)
      if (reply._tag === "Acquired") return reply
      if (performance.now() - from > most) return yield* Effect.die(new Error(`${key} was not freed in ${most} ms`))
      yield* Effect.sleep("50 millis")
    }
  })

describe.concurrent.each(backends.filter(({ name }) => its.has(name)))("sherlock on $name", (backend) => {
  const missing = isMissing(backend)
  const scope = Scope.makeUnsafe()
  let make: Make
  beforeAll(async () => {
    if (!missing) make = await Effect.runPromise(Effect.provideService(backend.start, Scope.Scope, scope))
  })
  afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))

  // One server for all; each claim has namespaces of its own, and they run side by side.
  let claims = 0
  const claim = (
    name: string,
    check: (first: Service, second: Service, make: Make) => Effect.Effect<unknown, unknown, Scope.Scope>
  ) => {
    const namespace = `claim-${++claims}`
    it.live.skipIf(missing)(name, () =>
      Effect.scoped(
        Effect.gen(function*() {
          const first = yield* make(namespace)
          yield* check(first, yield* make(namespace), (name) => make(`${namespace}-${name}`))
        })
      ), 120_000)
  }

  describe("its tests", () => {
    claim(
      "1, 3, 16: what is stored is the holder's own id; another is refused, and so is the holder",
      (a, b) =>
        Effect.gen(function*() {
          const lease = yield* on(a, withLock("k"))
          assert.deepStrictEqual(yield* owners(b, "k"), [lease.ownerId])
          assert.strictEqual((yield* attempt(b, "k", "another"))._tag, "Held")
          const again = yield* Effect.exit(on(a, withLock("k")))
          assert(Exit.isFailure(again))
          const error = Option.getOrThrow(Cause.findErrorOption(again.cause))
          assert.deepStrictEqual([error._tag, "reason" in error && error.reason], ["LockContended", "Self"])
        })
    )

    claim("2, 7: a namespace keeps locks apart, also when they are released", (a, _, make) =>
      Effect.gen(function*() {
        const other = yield* make("other")
        const mine = yield* take(a, "k", "mine")
        const theirs = yield* take(other, "k", "theirs")
        assert.strictEqual(yield* give(a, "k", "mine", Option.some(mine.handle)), "Released")
        assert.deepStrictEqual(yield* owners(other, "k"), ["theirs"])
        assert.strictEqual(yield* give(other, "k", "theirs", Option.some(theirs.handle)), "Released")
        assert.deepStrictEqual([yield* owners(a, "k"), yield* owners(other, "k")], [[], []])
      }))

    claim(
      "4, 5, 12: an expired lock can be taken by another, and is not renewed by who had it",
      (a, b) =>
        Effect.gen(function*() {
          const { handle } = yield* take(a, "k", "dead", backend.ttl)
          yield* takeOnceFree(backend, b, "k", "heir")
          assert.deepStrictEqual(yield* owners(b, "k"), ["heir"])
          const renewed = yield* a.renew({ key: "k", ownerId: "dead", handle, ttl: backend.ttl, budget })
          assert.deepStrictEqual(renewed, { _tag: "Lost", reason: "Taken" })
          // 15: nor does its late release do any harm.
          assert.strictEqual(yield* give(a, "k", "dead", Option.some(handle)), "NotHeld")
          assert.deepStrictEqual(yield* owners(b, "k"), ["heir"])
        })
    )

    claim("6: a lock that is to be kept is kept, without an expiry of never", (a, b) =>
      Effect.gen(function*() {
        const lease = yield* on(a, withLock("k", { ttl: backend.ttl }))
        const until = performance.now() + 2.5 * Duration.toMillis(backend.ttl)
        while (performance.now() < until) {
          yield* lease.check
          assert.strictEqual((yield* attempt(b, "k", "another"))._tag, "Held")
          yield* Effect.sleep("200 millis")
        }
      }))

    claim("8: a release by who does not hold it is told, and frees nothing", (a, b) =>
      Effect.gen(function*() {
        yield* take(a, "k", "holder")
        assert.strictEqual(yield* give(b, "k", "another", Option.none()), "NotHeld")
        assert.strictEqual(yield* give(b, "free", "another", Option.none()), "NotHeld")
        assert.deepStrictEqual(yield* owners(b, "k"), ["holder"])
      }))

    claim("9, 10: the lock is held until its scope closes, however that ends", (a, b) =>
      Effect.gen(function*() {
        for (const end of [Effect.void, Effect.fail("error"), Effect.die("defect"), Effect.interrupt]) {
          const seen = yield* Deferred.make<ReadonlyArray<string>>()
          const work = Effect.gen(function*() {
            const lease = yield* withLock("k")
            yield* Deferred.succeed(seen, [lease.ownerId])
            assert.deepStrictEqual(yield* owners(b, "k"), [lease.ownerId])
            return yield* end
          })
          yield* Effect.exit(on(a, Effect.scoped(work)))
          assert.lengthOf(yield* Deferred.await(seen), 1)
          assert.deepStrictEqual(yield* owners(b, "k"), [])
        }
      }))

    claim("11: a renewal puts off the expiry", (a, b) =>
      Effect.gen(function*() {
        const lease = yield* on(a, withLock("k", { ttl: "20 seconds", renewEvery: false }))
        // The clock is read at once with what remains, so that a busy machine changes neither.
        const expiry = Effect.map(lease.remaining, (left) => performance.now() + Duration.toMillis(left))
        const before = yield* expiry
        yield* Effect.sleep("200 millis")
        yield* lease.renew
        const [holder] = yield* b.inspect({ key: "k", budget })
        assert.strictEqual(holder?.ownerId, lease.ownerId)
        assert.isAbove(yield* expiry, before + 100)
      }))

    claim("13: after another took over, a renewal tells so", (a, b) =>
      Effect.gen(function*() {
        const { handle } = yield* take(a, "k", "old")
        assert.strictEqual(yield* give(a, "k", "old", Option.some(handle)), "Released")
        yield* take(b, "k", "new")
        const renewed = yield* a.renew({ key: "k", ownerId: "old", handle, ttl: Duration.minutes(1), budget })
        assert.deepStrictEqual(renewed, { _tag: "Lost", reason: "Taken" })
        assert.deepStrictEqual(yield* owners(b, "k"), ["new"])
      }))

    claim("14: what was never acquired is not renewed", (a, b) =>
      Effect.gen(function*() {
        const { handle } = yield* take(a, "other", "somebody")
        const renewed = yield* a.renew({ key: "k", ownerId: "nobody", handle, ttl: Duration.minutes(1), budget })
        assert.deepStrictEqual(renewed, { _tag: "Lost", reason: "Gone" })
        assert.deepStrictEqual(yield* owners(b, "k"), [])
      }))

    claim("17: waiting ends when it should, after so many tries and no more", (a, b) =>
      Effect.gen(function*() {
        yield* take(b, "k", "holder")
        const schedule = Schedule.spaced("100 millis")
        const error = yield* Effect.flip(Effect.scoped(on(a, withLock("k", { wait: "500 millis", schedule }))))
        assert(error._tag === "LockContended")
        assert.strictEqual(error.reason, "WaitOver")
        assert.isAtLeast(Duration.toMillis(error.waited), 499)
        // One at once, then at most one each 100 ms, and one when the wait is over.
        assert.isAtMost(error.attempts, 7)
        assert.deepStrictEqual(error.holders.map(({ ownerId }) => ownerId), ["holder"])
      }))

    claim(
      "18: a call's options win over the defaults of the program, unset is not none, and no wait is allowed",
      (a, b) =>
        Effect.gen(function*() {
          yield* take(b, "k", "holder")
          const refused = (options?: { readonly wait?: Duration.Input | undefined }) =>
            Effect.flip(Effect.scoped(on(a, withLock("k", options)))).pipe(
              Effect.provideService(LockDefaults, { wait: "200 millis" }),
              Effect.map((error) => error._tag === "LockContended" ? Duration.toMillis(error.waited) : -1)
            )
          assert.isAtLeast(yield* refused(), 199)
          assert.isAtLeast(yield* refused({ wait: undefined }), 199)
          const none = yield* Effect.flip(Effect.scoped(on(a, withLock("k", { wait: 0 }))))
          assert.deepStrictEqual([none._tag, "attempts" in none && none.attempts], ["LockContended", 1])
        })
    )

    claim("21: a lock goes by the caller's own name, however the backend spells it", (a, b) =>
      Effect.gen(function*() {
        yield* take(b, "Invoices/2026-11", "somebody")
        const error = yield* Effect.flip(Effect.scoped(on(a, withLock("Invoices/2026-11", { wait: 0 }))))
        assert.include(error.message, "\"Invoices/2026-11\"")
        if (a.list === undefined) return
        const listed = yield* on(a, Stream.runCollect(Lock.list("Invoices/")))
        assert.deepStrictEqual([...listed].map(({ key }) => key), ["Invoices/2026-11"])
      }))

    claim(
      "22: a name that can't be one is refused before anything is sent, and the error says which",
      (a) =>
        Effect.gen(function*() {
          for (const key of ["", "a\nb", "x".repeat(513), "\ud800"]) {
            const error = yield* Effect.flip(Effect.scoped(on(a, withLock(key))))
            assert(error._tag === "InvalidLockRequest")
            assert.strictEqual(error.field, "key")
          }
          // What its Kubernetes locks can't be called, ours can.
          for (const key of ["Upper Case", "under_score", "1digit", "x".repeat(300), "a/b", "ünïcode", "..", "{a}b"]) {
            const lease = yield* Effect.scoped(on(a, withLock(key)))
            assert.strictEqual(lease.key, key)
          }
        })
    )
  })

  describe("its defects", () => {
    claim(
      "job.1 and job.2 are two locks; so are Job and job, and a-b with c and a with b-c",
      (a, _, make) =>
        Effect.gen(function*() {
          for (const key of ["job.1", "job.2", "job", "Job", "job.", "job.lock"]) yield* take(a, key, `of ${key}`)
          yield* take(yield* make("a-b"), "c", "one")
          yield* take(yield* make("a"), "b-c", "two")
        })
    )

    claim(
      "a release never frees another's lock, not even with a handle that was right once",
      (a, b) =>
        Effect.gen(function*() {
          const { handle } = yield* take(a, "k", "old")
          yield* give(a, "k", "old", Option.some(handle))
          yield* take(b, "k", "new")
          for (const which of [Option.some(handle), Option.none()]) {
            assert.strictEqual(yield* give(a, "k", "old", which), "NotHeld")
          }
          assert.deepStrictEqual(yield* owners(a, "k"), ["new"])
        })
    )

    claim("waiting counts the time of the requests", (a, b) =>
      Effect.gen(function*() {
        yield* take(b, "k", "holder")
        // Each request takes 200 ms, and sixteen of them were sent in a second of "timeout" there.
        const slow = yield* LockBackend.make({
          ...a,
          tryAcquire: (request) => Effect.delay(a.tryAcquire(request), "200 millis")
        })
        const schedule = Schedule.spaced("1 millis")
        const error = yield* Effect.flip(Effect.scoped(on(slow, withLock("k", { wait: "1 second", schedule }))))
        assert(error._tag === "LockContended")
        assert.isAtMost(error.attempts, 6)
      }))

    claim(
      "a lost reply orphans nothing: the next try knows its own, and giving up gives back",
      (a, b) =>
        Effect.gen(function*() {
          let sent = 0
          const lossy = yield* LockBackend.make({
            ...a,
            tryAcquire: (request) =>
              Effect.flatMap(
                a.tryAcquire(request),
                (reply) => sent++ === 0 ? Effect.fail(noAnswer(request.key)) : Effect.succeed(reply)
              )
          })
          const key = yield* Effect.scoped(Effect.map(on(lossy, withLock("k", { wait: "20 seconds" })), (l) => l.key))
          assert.deepStrictEqual([key, sent, yield* owners(b, "k")], ["k", 2, []])
          // This one gives up right after the lost reply.
          sent = 0
          const caller = yield* Effect.forkChild(Effect.scoped(on(lossy, withLock("gone"))), start)
          yield* Effect.suspend(() => sent > 0 ? Effect.void : Effect.fail("not yet")).pipe(
            Effect.retry(Schedule.spaced("5 millis")),
            Effect.timeout("20 seconds")
          )
          yield* Fiber.interrupt(caller)
          assert.deepStrictEqual(yield* owners(b, "gone"), [])
        })
    )
  })
})

const noAnswer = (key: string) =>
  new LockBackendError({ backend: "lossy", operation: "acquire", key, reason: new Unreachable({ detail: "reset" }) })
