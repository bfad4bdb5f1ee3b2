/** Something that listens and speaks, but is no server that we know: for answers that no real server gives. */
import { Effect, type Scope } from "effect"
import { createServer, type Socket } from "node:net"

/** What is on the other end of one connection. */
export interface Peer {
  readonly say: (bytes: string | Uint8Array) => void
  readonly hangUp: () => void
}

/** Listens on a free port of loopback; `hear` is called with all that was not yet used, and answers how much it used. */
export const tcpServer = (
  hear: (bytes: Buffer, peer: Peer) => number
): Effect.Effect<{ readonly port: number }, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.callback<{ readonly port: number; readonly close: () => void }>((resume) => {
      const sockets = new Set<Socket>()
      const server = createServer((socket) => {
        sockets.add(socket)
        let unread = Buffer.alloc(0)
        socket.on("error", () => socket.destroy())
        socket.on("close", () => sockets.delete(socket))
        const peer: Peer = { say: (bytes) => void socket.write(bytes), hangUp: () => void socket.destroy() }
        socket.on("data", (chunk) => {
          unread = Buffer.concat([unread, chunk])
          for (let used = hear(unread, peer); used > 0 && unread.length > 0; used = hear(unread, peer)) {
            unread = unread.subarray(used)
            if (unread.length === 0) break
          }
        })
      })
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        const port = typeof address === "object" && address !== null ? address.port : 0
        const close = () => {
          server.close()
          for (const socket of sockets) socket.destroy()
        }
        resume(Effect.succeed({ port, close }))
      })
    }),
    ({ close }) => Effect.sync(close)
  )

/** One command of a Redis client (an array of bulk strings), and where it ends; `undefined` while it is incomplete. */
const commandIn = (bytes: Buffer): { readonly words: ReadonlyArray<string>; readonly end: number } | undefined => {
  let at = 0
  const line = (): string | undefined => {
    const end = bytes.indexOf("\r\n", at)
    if (end < 0) return undefined
    const read = bytes.toString("latin1", at, end)
    at = end + 2
    return read
  }
  const head = line()
  if (head === undefined) return undefined
  const words: Array<string> = []
  for (let left = Number(head.slice(1)); left > 0; left--) {
    const length = line()
    if (length === undefined) return undefined
    const size = Number(length.slice(1))
    if (bytes.length < at + size + 2) return undefined
    words.push(bytes.toString("utf8", at, at + size))
    at += size + 2
  }
  return { words, end: at }
}

/** A Redis that answers scripts as `answer` says, and the rest as a server does; `undefined` hangs up. */
export const respServer = (
  answer: (words: ReadonlyArray<string>) => string | Uint8Array | undefined
): Effect.Effect<{ readonly port: number }, never, Scope.Scope> =>
  tcpServer((bytes, peer) => {
    const command = commandIn(bytes)
    if (command === undefined) return 0
    const { end, words } = command
    const said = answer(words)
    if (said === undefined) peer.hangUp()
    else peer.say(said)
    return end
  })

/** What a server answers to a client that connects; `id` tells it from other servers. */
export const manners = ([name = ""]: ReadonlyArray<string>, id = "a"): string => {
  const info = `# Server\r\nredis_version:7.0.15\r\nrun_id:${id}\r\nuptime_in_seconds:100000\r\nloading:0\r\n`
    + "role:master\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n"
  switch (name.toUpperCase()) {
    case "INFO":
      return `$${info.length}\r\n${info}\r\n`
    case "HELLO":
      return "%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:3\r\n"
    default:
      return "+OK\r\n"
  }
}
