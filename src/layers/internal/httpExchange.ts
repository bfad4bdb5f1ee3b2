/**
 * One request and its whole answer over Effect's `HttpClient`, bounded in time and size.
 *
 * No status is a failure here and nothing is retried: what an answer means is the backend's part. The client's own spans
 * are switched off, because they would carry URLs and headers, and so keys and credentials.
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Headers from "effect/http/Headers"
import * as HttpClient from "effect/http/HttpClient"
import type { HttpClientError } from "effect/http/HttpClientError"
import type * as HttpClientRequest from "effect/http/HttpClientRequest"
import * as Stream from "effect/Stream"
import { type BackendReason, Protocol, TimedOut, Unreachable } from "../../LockError.ts"

/** A whole answer. */
export interface Exchange {
  readonly status: number
  readonly headers: Headers.Headers
  readonly body: string
}

/** The longest body that is read, in bytes; no answer about one lock is near it. */
export const longestBody = 4 * 1024 * 1024

/**
 * Sends `request` and reads the answer, for at most `timeout`. What timed out is interrupted, so its connection is
 * closed; the outcome at the server is unknown.
 */
export const exchange = (
  client: HttpClient.HttpClient,
  request: HttpClientRequest.HttpClientRequest,
  timeout: Duration.Duration
): Effect.Effect<Exchange, BackendReason> =>
  quietly(client.execute(request)).pipe(
    Effect.mapError(unreachable),
    Effect.flatMap((response) => {
      const { headers, status } = response
      const text = isShort(headers) ? Effect.mapError(response.text, unreachable) : bounded(response.stream)
      return Effect.map(text, (body): Exchange => ({ status, headers, body }))
    }),
    Effect.timeoutOrElse({
      duration: timeout,
      orElse: () =>
        Effect.fail(new TimedOut({ detail: `no answer within ${Duration.format(timeout)}`, after: timeout }))
    })
  )

/** The same request, answered by a stream that stays open, such as a watch; nothing bounds it but its consumer. */
export const open = (
  client: HttpClient.HttpClient,
  request: HttpClientRequest.HttpClientRequest
): Effect.Effect<
  {
    readonly status: number
    readonly headers: Headers.Headers
    readonly bytes: Stream.Stream<Uint8Array, BackendReason>
  },
  BackendReason
> =>
  quietly(client.execute(request)).pipe(
    Effect.mapError(unreachable),
    Effect.map(({ headers, status, stream }) => ({ status, headers, bytes: Stream.mapError(stream, unreachable) }))
  )

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const quietly = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> => Effect.provideContext(self, quiet)

const quiet = Context.make(HttpClient.TracerDisabledWhen, () => true).pipe(
  Context.add(HttpClient.TracerPropagationEnabled, false)
)

// A client reads no more than the length that an answer begins with, so what is short by it needs no counting: that takes
// longer than everything else that is done with an answer. Unpacked, it may be of any length.
const isShort = (headers: Headers.Headers): boolean => {
  const length = headers["content-length"] ?? ""
  return /^\d{1,7}$/.test(length) && Number(length) <= longestBody && headers["content-encoding"] === undefined
}

const bounded = (bytes: Stream.Stream<Uint8Array, HttpClientError>): Effect.Effect<string, BackendReason> =>
  Effect.suspend(() => {
    const decoder = new TextDecoder()
    let size = 0
    let body = ""
    // An answer that can have no body, such as a 204, has no stream of one either, with some clients.
    const content = Stream.catch(
      bytes,
      (error) => error.reason._tag === "EmptyBodyError" ? Stream.empty : Stream.fail(unreachable(error))
    )
    return Stream.runForEach(content, (chunk): Effect.Effect<void, BackendReason> => {
      size += chunk.length
      if (size > longestBody) {
        return Effect.fail(new Protocol({ detail: `the answer is longer than ${longestBody} bytes` }))
      }
      body += decoder.decode(chunk, { stream: true })
      return Effect.void
    }).pipe(Effect.map(() => body + decoder.decode()))
  })

// The client's error carries the request, and with it URL and headers: only the driver's own code is passed on.
const unreachable = (error: HttpClientError): BackendReason => {
  const code = codeOf(error.reason.cause)
  return new Unreachable({ detail: `no answer: ${code === undefined ? "the connection failed" : code}` })
}

// The system's code (`ECONNREFUSED`) may be a few causes down, below the names that a client gives it.
const codeOf = (cause: unknown, depth = 0): string | undefined => {
  if (typeof cause !== "object" || cause === null || depth > 4) return undefined
  const below = "cause" in cause ? codeOf(cause.cause, depth + 1) : undefined
  return below ?? ("code" in cause && typeof cause.code === "string" ? cause.code : undefined)
}
