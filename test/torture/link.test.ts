/** A bad connection never leaves a hole in a stream. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { connect, createServer, type Socket } from "node:net"
import { healthy, link } from "./link.ts"

/** A server that answers each piece with itself, and what has arrived there. */
const echo = Effect.acquireRelease(
  Effect.callback<{ readonly port: number; readonly heard: () => string; readonly close: () => void }>((resume) => {
    let heard = ""
    const open = new Set<Socket>()
    const server = createServer((socket) => {
      open.add(socket)
      socket.on("error", () => {})
      socket.on("data", (piece) => {
        heard += String(piece)
        socket.write(piece)
      })
    })
    server.listen(0, "127.0.0.1", () => {
      const address = server.address()
      const port = typeof address === "object" && address !== null ? address.port : 0
      const close = () => {
        server.close()
        for (const socket of open) socket.destroy()
      }
      resume(Effect.succeed({ port, heard: () => heard, close }))
    })
  }),
  ({ close }) => Effect.sync(close)
)

/** A client, and what it has heard. */
const client = (port: number) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      let heard = ""
      let isOver = false
      const socket = connect({ port, host: "127.0.0.1" })
      socket.on("data", (piece) => {
        heard += String(piece)
      })
      socket.on("error", () => {})
      socket.on("close", () => {
        isOver = true
      })
      return { socket, heard: () => heard, isOver: () => isOver }
    }),
    ({ socket }) => Effect.sync(() => socket.destroy())
  )

const eventually = (what: string, isSo: () => boolean) =>
  Effect.gen(function*() {
    const giveUpAt = performance.now() + 30_000
    while (!isSo()) {
      if (performance.now() > giveUpAt) assert.fail(`${what}: not within 30 s`)
      yield* Effect.sleep("5 millis")
    }
  })

const meet = Effect.gen(function*() {
  const server = yield* echo
  const between = yield* link(server.port)
  const visitor = yield* client(between.port)
  visitor.socket.write("a")
  yield* eventually("the first piece comes back", () => visitor.heard() === "a")
  return { server, between, visitor }
})

describe("link", () => {
  it.live("withheld requests arrive in order, and none is missing", () =>
    Effect.gen(function*() {
      const { between, server, visitor } = yield* meet
      between.set({ withholdRequests: true })
      visitor.socket.write("b")
      // Another connection shows that time has passed, and that the way is closed for it too.
      const other = yield* client(between.port)
      yield* eventually("it is connected", () => !other.socket.connecting)
      assert.strictEqual(server.heard(), "a")
      between.heal("arrives")
      visitor.socket.write("c")
      yield* eventually("everything comes back", () => visitor.heard() === "abc")
    }))

  it.live("withheld replies are of requests that were served", () =>
    Effect.gen(function*() {
      const { between, server, visitor } = yield* meet
      between.set({ withholdReplies: true })
      visitor.socket.write("b")
      yield* eventually("it is served", () => server.heard() === "ab")
      assert.strictEqual(visitor.heard(), "a")
      between.heal("arrives")
      yield* eventually("the answer comes", () => visitor.heard() === "ab")
    }))

  it.live("or they never arrive, and the connection is over", () =>
    Effect.gen(function*() {
      const { between, server, visitor } = yield* meet
      between.set({ withholdReplies: true })
      visitor.socket.write("b")
      yield* eventually("it is served", () => server.heard() === "ab")
      // It has been served, and its answer is under way to the link.
      visitor.socket.write("c")
      yield* eventually("the next one too", () => server.heard() === "abc")
      between.reset()
      yield* eventually("the connection is over", visitor.isOver)
      assert.strictEqual(visitor.heard(), "a")
    }))

  it.live("what a client sent that gave up arrives all the same", () =>
    Effect.gen(function*() {
      const { between, server, visitor } = yield* meet
      between.set({ withholdRequests: true })
      yield* Effect.callback<void>((resume) => {
        visitor.socket.write("late", () => resume(Effect.void))
      })
      visitor.socket.destroy()
      const other = yield* client(between.port)
      other.socket.write("other")
      yield* eventually("the client is gone", visitor.isOver)
      between.heal("arrives")
      yield* eventually("both have arrived", () => /late/.test(server.heard()) && /other/.test(server.heard()))
    }))

  it.live("slow pieces arrive in order, and after them those that are not slow", () =>
    Effect.gen(function*() {
      const { between, visitor } = yield* meet
      between.set({ latency: 20, drip: 1 })
      visitor.socket.write("0123456789".repeat(5))
      between.set(healthy)
      visitor.socket.write("z")
      yield* eventually("all of it is back", () => visitor.heard() === `a${"0123456789".repeat(5)}z`)
    }))

  it.live("who is refused is refused until it is accepted again", () =>
    Effect.gen(function*() {
      const { between, visitor } = yield* meet
      between.refuse()
      yield* eventually("the connection is over", visitor.isOver)
      const refused = yield* client(between.port)
      yield* eventually("the next one too", refused.isOver)
      between.accept()
      const accepted = yield* client(between.port)
      accepted.socket.write("x")
      yield* eventually("then all is well", () => accepted.heard() === "x")
    }))
})
