/**
 * What the Redis backends need of a client, and no more: another driver than ioredis is one more file like
 * `redisIoredis.ts`.
 */
import type * as Duration from "effect/Duration"
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { createHash } from "node:crypto"
import type { BackendReason } from "../../LockError.ts"

export { connect, type Connection } from "./redisIoredis.ts"

/** A script and the hash that a server knows it by. */
export interface RedisScript {
  readonly source: string
  readonly sha1: string
}

/** Makes a script of its source. */
export const script = (source: string): RedisScript => ({
  source,
  sha1: createHash("sha1").update(source).digest("hex")
})

/**
 * One server, or a cluster of them.
 *
 * A command that is interrupted, or that timed out, is left behind: it may still take effect. Commands for one key take
 * effect in the order in which they were sent, as long as the connection lives.
 */
export interface RedisClient {
  /** `host:port`, for errors; never with credentials. */
  readonly endpoint: string
  readonly kind: "standalone" | "cluster"
  /** What the client itself puts before every key (ioredis `keyPrefix`), but not before channels or patterns. */
  readonly keyPrefix: string
  /** The connection can take a command now. */
  readonly isReady: () => boolean
  /** How many connections were made so far: behind a new one there may be a server that was restarted. */
  readonly connections: () => number
  /** EVALSHA, and EVAL where the server does not know the script yet. */
  readonly run: (
    script: RedisScript,
    keys: ReadonlyArray<string>,
    args: ReadonlyArray<string>,
    timeout: Duration.Duration
  ) => Effect.Effect<unknown, BackendReason>
  /** A command without keys: INFO, TIME, SCAN. Of a cluster, any node answers. */
  readonly command: (
    name: string,
    args: ReadonlyArray<string>,
    timeout: Duration.Duration
  ) => Effect.Effect<unknown, BackendReason>
  /**
   * Ends when the server has confirmed; over a connection of its own. `onReconnect` is called when a subscription that
   * was interrupted is confirmed anew: messages may have been missed. Not on a cluster.
   */
  readonly subscribe: (
    channel: string,
    onMessage: (message: string) => void,
    onReconnect: () => void
  ) => Effect.Effect<void, BackendReason, Scope.Scope>
  /** The masters of a cluster, one client each (for SCAN); of a single server, itself. */
  readonly masters: () => ReadonlyArray<Pick<RedisClient, "command" | "keyPrefix">>
}
