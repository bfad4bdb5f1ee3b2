/**
 * Waiting for a lock's key to be deleted, by a watch; released, revoked and expired all are deletions.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Base64 from "effect/encoding/Base64"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import { Protocol, Unreachable } from "../../LockError.ts"
import { code, type EtcdFailure, EtcdStatus, isStaleLogin, isTransient, statusOf } from "./etcdFailure.ts"
import {
  forgetLogin,
  type Gateway,
  Header,
  leave,
  limitsOf,
  loginOf,
  longestAttempt,
  request,
  secretsOf
} from "./etcdGateway.ts"
import * as Requests from "./etcdRequests.ts"
import { longestBody, open } from "./httpExchange.ts"

/** How long one watch is believed, in milliseconds: the member that serves it may have been cut off. */
export const longestWatch = 60_000

/**
 * Ends when nobody has the lock, or somebody had it and has it no more.
 *
 * First it looks, because what was released since the refusal is not deleted again; then it watches from the very next
 * revision, so nothing lies between. A watch whose start was compacted away, or that has been open for long, starts anew.
 */
export const awaitTurn = (gateway: Gateway, path: string): Effect.Effect<void, EtcdFailure> =>
  Effect.gen(function*() {
    while (true) {
      const limits = yield* limitsOf(Duration.millis(3 * longestAttempt))
      const { found, revision } = yield* Requests.look(gateway, limits, path)
      if (found === undefined) return
      const token = yield* loginOf(gateway, limits)
      const member = gateway.preferred
      const end = yield* watch(gateway, member, token, path, revision + 1n).pipe(
        Effect.timeoutOrElse({ duration: longestWatch, orElse: () => Effect.succeed<End>("again") }),
        Effect.tapError((failure) =>
          Effect.sync(() => {
            if (isTransient(failure)) leave(gateway, member)
            if (isStaleLogin(failure)) forgetLogin(gateway, token)
          })
        )
      )
      if (end === "deleted") return
    }
  })

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

type End = "deleted" | "again"

const watch = (
  gateway: Gateway,
  member: number,
  token: string | undefined,
  path: string,
  from: bigint
): Effect.Effect<End, EtcdFailure> => {
  const body = { create_request: { key: Base64.encode(path), start_revision: from.toString(), filters: ["NOPUT"] } }
  const opened = open(gateway.client, request(gateway, member, { path: "watch", body, token })).pipe(
    // The head of the answer comes with the first message, which says that the watch is there.
    Effect.timeoutOrElse({
      duration: longestAttempt,
      orElse: () => Effect.fail(new Unreachable({ detail: "the watch was not opened in time" }))
    })
  )
  const secrets = secretsOf(gateway, token)
  return Effect.flatMap(opened, ({ bytes: all, status }) => {
    const bytes = bounded(all)
    return status === 200
      ? bytes.pipe(
        Stream.decodeText,
        Stream.splitLines,
        Stream.filter((line) => line.trim() !== ""),
        Stream.mapEffect((line) => endOf(line, secrets)),
        Stream.filter((end) => end !== undefined),
        Stream.runHead,
        Effect.flatMap((end) =>
          Option.isSome(end)
            ? Effect.succeed(end.value)
            : Effect.fail<EtcdFailure>(new Unreachable({ detail: "the watch was closed" }))
        )
      )
      : Effect.flatMap(
        Stream.mkString(Stream.decodeText(bytes)),
        (text) => Effect.fail(statusOf(status, text, secrets))
      )
  })
}

// A line that does not end would be kept in memory as long as the watch is believed.
const bounded = (bytes: Stream.Stream<Uint8Array, EtcdFailure>): Stream.Stream<Uint8Array, EtcdFailure> =>
  Stream.suspend(() => {
    let size = 0
    return Stream.mapEffect(bytes, (chunk) => {
      size += chunk.length
      return size > longestBody
        ? Effect.fail(new Protocol({ detail: `the watch says more than ${longestBody} bytes` }))
        : Effect.succeed(chunk)
    })
  })

// What one message ends the watch with, if it does.
const endOf = (line: string, secrets: ReadonlyArray<string>): Effect.Effect<End | undefined, EtcdFailure> => {
  const message = decodeMessage(line)
  if (Option.isNone(message)) return Effect.fail(statusOf(200, line, secrets))
  const { canceled = false, cancel_reason = "", compact_revision = "0", events = [] } = message.value.result
  if (events.length > 0) return Effect.succeed("deleted")
  if (!canceled) return Effect.undefined
  if (compact_revision !== "0") return Effect.succeed("again")
  return Effect.fail(
    /permission denied/i.test(cancel_reason)
      ? new EtcdStatus({ code: code.denied, message: "etcdserver: permission denied" })
      : new Protocol({ detail: "the watch was refused" })
  )
}

const decodeMessage = Schema.decodeUnknownOption(
  Schema.fromJsonString(
    Schema.Struct({
      result: Schema.Struct({
        header: Header,
        canceled: Schema.optionalKey(Schema.Boolean),
        cancel_reason: Schema.optionalKey(Schema.String),
        compact_revision: Schema.optionalKey(Schema.String),
        events: Schema.optionalKey(Schema.Array(Schema.Unknown))
      })
    })
  )
)
