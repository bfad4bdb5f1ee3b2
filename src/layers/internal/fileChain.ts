/**
 * How a lock is taken: a chain of generations, each an immutable record, the highest of which is the present one.
 *
 * Invariants, and what they rest on:
 *
 * 1. A generation is taken by one taker: `link` fails if the name is there. Two who judged one record over race for one
 *    name, and the second starts anew.
 * 2. Whoever linked a generation is granted only after it was seen, later, to be the highest. A taker that slept on an
 *    old listing may link a name that was collected meanwhile; it then finds a higher one, and takes its own away. A
 *    process that released the tip itself is such a taker, and needs no listing: what it knows is as true as it was (7).
 *    If the directory was deleted meanwhile, generations may be lower now: so that tip must be right below its own.
 * 3. A record that was judged over without a word of its owner must not have come back once the next is linked: its
 *    owner writes its mtime and then reads the directory, a taker writes the directory and then reads the mtime, so at
 *    least one sees the other (Dekker). The taker that does takes its record away again, and the old one is the tip.
 *    The first mtime of a record is written so too: it may be linked before, and shows the kernel's time until then.
 * 4. A renewal or replay counts only if it was written before the old expiry: whoever judges the old mtime over reads
 *    it later than that, so it sees the new one. 3 is for clocks that were set between the two.
 * 5. A granted record stays until two higher ones were linked and the higher granted, so a tip never goes back below a
 *    grant, and generations, which are the fencing tokens, only grow; a release leaves the record, with mtime 0.
 * 6. A taker that dies after linking leaves a record that was never granted, with the one before it in place: both
 *    must be over before the next takes (`judge`). So what 3 could not undo harms nobody.
 * 7. A record is marked released only by its owner id, after trust in it ended or before it was ever trusted.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Acquired, AcquireRequest, Held } from "../../LockBackend.ts"
import { Misconfigured } from "../../LockError.ts"
import type { FileFailure } from "./fileFailure.ts"
import * as Listing from "./fileListing.ts"
import * as FileRecord from "./fileRecord.ts"
import {
  aside,
  create,
  createFirst,
  directoryOf,
  type FileStore,
  flush,
  list,
  mark,
  markReleased,
  modified,
  pathOf,
  remove,
  touch
} from "./fileStore.ts"
import * as Verdict from "./fileVerdict.ts"
import type { Turn } from "./ownerTurns.ts"
import * as ReleasedTips from "./releasedTips.ts"

/** What came of one attempt; `taken` is the generation that it made, if it did not find its owner id's own. */
export interface Attempt {
  readonly answer: Acquired | Held
  readonly taken: string | undefined
}

/**
 * One attempt; at most one grant comes of it. Must run uninterruptibly, in the turn of its owner id.
 *
 * An owner id that is given up meanwhile ends with nothing taken by this attempt. What an earlier attempt of it took is
 * for the release to find, which waits for this turn to end.
 */
export const acquire = (
  store: FileStore,
  request: AcquireRequest,
  turn: Turn
): Effect.Effect<Attempt, FileFailure> =>
  Effect.gen(function*() {
    const { key, ownerId } = request
    const ttl = Math.ceil(Duration.toMillis(request.ttl))
    const directory = yield* directoryOf(store, key)
    const clock = yield* Clock.Clock
    let last = nobody
    const remembered = ReleasedTips.take(store.released, directory)
    if (remembered !== undefined && !turn.givenUp) {
      const chance = { directory, tip: remembered, isRemembered: true, verdict: Verdict.released }
      const attempt = yield* take(store, request, turn, chance)
      if (attempt !== undefined) return attempt
    }
    for (let round = 0; round < mostRounds && !turn.givenUp; round++) {
      const listing = yield* list(store, directory)
      const tip = listing.generations[0]
      const question = { directory, listing, key }
      const verdict = yield* Verdict.judge(store, question, ttl)
      if (verdict._tag === "Moved") continue
      if (verdict._tag === "Held") {
        last = refusal(verdict)
        const { generation, record } = verdict
        if (record?.ownerId !== ownerId || generation !== tip || listing.drained.includes(generation)) {
          return refused(last)
        }
        // The attempt that linked it may have failed before it could make sure.
        const below = yield* Verdict.judgeBelow(store, question, ttl)
        if (below._tag === "Held") return refused(refusal(below))
        // The clock was set back: who else judges this record, and when, can't be told from its mtime.
        if (verdict.mtime > clock.currentTimeMillisUnsafe()) return refused(last)
        // Its earlier answer was lost.
        if ((yield* renewInPlace(store, directory, verdict, ttl, turn)) === "Renewed") {
          const handle = { generation, ttl: Math.max(verdict.ttl, ttl), ownerId }
          return { answer: granted(handle, undefined), taken: undefined }
        }
        continue
      }
      const attempt = yield* take(store, request, turn, { directory, tip, isRemembered: false, verdict })
      if (attempt !== undefined) return attempt
      if (tip === undefined && round > mostRounds / 2) yield* checkEntries(store, directory)
    }
    return refused(last)
  })

/**
 * Gives back what an attempt took whose caller was interrupted before it could know. What it only found again stays: the
 * answer that it got first may have arrived.
 */
export const undo = (store: FileStore, key: string, { taken }: Attempt): Effect.Effect<void> => {
  if (taken === undefined) return Effect.void
  const release = Effect.flatMap(
    directoryOf(store, key),
    (directory) => markReleased(store, pathOf(store, directory, taken))
  )
  return Effect.ignore(release)
}

/**
 * Renews a record that was seen held, for `asked` milliseconds or what it had, whichever is longer.
 *
 * - `Renewed`: it is the tip, unmarked, and never was over.
 * - `Over`: too late, or its owner id was given up: it is marked released now. Trust in it has ended: it was counted
 *   from before the mtime that was seen, and that is a ttl ago.
 * - `Moved`: it is not the tip, or it is marked, or it is gone. It is not marked released: whoever took it over found,
 *   or will find, that it came back, and until the holder has heard of its loss this must not look like consent.
 */
export const renewInPlace = (
  store: FileStore,
  directory: string,
  { generation, mtime, ttl }: Verdict.Witness,
  asked: number,
  turn: Turn
): Effect.Effect<"Renewed" | "Over" | "Moved", FileFailure> =>
  Effect.gen(function*() {
    const clock = yield* Clock.Clock
    const path = pathOf(store, directory, generation)
    const over = Effect.as(markReleased(store, path), "Over" as const)
    // Before the mtime: a taker that does not see the mark looks again after it has linked, and then does, as with 3.
    if (asked > ttl) yield* mark(store, store.path.join(directory, Listing.lengthenedName({ generation, ttl: asked })))
    if (!(yield* touch(store, path, clock.currentTimeMillisUnsafe()))) return "Moved"
    if (turn.givenUp || clock.currentTimeMillisUnsafe() >= mtime + ttl) return yield* over
    const listing = yield* list(store, directory)
    if (listing.generations[0] !== generation || Listing.isMarked(listing, generation)) return "Moved"
    return turn.givenUp ? yield* over : "Renewed"
  })

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

/** Races lost in a row before an attempt says that others were quicker. */
const mostRounds = 16

const nobody: Held = { _tag: "Held", holders: [], retryAfter: Option.none() }

const refused = (answer: Held): Attempt => ({ answer, taken: undefined })

const refusal = ({ holder, retryAfter }: Verdict.Held): Held => ({ _tag: "Held", holders: [holder], retryAfter })

const tookDamaged = "took over a damaged record, unchanged for long enough that its holder must be gone"

const granted = (handle: Listing.Handle, degraded: string | undefined): Acquired => ({
  _tag: "Acquired",
  fencingToken: Option.some(BigInt(handle.generation)),
  handle: Listing.formatHandle(handle),
  grantedTtl: Duration.millis(handle.ttl),
  degraded
})

/** A lock that was judged free, and by what. */
interface Chance {
  readonly directory: string
  readonly tip: string | undefined
  readonly isRemembered: boolean
  readonly verdict: Verdict.Free
}

// Adds the next generation; nothing if others were quicker.
const take = (
  store: FileStore,
  request: AcquireRequest,
  turn: Turn,
  chance: Chance
): Effect.Effect<Attempt | undefined, FileFailure> =>
  Effect.gen(function*() {
    const { directory, tip, verdict } = chance
    const ttl = Math.ceil(Duration.toMillis(request.ttl))
    const now = yield* Clock.currentTimeMillis
    const text = yield* recordOf(store, request, ttl, now)
    const generation = tip === undefined ? Listing.first(now) : Listing.next(tip)
    const sure = makeSure(store, generation, chance)
    const isOurs = tip === undefined
      ? (yield* createFirst(store, directory, generation, text)) && (yield* sure)
      : yield* create(store, directory, generation, text, sure)
    if (!isOurs) return undefined
    if (turn.givenUp) {
      yield* markReleased(store, pathOf(store, directory, generation))
      return refused(nobody)
    }
    const degraded = verdict.damaged ? tookDamaged : undefined
    return { answer: granted({ generation, ttl, ownerId: request.ownerId }, degraded), taken: generation }
  })

const recordOf = (
  store: FileStore,
  request: AcquireRequest,
  ttl: number,
  acquiredAt: number
): Effect.Effect<string, Misconfigured> =>
  Effect.suspend(() => {
    const { key, metadata, ownerId } = request
    const { namespace, self } = store
    const text = FileRecord.encode({
      v: FileRecord.version,
      namespace,
      key,
      ownerId,
      ttl,
      acquiredAt,
      ...self,
      metadata
    })
    if (Number.isFinite(ttl) && ttl > 0 && utf8.encode(text).length < FileRecord.longest) return Effect.succeed(text)
    const detail = `the record of this lock would have a ttl of ${ttl} ms and ${text.length} characters; a finite ttl `
      + `and less than ${FileRecord.longest} bytes are needed. Pass less metadata.`
    return Effect.fail(new Misconfigured({ detail }))
  })

const utf8 = new TextEncoder()

// Whether a generation just linked is a grant; if not, it is taken away again and nothing has happened.
const makeSure = (
  store: FileStore,
  generation: string,
  { directory, isRemembered, tip, verdict: { witness } }: Chance
): Effect.Effect<boolean, FileFailure> => {
  const path = pathOf(store, directory, generation)
  const sure = Effect.gen(function*() {
    yield* flush(store, directory)
    if (witness !== undefined) {
      const mtime = yield* modified(store, pathOf(store, directory, witness.generation))
      if (mtime !== undefined && mtime !== 0 && mtime !== witness.mtime) return false
    }
    const listing = yield* list(store, directory)
    if (witness !== undefined && Listing.ttlOf(listing, witness.generation, witness.ttl) > witness.ttl) return false
    if (listing.generations[0] !== generation) return false
    // The directory may have been deleted since, and the clock set back: then the records in it are others.
    if (isRemembered && listing.generations[1] !== tip) return false
    if (Listing.isMarked(listing, generation)) {
      // Marked before it was granted: the mark was meant for one that had this number and took itself away. The number
      // is spent, so that the mark means nothing to the next.
      yield* markReleased(store, path)
      return undefined
    }
    yield* aside(store, collect(store, directory, listing))
    return true
  })
  const takeAway = remove(store, path)
  return Effect.flatMap(
    // Who else is there is not known then.
    Effect.onError(sure, () => takeAway),
    (outcome) => outcome === false ? Effect.as(takeAway, false) : Effect.succeed(outcome === true)
  )
}

// Removes what lies below the record before the tip, and marks of what is not there any more. The tip must be granted;
// then nobody needs any of it, however late it is removed.
const collect = (store: FileStore, directory: string, listing: Listing.Listing): Effect.Effect<void> => {
  const [, before, ...older] = listing.generations
  if (before === undefined) return Effect.void
  const garbage = [
    ...older.map(Listing.recordName),
    ...Listing.marksBelow(listing, before)
  ]
  return Effect.forEach(garbage, (name) => remove(store, store.path.join(directory, name)), { discard: true })
}

// A directory with entries always has had a record: see `createFirst`.
const checkEntries = (store: FileStore, directory: string): Effect.Effect<void, FileFailure> =>
  Effect.flatMap(list(store, directory), (listing) =>
    listing.generations.length > 0 ? Effect.void : Effect.fail(
      new Misconfigured({ detail: `${directory} has entries but no record: records were deleted. Remove it.` })
    ))
