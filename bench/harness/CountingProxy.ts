/** Stands before an HTTP server and counts what goes through: bytes of the whole exchange, headers included. */
import { once } from "node:events"
import { connect, createServer } from "node:net"

export interface Traffic {
  readonly requests: number
  readonly sent: number
  readonly received: number
}

export interface CountingProxy {
  readonly url: string
  /** What went through since the last time somebody asked. */
  readonly take: () => Traffic
  readonly close: () => void
}

/** A request begins with its line; what a body holds does not look like one. */
const requestLine = /(?:^|\n)(?:GET|POST|PUT|PATCH|DELETE) \S+ HTTP\/1\.1\r\n/g

export const countingProxy = async (target: string): Promise<CountingProxy> => {
  const { hostname, port } = new URL(target)
  let [requests, sent, received] = [0, 0, 0]
  const server = createServer((client) => {
    const upstream = connect({ host: hostname, port: Number(port) })
    client.on("data", (chunk) => {
      sent += chunk.length
      requests += chunk.toString("latin1").match(requestLine)?.length ?? 0
      upstream.write(chunk)
    })
    upstream.on("data", (chunk) => {
      received += chunk.length
      client.write(chunk)
    })
    client.on("error", () => upstream.destroy())
    upstream.on("error", () => client.destroy())
    client.on("close", () => upstream.destroy())
    upstream.on("close", () => client.destroy())
  }).listen(0, "127.0.0.1")
  await once(server, "listening")
  const address = server.address()
  return {
    url: `http://127.0.0.1:${typeof address === "object" && address !== null ? address.port : 0}`,
    take: () => {
      const traffic = { requests, sent, received }
      ;[requests, sent, received] = [0, 0, 0]
      return traffic
    },
    close: () => void server.close()
  }
}
