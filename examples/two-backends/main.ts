/**
 * Two backends at once: a lock in a directory, which the processes of this machine share, and one in memory, which the
 * fibers of this process share. Each has a tag of its own, so the types say which effect needs which.
 *
 *     node --conditions=effect-lock-source examples/two-backends/main.ts
 */
import { NodeServices } from "@effect/platform-node"
import { Console, Context, Effect, FileSystem, Layer } from "effect"
import { Lock, type LockBackend } from "effect-lock"
import * as FileLock from "effect-lock/layers/File"
import * as MemoryLock from "effect-lock/layers/Memory"

class OnMachine extends Context.Service<OnMachine, LockBackend["Service"]>()("example/OnMachine") {}
class InProcess extends Context.Service<InProcess, LockBackend["Service"]>()("example/InProcess") {}

const onMachine = Lock.on(OnMachine)
const inProcess = Lock.on(InProcess)

const holders = Effect.gen(function*() {
  const machine = yield* onMachine.inspect("report")
  const here = yield* inProcess.inspect("report")
  yield* Console.log(`held: ${machine.length} on the machine, ${here.length} in the process`)
})

// The same key on two backends is two locks.
const report = Effect.gen(function*() {
  yield* holders
  yield* holders.pipe(inProcess.guard("report"))
  yield* holders.pipe(inProcess.guard("report"), onMachine.guard("report"))
  const second = yield* Effect.void.pipe(onMachine.guardIfAvailable("report"), onMachine.guard("report", { wait: 0 }))
  yield* Console.log(`a second on the machine: ${second._tag}`)
  yield* holders
})

const directory = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  return yield* fs.makeTempDirectoryScoped({ prefix: "effect-lock-two-backends-" })
})

const layer = Layer.mergeAll(
  Layer.effect(OnMachine, Effect.flatMap(directory, (directory) => FileLock.make({ directory }))),
  Layer.effect(InProcess, MemoryLock.make())
).pipe(Layer.provide(NodeServices.layer))

await Effect.runPromise(report.pipe(Effect.provide(layer)))
// prints: held: 0 on the machine, 0 in the process
// prints: held: 0 on the machine, 1 in the process
// prints: held: 1 on the machine, 1 in the process
// prints: a second on the machine: None
// prints: held: 0 on the machine, 0 in the process
