/**
 * What every answer of a backend to hostile input must be: a typed failure or a whole reply, within its time.
 */
import { assert } from "@effect/vitest"
import { Cause, Duration, Effect, Exit, Option, Schema } from "effect"
import { type LockBackend, LockBackendError } from "effect-lock"
import * as Holder from "../../src/Holder.ts"

type Service = LockBackend["Service"]

const isHolder = Schema.is(Holder.Holder)

/** A holder that can be shown: whole, a plain object, of data only. */
export const assertHolder = (holder: unknown): void => {
  const check = (holds: boolean, about: string) => {
    if (!holds) assert.fail(about)
  }
  check(isHolder(holder), "no holder")
  const whole = holder as Holder.Holder
  check(typeof Holder.format(whole) === "string", "it can't be shown")
  check(Object.getPrototypeOf(whole.metadata) === Object.prototype, "metadata has another prototype")
  if (Option.isSome(whole.fencingToken)) check(whole.fencingToken.value >= 0n, "a negative token")
  if (Option.isSome(whole.remaining)) check(Duration.toMillis(whole.remaining.value) >= 0, "a negative time")
}

/** `error` if it failed as it may; anything but a typed failure is told as what it is. */
export const typedFailure = (exit: Exit.Exit<unknown, unknown>, what: string): LockBackendError | undefined => {
  if (Exit.isSuccess(exit)) return undefined
  const error = Exit.findErrorOption(exit)
  if (Option.isNone(error) || !(error.value instanceof LockBackendError)) {
    assert.fail(`${what}: ${Cause.pretty(exit.cause).slice(0, 2000)}`)
  }
  assert.isAtMost(error.value.message.length, 4000, what)
  return error.value
}

export const request = {
  key: "k",
  ownerId: "owner-of-this-test",
  ttl: Duration.seconds(20),
  metadata: {},
  willWait: false,
  // A busy machine must not be the reason of a failure.
  budget: Duration.seconds(24)
}

/** How much longer than its budget a verb may take on a busy machine, before it is said to hang. */
const patience = Duration.seconds(60)

/** A verb's exit; one that hangs is a failed test. */
export const answered = <A>(self: Effect.Effect<A, unknown>, what: string): Effect.Effect<Exit.Exit<A, unknown>> =>
  Effect.exit(Effect.timeoutOrElse(self, {
    duration: patience,
    orElse: () => Effect.die(new Error(`${what}: no end within ${Duration.format(patience)}`))
  }))

/** What came of all verbs, each asked once. */
export interface Verdict {
  readonly acquire: Exit.Exit<Effect.Success<ReturnType<Service["tryAcquire"]>>, unknown>
  readonly renew: Exit.Exit<Effect.Success<ReturnType<Service["renew"]>>, unknown>
  readonly release: Exit.Exit<"Released" | "NotHeld", unknown>
  readonly inspect: Exit.Exit<ReadonlyArray<Holder.Holder>, unknown>
  readonly break: Exit.Exit<"Draining" | "Broken" | "NotHeld", unknown>
}

/** The budget of verbs that will not be answered. */
export const shortBudget = Duration.millis(600)

export const askAll = (
  service: Service,
  handle: string,
  what: string,
  budget: Duration.Duration = request.budget
): Effect.Effect<Verdict> =>
  Effect.gen(function*() {
    const { key, ownerId } = request
    const verdict: Verdict = {
      acquire: yield* answered(service.tryAcquire({ ...request, budget }), `${what}: acquire`),
      renew: yield* answered(service.renew({ ...request, handle, budget }), `${what}: renew`),
      release: yield* answered(
        service.release({ key, ownerId, handle: Option.some(handle), unanswered: false, budget }),
        `${what}: release`
      ),
      inspect: yield* answered(service.inspect({ key, budget }), `${what}: inspect`),
      break: yield* answered(service.break!({ key, ownerId, now: true, budget }), `${what}: break`)
    }
    for (const [verb, exit] of Object.entries(verdict)) typedFailure(exit, `${what}: ${verb}`)
    if (Exit.isSuccess(verdict.inspect)) { for (const holder of verdict.inspect.value) assertHolder(holder) }
    if (Exit.isSuccess(verdict.acquire) && verdict.acquire.value._tag === "Held") {
      for (const holder of verdict.acquire.value.holders) assertHolder(holder)
    }
    return verdict
  })

/** Neither a grant nor a renewal came of it. */
export const assertNothingGranted = ({ acquire, renew }: Verdict, what: string): void => {
  if (Exit.isSuccess(acquire)) assert.notStrictEqual(acquire.value._tag, "Acquired", `${what}: acquire`)
  if (Exit.isSuccess(renew)) assert.notStrictEqual(renew.value._tag, "Renewed", `${what}: renew`)
}

/** Answers were judged, not waited for: of what was not answered in time nothing is learnt. */
export const assertAnswered = (verdicts: ReadonlyArray<Verdict>): void => {
  const late = verdicts.filter(({ acquire }) => typedFailure(acquire, "acquire")?.reason._tag === "TimedOut")
  assert.isAtMost(late.length, 1 + verdicts.length / 4, "too many answers came too late to be judged")
}

/** Each verb failed: the answer means nothing, so nothing may be concluded from it. */
export const assertAllFailed = (verdict: Verdict, what: string): void => {
  for (const [verb, exit] of Object.entries(verdict)) {
    if (Exit.isSuccess(exit)) assert.fail(`${what}: ${verb} concluded ${JSON.stringify(exit.value, bigints)}`)
  }
}

const bigints = (_: string, value: unknown): unknown => typeof value === "bigint" ? `${value}n` : value
