/**
 * How to talk to the register: a counter in a process of its own (`register.ts`), which is what the lock protects.
 *
 * The register knows nothing of locks. It remembers the highest fencing token that it was shown and refuses a write
 * that comes with a lower one; that is all a resource has to do.
 */
import * as NodeSocket from "@effect/platform-node/NodeSocket"
import { Context, Layer, Schema } from "effect"
import { Rpc, RpcClient, type RpcClientError, RpcGroup, RpcSerialization } from "effect/rpc"

/** Absent where a worker has no lock: then there is nothing that could be compared. */
export const Fence = Schema.Option(Schema.BigInt)

export const Outcome = Schema.Literals(["accepted", "refused"])

/** One attempt to write, as the register saw it. */
export const Attempt = Schema.Struct({ worker: Schema.String, fence: Fence, outcome: Outcome })
export type Attempt = typeof Attempt.Type

/** What the register has to say at the end. */
export const Ledger = Schema.Struct({ value: Schema.Int, attempts: Schema.Array(Attempt) })
export type Ledger = typeof Ledger.Type

export const Calls = RpcGroup.make(
  // Reading shows the token too. From then on an older holder can't write: without that, its late write could still
  // slip in between the new holder's read and write, and be overwritten.
  Rpc.make("read", { payload: { fence: Fence }, success: Schema.Int }),
  Rpc.make("write", {
    payload: { worker: Schema.String, fence: Fence, value: Schema.Int },
    success: Schema.Struct({ outcome: Outcome, highest: Fence })
  })
)

/** A path relative to the directory that all processes of the demonstration run in. */
export const socket = "register.sock"

export class Register extends Context.Service<
  Register,
  RpcClient.FromGroup<typeof Calls, RpcClientError.RpcClientError>
>()("kill-and-pause/Register") {
  static readonly layer = Layer.effect(Register, RpcClient.make(Calls)).pipe(
    // A worker that was paused must not take its own silence for a dead connection.
    Layer.provide(RpcClient.layerProtocolSocket({ pingInterval: "1 minute" })),
    Layer.provide([NodeSocket.layerNet({ path: socket }), RpcSerialization.layerNdjson])
  )
}
