/** Asks a server a line over TCP, for readiness checks: what it said within a second, or nothing. */
import { Effect } from "effect"
import { connect } from "node:net"

export const tcpAnswer = (port: number, say: string): Effect.Effect<string> =>
  Effect.callback((resume) => {
    const socket = connect({ port, host: "127.0.0.1" })
    const done = (answer: string) => {
      socket.destroy()
      resume(Effect.succeed(answer))
    }
    socket.setTimeout(1000, () => done(""))
    socket.once("error", () => done(""))
    socket.once("data", (data) => done(String(data)))
    socket.once("connect", () => socket.write(say))
    return Effect.sync(() => socket.destroy())
  })
