/** A real etcd: one member, or a cluster of three. */
import { Effect } from "effect"
import * as https from "node:https"
import { freePort, type ServerProcess, serverProcess } from "./ServerProcess.ts"

/** A member, and its client URL. */
export interface EtcdServer extends ServerProcess {
  readonly url: string
}

const healthy = (port: number): Effect.Effect<boolean> =>
  Effect.promise((signal) =>
    fetch(`http://127.0.0.1:${port}/health`, { signal: AbortSignal.any([signal, AbortSignal.timeout(1000)]) })
      .then((response) => response.text())
      .then((text) => text.includes("true"), () => false)
  )

const healthyOverTls = (files: TlsFiles) => (port: number): Effect.Effect<boolean> =>
  Effect.promise((signal) =>
    new Promise((resolve) => {
      const get = https.get({ host: "127.0.0.1", port, path: "/health", signal, timeout: 1000, ...files.client })
      get.on("response", (response) => response.resume().on("end", () => resolve(response.statusCode === 200)))
      get.on("timeout", () => get.destroy())
      get.on("error", () => resolve(false))
    })
  )

/** Where the files of a member's TLS are, and what a client needs to connect. */
export interface TlsFiles {
  readonly args: ReadonlyArray<string>
  readonly client: { readonly ca: string; readonly cert: string; readonly key: string }
}

const member = (
  name: string,
  peerPort: number,
  cluster: string,
  args: ReadonlyArray<string>,
  tls?: TlsFiles
): Effect.Effect<EtcdServer, never, Effect.Services<ReturnType<typeof serverProcess>>> => {
  const scheme = tls === undefined ? "http" : "https"
  return Effect.map(
    serverProcess({
      name: "etcd",
      command: ({ directory, port }) => [
        "etcd",
        ...["--name", name, "--data-dir", `${directory}/data`, "--logger", "zap", "--log-level", "error"],
        ...["--listen-client-urls", `${scheme}://127.0.0.1:${port}`],
        ...["--advertise-client-urls", `${scheme}://127.0.0.1:${port}`],
        ...["--listen-peer-urls", `http://127.0.0.1:${peerPort}`],
        ...["--initial-advertise-peer-urls", `http://127.0.0.1:${peerPort}`, "--initial-cluster", cluster],
        ...args,
        ...(tls?.args ?? [])
      ],
      answers: tls === undefined ? healthy : healthyOverTls(tls)
    }),
    (server) => ({ ...server, url: `${scheme}://127.0.0.1:${server.port}` })
  )
}

export const etcdServer = (...args: ReadonlyArray<string>) =>
  Effect.flatMap(freePort, (peerPort) => member("m0", peerPort, `m0=http://127.0.0.1:${peerPort}`, args))

export const etcdServerWithTls = (tls: TlsFiles) =>
  Effect.flatMap(freePort, (peerPort) => member("m0", peerPort, `m0=http://127.0.0.1:${peerPort}`, [], tls))

export const etcdCluster = (...args: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const ports = [yield* freePort, yield* freePort, yield* freePort]
    const cluster = ports.map((port, index) => `m${index}=http://127.0.0.1:${port}`).join(",")
    // One member alone is not healthy: they are started together, each waiting for the majority.
    return yield* Effect.forEach(ports, (port, index) => member(`m${index}`, port, cluster, args), {
      concurrency: "unbounded"
    })
  })
