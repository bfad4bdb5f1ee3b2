/**
 * Whether a lock is free, and if not, whose it is.
 *
 * A grant is over if it was released (mtime 0), broken (`x`), not renewed for its ttl, or if its process is dead.
 * "Not renewed for its ttl" is arithmetic on its mtime only where that is a time of our own clock: the record was made
 * since this machine's last boot and its mtime is not in the future. Else it has to be seen unchanged for that long.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type { Holder } from "../../Holder.ts"
import * as Lease from "../../Lease.ts"
import { Protocol } from "../../LockError.ts"
import type { FileFailure } from "./fileFailure.ts"
import * as Listing from "./fileListing.ts"
import * as FileRecord from "./fileRecord.ts"
import { type FileStore, modified, pathOf, read, stamp } from "./fileStore.ts"
import { isDead } from "./processIdentity.ts"
import * as Sightings from "./sightings.ts"

/**
 * - `Free`: `witness` is the record that was judged over although nobody said so: it must not come back while the lock
 *   is taken. `damaged` if it could not be read.
 * - `Held`: `record` if it could be read; `mtime` is its last renewal.
 * - `Moved`: what was listed is gone; list again.
 */
export type Verdict = Free | Held | { readonly _tag: "Moved" }

/** Nobody holds it. */
export interface Free {
  readonly _tag: "Free"
  readonly witness: Witness | undefined
  readonly damaged: boolean
}

/** A record as it was judged: its mtime, and how long it lives after that, in milliseconds (0 if nobody knows). */
export interface Witness {
  readonly generation: string
  readonly mtime: number
  readonly ttl: number
}

/** Who holds a lock. */
export interface Held extends Witness {
  readonly _tag: "Held"
  readonly record: FileRecord.FileRecord | undefined
  readonly holder: Holder
  readonly retryAfter: Option.Option<Duration.Duration>
}

/** Of a lock whose tip is released, and stays so. */
export const released: Free = { _tag: "Free", witness: undefined, damaged: false }

/** What is asked for: a lock's directory and names, and its key if it is known. */
export interface Question {
  readonly directory: string
  readonly listing: Listing.Listing
  readonly key: string | undefined
}

/** A record that can't be read is held at least this long, in milliseconds: nobody knows its ttl. */
export const damagedLife = 60_000

/**
 * Judges a lock by its tip. `asked` is the ttl that whoever takes it wants: the life of a record that can't be read.
 *
 * A tip that its owner neither released nor lost to an operator may be of one who died between taking it and finding
 * that the holder before is alive after all. So the record before it must be over too; it is there, because only a
 * taker that made sure collects records, and it leaves that one.
 */
export const judge = (store: FileStore, question: Question, asked: number): Effect.Effect<Verdict, FileFailure> =>
  Effect.gen(function*() {
    const tip = question.listing.generations[0]
    if (tip === undefined) return released
    const verdict = yield* judgeRecord(store, question, tip, asked)
    if (verdict._tag !== "Free" || verdict.witness === undefined) return verdict
    const below = yield* judgeBelow(store, question, asked)
    return below._tag === "Held" ? below : verdict
  })

/** Judges the record before the tip; free if there is none. */
export const judgeBelow = (
  store: FileStore,
  question: Question,
  asked: number
): Effect.Effect<Verdict, FileFailure> => {
  const before = question.listing.generations[1]
  return before === undefined ? Effect.succeed(released) : judgeRecord(store, question, before, asked)
}

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const free = (witness: Witness | undefined, damaged: boolean): Free => ({ _tag: "Free", witness, damaged })
const moved: Verdict = { _tag: "Moved" }

const judgeRecord = (
  store: FileStore,
  { directory, key, listing }: Question,
  generation: string,
  asked: number
): Effect.Effect<Verdict, FileFailure> =>
  Effect.gen(function*() {
    if (listing.broken.includes(generation)) return released
    const path = pathOf(store, directory, generation)
    const before = yield* stamp
    // The usual answer, released, needs no look into the file.
    const glance = yield* modified(store, path)
    if (glance === undefined) return moved
    if (glance === 0) return released
    const seen = yield* read(store, path)
    if (seen === undefined) return moved
    if (seen.mtime === 0) return released
    const { mtime, text } = seen
    const found = FileRecord.decode(text)
    const ttl = found._tag === "Record" ? Listing.ttlOf(listing, generation, found.record.ttl) : 0
    const witness = { generation, mtime, ttl }
    const held = (left: number | undefined): Verdict => {
      const remaining = Option.map(Option.fromUndefinedOr(left), (millis) => Duration.millis(Math.max(millis, 1)))
      const record = found._tag === "Record" ? found.record : undefined
      const holder = FileRecord.holderOf(found, generation, remaining)
      return { _tag: "Held", ...witness, record, holder, retryAfter: remaining }
    }
    if (found._tag === "OtherVersion") return held(undefined)
    const after = yield* stamp
    const unseen = (needed: number): number =>
      Sightings.timeLeft(store.sightings, path, { version: `${mtime} ${text.length}`, before, after }, needed)
    if (found._tag === "Damaged") {
      const left = unseen(Math.max(damagedLife, asked))
      return left <= 0 ? free(witness, true) : held(left)
    }
    const { record } = found
    if (record.namespace !== store.namespace || (key !== undefined && record.key !== key)) {
      return yield* new Protocol({
        detail: `${path} is the record of key ${JSON.stringify(record.key)} in namespace `
          + `${JSON.stringify(record.namespace)}: it was put there by something else. Remove it if that is over.`
      })
    }
    const ours = record.bootId !== "" && record.bootId === store.self.bootId
    let left: number
    if (ours && mtime <= after.wall) {
      // The clock was read before the mtime: a renewal between the two can only make the lease look longer. Unless the
      // clock was set back between the two and then it was renewed: so it must be over by the clock after, too.
      if (mtime + ttl <= Math.min(before.wall, after.wall)) return free(witness, false)
      left = mtime + ttl - after.wall
    } else {
      left = unseen(ttl + Lease.safetyMargin(ttl, store.granularity))
      if (left <= 0) return free(witness, false)
    }
    return (yield* isDead(store.fs, store.self, record)) ? free(witness, false) : held(left)
  })
