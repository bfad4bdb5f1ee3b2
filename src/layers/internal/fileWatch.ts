/**
 * Waiting for a lock to become free, by the system's own notifications about its directory.
 */
import * as Effect from "effect/Effect"
import * as Latch from "effect/Latch"
import * as Stream from "effect/Stream"
import { type FileFailure, isNotFound, reasonOfDefect } from "./fileFailure.ts"
import { directoryOf, type FileStore, list } from "./fileStore.ts"
import * as Verdict from "./fileVerdict.ts"

/**
 * Ends when the lock may be free.
 *
 * It looks once after the watching has begun, so a release before that is not missed, then after every event; events
 * that come while it looks cost one more look together. A lock that becomes free by the passing of time makes no event.
 */
export const awaitTurn = (store: FileStore, key: string): Effect.Effect<void, FileFailure> =>
  Effect.gen(function*() {
    const directory = yield* directoryOf(store, key)
    const changed = Latch.makeUnsafe(false)
    const change = () => {
      Latch.openUnsafe(changed)
    }
    const watching = Stream.runForEach(
      Stream.unwrap(Effect.sync(() => store.fs.watch(directory, { onReady: change }))),
      () => Effect.sync(change)
    )
    const looking: Effect.Effect<void, FileFailure> = Effect.gen(function*() {
      do {
        yield* Latch.await(changed)
        Latch.closeUnsafe(changed)
      } while (!(yield* isFree(store, directory, key)))
    })
    yield* Effect.raceFirst(watching, looking)
  }).pipe(
    Effect.catch((failure) => isNotFound(failure) ? Effect.void : Effect.fail(failure)),
    // Node's watcher throws when it can't be installed.
    Effect.catchDefect((defect) => Effect.fail(reasonOfDefect(defect)))
  )

const isFree = (store: FileStore, directory: string, key: string): Effect.Effect<boolean, FileFailure> =>
  Effect.gen(function*() {
    const listing = yield* list(store, directory)
    return (yield* Verdict.judge(store, { directory, listing, key }, 0))._tag !== "Held"
  })
