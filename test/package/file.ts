import { NodeServices } from "@effect/platform-node"
import { Console, Effect, FileSystem, Layer } from "effect"
import { Lock } from "effect-lock"
import * as FileLock from "effect-lock/layers/File"

const program = Effect.gen(function*() {
  const held = yield* Effect.map(Lock.inspect("invoices/2026-11"), (holders) => holders.length).pipe(
    Lock.guard("invoices/2026-11", { ttl: "30 seconds", wait: "10 seconds" })
  )
  const holders = yield* Lock.inspect("invoices/2026-11")
  yield* Console.log(`held ${held}, then ${holders.length === 0 ? "free" : "not free"}`)
})

const inTemporaryDirectory = Layer.unwrap(Effect.gen(function*() {
  const fileSystem = yield* FileSystem.FileSystem
  return FileLock.layer({ directory: yield* fileSystem.makeTempDirectoryScoped() })
}))

await Effect.runPromise(Effect.provide(program, Layer.provide(inTemporaryDirectory, NodeServices.layer)))
