import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Option, Random, Result, Schedule, Schema, type Scope, Stream } from "effect"
import {
  InvalidLockRequest,
  Lock,
  type LockBackend,
  LockDefaults,
  type LockOptions,
  withLock,
  withLockIfAvailable
} from "effect-lock"
import {
  defaultSchedule,
  fullJitter,
  invalidKey,
  invalidNamespace,
  isBlind,
  resolve,
  resolveDuration
} from "../src/LockOptions.ts"
import { backend } from "./backends.ts"

const limits = { minTtl: 100, granularity: 0 }

/** What callers without types can pass. */
const resolveUnknown = (options: unknown) => resolve(limits, options as LockOptions, undefined, undefined)

const refusal = (options: unknown): InvalidLockRequest => {
  const resolved = resolveUnknown(options)
  assert.isTrue(Result.isFailure(resolved), "the request was accepted")
  return Result.getOrThrow(Result.flip(resolved))
}

const accepted = (options: unknown) => Result.getOrThrow(resolveUnknown(options))

const optionNames = [
  "ttl",
  "wait",
  "schedule",
  "renewEvery",
  "operationTimeout",
  "outageBudget",
  "safetyMargin",
  "maxHold",
  "maxWaiters",
  "metadata"
] as const

const cyclic: Record<string, unknown> = {}
cyclic["itself"] = cyclic

// -----------------------------------------------------------------------------
// durations
// -----------------------------------------------------------------------------

/** No duration at all, whatever the option. */
const noDurations: ReadonlyArray<readonly [raw: unknown, received: string]> = [
  [NaN, "NaN"],
  [{ seconds: NaN }, "an object"],
  [{ seconds: "5" }, "an object"],
  [[NaN, 0], "an array of 2"],
  [[1], "an array of 1"],
  [[1, 2, 3], "an array of 3"],
  ["", "\"\""],
  ["5 parsecs", "\"5 parsecs\""],
  ["5s", "\"5s\""],
  ["30", "\"30\""],
  ["30 seconds\n", "\"30 seconds\\n\""],
  ["never", "\"never\""],
  [true, "true"],
  [Symbol("30 seconds"), "a symbol"],
  [() => 30, "a function"]
]

/** Objects that share nothing with a duration; read as one they would be 0. */
const noParts: ReadonlyArray<unknown> = [
  { second: 5 },
  { ms: 5 },
  new Date(5),
  new Map([["seconds", 5]]),
  new Error("5"),
  cyclic
]

const negatives: ReadonlyArray<readonly [raw: unknown, received: string]> = [
  [-1, "-1"],
  [-1n, "-1n"],
  [-Infinity, "-Infinity"],
  ["-Infinity", "\"-Infinity\""],
  ["-5 seconds", "\"-5 seconds\""],
  [{ seconds: -1 }, "an object"],
  [[-1, 0], "an array of 2"],
  [Duration.millis(-1), "-1ms"]
]

const zeros: ReadonlyArray<readonly [raw: unknown, received: string]> = [
  [0, "0"],
  [-0, "0"],
  [0n, "0n"],
  ["0 millis", "\"0 millis\""],
  [{ seconds: 0 }, "an object"],
  [Duration.zero, "0"]
]

const infinites: ReadonlyArray<readonly [raw: unknown, received: string]> = [
  [Infinity, "Infinity"],
  ["Infinity", "\"Infinity\""],
  [{ days: Infinity }, "an object"],
  [[Infinity, 0], "an array of 2"],
  [Duration.infinity, "Infinity"]
]

const tooLong: ReadonlyArray<readonly [raw: unknown, received: string]> = [
  [86_400_001, "86400001"],
  ["25 hours", "\"25 hours\""],
  [2 ** 31, "2147483648"],
  [2 ** 53, "9007199254740992"],
  [1e21, "1e+21"],
  [10n ** 18n, "1000000000000000000n"],
  [10n ** 20n, "a bigint of more than 64 bits"],
  [{ weeks: 1 }, "an object"]
]

const durations: Record<string, ReadonlyArray<readonly [raw: unknown, received: string]>> = {
  ttl: [...noDurations, ...negatives, ...zeros, ...infinites, ...tooLong, [0.4e-6, "4e-7"], ["forever", "\"forever\""]],
  wait: [...noDurations, ...negatives],
  renewEvery: [...noDurations, ...negatives, ...zeros, ...infinites, ["forever", "\"forever\""]],
  operationTimeout: [...noDurations, ...negatives, ...zeros, ...infinites, ["11 seconds", "\"11 seconds\""]],
  outageBudget: [...noDurations, ...negatives],
  safetyMargin: [...noDurations, ...negatives, ...infinites, ["8 seconds", "\"8 seconds\""]],
  maxHold: [...noDurations, ...negatives, ...zeros]
}

describe("what is no duration, or one out of bounds, is refused by the name of its field", () => {
  for (const [field, wrongs] of Object.entries(durations)) {
    it(field, () => {
      for (const [raw, received] of wrongs) {
        const invalid = refusal({ [field]: raw })
        assert.deepStrictEqual([invalid.field, invalid.received], [field, received])
        assert.include(invalid.allowed, "a duration such as \"30 seconds\"")
        assert.strictEqual(invalid.message, `${field} is ${received}; allowed: ${invalid.allowed}`)
      }
    })
  }

  it("an object without any part of a duration's is not taken for 0", () => {
    for (const field of Object.keys(durations)) {
      for (const raw of noParts) {
        const invalid = refusal({ [field]: raw })
        assert.deepStrictEqual([invalid.field, invalid.received], [field, "an object"])
      }
    }
  })

  it("and the bounds are told", () => {
    const allowed = (options: unknown) => refusal(options).allowed
    assert.strictEqual(
      allowed({ ttl: 0 }),
      "a duration such as \"30 seconds\", more than 0, at most 1d, finite"
    )
    assert.include(allowed({ operationTimeout: "11 seconds" }), "at most 10s (a third of the ttl)")
    assert.include(allowed({ safetyMargin: "8 seconds" }), "at most 7s 500ms (a quarter of the ttl)")
    assert.include(allowed({ wait: -1 }), "0 or more")
    assert.notInclude(allowed({ wait: -1 }), "finite")
  })
})

describe("every form of Duration.Input is understood", () => {
  const forms: ReadonlyArray<readonly [form: string, tenSeconds: Duration.Input]> = [
    ["milliseconds", 10_000],
    ["nanoseconds as a bigint", 10_000_000_000n],
    ["seconds and nanoseconds", [10, 0]],
    ["words", "10 seconds"],
    ["an object", { seconds: 10 }],
    ["an object with parts that are undefined", { seconds: 10, minutes: undefined }],
    ["a Duration", Duration.seconds(10)]
  ]
  for (const [form, tenSeconds] of forms) {
    it(form, () => {
      assert.strictEqual(accepted({ ttl: tenSeconds }).ttl, 10_000)
      assert.strictEqual(accepted({ wait: tenSeconds }).wait, 10_000)
      assert.strictEqual(accepted({ renewEvery: tenSeconds }).renewEvery, 10_000)
      assert.strictEqual(accepted({ operationTimeout: tenSeconds }).operationTimeout, 10_000)
      assert.strictEqual(accepted({ outageBudget: tenSeconds }).outageBudget, 10_000)
      assert.strictEqual(accepted({ maxHold: tenSeconds }).maxHold, 10_000)
      assert.strictEqual(accepted({ ttl: "1 minute", safetyMargin: tenSeconds }).safetyMargin, 10_000)
    })
  }

  it("\"forever\" and every infinity of wait, outageBudget and maxHold are Infinity", () => {
    assert.strictEqual(accepted({ wait: "forever" }).wait, Infinity)
    for (const [infinite] of infinites) {
      assert.strictEqual(accepted({ wait: infinite }).wait, Infinity)
      assert.strictEqual(accepted({ outageBudget: infinite }).outageBudget, Infinity)
      assert.strictEqual(accepted({ maxHold: infinite }).maxHold, Infinity)
    }
  })

  it("0 is a wait, an outageBudget and a safetyMargin", () => {
    for (const [zero] of zeros) {
      assert.strictEqual(accepted({ wait: zero }).wait, 0)
      assert.strictEqual(accepted({ outageBudget: zero }).outageBudget, 0)
      assert.strictEqual(accepted({ safetyMargin: zero }).safetyMargin, 0)
    }
  })

  it("renewEvery: false is no renewal, and no renewal can be too late", () => {
    assert.isFalse(accepted({ renewEvery: false }).renewEvery)
    assert.isFalse(accepted({ ttl: "100 millis", renewEvery: false }).renewEvery)
  })
})

describe("the ttl and what depends on it", () => {
  it("defaults follow the ttl: renewal at a third, 5 s or a quarter for one operation, 5 % margin", () => {
    const { schedule: _, ...of30Seconds } = accepted({})
    assert.deepStrictEqual(of30Seconds, {
      ttl: 30_000,
      wait: Infinity,
      ownSchedule: false,
      renewEvery: 10_000,
      operationTimeout: 5_000,
      outageBudget: 30_000,
      safetyMargin: 1_500,
      maxHold: Infinity,
      maxWaiters: 100_000,
      metadata: {}
    })
    const of4Seconds = accepted({ ttl: "4 seconds" })
    assert.strictEqual(of4Seconds.operationTimeout, 1_000)
    assert.strictEqual(of4Seconds.outageBudget, 4_000)
    assert.strictEqual(of4Seconds.safetyMargin, 200)
    assert.closeTo(of4Seconds.renewEvery as number, 4_000 / 3, 1e-3)
  })

  it("the backend's granularity is added to the default safety margin", () => {
    const resolved = resolve({ minTtl: 100, granularity: 1_000 }, {}, undefined, undefined)
    assert.strictEqual(Result.getOrThrow(resolved).safetyMargin, 2_500)
  })

  it("the bounds themselves are allowed: the floor, a day, a third for one operation, a quarter of margin", () => {
    assert.strictEqual(accepted({ ttl: 100 }).ttl, 100)
    assert.strictEqual(accepted({ ttl: "24 hours" }).ttl, 86_400_000)
    assert.strictEqual(accepted({ operationTimeout: "10 seconds" }).operationTimeout, 10_000)
    assert.strictEqual(accepted({ safetyMargin: 7_500 }).safetyMargin, 7_500)
    assert.strictEqual(refusal({ operationTimeout: 10_001 }).field, "operationTimeout")
    assert.strictEqual(refusal({ safetyMargin: 7_501 }).field, "safetyMargin")
  })

  it("a ttl of the call's below the backend's floor is refused, with the floor", () => {
    for (const ttl of [99, "99 millis", 1n, 0.5, [0, 1]]) {
      const invalid = refusal({ ttl })
      assert.strictEqual(invalid.field, "ttl")
      assert.strictEqual(invalid.allowed, "at least 100ms with this backend")
    }
    const invalid = resolve({ minTtl: 10_000, granularity: 0 }, { ttl: "5 seconds" }, undefined, undefined)
    assert.isTrue(Result.isFailure(invalid))
  })

  it("a default below the floor is raised to it, wherever it comes from, and what depends on the ttl with it", () => {
    const floor = { minTtl: 60_000, granularity: 0 }
    for (
      const resolved of [
        resolve(floor, undefined, undefined, undefined),
        resolve(floor, {}, { ttl: "1 second" }, undefined),
        resolve(floor, { ttl: undefined }, undefined, { ttl: "1 second" })
      ]
    ) {
      const { operationTimeout, renewEvery, safetyMargin, ttl } = Result.getOrThrow(resolved)
      assert.deepStrictEqual([ttl, renewEvery, operationTimeout, safetyMargin], [60_000, 20_000, 5_000, 3_000])
    }
  })

  it("a renewal and the call that does it must fit before the margin; equality does not", () => {
    const invalid = refusal({ renewEvery: 23_500 })
    assert.deepStrictEqual([invalid.field, invalid.received], ["renewEvery", "23500"])
    assert.strictEqual(
      invalid.allowed,
      "false, or renewEvery + operationTimeout (5s) less than ttl - safetyMargin (28s 500ms)"
    )
    assert.strictEqual(accepted({ renewEvery: 23_499 }).renewEvery, 23_499)
    assert.strictEqual(refusal({ renewEvery: 23_499, operationTimeout: 5_001 }).field, "renewEvery")
    assert.strictEqual(refusal({ renewEvery: 23_499, safetyMargin: 1_501 }).field, "renewEvery")
    assert.strictEqual(refusal({ renewEvery: "1 hour" }).field, "renewEvery")
  })

  it("a short ttl of the call's does not fit a long renewEvery of the defaults, and that is told", () => {
    const resolved = resolve(limits, { ttl: "1 second" }, { renewEvery: "10 seconds" }, undefined)
    assert.deepInclude(Result.getOrThrow(Result.flip(resolved)), { field: "renewEvery", received: "\"10 seconds\"" })
  })
})

// -----------------------------------------------------------------------------
// the other options
// -----------------------------------------------------------------------------

describe("maxWaiters", () => {
  it("is a whole number, 0 or more", () => {
    for (const fits of [0, 1, 100_000, Number.MAX_SAFE_INTEGER]) {
      assert.strictEqual(accepted({ maxWaiters: fits }).maxWaiters, fits)
    }
    const wrongs: ReadonlyArray<readonly [raw: unknown, received: string]> = [
      [-1, "-1"],
      [1.5, "1.5"],
      [NaN, "NaN"],
      [Infinity, "Infinity"],
      [2 ** 53, "9007199254740992"],
      ["5", "\"5\""],
      [5n, "5n"],
      [{}, "an object"]
    ]
    for (const [maxWaiters, received] of wrongs) {
      const invalid = refusal({ maxWaiters })
      assert.deepStrictEqual(
        [invalid.field, invalid.received, invalid.allowed],
        ["maxWaiters", received, "a whole number, 0 or more"]
      )
    }
  })
})

describe("schedule", () => {
  it("is a Schedule", () => {
    for (const schedule of [5, "1 second", {}, [], () => 5, Effect.void]) {
      const invalid = refusal({ schedule })
      assert.deepStrictEqual([invalid.field, invalid.allowed], ["schedule", "a Schedule"])
    }
  })

  it("is the caller's own from the call or LockDefaults, not from the backend or the library", () => {
    const schedule = Schedule.spaced("1 second")
    const own = (...from: [LockOptions?, LockOptions?, LockOptions?]) =>
      Result.getOrThrow(resolve(limits, from[0], from[1], from[2]))
    assert.deepInclude(own({ schedule }), { schedule, ownSchedule: true })
    assert.deepInclude(own({}, { schedule }), { schedule, ownSchedule: true })
    assert.deepInclude(own({}, {}, { schedule }), { schedule, ownSchedule: false })
    assert.isFalse(own().ownSchedule)
  })

  it.effect("full jitter makes each delay uniform in [0, delay), drawn from Random", () =>
    Effect.gen(function*() {
      const delays = (draw: number) =>
        Effect.gen(function*() {
          const step = yield* Schedule.toStep(fullJitter(Schedule.exponential("100 millis")))
          const drawn: Array<number> = []
          for (let i = 0; i < 3; i++) {
            const [, delay] = yield* Effect.orDie(step(0, undefined))
            drawn.push(Duration.toMillis(delay))
          }
          return drawn
        }).pipe(Effect.provideService(Random.Random, { nextDoubleUnsafe: () => draw, nextIntUnsafe: () => 0 }))
      assert.deepStrictEqual(yield* delays(0), [0, 0, 0])
      assert.deepStrictEqual(yield* delays(0.5), [50, 100, 200])
    }))

  it.effect("the default is exponential from 50 ms to 2 s, and looks at no refusal", () =>
    Effect.gen(function*() {
      assert.isTrue(isBlind(defaultSchedule))
      assert.isFalse(isBlind(fullJitter(defaultSchedule)))
      const step = yield* Schedule.toStep(defaultSchedule)
      const drawn: Array<number> = []
      for (let i = 0; i < 8; i++) {
        const [, delay] = yield* Effect.orDie(step(0, undefined as never))
        drawn.push(Duration.toMillis(delay))
      }
      assert.deepStrictEqual(drawn, [25, 50, 100, 200, 400, 800, 1000, 1000])
    }).pipe(Effect.provideService(Random.Random, { nextDoubleUnsafe: () => 0.5, nextIntUnsafe: () => 0 })))
})

describe("metadata", () => {
  const refusedField = (metadata: unknown, field = "metadata") => {
    const invalid = refusal({ metadata })
    assert.strictEqual(invalid.field, field)
    assert.strictEqual(
      invalid.allowed,
      "a record of strings, at most 4096 bytes as JSON, without unpaired surrogates"
    )
    return invalid.received
  }

  it("that is no record is refused", () => {
    assert.strictEqual(refusedField("host=a"), "\"host=a\"")
    assert.strictEqual(refusedField(5), "5")
    assert.strictEqual(refusedField(["a"]), "an array of 1")
    assert.strictEqual(refusedField(() => "a"), "a function")
  })

  it("with a value that is no string is refused by the value's name", () => {
    const values: ReadonlyArray<readonly [value: unknown, received: string]> = [
      [5, "5"],
      [5n, "5n"],
      [true, "true"],
      [null, "null"],
      [undefined, "undefined"],
      [cyclic, "an object"],
      [["a"], "an array of 1"],
      [new Date(0), "an object"],
      [Symbol("a"), "a symbol"]
    ]
    for (const [value, received] of values) {
      assert.strictEqual(refusedField({ host: "a", bad: value }, "metadata.bad"), received)
    }
    assert.strictEqual(refusedField(cyclic, "metadata.itself"), "an object")
  })

  it("with an unpaired surrogate, in a name or a value, is refused", () => {
    assert.strictEqual(refusedField({ host: "a\ud800" }, "metadata.host"), "\"a\\ud800\"")
    assert.strictEqual(refusedField({ "\udc00host": "a" }, "metadata.\ufffdhost"), "\"a\"")
  })

  it("is at most 4096 bytes as JSON, counted in UTF-8, names included", () => {
    const overhead = JSON.stringify({ a: "" }).length
    assert.strictEqual(
      accepted({ metadata: { a: "x".repeat(4096 - overhead) } }).metadata["a"]?.length,
      4096 - overhead
    )
    assert.strictEqual(refusedField({ a: "x".repeat(4097 - overhead) }), "4097 bytes as JSON")
    assert.strictEqual(refusedField({ a: "€".repeat(1400) }), `${4200 + overhead} bytes as JSON`)
    assert.strictEqual(refusedField({ ["x".repeat(5000)]: "" }), "5007 bytes as JSON")
  })

  it("is measured as it will be sent, not as its own toJSON would have it", () => {
    class Big {
      readonly field = "x".repeat(5000)
      toJSON() {
        return {}
      }
    }
    assert.strictEqual(refusedField(new Big()), "5012 bytes as JSON")
  })

  it("fields with the names of Object's own parts are fields, and no prototype is touched", () => {
    const hostile = JSON.parse("{\"__proto__\":\"a\",\"constructor\":\"b\",\"toString\":\"c\"}")
    const { metadata } = accepted({ metadata: hostile })
    assert.deepStrictEqual(Object.entries(metadata), [["__proto__", "a"], ["constructor", "b"], ["toString", "c"]])
    assert.strictEqual(Object.getPrototypeOf(metadata), Object.prototype)
    assert.isFalse(Object.hasOwn(Object.prototype, "a"))
  })

  it("is copied: what its owner does to it later is not seen, nor what it inherits", () => {
    const metadata: Record<string, string> = Object.create({ inherited: "a" })
    metadata["host"] = "a"
    const resolved = accepted({ metadata })
    metadata["host"] = "b"
    assert.deepStrictEqual({ ...resolved.metadata }, { host: "a" })
    assert.isUndefined(resolved.metadata["inherited"])
  })
})

describe("null", () => {
  it("is not a way to leave an option out, neither in a call nor in a default", () => {
    const refusedBy = (...from: [LockOptions?, LockOptions?, LockOptions?]) => {
      const resolved = resolve(limits, from[0], from[1], from[2])
      return Result.isFailure(resolved) ? `${resolved.failure.field} is ${resolved.failure.received}` : "accepted"
    }
    for (const name of optionNames) {
      const none = { [name]: null } as unknown as LockOptions
      const refusals = [refusedBy(none), refusedBy({}, none), refusedBy({}, {}, none)]
      assert.deepStrictEqual(refusals, Array(3).fill(`${name} is null`))
    }
  })
})

// -----------------------------------------------------------------------------
// names
// -----------------------------------------------------------------------------

const allowedKey = "1 to 512 UTF-8 bytes without control characters or unpaired surrogates"

const wrongKeys: ReadonlyArray<readonly [key: unknown, received: string]> = [
  ["", "\"\""],
  ["x".repeat(513), "513 UTF-8 bytes"],
  ["é".repeat(256) + "x", "513 UTF-8 bytes"],
  ["€".repeat(171), "513 UTF-8 bytes"],
  ["😀".repeat(128) + "x", "513 UTF-8 bytes"],
  ["x".repeat(1024 * 1024), "1048576 UTF-8 bytes"],
  ["a\0b", "\"a\\u0000b\", with a control character"],
  ["k 0 0 1\r\nflush_all", "\"k 0 0 1\\r\\nflush_all\", with a control character"],
  ["\t", "\"\\t\", with a control character"],
  ["\x1b[31m", "\"\\u001b[31m\", with a control character"],
  ["\x7f", "\"\x7f\", with a control character"],
  ["\x85", "\"\x85\", with a control character"],
  ["\ud800", "a string with an unpaired surrogate"],
  ["a\udfffb", "a string with an unpaired surrogate"],
  ["\udc00\ud800", "a string with an unpaired surrogate"],
  [undefined, "undefined"],
  [null, "null"],
  [5, "5"],
  [5n, "5n"],
  [["a"], "an array of 1"],
  [{ key: "a" }, "an object"],
  [cyclic, "an object"],
  [Symbol("a"), "a symbol"]
]

/** Names that have broken other lock stores: paths, patterns, protocols, case, normalisation, tricky lengths. */
const oddKeys = [
  ...[" ", " a", "a ", "a.", "a", "A", "_", "-rf", "0a", "#", "\"", ":", "a:b", "a:b:c", "a:fence", "a/", "a0"],
  ...[".", "..", "../../etc/passwd", "/abs", "a/../b", "C:\\x", "CON", "nul.txt", ".well-known/acme-challenge"],
  ...["{}", "{a}", "a{b}c{d}", "*?[]", "%", "%2e%2e", "%2E%2E"],
  ...["__proto__", "constructor", "toString", "hasOwnProperty"],
  ...["$(id)", "`id`", "'; DROP TABLE locks; --", "redis.call(\"FLUSHALL\")"],
  ...["caf\u00e9", "cafe\u0301", "ß", "SS", "ss", "İ", "i", "ı", "\u200fa", "\u2028", "\u00a0", "\u200b"],
  ...["😀", "👩‍👩‍👧", "👩👩👧", "é".repeat(256), "😀".repeat(128)],
  ...[250, 251, 253, 254, 255, 256, 511, 512].map((length) => "x".repeat(length))
]

describe("keys", () => {
  it("that are empty, too long, no text or with control characters are refused, and shown harmlessly", () => {
    for (const [key, received] of wrongKeys) {
      const invalid = invalidKey(key as string)
      assert.instanceOf(invalid, InvalidLockRequest)
      assert.deepStrictEqual([invalid?.field, invalid?.received, invalid?.allowed], ["key", received, allowedKey])
    }
  })

  it("that are merely odd are allowed", () => {
    for (const key of oddKeys) assert.isUndefined(invalidKey(key), JSON.stringify(key))
  })

  it("a namespace is like a key, but may be empty", () => {
    assert.isUndefined(invalidNamespace(""))
    for (const name of oddKeys) assert.isUndefined(invalidNamespace(name))
    for (const [name, received] of wrongKeys.slice(1)) {
      const invalid = invalidNamespace(name as string)
      assert.deepStrictEqual([invalid?.field, invalid?.received], ["namespace", received])
      assert.include(invalid?.allowed, "0 to 512 UTF-8 bytes")
    }
  })

  const Part = Schema.Literals(["", "a", "é", "€", "😀", "\ud800", "\udc00", "\n", "\x7f", "\x9f", "\xa0", "/", "\0"])
  const Piece = Schema.Tuple([Part, Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 300 }))])
  it.prop(
    "are allowed if and only if they have 1 to 512 bytes, pairs of surrogates and no control characters",
    { pieces: Schema.Array(Piece), text: Schema.String },
    ({ pieces, text }) => {
      for (const key of [pieces.map(([part, times]) => part.repeat(times)).join(""), text]) {
        const bytes = Buffer.byteLength(key, "utf8")
        const codes = Array.from(key, (character) => character.codePointAt(0)!)
        const wellFormed = codes.every((code) => code < 0xd800 || code > 0xdfff)
        const printable = codes.every((code) => code >= 0x20 && !(code >= 0x7f && code <= 0x9f))
        assert.strictEqual(
          invalidKey(key) === undefined,
          bytes >= 1 && bytes <= 512 && wellFormed && printable,
          JSON.stringify(key)
        )
      }
    },
    { arbitrary: { runs: 1000 } }
  )

  it.effect("odd ones arrive at the backend as they are, and each is a lock of its own", () =>
    Effect.gen(function*() {
      const arrived: Array<string> = []
      const { provide } = yield* backend((real) => ({
        tryAcquire: (request) => {
          arrived.push(request.key)
          return real.tryAcquire(request)
        }
      }))
      yield* Effect.gen(function*() {
        for (const key of oddKeys) {
          const lease = yield* withLockIfAvailable(key)
          assert.isTrue(Option.isSome(lease), JSON.stringify(key))
          assert.strictEqual(Option.getOrThrow(lease).key, key)
        }
      }).pipe(Effect.scoped, provide)
      assert.deepStrictEqual(arrived, oddKeys)
    }))
})

describe("resolveDuration", () => {
  const bounds = { most: 28_500, mostIs: "ttl - safetyMargin" }

  it("is finite, 0 or more, and at most the bound, which it names", () => {
    assert.deepStrictEqual(resolveDuration("duration", "28500 millis", bounds), Result.succeed(28_500))
    assert.deepStrictEqual(resolveDuration("duration", 0, bounds), Result.succeed(0))
    for (const raw of [28_501, -1, NaN, Infinity, "5 parsecs", null, undefined, {}, [NaN, 1]]) {
      const resolved = resolveDuration("duration", raw as Duration.Input, bounds)
      const invalid = Result.getOrThrow(Result.flip(resolved))
      assert.strictEqual(invalid.field, "duration")
      assert.include(invalid.allowed, "at most 28s 500ms (ttl - safetyMargin)")
    }
  })
})

// -----------------------------------------------------------------------------
// precedence
// -----------------------------------------------------------------------------

describe("precedence", () => {
  const sources = ["call", "defaults", "backend"] as const
  const values: { readonly [K in keyof LockOptions]-?: ReadonlyArray<LockOptions[K]> } = {
    ttl: [21_000, 22_000, 23_000],
    wait: [1_000, 2_000, 3_000],
    schedule: [Schedule.spaced(1), Schedule.spaced(2), Schedule.spaced(3)],
    renewEvery: [4_000, 5_000, 6_000],
    operationTimeout: [1_000, 2_000, 3_000],
    outageBudget: [1_000, 2_000, 3_000],
    safetyMargin: [1_000, 2_000, 3_000],
    maxHold: [1_000, 2_000, 3_000],
    maxWaiters: [1, 2, 3],
    metadata: [{ from: "call" }, { from: "defaults" }, { from: "backend" }]
  }
  for (const name of Object.keys(values) as ReadonlyArray<keyof LockOptions>) {
    it(`${name}: the call's, then LockDefaults', then the backend's, then the library's`, () => {
      const from = (...given: ReadonlyArray<(typeof sources)[number]>) => {
        const options = sources.map((source, i) => (given.includes(source) ? { [name]: values[name][i] } : {}))
        return Result.getOrThrow(resolve(limits, options[0], options[1], options[2]))[name]
      }
      assert.deepStrictEqual(from("call", "defaults", "backend"), values[name][0])
      assert.deepStrictEqual(from("call", "backend"), values[name][0])
      assert.deepStrictEqual(from("defaults", "backend"), values[name][1])
      assert.deepStrictEqual(from("backend"), values[name][2])
      assert.deepStrictEqual(from(), accepted({})[name])
      for (const value of values[name]) assert.notDeepEqual(from(), value)
    })
  }

  it("each option by itself: one source's value does not hide another's of another option", () => {
    const resolved = resolve(limits, { wait: 1 }, { maxWaiters: 2 }, { metadata: { a: "3" } })
    assert.deepInclude(Result.getOrThrow(resolved), { wait: 1, maxWaiters: 2, metadata: { a: "3" } })
  })

  it("undefined is not a value, but false and 0 are", () => {
    const resolved = resolve(
      limits,
      { ttl: undefined, renewEvery: false, wait: 0 },
      { ttl: 21_000, renewEvery: 5_000 },
      {
        wait: 9
      }
    )
    assert.deepInclude(Result.getOrThrow(resolved), { ttl: 21_000, renewEvery: false, wait: 0 })
  })

  it("a wrong value is refused wherever it comes from", () => {
    for (const place of [0, 1, 2]) {
      const options = [{}, {}, {}].map((none, i) => (i === place ? { ttl: NaN } : none))
      assert.isTrue(Result.isFailure(resolve(limits, options[0], options[1], options[2])))
    }
  })
})

// -----------------------------------------------------------------------------
// anything at all
// -----------------------------------------------------------------------------

/** Mulberry32: a failing input is found again by its seed. */
const randomFrom = (seed: number) => () => {
  seed = (seed + 0x6d2b79f5) | 0
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296
}

const plausible: Record<(typeof optionNames)[number], ReadonlyArray<unknown>> = {
  ttl: [100, 1_000, 30_000, "30 seconds", "1 minute", { seconds: 20 }, [20, 0], 20_000_000_000n, "24 hours"],
  wait: [0, 5_000, "forever", "Infinity", Infinity, Duration.minutes(1)],
  schedule: [Schedule.forever, Schedule.spaced("1 second")],
  renewEvery: [false, 10, 1_000, "5 seconds"],
  operationTimeout: [10, 100, 1_000, "5 seconds"],
  outageBudget: [0, 5_000, Infinity, "1 minute"],
  safetyMargin: [0, 10, 100, "1 second"],
  maxHold: [1, "1 hour", Infinity],
  maxWaiters: [0, 1, 100_000],
  metadata: [{}, { host: "a" }, { a: "x".repeat(4_000), b: "" }]
}

const strange: ReadonlyArray<unknown> = [
  ...[null, NaN, -0, -1, -Infinity, 1e-9, 0.4, 1.5, 2 ** 31, 2 ** 53, 1e21, Number.MAX_VALUE, 10n ** 30n, -1n, true],
  ...["", " ", "5 parsecs", "30 second s", "-5 seconds", "1e3 seconds", "Infinity", "-Infinity", "__proto__"],
  ...["\ud800", "\0", "x".repeat(5000), Symbol.iterator, () => 1, /x/, globalThis, Promise.resolve()],
  ...[[], [NaN], [1, 2, 3], [[], {}], [Infinity, -Infinity], new Set([1]), new Uint8Array(3), new Date(NaN), cyclic],
  ...[new Map([["a", "b"]]), new Error("x"), Object.create(null), Effect.void, Option.none()],
  ...[Duration.infinity, Duration.negativeInfinity, Duration.millis(NaN)],
  ...[{ seconds: NaN }, { seconds: "5" }, { seconds: 5n }, { seconds: {} }, { a: 5n }, { a: cyclic }, {
    "\ud800": "a"
  }],
  ...[{ valueOf: () => 5 }, { toString: () => "30 seconds" }, { toJSON: () => "x" }, { length: 5 }, { _tag: "Some" }]
]

describe("anything at all", () => {
  const limit = 600

  it("resolve answers with valid options or with an InvalidLockRequest of a short message, and never throws", () => {
    let [successes, failures] = [0, 0]
    for (let seed = 0; seed < 20_000; seed++) {
      const random = randomFrom(seed)
      const one = (from: ReadonlyArray<unknown>) => from[Math.floor(random() * from.length)]
      const options = (share: number): unknown => {
        if (random() < 0.02) return one(strange)
        const chosen: Record<string, unknown> = {}
        for (const name of optionNames) {
          if (random() < 0.3) chosen[name] = one(random() < share ? strange : plausible[name])
        }
        return chosen
      }
      const [call, defaults, layer] = [options(0.2), options(0.02), options(0.02)] as Array<LockOptions>
      const floor = { minTtl: one([0, 100, 1_000, 10_000]) as number, granularity: one([0, 1_000]) as number }
      const resolved = resolve(floor, call, defaults, layer)
      if (Result.isFailure(resolved)) {
        failures++
        assert.instanceOf(resolved.failure, InvalidLockRequest)
        assert.isTrue(optionNames.some((name) => resolved.failure.field.split(".")[0] === name), `seed ${seed}`)
        assert.isAtMost(resolved.failure.message.length, limit, `seed ${seed}`)
        continue
      }
      successes++
      const it = resolved.success
      assert.isTrue(it.ttl > 0 && it.ttl >= floor.minTtl && it.ttl <= 86_400_000, `seed ${seed}`)
      assert.isTrue(it.safetyMargin >= 0 && it.safetyMargin <= it.ttl / 4, `seed ${seed}`)
      assert.isTrue(it.operationTimeout > 0 && it.operationTimeout <= it.ttl / 3, `seed ${seed}`)
      assert.isTrue(
        it.renewEvery === false
          || (it.renewEvery > 0 && it.renewEvery + it.operationTimeout < it.ttl - it.safetyMargin),
        `seed ${seed}`
      )
      assert.isTrue(it.wait >= 0 && it.outageBudget >= 0 && it.maxHold > 0, `seed ${seed}`)
      assert.isTrue(Number.isSafeInteger(it.maxWaiters) && it.maxWaiters >= 0, `seed ${seed}`)
      assert.isTrue(Schedule.isSchedule(it.schedule), `seed ${seed}`)
      assert.isTrue(Object.values(it.metadata).every((value) => typeof value === "string"), `seed ${seed}`)
      assert.isAtMost(Buffer.byteLength(JSON.stringify(it.metadata)), 4096, `seed ${seed}`)
    }
    // Neither half of the claim is empty.
    assert.isAbove(successes, 2_000)
    assert.isAbove(failures, 2_000)
  })

  it("a key or namespace of any type is answered", () => {
    for (const value of strange) {
      for (const invalid of [invalidKey(value as string), invalidNamespace(value as string)]) {
        assert.isTrue(invalid === undefined || invalid instanceof InvalidLockRequest)
        assert.isAtMost(invalid?.message.length ?? 0, limit)
      }
    }
  })

  const huge: ReadonlyArray<readonly [what: string, value: unknown]> = [
    ["string", "x".repeat(100_000)],
    ["bigint", 10n ** 2_000n],
    ["array", Array.from({ length: 10_000 })],
    ["object", { a: "x".repeat(100_000), b: 5 }]
  ]
  for (const [what, value] of huge) {
    it(`a huge ${what} is refused, and never shown in full`, () => {
      const resolved = optionNames.map((name) => resolveUnknown({ [name]: value }))
      const invalids = [
        // A huge number of nanoseconds is a long wait.
        ...resolved.flatMap((each) => (Result.isFailure(each) ? [each.failure] : [])),
        refusal({ metadata: { a: value } }),
        refusal({ metadata: { ["x".repeat(5_000)]: value } }),
        invalidKey(value as string),
        invalidNamespace(value as string)
      ]
      for (const invalid of invalids) {
        assert.instanceOf(invalid, InvalidLockRequest)
        assert.isAtMost(invalid?.message.length ?? 0, limit, invalid?.field)
      }
      assert.isAtLeast(invalids.length, 10)
    })
  }
})

// -----------------------------------------------------------------------------
// through the public functions
// -----------------------------------------------------------------------------

describe("before anything is sent", () => {
  const wrongOptions: ReadonlyArray<readonly [field: string, options: unknown]> = [
    ...Object.entries(durations).flatMap(([field, wrongs]) =>
      wrongs.map(([raw]) => [field, { [field]: raw }] as const)
    ),
    ["renewEvery", { renewEvery: "29 seconds" }],
    ["renewEvery", { ttl: "1 second", renewEvery: "10 seconds" }],
    ["maxWaiters", { maxWaiters: -1 }],
    ["maxWaiters", { maxWaiters: 1.5 }],
    ["maxWaiters", { maxWaiters: NaN }],
    ["schedule", { schedule: 5 }],
    ["metadata.a", { metadata: { a: 5n } }],
    ["metadata.itself", { metadata: cyclic }],
    ["metadata", { metadata: { a: "x".repeat(5000) } }],
    ["metadata.a", { metadata: { a: "\ud800" } }]
  ]

  type Call = Effect.Effect<unknown, { readonly _tag: string }, LockBackend | Scope.Scope>

  const refusedField = (call: Call) =>
    Effect.map(Effect.flip(call), (error) => (error instanceof InvalidLockRequest ? error.field : error))

  it.effect("a wrong option is told by every function that acquires, also if it is a default", () =>
    Effect.gen(function*() {
      const { provide, sent } = yield* backend()
      let ran = 0
      const work = Effect.sync(() => ran++)
      for (const [field, wrong] of wrongOptions) {
        const options = wrong as LockOptions
        const calls: ReadonlyArray<Call> = [
          withLock("k", options),
          withLockIfAvailable("k", options),
          work.pipe(Lock.guard("k", options)),
          work.pipe(Lock.guardIfAvailable("k", options)),
          Effect.provideService(withLock("k"), LockDefaults, options)
        ]
        for (const call of calls) assert.strictEqual(yield* provide(refusedField(call)), field)
      }
      assert.deepStrictEqual([sent, ran], [[], 0])
    }))

  it.effect("a ttl below the floor is told if it is the call's, and raised if it is a default", () =>
    Effect.gen(function*() {
      const { provide, sent } = yield* backend()
      assert.strictEqual(yield* provide(refusedField(withLock("k", { ttl: 99 }))), "ttl")
      assert.deepStrictEqual(sent, [])
      const lease = yield* withLock("k").pipe(Effect.provideService(LockDefaults, { ttl: 99 }), provide)
      assert.strictEqual(Duration.toMillis(yield* lease.remaining), 75)
    }))

  it.effect("a wrong key is told by every function that takes one", () =>
    Effect.gen(function*() {
      let asked = 0
      const counted = <A extends ReadonlyArray<unknown>, B>(f: (...args: A) => B) => (...args: A) => {
        asked++
        return f(...args)
      }
      const { provide, sent } = yield* backend((real) => ({
        inspect: counted(real.inspect),
        list: counted(real.list!),
        break: counted(real.break!)
      }))
      for (const [wrong] of wrongKeys) {
        const key = wrong as string
        const calls: ReadonlyArray<Call> = [
          withLock(key),
          withLockIfAvailable(key),
          Effect.void.pipe(Lock.guard(key)),
          Effect.void.pipe(Lock.guardIfAvailable(key)),
          Lock.inspect(key),
          Lock.break(key, "owner")
        ]
        for (const call of calls) assert.strictEqual(yield* provide(refusedField(call)), "key")
        // Of a prefix, the empty one means every key.
        if (wrong === "" || wrong === undefined) continue
        assert.strictEqual(yield* provide(refusedField(Stream.runDrain(Lock.list(key)))), "keyPrefix")
      }
      assert.deepStrictEqual([sent, asked], [[], 0])
    }))

  it.effect("an owner id that is none is told by Lock.break, whatever it is", () =>
    Effect.gen(function*() {
      let asked = 0
      const { provide } = yield* backend((real) => ({
        break: (request) => {
          asked++
          return real.break!(request)
        }
      }))
      for (const wrong of ["", undefined, null, 5, 5n, cyclic, Symbol("a"), ["x".repeat(100_000)]]) {
        const error = yield* Effect.flip(Lock.break("k", wrong as string)).pipe(provide)
        assert.strictEqual(error instanceof InvalidLockRequest ? error.field : error, "ownerId")
        assert.isAtMost(error.message.length, 600)
      }
      assert.strictEqual(asked, 0)
    }))
})
