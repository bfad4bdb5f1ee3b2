/** `npm run leaks` in small. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { isInstalled } from "../servers/ServerProcess.ts"
import { grounds } from "./ground.ts"
import { manyLeases, outage } from "./load.ts"
import { measure, slopeOf } from "./measure.ts"

// The whole of it counts single bytes. So few cycles tell what is counted, leases, keys, connections, to the last one; of
// the heap, in which code is still being compiled, only what keeps some kilobytes of each cycle.
const amounts = { cycles: 400, interrupted: 200, failed: 50, waiters: 200 }
const mostBytes = 1_200_000

describe("leaks", () => {
  for (const ground of grounds) {
    it.live.skipIf(ground.program !== undefined && !isInstalled(ground.program))(
      `${ground.name}: cycles, interruptions, failures and a crowd leave everything as it was`,
      () =>
        Effect.gen(function*() {
          // A commit of etcd is a flush of the disk.
          const cycles = ground.name === "etcd" ? 100 : amounts.cycles
          const { bytesPerCycle, callsPerAcquisition, left } = yield* measure(ground, {
            ...amounts,
            cycles,
            allowed: mostBytes / cycles
          })
          assert.deepStrictEqual(left, [])
          assert.isAtMost(callsPerAcquisition, 6, "calls of the backend per acquisition")
          assert.isAtMost(bytesPerCycle * cycles, mostBytes, "bytes of heap")
        }),
      120_000
    )
  }

  it.live("10,000 leases are held, renewed, given back, and forgotten", () =>
    Effect.gen(function*() {
      const { bytesLeft, lost, renewalsPerSecond } = yield* manyLeases(10_000, 10_000)
      assert.isAbove(renewalsPerSecond, 0)
      assert.strictEqual(lost, 0)
      assert.isAtMost(bytesLeft, 200, "bytes left per lease")
    }), 120_000)

  it.live.skipIf(!isInstalled("redis-server"))(
    "with the server gone, 5,000 waiters ask a few times a second, and all are served when it is back",
    () =>
      Effect.gen(function*() {
        const redis = grounds.find(({ name }) => name === "redis")!
        const { bytesPerWaiter, callsPerSecond, failed } = yield* outage(redis, 5000, 1500)
        assert.isAtMost(callsPerSecond, 50)
        assert.strictEqual(failed, 0)
        assert.isAtMost(bytesPerWaiter, 200)
      }),
    120_000
  )

  it("the slope is that of the line, whatever one point says", () => {
    const line: ReadonlyArray<readonly [number, number]> = [[0, 5], [1, 7], [2, 9], [3, 11], [4, 13], [5, 15]]
    assert.strictEqual(slopeOf(line), 2)
    assert.strictEqual(slopeOf(line.with(2, [2, 1e6])), 2)
  })
})
