/**
 * Bodies of every kind, through the clients that users have: what has a length is read at once, the rest is counted.
 */
import { NodeHttpClient } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber, type Layer } from "effect"
import { FetchHttpClient, HttpClient, HttpClientRequest, HttpClientResponse } from "effect/http"
import { createServer, type RequestListener } from "node:http"
import { gzipSync } from "node:zlib"
import { exchange, longestBody } from "../../../src/layers/internal/httpExchange.ts"

const now = { startImmediately: true } as const

/** A server that answers so; `open` are its connections. */
const serving = (listener: RequestListener) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly url: string; readonly open: Effect.Effect<number>; readonly close: () => void }>(
      (resume) => {
        const http = createServer(listener).listen(0, "127.0.0.1", () => {
          const address = http.address()
          const port = typeof address === "object" && address !== null ? address.port : 0
          const open = Effect.callback<number>((resume) => {
            http.getConnections((_, count) => resume(Effect.succeed(count)))
          })
          const close = () => {
            http.closeAllConnections()
            http.close()
          }
          resume(Effect.succeed({ url: `http://127.0.0.1:${port}`, open, close }))
        })
      }
    ),
    ({ close }) => Effect.sync(close)
  )

const ask = (url: string) =>
  Effect.flatMap(HttpClient.HttpClient, (client) => exchange(client, HttpClientRequest.get(url), Duration.seconds(5)))

const clients: ReadonlyArray<readonly [string, Layer.Layer<HttpClient.HttpClient>]> = [
  ["undici", NodeHttpClient.layerUndici],
  ["node:http", NodeHttpClient.layerNodeHttp],
  ["fetch", FetchHttpClient.layer]
]

const long = "ä".repeat(longestBody / 2)

describe.each(clients)("an exchange over %s", (_, client) => {
  it.live("gives the whole answer, with a length or without, of any status", () =>
    Effect.gen(function*() {
      const { url } = yield* serving((request, response) => {
        if (request.url === "/length") response.writeHead(200, { "content-length": "5" }).end("är a")
        else if (request.url === "/chunks") response.writeHead(409).write("är ", () => response.end("a"))
        else if (request.url === "/empty") response.writeHead(200, { "content-length": "0" }).end()
        else if (request.url === "/limit") response.end(long)
        else response.writeHead(204).end()
      })
      const told = (path: string) => Effect.map(ask(`${url}${path}`), ({ body, status }) => [status, body])
      assert.deepStrictEqual(yield* told("/length"), [200, "är a"])
      assert.deepStrictEqual(yield* told("/chunks"), [409, "är a"])
      assert.deepStrictEqual(yield* told("/empty"), [200, ""])
      assert.deepStrictEqual(yield* told("/nothing"), [204, ""])
      assert.isTrue((yield* ask(`${url}/limit`)).body === long)
    }).pipe(Effect.provide(client)))

  it.live("is a Protocol error beyond the limit: as told, as counted, and as unpacked", () =>
    Effect.gen(function*() {
      const { url } = yield* serving((request, response) => {
        if (request.url === "/told") response.end(`${long}.`)
        else if (request.url === "/counted") response.write(long, () => response.end("."))
        else response.writeHead(200, { "content-encoding": "gzip" }).end(gzipSync(`${long}.`))
      })
      for (const path of ["/told", "/counted"]) {
        assert.strictEqual((yield* Effect.flip(ask(`${url}${path}`)))._tag, "Protocol", path)
      }
      // Not every client unpacks; none gives a text that is too long.
      const unpacked = yield* Effect.exit(ask(`${url}/unpacked`))
      if (unpacked._tag === "Success") assert.isBelow(unpacked.value.body.length, longestBody)
    }).pipe(Effect.provide(client)))

  it.live("is Unreachable if the connection breaks within the body", () =>
    Effect.gen(function*() {
      const { url } = yield* serving((request, response) => {
        response.writeHead(200, request.url === "/length" ? { "content-length": "10" } : {})
        response.write("half", () => response.destroy())
      })
      for (const path of ["/length", "/chunks"]) {
        assert.strictEqual((yield* Effect.flip(ask(`${url}${path}`)))._tag, "Unreachable", path)
      }
    }).pipe(Effect.provide(client)))

  it.live("closes its connection if it is interrupted within the body", () =>
    Effect.gen(function*() {
      for (const headers of [{ "content-length": "10" }, {}]) {
        let begun = false
        const { open, url } = yield* serving((_, response) => {
          response.writeHead(200, headers)
          response.write("half", () => {
            begun = true
          })
        })
        const asking = yield* Effect.forkChild(ask(url), now)
        const until = performance.now() + 10_000
        while (!begun && performance.now() < until) yield* Effect.sleep(5)
        // For the head to arrive; where it has not, the connection is closed all the same.
        yield* Effect.sleep(20)
        yield* Fiber.interrupt(asking)
        while ((yield* open) > 0 && performance.now() < until) yield* Effect.sleep(5)
        assert.strictEqual(yield* open, 0)
      }
    }).pipe(Effect.provide(client)))
})

describe("an answer that says how long it is", () => {
  const reading = (headers: Record<string, string>) => {
    const response = HttpClientResponse.fromWeb(
      HttpClientRequest.get("http://fake"),
      new Response("body", { headers })
    )
    const read: Array<string> = []
    const seen = new Proxy(response, {
      get: (target, name) => {
        if (name === "text" || name === "stream") read.push(name)
        return Reflect.get(target, name, target)
      }
    })
    const client = HttpClient.make(() => Effect.succeed(seen))
    return Effect.map(
      exchange(client, HttpClientRequest.get("http://fake"), Duration.seconds(5)),
      ({ body }) => [body, ...read]
    )
  }

  it.effect("is read at once; one that does not, says too much, or is packed, is counted", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* reading({ "content-length": "4" }), ["body", "text"])
      assert.deepStrictEqual(yield* reading({}), ["body", "stream"])
      assert.deepStrictEqual(yield* reading({ "content-length": "4", "content-encoding": "gzip" }), ["body", "stream"])
      for (const length of [String(longestBody + 1), "x", "-1", "", "4, 4"]) {
        assert.deepStrictEqual(yield* reading({ "content-length": length }), ["body", "stream"], length)
      }
    }))
})
