/**
 * The register's process. Says "listening" when it can be called; when its standard input ends it prints its ledger and
 * ends too, so it can't outlive the program that started it.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as NodeSocketServer from "@effect/platform-node/NodeSocketServer"
import { Console, Effect, Layer, Option, Schema, Stdio, Stream } from "effect"
import { RpcSerialization, RpcServer } from "effect/rpc"
import { type Attempt, Calls, Ledger, socket } from "./registerProtocol.ts"

let value = 0
let highest = Option.none<bigint>()
const attempts: Array<Attempt> = []

const show = (fence: Option.Option<bigint>) => {
  if (isStale(fence)) return
  if (Option.isSome(fence)) highest = fence
}

const isStale = (fence: Option.Option<bigint>): boolean =>
  Option.isSome(fence) && Option.isSome(highest) && fence.value < highest.value

const calls = Calls.toLayer({
  read: ({ fence }) =>
    Effect.sync(() => {
      show(fence)
      return value
    }),
  write: (write) =>
    Effect.sync(() => {
      const outcome = isStale(write.fence) ? "refused" : "accepted"
      attempts.push({ worker: write.worker, fence: write.fence, outcome })
      if (outcome === "accepted") value = write.value
      show(write.fence)
      return { outcome, highest }
    })
})

const server = RpcServer.layer(Calls).pipe(
  Layer.provide(calls),
  Layer.provide(RpcServer.layerProtocolSocketServer),
  Layer.provide([NodeSocketServer.layer({ path: socket }), RpcSerialization.layerNdjson])
)

const untilInputEnds = Effect.gen(function*() {
  yield* Console.log("listening")
  const stdio = yield* Stdio.Stdio
  yield* Stream.runDrain(stdio.stdin)
  yield* Console.log(Schema.encodeSync(Schema.fromJsonString(Schema.toCodecJson(Ledger)))({ value, attempts }))
})

untilInputEnds.pipe(Effect.provide([server, NodeServices.layer]), NodeRuntime.runMain)
