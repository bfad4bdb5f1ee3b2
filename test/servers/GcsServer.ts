/**
 * A server of Cloud Storage's JSON API in this process, as far as locks use it, with a network that a test controls.
 *
 * It is reached over a real socket (`listen`), or directly by an `HttpClient` of its own (`client`), whose time is that
 * of the calling fiber, so that a test can move it.
 */
import { Clock, Deferred, Effect, type Scope } from "effect"
import { HttpClient, HttpClientError, HttpClientResponse } from "effect/http"
import { createServer, type IncomingMessage, type ServerResponse } from "node:http"
import { GcsObjects, type Method, methodOf, type Reply, type Request, settings } from "./gcsObjects.ts"

export { type Method, problem, type Reply, type Request } from "./gcsObjects.ts"

/**
 * What happens to a request. `applied`: its effect happens before.
 *
 * - `Answer`: that answer, whatever happened. - `Reset`: the connection is cut. - `Hang`: no answer ever.
 * - `Meanwhile`: something else happens before the request arrives, such as somebody else's.
 */
export type Fault =
  | { readonly _tag: "Answer"; readonly reply: Reply; readonly applied: boolean }
  | { readonly _tag: "Reset"; readonly applied: boolean }
  | { readonly _tag: "Hang"; readonly applied: boolean }
  | { readonly _tag: "Meanwhile"; readonly effect: Effect.Effect<unknown, unknown> }

export interface Asked {
  readonly method: Method
  readonly request: Request
}

export class GcsServer {
  readonly data: GcsObjects
  /** Every request that arrived, in order. */
  readonly asked: Array<Asked> = []
  /** Decides for each request what happens to it. */
  fault: (asked: Asked) => Fault | undefined = () => undefined
  /** How many are open, of those over a socket. */
  connections = 0
  #virtual: Clock.Clock | undefined

  /** `skew`: how far its clock is ahead of everybody else's, in milliseconds. */
  constructor({ skew = 0 }: { readonly skew?: number } = {}) {
    this.data = new GcsObjects(settings(() => skew + (this.#virtual?.currentTimeMillisUnsafe() ?? Date.now())))
  }

  get settings() {
    return this.data.settings
  }

  /** The methods that were called since the last time somebody asked. */
  methods(): ReadonlyArray<Method> {
    return this.asked.splice(0).map(({ method }) => method)
  }

  /** The next request of this method meets the fault; the ones after it don't. */
  failNext(method: Method, fault: Fault): void {
    const before = this.fault
    let met = false
    this.fault = (asked) => {
      if (met || asked.method !== method) return before(asked)
      met = true
      return fault
    }
  }

  /** The only object there is. */
  get object() {
    const [object] = this.data.objects.values()
    if (object === undefined) throw new Error("there is no object")
    return object
  }

  /** Requests arrive here without a network. Each is one step: what happens at the server happens at once. */
  readonly client: HttpClient.HttpClient = HttpClient.make((request, url, _signal, fiber) =>
    Effect.gen({ self: this }, function*() {
      this.#virtual = fiber.getRef(Clock.Clock)
      const cut = new HttpClientError.HttpClientError({
        reason: new HttpClientError.TransportError({ request, cause: { code: "ECONNRESET" } })
      })
      yield* Effect.yieldNow
      const reply = yield* this.#serve({
        method: request.method,
        path: url.pathname + url.search,
        headers: request.headers,
        body: request.body._tag === "Uint8Array" ? new TextDecoder().decode(request.body.body) : ""
      })
      yield* Effect.yieldNow
      if (reply === "cut") return yield* Effect.fail(cut)
      if (reply === "silence") return yield* Effect.never
      const { body, headers, status } = reply
      return HttpClientResponse.fromWeb(request, new Response(status === 204 ? null : body, { status, headers }))
    })
  )

  /** Listens on a free port of loopback until the scope closes; the endpoint. */
  readonly listen: Effect.Effect<string, never, Scope.Scope> = Effect.gen({ self: this }, function*() {
    const server = createServer((incoming, outgoing) => void this.#answer(incoming, outgoing))
    server.on("connection", (socket) => {
      this.connections++
      socket.on("close", () => this.connections--)
    })
    const port = yield* Deferred.make<number>()
    server.listen(0, "127.0.0.1", () => {
      const address = server.address()
      Deferred.doneUnsafe(port, Effect.succeed(typeof address === "object" && address !== null ? address.port : 0))
    })
    yield* Effect.addFinalizer(() =>
      Effect.callback<void>((resume) => {
        server.close(() => resume(Effect.void))
        server.closeAllConnections()
      })
    )
    return `http://127.0.0.1:${yield* Deferred.await(port)}`
  })

  #serve(request: Request): Effect.Effect<Reply | "cut" | "silence"> {
    const asked = { method: methodOf(request), request }
    this.asked.push(asked)
    const fault = this.fault(asked)
    if (fault === undefined) return Effect.sync(() => this.data.handle(request))
    if (fault._tag === "Meanwhile") return Effect.map(Effect.orDie(fault.effect), () => this.data.handle(request))
    return Effect.sync(() => {
      if (fault.applied) this.data.handle(request)
      return fault._tag === "Answer" ? fault.reply : fault._tag === "Reset" ? "cut" : "silence"
    })
  }

  async #answer(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const chunks: Array<Buffer> = []
    for await (const chunk of incoming) chunks.push(chunk)
    const reply = await Effect.runPromise(this.#serve({
      method: incoming.method ?? "",
      path: incoming.url ?? "",
      headers: Object.fromEntries(
        Object.entries(incoming.headers).map(([name, value]) => [name, Array.isArray(value) ? value.join() : value])
      ),
      body: Buffer.concat(chunks).toString("utf8")
    }))
    if (reply === "silence") return
    if (reply === "cut") {
      incoming.socket.destroy()
      return
    }
    if (!("date" in reply.headers)) outgoing.sendDate = false
    outgoing.writeHead(reply.status, reply.headers)
    outgoing.end(reply.body)
  }
}
