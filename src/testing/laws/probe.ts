/**
 * The hands of a law: asks a backend, knows what may be concluded from the time that went by, gives back what it took.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import type { Acquired, Held, LockBackend, Lost, Renewed } from "../../LockBackend.ts"
import type { LockBackendError } from "../../LockError.ts"
import { elapsed, freshOwnerId, Inconclusive, type LawEnvironment, LawViolation, type Problem } from "../Law.ts"
import { describe, describeHolders } from "./describe.ts"

type Service = LockBackend["Service"]

/** What a law may say about an attempt; the rest has defaults: a fresh owner id, a ttl that outlives the law. */
export interface Ask {
  readonly ownerId?: string
  readonly ttl?: Duration.Duration
  readonly metadata?: Readonly<Record<string, string>>
  readonly willWait?: boolean
  readonly provisional?: boolean
}

/** A grant and what is needed to ask about it. `sentAt`, `repliedAt`: local milliseconds. */
export interface Grant {
  readonly key: string
  readonly ownerId: string
  readonly ttl: Duration.Duration
  readonly handle: string
  readonly token: Option.Option<bigint>
  readonly sentAt: number
  readonly repliedAt: number
  readonly reply: Acquired
}

/** One try and its answer. */
export interface Attempt {
  readonly ownerId: string
  readonly ttl: Duration.Duration
  readonly sentAt: number
  readonly repliedAt: number
  readonly reply: Acquired | Held
}

export type Check<A = void> = Effect.Effect<A, Problem>

/** How a law talks to the backends of its environment. */
export class Probe {
  readonly law: string
  readonly environment: LawEnvironment["Service"]
  /** Ttl of leases whose end is waited for. */
  readonly ttl: Duration.Duration
  /** Ttl of leases that must not end by themselves. */
  readonly longTtl: Duration.Duration
  /** Ttl of attempts that may take effect after their caller gave up: waited for only where they can't be refused. */
  readonly lateTtl: Duration.Duration
  readonly first: Service
  readonly second: Service
  readonly scope: Scope.Scope
  // What was asked for and not given back yet, by owner id.
  readonly #open = new Map<string, { readonly service: Service; readonly key: string }>()

  constructor(law: string, environment: LawEnvironment["Service"], scope: Scope.Scope, scale: number) {
    this.law = law
    this.environment = environment
    this.scope = scope
    this.first = environment.first
    this.second = environment.second
    this.ttl = Duration.times(environment.ttl, scale)
    this.longTtl = Duration.max(Duration.seconds(60), Duration.times(environment.ttl, 20))
    this.lateTtl = environment.first.capabilities.lateWrites === "untilTtl" ? this.ttl : this.longTtl
  }

  readonly freshKey = Effect.suspend(() => this.environment.freshKey)
  readonly freshOwnerId = freshOwnerId
  readonly elapsed = elapsed

  pass(duration: Duration.Duration): Effect.Effect<void> {
    return this.environment.pass(duration)
  }

  fail(expected: string, found: string, cause?: unknown): Effect.Effect<never, LawViolation> {
    return Effect.fail(new LawViolation({ law: this.law, expected, found, ...(cause === undefined ? {} : { cause }) }))
  }

  expect(ok: boolean, expected: string, found: string): Effect.Effect<void, LawViolation> {
    return ok ? Effect.void : this.fail(expected, found)
  }

  /** A failing backend breaks whatever law is asked: every law expects an answer. One that is slow may be asked again. */
  answer<A, R>(self: Effect.Effect<A, LockBackendError, R>): Effect.Effect<A, Problem, R> {
    return Effect.catch(self, (error): Check<never> => {
      if (error.reason._tag === "TimedOut") return Effect.fail(new Inconclusive({ expected: error.message }))
      return this.fail("an answer", error.message, error)
    })
  }

  attempt(service: Service, key: string, ask: Ask = {}): Check<Attempt> {
    return Effect.gen({ self: this }, function*() {
      const { metadata = {}, provisional = false, ttl = this.longTtl, willWait = false } = ask
      const ownerId = ask.ownerId ?? (yield* freshOwnerId)
      this.#open.set(ownerId, { service, key })
      const sentAt = yield* elapsed
      const { budget } = this.environment
      const request = { key, ownerId, ttl, metadata, willWait, provisional, budget }
      const reply = yield* this.answer(service.tryAcquire(request))
      if (reply._tag === "Held" && ask.willWait !== true) this.#open.delete(ownerId)
      return { ownerId, ttl, sentAt, repliedAt: yield* elapsed, reply }
    })
  }

  /** The key must be granted, now. */
  grant(service: Service, key: string, ask: Ask = {}, why = "a free lock is granted"): Check<Grant> {
    return Effect.flatMap(this.attempt(service, key, ask), (attempt) => {
      const { reply, ...rest } = attempt
      return reply._tag === "Acquired"
        ? Effect.succeed({ ...rest, key, reply, handle: reply.handle, token: reply.fencingToken })
        : this.fail(`Acquired (${why})`, describe(reply))
    })
  }

  /** The key must be refused, whatever the time. */
  refusal(service: Service, key: string, ask: Ask = {}, why = "somebody else holds it"): Check<Held> {
    return Effect.flatMap(
      this.attempt(service, key, ask),
      ({ reply }) => reply._tag === "Held" ? Effect.succeed(reply) : this.fail(`Held (${why})`, describe(reply))
    )
  }

  /** The key must be refused if `ttl` has not passed since `sentAt`; if it has, nothing can be concluded. */
  refusedWithin(
    service: Service,
    key: string,
    lease: { readonly sentAt: number; readonly ttl: Duration.Duration },
    why: string,
    ask: Ask = {}
  ): Check {
    return Effect.flatMap(this.attempt(service, key, ask), ({ repliedAt, reply }): Check => {
      if (reply._tag === "Held") return Effect.void
      return repliedAt - lease.sentAt < Duration.toMillis(lease.ttl)
        ? this.fail(`Held (${why})`, `${describe(reply)} after ${Math.round(repliedAt - lease.sentAt)} ms`)
        : Effect.fail(new Inconclusive({ expected: why }))
    })
  }

  /** Asks until the key is granted, for at most the slack. */
  grantWithinSlack(service: Service, key: string, ask: Ask, why: string): Check<Grant> {
    const slack = Duration.toMillis(this.environment.expirySlack)
    return Effect.gen({ self: this }, function*() {
      const from = yield* elapsed
      while (true) {
        const { reply, ...rest } = yield* this.attempt(service, key, ask)
        if (reply._tag === "Acquired") {
          return { ...rest, key, reply, handle: reply.handle, token: reply.fencingToken }
        }
        if ((yield* elapsed) - from >= slack) {
          return yield* this.fail(`Acquired within ${slack} ms (${why})`, describe(reply))
        }
        yield* this.pass(Duration.millis(Math.max(slack / 40, 1)))
      }
    })
  }

  renew(
    service: Service,
    grant: Grant,
    ask: { ttl?: Duration.Duration; handle?: string; ownerId?: string } = {}
  ): Check<
    (Renewed | Lost) & { readonly sentAt: number }
  > {
    return Effect.gen({ self: this }, function*() {
      const sentAt = yield* elapsed
      const reply = yield* this.answer(service.renew({
        key: grant.key,
        ownerId: ask.ownerId ?? grant.ownerId,
        handle: ask.handle ?? grant.handle,
        ttl: ask.ttl ?? grant.ttl,
        budget: this.environment.budget
      }))
      return { ...reply, sentAt }
    })
  }

  /** The renewal must succeed; the grant with its new handle. */
  renewed(service: Service, grant: Grant, why: string, ttl?: Duration.Duration): Check<Grant> {
    return Effect.flatMap(
      this.renew(service, grant, ttl === undefined ? {} : { ttl }),
      (reply) =>
        reply._tag === "Renewed"
          ? Effect.succeed({ ...grant, handle: reply.handle, sentAt: reply.sentAt })
          : this.fail(`Renewed (${why})`, describe(reply))
    )
  }

  /** As `renewed`, but if the ttl has passed since the grant was sent, nothing can be concluded. */
  renewedInTime(service: Service, grant: Grant, why: string, ttl?: Duration.Duration): Check<Grant> {
    return Effect.catchTag(
      this.renewed(service, grant, why, ttl),
      "LawViolation",
      (violation) =>
        Effect.flatMap(elapsed, (now) =>
          Effect.fail(
            now - grant.sentAt < Duration.toMillis(grant.ttl) ? violation : new Inconclusive({ expected: why })
          ))
    )
  }

  /** The renewal must be refused, for one of `reasons`. */
  lost(
    service: Service,
    grant: Grant,
    reasons: ReadonlyArray<Lost["reason"]>,
    why: string,
    ask: { handle?: string; ownerId?: string } = {}
  ): Check {
    return Effect.flatMap(this.renew(service, grant, ask), (reply) => {
      const isLost = reply._tag === "Lost" && reasons.includes(reply.reason)
      return this.expect(isLost, `Lost(${reasons.join(" or ")}) (${why})`, describe(reply))
    })
  }

  release(
    service: Service,
    key: string,
    ownerId: string,
    handle: Option.Option<string>,
    unanswered = Option.isNone(handle)
  ): Check<"Released" | "NotHeld"> {
    return Effect.map(
      this.answer(service.release({ key, ownerId, handle, unanswered, budget: this.environment.budget })),
      (reply) => {
        this.#open.delete(ownerId)
        return reply
      }
    )
  }

  /** The release must find the grant. */
  released(service: Service, grant: Grant): Check {
    return Effect.flatMap(
      this.release(service, grant.key, grant.ownerId, Option.some(grant.handle)),
      (reply) => this.expect(reply === "Released", "Released (the grant is held)", reply)
    )
  }

  /** The release must find nothing of its own. */
  notHeld(service: Service, key: string, ownerId: string, handle: Option.Option<string>, why: string): Check {
    return Effect.flatMap(
      this.release(service, key, ownerId, handle),
      (reply) => this.expect(reply === "NotHeld", `NotHeld (${why})`, reply)
    )
  }

  awaitTurn(service: Service, key: string, ownerId: string): Check {
    return service.awaitTurn === undefined
      ? this.fail("awaitTurn", "nothing")
      : this.answer(service.awaitTurn({ key, ownerId }))
  }

  /** Somebody who was refused and is willing to wait for its turn. */
  waiter(
    service: Service,
    key: string
  ): Check<{ readonly ownerId: string; readonly turn: Check }> {
    return Effect.gen({ self: this }, function*() {
      const ownerId = yield* freshOwnerId
      yield* this.refusal(service, key, { ownerId, willWait: true })
      return { ownerId, turn: this.awaitTurn(service, key, ownerId) }
    })
  }

  inspect(service: Service, key: string) {
    return this.answer(service.inspect({ key, budget: this.environment.budget }))
  }

  /** The key must be held by this owner id, as an operator sees it. */
  heldBy(service: Service, key: string, ownerId: string, why: string): Check {
    return Effect.flatMap(this.inspect(service, key), (holders) =>
      this.expect(
        holders.length === 1 && holders[0]?.ownerId === ownerId,
        `one holder, ${ownerId} (${why})`,
        describeHolders(holders)
      ))
  }

  /** @internal */
  get cleanUp(): Effect.Effect<void> {
    return Effect.forEach(
      [...this.#open],
      ([ownerId, { key, service }]) =>
        Effect.exit(
          service.release({ key, ownerId, handle: Option.none(), unanswered: true, budget: this.environment.budget })
        ),
      {
        concurrency: 16,
        discard: true
      }
    )
  }
}
