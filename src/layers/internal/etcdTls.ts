/**
 * An HTTP client of our own, for Node: what a TLS connection needs can't ride on the user's `HttpClient`.
 */
import * as Effect from "effect/Effect"
import type * as HttpClient from "effect/http/HttpClient"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import { Misconfigured } from "../../LockError.ts"

/** Makes the client; its connections belong to the scope. */
export const makeClient = (tls: {
  readonly ca?: string | undefined
  readonly cert?: string | undefined
  readonly key?: Redacted.Redacted<string> | undefined
}): Effect.Effect<HttpClient.HttpClient, Misconfigured, Scope.Scope> =>
  Effect.gen(function*() {
    if ((tls.cert === undefined) !== (tls.key === undefined)) {
      return yield* Effect.fail(new Misconfigured({ detail: "tls.cert and tls.key belong together" }))
    }
    const NodeHttpClient = yield* Effect.tryPromise({
      try: () => import("@effect/platform-node/NodeHttpClient"),
      catch: () => new Misconfigured({ detail: "layerNode needs the package @effect/platform-node: install it" })
    })
    const connect = {
      ...(tls.ca === undefined ? {} : { ca: tls.ca }),
      ...(tls.cert === undefined ? {} : { cert: tls.cert }),
      ...(tls.key === undefined ? {} : { key: Redacted.value(tls.key) })
    }
    // One request per connection: what timed out takes its connection with it, so the next attempt has a new one. Over
    // HTTP/2 they would share one, and all hang with it.
    const dispatcher = yield* NodeHttpClient.makeDispatcherOptions({ connect, allowH2: false })
    return yield* Effect.provideService(NodeHttpClient.makeUndici, NodeHttpClient.Dispatcher, dispatcher)
  })
