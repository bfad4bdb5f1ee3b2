import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Logger, Metric, Scope, Tracer } from "effect"
import { Lock, withLock } from "effect-lock"
import { TestClock } from "effect/testing"
import { backend, hold, start, steal, unreachable } from "./backends.ts"

const recorder = () => {
  const spans: Array<Tracer.NativeSpan> = []
  const tracer = Tracer.make({
    span: (options) => {
      const span = new Tracer.NativeSpan(options)
      spans.push(span)
      return span
    }
  })
  return { spans, provide: Effect.provideService(Tracer.Tracer, tracer) }
}

const freshMetrics = Effect.provideServiceEffect(Metric.MetricRegistry, Effect.sync(() => new Map()))

const valueOf = (snapshot: Metric.Metric.Snapshot): number => {
  switch (snapshot.type) {
    case "Counter":
    case "Histogram":
      return Number(snapshot.state.count)
    case "Gauge":
      return Number(snapshot.state.value)
    default:
      return NaN
  }
}

const metric = (id: string, attributes: Record<string, string> = {}) =>
  Effect.map(Metric.snapshot, (snapshots) =>
    snapshots.filter((each) =>
      each.id === `effect_lock_${id}` &&
      Object.entries(attributes).every(([name, value]) => each.attributes?.[name] === value)
    ).map(valueOf))

describe("spans", () => {
  it.effect("Lock.wait around the acquisition, Lock.hold until the release, Lock.renew for each renewal", () =>
    Effect.gen(function*() {
      const { provide } = yield* backend()
      const traced = recorder()
      const fiber = yield* Effect.sleep("21 seconds").pipe(
        Lock.guard("invoices/7"),
        provide,
        traced.provide,
        Effect.forkChild(start)
      )
      yield* TestClock.adjust("21 seconds")
      yield* Fiber.join(fiber)
      const names = traced.spans.map((span) => span.name)
      assert.deepStrictEqual(names, ["Lock.wait", "Lock.hold", "Lock.renew", "Lock.renew"])
      for (const span of traced.spans) {
        assert.strictEqual(span.attributes.get("key"), "invoices/7")
        assert.strictEqual(span.status._tag, "Ended")
      }
      const held = traced.spans[1]!.status
      assert.strictEqual(held._tag === "Ended" && held.endTime - held.startTime, 21_000_000_000n)
    }))

  it.effect("a lost lease fails its hold span", () =>
    Effect.gen(function*() {
      const { provide, real } = yield* backend()
      const traced = recorder()
      const fiber = yield* Effect.never.pipe(
        Lock.guard("k"),
        Effect.exit,
        provide,
        traced.provide,
        Effect.forkChild(start)
      )
      yield* steal(real, "k")
      yield* TestClock.adjust("10 seconds")
      yield* Fiber.join(fiber)
      const status = traced.spans.find((span) => span.name === "Lock.hold")!.status
      assert.strictEqual(status._tag === "Ended" && status.exit._tag, "Failure")
    }))
})

describe("metrics", () => {
  it.effect("count acquisitions, contention, losses by reason, backend errors; show what is held and waiting", () =>
    Effect.gen(function*() {
      let down = false
      const { provide, real } = yield* backend((real) => ({
        renew: (request) => down ? Effect.fail(unreachable("renew")) : real.renew(request)
      }))
      yield* Effect.gen(function*() {
        const holder = yield* Effect.never.pipe(Lock.guard("k"), Effect.exit, Effect.forkChild(start))
        const waiter = yield* Effect.never.pipe(Lock.guard("k"), Effect.forkChild(start))
        assert.deepStrictEqual(yield* metric("held"), [1])
        assert.deepStrictEqual(yield* metric("waiting"), [1])
        yield* Fiber.interrupt(waiter)
        assert.deepStrictEqual(yield* metric("waiting"), [0])
        yield* TestClock.adjust("10 seconds")
        assert.deepStrictEqual(yield* metric("renew_seconds"), [1])
        assert.deepStrictEqual(yield* metric("renew_margin_seconds"), [1])
        down = true
        yield* TestClock.adjust("40 seconds")
        yield* Fiber.join(holder)
        assert.deepStrictEqual(yield* metric("held"), [0])
        assert.deepStrictEqual(yield* metric("lost", { backend: "memory", reason: "Expired" }), [1])
        assert.isAbove((yield* metric("backend_errors", { operation: "renew", reason: "Unreachable" }))[0]!, 0)
        yield* hold(real, "busy", "other")
        yield* Effect.ignore(Effect.scoped(withLock("busy", { wait: 0 })))
        assert.deepStrictEqual(yield* metric("contended", { reason: "WaitOver" }), [1])
        assert.deepStrictEqual(yield* metric("acquired"), [1])
        assert.deepStrictEqual(yield* metric("hold_seconds"), [1])
        const labels = (yield* Metric.snapshot).flatMap((each) => Object.keys(each.attributes ?? {}))
        assert.notInclude(labels, "key")
      }).pipe(provide, freshMetrics)
    }))
})

describe("log lines", () => {
  it.effect("what degrades grants is said once, and again when it was gone meanwhile", () =>
    Effect.gen(function*() {
      const lines: Array<unknown> = []
      const logger = Logger.make<unknown, void>(({ message }) => void lines.push(message))
      let degraded: string | undefined
      const { provide } = yield* backend((real) => ({
        tryAcquire: (request) =>
          Effect.map(real.tryAcquire(request), (reply) => reply._tag === "Held" ? reply : { ...reply, degraded })
      }))
      for (degraded of ["one is down", "one is down", undefined, "one is down", "two are down"]) {
        yield* Effect.void.pipe(Lock.guard("k"), provide, Effect.provide(Logger.layer([logger])))
      }
      assert.deepStrictEqual(
        lines.map(String),
        ["one", "one", "two"].map((count) =>
          `lock "k" was granted, but degraded: ${count} ${count === "two" ? "are" : "is"} down`
        )
      )
    }))

  it.effect("jeopardy, loss and a failed release, in the context of the acquisition; nothing else", () =>
    Effect.gen(function*() {
      const lines: Array<string> = []
      const logger = Logger.make<unknown, void>((options) => {
        lines.push(
          `${options.logLevel}: ${String(Array.isArray(options.message) ? options.message[0] : options.message)}`
        )
      })
      const { provide } = yield* backend(() => ({
        renew: () => Effect.fail(unreachable("renew")),
        release: () => Effect.fail(unreachable("release"))
      }))
      const fiber = yield* Effect.never.pipe(
        Lock.guard("k"),
        Effect.exit,
        provide,
        Effect.provide(Logger.layer([logger])),
        Effect.forkChild(start)
      )
      yield* TestClock.adjust("1 minute")
      yield* Fiber.join(fiber)
      assert.strictEqual(lines.length, 3)
      assert.match(lines[0]!, /^Warn: lease of lock "k" is in jeopardy/)
      assert.match(lines[1]!, /^Warn: lease \w+ of lock "k" was lost: its trust ran out/)
      assert.match(lines[2]!, /^Warn: could not release lock "k"; it ends by its ttl/)
    }))

  it.effect("a release that fails after the acquiring fiber has ended is still timed and logged in its context", () =>
    Effect.gen(function*() {
      const lines: Array<string> = []
      const logger = Logger.make<unknown, void>(({ message }) => {
        lines.push(String(Array.isArray(message) ? message[0] : message))
      })
      const { provide, sent } = yield* backend(() => ({ release: () => Effect.fail(unreachable("release")) }))
      const scope = yield* Scope.make()
      const fiber = yield* withLock("k").pipe(
        Scope.provide(scope),
        provide,
        Effect.provide(Logger.layer([logger])),
        Effect.forkChild(start)
      )
      yield* Fiber.join(fiber)
      const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void), start)
      yield* TestClock.adjust("10 seconds")
      yield* Fiber.join(closing)
      assert.isAbove(sent.filter((each) => each.verb === "release").length, 1)
      assert.deepStrictEqual(lines, [`could not release lock "k"; it ends by its ttl`])
    }))
})
