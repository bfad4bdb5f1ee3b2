/**
 * Waiting for a lock to be given back: a watch on its one object.
 *
 * The watch begins at the resourceVersion at which the waiter was refused, so nothing in between is missed. It tells of
 * releases only; that a holder died, nobody writes down: polls find out, and the watch spares them the first look.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"
import * as Lease from "../../Lease.ts"
import { type BackendReason, Protocol, TimedOut, Unreachable } from "../../LockError.ts"
import { longestBody, open } from "./httpExchange.ts"
import { authorized, urlOf } from "./kubernetesApi.ts"
import * as Failure from "./kubernetesFailure.ts"
import { read } from "./kubernetesGrant.ts"
import { holderIdentity, LeaseObject } from "./kubernetesLease.ts"
import * as Store from "./kubernetesStore.ts"
import type { Target } from "./kubernetesWrite.ts"

/** How long one watch lasts before the server ends it, in seconds: a connection that died unnoticed is replaced. */
export const watchSeconds = 240

/** Ends when the lock may be free. */
export const awaitTurn = (
  store: Store.Store,
  request: { readonly key: string; readonly ownerId: string }
): Effect.Effect<void, BackendReason> =>
  Effect.gen(function*() {
    const target = yield* Store.targetOf(store, request.key)
    const clock = yield* Effect.clockWith(Effect.succeed)
    let from = store.refused.get(request.ownerId)
    // Watches that end at once are not followed into a busy loop: the polls go on without.
    let inVain = 0
    while (inVain < mostInVain) {
      if (from === undefined) {
        const seen = yield* read(store, target, patience)
        if (seen.lease === undefined || Store.judge(store, seen.lease, seen)._tag !== "Held") return
        from = seen.lease.metadata.resourceVersion
      }
      const since = Lease.stamp(clock).monotonic
      const watch: Watch = { from, turn: false }
      yield* follow(store, target, watch)
      if (watch.turn) return
      inVain = Lease.stamp(clock).monotonic - since < leastWatch ? inVain + 1 : 0
      // What happened while nobody watched is read, not guessed.
      from = undefined
    }
    return yield* new Unreachable({ detail: "the API server ends each watch at once" })
  })

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const patience = Duration.seconds(10)
const mostInVain = 3
const leastWatch = 1000

interface Watch {
  readonly from: string
  /** The lock may be free. */
  turn: boolean
}

const decodeEvent = Schema.decodeUnknownOption(Schema.fromJsonString(Schema.Struct({
  type: Schema.String,
  object: Schema.Unknown
})))
const decodeLease = Schema.decodeUnknownOption(LeaseObject)
const decodeFailure = Schema.decodeUnknownOption(Schema.Struct({ code: Schema.Number }))

// Until the turn has come, or the watch has ended, whoever ended it.
const follow = (store: Store.Store, { place }: Target, watch: Watch): Effect.Effect<void, BackendReason> => {
  const { api } = store
  const request = HttpClientRequest.get(urlOf(api), {
    acceptJson: true,
    urlParams: {
      watch: "1",
      fieldSelector: `metadata.name=${place.name}`,
      resourceVersion: watch.from,
      allowWatchBookmarks: "true",
      timeoutSeconds: String(watchSeconds)
    }
  })
  // An answer that nobody reads keeps its connection.
  const attempt = (request: HttpClientRequest.HttpClientRequest) =>
    Effect.tap(
      open(api.client, request),
      ({ bytes, status }) => status === 401 || status === 410 ? Stream.runDrain(bytes) : Effect.void
    )
  const opened = Effect.timeoutOrElse(authorized(api, request, attempt), {
    duration: patience,
    orElse: () => Effect.fail(new TimedOut({ after: patience, detail: "no answer to a watch" }))
  })
  return Effect.flatMap(opened, ({ result, secret }) => {
    // Too old to begin at: like an end.
    if (result.status === 410) return Effect.void
    const lines = bounded(result.bytes).pipe(Stream.decodeText, Stream.splitLines)
    if (result.status !== 200) {
      const said = result.status === 401 ? Effect.succeed("") : saidBy(result.bytes)
      return Effect.flatMap(said, (body) =>
        Effect.fail(Failure.reasonOf({ ...result, body }, {
          verb: "watch",
          kubernetesNamespace: api.kubernetesNamespace,
          secret
        })))
    }
    return lines.pipe(
      Stream.mapEffect((line) => onLine(store, watch, line)),
      Stream.takeUntil((over) => over),
      Stream.runDrain,
      Effect.timeoutOrElse({
        duration: Duration.seconds(watchSeconds + 30),
        orElse: () => Effect.void
      })
    )
  })
}

// A line that does not end would be kept in memory as long as the watch lasts.
const bounded = (bytes: Stream.Stream<Uint8Array, BackendReason>): Stream.Stream<Uint8Array, BackendReason> =>
  Stream.suspend(() => {
    let unended = 0
    return Stream.mapEffect(bytes, (chunk) => {
      const end = chunk.lastIndexOf(lineFeed)
      unended = end < 0 ? unended + chunk.length : chunk.length - end - 1
      return unended > longestBody ? Effect.fail(tooLong) : Effect.succeed(chunk)
    })
  })

const lineFeed = 0x0a
const tooLong = new Protocol({ detail: `a line of the watch is longer than ${longestBody} bytes` })

// What a refusal says, as far as it says it at once.
const saidBy = (bytes: Stream.Stream<Uint8Array, BackendReason>): Effect.Effect<string, BackendReason> =>
  Effect.suspend(() => {
    let size = 0
    return bytes.pipe(
      Stream.takeUntil((chunk) => (size += chunk.length) > longestBody),
      Stream.decodeText,
      Stream.mkString,
      Effect.timeoutOrElse({ duration: patience, orElse: () => Effect.succeed("") })
    )
  })

// Whether the watch is over.
const onLine = (store: Store.Store, watch: Watch, line: string): Effect.Effect<boolean, BackendReason> =>
  Effect.clockWith((clock): Effect.Effect<boolean, BackendReason> => {
    if (line === "") return Effect.succeed(false)
    const event = Option.getOrUndefined(decodeEvent(line))
    if (event === undefined) return Effect.fail(Failure.unreadable("watch event"))
    switch (event.type) {
      case "ADDED":
      case "MODIFIED": {
        const lease = Option.getOrUndefined(decodeLease(event.object))
        if (lease === undefined) return Effect.fail(Failure.unreadable("Lease"))
        watch.turn = holderIdentity(lease) === undefined
        if (!watch.turn) Store.sight(store, lease, Lease.stamp(clock))
        return Effect.succeed(watch.turn)
      }
      case "DELETED":
        watch.turn = true
        return Effect.succeed(true)
      case "ERROR":
        return Option.exists(decodeFailure(event.object), ({ code }) => code === 410)
          ? Effect.succeed(true)
          : Effect.fail(new Unreachable({ detail: "the API server ended a watch with an error" }))
      default:
        // Bookmarks, which only say that nothing happened, and what is not known yet.
        return Effect.succeed(false)
    }
  })
