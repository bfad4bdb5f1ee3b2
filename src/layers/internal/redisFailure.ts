/**
 * What a Redis driver or server complains about, as one of the port's reasons, in words of our own.
 *
 * An error of ioredis carries the command with its arguments, a server's message may quote them: neither is passed on.
 * Only the code (the first word of the server's message, the system's code of a socket) is.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import {
  type BackendReason,
  Misconfigured,
  Protocol,
  Throttled,
  TimedOut,
  Unauthorized,
  Unreachable
} from "../../LockError.ts"

/** The reason of an error that the driver gave. */
export const reasonOf = (error: unknown, endpoint: string): BackendReason => {
  const message = messageOf(error)
  const code = /^([A-Z][A-Z]+)(?: |$)/.exec(message)?.[1]
  const known = code === undefined ? undefined : ofServer(code, message, endpoint)
  if (known !== undefined) return known
  const system = systemCodeOf(error)
  if (system !== undefined) return ofSocket(system, endpoint)
  return ofDriver(nameOf(error), message, endpoint)
}

/** The reason of a command that had no answer in time. */
export const timedOut = (endpoint: string, after: Duration.Duration): BackendReason =>
  new TimedOut({
    after,
    detail: `${endpoint} did not answer within ${Duration.format(after)}; the outcome is unknown`
  })

/** The reason of a connection that went away. */
export const closed = (endpoint: string): BackendReason =>
  new Unreachable({ detail: `the connection to ${endpoint} was closed; the outcome is unknown` })

/** The reason of a key that is not what the lock protocol wrote. */
export const foreignData = (endpoint: string): BackendReason =>
  new Misconfigured({
    detail: `${endpoint}: a key of the lock holds other data. Use a namespace that nobody else writes to`
  })

/** The failure of an answer that no script of ours gives. */
export const notUnderstood = ({ endpoint }: { readonly endpoint: string }): Effect.Effect<never, BackendReason> =>
  Effect.fail(new Protocol({ detail: `${endpoint} gave an answer that is not the lock protocol's` }))

/** Whether the server does not know the script by its hash; then it did nothing. */
export const isNoScript = (error: unknown): boolean => messageOf(error).startsWith("NOSCRIPT")

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const ofServer = (code: string, message: string, endpoint: string): BackendReason | undefined => {
  const said = `${endpoint} answered ${code}`
  switch (code) {
    case "NOAUTH":
      return new Unauthorized({ detail: `${said}: it asks for a password. Put it into the url or the options` })
    case "WRONGPASS":
      return new Unauthorized({ detail: `${said}: user name or password is wrong, or the user is switched off` })
    case "NOPERM":
      return new Unauthorized({ detail: `${said}: ${moreRights}` })
    case "READONLY":
      return new Unreachable({
        detail: `${said}: it is a replica, or was demoted. Locks need the master; with Sentinel it is found by itself`
      })
    case "LOADING":
      return busy(`${said}: it loads its data`)
    case "BUSY":
      return busy(`${said}: a script of somebody else runs for too long`)
    case "MASTERDOWN":
    case "CLUSTERDOWN":
    case "TRYAGAIN":
    case "ASK":
    case "NOREPLICAS":
    case "UNBLOCKED":
    case "EXECABORT":
      return busy(`${said}: it can't serve this key at the moment`)
    case "MISCONF":
      return busy(`${said}: it can't save to its disk and refuses writes until it can`)
    case "OOM":
      return busy(
        `${said}: its memory is full (maxmemory). Locks need little: make room, or give them a server of their own`
      )
    case "MOVED":
    case "CROSSSLOT":
      return new Misconfigured({
        detail: `${said}: it is a node of a Redis Cluster. Pass { client: new Cluster(…) } of ioredis instead of a url`
      })
    case "FOREIGN":
    case "WRONGTYPE":
      return foreignData(endpoint)
    case "NOPROTO":
      return new Misconfigured({ detail: `${said}: it does not speak the protocol that the client is set to` })
    case "NOSCRIPT":
      return new Protocol({ detail: `${said}: to a script that was sent in full` })
    case "ERR":
      return ofErr(message, endpoint)
    default:
      return undefined
  }
}

const moreRights = "the user lacks a permission. The rule that suffices is in the documentation of the Redis backend"

const ofErr = (message: string, endpoint: string): BackendReason => {
  const said = `${endpoint} answered ERR`
  // Redis 7 says this of a command inside a script that the ACL denies.
  if (/user executing the script/i.test(message)) return new Unauthorized({ detail: `${said}: ${moreRights}` })
  if (/max number of clients/i.test(message)) return busy(`${said}: it has as many clients as it may (maxclients)`)
  if (/WRONGTYPE/.test(message)) return foreignData(endpoint)
  if (/unknown command/i.test(message)) {
    return new Misconfigured({
      detail:
        `${said}: it lacks a command that locks need, or has it renamed. Redis 6 or newer does, and so does Valkey`
    })
  }
  if (/cluster support disabled/i.test(message)) {
    return new Misconfigured({ detail: `${said}: it is no Redis Cluster. Pass a url or a plain client` })
  }
  if (/invalid DB index|DB index is out of range/i.test(message)) {
    return new Misconfigured({ detail: `${said}: there is no database with that number` })
  }
  return new Protocol({ detail: `${said} to a command of the lock protocol` })
}

// Not applied, and worth another try.
const busy = (detail: string): BackendReason => new Throttled({ detail, retryAfter: Option.none() })

const certificate = /^(CERT_|DEPTH_|ERR_TLS|ERR_SSL|EPROTO|SELF_SIGNED|UNABLE_TO_|HOSTNAME_MISMATCH)/

const ofSocket = (code: string, endpoint: string): BackendReason =>
  certificate.test(code)
    ? new Misconfigured({
      detail:
        `no TLS connection to ${endpoint}: ${code}. Pass the certificate authority in { options: { tls: { ca } } }, `
        + "and rediss:// only to a server that speaks TLS"
    })
    : new Unreachable({ detail: `no answer from ${endpoint}: ${code}` })

const ofDriver = (name: string, message: string, endpoint: string): BackendReason => {
  if (/command timed out/i.test(message)) {
    return new TimedOut({
      after: Duration.zero,
      detail: `${endpoint} did not answer within the client's commandTimeout; the outcome is unknown`
    })
  }
  if (/subscriber mode|monitoring mode/i.test(message)) {
    return new Misconfigured({
      detail: "the client is subscribed or monitors, and takes no commands. Pass one that does nothing else, or "
        + "{ client: client.duplicate() }"
    })
  }
  if (
    /connection is closed|enableOfflineQueue|MaxRetries|AbortError|ClusterAllFailed|slots cache/i.test(
      `${name} ${message}`
    )
  ) {
    return closed(endpoint)
  }
  if (/sentinel/i.test(message)) {
    return new Unreachable({ detail: "no Sentinel could name the master. Check their addresses and the name" })
  }
  return new Unreachable({ detail: `no answer from ${endpoint}: ${name === "" ? "the client failed" : name}` })
}

const messageOf = (error: unknown): string =>
  typeof error === "object" && error !== null && "message" in error && typeof error.message === "string"
    ? error.message
    : ""

const nameOf = (error: unknown): string => error instanceof Error ? error.name : ""

const systemCodeOf = (error: unknown): string | undefined =>
  typeof error === "object" && error !== null && "code" in error && typeof error.code === "string"
    ? error.code
    : undefined
