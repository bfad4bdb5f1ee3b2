import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, FileSystem, Option, Path, Stream } from "effect"
import { ChildProcess } from "effect/process"
import { type Evidence, gather, type Hold } from "../../examples/kill-and-pause/evidence.ts"
import type { Entry } from "../../examples/kill-and-pause/journal.ts"
import { format, judge } from "../../examples/kill-and-pause/verdict.ts"

describe("npm start", () => {
  it.live("all promises hold with the lock: exit code 0", () =>
    Effect.gen(function*() {
      const { code, output } = yield* start([])
      assert.strictEqual(code, 0, output)
      assert.match(output, /SIGKILL to bob; ann, cid, dee wait/)
      assert.match(output, /takes over [\d.]+ s later \(token [^)]+\): bob( is proven dead|'s lease has expired)/)
      assert.match(output, /SIGSTOP to dee; ann, cid wait/)
      assert.match(output, /takes over [\d.]+ s later \(token [^)]+\): dee's lease has expired/)
      assert.match(output, /dee +is interrupted with LockLost\(Expired\)/)
      assert.match(output, /register +refuses dee's late write/)
      assert.match(output, /ok +no increment is lost/)
      assert.match(output, /ok +one trusted holder at a time +\d+ holds, 0 overlaps/)
      assert.match(output, /ok +late writes are refused +1 attempted, 1 refused/)
      assert.match(output, /\nall promises held\n$/)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)))

  it.live("the same work without the lock is found broken: exit code 1", () =>
    Effect.gen(function*() {
      const { code, output } = yield* start(["--without-lock"])
      assert.strictEqual(code, 1, output)
      assert.match(output, /accepts dee's late write/)
      assert.match(output, /BROKEN +no increment is lost/)
      assert.match(output, /BROKEN +one trusted holder at a time/)
      assert.match(output, /BROKEN: \d+ of \d+ increments were lost; \d+ overlaps of two holders/)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)))

  it.live("ended by a signal, it leaves neither processes nor files", () =>
    Effect.gen(function*() {
      const fs = yield* FileSystem.FileSystem
      const { output } = yield* start([], { interruptAt: "SIGSTOP to dee" })
      const directory = /files in ([^)]+)\)/.exec(output)?.[1]
      const pids = [...output.matchAll(/starts, process (\d+)/g)].map(([, pid]) => Number(pid))
      assert.isDefined(directory, output)
      assert.strictEqual(pids.length, 5, output)
      assert.deepStrictEqual(pids.filter(isAlive), [], output)
      assert.isFalse(yield* fs.exists(directory ?? ""), output)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)))
})

describe("the verdict", () => {
  it("finds nothing wrong in evidence that is in order", () => {
    assert.deepStrictEqual(brokenOf(inOrder), [])
    assert.match(format(judge(inOrder)), /\nall promises held$/)
  })

  const cases: ReadonlyArray<readonly [claim: string, evidence: Partial<Evidence>, broken: RegExp]> = [
    ["a lost increment", { value: 3 }, /^1 of 4 increments were lost$/],
    ["an increment that nobody made", { value: 5 }, /^the counter shows 1 increments that nobody made$/],
    [
      "an increment that was acknowledged and not accepted",
      { acknowledged: new Map([["ann", 3], ["bob", 1], ["cid", 1]]) },
      /^ann was told of 3 increments, the register accepted 2 of it$/
    ],
    [
      "an increment that was accepted and not acknowledged",
      { acknowledged: new Map([["ann", 2], ["bob", 1]]) },
      /^cid was told of 0 increments, the register accepted 1 of it$/
    ],
    [
      "a run in which nothing was written",
      { value: 0, attempts: [], acknowledged: new Map() },
      /^nothing was written$/
    ],
    ["an overlap of two holders", { holds: [hold("ann", 1n, 0, 10), hold("bob", 2n, 9, 20)] }, /^1 overlaps .* 1 ms$/],
    [
      "an overlap inside a longer hold",
      { holds: [hold("ann", 1n, 0, 100), hold("bob", 2n, 20, 30), hold("cid", 3n, 40, 50)] },
      /^2 overlaps of two holders, the longest of 10 ms$/
    ],
    [
      "a fencing token that does not grow",
      { holds: [hold("ann", 2n, 0, 10), hold("bob", 2n, 10, 20)] },
      /^fencing token 2 was granted after 2$/
    ],
    [
      "a fencing token that falls, in whatever order the holds are listed",
      { holds: [hold("bob", 1n, 10, 20), hold("ann", 2n, 0, 10)] },
      /^fencing token 1 was granted after 2$/
    ],
    [
      "a hold without a fencing token",
      { holds: [hold("ann", 1n, 0, 10), hold("bob", undefined, 10, 20)] },
      /^1 of 2 holds had no fencing token$/
    ],
    ["a lock without fencing tokens", { holds: [hold("ann", undefined, 0, 10)] }, /^there are no fencing tokens$/],
    [
      "an accepted late write",
      { lateWrites: [{ worker: "cid", fence: Option.some(4n), outcome: "accepted" }] },
      /^1 of 1 late writes were accepted$/
    ],
    [
      "an accepted write with an older token that no worker called late",
      { attempts: [write("ann", 1n), write("ann", 5n), write("bob", 2n), write("cid", 6n)] },
      /^a write of bob with fencing token 2 was accepted after one with 5$/
    ],
    ["a run without a late write", { lateWrites: [], lost: [] }, /^no late write was attempted$/],
    ["a run in which no holder was killed", { killed: [] }, /^nobody was killed while holding the lock$/],
    ["a killed holder whom nobody followed", { holds: inOrderUntilKill }, /^nobody took over from bob$/],
    ["a paused holder that was not told", { lost: [] }, /^cid was paused and not told that its time was over$/]
  ]
  for (const [claim, evidence, broken] of cases) {
    it(`reports ${claim}`, () => {
      const found = brokenOf({ ...inOrder, ...evidence })
      assert.isTrue(found.some((text) => broken.test(text)), JSON.stringify(found))
      assert.match(format(judge({ ...inOrder, ...evidence })), /\nBROKEN: /)
    })
  }
})

describe("the evidence", () => {
  const holds = (at: number, trustedUntil: number): Entry["event"] => ({ _tag: "Holds", at, trustedUntil, fence })
  const fence = Option.some(1n)
  const nothing = { value: 0, attempts: [] }

  it("a hold ends when its worker stops to use it", () => {
    const { holds: found, lost } = gather([
      { worker: "ann", event: holds(1, 100) },
      { worker: "ann", event: { _tag: "Ended", at: 10, until: 9, lost: Option.none() } }
    ], nothing)
    assert.deepStrictEqual(found, [{ worker: "ann", fence, from: 1, until: 9 }])
    assert.deepStrictEqual(lost, [])
  })

  it("a hold of a worker that was paused ends with its trust, renewals included", () => {
    const { holds: found, lost } = gather([
      { worker: "ann", event: holds(1, 100) },
      { worker: "ann", event: { _tag: "Renewed", at: 50, trustedUntil: 150 } },
      { worker: "ann", event: { _tag: "Signalled", at: 60, signal: "SIGSTOP" } },
      { worker: "ann", event: { _tag: "Ended", at: 900, until: 900, lost: Option.some("Expired") } }
    ], nothing)
    assert.deepStrictEqual(found, [{ worker: "ann", fence, from: 1, until: 150 }])
    assert.deepStrictEqual(lost, [{ worker: "ann", reason: "Expired" }])
  })

  it("a hold of a worker that was killed ends with the kill, and only that counts as killed while holding", () => {
    const { holds: found, killed } = gather([
      { worker: "ann", event: holds(1, 100) },
      { worker: "ann", event: { _tag: "Signalled", at: 40, signal: "SIGKILL" } },
      { worker: "bob", event: { _tag: "Signalled", at: 41, signal: "SIGKILL" } }
    ], nothing)
    assert.deepStrictEqual(found, [{ worker: "ann", fence, from: 1, until: 40 }])
    assert.deepStrictEqual(killed, ["ann"])
  })

  it("an increment counts as acknowledged once the register accepted it", () => {
    const wrote = (outcome: "accepted" | "refused", late: boolean): Entry => ({
      worker: "ann",
      event: { _tag: "Wrote", at: 1, fence, value: 1, outcome, highest: fence, late }
    })
    const found = gather([wrote("accepted", false), wrote("refused", true), wrote("accepted", false)], nothing)
    assert.deepStrictEqual([...found.acknowledged], [["ann", 2]])
    assert.deepStrictEqual(found.lateWrites, [{ worker: "ann", fence, outcome: "refused" }])
  })
})

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

/** Runs the demonstration; with `interruptAt` it gets a SIGTERM as soon as it has printed that. */
const start = Effect.fn(function*(args: ReadonlyArray<string>, options?: { readonly interruptAt: string }) {
  const path = yield* Path.Path
  const main = yield* path.fromFileUrl(new URL("../../examples/kill-and-pause/main.ts", import.meta.url))
  const handle = yield* ChildProcess.make(process.execPath, ["--conditions=effect-lock-source", main, ...args], {
    killSignal: "SIGTERM",
    forceKillAfter: "20 seconds"
  })
  const printed = yield* Deferred.make<void>()
  let output = ""
  const reading = yield* handle.all.pipe(
    Stream.decodeText,
    Stream.runForEach((text) => {
      output += text
      return options !== undefined && output.includes(options.interruptAt)
        ? Deferred.succeed(printed, undefined)
        : Effect.void
    }),
    Effect.andThen(Deferred.succeed(printed, undefined)),
    Effect.forkScoped
  )
  if (options !== undefined) {
    yield* Deferred.await(printed)
    assert.include(output, options.interruptAt)
    yield* handle.kill()
  }
  const code = yield* handle.exitCode
  yield* Fiber.join(reading)
  return { code: Number(code), output }
})

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

function hold(worker: string, fence: bigint | undefined, from: number, until: number): Hold {
  return { worker, fence: Option.fromUndefinedOr(fence), from, until }
}

function write(worker: string, fence: bigint, outcome: "accepted" | "refused" = "accepted") {
  return { worker, fence: Option.some(fence), outcome }
}

const inOrderUntilKill = [hold("bob", 1n, 0, 10), hold("bob", 2n, 10, 20)]

// ann works; bob writes once and is killed in its second hold; cid is paused in a hold; ann follows both.
const inOrder: Evidence = {
  value: 4,
  attempts: [write("bob", 1n), write("ann", 3n), write("cid", 4n), write("ann", 6n), write("cid", 5n, "refused")],
  acknowledged: new Map([["ann", 2], ["bob", 1], ["cid", 1]]),
  holds: [
    ...inOrderUntilKill,
    hold("ann", 3n, 20, 30),
    hold("cid", 4n, 30, 40),
    hold("cid", 5n, 50, 100),
    hold("ann", 6n, 110, 120)
  ],
  lateWrites: [write("cid", 5n, "refused")],
  killed: ["bob"],
  lost: [{ worker: "cid", reason: "Expired" }]
}

const brokenOf = (evidence: Evidence): ReadonlyArray<string> => judge(evidence).flatMap(({ broken }) => broken)
