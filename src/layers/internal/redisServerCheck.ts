/**
 * What must be true of a server before it is trusted with a lock; asked once per connection, because behind a new
 * connection there may be another server.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import { type BackendReason, Misconfigured, Unauthorized } from "../../LockError.ts"
import type { RedisClient } from "./redisClient.ts"

/** The check of one backend. */
export class ServerCheck {
  private readonly client: RedisClient
  private readonly acceptEviction: boolean
  private checked = 0

  constructor(client: RedisClient, acceptEviction: boolean) {
    this.client = client
    this.acceptEviction = acceptEviction
  }

  get isDone(): boolean {
    return this.acceptEviction || (this.checked === this.client.connections() && this.client.isReady())
  }

  run(timeout: Duration.Duration): Effect.Effect<void, BackendReason> {
    return Effect.suspend(() => {
      const masters = this.client.masters()
      return Effect.forEach(masters.length === 0 ? [this.client] : masters, (node) =>
        Effect.flatMap(
          Effect.mapError(node.command("INFO", ["memory"], timeout), explained),
          (answer) => {
            const policy = evictingPolicy(String(answer))
            return policy === undefined ? Effect.void : Effect.fail(new Misconfigured({ detail: evicts(policy) }))
          }
        ), { discard: true })
    }).pipe(Effect.tap(() =>
      Effect.sync(() => {
        this.checked = this.client.connections()
      })
    ))
  }
}

/** The policy by which a server with this `INFO memory` may evict a lock; `undefined` if it does not. */
export const evictingPolicy = (info: string): string | undefined => {
  const limit = /^maxmemory:(\d+)/m.exec(info)?.[1]
  const policy = /^maxmemory_policy:(\S+)/m.exec(info)?.[1]
  return limit === undefined || limit === "0" || policy === undefined || policy === "noeviction" ? undefined : policy
}

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const evicts = (policy: string) =>
  `the server may evict locks while they are held (maxmemory-policy ${policy}). Set maxmemory-policy noeviction, give `
  + "locks a server of their own, or accept it with acceptEviction: true"

const explained = (reason: BackendReason): BackendReason =>
  reason._tag === "Unauthorized" && reason.detail.includes("NOPERM")
    ? new Unauthorized({
      detail: "the user may not run INFO, so it can't be checked whether the server evicts locks. Allow it (+info), or "
        + "skip the check with acceptEviction: true"
    })
    : reason
