/**
 * A lock's record as the server has it, as a holder.
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type { Holder } from "../../Holder.ts"
import { integerOf } from "./redisAnswer.ts"
import { unescapeOwner } from "./redisKeys.ts"

/** The holder that a record names; `undefined` if there is none, or if it is no record. `left` is PTTL's answer. */
export const holderOf = (record: unknown, left: unknown): Holder | undefined => {
  if (typeof record !== "string") return undefined
  const [, owner, fence, since, metadata] = format.exec(record) ?? []
  if (owner === undefined || fence === undefined || since === undefined || metadata === undefined) return undefined
  const millis = integerOf(left) ?? -1
  return {
    ownerId: unescapeOwner(owner),
    since: DateTime.make(Math.floor(Number(since) / 1000)),
    remaining: millis >= 0 ? Option.some(Duration.millis(millis)) : Option.none(),
    fencingToken: Option.some(BigInt(fence)),
    metadata: metadata === "{}" ? {} : Result.getOrElse(decodeMetadata(metadata), () => ({}))
  }
}

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const format = /^1\|([^|]*)\|(\d{1,19})\|(\d{1,19})\|[a-z]\|([^]*)$/

const decodeMetadata = Schema.decodeUnknownResult(Schema.fromJsonString(Schema.Record(Schema.String, Schema.String)))
