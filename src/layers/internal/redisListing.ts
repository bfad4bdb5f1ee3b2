/**
 * Which keys of a namespace are held.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type { HeldKey } from "../../LockBackend.ts"
import type { BackendReason } from "../../LockError.ts"
import type { RedisClient } from "./redisClient.ts"
import type { Names } from "./redisKeys.ts"
import { holderOf } from "./redisRecord.ts"
import { scan } from "./redisScan.ts"
import * as Scripts from "./redisScripts.ts"

/** Pages of SCAN, then one script for the records of a page. */
export const list = (
  client: RedisClient,
  names: Names,
  keyPrefix: string
): Stream.Stream<HeldKey, BackendReason> =>
  Stream.suspend(() => {
    const seen = new Set<string>()
    const heldIn = (found: ReadonlyArray<string>): Effect.Effect<ReadonlyArray<HeldKey>, BackendReason> => {
      const keys: Array<string> = []
      for (const record of found) {
        const key = names.keyOf(record)
        // SCAN may name a key twice.
        if (key === undefined || seen.has(key) || !key.startsWith(keyPrefix)) continue
        seen.add(key)
        keys.push(key)
      }
      // In a cluster they are in different slots.
      const batches = client.kind === "cluster" ? keys.map((key) => [key]) : keys.length === 0 ? [] : [keys]
      return Effect.map(
        Effect.forEach(batches, (batch) =>
          Effect.map(
            client.run(Scripts.inspect, batch.map((key) => names.keysOf(key).record), [], pageTimeout),
            (answer) =>
              batch.flatMap((key, index): ReadonlyArray<HeldKey> => {
                const holder = Array.isArray(answer) ? holderOf(answer[2 * index], answer[2 * index + 1]) : undefined
                return holder === undefined ? [] : [{ key, holders: [holder] }]
              })
          )),
        (pages) => pages.flat()
      )
    }
    const pages = { endpoint: client.endpoint, pattern: names.pattern(keyPrefix), timeout: pageTimeout }
    return Stream.fromIterableEffect(masters(client)).pipe(
      Stream.flatMap((node) => scan(node, pages)),
      Stream.mapEffect(heldIn),
      Stream.flattenIterable
    )
  })

// A client of a cluster knows its nodes once it is connected.
const masters = (client: RedisClient): Effect.Effect<ReadonlyArray<Pick<RedisClient, "command">>, BackendReason> =>
  Effect.suspend(() => {
    const known = client.masters()
    return known.length > 0
      ? Effect.succeed(known)
      : Effect.map(client.command("PING", [], pageTimeout), () => client.masters())
  })

const pageTimeout = Duration.seconds(5)
