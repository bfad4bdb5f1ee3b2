/** The quorum on nodes that answer what a test tells them to: the rules of deciding, each by itself. */
import { assert, describe, it } from "@effect/vitest"
import { Clock, Deferred, Duration, Effect, Fiber, Option, Scope } from "effect"
import { TestClock } from "effect/testing"
import * as Quorum from "../../../src/layers/internal/quorum.ts"
import * as Acquire from "../../../src/layers/internal/quorumAcquire.ts"
import { notReached, QuorumNotReached } from "../../../src/layers/internal/quorumFailure.ts"
import type { NodeRecord, NodeRelease, QuorumNode, Take, TakeReply } from "../../../src/layers/internal/quorumNode.ts"
import * as Verbs from "../../../src/layers/internal/quorumVerbs.ts"
import {
  type BackendReason,
  Misconfigured,
  Protocol,
  Throttled,
  TimedOut,
  Unauthorized,
  Unreachable
} from "../../../src/LockError.ts"

const clock = 1_700_000_000_000_000

type Answer = "ok" | "held" | "dead" | "too high" | "down" | "silent" | BackendReason | number

const record: NodeRecord = { ownerId: "other", fence: 7, since: 0, remaining: 5000, metadata: { who: "other" } }

/** A node that answers so to every attempt: a number is the token that it has seen. */
const nodeOf = (name: string, answer: Answer) => {
  const takes: Array<Take> = []
  const releases: Array<NodeRelease> = []
  const state = { connections: 1, uptime: 1e9, answer, renewal: "Ok" as "Ok" | "Gone" | "Taken" | "silent" }
  const take = (take: Take): Effect.Effect<TakeReply, BackendReason> => {
    takes.push(take)
    const { answer } = state
    if (take.mode === "join") return Effect.succeed({ _tag: "Ok", fence: take.fence, clock })
    if (typeof answer === "object") return Effect.fail(answer)
    if (answer === "silent") return Effect.never
    if (answer === "held") return Effect.succeed({ _tag: "Held", record, clock })
    if (answer === "dead") return Effect.succeed({ _tag: "Dead", clock })
    if (answer === "too high") return Effect.succeed({ _tag: "TooHigh", clock })
    const stored = typeof answer === "number" ? answer : clock - 1e6
    return Effect.succeed(
      take.fence <= stored ? { _tag: "TooLow", stored, clock } : { _tag: "Ok", fence: take.fence, clock }
    )
  }
  const node: QuorumNode = {
    name,
    isReady: () => state.answer !== "down",
    connections: () => state.connections,
    greet: () => Effect.sync(() => ({ identity: name, uptime: state.uptime })),
    take,
    renew: () => Effect.suspend(() => state.renewal === "silent" ? Effect.never : Effect.succeed(state.renewal)),
    release: (release) =>
      Effect.suspend(() => {
        releases.push(release)
        return state.answer === "silent" ? Effect.never : Effect.succeed("Released" as const)
      }),
    inspect: () => Effect.succeed(undefined),
    break: () => Effect.succeed(false),
    list: () => Effect.succeed([])
  }
  return { node, takes, releases, state }
}

const settings: Quorum.Settings = { drift: 0.01, nodeTimeout: 50, maxTtl: 300_000, restartGuard: true }

const quorumOf = (answers: ReadonlyArray<Answer>, options: Partial<Quorum.Settings> = {}) =>
  Effect.gen(function*() {
    const nodes = answers.map((answer, index) => nodeOf(`n${index}`, answer))
    const quorum = yield* Quorum.make(nodes.map(({ node }) => node), { ...settings, ...options })
    return { nodes, quorum }
  })

const ttl = Duration.seconds(10)
const budget = Duration.seconds(2)
const tryAcquire = (quorum: Quorum.Quorum, ownerId = "me") =>
  Acquire.tryAcquire(quorum, { key: "k", ownerId, ttl, metadata: { a: "b" }, willWait: true, budget })
const renew = (quorum: Quorum.Quorum, handle: string) =>
  Verbs.renew(quorum, { key: "k", ownerId: "me", ttl, handle, budget })
const release = (quorum: Quorum.Quorum, unanswered = false) =>
  Verbs.release(quorum, { key: "k", ownerId: "me", handle: Option.none(), unanswered, budget })

/** Lets the nodes' time be up for whoever waits for them. */
const settled = <A, E>(self: Effect.Effect<A, E>) =>
  Effect.gen(function*() {
    const fiber = yield* Effect.forkChild(Effect.exit(self), { startImmediately: true })
    for (let i = 0; i < 10 && fiber.pollUnsafe() === undefined; i++) yield* TestClock.adjust(50)
    return yield* yield* Fiber.join(fiber)
  })

const outcomeOf = (quorum: Quorum.Quorum) =>
  Effect.map(
    Effect.result(settled(tryAcquire(quorum))),
    (result) => result._tag === "Failure" ? result.failure._tag : result.success._tag
  )

const refused = new Unauthorized({ detail: "no" })
const broken = new Unreachable({ detail: "reset" })

describe("what a quorum decides", () => {
  const table: ReadonlyArray<readonly [answers: ReadonlyArray<Answer>, outcome: string, why: string]> = [
    [["ok"], "Acquired", "one is a majority of one"],
    [["ok", "ok", "ok", "ok", "ok"], "Acquired", "all agree"],
    [["ok", "ok", "ok", "held", "held"], "Acquired", "a majority agrees"],
    [["ok", "ok", "ok", broken, "silent"], "Acquired", "a majority agrees, whatever the others do"],
    [["ok", "ok", "ok", "down", "down"], "Acquired", "a majority agrees, whatever the others do"],
    [["ok", "ok", "held", "held"], "Held", "a tie is nobody's"],
    [["ok", "held"], "Held", "a tie of two is nobody's"],
    [["held", "held", "held", "silent", "silent"], "Held", "others have a majority"],
    [["ok", "ok", "held", broken, broken], "Held", "enough take part, and another is in the way"],
    [["ok", "held", "held", "down", "down"], "Held", "enough take part, and another is in the way"],
    [["dead", "dead", "dead", "ok", "ok"], "Held", "the owner id is dead"],
    [["ok", "ok", broken, broken, broken], "Unreachable", "too few take part"],
    [["ok", "held", "silent", "silent", "silent"], "TimedOut", "too few take part"],
    [["held", "held", "silent", broken, broken], "Unreachable", "too few take part"],
    [["ok", "ok", refused, refused, refused], "Unauthorized", "trying again does not help"],
    [["ok", "ok", refused, refused, broken], "Unreachable", "one that may come back would be enough"],
    [["ok", "silent"], "TimedOut", "both of two are needed"],
    [["ok", "ok", "ok", clock + 5, clock + 9], "Acquired", "two know larger tokens, but a majority accepts this one"],
    [["ok", "ok", clock + 5, "silent", "silent"], "Acquired", "a majority accepts a larger one"],
    [["ok", "ok", "too high", "too high", "too high"], "Misconfigured", "the clocks of a majority are behind"]
  ]
  for (const [answers, outcome, why] of table) {
    const told = answers.map((answer) => typeof answer === "object" ? answer._tag : answer).join(", ")
    it.effect(`${outcome} of ${told}: ${why}`, () =>
      Effect.gen(function*() {
        const { quorum } = yield* quorumOf(answers)
        assert.strictEqual(yield* outcomeOf(quorum), outcome)
      }))
  }

  it.effect("needs no more time than the answers take", () =>
    Effect.gen(function*() {
      for (
        const answers of [["ok", "ok", "ok", "silent", "silent"], ["ok", "ok", "held", "held"], [
          "held",
          "held",
          "silent"
        ]]
      ) {
        const { quorum } = yield* quorumOf(answers as ReadonlyArray<Answer>)
        const fiber = yield* Effect.forkChild(tryAcquire(quorum), { startImmediately: true })
        yield* TestClock.adjust(0)
        assert.isDefined(fiber.pollUnsafe(), answers.join())
      }
    }))

  it.effect("the error has each node's own reason, in words too", () =>
    Effect.gen(function*() {
      const { quorum } = yield* quorumOf(["ok", "held", broken, "silent", "down"])
      const reason = yield* Effect.flip(settled(tryAcquire(quorum)))
      assert(reason.cause instanceof QuorumNotReached)
      const { failures, granted, held, needed, nodes } = reason.cause
      assert.deepStrictEqual([nodes, needed, granted, held], [5, 3, 1, 1])
      assert.deepStrictEqual(failures.map(({ node, reason }) => `${node} ${reason._tag}`), [
        "n2 Unreachable",
        "n3 TimedOut",
        "n4 Unreachable"
      ])
      assert.strictEqual(
        reason.detail,
        "3 of 5 nodes did not take part, and it takes 3 that do. n2: Unreachable: reset; "
          + "n3: TimedOut: n3 did not answer within 50ms; the outcome is unknown; n4: Unreachable: n4 is not connected"
      )
    }))

  it("the kind of the error is what most stands in the way", () => {
    const late = new TimedOut({ detail: "late", after: Duration.seconds(1) })
    const wait = (seconds: number) =>
      new Throttled({ detail: "wait", retryAfter: Option.some(Duration.seconds(seconds)) })
    const of = (...reasons: ReadonlyArray<BackendReason>) =>
      notReached(5, 3, reasons.map((reason, index) => ({ node: `n${index}`, reason })))
    assert.strictEqual(of(late, late, late)._tag, "TimedOut")
    assert.strictEqual(of(late, late, broken)._tag, "Unreachable")
    assert.strictEqual(of(late, wait(1), wait(2))._tag, "Unreachable")
    assert.strictEqual(of(new Misconfigured({ detail: "" }), refused, refused)._tag, "Misconfigured")
    assert.strictEqual(of(new Protocol({ detail: "" }), refused, refused, late)._tag, "Protocol")
    const throttled = of(wait(9), wait(3), wait(5), wait(1))
    assert(throttled._tag === "Throttled")
    // Two of five may stay away: when the second comes back, three take part.
    assert.deepStrictEqual(throttled.retryAfter, Option.some(Duration.seconds(3)))
  })

  it.effect("a refusal tells who has it, and when a majority can be had", () =>
    Effect.gen(function*() {
      const { quorum } = yield* quorumOf(["ok", "held", "held", "held", "silent"])
      const reply = yield* settled(tryAcquire(quorum))
      assert(reply._tag === "Held")
      assert.deepStrictEqual(reply.holders.map(({ metadata, ownerId }) => ({ metadata, ownerId })), [
        { ownerId: "other", metadata: { who: "other" } }
      ])
      assert.deepStrictEqual(reply.retryAfter, Option.some(Duration.seconds(5)))
    }))
})

describe("how a quorum asks", () => {
  it.effect("nodes are asked for more than the ttl, so that it lasts however clocks drift", () =>
    Effect.gen(function*() {
      const { nodes, quorum } = yield* quorumOf(["ok", "ok", "ok"], { drift: 0.05 })
      const reply = yield* tryAcquire(quorum)
      assert(reply._tag === "Acquired")
      assert.strictEqual(Duration.toMillis(reply.grantedTtl), 10_000)
      assert.deepStrictEqual(nodes.map(({ takes }) => takes.at(-1)?.ttl), [10_502, 10_502, 10_502])
    }))

  it.effect("a grant of which less than half is left is given back", () =>
    Effect.gen(function*() {
      const { nodes, quorum } = yield* quorumOf(["ok", "ok", "ok"])
      const slow = yield* Deferred.make<void>()
      const { node } = nodes[0]!
      const late: QuorumNode = {
        ...node,
        greet: (timeout) => Effect.andThen(Deferred.await(slow), node.greet(timeout))
      }
      const other = yield* Quorum.make([late], { ...settings, nodeTimeout: 10_000 })
      const fiber = yield* Effect.forkChild(
        Effect.flip(Acquire.tryAcquire(other, {
          key: "k",
          ownerId: "me",
          ttl,
          metadata: {},
          willWait: true,
          budget: Duration.minutes(1)
        })),
        { startImmediately: true }
      )
      yield* TestClock.adjust(5001)
      yield* Deferred.succeed(slow, undefined)
      const reason = yield* Fiber.join(fiber)
      assert(reason._tag === "TimedOut")
      assert.match(reason.detail, /less than half of the ttl would be left/)
      assert.strictEqual(nodes[0]!.releases.length, 1)
      assert.strictEqual(quorum.claims.size, 0)
    }))

  it.effect("tries of one owner id are numbered, and one that failed is freed everywhere, unanswered or not", () =>
    Effect.gen(function*() {
      const { nodes, quorum } = yield* quorumOf(["ok", "silent", "silent"])
      yield* Effect.flip(settled(tryAcquire(quorum)))
      assert.deepStrictEqual(nodes.map(({ releases }) => releases.map(({ attempt, bury }) => ({ attempt, bury }))), [
        [{ attempt: 1, bury: false }],
        [{ attempt: 1, bury: true }],
        [{ attempt: 1, bury: true }]
      ])
      nodes[1]!.state.answer = "ok"
      yield* TestClock.adjust(200)
      const reply = yield* settled(tryAcquire(quorum))
      assert.strictEqual(reply._tag, "Acquired")
      assert.deepStrictEqual(nodes.map(({ takes }) => takes.at(-1)?.attempt), [2, 2, 2])
      yield* release(quorum)
      // The second has answered meanwhile: what it was sent before has arrived.
      assert.deepStrictEqual(nodes.map(({ releases }) => releases.at(-1)?.bury), [false, false, true])
      assert.strictEqual(quorum.claims.size, 0)
    }))

  it.effect("what was released between two rounds is not asked for again", () =>
    Effect.gen(function*() {
      const gate = yield* Deferred.make<void>()
      const { node, takes } = nodeOf("n0", clock + 5)
      const slow: QuorumNode = {
        ...node,
        take: (take, timeout) => Effect.andThen(Deferred.await(gate), node.take(take, timeout))
      }
      const quorum = yield* Quorum.make([slow], settings)
      const fiber = yield* Effect.forkChild(Effect.exit(tryAcquire(quorum)), { startImmediately: true })
      yield* release(quorum)
      yield* Deferred.succeed(gate, undefined)
      const exit = yield* Fiber.join(fiber)
      assert.strictEqual(exit._tag, "Failure")
      assert.deepStrictEqual(takes.map(({ mode }) => mode), ["propose"])
    }))

  it.effect("what was interrupted is freed", () =>
    Effect.gen(function*() {
      const { nodes, quorum } = yield* quorumOf(["ok", "silent", "silent"])
      const fiber = yield* Effect.forkChild(tryAcquire(quorum), { startImmediately: true })
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(nodes.map(({ releases }) => releases.map(({ bury }) => bury)), [[false], [true], [true]])
    }))

  it.effect("an owner id that was granted keeps its lock when it is asked for again and too few answer", () =>
    Effect.gen(function*() {
      const { nodes, quorum } = yield* quorumOf(["ok", "ok", "ok"])
      yield* tryAcquire(quorum)
      nodes[0]!.state.answer = "silent"
      nodes[1]!.state.answer = "silent"
      yield* Effect.flip(settled(tryAcquire(quorum)))
      assert.deepStrictEqual(nodes.map(({ releases }) => releases.length), [0, 0, 0])
    }))

  it.effect("one that did not answer is not waited for until it does, and asked for its vote ten times a second", () =>
    Effect.gen(function*() {
      const { nodes, quorum } = yield* quorumOf(["ok", "ok", "silent"])
      const waits = ["held", "ok", "silent"] as const
      nodes.forEach(({ state }, index) => state.answer = waits[index]!)
      yield* settled(tryAcquire(quorum))
      assert.isTrue(quorum.members[2]!.isSuspect)
      const asked = nodes[2]!.takes.length
      for (let i = 0; i < 20; i++) {
        const fiber = yield* Effect.forkChild(tryAcquire(quorum, `other-${i}`), { startImmediately: true })
        yield* TestClock.adjust(0)
        assert.isDefined(fiber.pollUnsafe())
      }
      assert.isAtMost(nodes[2]!.takes.length - asked, 2)
      nodes[2]!.state.answer = "ok"
      yield* TestClock.adjust(100)
      yield* settled(tryAcquire(quorum, "last"))
      assert.isFalse(quorum.members[2]!.isSuspect)
    }))
})

describe("a process that stood still", () => {
  it.effect("and took all nodes for silent waits for them the next time", () =>
    Effect.gen(function*() {
      const { quorum } = yield* quorumOf(["ok", "ok", "ok"])
      for (const member of quorum.members) member.isSuspect = true
      const reply = yield* tryAcquire(quorum)
      assert.strictEqual(reply._tag, "Acquired")
      assert.isFalse(quorum.members.some(({ isSuspect }) => isSuspect))
    }))

  it.effect("while it asked gives the nodes their whole time, from when all were asked", () =>
    Effect.gen(function*() {
      let now = 0
      const naps: Array<number> = []
      const clock: Clock.Clock = {
        ...(yield* Clock.Clock),
        currentTimeMillisUnsafe: () => now,
        monotonicTimeNanosUnsafe: () => BigInt(now) * 1_000_000n,
        sleep: (duration) => Effect.andThen(Effect.sync(() => naps.push(Duration.toMillis(duration))), Effect.never)
      }
      const { node } = nodeOf("n0", "ok")
      // The first write takes long.
      const slow: QuorumNode = {
        ...node,
        take: () =>
          Effect.suspend(() => {
            now += 300
            return Effect.never
          })
      }
      yield* Effect.gen(function*() {
        const quorum = yield* Quorum.make([slow], settings)
        const fiber = yield* Effect.forkChild(tryAcquire(quorum), { startImmediately: true })
        assert.deepStrictEqual(naps, [settings.nodeTimeout])
        yield* Fiber.interrupt(fiber)
      }).pipe(Effect.provideService(Clock.Clock, clock))
    }))
})

describe("masters that may have forgotten", () => {
  it.effect("do not vote until the longest lease is over", () =>
    Effect.gen(function*() {
      const { nodes, quorum } = yield* quorumOf(["ok", "ok", "ok"], { maxTtl: 20_000 })
      for (const { state } of nodes.slice(0, 2)) state.uptime = 5000
      const reason = yield* Effect.flip(settled(tryAcquire(quorum)))
      assert(reason._tag === "Throttled")
      const left = Duration.toMillis(Option.getOrThrow(reason.retryAfter))
      assert.isAtLeast(left, 15_000)
      assert.isAtMost(left, 15_300)
      yield* TestClock.adjust(left - 100)
      yield* Effect.flip(settled(tryAcquire(quorum)))
      yield* TestClock.adjust(100)
      assert.strictEqual(yield* outcomeOf(quorum), "Acquired")
    }))

  it.effect("are asked anew when they are connected anew, and a vote over a new connection does not count", () =>
    Effect.gen(function*() {
      const { nodes, quorum } = yield* quorumOf(["ok"])
      assert.strictEqual(yield* outcomeOf(quorum), "Acquired")
      const { node, state } = nodes[0]!
      // The driver sends the request once more, over a new connection, to a server that has just started.
      const resent: QuorumNode = {
        ...node,
        take: (take, timeout) =>
          Effect.map(node.take(take, timeout), (reply) => {
            state.connections++
            return reply
          })
      }
      const other = yield* Quorum.make([resent], settings)
      assert.strictEqual(yield* outcomeOf(other), "Unreachable")
      state.uptime = 0
      assert.strictEqual(yield* outcomeOf(quorum), "Throttled")
    }))

  it.effect("vote at once where they are said to forget nothing", () =>
    Effect.gen(function*() {
      const { nodes, quorum } = yield* quorumOf(["ok", "ok", "ok"], { restartGuard: false })
      for (const { state } of nodes) state.uptime = 0
      assert.strictEqual(yield* outcomeOf(quorum), "Acquired")
    }))
})

describe("a lease on a quorum", () => {
  it.effect("is renewed by a majority, lost when a majority does not have it, and else unknown", () =>
    Effect.gen(function*() {
      const { nodes, quorum } = yield* quorumOf(["ok", "ok", "ok", "ok", "ok"])
      const reply = yield* tryAcquire(quorum)
      assert(reply._tag === "Acquired")
      const outcomes: ReadonlyArray<readonly [ReadonlyArray<"Ok" | "Gone" | "Taken" | "silent">, string]> = [
        [["Ok", "Ok", "Ok", "silent", "silent"], "Renewed"],
        [["Ok", "Ok", "Ok", "Gone", "Taken"], "Renewed"],
        [["Ok", "Ok", "Gone", "Gone", "Gone"], "Gone"],
        [["Ok", "silent", "Gone", "Gone", "Taken"], "Taken"],
        [["Ok", "Ok", "silent", "silent", "silent"], "TimedOut"],
        [["Ok", "Ok", "Gone", "Gone", "silent"], "TimedOut"]
      ]
      for (const [renewals, outcome] of outcomes) {
        nodes.forEach(({ state }, index) => state.renewal = renewals[index]!)
        const result = yield* Effect.result(settled(renew(quorum, reply.handle)))
        const told = result._tag === "Failure"
          ? result.failure._tag
          : result.success._tag === "Lost"
          ? result.success.reason
          : result.success._tag
        assert.strictEqual(told, outcome, renewals.join())
      }
    }))

  it.effect("is given to masters that lack it, after a renewal, and not after its release", () =>
    Effect.gen(function*() {
      const { nodes, quorum } = yield* quorumOf(["ok", "ok", "ok"])
      const reply = yield* tryAcquire(quorum)
      assert(reply._tag === "Acquired")
      nodes[2]!.state.renewal = "Gone"
      yield* renew(quorum, reply.handle)
      yield* TestClock.adjust(0)
      const join = nodes[2]!.takes.at(-1)
      assert.deepStrictEqual(
        { mode: join?.mode, fence: String(join?.fence), metadata: join?.metadata },
        { mode: "join", fence: reply.handle, metadata: { a: "b" } }
      )
      const joins = nodes[2]!.takes.length
      yield* release(quorum)
      yield* renew(quorum, reply.handle)
      yield* TestClock.adjust(0)
      assert.strictEqual(nodes[2]!.takes.length, joins)
    }))

  it.effect("is released if a majority answers; what is still under way then ends with the layer", () =>
    Effect.gen(function*() {
      const { nodes, quorum } = yield* quorumOf(["ok", "ok", "ok"])
      yield* tryAcquire(quorum)
      nodes[0]!.state.answer = "silent"
      assert.strictEqual(yield* settled(release(quorum)), "Released")
      yield* tryAcquire(quorum)
      nodes[1]!.state.answer = "silent"
      assert.strictEqual((yield* Effect.flip(settled(release(quorum))))._tag, "TimedOut")
      const scope = yield* Scope.make()
      const own = yield* Scope.provide(Quorum.make(nodes.map(({ node }) => node), settings), scope)
      yield* Effect.flip(settled(tryAcquire(own)))
      assert.isAbove(own.stragglers.size, 0)
      yield* Scope.close(scope, yield* Effect.exit(Effect.void))
      assert.strictEqual(own.stragglers.size, 0)
    }))
})
