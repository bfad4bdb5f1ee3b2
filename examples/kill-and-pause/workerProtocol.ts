/**
 * What a worker reports (one line of JSON each on its standard output) and what it can be told (on its standard input).
 * `at` and `until` are moments on the host's clock.
 */
import { Schema } from "effect"
import { Fence, Outcome } from "./registerProtocol.ts"

const at = Schema.Finite

export const WorkerEvent = Schema.TaggedUnion({
  /** It asks for the lock. */
  Waits: { at },
  /** It has the lock (or works without one). `trustedUntil`: its lease is trusted until then, unless it is renewed. */
  Holds: { at, fence: Fence, trustedUntil: Schema.Number },
  /** Its lease was renewed. */
  Renewed: { at, trustedUntil: Schema.Number },
  /** It has read the register, has not written yet, and stays there, as it was told. */
  Lingers: { at, read: Schema.Int },
  /** The register answered its write. `late`: the write comes after it lingered. */
  Wrote: { at, fence: Fence, value: Schema.Int, outcome: Outcome, highest: Fence, late: Schema.Boolean },
  /** It stopped to use the lock at `until`; the release comes after that. `lost`: its lease was lost, and why. */
  Ended: { at, until: Schema.Finite, lost: Schema.Option(Schema.String) }
})
export type WorkerEvent = typeof WorkerEvent.Type

export const WorkerCommand = Schema.Literals([
  /** In your next hold, stay between the read and the write. */
  "linger",
  /** Go on, you that linger without a lock: there is no lease whose loss could end it. */
  "proceed",
  /** End after the present hold. */
  "finish"
])
export type WorkerCommand = typeof WorkerCommand.Type

const line = Schema.fromJsonString(Schema.toCodecJson(WorkerEvent))
export const encodeEvent = Schema.encodeSync(line)
export const decodeEvent = Schema.decodeEffect(line)
