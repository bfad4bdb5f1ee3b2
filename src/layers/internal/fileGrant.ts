/**
 * What is done to a grant: it is renewed, released, broken. `fileChain.ts` has the invariants.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { BreakRequest, Lost, ReleaseRequest, Renewed, RenewRequest } from "../../LockBackend.ts"
import { renewInPlace } from "./fileChain.ts"
import type { FileFailure } from "./fileFailure.ts"
import * as Listing from "./fileListing.ts"
import * as FileRecord from "./fileRecord.ts"
import { beside, directoryOf, type FileStore, list, mark, markReleased, modified, pathOf, read } from "./fileStore.ts"
import * as Verdict from "./fileVerdict.ts"
import type { Turn } from "./ownerTurns.ts"
import * as ReleasedTips from "./releasedTips.ts"

/**
 * Renews a grant. Must run uninterruptibly, in the turn of its owner id.
 *
 * It looks before it writes: a record that was released, is marked, or is over stays as it is, and a lock that drains
 * is free at the expiry it had. It looks again afterwards, because an operator or a taker may have come in between.
 */
export const renew = (
  store: FileStore,
  request: RenewRequest,
  turn: Turn
): Effect.Effect<Renewed | Lost, FileFailure> =>
  Effect.gen(function*() {
    const { key, ownerId } = request
    const handle = handleOf(ownerId, request.handle)
    const directory = yield* directoryOf(store, key)
    const listing = yield* list(store, directory)
    const lost = Effect.suspend(() => whyLost(store, directory, key, ownerId))
    if (handle === undefined || turn.givenUp) return yield* lost
    const { generation } = handle
    if (listing.generations[0] !== generation || Listing.isMarked(listing, generation)) return yield* lost
    const clock = yield* Clock.Clock
    const seen = yield* read(store, pathOf(store, directory, generation))
    if (seen === undefined || seen.mtime === 0) return yield* lost
    const found = FileRecord.decode(seen.text)
    if (found._tag !== "Record" || !isOf(found.record, store, key, ownerId)) return yield* lost
    const ttl = Listing.ttlOf(listing, generation, found.record.ttl)
    if (seen.mtime + ttl <= clock.currentTimeMillisUnsafe()) return gone
    const asked = Math.ceil(Duration.toMillis(request.ttl))
    const outcome = yield* renewInPlace(store, directory, { generation, mtime: seen.mtime, ttl }, asked, turn)
    if (outcome === "Over") return gone
    if (outcome === "Moved") return yield* lost
    const granted = Math.max(ttl, asked)
    const renewed = Listing.formatHandle({ generation, ttl: granted, ownerId })
    return { _tag: "Renewed", handle: renewed, grantedTtl: Duration.millis(granted) }
  })

/**
 * Gives back what an owner id holds. Must run uninterruptibly, in the turn of its owner id.
 *
 * Its own record is marked also when it is not the tip any more: a renewal may have brought it back, and trust in it has
 * ended before a release is sent.
 */
export const release = (
  store: FileStore,
  request: ReleaseRequest
): Effect.Effect<"Released" | "NotHeld", FileFailure> =>
  Effect.gen(function*() {
    const { key, ownerId } = request
    const directory = yield* directoryOf(store, key)
    if (Option.isSome(request.handle)) {
      const handle = handleOf(ownerId, request.handle.value)
      return handle === undefined ? "NotHeld" : yield* releaseGrant(store, directory, handle)
    }
    const listing = yield* list(store, directory)
    let answer: "Released" | "NotHeld" = "NotHeld"
    for (const handle of yield* grantsOf(store, directory, listing, key, ownerId)) {
      const path = pathOf(store, directory, handle.generation)
      const held = isHeld(listing, handle, yield* modified(store, path), yield* Clock.currentTimeMillis)
      if (held !== undefined && (yield* markReleased(store, path)) && held) answer = "Released"
    }
    return answer
  })

/** Frees another's lock, or has it drain, by a mark beside its record. */
export const breakLock = (
  store: FileStore,
  request: BreakRequest
): Effect.Effect<"Draining" | "Broken" | "NotHeld", FileFailure> =>
  Effect.gen(function*() {
    const { key } = request
    const directory = yield* directoryOf(store, key)
    const listing = yield* list(store, directory)
    const verdict = yield* Verdict.judge(store, { directory, listing, key }, 0)
    if (verdict._tag !== "Held" || verdict.holder.ownerId !== request.ownerId) return "NotHeld"
    const { generation } = verdict
    const marked = yield* mark(
      store,
      store.path.join(directory, request.now ? Listing.brokenName(generation) : Listing.drainedName(generation))
    )
    if (!marked) return "NotHeld"
    // Whoever took the lock in between is not meant.
    const after = yield* list(store, directory)
    if (after.generations[0] !== listing.generations[0]) return "NotHeld"
    return request.now ? "Broken" : "Draining"
  })

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const gone: Lost = { _tag: "Lost", reason: "Gone" }

// A handle names its owner id, so that one of somebody else's grant does not open it.
const handleOf = (ownerId: string, text: string): Listing.Handle | undefined => {
  const handle = Listing.parseHandle(text)
  return handle?.ownerId === ownerId ? handle : undefined
}

const isOf = (record: FileRecord.FileRecord, store: FileStore, key: string, ownerId: string): boolean =>
  record.ownerId === ownerId && record.key === key && record.namespace === store.namespace

// Somebody else's by now, or nobody's.
const whyLost = (
  store: FileStore,
  directory: string,
  key: string,
  ownerId: string
): Effect.Effect<Lost, FileFailure> =>
  Effect.gen(function*() {
    const listing = yield* list(store, directory)
    const verdict = yield* Verdict.judge(store, { directory, listing, key }, 0)
    const taken = verdict._tag === "Held" && verdict.holder.ownerId !== ownerId
    return taken ? { _tag: "Lost", reason: "Taken" } : gone
  })

// Its acquisition was answered, so it was granted, and while it was the tip nothing below it can come back.
const releaseGrant = (
  store: FileStore,
  directory: string,
  handle: Listing.Handle
): Effect.Effect<"Released" | "NotHeld", FileFailure> =>
  Effect.gen(function*() {
    const path = pathOf(store, directory, handle.generation)
    // Both are for the answer, and to know whether it was the tip.
    const [listing, mtime] = yield* beside(list(store, directory), modified(store, path))
    const held = isHeld(listing, handle, mtime, yield* Clock.currentTimeMillis)
    if (held === undefined) return "NotHeld"
    if (!(yield* markReleased(store, path)) || !held) return "NotHeld"
    ReleasedTips.add(store.released, directory, handle.generation)
    return "Released"
  })

// Whether a grant still has its lock; nothing if its record is gone or was released before.
const isHeld = (
  listing: Listing.Listing,
  { generation, ttl }: Listing.Handle,
  mtime: number | undefined,
  now: number
): boolean | undefined =>
  mtime === undefined || mtime === 0 || !listing.generations.includes(generation)
    ? undefined
    : listing.generations[0] === generation && !listing.broken.includes(generation) &&
      mtime + Listing.ttlOf(listing, generation, ttl) > now

// What an owner id may hold whose attempt was not answered: the tip, or, if a taker died on top of it, the one before.
const grantsOf = (
  store: FileStore,
  directory: string,
  listing: Listing.Listing,
  key: string,
  ownerId: string
): Effect.Effect<ReadonlyArray<Listing.Handle>, FileFailure> =>
  Effect.gen(function*() {
    const grants: Array<Listing.Handle> = []
    for (const generation of listing.generations.slice(0, 2)) {
      const seen = yield* read(store, pathOf(store, directory, generation))
      const found = seen === undefined ? undefined : FileRecord.decode(seen.text)
      if (found?._tag !== "Record" || !isOf(found.record, store, key, ownerId)) continue
      grants.push({ generation, ttl: found.record.ttl, ownerId })
    }
    return grants
  })
