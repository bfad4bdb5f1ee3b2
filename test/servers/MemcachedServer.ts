/** A real memcached. */
import { Effect } from "effect"
import { serverProcess } from "./ServerProcess.ts"
import { tcpAnswer } from "./tcpAnswer.ts"

export const memcachedServer = (...args: ReadonlyArray<string>) =>
  serverProcess({
    name: "memcached",
    // -u: it refuses to run as root without a user.
    command: ({ port }) => ["memcached", "-u", "nobody", "-l", "127.0.0.1", "-p", String(port), "-U", "0", ...args],
    answers: (port) => Effect.map(tcpAnswer(port, "version\r\n"), (said) => said.startsWith("VERSION"))
  })
