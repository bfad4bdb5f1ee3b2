/**
 * Taking a lock: one conditional write, and looking when it does not settle the matter.
 *
 * A free lock is created under the condition that there is no object; one whose lease has ended, or that was given back
 * and kept, is overwritten under the condition that generation *and* metageneration are those that were seen. The
 * metageneration is what a renewal changes; without the generation it means nothing, because it starts at 1 with each.
 *
 * A write that was not answered is settled by looking for our own owner id.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as LockBackend from "../../LockBackend.ts"
import type { BackendReason } from "../../LockError.ts"
import * as Calls from "./gcsCalls.ts"
import { type ObjectName, objectOf } from "./gcsPlace.ts"
import { nextFence } from "./gcsRecord.ts"
import { acquired, extend, lengthen, wholeTtl } from "./gcsRenewal.ts"
import { type GcsStore, hasTried, look, stamp } from "./gcsStore.ts"
import { holderOf, type Seen, timeLeft } from "./gcsVerdict.ts"
import * as Tombstones from "./tombstones.ts"

type Reply = LockBackend.Acquired | LockBackend.Held

/** One try. */
export const tryAcquire = (
  store: GcsStore,
  request: LockBackend.AcquireRequest
): Effect.Effect<Reply, BackendReason> =>
  Effect.gen(function*() {
    if (Tombstones.has(store.dead, request.ownerId, (yield* stamp).monotonic)) return refusal
    // A poll begins by looking, because a create counts against the object's one change per second even if it fails.
    // Where objects are kept, there is one nearly always.
    const begins = hasTried(store, request.ownerId) || store.keeps ? "look" : "create"
    const object = yield* objectOf(store.place, request.key)
    const attempt: Attempt = { store, request, object, budget: yield* Calls.start(request.budget) }
    let doubt: BackendReason | undefined
    let next: Step = begins === "create" ? create(attempt) : see(attempt, undefined)
    // A condition that is not met means that somebody else was faster: looking again tells who.
    for (let step = 0; step < mostSteps; step++) {
      const outcome: Outcome = yield* next
      if (outcome._tag !== "Again") return outcome
      doubt = outcome.doubt
      next = outcome.write === undefined ? see(attempt, doubt) : outcome.write
    }
    return doubt === undefined ? refusal : yield* Effect.fail(doubt)
  })

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

interface Attempt {
  readonly store: GcsStore
  readonly request: LockBackend.AcquireRequest
  readonly object: ObjectName
  readonly budget: Calls.Budget
}

type Step = Effect.Effect<Outcome, BackendReason>

// `doubt`: a write was not answered, or refused for now; what is there decides, and if that is nothing, we don't know.
type Outcome = Reply | { readonly _tag: "Again"; readonly doubt?: BackendReason; readonly write?: Step }

// Each is a request, bounded by the budget too.
const mostSteps = 7

const refusal: LockBackend.Held = { _tag: "Held", holders: [], retryAfter: Option.none() }

const create = (attempt: Attempt): Step => write(attempt, { generation: 0n }, 0n)

const write = (
  { budget, object: { hashed, name }, request, store }: Attempt,
  condition: Calls.Condition,
  fence: bigint
): Step =>
  Calls.insert(store.service, budget, name, condition, {
    state: "held",
    ownerId: request.ownerId,
    ttl: wholeTtl(request.ttl),
    fence,
    metadata: request.metadata,
    key: hashed ? request.key : undefined,
    of: undefined,
    token: undefined
  }).pipe(
    Effect.map((answer): Outcome =>
      answer._tag === "Found" && answer.object.record.ownerId === request.ownerId
        ? acquired(answer.object)
        : { _tag: "Again" }
    ),
    Effect.catch((reason): Step =>
      reason.isRetryable ? Effect.succeed({ _tag: "Again", doubt: reason }) : Effect.fail(reason)
    )
  )

const see = (attempt: Attempt, doubt: BackendReason | undefined): Step =>
  look(attempt.store, attempt.budget, attempt.object.name).pipe(
    Effect.mapError((reason) => reason.isRetryable ? doubt ?? reason : reason),
    Effect.flatMap((seen): Step => {
      if (seen === undefined) {
        return doubt === undefined ? Effect.succeed({ _tag: "Again", write: create(attempt) }) : Effect.fail(doubt)
      }
      const { ownerId, state } = seen.object.record
      if (state === "held" && ownerId === attempt.request.ownerId) return replay(attempt, seen)
      const left = state === "free" ? 0 : timeLeft(attempt.store.sightings, attempt.store.trustsDate, seen)
      if (left > 0) {
        return Effect.succeed({
          _tag: "Held",
          holders: [holderOf(seen.object, left)],
          retryAfter: Option.some(Duration.millis(left))
        })
      }
      if (doubt !== undefined) return Effect.fail(doubt)
      const { generation, metageneration } = seen.object
      return Effect.succeed({
        _tag: "Again",
        write: write(attempt, { generation, metageneration }, nextFence(seen.object))
      })
    })
  )

// Ours, from a try whose answer was lost, or a try that is repeated. How old it is nobody knows, so it is renewed.
const replay = ({ budget, object: { name }, request, store }: Attempt, { object }: Seen): Step => {
  const { generation, metageneration, record } = object
  const grant = { generation, metageneration, ttl: record.ttl, ownerId: record.ownerId }
  const ttl = wholeTtl(request.ttl)
  return Effect.map(
    ttl > record.ttl ? lengthen(store, budget, name, grant, ttl) : extend(store, budget, name, grant),
    (renewed): Outcome => renewed === undefined ? { _tag: "Again" } : acquired(renewed)
  )
}
