/**
 * The calls of the JSON API that a lock is made of: each one request, bounded in time, interruptible, conditional.
 *
 * An unmet condition (412) and a missing object (404) are answers. Everything else that is no success is a failure.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Hex from "effect/encoding/Hex"
import type * as HttpClient from "effect/http/HttpClient"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import { type BackendReason, TimedOut } from "../../LockError.ts"
import type { Access } from "./gcsAccess.ts"
import { foreign, type Method, reasonOf, undecodable } from "./gcsFailure.ts"
import { decode, encode, fields, type LockObject, type LockRecord, Resource } from "./gcsRecord.ts"
import { type Exchange, exchange } from "./httpExchange.ts"

/** Where and how requests are sent. */
export interface Service {
  readonly client: HttpClient.HttpClient
  readonly access: Access
  readonly bucket: string
  readonly userProject: string | undefined
}

/** What is left for the requests of one verb: each takes a third of its budget at most, all together no more than it. */
export interface Budget {
  readonly most: number
  readonly until: number
}

/** The condition of a change: the version of the object that it was decided for. Generation 0: there is none. */
export interface Condition {
  readonly generation: bigint
  readonly metageneration?: bigint | undefined
}

/** An object, or why there is none to show; `date`: the server's clock at the answer, NaN if it did not tell. */
export type Answer =
  | { readonly _tag: "Found"; readonly object: LockObject; readonly date: number }
  | { readonly _tag: "Missing" }
  | { readonly _tag: "Mismatch" }

/** Starts the budget of a verb. */
export const start = (budget: Duration.Duration): Effect.Effect<Budget> =>
  Effect.map(monotonic, (now): Budget => {
    const millis = Duration.toMillis(budget)
    return { most: millis / 3, until: now + millis }
  })

/** Writes the object anew: a fresh one (generation 0), or over the version that was seen. */
export const insert = (
  self: Service,
  budget: Budget,
  name: string,
  condition: Condition,
  record: LockRecord
): Effect.Effect<Answer, BackendReason> =>
  Effect.suspend(() => {
    const resource = {
      name,
      contentType: "application/octet-stream",
      cacheControl: "no-store",
      metadata: encode(record, freshId())
    }
    // JSON has no raw line breaks, so the boundary can't be part of it.
    const body = [
      `--${boundary}`,
      "Content-Type: application/json; charset=UTF-8",
      "",
      JSON.stringify(resource),
      `--${boundary}`,
      "Content-Type: application/octet-stream",
      "",
      "",
      `--${boundary}--`,
      ""
    ].join("\r\n")
    const request = HttpClientRequest.post(
      url(self, `upload/storage/v1/b/${encodeURIComponent(self.bucket)}/o`, {
        uploadType: "multipart",
        name,
        ...objectQuery,
        ...conditionQuery(condition)
      })
    ).pipe(HttpClientRequest.bodyText(body, `multipart/related; boundary=${boundary}`), once)
    return Effect.flatMap(send(self, budget, request), (answer) => objectIn(self, "insert", name, answer))
  })

/** Reads the object. */
export const get = (self: Service, budget: Budget, name: string): Effect.Effect<Answer, BackendReason> =>
  Effect.flatMap(
    send(self, budget, HttpClientRequest.get(url(self, objectPath(self, name), objectQuery))),
    (answer) => objectIn(self, "get", name, answer)
  )

/** Changes fields of the object's metadata and leaves the others. Always sets a fresh `seq`, so it is always a change. */
export const patch = (
  self: Service,
  budget: Budget,
  name: string,
  condition: Condition,
  changes: Readonly<Record<string, string>> = {}
): Effect.Effect<Answer, BackendReason> =>
  Effect.suspend(() => {
    const request = HttpClientRequest.patch(
      url(self, objectPath(self, name), { ...objectQuery, ...conditionQuery(condition) })
    ).pipe(
      HttpClientRequest.bodyText(JSON.stringify({ metadata: { ...changes, seq: freshId() } }), "application/json"),
      once
    )
    return Effect.flatMap(send(self, budget, request), (answer) => objectIn(self, "patch", name, answer))
  })

/** Deletes the object. */
export const remove = (
  self: Service,
  budget: Budget,
  name: string,
  condition: Condition
): Effect.Effect<"Deleted" | "Missing" | "Mismatch", BackendReason> =>
  Effect.suspend(() => {
    const request = once(
      HttpClientRequest.make("DELETE")(url(self, objectPath(self, name), conditionQuery(condition)))
    )
    return Effect.flatMap(send(self, budget, request), (answer) => {
      if (answer.status === 204 || answer.status === 200) return Effect.succeed("Deleted")
      if (answer.status === 404) return Effect.succeed("Missing")
      if (answer.status === 412) return Effect.succeed("Mismatch")
      return Effect.fail(reasonOf("delete", self.bucket, answer))
    })
  })

/** One page of the locks whose names start with `prefix`; what is no lock of ours is left out. */
export const list = (
  self: Service,
  prefix: string,
  page: string | undefined
): Effect.Effect<
  { readonly objects: ReadonlyArray<LockObject>; readonly date: number; readonly next: string | undefined },
  BackendReason
> =>
  Effect.flatMap(start(listBudget), (budget) => {
    const request = HttpClientRequest.get(url(self, `storage/v1/b/${encodeURIComponent(self.bucket)}/o`, {
      prefix,
      // With 8 KiB of metadata each, a page stays far below what is read of an answer.
      maxResults: "200",
      fields: `nextPageToken,items(${fields})`,
      projection: "noAcl",
      ...(page === undefined ? {} : { pageToken: page })
    }))
    return Effect.flatMap(send(self, budget, request), (answer) => {
      if (answer.status !== 200) return Effect.fail(reasonOf("list", self.bucket, answer))
      return Option.match(decodePage(answer.body), {
        onNone: () => Effect.fail(undecodable("list")),
        onSome: ({ items, nextPageToken }) =>
          Effect.succeed({
            objects: (items ?? []).flatMap((item) => decode(item) ?? []),
            date: dateOf(answer),
            next: nextPageToken
          })
      })
    })
  })

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const boundary = "effect-lock-part"

const listBudget = Duration.seconds(30)

const monotonic = Effect.map(Clock.monotonicTimeNanos, (nanos) => Number(nanos) / 1e6)

const freshId = (): string => Hex.encode(globalThis.crypto.getRandomValues(new Uint8Array(8)))

// A fresh token for each change: something on the way that repeats a request gets the answer to the first, and a
// renewal is never answered with the memory of an earlier one.
const once = (request: HttpClientRequest.HttpClientRequest): HttpClientRequest.HttpClientRequest =>
  HttpClientRequest.setHeader(request, "x-goog-gcs-idempotency-token", globalThis.crypto.randomUUID())

const objectQuery = { fields, projection: "noAcl" } as const

const conditionQuery = ({ generation, metageneration }: Condition): Readonly<Record<string, string>> => ({
  ifGenerationMatch: String(generation),
  ...(metageneration === undefined ? {} : { ifMetagenerationMatch: String(metageneration) })
})

const objectPath = ({ bucket }: Service, name: string): string =>
  `storage/v1/b/${encodeURIComponent(bucket)}/o/${encodeURIComponent(name)}`

const url = ({ access, userProject }: Service, path: string, query: Readonly<Record<string, string>>): string => {
  const all = { ...query, prettyPrint: "false", ...(userProject === undefined ? {} : { userProject }) }
  const encoded = Object.entries(all).map(([name, value]) => `${name}=${encodeURIComponent(value)}`)
  return `${access.endpoint}/${path}?${encoded.join("&")}`
}

// Getting credentials may ask the network, so it is part of what is bounded.
const send = (
  self: Service,
  budget: Budget,
  request: HttpClientRequest.HttpClientRequest
): Effect.Effect<Exchange, BackendReason> =>
  Effect.flatMap(monotonic, (now) => {
    const timeout = Duration.millis(Math.min(budget.most, budget.until - now))
    const tooLate = () =>
      Effect.fail(new TimedOut({ detail: `no answer within ${Duration.format(timeout)}`, after: timeout }))
    if (Duration.toMillis(timeout) <= 0) return tooLate()
    const attempt = Effect.gen(function*() {
      const headers = yield* self.access.headers
      const answer = yield* exchange(self.client, HttpClientRequest.setHeaders(request, headers), timeout)
      if (answer.status !== 401) return answer
      // They may have been renewed meanwhile. The same ones again would be refused again.
      const renewed = yield* self.access.headers
      return renewed["authorization"] === headers["authorization"]
        ? answer
        : yield* exchange(self.client, HttpClientRequest.setHeaders(request, renewed), timeout)
    })
    return Effect.timeoutOrElse(attempt, { duration: timeout, orElse: tooLate })
  })

const dateOf = ({ headers }: Exchange): number => Date.parse(headers["date"] ?? "")

const objectIn = (
  self: Service,
  method: Method,
  name: string,
  answer: Exchange
): Effect.Effect<Answer, BackendReason> => {
  if (answer.status === 200) {
    return Option.match(decodeResource(answer.body), {
      onNone: () => Effect.fail(undecodable(method)),
      onSome: (resource) => {
        if (resource.name !== name) return Effect.fail(undecodable(method))
        const object = decode(resource)
        return object === undefined
          ? Effect.fail(foreign(self.bucket, name))
          : Effect.succeed({ _tag: "Found", object, date: dateOf(answer) })
      }
    })
  }
  if (answer.status === 412) return Effect.succeed({ _tag: "Mismatch" })
  // An object that is to be made can only miss its bucket.
  if (answer.status === 404 && method !== "insert") return Effect.succeed({ _tag: "Missing" })
  return Effect.fail(reasonOf(method, self.bucket, answer))
}

const decodeResource = Schema.decodeUnknownOption(Schema.fromJsonString(Resource))

const decodePage = Schema.decodeUnknownOption(
  Schema.fromJsonString(
    Schema.Struct({ nextPageToken: Schema.optional(Schema.String), items: Schema.optional(Schema.Array(Resource)) })
  )
)
