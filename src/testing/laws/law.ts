/**
 * How a law is made.
 */
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import { type Law, LawEnvironment, LawViolation, type Problem } from "../Law.ts"
import { Probe } from "./probe.ts"

/** Makes a law. A run that can't tell is repeated with leases twice as long, three times at most. */
export const law = (
  id: string,
  claim: string,
  body: (probe: Probe) => Generator<Effect.Effect<unknown, Problem>, void, never>,
  inapplicable: Law["inapplicable"] = () => undefined
): Law => {
  const runs = (environment: LawEnvironment["Service"], scale: number): Effect.Effect<void, LawViolation> =>
    Effect.catchTag(
      Effect.scopedWith((scope) => {
        const probe = new Probe(id, environment, scope, scale)
        return Effect.andThen(
          Scope.addFinalizer(scope, Effect.suspend(() => probe.cleanUp)),
          Effect.gen(() => body(probe))
        )
      }),
      "Inconclusive",
      ({ expected }) =>
        scale < 8 ? runs(environment, scale * 2) : Effect.fail(
          new LawViolation({
            law: id,
            expected,
            found: "a machine or server too slow to tell: leases end before answers"
          })
        )
    )
  return { id, claim, inapplicable, check: Effect.flatMap(LawEnvironment, (environment) => runs(environment, 1)) }
}
