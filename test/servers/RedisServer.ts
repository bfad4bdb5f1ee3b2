/** A real redis-server. Without persistence unless the arguments say so: a restart then forgets everything. */
import { Effect } from "effect"
import { serverProcess } from "./ServerProcess.ts"
import { tcpAnswer } from "./tcpAnswer.ts"

export const redisServer = (...args: ReadonlyArray<string>) => redisServerIn({}, ...args)

/** With these variables in its environment. */
export const redisServerIn = (environment: Readonly<Record<string, string>>, ...args: ReadonlyArray<string>) =>
  Effect.map(
    serverProcess({
      name: "redis",
      command: ({ directory, port }) => [
        "env",
        ...Object.entries(environment).map(([name, value]) => `${name}=${value}`),
        "redis-server",
        ...["--port", String(port), "--bind", "127.0.0.1", "--dir", directory, "--save", "", "--appendonly", "no"],
        ...args
      ],
      // A server that asks for a password answers too.
      answers: (port) => Effect.map(tcpAnswer(port, "PING\r\n"), (said) => /^(\+PONG|-NOAUTH)/.test(said))
    }),
    (server) => ({ ...server, url: `redis://127.0.0.1:${server.port}` })
  )
