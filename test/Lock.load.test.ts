/** What must hold at scale: order, no growth, nothing left behind. */
import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, type Layer } from "effect"
import { Lock, LockBackend, withLock } from "effect-lock"
import * as File from "effect-lock/layers/File"
import * as Memory from "effect-lock/layers/Memory"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"

setFlagsFromString("--expose-gc")
const collect = runInNewContext("gc") as () => void

const heap = Effect.promise(async () => {
  for (let i = 0; i < 3; i++) {
    await new Promise((resolve) => setImmediate(resolve))
    collect()
  }
  return process.memoryUsage().heapUsed
})

const resources = () => process.getActiveResourcesInfo().filter((each) => each !== "Immediate").sort().join()

const traces = Effect.map(LockBackend, ({ slot }) => {
  const state = slot.state as unknown as { queues: Map<string, unknown>; leases: Set<unknown>; acquiring: number }
  return [state.queues.size, state.leases.size, state.acquiring]
})

const temporary = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "effect-lock-load-"))),
  (directory) => Effect.sync(() => rmSync(directory, { recursive: true, force: true }))
)

const manyWaiters = (count: number) =>
  Effect.gen(function*() {
    const served: Array<number> = []
    yield* Effect.scoped(Effect.gen(function*() {
      const lease = yield* withLock("k")
      const fibers = []
      for (let i = 0; i < count; i++) {
        fibers.push(
          yield* Effect.sync(() => served.push(i)).pipe(
            Lock.guard("k"),
            Lock.detached,
            Effect.forkDetach({ startImmediately: true })
          )
        )
      }
      yield* lease.release
      for (const fiber of fibers) yield* Fiber.join(fiber)
    }))
    assert.strictEqual(served.length, count)
    assert.isTrue(served.every((each, i) => each === i))
    assert.deepStrictEqual(yield* traces, [0, 0, 0])
  })

const cycles = (count: number) =>
  Effect.gen(function*() {
    const one = Effect.scoped(withLock("k"))
    for (let i = 0; i < count; i++) yield* one
  })

/** Runs `cycles` until the heap has settled, then again: the second run may not have grown it. */
const noGrowth = (count: number, tolerance: number) =>
  Effect.gen(function*() {
    yield* cycles(count)
    const before = yield* heap
    const open = resources()
    yield* cycles(count)
    const after = yield* heap
    assert.isAtMost((after - before) / count, tolerance, "bytes of heap per cycle")
    assert.strictEqual(resources(), open)
    assert.deepStrictEqual(yield* traces, [0, 0, 0])
  })

const onMemory = <A, E>(self: Effect.Effect<A, E, LockBackend>) => Effect.provide(self, Memory.layer())

const onFiles = <A, E>(self: Effect.Effect<A, E, LockBackend>) =>
  Effect.scoped(Effect.flatMap(temporary, (directory) => {
    const layer: Layer.Layer<LockBackend, unknown, Layer.Success<typeof NodeServices.layer>> = File.layer({ directory })
    return Effect.provide(self, layer)
  })).pipe(Effect.provide(NodeServices.layer))

describe("10,000 waiters on one key in one process", () => {
  it.live("memory: all served, in order, nothing left behind", () => onMemory(manyWaiters(10_000)), 120_000)
  it.live("files: all served, in order, nothing left behind", () => onFiles(manyWaiters(10_000)), 240_000)
})

describe("acquire and release over and over", () => {
  it.live(
    "memory: 100,000 cycles leave heap, handles and fibers where they were",
    () => onMemory(noGrowth(100_000, 8)),
    120_000
  )
  it.live(
    "files: 2,000 cycles leave heap, handles and fibers where they were",
    () => onFiles(noGrowth(2000, 200)),
    120_000
  )
})
