import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import * as path from "node:path"
import { run } from "../command.ts"
import { isInstalled, start } from "./redis/redisLocks.ts"

const root = path.join(import.meta.dirname, "../..")
const original = readFileSync(path.join(root, "examples/change-one-line/main.ts"), "utf8")
const [from, to] = ["effect-lock/layers/Memory", "effect-lock/layers/Redis"]

/** Runs the program from a folder inside the repository, so that the package's own name leads to its source. */
const outputOf = (code: string, env: Readonly<Record<string, string>>) =>
  Effect.promise(async () => {
    mkdirSync(path.join(root, ".tmp"), { recursive: true })
    const folder = mkdtempSync(path.join(root, ".tmp/example-"))
    try {
      writeFileSync(path.join(folder, "main.ts"), code)
      const args = ["--conditions=effect-lock-source", path.join(folder, "main.ts")]
      return await run(process.execPath, args, { cwd: folder, env })
    } finally {
      rmSync(folder, { recursive: true, force: true })
    }
  })

const sold = { code: 0, stdout: "30 buyers, 10 tickets, 10 sold\n", stderr: "" }

describe("the example that changes one line", () => {
  it.live("works in memory", () => Effect.map(outputOf(original, {}), (output) => assert.deepInclude(output, sold)))

  it.live("oversells without the lock", () =>
    Effect.map(
      outputOf(original.replace(/}, Lock\.guard\(.*\)\)/, "})"), {}),
      ({ stdout }) => assert.match(stdout, /30 sold/)
    ))

  it.skipIf(!isInstalled("redis-server"))(
    "works with Redis after that one line was changed",
    () =>
      Effect.runPromise(Effect.scoped(Effect.gen(function*() {
        const { server, visitor } = yield* start()
        const lines = original.split("\n")
        const changed = lines.map((line) => line.replace(from, to))
        assert.lengthOf(changed.filter((line, index) => line !== lines[index]), 1)
        assert.deepInclude(yield* outputOf(changed.join("\n"), { REDIS_URL: server.url }), sold)
        assert.deepStrictEqual(yield* visitor.keys, ["lock:box-office:{tickets}:f"])
      })))
  )
})
