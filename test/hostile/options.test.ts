/**
 * Options and keys as callers without types, or with other people's input, may pass them: refused before anything is
 * sent, or a lease that works.
 */
import { assert, describe, it } from "@effect/vitest"
import { Cause, Duration, Effect, Exit, Option, Result } from "effect"
import { InvalidLockRequest, Lock, LockDefaults, type LockOptions, withLock } from "effect-lock"
import { resolve } from "../../src/LockOptions.ts"
import { backend } from "../backends.ts"
import {
  count,
  Draw,
  hostileKeys,
  invalidKeys,
  isPolluted,
  metadata,
  numbers,
  spoilt,
  text,
  told,
  values
} from "./corpus.ts"

const names = [
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

const shown = (options: object): string =>
  Object.entries(options).map(([name, value]) =>
    `${name}: ${typeof value} ${
      String(Result.getOrElse(
        Result.try(() => String(value)),
        () => "?"
      )).slice(0, 60)
    }`
  ).join(", ")

/** A refusal, with nothing sent; or a lease that can be used and given back, with nothing left. */
const judge = (key: string, options: unknown, what: string) =>
  Effect.gen(function*() {
    const { count, holder, provide, real } = yield* backend()
    const exit = yield* withLock(key, options as LockOptions).pipe(
      Effect.flatMap((lease) =>
        Effect.gen(function*() {
          yield* lease.check
          const remaining = Duration.toMillis(yield* lease.remaining)
          assert.isTrue(remaining > 0 && Number.isFinite(remaining), what)
          assert.strictEqual(yield* lease.guard(Effect.succeed(5)), 5)
          assert.strictEqual(yield* holder(key), lease.ownerId)
        })
      ),
      Effect.scoped,
      provide,
      Effect.exit
    )
    if (Exit.isFailure(exit)) {
      const error = Exit.findErrorOption(exit)
      if (Option.isNone(error) || !(error.value instanceof InvalidLockRequest)) {
        return assert.fail(`${what}: ${Cause.pretty(exit.cause)}`)
      }
      assert.isAtMost(error.value.message.length, 2000, what)
      assert.strictEqual(count("acquire"), 0, `${what}: something was sent`)
      assert.strictEqual(count("release"), 0, `${what}: something was sent`)
      return "refused"
    }
    assert.strictEqual(count("acquire"), count("release"), what)
    assert.deepStrictEqual(yield* real.inspect({ key, budget: Duration.seconds(1) }), [], what)
    return "granted"
  })

describe("options", () => {
  for (const name of names) {
    it.live(`${name}: every number, and what is passed for one, is refused with nothing sent, or works`, () =>
      Effect.gen(function*() {
        const verdicts = new Set<string>()
        for (const value of [...numbers, ...values]) {
          const options = { [name]: value }
          verdicts.add(yield* judge("k", options, shown(options)))
        }
        assert.isTrue(verdicts.has("refused"))
        assert.isFalse(isPolluted())
      }))
  }

  it(`mixtures of them are refused or are sound together (${told})`, () => {
    const draw = new Draw(90)
    const pick = () =>
      draw.chance(0.5) ? draw.of(numbers) : draw.of([1, 50, 100, 250, 300, 999, 1000, 5000, 30_000, false])
    for (let left = count; left > 0; left--) {
      const options: Record<string, unknown> = {}
      for (let some = 1 + draw.below(4); some > 0; some--) options[draw.of(names)] = pick()
      if (draw.chance(0.3)) options["metadata"] = draw.chance(0.5) ? metadata(draw) : spoilt(draw, metadata(draw))
      const half = Object.fromEntries(Object.entries(options).slice(1))
      const resolved = resolve(
        { minTtl: 100, granularity: 0 },
        options as LockOptions,
        draw.chance(0.3) ? half as LockOptions : undefined,
        draw.chance(0.3) ? half as LockOptions : undefined
      )
      if (Result.isFailure(resolved)) {
        if (resolved.failure.message.length > 2000) assert.fail(shown(options))
        continue
      }
      const { maxHold, maxWaiters, operationTimeout, outageBudget, renewEvery, safetyMargin, ttl, wait } =
        resolved.success
      const sound = ttl >= 100 && ttl <= 86_400_000 && safetyMargin >= 0 && safetyMargin <= ttl / 4 &&
        operationTimeout > 0 && operationTimeout <= ttl / 3 && wait >= 0 && outageBudget >= 0 && maxHold > 0 &&
        Number.isSafeInteger(maxWaiters) && maxWaiters >= 0 &&
        (renewEvery === false || (renewEvery > 0 && renewEvery + operationTimeout < ttl - safetyMargin))
      if (!sound) assert.fail(`${shown(options)}: ${JSON.stringify(resolved.success)}`)
      for (const value of Object.values(resolved.success.metadata)) {
        if (typeof value !== "string") assert.fail(shown(options))
      }
    }
    assert.isFalse(isPolluted())
  })

  it.live("what a call may not have, the layer's and the program's defaults may not have either", () =>
    Effect.gen(function*() {
      for (const value of numbers) {
        const exit = yield* judge("k", {}, "defaults").pipe(
          Effect.provideService(LockDefaults, { ttl: value as Duration.Input }),
          Effect.exit
        )
        assert.isTrue(Exit.isSuccess(exit), String(exit))
      }
    }))

  it.live("metadata with the names of an object's own is data, and comes back", () =>
    Effect.gen(function*() {
      const { provide } = yield* backend()
      const written = JSON.parse(
        "{\"__proto__\":\"a\",\"constructor\":\"b\",\"toString\":\"c\",\"hasOwnProperty\":\"d\"}"
      )
      const holders = yield* Lock.inspect("k").pipe(Lock.guard("k", { metadata: written }), provide)
      assert.deepStrictEqual(Object.entries(holders[0]?.metadata ?? {}), Object.entries(written))
      assert.isFalse(isPolluted())
    }))
})

describe("keys", () => {
  it.live("every valid one is a lock, every other one is refused with nothing sent", () =>
    Effect.gen(function*() {
      for (const key of hostileKeys) assert.strictEqual(yield* judge(key, {}, key), "granted", JSON.stringify(key))
      for (const key of invalidKeys) {
        assert.strictEqual(yield* judge(key, {}, key.slice(0, 80)), "refused", JSON.stringify(key.slice(0, 80)))
      }
      for (const key of numbers) {
        if (typeof key === "string" && key !== "") continue
        assert.strictEqual(yield* judge(key as string, {}, typeof key), "refused", typeof key)
      }
    }))

  it.live("random ones too", () =>
    Effect.gen(function*() {
      const draw = new Draw(91)
      for (let left = 500; left > 0; left--) {
        const key = draw.chance(0.3)
          ? `${text(draw)}${draw.of(["\0", "\r\n", "\ud800", ""])}${text(draw)}`
          : text(draw, 40)
        yield* judge(key, {}, JSON.stringify(key))
      }
    }))

  it.live("an owner id to break is refused as a key is", () =>
    Effect.gen(function*() {
      const { provide } = yield* backend()
      for (const ownerId of [...invalidKeys, 5 as never, null as never]) {
        const exit = yield* Effect.exit(provide(Lock.break("k", ownerId)))
        assert.instanceOf(Option.getOrUndefined(Exit.findErrorOption(exit)), InvalidLockRequest)
      }
    }))
})
