import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect } from "effect"
import { TestClock } from "effect/testing"
import { Keeper, type Kept } from "../../src/internal/keeper.ts"
import * as Lease from "../../src/Lease.ts"

class FakeLease implements Kept {
  dueAt: number
  place = -1
  readonly ttl: number
  readonly calls: Array<Lease.Stamp> = []
  private readonly act: (lease: FakeLease, now: Lease.Stamp) => void

  constructor(dueAt: number, act: (lease: FakeLease, now: Lease.Stamp) => void, ttl = 30_000) {
    this.dueAt = dueAt
    this.act = act
    this.ttl = ttl
  }

  onDue(now: Lease.Stamp): void {
    this.calls.push(now)
    this.act(this, now)
  }

  get calledAt(): ReadonlyArray<number> {
    return this.calls.map(({ monotonic }) => monotonic)
  }
}

/** A keeper on the test clock, whose wall clock can be set and whose sleeps are counted. */
const makeKeeper = Effect.gen(function*() {
  const clock = yield* Clock.Clock
  const fiber = yield* Effect.withFiber(Effect.succeed)
  const sleeps: Array<number> = []
  const state = { wallAhead: 0, sleeping: 0 }
  const skewed: Clock.Clock = {
    ...clock,
    currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe() + state.wallAhead,
    sleep: (duration) =>
      Effect.suspend(() => {
        sleeps.push(Duration.toMillis(duration))
        state.sleeping++
        return Effect.ensuring(clock.sleep(duration), Effect.sync(() => state.sleeping--))
      })
  }
  const keeper = new Keeper(fiber, skewed)
  const now = () => Lease.stamp(skewed)
  const drop = (lease: Kept) => keeper.drop(lease)
  return {
    keeper,
    state,
    sleeps,
    now,
    /** Takes in a lease that is due in `millis`, and lets it go when it was. */
    once: (millis: number, ttl?: number) => {
      const lease = new FakeLease(now().monotonic + millis, drop, ttl)
      keeper.keep(lease, now())
      return lease
    },
    /** Takes in a lease that is due every `millis`. */
    every: (millis: number, ttl?: number) => {
      const lease = new FakeLease(
        now().monotonic + millis,
        (lease, now) => {
          lease.dueAt = now.monotonic + millis
        },
        ttl
      )
      keeper.keep(lease, now())
      return lease
    }
  }
})

describe("what is due", () => {
  it.effect("is called when it is due, in the order of that, whatever the order of coming", () =>
    Effect.gen(function*() {
      const { keeper, now } = yield* makeKeeper
      const order: Array<number> = []
      for (const millis of [700, 100, 900, 300, 300, 500]) {
        const act = (lease: FakeLease) => {
          order.push(millis)
          keeper.drop(lease)
        }
        keeper.keep(new FakeLease(millis, act), now())
      }
      yield* TestClock.adjust(99)
      assert.deepStrictEqual(order, [])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(order, [100])
      yield* TestClock.adjust(500)
      assert.deepStrictEqual(order, [100, 300, 300, 500])
      yield* TestClock.adjust(300)
      assert.deepStrictEqual(order, [100, 300, 300, 500, 700, 900])
      assert.strictEqual(keeper.size, 0)
    }))

  it.effect("is called at the millisecond, not at the next tick", () =>
    Effect.gen(function*() {
      const { every, once } = yield* makeKeeper
      const slow = every(1_000)
      const exact = once(1_337)
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(exact.calledAt, [1_337])
      assert.deepStrictEqual(slow.calledAt, [1_000, 2_000, 3_000, 4_000, 5_000])
    }))

  it.effect("already is called at once", () =>
    Effect.gen(function*() {
      const { once } = yield* makeKeeper
      const late = once(-5)
      const now = once(0)
      yield* TestClock.adjust(0)
      assert.deepStrictEqual([late.calledAt, now.calledAt], [[0], [0]])
    }))

  it.effect("follows its lease: earlier or later, as told by keep", () =>
    Effect.gen(function*() {
      const { keeper, now, once } = yield* makeKeeper
      const [a, b, c] = [once(400), once(500), once(600)]
      c.dueAt = 100
      keeper.keep(c, now())
      a.dueAt = 700
      keeper.keep(a, now())
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual([a.calledAt, b.calledAt, c.calledAt], [[700], [500], [100]])
      assert.strictEqual(keeper.size, 0)
    }))

  it.effect("is not called again and again at the same moment by a lease that sets nothing later", () =>
    Effect.gen(function*() {
      const { keeper, now } = yield* makeKeeper
      const stuck = new FakeLease(10, () => {})
      keeper.keep(stuck, now())
      yield* TestClock.adjust(10)
      assert.strictEqual(stuck.calls.length, 1)
      yield* TestClock.adjust(10)
      assert.isAtLeast(stuck.calls.length, 2)
      assert.isAtMost(stuck.calls.length, 11)
    }))

  it.effect("does not keep the others waiting: a stuck lease, and one that is due behind it", () =>
    Effect.gen(function*() {
      const { keeper, now, once } = yield* makeKeeper
      keeper.keep(new FakeLease(10, () => {}), now())
      const other = once(10)
      yield* TestClock.adjust(10)
      assert.deepStrictEqual(other.calledAt, [10])
    }))
})

describe("a lease that leaves", () => {
  it.effect("is not called any more, and the others are, wherever it stood", () =>
    Effect.gen(function*() {
      for (const leaving of [0, 1, 2, 3, 4, 5, 6]) {
        const { keeper, once } = yield* makeKeeper
        const leases = [10, 20, 30, 40, 50, 60, 70].map((millis) => once(millis))
        keeper.drop(leases[leaving]!)
        assert.deepStrictEqual([keeper.size, leases[leaving]!.place], [6, -1])
        yield* TestClock.adjust(100)
        assert.deepStrictEqual(leases.map(({ calls }) => calls.length), leases.map((_, i) => (i === leaving ? 0 : 1)))
      }
    }))

  it.effect("twice, or without having come, changes nothing", () =>
    Effect.gen(function*() {
      const { keeper, once } = yield* makeKeeper
      const [a, b] = [once(10), once(20)]
      keeper.drop(a)
      keeper.drop(a)
      keeper.drop(new FakeLease(5, () => {}))
      assert.strictEqual(keeper.size, 1)
      yield* TestClock.adjust(100)
      assert.deepStrictEqual([a.calls.length, b.calls.length], [0, 1])
    }))

  it.effect("while another is called at the same moment is not called", () =>
    Effect.gen(function*() {
      const { keeper, now } = yield* makeKeeper
      const second = new FakeLease(10, () => {})
      const first = new FakeLease(9.9999, (lease) => {
        keeper.drop(second)
        keeper.drop(lease)
      })
      keeper.keep(first, now())
      keeper.keep(second, now())
      yield* TestClock.adjust(50)
      assert.deepStrictEqual([first.calls.length, second.calls.length, keeper.size], [1, 0, 0])
    }))

  it.effect("makes room for others at the same moment, while more are due", () =>
    Effect.gen(function*() {
      const { keeper, now, once } = yield* makeKeeper
      const came: Array<FakeLease> = []
      const first = new FakeLease(10, (lease) => {
        keeper.drop(lease)
        came.push(once(0), once(5))
      })
      keeper.keep(first, now())
      const second = once(10)
      yield* TestClock.adjust(10)
      assert.deepStrictEqual([first.calledAt, second.calledAt], [[10], [10]])
      assert.deepStrictEqual(came.map(({ calledAt }) => calledAt), [[10], []])
      yield* TestClock.adjust(5)
      assert.deepStrictEqual(came.map(({ calledAt }) => calledAt), [[10], [15]])
      assert.strictEqual(keeper.size, 0)
    }))

  it.effect("can come back", () =>
    Effect.gen(function*() {
      const { keeper, now, once } = yield* makeKeeper
      const lease = once(10)
      yield* TestClock.adjust(10)
      lease.dueAt = 25
      keeper.keep(lease, now())
      yield* TestClock.adjust(100)
      assert.deepStrictEqual(lease.calledAt, [10, 25])
    }))
})

describe("the timer", () => {
  it.effect("is one for all leases, and none while there are none", () =>
    Effect.gen(function*() {
      const { keeper, once, state } = yield* makeKeeper
      assert.strictEqual(state.sleeping, 0)
      const leases = Array.from({ length: 1_000 }, (_, i) => once(2_000 - i))
      yield* TestClock.adjust(0)
      assert.strictEqual(state.sleeping, 1)
      yield* TestClock.adjust(1_500)
      assert.deepStrictEqual([keeper.size, state.sleeping], [500, 1])
      for (const lease of leases) keeper.drop(lease)
      yield* TestClock.adjust(0)
      assert.deepStrictEqual([keeper.size, state.sleeping], [0, 0])
    }))

  it.effect("is not started for leases that leave before anything else runs", () =>
    Effect.gen(function*() {
      const { keeper, once, sleeps } = yield* makeKeeper
      for (let round = 0; round < 3; round++) keeper.drop(once(10))
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(sleeps, [])
    }))

  it.effect("stands for whoever comes right behind the last that left", () =>
    Effect.gen(function*() {
      const { keeper, once, sleeps, state } = yield* makeKeeper
      const dispatcher = (yield* Effect.withFiber(Effect.succeed)).cache.scheduler.makeDispatcher()
      let last = once(2_000)
      yield* TestClock.adjust(0)
      for (let round = 0; round < 3; round++) {
        keeper.drop(last)
        dispatcher.scheduleTask(() => {
          last = once(2_000)
        }, 0)
        yield* TestClock.adjust(0)
        assert.deepStrictEqual([keeper.size, state.sleeping, sleeps.length], [1, 1, 1])
      }
      keeper.drop(last)
      yield* TestClock.adjust(0)
      assert.strictEqual(state.sleeping, 0)
    }))

  it.effect("ends with the last lease that was called, too", () =>
    Effect.gen(function*() {
      const { once, state } = yield* makeKeeper
      once(10)
      yield* TestClock.adjust(10)
      assert.strictEqual(state.sleeping, 0)
    }))

  it.effect("is started again for whoever comes after that", () =>
    Effect.gen(function*() {
      const { once, state } = yield* makeKeeper
      for (let round = 0; round < 3; round++) {
        const lease = once(10)
        yield* TestClock.adjust(0)
        assert.strictEqual(state.sleeping, 1)
        yield* TestClock.adjust(10)
        assert.deepStrictEqual([lease.calls.length, state.sleeping], [1, 0])
      }
    }))

  it.effect("is brought forward for an earlier lease, and left alone for a later one", () =>
    Effect.gen(function*() {
      const { once, sleeps, state } = yield* makeKeeper
      once(500)
      once(700)
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(sleeps, [500])
      once(200)
      yield* TestClock.adjust(0)
      assert.deepStrictEqual([sleeps, state.sleeping], [[500, 200], 1])
    }))

  it.effect("never sleeps longer than a second", () =>
    Effect.gen(function*() {
      const { once, sleeps } = yield* makeKeeper
      const lease = once(3_600_000, 86_400_000)
      yield* TestClock.adjust("10 minutes")
      assert.isAtMost(Math.max(...sleeps), 1_000)
      assert.strictEqual(sleeps.length, 601)
      assert.strictEqual(lease.calls.length, 0)
    }))

  it.effect("never sleeps longer than a tenth of the shortest ttl", () =>
    Effect.gen(function*() {
      const { once, sleeps } = yield* makeKeeper
      once(30_000, 30_000)
      yield* TestClock.adjust(0)
      once(30_000, 400)
      yield* TestClock.adjust("1 second")
      // The timer of the first was under way.
      assert.deepStrictEqual(sleeps.slice(0, 3), [1_000, 40, 40])
      assert.isAtMost(Math.max(...sleeps.slice(1)), 40)
    }))

  it.effect("an empty keeper forgets the shortest ttl", () =>
    Effect.gen(function*() {
      const { keeper, once, sleeps } = yield* makeKeeper
      const short = once(30_000, 400)
      yield* TestClock.adjust(0)
      keeper.drop(short)
      yield* TestClock.adjust("1 second")
      once(30_000, 30_000)
      yield* TestClock.adjust(0)
      assert.deepStrictEqual(sleeps, [40, 1_000])
    }))
})

describe("a wall clock that runs ahead of the monotonic one", () => {
  it.effect("makes every lease look again at the next tick, with that wall clock, though nothing is due", () =>
    Effect.gen(function*() {
      const { once, every, state } = yield* makeKeeper
      const leases = [once(60_000), once(90_000), every(120_000)]
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(leases.map(({ calls }) => calls.length), [0, 0, 0])
      state.wallAhead = 3_600_000
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(leases.map(({ calls }) => calls), Array(3).fill([{ monotonic: 6_000, wall: 3_606_000 }]))
    }))

  it.effect("once for each step, not at every tick after it", () =>
    Effect.gen(function*() {
      const { every, state } = yield* makeKeeper
      const lease = every(3_600_000)
      state.wallAhead = 10_000
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(lease.calledAt, [1_000])
      state.wallAhead = 20_000
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(lease.calledAt, [1_000, 11_000])
    }))

  it.effect("also after it was set back; setting it back makes nobody look", () =>
    Effect.gen(function*() {
      const { every, state } = yield* makeKeeper
      const lease = every(3_600_000)
      state.wallAhead = -60_000
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(lease.calledAt, [])
      // Still behind where it began, yet ten seconds have passed on it in one.
      state.wallAhead = -50_000
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(lease.calledAt, [6_000])
    }))

  it.effect("creeping, less at each tick than is noticed: noticed when it adds up", () =>
    Effect.gen(function*() {
      const { every, state } = yield* makeKeeper
      const lease = every(3_600_000)
      for (let tick = 0; tick < 20; tick++) {
        state.wallAhead += 1
        yield* TestClock.adjust("1 second")
      }
      assert.isAtLeast(lease.calls.length, 5)
      assert.isAtMost(lease.calls.length, 10)
    }))

  it.effect("while nobody is kept is no concern of whoever comes next", () =>
    Effect.gen(function*() {
      const { every, once, state } = yield* makeKeeper
      once(10)
      yield* TestClock.adjust("1 second")
      state.wallAhead = 3_600_000
      const lease = every(1_000_000)
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(lease.calledAt, [])
    }))

  it.effect("a lease that lets itself and others go while everybody looks", () =>
    Effect.gen(function*() {
      const { keeper, now, state } = yield* makeKeeper
      const leases: Array<FakeLease> = []
      for (let i = 0; i < 10; i++) {
        // Each takes the next two with it.
        const act = (lease: FakeLease) => {
          for (const gone of leases.slice(leases.indexOf(lease), leases.indexOf(lease) + 3)) keeper.drop(gone)
        }
        leases.push(new FakeLease(60_000 + i, act))
      }
      for (const lease of leases) keeper.keep(lease, now())
      state.wallAhead = 5_000
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(leases.map(({ calls }) => calls.length), [1, 0, 0, 1, 0, 0, 1, 0, 0, 1])
      assert.deepStrictEqual([keeper.size, state.sleeping], [0, 0])
    }))
})

describe("many leases", () => {
  it.effect("10,000: each is called once, on time and in order, by one timer; the dropped ones never", () =>
    Effect.gen(function*() {
      const { keeper, now, sleeps, state } = yield* makeKeeper
      const called: Array<number> = []
      const leases: Array<FakeLease> = []
      // Due times 7919 apart modulo a prime: in no order, about ten at each millisecond.
      for (let i = 0; i < 10_000; i++) {
        const act = (lease: FakeLease) => {
          called.push(lease.dueAt)
          keeper.drop(lease)
        }
        const lease = new FakeLease(1 + Math.floor(((i * 7_919) % 10_007) / 10), act)
        leases.push(lease)
        keeper.keep(lease, now())
      }
      const dropped = leases.filter((_, i) => i % 3 === 0)
      for (const lease of dropped) keeper.drop(lease)
      const kept = leases.filter((_, i) => i % 3 !== 0)
      assert.strictEqual(keeper.size, kept.length)
      for (let millis = 0; millis <= 1_001; millis += 7) {
        yield* TestClock.adjust(7)
        assert.isAtMost(state.sleeping, 1)
      }
      assert.deepStrictEqual(called, kept.map(({ dueAt }) => dueAt).sort((a, b) => a - b))
      for (const { calledAt, dueAt } of kept) assert.deepStrictEqual(calledAt, [dueAt])
      assert.isTrue(dropped.every(({ calls }) => calls.length === 0))
      assert.deepStrictEqual([keeper.size, state.sleeping], [0, 0])
      assert.isAtMost(sleeps.length, 2_100)
    }))

  it.effect("coming, going and changing at random: always called by the time that a plain list says", () =>
    Effect.gen(function*() {
      let seed = 42
      const draw = (below: number) => {
        seed = (Math.imul(seed, 1_103_515_245) + 12_345) & 0x7fffffff
        return (seed >>> 8) % below
      }
      const { keeper, now, state } = yield* makeKeeper
      const kept = new Set<FakeLease>()
      const act = (lease: FakeLease, now: Lease.Stamp) => {
        assert.isTrue(kept.has(lease), "called after it left")
        assert.isAtMost(lease.dueAt, now.monotonic + 1e-2)
        if (draw(2) === 0) {
          kept.delete(lease)
          keeper.drop(lease)
        } else lease.dueAt = now.monotonic + 1 + draw(500)
      }
      for (let step = 0; step < 3_000; step++) {
        const some = [...kept][draw(Math.max(kept.size, 1))]
        switch (draw(4)) {
          case 0: {
            const lease = new FakeLease(now().monotonic + draw(500), act)
            kept.add(lease)
            keeper.keep(lease, now())
            break
          }
          case 1:
            if (some !== undefined) {
              kept.delete(some)
              keeper.drop(some)
            }
            break
          case 2:
            if (some !== undefined) {
              some.dueAt = now().monotonic + draw(500)
              keeper.keep(some, now())
            }
            break
          default:
            yield* TestClock.adjust(draw(40))
            for (const lease of kept) assert.isAbove(lease.dueAt, now().monotonic)
        }
        assert.strictEqual(keeper.size, kept.size)
        assert.strictEqual(new Set([...kept].map(({ place }) => place)).size, kept.size)
        assert.isAtMost(state.sleeping, 1)
      }
    }))
})
