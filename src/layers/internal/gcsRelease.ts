/**
 * Giving back, and breaking: the object is deleted, or kept as `free`, under the condition that it is the grant's.
 */
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as LockBackend from "../../LockBackend.ts"
import type { BackendReason } from "../../LockError.ts"
import * as Calls from "./gcsCalls.ts"
import { objectOf } from "./gcsPlace.ts"
import { type LockObject, tokenOf } from "./gcsRecord.ts"
import { type Grant, mostRounds, parseHandle, unsettled } from "./gcsRenewal.ts"
import { type GcsStore, look, stamp } from "./gcsStore.ts"
import { grace, isHeld, type Seen, timeLeftByDate } from "./gcsVerdict.ts"
import * as Tombstones from "./tombstones.ts"

/** Gives back what an owner id holds. */
export const release = (
  store: GcsStore,
  request: LockBackend.ReleaseRequest
): Effect.Effect<"Released" | "NotHeld", BackendReason> =>
  Effect.gen(function*() {
    const { monotonic } = yield* stamp
    Tombstones.add(store.dead, request.ownerId, !request.unanswered, monotonic)
    store.tried.delete(request.ownerId)
    const grant = Option.isSome(request.handle) ? parseHandle(request.handle.value) : undefined
    if (Option.isSome(request.handle) && grant?.ownerId !== request.ownerId) return "NotHeld"
    const { name } = yield* objectOf(store.place, request.key)
    const budget = yield* Calls.start(request.budget)
    if (grant !== undefined) {
      const outcome = yield* free(store, budget, name, grant)
      if (outcome !== "Mismatch") return outcome
    }
    for (let round = 0; round < mostRounds; round++) {
      const seen = yield* look(store, budget, name)
      if (seen === undefined || !belongsTo(seen.object, request.ownerId, grant)) return "NotHeld"
      const outcome = yield* free(store, budget, name, seen.object)
      if (outcome !== "Mismatch") return outcome
    }
    return yield* unsettled
  })

/** Frees another's lock: at once, or at its release or present expiry. */
export const breakLock = (
  store: GcsStore,
  request: LockBackend.BreakRequest
): Effect.Effect<"Draining" | "Broken" | "NotHeld", BackendReason> =>
  Effect.gen(function*() {
    const { name } = yield* objectOf(store.place, request.key)
    const budget = yield* Calls.start(request.budget)
    for (let round = 0; round < mostRounds; round++) {
      const seen = yield* look(store, budget, name)
      if (seen === undefined || !isBreakable(store, seen, request.ownerId)) return "NotHeld"
      const outcome = request.now
        ? yield* free(store, budget, name, seen.object)
        : yield* drain(store, budget, name, seen)
      if (outcome === "Released") return "Broken"
      if (outcome !== "Mismatch") return outcome
    }
    return yield* unsettled
  })

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const isBreakable = (store: GcsStore, seen: Seen, ownerId: string): boolean =>
  seen.object.record.ownerId === ownerId && (store.trustsDate ? isHeld(seen) : seen.object.record.state !== "free")

// A grant that drains is in an object of the operator's, of another generation; it names the grant's.
const belongsTo = ({ generation, record }: LockObject, ownerId: string, grant: Grant | undefined): boolean =>
  record.state !== "free" && record.ownerId === ownerId &&
  (grant === undefined || generation === grant.generation || record.of === grant.generation)

// A kept object is freed in the version that is known only: a lock that was given back already must be told apart.
const free = (
  store: GcsStore,
  budget: Calls.Budget,
  name: string,
  version: Grant | LockObject
): Effect.Effect<"Released" | "NotHeld" | "Mismatch", BackendReason> => {
  const { generation, metageneration } = version
  if (!store.keeps) {
    return Effect.map(
      Calls.remove(store.service, budget, name, { generation }),
      (answer) => answer === "Deleted" ? "Released" : answer === "Missing" ? "NotHeld" : "Mismatch"
    )
  }
  return Effect.map(
    Calls.patch(store.service, budget, name, { generation, metageneration }, { state: "free" }),
    (answer) => answer._tag === "Found" ? "Released" : answer._tag === "Missing" ? "NotHeld" : "Mismatch"
  )
}

// The object is written anew, so that it has another generation: every renewal of the grant then fails on its
// condition, also one that is under way. What is left of the ttl starts again at this write, which is a little later.
const drain = (
  store: GcsStore,
  budget: Calls.Budget,
  name: string,
  seen: Seen
): Effect.Effect<"Draining" | "Mismatch", BackendReason> => {
  const { object } = seen
  const { generation, metageneration, record } = object
  if (record.state === "draining") return Effect.succeed("Draining")
  const left = store.trustsDate ? (timeLeftByDate(seen) ?? Infinity) - grace : Infinity
  return Effect.map(
    Calls.insert(store.service, budget, name, { generation, metageneration }, {
      ...record,
      state: "draining",
      ttl: Math.max(Math.min(Math.ceil(left), record.ttl), 1),
      of: generation,
      token: tokenOf(object)
    }),
    (answer) => answer._tag === "Found" ? "Draining" : "Mismatch"
  )
}
