import { assert, describe, it } from "@effect/vitest"
import { Cause, DateTime, Duration, Effect, Option, Schema } from "effect"
import {
  Holder,
  InvalidLockRequest,
  LockBackendError,
  LockContended,
  LockLost,
  Misconfigured,
  Protocol,
  Throttled,
  TimedOut,
  Unauthorized,
  Unreachable
} from "effect-lock"
import { retryAfter } from "../src/LockError.ts"

const holder: Holder.Holder = {
  ownerId: "7d4a07c83d06db87f4c026c991468866",
  since: Option.some(DateTime.makeUnsafe("2026-11-21T00:40:00Z")),
  remaining: Option.some(Duration.seconds(12)),
  fencingToken: Option.some(12_345_678_901_234_567_890n),
  metadata: { host: "db-1", job: "close the books" }
}

const anonymous: Holder.Holder = {
  ownerId: "a",
  since: Option.none(),
  remaining: Option.none(),
  fencingToken: Option.none(),
  metadata: {}
}

const contended = (fields: Partial<LockContended>) =>
  new LockContended({
    key: "invoices/2026-11",
    reason: "WaitOver",
    attempts: 3,
    waited: Duration.seconds(10),
    holders: [holder],
    ...fields
  })

const refused = new Error("connect ECONNREFUSED 127.0.0.1:6379")

const reasons = {
  Unreachable: new Unreachable({ detail: "connection refused", cause: refused }),
  TimedOut: new TimedOut({ detail: "no answer within 5s", after: Duration.seconds(5) }),
  Throttled: new Throttled({ detail: "429", retryAfter: Option.some(Duration.seconds(3)) }),
  Unauthorized: new Unauthorized({ detail: "NOAUTH" }),
  Misconfigured: new Misconfigured({ detail: "eviction is on; set maxmemory-policy to noeviction" }),
  Protocol: new Protocol({ detail: "HTML instead of JSON", cause: { body: "<html>" } })
}

const backendError = (reason: LockBackendError["reason"], key?: string) =>
  new LockBackendError({ backend: "redis", operation: "acquire", reason, ...(key === undefined ? {} : { key }) })

// -----------------------------------------------------------------------------
// messages
// -----------------------------------------------------------------------------

describe("LockContended's message", () => {
  it("says who holds the lock, since when, for how long, how long we waited, why we stopped, and what to do", () => {
    assert.strictEqual(
      contended({}).message,
      "lock \"invoices/2026-11\" is held by owner 7d4a07c83d06db87f4c026c991468866, since 2026-11-21T00:40:00.000Z, "
        + "expires in 12s unless renewed, host=db-1, job=close the books. "
        + "Gave up after 10s and 3 refusals: the wait budget is over. "
        + "Wait longer ({ wait }), or, if that holder is known to be dead, "
        + "Lock.break(\"invoices/2026-11\", \"7d4a07c83d06db87f4c026c991468866\")."
    )
  })

  it("leaves out what the backend does not know, and does not name an owner to break where there is none", () => {
    assert.include(contended({ holders: [anonymous] }).message, "is held by owner a. Gave up")
    const { message } = contended({ holders: [] })
    assert.include(message, "is held by another caller. Gave up")
    assert.include(message, "Wait longer ({ wait }), or try again later.")
    assert.notInclude(message, "Lock.break")
  })

  it("names every holder", () => {
    assert.include(contended({ holders: [anonymous, { ...anonymous, ownerId: "b" }] }).message, "owner a; owner b.")
  })

  it("says why the waiting ended", () => {
    assert.include(contended({ reason: "ScheduleOver" }).message, "the schedule ended")
    assert.include(
      contended({ reason: "QueueFull" }).message,
      "too many callers of this process wait for it (maxWaiters)"
    )
  })

  it("of a caller that waits for itself says what to do instead, and blames nobody else", () => {
    const { message } = contended({ reason: "Self", attempts: 0, waited: Duration.zero, holders: [] })
    assert.include(message, "is already held by the caller itself")
    assert.include(message, "locks are not reentrant")
    assert.include(message, "Lock.detached")
    assert.notInclude(message, "Lock.break")
  })

  // Metadata comes from whoever holds the lock; a log line must stay one line and not be painted over.
  it("is one line without control characters, whatever the key and the holder's metadata are", () => {
    const hostile = "x\r\n2026-11-21 ERROR forged\u001b[2K\u0000"
    for (
      const { message } of [
        contended({ key: hostile }),
        contended({ holders: [{ ...holder, ownerId: hostile }] }),
        contended({ holders: [{ ...holder, metadata: { host: hostile } }] }),
        contended({ holders: [{ ...holder, metadata: { [hostile]: "a" } }] })
      ]
    ) {
      assert.notMatch(message, /\p{Cc}/u)
    }
  })

  it("does not show a huge field of the holder's metadata in full", () => {
    const { message } = contended({ holders: [{ ...holder, metadata: { note: "x".repeat(1_000_000) } }] })
    assert.isAtMost(message.length, 10_000)
  })
})

describe("LockBackendError's message", () => {
  it("says which backend, which operation, which lock, what went wrong", () => {
    assert.strictEqual(
      backendError(reasons.Unreachable, "invoices").message,
      "redis: acquire of lock \"invoices\" failed: Unreachable: connection refused"
    )
  })

  it("says no lock where the operation has none", () => {
    const error = new LockBackendError({ backend: "file", operation: "build", reason: reasons.Misconfigured })
    assert.strictEqual(
      error.message,
      "file: build failed: Misconfigured: eviction is on; set maxmemory-policy to noeviction"
    )
  })

  it("keeps a key with control characters on one line", () => {
    assert.notMatch(backendError(reasons.Unreachable, "a\r\nb\u001b[2K").message, /\p{Cc}/u)
  })
})

describe("LockLost's message", () => {
  it("says which lease of which lock, and how it ended", () => {
    const said: Record<LockLost["reason"], string> = {
      Expired: "its trust ran out before a renewal was confirmed",
      Taken: "the backend says that somebody else owns it now",
      Gone: "the backend says that nobody owns it any more",
      Released: "it was released while still in use",
      BackendClosed: "the layer of its backend was closed while it was in use"
    }
    for (const reason of Object.keys(said) as ReadonlyArray<LockLost["reason"]>) {
      const { message } = new LockLost({ key: "k", ownerId: "a", reason })
      assert.strictEqual(message, `lease a of lock "k" was lost: ${said[reason]}`)
    }
  })
})

describe("InvalidLockRequest's message", () => {
  it("names the field, what was received, and what would do", () => {
    const error = new InvalidLockRequest({ field: "ttl", received: "0", allowed: "more than 0" })
    assert.strictEqual(error.message, "ttl is 0; allowed: more than 0")
  })
})

// -----------------------------------------------------------------------------
// fields
// -----------------------------------------------------------------------------

describe("isRetryable", () => {
  const retryable = {
    Unreachable: true,
    TimedOut: true,
    Throttled: true,
    Unauthorized: false,
    Misconfigured: false,
    Protocol: false
  }
  for (const tag of Object.keys(reasons) as ReadonlyArray<keyof typeof reasons>) {
    it(`${tag}: ${retryable[tag]}, on the reason and on the error`, () => {
      assert.strictEqual(reasons[tag].isRetryable, retryable[tag])
      assert.strictEqual(backendError(reasons[tag]).isRetryable, retryable[tag])
    })
  }
})

describe("retryAfter", () => {
  it("is what a backend that throttles asked for, and nothing for the rest", () => {
    assert.deepStrictEqual(retryAfter(backendError(reasons.Throttled)), Option.some(Duration.seconds(3)))
    const unasked = new Throttled({ detail: "429", retryAfter: Option.none() })
    assert.deepStrictEqual(retryAfter(backendError(unasked)), Option.none())
    assert.deepStrictEqual(retryAfter(backendError(reasons.TimedOut)), Option.none())
  })
})

describe("cause", () => {
  it("of a backend error is its reason's, and printed with it", () => {
    const error = backendError(reasons.Unreachable, "k")
    assert.strictEqual(error.cause, refused)
    const printed = Cause.pretty(Cause.fail(error))
    assert.include(printed, error.message)
    assert.include(printed, refused.message)
    assert.isUndefined(backendError(reasons.Unauthorized).cause)
  })

  it("of an expired lease is the last backend error, down to the driver's", () => {
    const error = new LockLost({ key: "k", ownerId: "a", reason: "Expired", cause: backendError(reasons.Unreachable) })
    assert.strictEqual((error.cause as LockBackendError).cause, refused)
    assert.include(Cause.pretty(Cause.fail(error)), refused.message)
  })
})

describe("the errors", () => {
  const lost = new LockLost({ key: "k", ownerId: "a", reason: "Taken" })
  const invalid = new InvalidLockRequest({ field: "ttl", received: "0", allowed: "more than 0" })

  it("are Errors with a tag, a name to print, a stack and no enumerable surprises", () => {
    const fields = {
      LockContended: ["_tag", "key", "reason", "attempts", "waited", "holders"],
      LockBackendError: ["_tag", "backend", "operation", "key", "reason", "cause"],
      LockLost: ["_tag", "key", "ownerId", "reason"],
      InvalidLockRequest: ["_tag", "field", "received", "allowed"]
    }
    for (const error of [contended({}), backendError(reasons.Unreachable, "k"), lost, invalid]) {
      assert.instanceOf(error, Error)
      assert.strictEqual(String(error), `effect-lock/${error._tag}: ${error.message}`)
      assert.isString(error.stack)
      assert.sameMembers(Object.keys(error), fields[error._tag])
    }
  })

  it("refuse to be made with what is not theirs", () => {
    assert.throws(() => contended({ reason: "Timeout" as "WaitOver" }))
    assert.throws(() => contended({ attempts: 1.5 }))
    assert.throws(() => new LockLost({ key: "k", ownerId: "a", reason: "Stolen" as "Taken" }))
  })

  it.effect("are caught by tag, one by one or several at once", () =>
    Effect.gen(function*() {
      const failing = (error: LockContended | LockLost | InvalidLockRequest) => Effect.fail(error)
      const handled = (error: LockContended | LockLost | InvalidLockRequest) =>
        failing(error).pipe(
          Effect.catchTag("LockContended", ({ holders }) => Effect.succeed(holders[0]?.ownerId)),
          Effect.catchTag(["LockLost", "InvalidLockRequest"], ({ _tag }) => Effect.succeed(_tag))
        )
      assert.strictEqual(yield* handled(contended({})), holder.ownerId)
      assert.strictEqual(yield* handled(lost), "LockLost")
      assert.strictEqual(yield* handled(invalid), "InvalidLockRequest")
      assert.strictEqual(yield* Effect.flip(Effect.fail(lost).pipe(Effect.catchTags({ LockLost: Effect.fail }))), lost)
    }))

  it.effect("backend errors are caught by reason; the others stay whole", () =>
    Effect.gen(function*() {
      const handled = (error: LockBackendError) =>
        Effect.fail(error).pipe(
          Effect.catchReason(
            "LockBackendError",
            "Unreachable",
            (reason, whole) => Effect.succeed([reason.detail, whole.operation])
          ),
          Effect.catchReasons("LockBackendError", {
            Throttled: (reason) => Effect.succeed(reason.retryAfter)
          })
        )
      assert.deepStrictEqual(yield* handled(backendError(reasons.Unreachable)), ["connection refused", "acquire"])
      assert.deepStrictEqual(yield* handled(backendError(reasons.Throttled)), Option.some(Duration.seconds(3)))
      const unhandled = backendError(reasons.Protocol)
      assert.strictEqual(yield* Effect.flip(handled(unhandled)), unhandled)
      const unwrapped = Effect.fail(unhandled).pipe(Effect.unwrapReason("LockBackendError"))
      assert.strictEqual(yield* Effect.flip(unwrapped), reasons.Protocol)
    }))

  it.effect("can be yielded", () =>
    Effect.gen(function*() {
      const failed = Effect.gen(function*() {
        return yield* lost
      })
      assert.strictEqual(yield* Effect.flip(failed), lost)
    }))
})

// -----------------------------------------------------------------------------
// over the wire
// -----------------------------------------------------------------------------

describe("a round trip through JSON", () => {
  const roundTrip = <S extends Schema.Codec<unknown, unknown>>(schema: S, error: S["Type"]): S["Type"] => {
    const codec = Schema.toCodecJson(schema)
    const text = JSON.stringify(Schema.encodeUnknownSync(codec)(error))
    return Schema.decodeUnknownSync(codec)(JSON.parse(text))
  }

  it("keeps LockContended: message, holders, tokens beyond 2⁵³", () => {
    for (
      const error of [
        contended({}),
        contended({ holders: [anonymous, holder] }),
        contended({ reason: "Self", attempts: 0, waited: Duration.zero, holders: [] }),
        contended({ waited: Duration.infinity })
      ]
    ) {
      const back = roundTrip(LockContended, error)
      assert.instanceOf(back, LockContended)
      assert.strictEqual(back.message, error.message)
      assert.deepStrictEqual(back.holders, error.holders)
      assert.deepStrictEqual({ ...back }, { ...error })
    }
  })

  it("keeps LockBackendError with every reason: class, fields, isRetryable, the cause's message", () => {
    for (const reason of Object.values(reasons)) {
      const error = backendError(reason, "k")
      const back = roundTrip(LockBackendError, error)
      assert.instanceOf(back, LockBackendError)
      assert.strictEqual(back.reason.constructor, reason.constructor)
      assert.deepStrictEqual(
        [back.message, back.operation, back.key, back.isRetryable, retryAfter(back)],
        [error.message, error.operation, error.key, error.isRetryable, retryAfter(error)]
      )
    }
    const back = roundTrip(LockBackendError, backendError(reasons.Unreachable))
    assert.instanceOf(back.cause, Error)
    assert.strictEqual((back.cause as Error).message, refused.message)
    assert.isUndefined(back.key)
  })

  it("keeps LockLost and the story of its cause", () => {
    const cause = backendError(reasons.Unreachable, "k")
    const back = roundTrip(LockLost, new LockLost({ key: "k", ownerId: "a", reason: "Expired", cause }))
    assert.instanceOf(back, LockLost)
    assert.deepInclude({ ...back }, { key: "k", ownerId: "a", reason: "Expired" })
    assert.strictEqual((back.cause as Error).message, cause.message)
    assert.strictEqual(((back.cause as Error).cause as Error).message, refused.message)
  })

  it("keeps InvalidLockRequest", () => {
    const error = new InvalidLockRequest({ field: "ttl", received: "0", allowed: "more than 0" })
    assert.deepStrictEqual({ ...roundTrip(InvalidLockRequest, error) }, { ...error })
  })

  it("of a cause that is cyclic, or holds a bigint, does not fail", () => {
    const cyclic = Object.assign(new Error("x"), { itself: undefined as unknown, big: 5n })
    cyclic.itself = cyclic
    for (const cause of [cyclic, 5n, { big: 5n }, undefined, null, "x", Symbol("x")]) {
      const back = roundTrip(LockLost, new LockLost({ key: "k", ownerId: "a", reason: "Expired", cause }))
      assert.strictEqual(back.reason, "Expired")
    }
  })

  it("JSON.stringify, as a log writer calls it, works on each of them", () => {
    const errors = [
      contended({}),
      backendError(reasons.Unreachable, "k"),
      new LockLost({ key: "k", ownerId: "a", reason: "Expired", cause: backendError(reasons.Throttled) }),
      new InvalidLockRequest({ field: "ttl", received: "0", allowed: "more than 0" })
    ]
    for (const error of errors) assert.strictEqual(JSON.parse(JSON.stringify(error))._tag, error._tag)
  })
})

describe("Holder.format", () => {
  it("says who, since when, for how much longer, and the metadata", () => {
    assert.strictEqual(
      Holder.format(holder),
      "owner 7d4a07c83d06db87f4c026c991468866, since 2026-11-21T00:40:00.000Z, expires in 12s unless renewed, "
        + "host=db-1, job=close the books"
    )
    assert.strictEqual(Holder.format(anonymous), "owner a")
  })
})
