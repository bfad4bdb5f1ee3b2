/**
 * How the server is reached: a URL, options, or a client of the user's; and which options are safe for locks.
 */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type { Cluster, Redis, RedisOptions } from "ioredis"
import { Misconfigured } from "../../LockError.ts"

/** One of three ways to reach a server. */
export type Connection =
  | { readonly url: string | Redacted.Redacted<string> }
  | { readonly client: Redis | Cluster }
  | { readonly options: RedisOptions }

/** Options of a client of ours; replies have the shapes of RESP2. */
export type OwnOptions = RedisOptions & { readonly replyMapping: "legacy" }

/** The options of a client of ours. */
export const optionsOf = (
  connection: { readonly url: string | Redacted.Redacted<string> } | { readonly options: RedisOptions },
  name: string
): Effect.Effect<OwnOptions, Misconfigured> =>
  Effect.map(
    "url" in connection ? ofUrl(connection.url) : Effect.succeed(connection.options),
    (options) => ({ connectTimeout: 5000, connectionName: name, ...options, ...safe })
  )

/**
 * Of the connection for messages: it is duplicated from the other one. `socketTimeout` ends a handshake or SUBSCRIBE that
 * hangs; it does not run while nothing is asked.
 */
export const subscriberOptions: OwnOptions = {
  replyMapping: "legacy",
  lazyConnect: true,
  enableOfflineQueue: false,
  maxRetriesPerRequest: 0,
  autoResubscribe: false,
  enableReadyCheck: false,
  readOnly: false,
  monitor: false,
  keyPrefix: "",
  socketTimeout: 3000,
  retryStrategy: (times) => Math.min(50 * 2 ** Math.min(times - 1, 6), 1000)
}

// `lazyConnect`: a layer is built although its server is down. No offline queue and no resending: an acquire that was
// given up must not be sent later. `retryStrategy`: a client that stops to reconnect is of no use. `reconnectOnError`: a
// master that was demoted behind the connection is left.
const safe: OwnOptions = {
  replyMapping: "legacy",
  lazyConnect: true,
  enableOfflineQueue: false,
  maxRetriesPerRequest: 0,
  autoResendUnfulfilledCommands: true,
  enableAutoPipelining: false,
  enableReadyCheck: true,
  readOnly: false,
  monitor: false,
  stringNumbers: false,
  commandTimeout: undefined,
  disconnectTimeout: 500,
  retryStrategy: (times) => Math.min(50 * 2 ** Math.min(times - 1, 6), 1000),
  reconnectOnError: (error) => error.message.startsWith("READONLY")
}

/** Where a client is connected to, for errors. */
export const endpointOf = (driver: Redis | Cluster): string => {
  if (driver.isCluster) return "the Redis Cluster"
  const { host, name, path, port, sentinels } = (driver as Redis).options
  if (Array.isArray(sentinels)) return `the master ${JSON.stringify(name ?? "")} of Sentinel`
  return typeof path === "string" ? path : `${host?.includes(":") === true ? `[${host}]` : host}:${port}`
}

/** Options of the user's client that would break locks. */
export const hazardsOf = (driver: Redis | Cluster): Effect.Effect<void, Misconfigured> => {
  if (typeof driver !== "object" || driver === null || typeof driver.evalsha !== "function") {
    return misconfigured("client must be a Redis or Cluster of ioredis")
  }
  const hazard = driver.isCluster ? undefined : hazardOf((driver as Redis).options)
  return hazard === undefined ? Effect.void : misconfigured(`the client that was passed ${hazard}`)
}

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const hazardOf = (options: RedisOptions): string | undefined => {
  if (options.monitor === true) return `monitors and takes no commands. ${duplicate("monitor: false")}`
  if (options.role === "slave") {
    return `connects to replicas (role: "slave"); locks live on the master. ${duplicate("role: \"master\"")}`
  }
  if (typeof options.retryStrategy !== "function") {
    return `stays closed once its connection is lost (retryStrategy), so that no lease could be renewed. ${
      duplicate("retryStrategy: (times) => Math.min(50 * times, 1000)")
    }`
  }
  const resends = options.autoResendUnfulfilledCommands !== false && options.maxRetriesPerRequest !== 0
  if (resends && options.enableOfflineQueue === false) {
    return "sends unanswered commands again after a reconnect (autoResendUnfulfilledCommands), but takes none meanwhile "
      + "(enableOfflineQueue: false), so an attempt that was given up could take the lock with nobody to release it. "
      + duplicate("maxRetriesPerRequest: 0")
  }
  return undefined
}

const duplicate = (override: string) => `Pass { client: client.duplicate({ ${override} }) }, or { url } or { options }`

const misconfigured = (detail: string) => Effect.fail(new Misconfigured({ detail }))

const wrongUrl = "url must be redis://[user:password@]host[:port][/database], or rediss:// for TLS"

const ofUrl = (input: string | Redacted.Redacted<string>): Effect.Effect<RedisOptions, Misconfigured> => {
  const text = Redacted.isRedacted(input) ? Redacted.value(input) : input
  if (typeof text !== "string" || !/^rediss?:\/\//.test(text) || !URL.canParse(text)) return misconfigured(wrongUrl)
  const url = new URL(text)
  const database = /^\/?(\d*)$/.exec(url.pathname)?.[1]
  if (url.hostname === "" || database === undefined) return misconfigured(wrongUrl)
  // ioredis would read a query as options, and they would win over ours.
  if ([...url.searchParams.keys()].some((name) => name !== "family")) {
    return misconfigured("the url has a query, which is not read here: pass { options } instead")
  }
  return Effect.try({
    try: (): RedisOptions => ({
      host: url.hostname.replace(/^\[(.*)\]$/, "$1"),
      port: url.port === "" ? 6379 : Number(url.port),
      db: database === "" ? 0 : Number(database),
      family: Number(url.searchParams.get("family") ?? 0),
      ...(url.username === "" ? {} : { username: decodeURIComponent(url.username) }),
      ...(url.password === "" ? {} : { password: decodeURIComponent(url.password) }),
      ...(url.protocol === "rediss:" ? { tls: {} } : {})
    }),
    catch: () => new Misconfigured({ detail: `${wrongUrl}; user and password are percent-encoded` })
  })
}
