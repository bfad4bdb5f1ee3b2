import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Option, Stream } from "effect"
import type { LockBackendError } from "effect-lock"
import { TestClock } from "effect/testing"
import { type Fault, GcsServer, type Method, problem, type Reply } from "../servers/GcsServer.ts"
import { budget, grantOf, holderOf, open, pass, ttl } from "./internal/gcsLocks.ts"

const reset = (applied: boolean): Fault => ({ _tag: "Reset", applied })
const answer = (reply: Reply, applied = false): Fault => ({ _tag: "Answer", reply, applied })

const fails = (
  error: LockBackendError,
  tag: LockBackendError["reason"]["_tag"],
  ...words: ReadonlyArray<string | RegExp>
) => {
  assert.strictEqual(error.reason._tag, tag, error.message)
  for (const word of words) assert.match(error.message, typeof word === "string" ? new RegExp(word) : word)
}

const without = (metadata: Record<string, string>, name: string) =>
  Object.fromEntries(Object.entries(metadata).filter(([each]) => each !== name))

/** A server, two backends on it, and a lock of "a" with its handle. */
const held = Effect.gen(function*() {
  const server = new GcsServer()
  const a = yield* open(server)
  const b = yield* open(server)
  const { handle } = grantOf(yield* a.tryAcquire("a"))
  server.methods()
  return { server, a, b, handle }
})

describe("an answer that is no answer", () => {
  const unavailable: ReadonlyArray<readonly [string, number, string]> = [
    ["408", 408, ""],
    ["500", 500, "backendError"],
    ["502", 502, ""],
    ["503", 503, "backendError"],
    ["504", 504, ""]
  ]
  for (const [name, status, reason] of unavailable) {
    it.effect(`${name} of a renewal or a release is an outage, to be retried`, () =>
      Effect.gen(function*() {
        const { a, handle, server } = yield* held
        server.fault = () => answer(problem(status, reason))
        for (const error of [yield* Effect.flip(a.renew("a", handle)), yield* Effect.flip(a.release("a", handle))]) {
          fails(error, "Unreachable", `HTTP ${status}`)
          assert.isTrue(error.isRetryable)
        }
        assert.lengthOf(server.asked, 2)
      }))
  }

  const refused: ReadonlyArray<
    readonly [
      what: string,
      method: Method,
      reply: Reply,
      tag: LockBackendError["reason"]["_tag"],
      ...ReadonlyArray<string | RegExp>
    ]
  > = [
    ["a missing bucket", "insert", problem(404, "notFound"), "Misconfigured", "bucket \"locks\" does not exist"],
    ["no permission to create", "insert", problem(403, "forbidden"), "Unauthorized", "storage.objects.create"],
    ["no permission to read", "get", problem(403, "forbidden"), "Unauthorized", "objects.get", "objects.list"],
    ["no permission to change", "patch", problem(403, "forbidden"), "Unauthorized", "objects.update"],
    [
      "no scope to change",
      "patch",
      problem(403, "insufficientPermissions"),
      "Unauthorized",
      "devstorage.full_control or cloud-platform"
    ],
    ["no permission to delete", "delete", problem(403, "forbidden"), "Unauthorized", "storage.objects.delete"],
    [
      "no scope to create",
      "insert",
      problem(403, "insufficientPermissions"),
      "Unauthorized",
      "OAuth scope that covers it"
    ],
    ["no credentials", "insert", problem(401, "authError"), "Unauthorized", "credentials"],
    ["a retention policy", "delete", problem(403, "retentionPolicyNotMet"), "Misconfigured", "retention policy"],
    ["a hold", "delete", problem(403, "objectUnderActiveHold"), "Misconfigured", "hold"],
    ["requester pays", "insert", problem(400, "required"), "Misconfigured", "userProject"],
    ["a project that may not pay", "insert", problem(403, "userProjectAccessDenied"), "Unauthorized", "serviceusage"],
    ["no billing", "insert", problem(403, "accountDisabled"), "Misconfigured", "billing"],
    ["a bad request", "insert", problem(400, "invalid"), "Misconfigured", "mend the endpoint"],
    [
      "a redirection",
      "insert",
      { status: 302, headers: { location: "http://x/" }, body: "" },
      "Misconfigured",
      "HTTP 302"
    ],
    ["a page of a proxy", "insert", { status: 200, headers: {}, body: "<html>Hello" }, "Protocol", "JSON API"],
    [
      "an object of another shape",
      "insert",
      { status: 200, headers: {}, body: "{\"name\":1}" },
      "Protocol",
      "JSON API"
    ],
    ["no content", "patch", { status: 204, headers: {}, body: "" }, "Protocol"],
    [
      "the limit of changes",
      "patch",
      problem(429, "rateLimitExceeded", { "retry-after": "7" }),
      "Throttled",
      "one change per second"
    ],
    ["the limit, as a 403", "patch", problem(403, "userRateLimitExceeded"), "Throttled"],
    ["another change under way", "patch", problem(409, "conflict"), "Throttled"]
  ]
  for (const [what, method, reply, tag, ...words] of refused) {
    it.effect(`${what} (${method}) is ${tag}, and says what to do`, () =>
      Effect.gen(function*() {
        const { a, b, handle, server } = yield* held
        server.fault = (asked) => asked.method === method ? answer(reply) : undefined
        const call: Effect.Effect<unknown, LockBackendError> = method === "patch"
          ? a.renew("a", handle)
          : method === "delete"
          ? a.release("a", handle)
          : method === "get"
          ? b.inspect()
          : b.tryAcquire("b")
        const error = yield* Effect.flip(call)
        fails(error, tag, ...words)
        assert.strictEqual(error.backend, "gcs")
        assert.isUndefined(error.cause)
      }))
  }

  it.effect("of a listing in a missing bucket is Misconfigured", () =>
    Effect.gen(function*() {
      const server = new GcsServer()
      const a = yield* open(server, { bucket: "missing" })
      fails(yield* Effect.flip(Stream.runCollect(a.service.list!(""))), "Misconfigured", "bucket \"missing\"")
      assert.deepStrictEqual(yield* a.inspect(), [])
    }))

  it.effect("may say how long to stay away, in seconds or by the server's own clock", () =>
    Effect.gen(function*() {
      const { a, handle, server } = yield* held
      const retryAfter = (headers: Record<string, string>) =>
        Effect.map(
          Effect.andThen(
            Effect.sync(() => server.failNext("patch", answer(problem(429, "rateLimitExceeded", headers)))),
            Effect.flip(a.renew("a", handle))
          ),
          ({ reason }) => reason._tag === "Throttled" ? Option.map(reason.retryAfter, Duration.toMillis) : reason._tag
        )
      assert.deepStrictEqual(yield* retryAfter({ "retry-after": "7" }), Option.some(7000))
      assert.deepStrictEqual(
        yield* retryAfter({
          "retry-after": "Sat, 01 Jan 2000 00:00:09 GMT",
          date: "Sat, 01 Jan 2000 00:00:05 GMT"
        }),
        Option.some(4000)
      )
      assert.deepStrictEqual(yield* retryAfter({ "retry-after": "soon" }), Option.none())
      assert.deepStrictEqual(yield* retryAfter({}), Option.none())
    }))
})

describe("a create that was not answered", () => {
  const lost: ReadonlyArray<readonly [string, Fault]> = [
    ["was cut off", reset(true)],
    ["was answered 503", answer(problem(503, "backendError"), true)],
    ["was answered 429", answer(problem(429, "rateLimitExceeded"), true)],
    ["was answered 412, because something repeated it", answer(problem(412, "conditionNotMet"), true)]
  ]
  for (const [how, fault] of lost) {
    it.effect(`but done, and ${how}, is recognised by its owner id, and renewed`, () =>
      Effect.gen(function*() {
        const server = new GcsServer()
        const a = yield* open(server)
        server.failNext("insert", fault)
        const { handle } = grantOf(yield* a.tryAcquire("a"))
        assert.deepStrictEqual(server.methods(), ["insert", "get", "patch"])
        assert.strictEqual(server.object.metageneration, "2")
        assert.strictEqual(yield* a.release("a", handle), "Released")
      }))
  }

  it.effect("and not done is an outage: the next try takes the lock", () =>
    Effect.gen(function*() {
      const server = new GcsServer()
      const a = yield* open(server)
      server.failNext("insert", reset(false))
      fails(yield* Effect.flip(a.tryAcquire("a")), "Unreachable", "ECONNRESET")
      assert.deepStrictEqual(server.methods(), ["insert", "get"])
      grantOf(yield* a.tryAcquire("a"))
      assert.deepStrictEqual(server.methods(), ["get", "insert"])
    }))

  it.effect("because of the limit of changes is contention if somebody holds the lock, else Throttled", () =>
    Effect.gen(function*() {
      const { a, b, handle, server } = yield* held
      server.settings.limited = true
      assert.strictEqual(holderOf(yield* b.tryAcquire("b")), "a")
      yield* pass(1000)
      yield* a.release("a", handle)
      fails(yield* Effect.flip(b.tryAcquire("b")), "Throttled")
      yield* pass(1000)
      grantOf(yield* b.tryAcquire("b"))
    }))

  it.effect("and can't be looked up is an outage, not contention", () =>
    Effect.gen(function*() {
      const { b, server } = yield* held
      server.fault = () => reset(false)
      fails(yield* Effect.flip(b.tryAcquire("b")), "Unreachable")
      server.fault = ({ method }) => answer(problem(method === "get" ? 403 : 503, "forbidden"))
      fails(yield* Effect.flip(b.tryAcquire("c")), "Unauthorized", "objects.get")
    }))

  it.effect("of a takeover is recognised too, with its fencing token", () =>
    Effect.gen(function*() {
      const { b, server } = yield* held
      yield* pass(ttl + 3000)
      server.fault = ({ method, request }) =>
        method === "insert" && !request.path.includes("ifGenerationMatch=0") ? reset(true) : undefined
      const grant = grantOf(yield* b.tryAcquire("b"))
      assert.deepStrictEqual(server.methods(), ["insert", "get", "insert", "get", "patch"])
      assert.deepStrictEqual(grant.fencingToken, Option.some(BigInt(server.object.generation)))
    }))

  it.effect("is given back, if its caller gives up, as soon as it is found", () =>
    Effect.gen(function*() {
      const server = new GcsServer()
      const a = yield* open(server)
      server.failNext("insert", { _tag: "Hang", applied: true })
      const attempt = yield* Effect.forkChild(a.tryAcquire("a"), { startImmediately: true })
      yield* Effect.yieldNow
      yield* Fiber.interrupt(attempt)
      assert.strictEqual(server.data.objects.size, 1)
      assert.strictEqual(yield* a.release("a"), "Released")
      assert.strictEqual(server.data.objects.size, 0)
    }))
})

describe("a server that hangs", () => {
  const patience = (self: Effect.Effect<unknown, LockBackendError>) =>
    Effect.gen(function*() {
      const fiber = yield* Effect.forkChild(Effect.exit(self), { startImmediately: true })
      let waited = 0
      for (; fiber.pollUnsafe() === undefined && waited < 60_000; waited += 100) yield* TestClock.adjust(100)
      return { waited, exit: yield* Fiber.join(fiber) }
    })

  it.effect("keeps no request longer than a third of the budget, and no verb longer than the budget", () =>
    Effect.gen(function*() {
      const { a, b, handle, server } = yield* held
      server.fault = () => ({ _tag: "Hang", applied: false })
      const third = Duration.toMillis(budget) / 3
      const verbs: ReadonlyArray<readonly [string, Effect.Effect<unknown, LockBackendError>, number]> = [
        ["renew", a.renew("a", handle), third],
        ["release", a.release("a", handle), third],
        ["inspect", b.inspect(), third],
        // A create and a look.
        ["acquire", b.tryAcquire("b"), 2 * third]
      ]
      for (const [name, verb, most] of verbs) {
        const { exit, waited } = yield* patience(verb)
        const error = Exit.findErrorOption(exit)
        assert(Option.isSome(error), name)
        assert.strictEqual(error.value.reason._tag, "TimedOut", name)
        assert.isAtMost(waited, most + 200, name)
      }
    }))

  it.effect("is not asked for more than the budget in all, however many requests a verb needs", () =>
    Effect.gen(function*() {
      const { b, server } = yield* held
      yield* b.tryAcquire("b")
      yield* pass(ttl + 3000)
      // Every answer comes just in time, and every condition fails.
      const late = Effect.sleep(Duration.toMillis(budget) / 3 - 400)
      server.fault = ({ method }) =>
        method === "insert"
          ? answer(problem(412, "conditionNotMet"))
          : { _tag: "Meanwhile", effect: late }
      const { exit, waited } = yield* patience(b.tryAcquire("b"))
      const error = Exit.findErrorOption(exit)
      assert(Option.isSome(error))
      assert.strictEqual(error.value.reason._tag, "TimedOut")
      assert.isAtMost(waited, Duration.toMillis(budget) + 200)
    }))
})

describe("a renewal", () => {
  it.effect("whose answer is lost is sent again as it was", () =>
    Effect.gen(function*() {
      const { a, handle, server } = yield* held
      for (const fault of [reset(true), reset(false), answer(problem(503, "backendError"), true)]) {
        server.failNext("patch", fault)
        fails(yield* Effect.flip(a.renew("a", handle)), "Unreachable")
        assert.strictEqual((yield* a.renew("a", handle))._tag, "Renewed")
      }
    }))

  it.effect("counts only if the answer shows that it was done", () =>
    Effect.gen(function*() {
      const { a, handle, server } = yield* held
      server.settings.countsMetageneration = false
      fails(yield* Effect.flip(a.renew("a", handle)), "Protocol", "higher metageneration")
    }))

  it.effect("is not taken from an answer about another version, another holder, or a lock that was given back", () =>
    Effect.gen(function*() {
      const { a, handle, server } = yield* held
      const resource = { ...server.object, metageneration: "9" }
      const others = [
        { ...resource, generation: "77" },
        { ...resource, metadata: { ...resource.metadata, owner: "somebody" } },
        { ...resource, metadata: { ...resource.metadata, state: "free" } }
      ]
      for (const other of others) {
        server.failNext("patch", answer({ status: 200, headers: {}, body: JSON.stringify(other) }))
        assert.strictEqual((yield* a.renew("a", handle))._tag, "Lost")
      }
    }))

  it.effect("that is refused is lost, though nobody can say to whom", () =>
    Effect.gen(function*() {
      const { a, handle, server } = yield* held
      server.fault = ({ method }) => method === "patch" ? answer(problem(412, "conditionNotMet")) : reset(false)
      assert.deepStrictEqual(yield* a.renew("a", handle), { _tag: "Lost", reason: "Taken" })
    }))

  it.effect("of an object that something else deleted is lost", () =>
    Effect.gen(function*() {
      const { a, handle, server } = yield* held
      server.data.objects.clear()
      assert.deepStrictEqual(yield* a.renew("a", handle), { _tag: "Lost", reason: "Gone" })
    }))
})

describe("a release", () => {
  for (const onRelease of ["delete", "keep"] as const) {
    it.effect(`whose answer is lost can be sent again (${onRelease})`, () =>
      Effect.gen(function*() {
        const server = new GcsServer()
        const a = yield* open(server, { onRelease })
        const { handle } = grantOf(yield* a.tryAcquire("a"))
        server.failNext(onRelease === "delete" ? "delete" : "patch", reset(true))
        fails(yield* Effect.flip(a.release("a", handle)), "Unreachable")
        assert.strictEqual(yield* a.release("a", handle), "NotHeld")
        grantOf(yield* a.tryAcquire("b"))
      }))
  }

  it.effect("of a lock in a bucket with a retention policy fails, and does not pretend", () =>
    Effect.gen(function*() {
      const { a, handle, server } = yield* held
      server.settings.retained = true
      assert.strictEqual((yield* a.renew("a", handle))._tag, "Renewed")
      fails(yield* Effect.flip(a.release("a", handle)), "Misconfigured", "retention policy or a hold")
    }))
})

describe("what something else put there", () => {
  const damages: ReadonlyArray<readonly [string, (metadata: Record<string, string>) => Record<string, string>]> = [
    ["an object without metadata", () => ({})],
    ["a lock of a later version of the protocol", (metadata) => ({ ...metadata, "effect-lock": "2" })],
    ["a lock without a holder", (metadata) => without(metadata, "owner")],
    ["a lock without a ttl", (metadata) => without(metadata, "ttl")],
    ["a lock with an endless ttl", (metadata) => ({ ...metadata, ttl: "Infinity" })],
    ["a lock in an unknown state", (metadata) => ({ ...metadata, state: "lost" })],
    ["a lock with damaged metadata", (metadata) => ({ ...metadata, metadata: "{" })]
  ]
  for (const [what, damage] of damages) {
    it.effect(`${what} is a Protocol error for everybody, and stays as it is`, () =>
      Effect.gen(function*() {
        const { a, b, handle, server } = yield* held
        server.object.metadata = damage(server.object.metadata)
        const before = JSON.stringify(server.object.metadata)
        yield* pass(ttl + 3000)
        const words = "\"n-/l-k\" in bucket \"locks\" is no lock"
        fails(yield* Effect.flip(b.tryAcquire("b")), "Protocol", words)
        fails(yield* Effect.flip(b.inspect()), "Protocol", words)
        fails(yield* Effect.flip(b.breakLock("a", true)), "Protocol", words)
        assert.deepStrictEqual(yield* Stream.runCollect(b.service.list!("")), [])
        assert.strictEqual(JSON.stringify(server.object.metadata), before)
        assert.strictEqual(yield* a.release("a", handle), "Released")
      }))
  }

  it.effect("that changes all the time fails in the end, without a claim", () =>
    Effect.gen(function*() {
      const { a, b, handle, server } = yield* held
      server.fault = ({ method }) =>
        method === "delete" || (method === "insert" && server.asked.length > 1)
          ? answer(problem(412, "conditionNotMet"))
          : undefined
      fails(yield* Effect.flip(a.release("a", handle)), "Protocol", "changed between")
      fails(yield* Effect.flip(b.breakLock("a", true)), "Protocol", "changed between")
      fails(yield* Effect.flip(b.breakLock("a", false)), "Protocol", "changed between")
      yield* pass(ttl + 3000)
      assert.deepStrictEqual(yield* b.tryAcquire("b"), { _tag: "Held", holders: [], retryAfter: Option.none() })
    }))
})
