/**
 * The options of an acquisition: what they mean, their defaults, and their validation, which happens before anything
 * is sent. Precedence: the call's, then `LockDefaults`, then the layer's, then the backend's, then the library's.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import * as Lease from "./Lease.ts"
import { InvalidLockRequest, type LockContended } from "./LockError.ts"

/**
 * The delays between two tries while somebody else holds the lock.
 *
 * **Gotchas**
 *
 * It is for contention only: backend errors are retried by the library's own backoff within `outageBudget`. Bound the
 * waiting with `wait` rather than with the schedule where you can: a schedule counts from its first refusal.
 *
 * @category models
 */
export type WaitSchedule = Schedule.Schedule<unknown, LockContended>

/**
 * Options of `withLock`, `Lock.guard` and the rest; all optional, the same everywhere.
 *
 * @category models
 */
export interface LockOptions {
  /**
   * How long the lease lives if it is not renewed. Default 30 seconds (or the backend's own).
   *
   * Shorter frees the lock of a dead holder sooner; longer survives longer outages. Not below the backend's `minTtl`.
   */
  readonly ttl?: Duration.Input | undefined
  /**
   * How long the caller is willing to queue, from the call. Default `"forever"`; 0 is one attempt.
   *
   * It decides whether another attempt is started; a grant from one already in flight is returned.
   */
  readonly wait?: Duration.Input | "forever" | undefined
  /** Delays between tries under contention. Default: exponential from 50 ms, doubling, at most 2 s, full jitter. */
  readonly schedule?: WaitSchedule | undefined
  /** How often the lease is renewed; `false` = never: it then ends after its ttl. Default ttl / 3. */
  readonly renewEvery?: Duration.Input | false | undefined
  /** Bound of one backend operation, at most ttl / 3. Default min(ttl / 4, 5 s). */
  readonly operationTimeout?: Duration.Input | undefined
  /** How long a backend that can't be reached is asked again, from the first failure. Default: the ttl. */
  readonly outageBudget?: Duration.Input | undefined
  /**
   * How long before the ttl runs out the lease is no longer trusted, at most ttl / 4. It must cover the difference in
   * clock rates. Default max(50 ms, 5 % of ttl) plus the backend's time granularity.
   */
  readonly safetyMargin?: Duration.Input | undefined
  /** Renewal ends this long after the grant, so that a wedged holder can't keep the lock for ever. Default: none. */
  readonly maxHold?: Duration.Input | undefined
  /** How many callers of this process may wait for one key. Default 100,000. */
  readonly maxWaiters?: number | undefined
  /** Shown to whoever is refused; at most 4 KiB of JSON. Visible to others: no secrets. Default `{}`. */
  readonly metadata?: Readonly<Record<string, string>> | undefined
}

/**
 * Option defaults for everything that runs with this reference provided: `Effect.provideService(LockDefaults, { … })`.
 *
 * @category references
 */
export const LockDefaults: Context.Reference<LockOptions> = Context.Reference<LockOptions>(
  "effect-lock/LockDefaults",
  { defaultValue: () => ({}) }
)

/**
 * Full jitter: each delay becomes uniform in [0, delay). Effect's own `jittered` is ± 20 %, which leaves callers that
 * were refused together in step.
 *
 * Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
 *
 * @category schedules
 */
export const fullJitter = <O, I, E, R>(self: Schedule.Schedule<O, I, E, R>): Schedule.Schedule<O, I, E, R> =>
  Schedule.modifyDelay(self, ({ duration }) => Effect.map(Random.next, (n) => Duration.times(duration, n)))

const blind = new WeakSet<WaitSchedule>()

/** Marks a schedule that never looks at what it is stepped with: no error is made for each refusal then. */
export const blindly = (self: WaitSchedule): WaitSchedule => {
  blind.add(self)
  return self
}

/** Whether a schedule was marked by `blindly`. */
export const isBlind = (self: WaitSchedule): boolean => blind.has(self)

/**
 * The default waiting: exponential from 50 ms, doubling, at most 2 s, full jitter.
 *
 * @category schedules
 */
export const defaultSchedule: WaitSchedule = Schedule.min([
  Schedule.exponential("50 millis"),
  Schedule.spaced("2 seconds")
]).pipe(fullJitter, blindly)

// -----------------------------------------------------------------------------
// resolved options
// -----------------------------------------------------------------------------

/**
 * Options after validation, times in milliseconds (`wait` and `maxHold` may be `Infinity`).
 *
 * @category models
 */
export interface ResolvedOptions {
  readonly ttl: number
  readonly wait: number
  readonly schedule: WaitSchedule
  /** Whether the schedule is the caller's choice (the call's or `LockDefaults`'), not a default. */
  readonly ownSchedule: boolean
  readonly renewEvery: number | false
  readonly operationTimeout: number
  readonly outageBudget: number
  readonly safetyMargin: number
  readonly maxHold: number
  readonly maxWaiters: number
  readonly metadata: Readonly<Record<string, string>>
}

/**
 * What validation needs to know of a backend, in milliseconds.
 *
 * @category models
 */
export interface TimeLimits {
  readonly minTtl: number
  readonly granularity: number
}

const libraryTtl = 30_000
const maxTtl = 24 * 60 * 60 * 1000

/**
 * Applies precedence (the call's, then `LockDefaults`, then the backend's with its layer's) and validates.
 *
 * An explicit ttl (the call's) below the backend's floor is refused; a default is raised.
 *
 * @category validation
 */
export const resolve = (
  limits: TimeLimits,
  call: LockOptions | undefined,
  defaults: LockOptions | undefined,
  backend: LockOptions | undefined
): Result.Result<ResolvedOptions, InvalidLockRequest> => {
  const problems: Problems = []
  // `null` is a value, and a wrong one: only what is absent or `undefined` is left out.
  const pick = <K extends keyof LockOptions, D>(name: K, library: D): Exclude<LockOptions[K], undefined> | D => {
    for (const layer of [call, defaults, backend]) {
      if (layer?.[name] !== undefined) return layer[name] as Exclude<LockOptions[K], undefined>
    }
    return library
  }
  let ttl = duration(problems, "ttl", pick("ttl", libraryTtl), { above: 0, most: maxTtl })
  if (ttl < limits.minTtl) {
    if (call?.ttl !== undefined) {
      problems.push(invalid("ttl", call.ttl, `at least ${millis(limits.minTtl)} with this backend`))
    }
    ttl = limits.minTtl
  }
  const safetyMargin = duration(
    problems,
    "safetyMargin",
    pick("safetyMargin", Lease.safetyMargin(ttl, limits.granularity)),
    { least: 0, most: ttl / 4, mostIs: "a quarter of the ttl" }
  )
  const operationTimeout = duration(
    problems,
    "operationTimeout",
    pick("operationTimeout", Math.min(ttl / 4, 5000)),
    { above: 0, most: ttl / 3, mostIs: "a third of the ttl" }
  )
  const rawRenewEvery = pick("renewEvery", ttl / 3)
  const renewEvery = rawRenewEvery === false
    ? false
    : duration(problems, "renewEvery", rawRenewEvery, { above: 0 })
  if (renewEvery !== false && renewEvery + operationTimeout >= ttl - safetyMargin) {
    const limit = `operationTimeout (${millis(operationTimeout)}) less than ttl - safetyMargin (${
      millis(ttl - safetyMargin)
    })`
    problems.push(invalid("renewEvery", rawRenewEvery, `false, or renewEvery + ${limit}`))
  }
  const wait = pick("wait", "forever" as const)
  const maxWaiters = pick("maxWaiters", 100_000)
  if (!Number.isSafeInteger(maxWaiters) || maxWaiters < 0) {
    problems.push(invalid("maxWaiters", maxWaiters, "a whole number, 0 or more"))
  }
  const schedule = pick("schedule", defaultSchedule)
  if (!Schedule.isSchedule(schedule)) problems.push(invalid("schedule", schedule, "a Schedule"))
  const resolved: ResolvedOptions = {
    ttl,
    wait: wait === "forever" ? Infinity : duration(problems, "wait", wait, { least: 0, infinite: true }),
    schedule,
    ownSchedule: (call?.schedule ?? defaults?.schedule) !== undefined,
    renewEvery,
    operationTimeout,
    outageBudget: duration(problems, "outageBudget", pick("outageBudget", ttl), { least: 0, infinite: true }),
    safetyMargin,
    maxHold: duration(problems, "maxHold", pick("maxHold", Infinity), { above: 0, infinite: true }),
    maxWaiters,
    metadata: metadata(problems, pick("metadata", undefined))
  }
  return problems[0] === undefined ? Result.succeed(resolved) : Result.fail(problems[0])
}

/**
 * Checks a key: 1 to 512 UTF-8 bytes, no control characters, no unpaired surrogates. `undefined` if it is well.
 *
 * Keys are taken as they are: no normalisation, no case folding; `a` and `A` are two locks on every backend.
 *
 * @category validation
 */
export const invalidKey = (key: string): InvalidLockRequest | undefined => invalidName("key", key, 1)

/**
 * Checks a namespace: like a key, but it may be empty.
 *
 * @category validation
 */
export const invalidNamespace = (namespace: string): InvalidLockRequest | undefined =>
  invalidName("namespace", namespace, 0)

/**
 * Checks the owner id that an operator passes, which is what `Lock.inspect` showed. `undefined` if it may be one.
 *
 * @category validation
 */
export const invalidOwnerId = (ownerId: string): InvalidLockRequest | undefined => invalidName("ownerId", ownerId, 1)

/**
 * Checks a duration that a lease is asked for: finite, 0 or more, at most `most` milliseconds.
 *
 * @category validation
 */
export const resolveDuration = (
  field: string,
  raw: Duration.Input,
  bounds: { readonly most: number; readonly mostIs: string }
): Result.Result<number, InvalidLockRequest> => {
  const problems: Problems = []
  const value = duration(problems, field, raw, { least: 0, ...bounds })
  return problems[0] === undefined ? Result.succeed(value) : Result.fail(problems[0])
}

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const plainName = /^[\x20-\x7e]{1,512}$/
const controlCharacter = /\p{Cc}/u
const utf8 = new TextEncoder()
const maxNameBytes = 512
const maxMetadataBytes = 4096

const invalidName = (field: string, name: string, least: 0 | 1): InvalidLockRequest | undefined => {
  if (typeof name === "string" && plainName.test(name)) return undefined
  const allowed = `${least} to ${maxNameBytes} UTF-8 bytes without control characters or unpaired surrogates`
  if (typeof name !== "string") return invalid(field, name, allowed)
  if (name.length < least) return invalid(field, name, allowed)
  if (name.length > maxNameBytes || utf8.encode(name).length > maxNameBytes) {
    return new InvalidLockRequest({ field, received: `${utf8.encode(name).length} UTF-8 bytes`, allowed })
  }
  if (!name.isWellFormed()) {
    return new InvalidLockRequest({ field, received: "a string with an unpaired surrogate", allowed })
  }
  if (controlCharacter.test(name)) {
    return new InvalidLockRequest({ field, received: `${JSON.stringify(name)}, with a control character`, allowed })
  }
  return undefined
}

const metadata = (problems: Problems, raw: unknown): Readonly<Record<string, string>> => {
  if (raw === undefined) return noMetadata
  const allowed = `a record of strings, at most ${maxMetadataBytes} bytes as JSON, without unpaired surrogates`
  if (!isRecord(raw)) {
    problems.push(invalid("metadata", raw, allowed))
    return noMetadata
  }
  const entries = Object.entries(raw)
  for (const [name, value] of entries) {
    if (typeof value !== "string" || !value.isWellFormed() || !name.isWellFormed()) {
      problems.push(invalid(`metadata.${name.slice(0, 80).toWellFormed()}`, value, allowed))
    }
  }
  const bytes = problems.length === 0 ? utf8.encode(JSON.stringify(Object.fromEntries(entries))).length : 0
  if (bytes > maxMetadataBytes) {
    problems.push(new InvalidLockRequest({ field: "metadata", received: `${bytes} bytes as JSON`, allowed }))
  }
  // A copy: the caller may change its object while the lease is held. `fromEntries` defines own properties, so a
  // field named `__proto__` stays a field.
  return Object.fromEntries(entries)
}

// Maps, arrays and dates have no fields of their own, and would be taken for an empty record.
const isRecord = (raw: unknown): raw is object =>
  typeof raw === "object" && raw !== null && !(Symbol.iterator in raw) && !(raw instanceof Date)

const noMetadata: Readonly<Record<string, string>> = Object.freeze({})

// What is wrong with a request, in the order found; the first is told.
type Problems = Array<InvalidLockRequest>

interface Bounds {
  readonly above?: number
  readonly least?: number
  readonly most?: number
  readonly mostIs?: string
  readonly infinite?: boolean
}

// Raw input is looked at before conversion: `Duration.fromInput(NaN)` is 0, and 0 can be a legal value.
const duration = (problems: Problems, field: string, raw: Duration.Input, bounds: Bounds): number => {
  const converted = hasNaN(raw) ? undefined : Duration.fromInput(raw)
  const value = converted?._tag === "Some" ? Duration.toMillis(converted.value) : NaN
  const ok = (bounds.infinite === true ? !Number.isNaN(value) : Number.isFinite(value)) &&
    (bounds.above === undefined || value > bounds.above) &&
    (bounds.least === undefined || value >= bounds.least) &&
    (bounds.most === undefined || value <= bounds.most)
  if (!ok) problems.push(invalid(field, raw, `a duration such as "30 seconds", ${describe(bounds)}`))
  return value
}

const hasNaN = (raw: unknown): boolean => {
  if (typeof raw === "number") return Number.isNaN(raw)
  if (typeof raw !== "object" || raw === null || Duration.isDuration(raw)) return false
  if (Array.isArray(raw)) return raw.some(Number.isNaN)
  // Effect reads an object without a part that it knows as 0.
  const parts = Object.entries(raw).filter(([, part]) => part !== undefined)
  return parts.length === 0 ||
    parts.some(([unit, part]) => !units.has(unit) || typeof part !== "number" || Number.isNaN(part))
}

const units = new Set(["weeks", "days", "hours", "minutes", "seconds", "milliseconds", "microseconds", "nanoseconds"])

const describe = (bounds: Bounds): string => {
  const parts: Array<string> = []
  if (bounds.above !== undefined) parts.push(`more than ${millis(bounds.above)}`)
  if (bounds.least !== undefined) parts.push(`${millis(bounds.least)} or more`)
  if (bounds.most !== undefined) {
    parts.push(`at most ${millis(bounds.most)}${bounds.mostIs === undefined ? "" : ` (${bounds.mostIs})`}`)
  }
  if (bounds.infinite !== true) parts.push("finite")
  return parts.join(", ")
}

const millis = (value: number): string => Duration.format(Duration.millis(value))

const invalid = (field: string, received: unknown, allowed: string): InvalidLockRequest =>
  new InvalidLockRequest({ field, received: shape(received), allowed })

// Shows a value without trusting it: short, never a secret-sized blob, never calling its methods.
const shape = (value: unknown): string => {
  switch (typeof value) {
    case "string":
      return value.length > 80 ? `a string of ${value.length} characters` : JSON.stringify(value)
    case "number":
    case "boolean":
    case "undefined":
      return String(value)
    case "bigint":
      return BigInt.asIntN(64, value) === value ? `${value}n` : "a bigint of more than 64 bits"
    case "object":
      if (value === null) return "null"
      if (Duration.isDuration(value)) return Duration.format(value)
      return Array.isArray(value) ? `an array of ${value.length}` : "an object"
    default:
      return `a ${typeof value}`
  }
}
