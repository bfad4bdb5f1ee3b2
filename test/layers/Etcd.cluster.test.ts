/**
 * Locks in a cluster of three, of which one member dies or is stopped while a lease is held.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope } from "effect"
import { LockBackend, withLock } from "effect-lock"
import { afterAll } from "vitest"
import { etcdCluster, type EtcdServer } from "../servers/EtcdServer.ts"
import { isInstalled } from "../servers/ServerProcess.ts"
import { answer, ask, backend, eventually, grantOf, holderOf, keysUnder } from "./internal/etcdLocks.ts"

const installed = isInstalled("etcd")
const scope = Scope.makeUnsafe()
afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))
const members: ReadonlyArray<EtcdServer> = installed
  ? await Effect.runPromise(Scope.provide(etcdCluster(), scope))
  : []

const isLeader = ({ url }: EtcdServer): Effect.Effect<boolean> =>
  Effect.map(
    Effect.timeoutOption(ask(url, "maintenance/status", {}), 500),
    (status) => status._tag === "Some" && status.value.leader === status.value.header.member_id
  ).pipe(Effect.catchDefect(() => Effect.succeed(false)))

/** The leader first. */
const byRole: Effect.Effect<ReadonlyArray<EtcdServer>> = Effect.gen(function*() {
  const leader = yield* eventually(
    "a leader",
    Effect.findFirst(members, isLeader),
    (leader) => leader._tag === "Some"
  )
  return leader._tag === "Some" ? [leader.value, ...members.filter((each) => each !== leader.value)] : []
})

const allWell = eventually(
  "three healthy members",
  Effect.forEach(
    members,
    ({ url }) =>
      Effect.promise(() =>
        fetch(`${url}/health`, { signal: AbortSignal.timeout(1000) }).then(
          async (response) => (await response.text()).includes("true"),
          () => false
        )
      )
  ),
  (healthy) => healthy.every((well) => well),
  60_000
)

// The ttl is what a busy machine can elect a leader in, with something to spare.
const ttl = "8 seconds"

const faults: ReadonlyArray<
  readonly [
    name: string,
    strike: (member: EtcdServer) => Effect.Effect<void>,
    mend: (member: EtcdServer) => Effect.Effect<void>
  ]
> = [
  ["killed", ({ kill }) => kill, ({ start }) => start],
  ["stopped", ({ signal }) => signal("SIGSTOP"), ({ signal }) => signal("SIGCONT")]
]

describe.skipIf(!installed)("a cluster of etcd", () => {
  for (const [what, strike, mend] of faults) {
    // A follower that was killed is just a connection that is refused.
    for (const role of what === "killed" ? ["leader"] as const : ["leader", "follower"] as const) {
      it.live(`keeps a lease while a ${role} is ${what} that the holder talks to, and gives the lock to the next`, () =>
        Effect.gen(function*() {
          const [leader, follower, other] = yield* byRole
          assert(leader !== undefined && follower !== undefined && other !== undefined)
          const victim = role === "leader" ? leader : follower
          // The one that is struck comes first, so it is the one that is asked.
          const endpoints = [victim, ...members.filter((each) => each !== victim)].map(({ url }) => url)
          const holder = yield* backend({ endpoints, namespace: `${what}-${role}` })
          const next = yield* backend({ endpoints: [...endpoints].reverse(), namespace: `${what}-${role}` })
          const released = yield* Scope.make()
          const lease = yield* withLock("k", { ttl }).pipe(
            Effect.provideService(LockBackend, holder.service),
            Scope.provide(released)
          )
          const waiter = yield* Effect.forkChild(
            withLock("k", { ttl, outageBudget: "60 seconds" }).pipe(Effect.provideService(LockBackend, next.service)),
            { startImmediately: true }
          )
          yield* strike(victim)
          yield* Effect.gen(function*() {
            // Longer than the ttl.
            for (let half = 0; half < 20; half++) {
              yield* Effect.sleep(500)
              yield* lease.check
            }
            assert.strictEqual((yield* holder.inspect())[0]?.ownerId, lease.ownerId)
            assert.strictEqual(waiter.pollUnsafe(), undefined)
            yield* Scope.close(released, Exit.void)
            const nextLease = yield* Fiber.join(waiter)
            assert.isTrue(nextLease.fencingToken._tag === "Some" && lease.fencingToken._tag === "Some")
            yield* nextLease.guard(Effect.void)
          }).pipe(Effect.ensuring(mend(victim)))
          yield* allWell
        }))
    }
  }

  it.live("is not believed where a leader that was stopped goes on, and keeps a lease alive that is not its to keep", () =>
    Effect.gen(function*() {
      const [leader, follower, other] = yield* byRole
      assert(leader !== undefined && follower !== undefined && other !== undefined)
      let stale: Effect.Effect<string> | undefined
      const endpoints = [follower.url, other.url]
      const holder = yield* backend({ endpoints, namespace: "stale" }, (path, _body, send) => {
        if (path !== "lease/keepalive" || stale === undefined) return send
        const answered = stale
        stale = undefined
        return Effect.map(answered, (text) => answer(text))
      })
      const { handle } = grantOf(yield* holder.tryAcquire("a", { ttl: 30_000 }))
      const [key] = yield* keysUnder(follower.url, "effect-lock/stale/locks/")
      yield* leader.signal("SIGSTOP")
      const asked = fetch(`${leader.url}/v3/lease/keepalive`, {
        method: "POST",
        body: JSON.stringify({ ID: key?.lease })
      })
        .then((response) => response.text(), (error) => JSON.stringify({ code: 14, message: String(error) }))
      yield* Effect.gen(function*() {
        yield* eventually("a new leader", Effect.findFirst([follower, other], isLeader), ({ _tag }) => _tag === "Some")
        // The new leader's time for the lease is running by now.
        yield* Effect.sleep(6000)
        stale = Effect.andThen(leader.signal("SIGCONT"), Effect.promise(() => asked))
        const renewal = yield* holder.renew("a", handle, { ttl: 30_000 })
        assert.strictEqual(renewal._tag, "Renewed")
        assert.isUndefined(stale, "it was not asked")
        const { TTL } = yield* ask(follower.url, "lease/timetolive", { ID: key?.lease })
        assert.isAbove(Number(TTL), 26)
      }).pipe(Effect.ensuring(leader.signal("SIGCONT")))
      yield* allWell
      yield* holder.release("a", handle)
    }))

  it.live("gives nothing without a majority, and goes on when it is back", () =>
    Effect.gen(function*() {
      const [leader, follower, other] = yield* byRole
      assert(leader !== undefined && follower !== undefined && other !== undefined)
      const endpoints = members.map(({ url }) => url)
      const a = yield* backend({ endpoints, namespace: "minority" })
      const b = yield* backend({ endpoints, namespace: "minority" })
      const { handle } = grantOf(yield* a.tryAcquire("a", { ttl: 60_000 }))
      const brief = { budget: 1500 }
      yield* follower.kill
      yield* other.signal("SIGSTOP")
      yield* Effect.gen(function*() {
        for (const refused of [b.tryAcquire("b", brief), a.renew("a", handle, brief)]) {
          const error = yield* Effect.flip(refused as Effect.Effect<unknown, { readonly isRetryable: boolean }>)
          assert.isTrue(error.isRetryable)
        }
      }).pipe(Effect.ensuring(Effect.andThen(other.signal("SIGCONT"), follower.start)))
      yield* allWell
      assert.strictEqual(holderOf(yield* b.tryAcquire("c")), "a")
      assert.strictEqual((yield* a.renew("a", handle))._tag, "Renewed")
      yield* b.release("b", undefined, { unanswered: true })
      yield* a.release("a", handle)
    }))
})
