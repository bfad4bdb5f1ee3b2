import { once } from "node:events"
import { connect } from "node:net"
import { type Contestant, looping, type Place } from "../harness/Contestant.ts"

/** The least that two round trips can cost: `mn`, which the server answers without looking at anything. */
const noOps = async ({ port = 0 }: Place) => {
  const socket = connect({ port, host: "127.0.0.1", noDelay: true })
  await once(socket, "connect")
  const waiting: Array<() => void> = []
  let before = ""
  socket.on("data", (data) => {
    before += data.toString("latin1")
    for (let end = before.indexOf("\r\n"); end >= 0; end = before.indexOf("\r\n")) {
      before = before.slice(end + 2)
      waiting.shift()?.()
    }
  })
  const noOp = () =>
    new Promise<void>((resolve) => {
      waiting.push(resolve)
      socket.write("mn\r\n")
    })
  const acquire = async () => {
    await noOp()
    return noOp
  }
  return { loop: looping(acquire), close: async () => void socket.destroy() }
}

export const contestants: ReadonlyArray<Contestant> = [
  { name: "two no-ops (excludes nobody)", role: "floor", open: noOps }
]
