/**
 * A worker's process: `worker.ts SETUP`. It increments the counters of the register, one lane per key, each increment
 * under the lock of that name: read, think, write.
 *
 * Every call to the register says until when the lease is trusted at that moment. It is made without a look whether it
 * still is: a process that was stopped wakes up anywhere, also between such a look and the call.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import {
  Clock,
  Duration,
  Effect,
  Exit,
  FileSystem,
  Layer,
  Option,
  Queue,
  Random,
  References,
  Schedule,
  Scope
} from "effect"
import { fullJitter, type Lease, LockBackend, type LockOptions, withLock, withLockIfAvailable } from "effect-lock"
import { connect } from "node:net"
import { hostTime } from "./history.ts"
import { type FromWorker, onLines, type Order, type ToWorker, type WorkerSetup } from "./messages.ts"
import { backendOf } from "./workerBackend.ts"
import { failingDisk, openHandles, settableClock, watchStalls } from "./workerFaults.ts"

const setup: WorkerSetup = JSON.parse(process.argv[2] ?? "")
const { keys, life, seed, ttl } = setup

const options: LockOptions = {
  ttl,
  wait: 4 * ttl,
  // Shorter than by default: what is tortured here is the lock, not the patience of those who wait for it.
  schedule: Schedule.spaced("200 millis").pipe(fullJitter)
}

// -----------------------------------------------------------------------------
// the register
// -----------------------------------------------------------------------------

const socket = connect({ path: setup.socket })
const say = (message: FromWorker) => socket.write(`${JSON.stringify(message)}\n`)
const calls = new Map<number, (answer: ToWorker) => void>()
let lastCall = 0

onLines(socket, (line) => {
  const answer: ToWorker = JSON.parse(line)
  calls.get(answer.call)?.(answer)
})

type Call = Pick<FromWorker & { readonly tag: "contact" }, "hold" | "key" | "fence" | "kind" | "value" | "late">

const contact = (call: Call, at: number, deadline: number): Effect.Effect<ToWorker> =>
  Effect.callback((resume) => {
    const id = ++lastCall
    calls.set(id, (answer) => {
      calls.delete(id)
      resume(Effect.succeed(answer))
    })
    say({ tag: "contact", call: id, at, deadline, ...call })
  })

// -----------------------------------------------------------------------------
// the work
// -----------------------------------------------------------------------------

let lastHold = 0

const use = Effect.fnUntraced(function*(key: string, askedAt: number, lease: Lease) {
  const grantedAt = hostTime()
  const fence = Option.getOrUndefined(Option.map(lease.fencingToken, String))
  const hold = `${life}#${++lastHold}`
  let deadline = 0
  // The clock is read first, so the deadline can only come out too early.
  const claim = Effect.map(Effect.sync(hostTime), (at) => ({ at, lease })).pipe(
    Effect.flatMap(({ at }) =>
      Effect.map(lease.remaining, (remaining) => {
        const left = Duration.toMillis(remaining)
        if (left > 0) deadline = at + left
        return { at, until: at + left }
      })
    )
  )
  yield* claim
  say({ tag: "granted", hold, key, fence, askedAt, grantedAt, deadline })

  let unwritten: number | undefined
  const call = (kind: "read" | "write", value: number, late = false) =>
    Effect.flatMap(claim, ({ at, until }) => contact({ hold, key, fence, kind, value, late }, at, until))
  const increment = Effect.gen(function*() {
    const read = yield* call("read", 0)
    unwritten = read.value + 1
    yield* think
    const value = unwritten
    // Sent once, also if the lease is lost before it is answered.
    unwritten = undefined
    yield* call("write", value)
  })
  // Of seven holds one is long enough to need renewals.
  const isLong = (yield* Random.next) < 0.15
  const until = hostTime() + (isLong ? ttl * (1 + (yield* Random.next)) : 0)
  const work = Effect.repeat(increment, {
    while: () => Effect.as(Effect.sleep(isLong ? "50 millis" : 0), hostTime() < until)
  })

  // Told before the lease is given back, and before anything else after a loss.
  const ended = (exit: Exit.Exit<unknown, { readonly _tag: string; readonly reason?: string }>) =>
    Effect.sync(() => {
      const at = hostTime()
      const error = Option.getOrUndefined(Exit.isFailure(exit) ? Exit.findErrorOption(exit) : Option.none())
      // From its expiry on, the backend may give the lock to somebody else; trust ends a margin before.
      say({ tag: "ended", hold, at, lost: error?.reason ?? "", early: deadline + margin - at })
    })
  yield* Effect.onExit(lease.guard(work), ended).pipe(
    // What a program may do that does not know better: send its last write all the same.
    Effect.catchTag("LockLost", () => unwritten === undefined ? Effect.void : call("write", unwritten, true))
  )
  return hold
})

const margin = Math.min(Math.max(50, ttl * 0.05), ttl / 4)

const think = Effect.flatMap(Random.nextIntBetween(2, 25), Effect.sleep)

const once = Effect.fnUntraced(function*(key: string) {
  const askedAt = hostTime()
  const chance = yield* Random.next
  const acquired = chance < 0.1
    ? withLockIfAvailable(key, { ttl })
    : Effect.asSome(withLock(key, options))
  const held = Effect.scoped(
    Effect.flatMap(
      acquired,
      (lease) => Option.isSome(lease) ? Effect.asSome(use(key, askedAt, lease.value)) : Effect.succeedNone
    )
  )
  // Of ten, one is interrupted: while it waits, while it holds, while it gives back.
  const patience = chance > 0.9 ? ttl * (yield* Random.next) : Infinity
  const hold = yield* Effect.timeoutOption(held, patience).pipe(
    Effect.map(Option.flatten),
    Effect.catch((error) =>
      Effect.sync(() => {
        const why = error._tag === "LockBackendError" ? `${error.operation} ${error.reason._tag}` : error._tag
        say({
          tag: "failed",
          key,
          why: why === "LockContended" ? `contended ${(error as { reason: string }).reason}` : why
        })
        return Option.none<string>()
      })
    )
  )
  if (Option.isSome(hold)) say({ tag: "returned", hold: hold.value, at: hostTime() })
  yield* Effect.flatMap(Random.nextIntBetween(5, 60), Effect.sleep)
})

// -----------------------------------------------------------------------------
// the process
// -----------------------------------------------------------------------------

const worker = Effect.gen(function*() {
  const clock = settableClock(yield* Clock.Clock)
  const disk = failingDisk(yield* FileSystem.FileSystem)
  const orders = yield* Queue.unbounded<Order>()
  onLines(process.stdin, (line) => Queue.offerUnsafe(orders, JSON.parse(line)))
  yield* Effect.callback<void>((resume) => {
    socket.once("connect", () => resume(Effect.void))
  })
  const stopWatching = watchStalls((millis) => say({ tag: "stalled", millis }))
  const before = openHandles()
  say({ tag: "hello", life })

  const scope = yield* Scope.make()
  const backend = yield* backendOf(setup.backend).pipe(
    Effect.provideService(FileSystem.FileSystem, disk.fileSystem),
    Effect.retry(Schedule.spaced("100 millis")),
    Scope.provide(scope)
  )
  const lanes = Effect.forEach(keys, (key) => Effect.forever(once(key)), { concurrency: "unbounded" }).pipe(
    Effect.provideService(LockBackend, backend),
    Effect.provideService(Clock.Clock, clock.clock)
  )
  const untilFinish = Effect.gen(function*() {
    for (let order = yield* Queue.take(orders); order.tag !== "finish"; order = yield* Queue.take(orders)) {
      if (order.tag === "skew") {
        say({ tag: "skewed", at: hostTime() })
        clock.set(order.millis)
      } else disk.set(order.failing)
    }
  })
  yield* Effect.raceFirst(lanes, untilFinish)
  yield* Scope.close(scope, Exit.void)
  // Sockets take a moment to close.
  let left = before.since()
  for (const giveUpAt = hostTime() + 10_000; left.length > 0 && hostTime() < giveUpAt; left = before.since()) {
    yield* Effect.sleep("50 millis")
  }
  stopWatching()
  say({ tag: "finished", left })
  socket.end()
  process.stdin.destroy()
}).pipe(Random.withSeed(seed))

// It does not outlive the program that started it.
process.stdin.on("end", () => process.exit(0))

// Losses are events here, so the library's warnings would only say them again.
const logging = Layer.succeed(References.MinimumLogLevel, "Error")

worker.pipe(Effect.provide(Layer.merge(NodeServices.layer, logging)), NodeRuntime.runMain)
