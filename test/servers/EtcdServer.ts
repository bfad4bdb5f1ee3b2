/** A real etcd: one member, or a cluster of three. */
import { Effect } from "effect"
import { freePort, serverProcess } from "./ServerProcess.ts"

const healthy = (port: number): Effect.Effect<boolean> =>
  Effect.promise((signal) =>
    fetch(`http://127.0.0.1:${port}/health`, { signal: AbortSignal.any([signal, AbortSignal.timeout(1000)]) })
      .then((response) => response.text())
      .then((text) => text.includes("true"), () => false)
  )

const member = (
  name: string,
  peerPort: number,
  cluster: string,
  answers: (port: number) => Effect.Effect<boolean>,
  args: ReadonlyArray<string>
) =>
  Effect.map(
    serverProcess({
      name: "etcd",
      command: ({ directory, port }) => [
        "etcd",
        ...["--name", name, "--data-dir", `${directory}/data`, "--logger", "zap", "--log-level", "error"],
        ...["--listen-client-urls", `http://127.0.0.1:${port}`, "--advertise-client-urls", `http://127.0.0.1:${port}`],
        ...["--listen-peer-urls", `http://127.0.0.1:${peerPort}`],
        ...["--initial-advertise-peer-urls", `http://127.0.0.1:${peerPort}`, "--initial-cluster", cluster],
        ...args
      ],
      answers
    }),
    (server) => ({ ...server, url: `http://127.0.0.1:${server.port}` })
  )

export const etcdServer = (...args: ReadonlyArray<string>) =>
  Effect.flatMap(freePort, (peerPort) => member("m0", peerPort, `m0=http://127.0.0.1:${peerPort}`, healthy, args))

export const etcdCluster = (...args: ReadonlyArray<string>) =>
  Effect.gen(function*() {
    const ports = [yield* freePort, yield* freePort, yield* freePort]
    const cluster = ports.map((port, index) => `m${index}=http://127.0.0.1:${port}`).join(",")
    // One member alone is not healthy: they are started together, each waiting for the majority.
    return yield* Effect.forEach(ports, (port, index) => member(`m${index}`, port, cluster, healthy, args), {
      concurrency: "unbounded"
    })
  })
