import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Option, Stream } from "effect"
import type { Holder } from "../../src/Holder.ts"
import * as Memory from "../../src/layers/Memory.ts"
import { type Acquired, type Capabilities, type Held, type Implementation, LockBackend } from "../../src/LockBackend.ts"
import type { LockBackendError } from "../../src/LockError.ts"
import * as BackendLaws from "../../src/testing/BackendLaws.ts"
import { LawEnvironment } from "../../src/testing/BackendLaws.ts"
import { virtualTime } from "../../src/testing/vitest.ts"

type Service = LockBackend["Service"]
type Reply = Effect.Effect<Acquired | Held, LockBackendError>

// What two instances of a broken backend share, as they would share a server.
class Shared {
  readonly notes = new Map<string, number>()
  readonly reserved = new Map<string, string>()
  readonly seen = new Map<string, ReadonlyArray<Holder>>()
  note(name: string): number {
    return this.notes.get(name) ?? 0
  }
  count(name: string): number {
    this.notes.set(name, this.note(name) + 1)
    return this.note(name)
  }
}

interface Mutant {
  readonly name: string
  readonly caughtBy: ReadonlyArray<string>
  readonly mutate: (inner: Service, shared: Shared, namespace: string) => Partial<Implementation>
  readonly namespaced?: (namespace: string) => string
  readonly ownStores?: boolean
}

const budget = Duration.seconds(1)
const now = Effect.map(Clock.monotonicTimeNanos, (nanos) => Number(nanos) / 1e6)

const holderOf = (inner: Service, key: string) => Effect.map(inner.inspect({ key, budget }), (holders) => holders[0])

// Frees the key, whoever holds it.
const free = (inner: Service, key: string) =>
  Effect.flatMap(holderOf(inner, key), (holder) =>
    holder === undefined || inner.break === undefined
      ? Effect.void
      : Effect.asVoid(inner.break({ key, ownerId: holder.ownerId, now: true, budget })))

const acquired = (reply: Acquired | Held, change: (reply: Acquired) => Acquired): Acquired | Held =>
  reply._tag === "Acquired" ? change(reply) : reply

const without = (field: "holders" | "metadata") => (reply: Acquired | Held): Acquired | Held => {
  if (reply._tag === "Acquired") return reply
  return {
    ...reply,
    holders: field === "holders" ? [] : reply.holders.map((holder) => ({ ...holder, metadata: {} }))
  }
}

const withCapabilities = (inner: Service, changes: Partial<Capabilities>): Capabilities => ({
  ...inner.capabilities,
  ...changes
})

const mapKeys = (inner: Service, change: (key: string) => string): Partial<Implementation> => {
  const on = <R extends { readonly key: string }>(request: R): R => ({ ...request, key: change(request.key) })
  return {
    tryAcquire: (request) => inner.tryAcquire(on(request)),
    renew: (request) => inner.renew(on(request)),
    release: (request) => inner.release(on(request)),
    inspect: (request) => inner.inspect(on(request)),
    awaitTurn: (request) => inner.awaitTurn!(on(request)),
    break: (request) => inner.break!(on(request)),
    list: (keyPrefix) => inner.list!(change(keyPrefix))
  }
}

const mutants: ReadonlyArray<Mutant> = [
  {
    name: "release deletes whatever is there",
    caughtBy: ["release/never-frees-anothers", "release/late", "release/not-held", "break/now"],
    mutate: (inner) => ({
      release: (request) =>
        Effect.flatMap(holderOf(inner, request.key), (holder) =>
          holder === undefined
            ? inner.release(request)
            : Effect.as(Effect.andThen(free(inner, request.key), inner.release(request)), "Released"))
    })
  },
  {
    name: "release frees any holder and says NotHeld",
    caughtBy: ["release/never-frees-anothers", "release/late", "lease/lost-when-taken"],
    mutate: (inner) => ({
      release: (request) =>
        Effect.flatMap(inner.release(request), (reply) => Effect.as(free(inner, request.key), reply))
    })
  },
  {
    name: "release does nothing and says Released",
    caughtBy: [
      "exclusion/released-is-free",
      "release/idempotent",
      "release/after-renewal",
      "release/unknown-outcome",
      "inspect/free",
      "interruption/release",
      "interruption/acquire",
      "lease/interrupted-anywhere",
      "concurrency/duplicates",
      "names/hostile",
      "lease/scope-releases",
      "lease/early-release",
      "lease/backend-closed",
      "lease/waiter-is-served",
      "lease/if-available"
    ],
    mutate: () => ({ release: () => Effect.succeed("Released") })
  },
  {
    name: "releasing what is not held is an answer of its own kind: Released",
    caughtBy: ["release/idempotent", "release/not-held", "release/leaves-the-queue"],
    mutate: (inner) => ({ release: (request) => Effect.as(inner.release(request), "Released") })
  },
  {
    name: "release needs the handle",
    caughtBy: ["release/unknown-outcome"],
    mutate: (inner) => ({
      release: (request) => Option.isNone(request.handle) ? Effect.succeed("NotHeld") : inner.release(request)
    })
  },
  {
    name: "renew re-creates what is gone",
    caughtBy: ["renewal/gone-stays-gone", "break/now-is-gone"],
    mutate: (inner) => ({
      renew: (request) =>
        Effect.flatMap(inner.renew(request), (reply) =>
          reply._tag === "Renewed" || reply.reason === "Taken"
            ? Effect.succeed(reply)
            : Effect.as(
              inner.tryAcquire({ ...request, ownerId: `${request.ownerId}'`, metadata: {}, willWait: false }),
              { _tag: "Renewed", handle: request.handle, grantedTtl: request.ttl } as const
            ))
    })
  },
  {
    name: "renew says Renewed, whatever is there",
    caughtBy: [
      "renewal/extends",
      "renewal/after-expiry",
      "renewal/taken",
      "renewal/foreign-owner-id",
      "expiry/one-takes-over",
      "concurrency/renewal-or-takeover",
      "break/drain",
      "break/drain-ends-by-ttl",
      "lease/renewed",
      "lease/lost-when-removed",
      "lease/lost-when-taken"
    ],
    mutate: () => ({
      renew: ({ handle, ttl }) => Effect.succeed({ _tag: "Renewed", handle, grantedTtl: ttl })
    })
  },
  {
    name: "renew ignores the handle",
    caughtBy: ["renewal/stale-handle"],
    mutate: (inner) => ({
      renew: (request) =>
        Effect.flatMap(holderOf(inner, request.key), (holder) =>
          inner.renew({
            ...request,
            handle: holder !== undefined && holder.ownerId === request.ownerId
              ? String(Option.getOrUndefined(holder.fencingToken))
              : request.handle
          }))
    })
  },
  {
    name: "renew ignores the owner id",
    caughtBy: ["renewal/foreign-owner-id"],
    mutate: (inner) => ({
      renew: (request) =>
        Effect.flatMap(
          holderOf(inner, request.key),
          (holder) => inner.renew({ ...request, ownerId: holder?.ownerId ?? request.ownerId })
        )
    })
  },
  {
    name: "renew can't tell who has it: always Gone",
    caughtBy: ["renewal/taken", "expiry/one-takes-over", "lease/lost-when-taken"],
    mutate: (inner) => ({
      renew: (request) =>
        Effect.map(inner.renew(request), (reply) => reply._tag === "Lost" ? { ...reply, reason: "Gone" } : reply)
    })
  },
  {
    name: "renew only works through the instance that acquired",
    caughtBy: ["renewal/through-another-instance"],
    mutate: (inner) => {
      const ours = new Set<string>()
      return {
        tryAcquire: (request) => {
          ours.add(request.ownerId)
          return inner.tryAcquire(request)
        },
        renew: (request) =>
          ours.has(request.ownerId) ? inner.renew(request) : Effect.succeed({ _tag: "Lost", reason: "Gone" })
      }
    }
  },
  {
    name: "renew shortens",
    caughtBy: ["renewal/never-shortens"],
    mutate: (inner, shared) => ({
      renew: (request) =>
        Effect.tap(
          inner.renew(request),
          () => Effect.map(now, (at) => shared.notes.set(request.key, at + Duration.toMillis(request.ttl)))
        ),
      tryAcquire: (request) =>
        Effect.flatMap(now, (at) => {
          const until = shared.notes.get(request.key)
          return until !== undefined && at >= until
            ? Effect.andThen(free(inner, request.key), inner.tryAcquire(request))
            : inner.tryAcquire(request)
        })
    })
  },
  {
    name: "renew grants less than asked",
    caughtBy: ["renewal/granted-ttl"],
    mutate: (inner) => ({
      renew: (request) =>
        Effect.map(
          inner.renew(request),
          (reply) => reply._tag === "Lost" ? reply : { ...reply, grantedTtl: Duration.times(request.ttl, 0.9) }
        )
    })
  },
  {
    name: "an interrupted renewal ends the lease",
    caughtBy: ["interruption/renew"],
    mutate: (inner) => ({
      renew: (request) =>
        Effect.onInterrupt(
          Effect.andThen(Effect.yieldNow, inner.renew(request)),
          () => Effect.ignore(free(inner, request.key))
        )
    })
  },
  {
    name: "renew changes the handle, and release knows only the first one",
    caughtBy: ["release/after-renewal"],
    mutate: (inner) => ({
      renew: (request) =>
        Effect.map(
          inner.renew({ ...request, handle: request.handle.replaceAll("'", "") }),
          (reply) => reply._tag === "Lost" ? reply : { ...reply, handle: `${reply.handle}'` }
        )
    })
  },
  {
    name: "a renewal makes the handle before it worthless",
    caughtBy: ["renewal/replay", "release/after-unanswered-renewal", "ambiguity/renewal-reply-lost"],
    mutate: (inner, shared) => {
      const handleOf = (ownerId: string, handle: string) => `${handle}#${shared.note(ownerId)}`
      const current = (ownerId: string, handle: string) => handle.endsWith(`#${shared.note(ownerId)}`)
      const plain = (handle: string) => handle.replace(/#.*$/, "")
      return {
        tryAcquire: (request) =>
          Effect.map(
            inner.tryAcquire(request),
            (reply) => acquired(reply, (grant) => ({ ...grant, handle: handleOf(request.ownerId, grant.handle) }))
          ),
        renew: (request) =>
          Effect.suspend((): ReturnType<Service["renew"]> => {
            if (!current(request.ownerId, request.handle)) return Effect.succeed({ _tag: "Lost", reason: "Gone" })
            return Effect.map(inner.renew({ ...request, handle: plain(request.handle) }), (reply) => {
              if (reply._tag === "Lost") return reply
              shared.count(request.ownerId)
              return { ...reply, handle: handleOf(request.ownerId, reply.handle) }
            })
          }),
        release: (request) =>
          Effect.suspend(() =>
            Option.isSome(request.handle) && !current(request.ownerId, request.handle.value)
              ? Effect.succeed("NotHeld")
              : inner.release({ ...request, handle: Option.map(request.handle, plain) })
          )
      }
    }
  },
  {
    name: "every attempt counts, and a release takes back one",
    caughtBy: ["ambiguity/acquire-duplicated", "ambiguity/acquire-reply-lost", "concurrency/duplicates"],
    mutate: (inner, shared) => ({
      tryAcquire: (request) =>
        Effect.tap(inner.tryAcquire(request), (reply) =>
          Effect.sync(() => {
            if (reply._tag === "Acquired") shared.count(request.ownerId)
          })),
      release: (request) =>
        Effect.suspend(() => {
          const left = shared.note(request.ownerId) - 1
          shared.notes.set(request.ownerId, left)
          return left > 0 ? Effect.succeed("Released") : inner.release(request)
        })
    })
  },
  {
    name: "tokens start again after a release",
    caughtBy: ["fencing/over-releases", "fencing/over-idle-time"],
    mutate: (inner, shared) => ({
      tryAcquire: (request) =>
        Effect.map(inner.tryAcquire(request), (reply) =>
          acquired(reply, (grant) => ({
            ...grant,
            fencingToken: Option.some(BigInt(shared.count(request.key)))
          }))),
      release: (request) => {
        shared.notes.delete(request.key)
        return inner.release(request)
      }
    })
  },
  {
    name: "tokens grow only when the lock is released",
    caughtBy: ["fencing/over-expiry", "break/now"],
    mutate: (inner, shared) => ({
      tryAcquire: (request) =>
        Effect.map(inner.tryAcquire(request), (reply) =>
          acquired(reply, (grant) => ({
            ...grant,
            fencingToken: Option.some(BigInt(shared.note(request.key)))
          }))),
      release: (request) => {
        shared.count(request.key)
        return inner.release(request)
      }
    })
  },
  {
    name: "tokens grow with refusals and renewals too",
    caughtBy: ["fencing/not-by-refusal"],
    mutate: (inner, shared) => ({
      inspect: (request) =>
        Effect.map(inner.inspect(request), (holders) =>
          holders.map((holder) => ({
            ...holder,
            fencingToken: Option.map(holder.fencingToken, (token) => token + BigInt(shared.count(request.key)))
          })))
    })
  },
  {
    name: "tokens that nobody promised",
    caughtBy: ["fencing/none"],
    mutate: (inner) => ({
      capabilities: withCapabilities(inner, { fencing: { grade: "none", condition: "none are kept" } })
    })
  },
  {
    name: "a replay is refused by its own lock",
    caughtBy: ["replay/is-granted", "replay/refreshes", "concurrency/duplicates", "ambiguity/acquire-reply-lost"],
    mutate: (inner) => ({
      tryAcquire: (request) =>
        Effect.flatMap(holderOf(inner, request.key), (holder): Reply =>
          holder === undefined
            ? inner.tryAcquire(request)
            : Effect.succeed({ _tag: "Held", holders: [holder], retryAfter: holder.remaining }))
    })
  },
  {
    name: "a replay is granted without renewing",
    caughtBy: ["replay/refreshes"],
    mutate: (inner) => ({
      tryAcquire: (request) =>
        Effect.flatMap(
          holderOf(inner, request.key),
          (holder): Reply =>
            holder === undefined || holder.ownerId !== request.ownerId
              ? inner.tryAcquire(request)
              : Effect.succeed({
                _tag: "Acquired",
                fencingToken: holder.fencingToken,
                handle: String(Option.getOrUndefined(holder.fencingToken)),
                grantedTtl: request.ttl
              })
        )
    })
  },
  {
    name: "a replay takes the lock back",
    caughtBy: ["replay/never-takes"],
    mutate: (inner, shared) => ({
      tryAcquire: (request) =>
        Effect.andThen(
          shared.count(request.ownerId) > 1 ? free(inner, request.key) : Effect.void,
          inner.tryAcquire(request)
        )
    })
  },
  {
    name: "everybody is granted",
    caughtBy: [
      "exclusion/second-is-refused",
      "exclusion/one-of-many",
      "concurrency/counter",
      "lease/counter",
      "lease/contended",
      "lease/wait-over",
      "expiry/not-before-ttl",
      "names/near"
    ],
    mutate: (inner) => ({
      tryAcquire: (request) => Effect.andThen(free(inner, request.key), inner.tryAcquire(request)),
      inspect: () => Effect.succeed([])
    })
  },
  {
    name: "looks first and takes later",
    caughtBy: ["exclusion/one-of-many", "expiry/one-takes-over"],
    mutate: (inner) => ({
      tryAcquire: (request) =>
        Effect.flatMap(inner.inspect({ key: request.key, budget }), (holders) =>
          holders.length > 0
            ? inner.tryAcquire(request)
            : Effect.yieldNow.pipe(Effect.andThen(free(inner, request.key)), Effect.andThen(inner.tryAcquire(request))))
    })
  },
  {
    name: "one lock for all keys",
    caughtBy: ["exclusion/keys-are-independent", "names/hostile", "names/near", "names/listed", "names/list-prefix"],
    mutate: (inner) => mapKeys(inner, () => "the lock")
  },
  {
    name: "keys without case",
    caughtBy: ["names/hostile", "names/near"],
    mutate: (inner) => mapKeys(inner, (key) => key.toLowerCase())
  },
  {
    name: "keys in a normal form",
    caughtBy: ["names/hostile", "names/near"],
    mutate: (inner) => mapKeys(inner, (key) => key.normalize("NFC"))
  },
  {
    name: "keys cut short",
    caughtBy: ["names/hostile"],
    mutate: (inner) => mapKeys(inner, (key) => key.slice(0, 250))
  },
  {
    name: "keys without a trailing space or dot",
    caughtBy: ["names/near"],
    mutate: (inner) => mapKeys(inner, (key) => key.replace(/[ .]$/, ""))
  },
  {
    name: "list ignores its prefix",
    caughtBy: ["names/list-prefix", "names/listed"],
    mutate: (inner) => ({
      tryAcquire: (request) =>
        Effect.andThen(
          Effect.exit(inner.tryAcquire({ ...request, key: "another", ownerId: "another" })),
          inner.tryAcquire(request)
        ),
      list: () => inner.list!("")
    })
  },
  {
    name: "list reads its prefix as a pattern",
    caughtBy: ["names/list-prefix"],
    mutate: (inner) => ({ list: (keyPrefix) => inner.list!(keyPrefix.replace(/\/$/, "")) })
  },
  {
    name: "list escapes keys",
    caughtBy: ["names/listed"],
    mutate: (inner) => ({
      list: (keyPrefix) =>
        Stream.map(
          inner.list!(keyPrefix),
          (held) => ({ ...held, key: encodeURIComponent(held.key).replaceAll("%2F", "/") })
        )
    })
  },
  {
    name: "namespace and key are joined",
    caughtBy: ["namespace/no-collision"],
    namespaced: () => "",
    mutate: (inner, _shared, namespace) => mapKeys(inner, (key) => `${namespace}/${key}`)
  },
  {
    name: "the namespace is ignored",
    caughtBy: ["namespace/apart"],
    namespaced: () => "",
    mutate: () => ({})
  },
  {
    name: "namespaces without case",
    caughtBy: ["namespace/no-collision"],
    namespaced: (namespace) => namespace.toLowerCase(),
    mutate: () => ({})
  },
  {
    name: "every instance has locks of its own",
    caughtBy: ["exclusion/second-is-refused", "lease/if-available", "lease/counter"],
    ownStores: true,
    mutate: () => ({})
  },
  {
    name: "the refusal does not say who",
    caughtBy: ["refusal/names-the-holder", "lease/contended"],
    mutate: (inner) => ({ tryAcquire: (request) => Effect.map(inner.tryAcquire(request), without("holders")) })
  },
  {
    name: "metadata is dropped",
    caughtBy: ["refusal/names-the-holder", "refusal/full-metadata"],
    mutate: (inner) => ({ tryAcquire: (request) => inner.tryAcquire({ ...request, metadata: {} }) })
  },
  {
    name: "retryAfter is too early",
    caughtBy: ["expiry/retry-after"],
    mutate: (inner) => ({
      tryAcquire: (request) =>
        Effect.map(
          inner.tryAcquire(request),
          (reply) => reply._tag === "Acquired" ? reply : { ...reply, retryAfter: Option.some(Duration.millis(1)) }
        )
    })
  },
  {
    name: "there is no handle",
    caughtBy: ["exclusion/free-is-granted"],
    mutate: (inner) => ({
      tryAcquire: (request) =>
        Effect.map(inner.tryAcquire(request), (reply) => acquired(reply, (grant) => ({ ...grant, handle: "" })))
    })
  },
  {
    name: "the lease is shorter than it says",
    caughtBy: ["expiry/not-before-ttl", "lease/waiter-after-expiry"],
    mutate: (inner) => ({
      tryAcquire: (request) =>
        Effect.map(
          inner.tryAcquire({ ...request, ttl: Duration.times(request.ttl, 0.5) }),
          (reply) => acquired(reply, (grant) => ({ ...grant, grantedTtl: request.ttl }))
        )
    })
  },
  {
    name: "the lease is shorter than asked for",
    caughtBy: ["expiry/granted-ttl"],
    mutate: (inner) => ({
      tryAcquire: (request) => inner.tryAcquire({ ...request, ttl: Duration.times(request.ttl, 0.9) })
    })
  },
  {
    name: "the lease ends long before it says, so that the next gets it first",
    caughtBy: ["lease/unrenewed-ends-in-time"],
    mutate: (inner) => ({
      tryAcquire: (request) =>
        Effect.map(
          inner.tryAcquire({ ...request, ttl: Duration.times(request.ttl, 0.2) }),
          (reply) => acquired(reply, (grant) => ({ ...grant, grantedTtl: request.ttl }))
        )
    })
  },
  {
    name: "leases never end by themselves",
    caughtBy: ["expiry/after-ttl", "expiry/inspect", "lease/waiter-after-expiry"],
    mutate: (inner) => ({
      tryAcquire: (request) => inner.tryAcquire({ ...request, ttl: Duration.times(request.ttl, 100) })
    })
  },
  {
    name: "a dead owner id lives again",
    caughtBy: [
      "release/dead-id-is-refused",
      "release/dead-id-stays-dead",
      "release/dead-id-after-a-grant",
      "ambiguity/acquire-late"
    ],
    mutate: (inner, shared) => {
      const alive = (ownerId: string) => ownerId + "'".repeat(shared.note(ownerId))
      return {
        tryAcquire: (request) => inner.tryAcquire({ ...request, ownerId: alive(request.ownerId) }),
        release: (request) => {
          const ownerId = alive(request.ownerId)
          shared.count(request.ownerId)
          return inner.release({ ...request, ownerId })
        }
      }
    }
  },
  {
    name: "a dead owner id is forgotten after a second",
    caughtBy: ["release/dead-id-stays-dead", "release/dead-id-after-a-grant"],
    mutate: (inner, shared) => {
      const alive = (ownerId: string, at: number) =>
        at - (shared.notes.get(ownerId) ?? at) > 1000 ? `${ownerId}'` : ownerId
      return {
        tryAcquire: (request) =>
          Effect.flatMap(now, (at) => inner.tryAcquire({ ...request, ownerId: alive(request.ownerId, at) })),
        release: (request) =>
          Effect.flatMap(now, (at) => {
            shared.notes.set(request.ownerId, at)
            return inner.release(request)
          })
      }
    }
  },
  {
    name: "a late write lasts longer than its ttl",
    caughtBy: ["release/dead-id-ends-by-ttl"],
    mutate: (inner, shared) => ({
      capabilities: withCapabilities(inner, { lateWrites: "untilTtl" }),
      tryAcquire: (request) =>
        shared.note(request.ownerId) > 0
          ? inner.tryAcquire({
            ...request,
            ownerId: `${request.ownerId}'`,
            ttl: Duration.times(request.ttl, 10)
          })
          : inner.tryAcquire(request),
      release: (request) => {
        shared.count(request.ownerId)
        return inner.release(request)
      }
    })
  },
  {
    name: "a waiter reserves the lock until it is released, and release does not say so",
    caughtBy: ["release/leaves-the-queue", "lease/interrupted-waiter", "waiting/given-up-turn"],
    mutate: (inner, { reserved }) => ({
      tryAcquire: (request) => {
        const first = reserved.get(request.key)
        if (first !== undefined && first !== request.ownerId) {
          return Effect.succeed({ _tag: "Held", holders: [], retryAfter: Option.none() })
        }
        return Effect.tap(inner.tryAcquire(request), (reply) =>
          Effect.sync(() => {
            if (reply._tag === "Acquired") reserved.delete(request.key)
            else if (request.willWait) reserved.set(request.key, request.ownerId)
          }))
      }
    })
  },
  {
    name: "awaitTurn misses a release that came before it",
    caughtBy: ["waiting/level-triggered"],
    mutate: (inner) => ({
      awaitTurn: (request) =>
        Effect.flatMap(
          holderOf(inner, request.key),
          (holder) => holder === undefined ? Effect.never : inner.awaitTurn!(request)
        )
    })
  },
  {
    name: "awaitTurn never wakes",
    caughtBy: ["waiting/release-wakes", "waiting/interruptible", "waiting/serves-everybody", "interruption/await-turn"],
    mutate: () => ({ awaitTurn: () => Effect.never })
  },
  {
    name: "a waiter is given a provisional grant that it did not ask for",
    caughtBy: ["waiting/provisional"],
    mutate: (inner) => ({
      tryAcquire: (request) =>
        Effect.map(
          inner.tryAcquire(request),
          (reply) => reply._tag === "Held" || !request.willWait ? reply : { ...reply, provisional: true }
        )
    })
  },
  {
    name: "a provisional grant ends in spite of its renewal",
    caughtBy: ["waiting/provisional"],
    mutate: (inner) => ({
      tryAcquire: (request) => {
        if (request.provisional !== true) return inner.tryAcquire(request)
        const window = Duration.millis(Duration.toMillis(request.ttl) / 4)
        return Effect.map(
          inner.tryAcquire({ ...request, ttl: window }),
          (reply) => reply._tag === "Held" ? reply : { ...reply, grantedTtl: window, provisional: true }
        )
      },
      renew: (request) => Effect.succeed({ _tag: "Renewed", handle: request.handle, grantedTtl: request.ttl })
    })
  },
  {
    name: "a wake-up is lost with the waiter that got it",
    caughtBy: ["waiting/given-up-turn", "waiting/serves-everybody"],
    mutate: (inner, shared) => ({
      awaitTurn: (request) => shared.count(request.key) > 1 ? Effect.never : inner.awaitTurn!(request)
    })
  },
  {
    name: "inspect shows nobody",
    caughtBy: ["inspect/holder", "names/hostile", "lease/renewed"],
    mutate: () => ({ inspect: () => Effect.succeed([]) })
  },
  {
    name: "inspect shows who held last",
    caughtBy: ["inspect/free", "expiry/inspect"],
    mutate: (inner, { seen }) => ({
      tryAcquire: (request) =>
        Effect.tap(
          inner.tryAcquire(request),
          () => Effect.map(inner.inspect({ key: request.key, budget }), (holders) => seen.set(request.key, holders))
        ),
      inspect: (request) => Effect.succeed(seen.get(request.key) ?? [])
    })
  },
  {
    name: "break ignores the owner id",
    caughtBy: ["break/owner-id"],
    mutate: (inner) => ({ break: (request) => Effect.as(free(inner, request.key), "Broken") })
  },
  {
    name: "break does nothing",
    caughtBy: ["break/now", "break/now-is-gone", "break/drain", "break/drain-ends-by-ttl"],
    mutate: (inner) => ({
      break: (request) =>
        Effect.map(
          holderOf(inner, request.key),
          (holder) => holder?.ownerId !== request.ownerId ? "NotHeld" : request.now ? "Broken" : "Draining"
        )
    })
  },
  {
    name: "a draining lock is renewed by a replay",
    caughtBy: ["break/drain-ends-by-ttl"],
    mutate: (inner) => {
      const granted = new Map<string, Acquired>()
      return {
        tryAcquire: (request) => {
          const before = granted.get(request.ownerId)
          return Effect.map(inner.tryAcquire(request), (reply) => {
            if (reply._tag === "Acquired") granted.set(request.ownerId, reply)
            return reply._tag === "Held" && reply.holders[0]?.ownerId === request.ownerId && before ? before : reply
          })
        }
      }
    }
  },
  {
    name: "draining frees the lock at once",
    caughtBy: ["break/drain"],
    mutate: (inner) => ({
      break: (request) => Effect.as(inner.break!({ ...request, now: true }), "Draining")
    })
  },
  {
    name: "an interrupted tryAcquire keeps what it took",
    caughtBy: ["interruption/acquire"],
    mutate: (inner, shared) => ({
      // Takes the lock under a name of its own, and notes afterwards whose it is.
      tryAcquire: (request) =>
        inner.tryAcquire({ ...request, ownerId: `${request.ownerId}'`, ttl: Duration.times(request.ttl, 100) }).pipe(
          Effect.tap(() => Effect.yieldNow),
          Effect.tap(() => Effect.sync(() => shared.count(request.ownerId)))
        ),
      release: (request) =>
        shared.note(request.ownerId) > 0
          ? inner.release({ ...request, ownerId: `${request.ownerId}'`, handle: Option.none() })
          : Effect.succeed("NotHeld")
    })
  },
  {
    name: "a release that was interrupted can't be sent again",
    caughtBy: ["interruption/release"],
    mutate: (inner, shared) => ({
      release: (request) =>
        Effect.suspend(() =>
          shared.count(request.ownerId) > 1
            ? Effect.succeed("NotHeld")
            : Effect.andThen(Effect.yieldNow, inner.release(request))
        )
    })
  }
]

// What the core alone keeps, whatever the backend does.
const keptByTheCore = ["lease/first-come-first-served"]

const environmentOf = (mutant: Mutant) =>
  Effect.gen(function*() {
    const shared = new Shared()
    const store = yield* Memory.makeStore()
    const make = (namespace = "") =>
      Effect.gen(function*() {
        const inner = yield* Memory.make({
          store: mutant.ownStores === true ? yield* Memory.makeStore() : store,
          namespace: mutant.namespaced === undefined ? namespace : mutant.namespaced(namespace)
        })
        return yield* LockBackend.make({ ...inner, ...mutant.mutate(inner, shared, namespace) })
      })
    return LawEnvironment.make({
      ...virtualTime,
      first: yield* make(),
      second: yield* make(),
      withNamespace: make,
      contenders: 10,
      acquisitions: 10
    })
  })

describe("BackendLaws", () => {
  describe("a broken backend is caught", () => {
    for (const mutant of mutants) {
      for (const id of mutant.caughtBy) {
        it.effect(`${id} catches: ${mutant.name}`, () =>
          Effect.gen(function*() {
            const law = BackendLaws.all.find((law) => law.id === id)
            assert(law !== undefined, `there is no law ${id}`)
            const environment = yield* environmentOf(mutant)
            assert.strictEqual(law.inapplicable(environment), undefined)
            const violation = yield* Effect.flip(Effect.provideService(law.check, LawEnvironment, environment))
            assert.strictEqual(violation._tag, "LawViolation")
            assert.strictEqual(violation.law, id)
            assert.include(violation.message, violation.expected)
          }))
      }
    }
  })

  it("every law catches a broken backend", () => {
    const caught = new Set([...mutants.flatMap(({ caughtBy }) => caughtBy), ...keptByTheCore])
    assert.deepStrictEqual(BackendLaws.all.map(({ id }) => id).filter((id) => !caught.has(id)), [])
  })

  it.effect("verify tells of every law whether it is kept, broken, or does not apply", () =>
    Effect.gen(function*() {
      const mutant = mutants.find(({ name }) => name === "metadata is dropped")
      assert(mutant !== undefined)
      const { withNamespace: _, ...environment } = yield* environmentOf(mutant)
      const laws = BackendLaws.all.filter(({ id }) =>
        ["exclusion/free-is-granted", "namespace/apart", "refusal/names-the-holder"].includes(id)
      )
      const findings = yield* BackendLaws.verify(laws).pipe(
        Stream.runCollect,
        Effect.provideService(LawEnvironment, LawEnvironment.make(environment))
      )
      assert.deepStrictEqual(
        findings.map((finding) => [finding.law.id, finding._tag]),
        [
          ["exclusion/free-is-granted", "Kept"],
          ["refusal/names-the-holder", "Broken"],
          ["namespace/apart", "Inapplicable"]
        ]
      )
    }))

  it.effect("a backend that promises less is not asked for more", () =>
    Effect.gen(function*() {
      const { withNamespace: _, ...environment } = yield* environmentOf({
        name: "the least",
        caughtBy: [],
        // Four verbs, no tokens, no tombstones: every life of an owner id is a new one.
        mutate: (inner, shared) => {
          const alive = (ownerId: string) => ownerId + "'".repeat(shared.note(ownerId))
          const shown = (holder: Holder): Holder => ({
            ...holder,
            ownerId: holder.ownerId.replaceAll("'", ""),
            fencingToken: Option.none()
          })
          return {
            capabilities: withCapabilities(inner, {
              fencing: { grade: "none", condition: "none are kept" },
              lateWrites: "untilTtl",
              drain: false
            }),
            tryAcquire: (request) =>
              Effect.suspend(() =>
                Effect.map(inner.tryAcquire({ ...request, ownerId: alive(request.ownerId) }), (reply) =>
                  reply._tag === "Held"
                    ? { ...reply, holders: reply.holders.map(shown) }
                    : { ...reply, fencingToken: Option.none() })
              ),
            renew: (request) =>
              inner.renew({ ...request, ownerId: alive(request.ownerId) }),
            release: (request) =>
              Effect.uninterruptible(Effect.suspend(() => {
                const ownerId = alive(request.ownerId)
                shared.count(request.ownerId)
                return inner.release({ ...request, ownerId })
              })),
            inspect: (request) =>
              Effect.map(inner.inspect(request), (holders) => holders.map(shown)),
            awaitTurn: undefined,
            list: undefined,
            break: undefined
          }
        }
      })
      const findings = yield* BackendLaws.verify().pipe(
        Stream.runCollect,
        Effect.provideService(LawEnvironment, LawEnvironment.make(environment))
      )
      const broken = findings.flatMap((finding) => finding._tag === "Broken" ? [finding.violation.message] : [])
      assert.deepStrictEqual(broken, [])
      const inapplicable = findings.flatMap((finding) => finding._tag === "Inapplicable" ? [finding.law.id] : [])
      assert.includeMembers(inapplicable, [
        "release/dead-id-is-refused",
        "fencing/over-releases",
        "waiting/release-wakes",
        "break/now",
        "names/listed",
        "lease/backend-closed"
      ])
      assert.notInclude(inapplicable, "release/dead-id-ends-by-ttl")
      assert.notInclude(inapplicable, "fencing/none")
    }))

  it.effect("a law that a slow machine can't tell is asked again with longer leases, then given up in words", () =>
    Effect.gen(function*() {
      const environment = yield* environmentOf({ name: "none", caughtBy: [], mutate: () => ({}) })
      const law = BackendLaws.all.find(({ id }) => id === "expiry/not-before-ttl")
      assert(law !== undefined)
      const stalls: Array<number> = []
      const slow = LawEnvironment.make({
        ...environment,
        pass: (duration) =>
          Effect.suspend(() => {
            stalls.push(Duration.toMillis(duration))
            return environment.pass(Duration.times(duration, 10))
          })
      })
      const violation = yield* Effect.flip(Effect.provideService(law.check, LawEnvironment, slow))
      assert.include(violation.message, "too slow")
      assert.deepStrictEqual(stalls, [300, 600, 1200, 2400])
    }))

  it("the id of a law is its own", () => {
    assert.strictEqual(new Set(BackendLaws.all.map(({ id }) => id)).size, BackendLaws.all.length)
  })
})
