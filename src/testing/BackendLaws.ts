/**
 * The laws of the port, as values: what every backend must keep, asked of two instances of it on one server.
 *
 * `effect-lock/testing/vitest` registers them as tests; anything else can run `verify`.
 */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { type Law, LawEnvironment, type LawViolation } from "./Law.ts"
import { ambiguity } from "./laws/ambiguity.ts"
import { concurrency } from "./laws/concurrency.ts"
import { exclusion } from "./laws/exclusion.ts"
import { expiry } from "./laws/expiry.ts"
import { fencing } from "./laws/fencing.ts"
import { interruption } from "./laws/interruption.ts"
import { leases } from "./laws/leases.ts"
import { losses } from "./laws/losses.ts"
import { names } from "./laws/names.ts"
import { operators } from "./laws/operators.ts"
import { release } from "./laws/release.ts"
import { waiting } from "./laws/waiting.ts"

export { type Law, LawEnvironment, LawViolation } from "./Law.ts"
export { hostileKeys } from "./laws/names.ts"

/**
 * The laws of the port's verbs.
 *
 * @category laws
 */
export const portLaws: ReadonlyArray<Law> = [
  ...exclusion,
  ...expiry,
  ...release,
  ...fencing,
  ...names,
  ...operators,
  ...waiting,
  ...concurrency,
  ...interruption
]

/**
 * The laws of what a program gets from a backend through `withLock` and its like.
 *
 * @category laws
 */
export const leaseLaws: ReadonlyArray<Law> = [...leases, ...losses, ...ambiguity]

/**
 * Every law.
 *
 * @category laws
 */
export const all: ReadonlyArray<Law> = [...portLaws, ...leaseLaws]

/**
 * What became of one law.
 *
 * @category models
 */
export type Finding =
  | { readonly _tag: "Kept"; readonly law: Law }
  | { readonly _tag: "Broken"; readonly law: Law; readonly violation: LawViolation }
  | { readonly _tag: "Inapplicable"; readonly law: Law; readonly reason: string }

/**
 * Checks laws one after the other and tells each finding as it comes.
 *
 * **Details**
 *
 * `concurrency` checks several at once: faster against a real server, wrong under `TestClock`, where one law's time
 * would pass for all.
 *
 * @category running
 */
export const verify = (
  laws: ReadonlyArray<Law> = all,
  options?: { readonly concurrency?: number | undefined }
): Stream.Stream<Finding, never, LawEnvironment> =>
  Stream.fromIterable(laws).pipe(Stream.mapEffect(verifyOne, { concurrency: options?.concurrency ?? 1 }))

const verifyOne = (law: Law): Effect.Effect<Finding, never, LawEnvironment> =>
  Effect.flatMap(LawEnvironment, (environment) => {
    const reason = law.inapplicable(environment)
    if (reason !== undefined) return Effect.succeed<Finding>({ _tag: "Inapplicable", law, reason })
    return Effect.match(law.check, {
      onFailure: (violation): Finding => ({ _tag: "Broken", law, violation }),
      onSuccess: (): Finding => ({ _tag: "Kept", law })
    })
  })
