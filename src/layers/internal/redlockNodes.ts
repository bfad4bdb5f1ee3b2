/**
 * The nodes that a user names: each a Redis server of its own, none of them twice.
 */
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type * as Scope from "effect/Scope"
import type { Redis, RedisOptions } from "ioredis"
import { Misconfigured } from "../../LockError.ts"
import type { QuorumNode } from "./quorumNode.ts"
import { connect, type Connection } from "./redisClient.ts"
import * as RedlockNode from "./redlockNode.ts"

/** How one master is reached. */
export type NodeOptions =
  | string
  | Redacted.Redacted<string>
  | { readonly url: string | Redacted.Redacted<string> }
  | { readonly options: RedisOptions }
  | { readonly client: Redis }

/** Connects to each, at its first use; fails if they can't be the nodes of one quorum. */
export const open = (
  given: ReadonlyArray<NodeOptions>,
  namespace: string
): Effect.Effect<ReadonlyArray<QuorumNode>, Misconfigured, Scope.Scope> =>
  Effect.gen(function*() {
    if (!Array.isArray(given) || given.length === 0) {
      return yield* new Misconfigured({
        detail: "nodes must name the masters, such as [\"redis://a\", \"redis://b\", …]"
      })
    }
    const places = new Map<string, number>()
    const nodes: Array<QuorumNode> = []
    for (const [index, node] of given.entries()) {
      const connection = connectionOf(node)
      if (connection === undefined) {
        return yield* new Misconfigured({ detail: `nodes[${index}] must be a url, { options } or { client }` })
      }
      const client = yield* Effect.mapError(
        connect(connection, "effect-lock"),
        ({ detail }) => new Misconfigured({ detail: `nodes[${index}]: ${detail}` })
      )
      const master = masterOf(connection)
      if (client.kind === "cluster" || master !== undefined) {
        const detail =
          `nodes[${index}] is ${master ?? "a Redis Cluster"}, which may lose a lock by failing over. A node `
          + "of a quorum must be one server without failover; for this one, use effect-lock/layers/Redis"
        return yield* new Misconfigured({ detail })
      }
      const place = placeOf(client.endpoint)
      const twin = places.get(place)
      if (twin !== undefined) {
        const detail =
          `nodes[${twin}] and nodes[${index}] are the same server, ${client.endpoint}: it would vote twice, `
          + "and a majority of votes would be no majority of servers. Name each server once"
        return yield* new Misconfigured({ detail })
      }
      places.set(place, index)
      nodes.push(RedlockNode.make(client, namespace))
    }
    return nodes
  })

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const connectionOf = (node: NodeOptions): Connection | undefined => {
  if (typeof node === "string" || Redacted.isRedacted(node)) return { url: node }
  if (typeof node !== "object" || node === null) return undefined
  if ("url" in node && node.url !== undefined) return { url: node.url }
  if ("options" in node && node.options !== undefined) return { options: node.options }
  if ("client" in node && node.client !== undefined) return { client: node.client }
  return undefined
}

const masterOf = (connection: Connection): string | undefined => {
  const options = "options" in connection ? connection.options : "client" in connection ? connection.client.options : {}
  return "sentinels" in options && Array.isArray(options.sentinels) ? "behind Sentinel" : undefined
}

// What is found out only by asking, two names of one machine for instance, is found out at the first connection.
const placeOf = (endpoint: string): string =>
  endpoint.toLowerCase().replace(/^(localhost|\[::1\]|0\.0\.0\.0)(?=:)/, "127.0.0.1")
