/**
 * An `HttpClient` that is connected to a server's handler by nothing but a function call: time is the test's, and each
 * request can meet a fault before or after the server did its work.
 */
import { Deferred, type Duration, Effect } from "effect"
import { HttpClient, HttpClientError, HttpClientResponse } from "effect/http"
import type { HttpClientRequest } from "effect/http/HttpClientRequest"
import type { ApiReply, ApiRequest, FakeApi } from "./kubernetesApi.ts"

/** `drop`: the connection is lost. A number is a status. A delay is served by the server, whether the client waits or not. */
export type Fault =
  | { readonly when: "before" | "after"; readonly drop: true }
  | { readonly when: "before" | "after"; readonly status: number; readonly retryAfter?: number }
  | { readonly when: "before" | "after"; readonly delay: Duration.Input }

export interface FakeClient {
  readonly client: HttpClient.HttpClient
  /** Asked for each request; undefined lets it pass. */
  fault: (request: ApiRequest) => Fault | undefined
  /** As `METHOD name`, and the headers, of what was sent. */
  readonly sent: Array<ApiRequest>
}

export const makeClient = (api: FakeApi): FakeClient => {
  const fake: FakeClient = {
    fault: () => undefined,
    sent: [],
    client: HttpClient.make((request, url) =>
      Effect.suspend(() => {
        const asked = asApiRequest(request, url)
        fake.sent.push(asked)
        const fault = fake.fault(asked)
        return Effect.map(
          serve(api, request, asked, fault),
          (reply) => HttpClientResponse.fromWeb(request, asResponse(reply))
        )
      })
    )
  }
  return fake
}

const lost = (request: HttpClientRequest) =>
  Effect.fail(
    new HttpClientError.HttpClientError({
      reason: new HttpClientError.TransportError({
        request,
        cause: Object.assign(new Error("the connection was lost"), { code: "ECONNRESET" })
      })
    })
  )

const serve = (
  api: FakeApi,
  request: HttpClientRequest,
  asked: ApiRequest,
  fault: Fault | undefined
): Effect.Effect<ApiReply, HttpClientError.HttpClientError> => {
  if (fault === undefined) return Effect.sync(() => api.handle(asked))
  if ("delay" in fault) {
    if (fault.when === "after") {
      return Effect.tap(Effect.sync(() => api.handle(asked)), () => Effect.sleep(fault.delay))
    }
    return Effect.gen(function*() {
      const reply = yield* Deferred.make<ApiReply>()
      const late = Effect.andThen(
        Effect.sleep(fault.delay),
        Effect.sync(() => Deferred.doneUnsafe(reply, Effect.succeed(api.handle(asked))))
      )
      yield* Effect.forkDetach(late, { startImmediately: true })
      return yield* Deferred.await(reply)
    })
  }
  return Effect.suspend(() => {
    if (fault.when === "after") api.handle(asked)
    return "drop" in fault ? lost(request) : Effect.succeed(api.refusal(fault.status, fault.retryAfter))
  })
}

const asApiRequest = (request: HttpClientRequest, url: URL): ApiRequest => ({
  method: request.method,
  path: url.pathname,
  query: url.searchParams,
  headers: request.headers,
  body: request.body._tag === "Uint8Array" ? new TextDecoder().decode(request.body.body) : ""
})

const asResponse = ({ body, follow, headers, status }: ApiReply): Response => {
  if (follow === undefined) return new Response(body, { status, headers })
  const utf8 = new TextEncoder()
  let stop = () => {}
  const stream = new ReadableStream<Uint8Array>({
    start: (controller) => {
      let open = true
      stop = follow(
        (text) => open && controller.enqueue(utf8.encode(`${text}\n`)),
        () => {
          if (!open) return
          open = false
          controller.close()
        }
      )
    },
    cancel: () => stop()
  })
  return new Response(stream, { status, headers })
}
