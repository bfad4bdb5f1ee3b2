/**
 * Registers the laws of the port as tests of vitest.
 */
import { describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as TestClock from "effect/testing/TestClock"
import * as BackendLaws from "./BackendLaws.ts"
import type { Law } from "./Law.ts"

/**
 * How time passes for a backend whose time is Effect's `Clock`: `LawEnvironment.make({ first, second, ...virtualTime })`.
 *
 * @category environments
 */
export const virtualTime = { pass: TestClock.adjust, expirySlack: Duration.zero } as const

/**
 * Registers each law as one test, named by its id and claim, in an environment of its own.
 *
 * **When to use**
 *
 * At the top level of a test file: `await testLaws("mine", environment)`. The promise ends when all are registered.
 *
 * **Details**
 *
 * - `environment` is built once at registration, to learn which laws apply, and once for each test.
 * - `clock`: `"live"` (default) for servers, `"virtual"` for `TestClock`; then use `virtualTime`.
 * - `concurrent`: laws run side by side, as many as vitest's `maxConcurrency`. They share nothing but the server, and
 *   most of their time is waiting. Default `false`.
 * - A law that does not apply to the backend is registered as a test that passes, with the reason in its name: it is
 *   no skip, because nothing is missing.
 *
 * @category running
 */
export const testLaws = <E>(
  name: string,
  environment: Effect.Effect<BackendLaws.LawEnvironment["Service"], E, Scope.Scope>,
  options?: {
    readonly laws?: ReadonlyArray<Law> | undefined
    readonly clock?: "live" | "virtual" | undefined
    readonly timeout?: number | undefined
    readonly concurrent?: boolean | undefined
  }
): Promise<void> =>
  Effect.runPromise(Effect.scoped(Effect.map(environment, (seen) => {
    describe(name, { concurrent: options?.concurrent ?? false }, () => {
      const test = options?.clock === "virtual" ? it.effect : it.live
      for (const law of options?.laws ?? BackendLaws.all) {
        const reason = law.inapplicable(seen)
        if (reason !== undefined) it(`${law.id} (not applicable: ${reason})`, () => {})
        else {
          test(
            `${law.id}: ${law.claim}`,
            () => Effect.provideServiceEffect(law.check, BackendLaws.LawEnvironment, environment),
            options?.timeout ?? 120_000
          )
        }
      }
    })
  })))
