import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as Redis from "effect-lock/layers/Redis"
import { faultProxy } from "../servers/FaultProxy.ts"
import { redisServer } from "../servers/RedisServer.ts"
import { serverProcess } from "../servers/ServerProcess.ts"
import { tcpAnswer } from "../servers/tcpAnswer.ts"
import { inTime, isInstalled, tokenOf, until, verbs, visitor } from "./redis/redisLocks.ts"

/** A Sentinel that looks after one master, and takes it for down when it is silent for longer than a busy machine is. */
const sentinel = (master: number) =>
  serverProcess({
    name: "sentinel",
    command: ({ directory, port }) => [
      "sh",
      "-c",
      `printf 'port ${port}\\nbind 127.0.0.1\\ndir ${directory}\\nsentinel monitor main 127.0.0.1 ${master} 1\\n`
      + `sentinel down-after-milliseconds main 1000\\nsentinel failover-timeout main 5000\\n' > sentinel.conf;`
      + "exec redis-server sentinel.conf --sentinel"
    ],
    answers: (port) => Effect.map(tcpAnswer(port, "PING\r\n"), (said) => said.startsWith("+PONG"))
  })

const startPair = Effect.gen(function*() {
  const master = yield* redisServer("--repl-diskless-sync-delay", "0")
  const replication = yield* faultProxy(master.port)
  const replica = yield* redisServer("--replicaof", "127.0.0.1", String(replication.port))
  const look = yield* visitor(replica.port)
  const linked = Effect.map(look.call("INFO", "replication"), (info) => /master_link_status:up/.test(String(info)))
  yield* until("the replica follows", linked)
  // Eight seconds after it has met the replica, it would have it follow the master itself, past the proxy.
  const { port } = yield* sentinel(master.port)
  const watcher = yield* visitor(port)
  const knows = Effect.map(
    watcher.call("SENTINEL", "REPLICAS", "main"),
    (replicas) => JSON.stringify(replicas).includes(String(replica.port))
  )
  yield* until("the Sentinel knows the replica", knows)
  const options = { sentinels: [{ host: "127.0.0.1", port }], name: "main" }
  return { master, replication, visitor: look, options }
})

describe.skipIf(!isInstalled("redis-server"))("a failover by Sentinel", { concurrent: true }, () => {
  it.live("a lock that was replicated is still held, and renewed on the new master", () =>
    Effect.gen(function*() {
      const { master, options, visitor } = yield* startPair
      const backend = yield* Redis.make({ options })
      const locks = verbs(backend)
      const { handle } = yield* locks.acquire("a")
      assert.match(backend.capabilities.fencing.grade, /conditional/)
      yield* until("it is replicated", Effect.map(visitor.keys, (keys) => keys.includes("lock::{k}")))
      yield* master.kill
      const renewed = Effect.match(locks.renew("a", handle), {
        onSuccess: ({ _tag }) => _tag === "Renewed",
        onFailure: () => false
      })
      yield* until("it is renewed", renewed)
      assert.strictEqual((yield* locks.tryAcquire("b"))._tag, "Held")
    }))

  it.live("a lock that was not replicated is gone: its holder learns it, and the next token is larger", () =>
    Effect.gen(function*() {
      const { master, options, replication, visitor } = yield* startPair
      const locks = verbs(yield* Redis.make({ options }))
      // The last writes are lost with the master.
      yield* replication.set({ loseReplies: true })
      const first = yield* locks.acquire("a")
      yield* master.kill
      const second = yield* inTime(
        "the new master grants",
        Effect.eventually(locks.acquire("b"))
      )
      assert.isTrue(tokenOf(second) > tokenOf(first), `${tokenOf(second)} after ${tokenOf(first)}`)
      assert.strictEqual((yield* locks.renew("a", first.handle))._tag, "Lost")
      assert.include(yield* visitor.keys, "lock::{k}")
    }))
})
