/** A TCP proxy in front of a server, for the faults that a network has. */
import { Effect, type Scope } from "effect"
import { connect, createServer, type Server, type Socket } from "node:net"
import { resetConnection } from "./reset.ts"

/**
 * - `loseRequests`: what clients send goes nowhere. `loseReplies`: the server does its work, and the answer goes nowhere.
 * - `blackHole`: both, and new connections are accepted and hang. Nothing is ever closed: the ways a network hangs.
 * - `latency`: of each direction, in milliseconds.
 */
export interface Faults {
  readonly loseRequests: boolean
  readonly loseReplies: boolean
  readonly latency: number
}

export interface FaultProxy {
  readonly port: number
  readonly set: (faults: Partial<Faults>) => Effect.Effect<void>
  /** No faults from now on, for connections made from now on and those that are open. */
  readonly heal: Effect.Effect<void>
  readonly blackHole: Effect.Effect<void>
  /** Resets every open connection (RST). */
  readonly reset: Effect.Effect<void>
  /** Refuses connections, until `listen`; those that are open are reset. */
  readonly refuse: Effect.Effect<void>
  readonly listen: Effect.Effect<void>
  /** Client connections open at this moment. */
  readonly connections: () => number
  /** Bytes that clients sent so far. */
  readonly sent: () => number
}

const none: Faults = { loseRequests: false, loseReplies: false, latency: 0 }

export const faultProxy = (target: number): Effect.Effect<FaultProxy, never, Scope.Scope> =>
  Effect.gen(function*() {
    let faults = none
    let bytes = 0
    let port = 0
    const open = new Set<Socket>()
    const timers = new Set<NodeJS.Timeout>()

    const pipe = (from: Socket, to: Socket, lost: () => boolean) =>
      from.on("data", (chunk) => {
        const write = () => {
          if (!lost() && to.writable) to.write(chunk)
        }
        if (faults.latency === 0) return write()
        const timer = setTimeout(() => {
          timers.delete(timer)
          write()
        }, faults.latency)
        timers.add(timer)
      })
    const accept = (client: Socket) => {
      const server = connect({ port: target, host: "127.0.0.1" })
      open.add(client)
      client.on("data", (chunk) => {
        bytes += chunk.length
      })
      pipe(client, server, () => faults.loseRequests)
      pipe(server, client, () => faults.loseReplies)
      client.on("error", () => {})
      server.on("error", () => resetConnection(client))
      client.on("close", () => {
        open.delete(client)
        server.destroy()
      })
      server.on("close", () => client.end())
    }
    const reset = Effect.sync(() => {
      for (const socket of open) resetConnection(socket)
    })
    let server: Server | undefined
    const listen: Effect.Effect<void> = Effect.callback((resume) => {
      server = createServer(accept).listen(port, "127.0.0.1", () => {
        const address = server?.address()
        if (typeof address === "object" && address !== null) port = address.port
        resume(Effect.void)
      })
    })
    const refuse: Effect.Effect<void> = Effect.andThen(
      Effect.callback<void>((resume) => {
        server?.close(() => {})
        resume(Effect.void)
      }),
      reset
    )
    const set = (change: Partial<Faults>) =>
      Effect.sync(() => {
        faults = { ...faults, ...change }
      })

    yield* Effect.acquireRelease(listen, () =>
      Effect.andThen(
        refuse,
        Effect.sync(() => {
          for (const timer of timers) clearTimeout(timer)
        })
      ))
    return {
      port,
      set,
      heal: set(none),
      blackHole: set({ loseRequests: true, loseReplies: true }),
      reset,
      refuse,
      listen,
      connections: () => open.size,
      sent: () => bytes
    }
  })
