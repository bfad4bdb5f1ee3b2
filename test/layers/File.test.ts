import { NodeServices } from "@effect/platform-node"
import { Clock, Effect, FileSystem } from "effect"
import { TestClock } from "effect/testing"
import * as File from "../../src/layers/File.ts"
import { LawEnvironment } from "../../src/testing/BackendLaws.ts"
import { testLaws, virtualTime } from "../../src/testing/vitest.ts"

const environment = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const directory = yield* fs.makeTempDirectoryScoped({ prefix: "effect-lock-" })
  const make = (namespace?: string) => Effect.provide(File.make({ directory, namespace }), NodeServices.layer)
  return LawEnvironment.make({
    first: yield* make(),
    second: yield* make(),
    withNamespace: make
  })
}).pipe(Effect.provide(NodeServices.layer))

await testLaws("File keeps the laws", environment)
void Clock
void TestClock
void virtualTime
