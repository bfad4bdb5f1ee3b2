/**
 * A TCP connection that may be bad: between one worker and one server.
 *
 * Unlike a proxy that throws bytes away and goes on, it never leaves a hole in a stream: TCP doesn't. What it withholds
 * is delivered late, all of it and in order, or never, and then the connection is over.
 */
import { Effect, type Scope } from "effect"
import { connect, createServer, type Socket } from "node:net"
import { resetConnection } from "../servers/reset.ts"

export interface Faults {
  /** What the client sends is withheld. */
  readonly withholdRequests: boolean
  /** What the server answers is withheld. */
  readonly withholdReplies: boolean
  /** Milliseconds that every piece takes. */
  readonly latency: number
  /** Bytes per millisecond; 0 = all at once. */
  readonly drip: number
}

export const healthy: Faults = { withholdRequests: false, withholdReplies: false, latency: 0, drip: 0 }

export interface Link {
  readonly port: number
  readonly set: (faults: Partial<Faults>) => void
  /** No faults from now on. What was withheld arrives now, or its connections are reset. */
  readonly heal: (withheld: "arrives" | "reset") => void
  readonly reset: () => void
  /** The client's side of every connection is closed towards the server, which may still answer. */
  readonly halfClose: () => void
  /** Resets every connection, new ones too, until `accept`. The port stays ours meanwhile. */
  readonly refuse: () => void
  readonly accept: () => void
}

/** One direction of one connection. */
class Lane {
  private readonly to: Socket
  private readonly waiting: Array<Buffer | "end"> = []
  private timer: NodeJS.Timeout | undefined
  private readonly faults: () => { readonly withheld: boolean; readonly latency: number; readonly drip: number }

  constructor(to: Socket, faults: Lane["faults"]) {
    this.to = to
    this.faults = faults
  }
  push(piece: Buffer | "end"): void {
    this.waiting.push(piece)
    this.move()
  }
  move(): void {
    while (this.timer === undefined && this.waiting.length > 0) {
      const { drip, latency, withheld } = this.faults()
      if (withheld) return
      if (latency > 0 || drip > 0) {
        this.timer = setTimeout(() => {
          this.timer = undefined
          // It may be withheld by now.
          if (!this.faults().withheld) this.deliver(drip)
          this.move()
        }, latency > 0 ? latency : 10)
        return
      }
      this.deliver(0)
    }
  }
  get isEmpty(): boolean {
    return this.waiting.length === 0
  }
  stop(): void {
    clearTimeout(this.timer)
    this.timer = undefined
    this.waiting.length = 0
  }
  private deliver(drip: number): void {
    const piece = this.waiting.shift()
    if (piece === undefined) return
    if (!this.to.writable) return
    if (piece === "end") {
      this.to.end()
      return
    }
    const most = drip * 10
    if (drip === 0 || piece.length <= most) {
      this.to.write(piece)
      return
    }
    this.to.write(piece.subarray(0, most))
    this.waiting.unshift(piece.subarray(most))
  }
}

interface Connection {
  readonly client: Socket
  readonly server: Socket
  readonly up: Lane
  readonly down: Lane
}

export const link = (target: number): Effect.Effect<Link, never, Scope.Scope> =>
  Effect.gen(function*() {
    let faults = healthy
    let isRefusing = false
    const open = new Set<Connection>()

    const drop = (connection: Connection) => {
      open.delete(connection)
      connection.up.stop()
      connection.down.stop()
      connection.client.destroy()
      connection.server.destroy()
    }
    const reset = () => {
      for (const connection of open) {
        resetConnection(connection.client)
        drop(connection)
      }
    }
    const join = (client: Socket) => {
      const server = connect({ port: target, host: "127.0.0.1", allowHalfOpen: true, noDelay: true })
      const connection: Connection = {
        client,
        server,
        up: new Lane(server, () => ({ ...faults, withheld: faults.withholdRequests })),
        down: new Lane(client, () => ({ ...faults, withheld: faults.withholdReplies }))
      }
      open.add(connection)
      client.on("data", (piece: Buffer) => connection.up.push(piece))
      server.on("data", (piece: Buffer) => connection.down.push(piece))
      client.on("end", () => connection.up.push("end"))
      server.on("end", () => connection.down.push("end"))
      // A client that gives up does not take back what it has sent: that may still arrive.
      client.on("error", () => connection.up.push("end"))
      client.on("close", () => {
        if (connection.up.isEmpty) drop(connection)
      })
      server.on("error", () => {
        resetConnection(client)
        drop(connection)
      })
      server.on("close", () => {
        if (connection.down.isEmpty) drop(connection)
      })
    }
    const listener = createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
      if (isRefusing) resetConnection(client)
      else join(client)
    })
    const port = yield* Effect.acquireRelease(
      Effect.callback<number>((resume) => {
        listener.listen(0, "127.0.0.1", () => {
          const address = listener.address()
          resume(Effect.succeed(typeof address === "object" && address !== null ? address.port : 0))
        })
      }),
      () =>
        Effect.sync(() => {
          isRefusing = true
          listener.close()
          reset()
        })
    )
    return {
      port,
      set: (change) => {
        faults = { ...faults, ...change }
      },
      heal: (withheld) => {
        faults = healthy
        for (const connection of open) {
          if (withheld === "reset" && !(connection.up.isEmpty && connection.down.isEmpty)) {
            resetConnection(connection.client)
            drop(connection)
            continue
          }
          connection.up.move()
          connection.down.move()
          if (connection.client.destroyed && connection.server.destroyed) drop(connection)
        }
      },
      reset,
      halfClose: () => {
        for (const { server } of open) server.end()
      },
      refuse: () => {
        isRefusing = true
        reset()
      },
      accept: () => {
        isRefusing = false
      }
    }
  })
