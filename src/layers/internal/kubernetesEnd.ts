/**
 * How a grant ends: it is released by its owner id, or broken by an operator.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Lease from "../../Lease.ts"
import type { BreakRequest, ReleaseRequest } from "../../LockBackend.ts"
import { type BackendReason, Misconfigured } from "../../LockError.ts"
import type { Written } from "./kubernetesApi.ts"
import * as Failure from "./kubernetesFailure.ts"
import { isGrant, mostRounds, put, read } from "./kubernetesGrant.ts"
import * as Found from "./kubernetesLease.ts"
import * as Store from "./kubernetesStore.ts"
import { nowOf } from "./kubernetesTime.ts"
import * as Write from "./kubernetesWrite.ts"
import * as Tombstones from "./tombstones.ts"

/**
 * Gives back what an owner id holds, and ends its life.
 *
 * If an attempt of it was not answered, it may arrive yet. It replaces what it has read, or makes what was not there;
 * so the release writes, or makes, the object in any case, and the attempt is refused.
 */
export const release = (
  store: Store.Store,
  request: ReleaseRequest
): Effect.Effect<"Released" | "NotHeld", BackendReason> =>
  Effect.gen(function*() {
    const clock = yield* Clock.Clock
    const { key, ownerId, unanswered } = request
    const known = store.written.get(ownerId)
    store.written.delete(ownerId)
    store.refused.delete(ownerId)
    Tombstones.add(store.dead, ownerId, !unanswered, Lease.stamp(clock).monotonic)
    const target = yield* Store.targetOf(store, key)
    const timeout = Store.timeoutOf(request.budget)
    const dead = () => unanswered ? { ownerId, wall: clock.currentTimeMillisUnsafe() } : undefined
    const write = (writing: Write.Writing, isNew = false): Effect.Effect<Written | undefined, BackendReason> =>
      put(store, target, writing, timeout, isNew)
    const isMeant = (lease: Found.LeaseObject) =>
      Option.match(request.handle, {
        onNone: () => Found.isHeldBy(lease, ownerId),
        onSome: (handle) => isGrant(lease, ownerId, handle, target)
      })
    let lease = known !== undefined && isMeant(known) ? known : undefined
    for (let round = 0; round < mostRounds; round++) {
      if (lease === undefined) lease = (yield* read(store, target, timeout)).lease
      const death = dead()
      if (lease !== undefined && isMeant(lease)) {
        if ((yield* write(Write.free(target, lease, nowOf(clock), death))) !== undefined) return "Released"
      } else if (death === undefined || (lease !== undefined && Found.deadOf(lease).has(ownerId))) {
        return "NotHeld"
      } else {
        const written = lease === undefined
          ? yield* write(Write.free(target, undefined, nowOf(clock), death), true)
          : yield* write(Write.bury(target, lease, death))
        if (written !== undefined) return "NotHeld"
      }
      lease = undefined
    }
    return yield* Failure.restless()
  })

/** Frees another's lock, or has it drain. */
export const breakLock = (
  store: Store.Store,
  request: BreakRequest
): Effect.Effect<"Draining" | "Broken" | "NotHeld", BackendReason> =>
  Effect.gen(function*() {
    const clock = yield* Clock.Clock
    const target = yield* Store.targetOf(store, request.key)
    const timeout = Store.timeoutOf(request.budget)
    for (let round = 0; round < mostRounds; round++) {
      const { lease } = yield* read(store, target, timeout)
      if (lease === undefined || Found.holderIdentity(lease) !== request.ownerId) return "NotHeld"
      if (!request.now && Found.grantOf(lease) === undefined) {
        return yield* new Misconfigured({
          detail: "the holder is not of this library and would go on renewing: only break with now can end its lease"
        })
      }
      if (!request.now && Found.isDraining(lease)) return "Draining"
      const writing = request.now ? Write.free(target, lease, nowOf(clock)) : Write.drain(target, lease)
      if ((yield* put(store, target, writing, timeout)) !== undefined) return request.now ? "Broken" : "Draining"
    }
    return yield* Failure.restless()
  })
