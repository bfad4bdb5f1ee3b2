/** What is done to the workers. Every step waits for what they report, never for time to pass. */
import { Effect } from "effect"
import type { Worker } from "./crew.ts"
import type { Entry, Journal } from "./journal.ts"
import type { Timeline } from "./timeline.ts"

export const play = Effect.fn(function*(stage: {
  readonly workers: readonly [Worker, Worker, Worker, Worker]
  readonly journal: Journal
  readonly timeline: Timeline
  readonly locked: boolean
}) {
  const { journal, locked, timeline } = stage
  const [first, killed, second, paused] = stage.workers
  const survivors = [first, second, paused]

  const eachIncrements = Effect.fn(function*(workers: ReadonlyArray<Worker>, times: number) {
    const seen = (yield* journal.entries).length
    const have = (entries: ReadonlyArray<Entry>) =>
      workers.every((worker) => increments(worker, entries.slice(seen)) >= times)
    yield* journal.until(`${times} increments of each`, (entries) => have(entries) || undefined)
  })

  /** Makes `worker` stay between its read and its write, and waits for the others to queue. Returns when it had read. */
  const linger = Effect.fn(function*(worker: Worker, others: ReadonlyArray<Worker>) {
    yield* worker.tell("linger")
    const { event } = yield* journal.until(`${worker.name} to read`, find((entry) => isOf(worker, entry, "Lingers")))
    const doWait = (entries: ReadonlyArray<Entry>) =>
      others.every((other) => entries.findLast((entry) => isOf(other, entry))?.event._tag === "Waits")
    if (locked) yield* journal.until(`the others to wait for ${worker.name}`, (entries) => doWait(entries) || undefined)
    return event.at
  })

  /** Waits until somebody else has been granted the lock since `worker` read, and has written. */
  const takeover = Effect.fn(function*(worker: Worker, since: number) {
    const isNext = ({ event, worker: name }: Entry) =>
      event._tag === "Holds" && name !== worker.name && event.at > since
    const next = yield* journal.until(`somebody to take over from ${worker.name}`, find(isNext))
    const isWrite = ({ event, worker: name }: Entry) =>
      event._tag === "Wrote" && name === next.worker && event.at > next.event.at
    yield* journal.until(`${next.worker} to write`, find(isWrite))
  })

  yield* timeline.chapter("Four workers take turns")
  yield* eachIncrements(stage.workers, 4)

  yield* timeline.chapter("One is killed between its read and its write")
  const killedAfter = yield* linger(killed, survivors)
  yield* killed.signal("SIGKILL")
  yield* killed.ended
  yield* takeover(killed, killedAfter)

  yield* timeline.chapter("One is paused between its read and its write, for longer than its lease lives")
  const pausedAfter = yield* linger(paused, [first, second])
  if (locked) yield* journal.until(`${paused.name} to renew`, find((entry) => isOf(paused, entry, "Renewed")))
  yield* paused.signal("SIGSTOP")
  yield* takeover(paused, pausedAfter)
  yield* paused.signal("SIGCONT")
  // With the lock it is the loss of its lease that ends its work.
  if (!locked) yield* paused.tell("proceed")
  yield* journal.until(
    `${paused.name}'s late write`,
    find(({ event, worker }) => event._tag === "Wrote" && event.late && worker === paused.name)
  )

  yield* timeline.chapter("The others go on")
  yield* eachIncrements(survivors, 3)
  yield* Effect.forEach(survivors, (worker) => worker.tell("finish"), { discard: true })
  yield* Effect.forEach(survivors, (worker) => worker.ended, { discard: true })
})

const increments = (worker: Worker, entries: ReadonlyArray<Entry>): number =>
  entries.filter(({ event, worker: name }) =>
    name === worker.name && event._tag === "Wrote" && event.outcome === "accepted"
  ).length

const isOf = (worker: Worker, entry: Entry, tag?: Entry["event"]["_tag"]): boolean =>
  entry.worker === worker.name && (tag === undefined || entry.event._tag === tag)

const find = (is: (entry: Entry) => boolean) => (entries: ReadonlyArray<Entry>): Entry | undefined => entries.find(is)
