import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber } from "effect"
import * as OwnerTurns from "../../../src/layers/internal/ownerTurns.ts"

const now = { startImmediately: true } as const

/** A verb that notes its begin and end, and ends when it is told to. */
const verbs = () => {
  const log: Array<string> = []
  const verb = (name: string, end: Deferred.Deferred<void> = Deferred.makeUnsafe()) => ({
    end: Deferred.succeed(end, undefined),
    run: () =>
      Effect.gen(function*() {
        log.push(`${name} begins`)
        yield* Deferred.await(end)
        log.push(`${name} ends`)
        return name
      })
  })
  return { log, verb }
}

describe("ownerTurns", () => {
  it.effect("runs the verbs of one owner id one after another, those of others beside them", () =>
    Effect.gen(function*() {
      const turns = OwnerTurns.make()
      const { log, verb } = verbs()
      const [first, second, other] = [verb("first"), verb("second"), verb("other")]
      const a = yield* Effect.forkChild(OwnerTurns.run(turns, "a", first.run), now)
      const b = yield* Effect.forkChild(OwnerTurns.run(turns, "a", second.run), now)
      const c = yield* Effect.forkChild(OwnerTurns.run(turns, "b", other.run), now)
      assert.deepStrictEqual(log, ["first begins", "other begins"])
      yield* other.end
      yield* second.end
      yield* first.end
      yield* Effect.forEach([a, b, c], Fiber.join)
      assert.deepStrictEqual(log, [
        "first begins",
        "other begins",
        "other ends",
        "first ends",
        "second begins",
        "second ends"
      ])
      assert.strictEqual(turns.size, 0)
    }))

  it.effect("a verb that waits can be interrupted; the next gets its turn all the same", () =>
    Effect.gen(function*() {
      const turns = OwnerTurns.make()
      const { log, verb } = verbs()
      const [first, second, third] = [verb("first"), verb("second"), verb("third")]
      const a = yield* Effect.forkChild(OwnerTurns.run(turns, "a", first.run), now)
      const b = yield* Effect.forkChild(OwnerTurns.run(turns, "a", second.run), now)
      const c = yield* Effect.forkChild(OwnerTurns.run(turns, "a", third.run), now)
      yield* Fiber.interrupt(b)
      yield* first.end
      yield* third.end
      yield* Effect.forEach([a, c], Fiber.join)
      assert.deepStrictEqual(log, ["first begins", "first ends", "third begins", "third ends"])
      assert.strictEqual(turns.size, 0)
    }))

  it.effect("a verb that runs can't be interrupted; what it answered is undone before the next begins", () =>
    Effect.gen(function*() {
      const turns = OwnerTurns.make()
      const { log, verb } = verbs()
      const [first, second] = [verb("first"), verb("second")]
      const undo = (answer: string) => Effect.sync(() => log.push(`${answer} is undone`)).pipe(Effect.asVoid)
      const a = yield* Effect.forkChild(OwnerTurns.run(turns, "a", first.run, undo), now)
      const b = yield* Effect.forkChild(OwnerTurns.run(turns, "a", second.run, undo), now)
      const interrupting = yield* Effect.forkChild(Fiber.interrupt(a), now)
      yield* second.end
      yield* first.end
      yield* Fiber.join(interrupting)
      assert.strictEqual(yield* Fiber.join(b), "second")
      assert.deepStrictEqual(log, ["first begins", "first ends", "first is undone", "second begins", "second ends"])
      assert(Exit.isFailure(yield* Fiber.await(a)))
      assert.strictEqual(turns.size, 0)
    }))

  it.effect("giving up is seen by the verb that runs and by those that wait, not by those that come later", () =>
    Effect.gen(function*() {
      const turns = OwnerTurns.make()
      const seen: Array<boolean> = []
      const end = Deferred.makeUnsafe<void>()
      const look = (turn: OwnerTurns.Turn) => Effect.sync(() => seen.push(turn.givenUp))
      const running = yield* Effect.forkChild(
        OwnerTurns.run(turns, "a", (turn) => Effect.andThen(Deferred.await(end), look(turn))),
        now
      )
      const waiting = yield* Effect.forkChild(OwnerTurns.run(turns, "a", look), now)
      OwnerTurns.giveUp(turns, "a")
      OwnerTurns.giveUp(turns, "nobody")
      yield* Deferred.succeed(end, undefined)
      yield* Effect.forEach([running, waiting], Fiber.join)
      yield* OwnerTurns.run(turns, "a", look)
      assert.deepStrictEqual(seen, [true, true, false])
      assert.strictEqual(turns.size, 0)
    }))

  it.effect("a verb that fails or dies passes its turn on", () =>
    Effect.gen(function*() {
      const turns = OwnerTurns.make()
      yield* Effect.exit(OwnerTurns.run(turns, "a", () => Effect.fail("no")))
      yield* Effect.exit(OwnerTurns.run(turns, "a", () => Effect.die("never")))
      yield* Effect.exit(OwnerTurns.run(turns, "a", () => {
        throw new Error("before it began")
      }))
      assert.strictEqual(turns.size, 0)
      assert.strictEqual(yield* OwnerTurns.run(turns, "a", () => Effect.succeed(1)), 1)
    }))
})
