import { assert, describe, it } from "@effect/vitest"
import { Effect, type Fiber, Option, Scheduler } from "effect"
import { Lock, LockBackendError, Unreachable } from "effect-lock"
import { LocalQueue, Place, type Wake } from "../../src/internal/localQueue.ts"
import { backend } from "../backends.ts"

interface Caller {
  readonly place: Place
  /** What its wake-up was called with. */
  readonly wakes: Array<Wake>
}

interface Patience {
  readonly since?: number
  readonly wait?: number
  readonly outageBudget?: number
}

const makeQueues = Effect.map(Effect.withFiber(Effect.succeed), (fiber: Fiber.Fiber<unknown, unknown>) => {
  const queues = new Map<string, LocalQueue>()
  const of = (key = "k") => LocalQueue.of(queues, key)
  const caller = ({ outageBudget = 30_000, since = 0, wait = Infinity }: Patience = {}): Caller => {
    const wakes: Array<Wake> = []
    const place = new Place(fiber, since, wait, outageBudget)
    place.wake = (reason) => wakes.push(reason)
    return { place, wakes }
  }
  /** Callers that entered in this order; the first has the turn. */
  const line = (count: number, patience: ReadonlyArray<Patience> = []) => {
    const queue = of()
    const callers = Array.from({ length: count }, (_, i) => caller(patience[i]))
    for (const { place } of callers) queue.enter(place)
    return { queue, callers }
  }
  return { queues, of, caller, line }
})

// Wake-ups are tasks of the fiber's dispatcher: those given so far have run when a yield of the same fiber returns.
const delivered = Effect.yieldNow

const states = (callers: ReadonlyArray<Caller>) => callers.map(({ place }) => place.state)

const refused = new LockBackendError({
  backend: "test",
  operation: "acquire",
  key: "k",
  reason: new Unreachable({ detail: "ECONNREFUSED" })
})

describe("the turn", () => {
  it.effect("is the first caller's at once; the others are parked", () =>
    Effect.gen(function*() {
      const { caller, of } = yield* makeQueues
      const queue = of()
      assert.isTrue(queue.isFree)
      const [a, b, c] = [caller(), caller(), caller()]
      for (const { place } of [a, b, c]) queue.enter(place)
      assert.deepStrictEqual(states([a, b, c]), ["turn", "parked", "parked"])
      assert.deepStrictEqual([queue.isFree, queue.parked], [false, 2])
      yield* delivered
      assert.deepStrictEqual([a.wakes, b.wakes, c.wakes], [[], [], []])
    }))

  it.effect("passes on in the order of coming", () =>
    Effect.gen(function*() {
      const queues = yield* makeQueues
      const { callers, queue } = queues.line(5)
      const order: Array<number> = []
      for (let i = 0; i < 5; i++) {
        order.push(callers.findIndex(({ place }) => place.state === "turn"))
        assert.strictEqual(queue.parked, 4 - i)
        queue.leave(callers[i]!.place)
      }
      assert.deepStrictEqual(order, [0, 1, 2, 3, 4])
      yield* delivered
      assert.deepStrictEqual(callers.map(({ wakes }) => wakes), [[], ["turn"], ["turn"], ["turn"], ["turn"]])
    }))

  it.effect("is given at once, and told through the scheduler, not on the giver's stack", () =>
    Effect.gen(function*() {
      const queues = yield* makeQueues
      const { callers: [a, b], queue } = queues.line(2)
      queue.leave(a!.place)
      assert.deepStrictEqual([b!.place.state, b!.place.woken, b!.wakes], ["turn", "turn", []])
      yield* delivered
      assert.deepStrictEqual(b!.wakes, ["turn"])
    }))

  it.effect("is kept for a caller that is not parked at that moment, and told to one that parks meanwhile", () =>
    Effect.gen(function*() {
      const queues = yield* makeQueues
      const { callers: [a, b, c], queue } = queues.line(3)
      b!.place.wake = undefined
      queue.leave(a!.place)
      yield* delivered
      assert.strictEqual(b!.place.woken, "turn")
      const told: Array<Wake> = []
      c!.place.wake = undefined
      queue.leave(b!.place)
      c!.place.wake = (reason) => told.push(reason)
      yield* delivered
      assert.deepStrictEqual(told, ["turn"])
    }))

  it.effect("passes on also if its new owner left before it ran", () =>
    Effect.gen(function*() {
      const queues = yield* makeQueues
      const { callers, queue } = queues.line(3)
      const [a, b, c] = callers
      queue.leave(a!.place)
      queue.leave(b!.place)
      assert.deepStrictEqual(states(callers), ["left", "left", "turn"])
      yield* delivered
      assert.deepStrictEqual(c!.wakes, ["turn"])
    }))

  it.effect("10,000 callers hand over to each other without nesting", () =>
    Effect.gen(function*() {
      const { line, queues } = yield* makeQueues
      const { callers, queue } = line(10_000)
      let served = 0
      for (const caller of callers) {
        caller.place.wake = () => {
          served++
          queue.leave(caller.place)
        }
      }
      queue.leave(callers[0]!.place)
      while (served < 9_999) {
        const before = served
        yield* delivered
        assert.isAbove(served, before, "the line came to a stop")
      }
      assert.deepStrictEqual([queue.isFree, queue.parked, queues.size], [true, 0, 0])
    }))
})

describe("leaving", () => {
  for (const leaving of [1, 2, 3, 4]) {
    it.effect(`place ${leaving} of the line: the others keep their order, the turn stays where it is`, () =>
      Effect.gen(function*() {
        const queues = yield* makeQueues
        const { callers, queue } = queues.line(5)
        queue.leave(callers[leaving]!.place)
        assert.deepStrictEqual([callers[0]!.place.state, queue.parked], ["turn", 3])
        const order: Array<number> = []
        for (;;) {
          const turn = callers.findIndex(({ place }) => place.state === "turn")
          if (turn < 0) break
          order.push(turn)
          queue.leave(callers[turn]!.place)
        }
        assert.deepStrictEqual(order, [0, 1, 2, 3, 4].filter((i) => i !== leaving))
        yield* delivered
        assert.deepStrictEqual(callers[leaving]!.wakes, [])
      }))
  }

  it.effect("twice changes nothing", () =>
    Effect.gen(function*() {
      const queues = yield* makeQueues
      const { callers, queue } = queues.line(4)
      const [a, b, c, d] = callers
      for (const { place } of [c!, c!, a!, a!]) queue.leave(place)
      assert.deepStrictEqual(states(callers), ["left", "turn", "left", "parked"])
      assert.strictEqual(queue.parked, 1)
      queue.leave(b!.place)
      assert.strictEqual(d!.place.state, "turn")
    }))

  it.effect("without having entered changes nothing for those who have", () =>
    Effect.gen(function*() {
      const queues = yield* makeQueues
      const { callers, queue } = queues.line(2)
      queue.leave(queues.caller().place)
      assert.deepStrictEqual([states(callers), queue.parked, queues.queues.size], [["turn", "parked"], 1, 1])
    }))

  it.effect("the turn takes its lease and its nudge along; what the backend said stays for the next", () =>
    Effect.gen(function*() {
      const queues = yield* makeQueues
      const { callers: [a], queue } = queues.line(2)
      const holder = {
        ownerId: "a",
        since: Option.none(),
        remaining: Option.none(),
        fencingToken: Option.none(),
        metadata: {}
      }
      queue.holder = { describe: () => holder }
      queue.nudge = () => {}
      queue.refusedBy = [holder]
      queue.outage = { since: 0, error: refused }
      queue.leave(a!.place)
      assert.deepStrictEqual(
        [queue.holder, queue.nudge, queue.refusedBy, queue.outage],
        [undefined, undefined, [holder], { since: 0, error: refused }]
      )
    }))
})

describe("who pauses at the head", () => {
  it.effect("is nudged by each caller that comes to wait behind it, not by the first, who has the turn", () =>
    Effect.gen(function*() {
      const { caller, of } = yield* makeQueues
      const queue = of()
      let nudges = 0
      queue.nudge = () => nudges++
      queue.enter(caller().place)
      assert.strictEqual(nudges, 0)
      queue.enter(caller().place)
      queue.enter(caller().place)
      assert.strictEqual(nudges, 2)
    }))

  it.effect("sees the shortest wait left of those behind it, not its own", () =>
    Effect.gen(function*() {
      const queues = yield* makeQueues
      const { callers, queue } = queues.line(4, [{ wait: 10 }, { wait: 5_000 }, { since: 1_000, wait: 2_000 }, {}])
      assert.deepStrictEqual([queue.shortestWait(0), queue.shortestWait(1_500)], [3_000, 1_500])
      queue.leave(callers[2]!.place)
      assert.strictEqual(queue.shortestWait(1_500), 3_500)
      queue.leave(callers[1]!.place)
      assert.strictEqual(queue.shortestWait(1_500), Infinity)
      queue.leave(callers[3]!.place)
      assert.strictEqual(queue.shortestWait(1_500), Infinity)
    }))
})

describe("an outage", () => {
  it.effect("ends the waiting of those whose budget is spent, from its start or their coming, and nobody else's", () =>
    Effect.gen(function*() {
      const queues = yield* makeQueues
      const { callers, queue } = queues.line(6, [
        { outageBudget: 1 },
        { outageBudget: 1_000 },
        { outageBudget: 1_001 },
        { since: 5_600, outageBudget: 500 },
        { since: 5_500, outageBudget: 500 },
        { outageBudget: Infinity }
      ])
      queue.failParked({ since: 5_000, error: refused }, 6_000)
      assert.deepStrictEqual(states(callers), ["turn", "left", "parked", "parked", "left", "parked"])
      assert.strictEqual(queue.parked, 3)
      yield* delivered
      assert.deepStrictEqual(callers.map(({ wakes }) => wakes), [[], [refused], [], [], [refused], []])
      queue.leave(callers[0]!.place)
      assert.deepStrictEqual(states(callers), ["left", "left", "turn", "parked", "left", "parked"])
    }))

  it.effect("whoever was told of it leaves without disturbing the line", () =>
    Effect.gen(function*() {
      const queues = yield* makeQueues
      const { callers, queue } = queues.line(4, [{}, { outageBudget: 0 }, {}, {}])
      queue.failParked({ since: 0, error: refused }, 0)
      queue.leave(callers[1]!.place)
      assert.deepStrictEqual(states(callers), ["turn", "left", "parked", "parked"])
      assert.strictEqual(queue.parked, 2)
    }))
})

describe("close", () => {
  it.effect("tells everybody in line, wakes the head from its pause, and leaves the turn to its owner", () =>
    Effect.gen(function*() {
      const queues = yield* makeQueues
      const { callers, queue } = queues.line(3)
      let nudges = 0
      queue.nudge = () => nudges++
      queue.close(refused)
      assert.deepStrictEqual([states(callers), queue.parked, nudges], [["turn", "left", "left"], 0, 1])
      yield* delivered
      assert.deepStrictEqual(callers.map(({ wakes }) => wakes), [[], [refused], [refused]])
      for (const { place } of callers) queue.leave(place)
      assert.strictEqual(queues.queues.size, 0)
    }))
})

describe("the queue of a key", () => {
  it.effect("is one for all callers while somebody is in it, and goes with the last", () =>
    Effect.gen(function*() {
      const { caller, of, queues } = yield* makeQueues
      const queue = of()
      const [a, b] = [caller(), caller()]
      queue.enter(a.place)
      assert.strictEqual(of(), queue)
      assert.notStrictEqual(of("other"), queue)
      of().enter(b.place)
      queue.leave(a.place)
      assert.strictEqual(of(), queue)
      queue.leave(b.place)
      assert.isFalse(queues.has("k"))
      assert.notStrictEqual(of(), queue)
    }))

  it.effect("starts afresh when it comes again: no outage, no refusal of the old one", () =>
    Effect.gen(function*() {
      const { caller, of } = yield* makeQueues
      const first = caller()
      of().enter(first.place)
      of().outage = { since: 0, error: refused }
      of().refusedBy = []
      of().leave(first.place)
      assert.deepStrictEqual([of().outage, of().refusedBy], [undefined, undefined])
    }))

  it.effect("is not taken from those who are in it by one who left an older queue of the same key", () =>
    Effect.gen(function*() {
      const { caller, of, queues } = yield* makeQueues
      const [a, b] = [caller(), caller()]
      const older = of()
      older.enter(a.place)
      older.leave(a.place)
      const newer = of()
      newer.enter(b.place)
      older.leave(a.place)
      assert.strictEqual(queues.get("k"), newer)
    }))

  it.effect("coming and leaving at random is what a plain list would do, and leaves nothing behind", () =>
    Effect.gen(function*() {
      const { caller, of, queues } = yield* makeQueues
      let seed = 7
      const draw = (below: number) => {
        seed = (Math.imul(seed, 1_103_515_245) + 12_345) & 0x7fffffff
        return (seed >>> 8) % below
      }
      const model: Array<Caller> = []
      for (let step = 0; step < 20_000; step++) {
        if (draw(20) < 10) {
          const came = caller({ wait: draw(1_000) })
          of().enter(came.place)
          model.push(came)
        } else if (model.length > 0) {
          const [left] = model.splice(draw(model.length), 1)
          of().leave(left!.place)
          assert.strictEqual(left!.place.state, "left")
        }
        assert.strictEqual(queues.size, model.length === 0 ? 0 : 1)
        if (model.length === 0) continue
        assert.strictEqual(of().parked, model.length - 1)
        assert.strictEqual(model[0]!.place.state, "turn")
        assert.strictEqual(of().shortestWait(0), Math.min(Infinity, ...model.slice(1).map(({ place }) => place.until)))
      }
      for (const { place } of model.splice(0)) of().leave(place)
      assert.strictEqual(queues.size, 0)
    }))
})

describe("callers of one process", () => {
  it.live("never meet at the backend, wherever the scheduler stops them", () =>
    Effect.gen(function*() {
      let seed = 1
      const draw = (below: number) => {
        seed = (Math.imul(seed, 1_103_515_245) + 12_345) & 0x7fffffff
        return (seed >>> 8) % below
      }
      let met = 0
      const { provide } = yield* backend((real) => ({
        tryAcquire: (request) =>
          Effect.tap(real.tryAcquire(request), (reply) =>
            Effect.sync(() => {
              if (reply._tag === "Held") met++
            }))
      }))
      const operations = (below: number) =>
        Effect.suspend(() => Effect.forEach(Array.from({ length: draw(below) }), () => Effect.void, { discard: true }))
      const hold = Effect.andThen(operations(60), Lock.guard(operations(30), "k"))
      const caller = Effect.forEach(Array.from({ length: 100 }), () => hold, { discard: true })
      for (let every = 3; every <= 12; every++) {
        yield* Effect.all([caller, caller, caller], { concurrency: "unbounded" }).pipe(
          provide,
          Effect.provideService(Scheduler.MaxOpsBeforeYield, every)
        )
      }
      assert.strictEqual(met, 0)
    }))
})
