/** The API server's double on a socket of its own: real HTTP, for clients that are real too. */
import { Effect, type Scope } from "effect"
import { createServer, type IncomingMessage, type ServerResponse } from "node:http"
import { type ApiOptions, FakeApi } from "./kubernetesApi.ts"

export interface KubernetesServer {
  readonly api: FakeApi
  readonly url: string
  readonly port: number
  /** Client connections open at this moment. */
  readonly connections: Effect.Effect<number>
}

export const kubernetesServer = (options?: ApiOptions): Effect.Effect<KubernetesServer, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<KubernetesServer & { readonly close: () => void }>((resume) => {
      const api = new FakeApi(options)
      const server = createServer((request, response) => void answer(api, request, response))
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        const port = typeof address === "object" && address !== null ? address.port : 0
        const connections = Effect.callback<number>((resume) => {
          server.getConnections((_, count) => resume(Effect.succeed(count)))
        })
        const close = () => {
          server.close()
          server.closeAllConnections()
        }
        resume(Effect.succeed({ api, url: `http://127.0.0.1:${port}`, port, connections, close }))
      })
    }),
    ({ close }) => Effect.sync(close)
  )

const answer = async (api: FakeApi, request: IncomingMessage, response: ServerResponse): Promise<void> => {
  const chunks: Array<Buffer> = []
  for await (const chunk of request) chunks.push(chunk)
  const url = new URL(request.url ?? "/", "http://localhost")
  const headers = Object.fromEntries(Object.entries(request.headers).map(([name, value]) => [name, String(value)]))
  const body = Buffer.concat(chunks).toString("utf8")
  const reply = api.handle({
    method: request.method ?? "",
    path: url.pathname,
    query: url.searchParams,
    headers,
    body
  })
  response.writeHead(reply.status, reply.headers)
  if (reply.follow === undefined) {
    response.end(reply.body)
    return
  }
  response.flushHeaders()
  const stop = reply.follow((text) => response.write(`${text}\n`), () => response.end())
  const seconds = Number(url.searchParams.get("timeoutSeconds") ?? 0)
  const timer = seconds > 0 ? setTimeout(() => response.end(), seconds * 1000) : undefined
  response.once("close", () => {
    clearTimeout(timer)
    stop()
  })
}
