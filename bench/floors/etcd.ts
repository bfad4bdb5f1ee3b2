import { Agent, request } from "node:http"
import { type Contestant, looping, type Place } from "../harness/Contestant.ts"

const base64 = (text: string) => Buffer.from(text).toString("base64")

/** One put over the JSON gateway, which is one commit: no lock, the least that a change costs. */
const put = async ({ url = "" }: Place) => {
  const agent = new Agent({ keepAlive: true })
  const send = (body: string) =>
    new Promise<void>((resolve, reject) => {
      const asked = request(`${url}/v3/kv/put`, { method: "POST", agent }, (reply) => {
        reply.resume()
        reply.once("end", () => resolve())
      })
      asked.once("error", reject)
      asked.end(body)
    })
  const acquire = async (key: string) => {
    await send(JSON.stringify({ key: base64(`put/${key}`), value: "" }))
    return async () => {}
  }
  return { loop: looping(acquire), close: async () => agent.destroy() }
}

export const contestants: ReadonlyArray<Contestant> = [
  { name: "one put over HTTP (excludes nobody)", role: "floor", open: put }
]
