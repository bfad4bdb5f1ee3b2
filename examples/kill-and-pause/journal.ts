/** Everything that happened, in the order in which this process learned of it: the demonstration's only memory. */
import { Effect, Stream, SubscriptionRef } from "effect"
import { NotCarriedOut } from "./notCarriedOut.ts"
import type { WorkerEvent } from "./workerProtocol.ts"

/** A process was started. */
export interface Started {
  readonly _tag: "Started"
  readonly at: number
  readonly pid: number
}

/** A signal that was sent to a worker; `at` was read before it was sent. */
export interface Signalled {
  readonly _tag: "Signalled"
  readonly at: number
  readonly signal: "SIGKILL" | "SIGSTOP" | "SIGCONT"
}

export interface Entry {
  readonly worker: string
  readonly event: WorkerEvent | Started | Signalled
}

export interface Journal {
  readonly entries: Effect.Effect<ReadonlyArray<Entry>>
  readonly add: (entry: Entry) => Effect.Effect<void>
  /** Waits until `look` finds something in the journal. */
  readonly until: <A>(
    what: string,
    look: (entries: ReadonlyArray<Entry>) => A | undefined
  ) => Effect.Effect<A, NotCarriedOut>
}

const patience = "20 seconds"

export const make = Effect.fn(function*(onEntry: (entry: Entry) => Effect.Effect<void>) {
  const entries = yield* SubscriptionRef.make<ReadonlyArray<Entry>>([])
  return {
    entries: SubscriptionRef.get(entries),
    add: (entry) => Effect.andThen(onEntry(entry), SubscriptionRef.update(entries, (all) => [...all, entry])),
    until: (what, look) =>
      SubscriptionRef.changes(entries).pipe(
        Stream.map(look),
        Stream.filter((found) => found !== undefined),
        Stream.runHead,
        Effect.flatMap(Effect.fromOption),
        Effect.orDie,
        Effect.timeoutOrElse({
          duration: patience,
          orElse: () => Effect.fail(new NotCarriedOut({ message: `waited ${patience} for ${what}` }))
        })
      )
  } satisfies Journal as Journal
})
