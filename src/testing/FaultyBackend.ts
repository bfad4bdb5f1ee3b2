/**
 * A backend around another one whose network a test controls: requests and replies are lost, late, doubled, refused or
 * hang. It also records every call.
 */
import * as Cause from "effect/Cause"
import * as Context from "effect/Context"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Scope from "effect/Scope"
import {
  type AcquireRequest,
  type BreakRequest,
  LockBackend,
  type ReleaseRequest,
  type RenewRequest
} from "../LockBackend.ts"
import { LockBackendError, Unreachable } from "../LockError.ts"
import { elapsed } from "./Law.ts"

/**
 * What can go wrong with one call.
 *
 * **Details**
 *
 * `as` says what the caller sees of a loss: `"hang"` = nothing, until its budget is spent (default), `"reset"` = an
 * immediate `Unreachable`, as from a connection that was cut.
 *
 * - `LostReply`: the effect happens, its reply is lost.
 * - `LostRequest`: nothing happens.
 * - `Delay`: the effect happens `by` later, also if the caller has given up by then. Longer than the budget, that is a
 *   late write; longer than the ttl, it may meet another holder.
 * - `Duplicate`: the effect happens, and once more `after` its reply.
 * - `Outage`: nothing happens; `Unreachable`, after `latency` if there is one.
 * - `Hang`: nothing happens; the call can be interrupted.
 * - `HangUninterruptible`: nothing happens, and the call ignores interruption, as some drivers do. Ends with `heal` or
 *   with the scope.
 *
 * @category models
 */
export type Fault =
  | { readonly _tag: "LostReply"; readonly as?: "hang" | "reset" | undefined }
  | { readonly _tag: "LostRequest"; readonly as?: "hang" | "reset" | undefined }
  | { readonly _tag: "Delay"; readonly by: Duration.Input }
  | { readonly _tag: "Duplicate"; readonly after: Duration.Input }
  | { readonly _tag: "Outage"; readonly latency?: Duration.Input | undefined }
  | { readonly _tag: "Hang" }
  | { readonly _tag: "HangUninterruptible" }

/**
 * A request of the port, with its operation.
 *
 * @category models
 */
export type Request =
  | { readonly operation: "acquire"; readonly request: AcquireRequest }
  | { readonly operation: "renew"; readonly request: RenewRequest }
  | { readonly operation: "release"; readonly request: ReleaseRequest }
  | { readonly operation: "break"; readonly request: BreakRequest }
  | { readonly operation: "inspect"; readonly request: { readonly key: string; readonly budget: Duration.Duration } }
  | { readonly operation: "awaitTurn"; readonly request: { readonly key: string; readonly ownerId: string } }

/**
 * One recorded call: what was asked, when, under which fault, and when it ended for its caller with which exit.
 * Times are milliseconds of the caller's monotonic clock.
 *
 * @category models
 */
export type Call = Request & {
  readonly at: number
  readonly fault: Fault | undefined
  readonly ended: { readonly at: number; readonly outcome: "success" | "failure" | "interrupted" } | undefined
}

/**
 * Which calls a fault meets: the next `times` (default: all, until `heal`) of these operations for which `when` holds.
 *
 * @category models
 */
export interface Target {
  readonly operation?: Request["operation"] | ReadonlyArray<Request["operation"]> | undefined
  readonly times?: number | undefined
  readonly when?: ((request: Request) => boolean) | undefined
}

/**
 * The controls of a faulty backend.
 *
 * **Details**
 *
 * - `service`: the backend to give to the code under test.
 * - `inject`: from now on, calls that match meet the fault; the fault injected first wins.
 * - `heal`: removes all faults, and ends calls that hang uninterruptibly with `Unreachable`. Effects that were delayed
 *   still happen.
 * - `calls`: every call since the beginning, in order.
 *
 * @category services
 */
export class FaultyBackend extends Context.Service<FaultyBackend, {
  readonly service: LockBackend["Service"]
  readonly inject: (fault: Fault, target?: Target) => Effect.Effect<void>
  readonly heal: Effect.Effect<void>
  readonly calls: Effect.Effect<ReadonlyArray<Call>>
}>()("effect-lock/testing/FaultyBackend") {}

/**
 * Puts a faulty network before a backend. Effects that happen late do so in the scope; `list` is passed on untouched.
 *
 * @category constructors
 */
export const make = (
  inner: LockBackend["Service"]
): Effect.Effect<FaultyBackend["Service"], never, Scope.Scope> =>
  Effect.gen(function*() {
    const network = yield* makeNetwork(inner.name)
    const { awaitTurn, break: breaking } = inner
    const service = yield* LockBackend.make({
      name: inner.name,
      capabilities: inner.capabilities,
      defaults: inner.defaults,
      list: inner.list,
      tryAcquire: (request) => network.send({ operation: "acquire", request }, () => inner.tryAcquire(request)),
      renew: (request) => network.send({ operation: "renew", request }, () => inner.renew(request)),
      release: (request) => network.send({ operation: "release", request }, () => inner.release(request)),
      inspect: (request) => network.send({ operation: "inspect", request }, () => inner.inspect(request)),
      awaitTurn: awaitTurn &&
        ((request) => network.send({ operation: "awaitTurn", request }, () => awaitTurn(request))),
      break: breaking && ((request) => network.send({ operation: "break", request }, () => breaking(request)))
    })
    return { service, inject: network.inject, heal: network.heal, calls: network.calls }
  })

/**
 * A layer's backend behind a faulty network, with the controls beside it.
 *
 * @category layers
 */
export const layer = <E, R>(
  inner: Layer.Layer<LockBackend, E, R>
): Layer.Layer<LockBackend | FaultyBackend, E, R> =>
  Layer.effectContext(
    Effect.map(Effect.flatMap(LockBackend, make), (faulty) =>
      Context.make(LockBackend, faulty.service).pipe(Context.add(FaultyBackend, faulty)))
  ).pipe(Layer.provide(inner))

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

interface Rule {
  readonly fault: Fault
  readonly target: Target
  left: number
}

type Recorded = Request & { readonly at: number; readonly fault: Fault | undefined; ended: Call["ended"] }

const makeNetwork = (backend: string) =>
  Effect.gen(function*() {
    const scope = yield* Effect.scope
    const calls: Array<Recorded> = []
    let rules: Array<Rule> = []
    let healed = Deferred.makeUnsafe<void>()

    const heal = Effect.suspend(() => {
      rules = []
      const before = healed
      healed = Deferred.makeUnsafe<void>()
      return Effect.asVoid(Deferred.succeed(before, undefined))
    })
    yield* Scope.addFinalizer(scope, heal)

    const faultOf = (request: Request): Fault | undefined => {
      const rule = rules.find(({ left, target }) => left > 0 && matches(target, request))
      if (rule === undefined) return undefined
      rule.left--
      return rule.fault
    }

    const unreachable = (request: Request, detail: string) =>
      Effect.fail(
        new LockBackendError({
          backend,
          operation: request.operation,
          key: request.request.key,
          reason: new Unreachable({ detail })
        })
      )

    // Not cut short by what becomes of the caller.
    const onServer = <A, E>(self: Effect.Effect<A, E>) => Effect.forkIn(self, scope, { startImmediately: true })

    const lost = (request: Request, how: "hang" | "reset" | undefined) =>
      how === "reset" ? unreachable(request, "the connection was reset") : Effect.never

    const meet = <A>(
      fault: Fault | undefined,
      request: Request,
      effect: Effect.Effect<A, LockBackendError>
    ): Effect.Effect<A, LockBackendError> => {
      switch (fault?._tag) {
        case undefined:
          return effect
        case "LostReply":
          return onServer(effect).pipe(Effect.flatMap(Fiber.await), Effect.andThen(lost(request, fault.as)))
        case "LostRequest":
          return lost(request, fault.as)
        case "Delay":
          return Effect.flatMap(onServer(Effect.delay(effect, fault.by)), Fiber.join)
        case "Duplicate":
          return Effect.tap(effect, () => onServer(Effect.delay(effect, fault.after)))
        case "Outage":
          return Effect.andThen(Effect.sleep(fault.latency ?? 0), unreachable(request, "connection refused"))
        case "Hang":
          return Effect.never
        case "HangUninterruptible":
          return Deferred.await(healed).pipe(
            Effect.andThen(unreachable(request, "the connection was reset")),
            Effect.uninterruptible
          )
      }
    }

    // The backend is called when the request arrives, not when it is sent.
    const send = <A>(
      request: Request,
      arrive: () => Effect.Effect<A, LockBackendError>
    ): Effect.Effect<A, LockBackendError> =>
      Effect.flatMap(elapsed, (at) => {
        const fault = faultOf(request)
        const call: Recorded = { ...request, at, fault, ended: undefined }
        calls.push(call)
        return Effect.onExit(meet(fault, request, Effect.suspend(arrive)), (exit) =>
          Effect.map(elapsed, (now) => {
            const outcome = exit._tag === "Success"
              ? "success"
              : Cause.hasInterruptsOnly(exit.cause)
              ? "interrupted"
              : "failure"
            call.ended = { at: now, outcome }
          }))
      })

    return {
      send,
      heal,
      inject: (fault: Fault, target: Target = {}) =>
        Effect.sync(() => {
          rules.push({ fault, target, left: target.times ?? Infinity })
        }),
      calls: Effect.sync((): ReadonlyArray<Call> => calls.map((call) => ({ ...call })))
    }
  })

const matches = (target: Target, request: Request): boolean => {
  const { operation, when } = target
  const operations = operation === undefined ? undefined : typeof operation === "string" ? [operation] : operation
  return (operations === undefined || operations.includes(request.operation)) && (when === undefined || when(request))
}
