/**
 * Which keys of a namespace are held.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import type { HeldKey } from "../../LockBackend.ts"
import type { BackendReason } from "../../LockError.ts"
import type { RedisClient } from "./redisClient.ts"
import { notUnderstood } from "./redisFailure.ts"
import type { Names } from "./redisKeys.ts"
import { holderOf } from "./redisRecord.ts"
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
    const scan = (node: Pick<RedisClient, "command">) =>
      Stream.paginate("0", (cursor) =>
        Effect.flatMap(
          node.command("SCAN", [cursor, "MATCH", names.pattern(keyPrefix), "COUNT", pageSize], pageTimeout),
          (answer) => {
            if (!Array.isArray(answer) || !Array.isArray(answer[1])) return notUnderstood(client)
            const next = String(answer[0])
            return Effect.map(
              heldIn(answer[1].map(String)),
              (held) => [held, next === "0" ? Option.none<string>() : Option.some(next)] as const
            )
          }
        ))
    return Stream.flatMap(Stream.fromIterableEffect(masters(client)), scan)
  })

// A client of a cluster knows its nodes once it is connected.
const masters = (client: RedisClient): Effect.Effect<ReadonlyArray<Pick<RedisClient, "command">>, BackendReason> =>
  Effect.suspend(() => {
    const known = client.masters()
    return known.length > 0
      ? Effect.succeed(known)
      : Effect.map(client.command("PING", [], pageTimeout), () => client.masters())
  })

const pageSize = "500"
const pageTimeout = Duration.seconds(5)
