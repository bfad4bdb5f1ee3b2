import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, FileSystem } from "effect"
import { type Child, deathIsProvable, kill, start } from "./children.ts"

interface Grant {
  readonly key: string
  readonly token: bigint
  /** `created`: its holder was alone; `there`: somebody else had the lock too; `untrusted`: it came too late to tell. */
  readonly witness: string
  readonly renewal: string
}

describe.skipIf(!deathIsProvable)("taking over the locks of dead processes, 8 processes at a time", () => {
  it.live(
    "2,000 stale locks are taken over by one process each, with growing fencing tokens",
    () =>
      Effect.gen(function*() {
        const keys = 1_000
        const rounds = yield* takeovers({ rounds: 2, keys, link: "exclusive" })
        const faults = judge(rounds)
        assert.deepStrictEqual(faults, [])
        for (const grants of rounds) {
          assert.strictEqual(new Set(grants.map(({ key }) => key)).size, keys)
          assert.strictEqual(grants.length, keys)
          assert.deepStrictEqual(grants.filter(({ renewal }) => renewal !== "Renewed"), [])
        }
        assert.strictEqual(rounds.slice(1).flat().length, 2_000)
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)),
    300_000
  )

  it.live("the witness and the tokens report a takeover that does not exclude", () =>
    Effect.gen(function*() {
      const keys = 50
      const [, grants = []] = yield* takeovers({ rounds: 1, keys, link: "replacing" })
      const faults = judge([grants])
      // Two at least have judged each lock free before one of them takes it, and then all of them do.
      for (const key of Array.from({ length: keys }, (_, index) => `k${index}`)) {
        assert.include(faults, `${key}: two holders`)
        assert.isTrue(faults.some((fault) => fault.startsWith(`${key}: token`)), faults.join("\n"))
      }
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)))
})

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

/** What was granted in each round. In the first, one process takes every lock; in each later one, 8 race for them. */
const takeovers = Effect.fn(function*(
  options: { readonly rounds: number; readonly keys: number; readonly link: "exclusive" | "replacing" }
) {
  const fs = yield* FileSystem.FileSystem
  const directory = yield* fs.makeTempDirectoryScoped({ prefix: "effect-lock-" })
  const evidence = yield* fs.makeTempDirectoryScoped({ prefix: "effect-lock-evidence-" })
  const found: Array<ReadonlyArray<Grant>> = []
  for (let round = 0; round <= options.rounds; round++) {
    const args = [directory, evidence, String(round), String(options.keys), options.link]
    const children = yield* Effect.all(
      Array.from({ length: round === 0 ? 1 : 8 }, () => start("takeoverWorker.ts", args))
    )
    for (const child of children) yield* child.expect("ready")
    for (const child of children) yield* child.say("go")
    found.push((yield* Effect.forEach(children, grantsOf, { concurrency: "unbounded" })).flat())
    // They die with what they hold: the next round's stale locks.
    yield* kill(children)
  }
  return found
})

const grantsOf = Effect.fn(function*(child: Child) {
  const grants: Array<Grant> = []
  for (;;) {
    const [word, key = "", token = "", witness = "", renewal = ""] = yield* child.hear
    if (word === "done") return grants
    assert.strictEqual(word, "grant")
    grants.push({ key, token: BigInt(token), witness, renewal })
  }
})

/** Everything that one lock with one holder at a time can't show. Rounds are in order; a round has one grant per key. */
const judge = (rounds: ReadonlyArray<ReadonlyArray<Grant>>): ReadonlyArray<string> => {
  const faults: Array<string> = []
  const highest = new Map<string, bigint>()
  for (const { key, token, witness } of rounds.flat()) {
    if (witness === "there") faults.push(`${key}: two holders`)
    else if (witness !== "created") faults.push(`${key}: the holder's trust was over before it could say who holds it`)
    const before = highest.get(key)
    if (before !== undefined && token <= before) faults.push(`${key}: token ${token} was granted after ${before}`)
    else highest.set(key, token)
  }
  return faults
}
