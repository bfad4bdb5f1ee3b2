/**
 * A node of a quorum on a Redis server: the scripts, and what their answers mean. An answer that is not understood is
 * never a grant.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { type BackendReason, Misconfigured, Protocol } from "../../LockError.ts"
import { decode, encode } from "./encodedName.ts"
import type { Greeting, NodeRecord, QuorumNode, TakeReply } from "./quorumNode.ts"
import { integerOf } from "./redisAnswer.ts"
import type { RedisClient } from "./redisClient.ts"
import { scan } from "./redisScan.ts"
import { evictingPolicy } from "./redisServerCheck.ts"
import * as Scripts from "./redlockScripts.ts"

/** For how long tries that were given up and may still arrive stay dead, in milliseconds. */
const tombstoneLife = 60_000

/** The node behind `client`, for the locks of `namespace`. */
export const make = (client: RedisClient, namespace: string): QuorumNode => {
  const { endpoint } = client
  const prefix = `effect-lock:redlock:${encode(namespace)}:`
  const namesOf = remembered((key: string) => {
    const encoded = encode(key)
    return { lock: `${prefix}l:{${encoded}}`, token: `${prefix}f:{${encoded}}`, dead: `${prefix}t:{${encoded}}:` }
  })
  const patienceOf = remembered(Duration.millis)
  const run = <A>(
    script: typeof Scripts.take,
    keys: ReadonlyArray<string>,
    args: ReadonlyArray<string>,
    timeout: number,
    read: (answer: unknown) => A | undefined
  ): Effect.Effect<A, BackendReason> =>
    Effect.flatMap(
      client.run(script, keys, args, patienceOf(timeout)),
      (answer) => understood(read(answer), endpoint)
    )

  return {
    name: endpoint,
    isReady: () => client.isReady(),
    connections: () => client.connections(),
    greet: (timeout) =>
      Effect.flatMap(
        client.command("INFO", [], Duration.millis(timeout)),
        (answer): Effect.Effect<Greeting, BackendReason> => {
          const policy = typeof answer === "string" ? evictingPolicy(answer) : undefined
          return policy === undefined
            ? understood(greetingOf(answer), endpoint)
            : Effect.fail(new Misconfigured({ detail: `${endpoint} ${evicts(policy)}` }))
        }
      ),
    take: ({ attempt, fence, key, metadata, mode, ownerId, ttl }, timeout) => {
      const { dead, lock, token } = namesOf(key)
      const args = [`1|${encode(ownerId)}|${attempt}`, String(fence), String(ttl), JSON.stringify(metadata)]
      if (mode !== "propose") args.push(mode)
      return run(Scripts.take, [lock, token, dead + ownerId], args, timeout, takeReplyOf)
    },
    renew: ({ fence, key, ownerId, ttl }, timeout) =>
      run(Scripts.renew, [namesOf(key).lock], [encode(ownerId), fence, String(ttl)], timeout, renewalOf),
    release: ({ attempt, bury, key, ownerId }, timeout) => {
      const { dead, lock } = namesOf(key)
      const args = [encode(ownerId), String(attempt)]
      return bury
        ? run(Scripts.release, [lock, dead + ownerId], [...args, String(tombstoneLife)], timeout, releaseOf)
        : run(Scripts.release, [lock], args, timeout, releaseOf)
    },
    inspect: (key, timeout) =>
      Effect.map(run(Scripts.inspect, [namesOf(key).lock], [], timeout, lookOf), ({ record }) => record),
    break: ({ key, now, ownerId }, timeout) =>
      Effect.map(
        run(Scripts.breakLock, [namesOf(key).lock], [encode(ownerId), now ? "now" : "drain"], timeout, breakOf),
        (answer) => answer === "Found"
      ),
    list: (keyPrefix, timeout) =>
      Effect.gen(function*() {
        // Encoded names have no characters that mean something in a pattern, except the user's own prefix.
        const start = `${client.keyPrefix}${prefix}l:{`
        const pattern = `${escaped(start)}${encode(keyPrefix)}*`
        const names = new Set<string>()
        yield* Stream.runForEach(
          scan(client, { endpoint, pattern, timeout: Duration.millis(timeout) }),
          (page) => Effect.sync(() => page.forEach((name) => names.add(name)))
        )
        const keys = [...names].flatMap((name) => {
          const key = name.startsWith(start) && name.endsWith("}") ? decode(name.slice(start.length, -1)) : undefined
          return key === undefined ? [] : [key]
        })
        const looks = yield* Effect.forEach(
          keys,
          (key) =>
            Effect.map(run(Scripts.inspect, [namesOf(key).lock], [], timeout, lookOf), (look) => ({ key, ...look })),
          { concurrency: 16 }
        )
        return looks.flatMap(({ key, record }) => record === undefined ? [] : [{ key, record }])
      })
  }
}

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const understood = <A>(read: A | undefined, endpoint: string): Effect.Effect<A, Protocol> =>
  read === undefined
    ? Effect.fail(new Protocol({ detail: `${endpoint} gave an answer that is not one of the lock protocol's` }))
    : Effect.succeed(read)

// What follows from the last `from`: requests that come one after the other mostly have the same.
const remembered = <From, To>(of: (from: From) => To) => {
  let last: { readonly from: From; readonly to: To } | undefined
  return (from: From): To => (last?.from === from ? last : last = { from, to: of(from) }).to
}

const oneOf = <const A extends string>(...allowed: ReadonlyArray<A>) => (answer: unknown): A | undefined =>
  allowed.find((each) => each === answer)

const renewalOf = oneOf("Ok", "Gone", "Taken")

const releaseOf = oneOf("Released", "NotHeld")

const breakOf = oneOf("Found", "NotFound")

const takeReplyOf = (answer: unknown): TakeReply | undefined => {
  if (!Array.isArray(answer)) return undefined
  const [said, verdict, more, lock] = answer
  const clock = microsOf(said)
  if (clock === undefined) return undefined
  if (verdict === "Dead" || verdict === "TooHigh") return { _tag: verdict, clock }
  if (verdict === "Held") {
    const record = recordOf(more, lock)
    return record === undefined ? undefined : { _tag: "Held", record, clock }
  }
  const token = naturalOf(more)
  if (token === undefined) return undefined
  if (verdict === "Ok") return token === 0 ? undefined : { _tag: "Ok", fence: token, clock }
  return verdict === "TooLow" ? { _tag: "TooLow", stored: token, clock } : undefined
}

const lookOf = (answer: unknown): { readonly record: NodeRecord | undefined } | undefined => {
  if (!Array.isArray(answer)) return undefined
  if (answer.length === 0) return { record: undefined }
  const record = recordOf(answer[0], answer[1])
  return record === undefined ? undefined : { record }
}

const recordOf = (left: unknown, lock: unknown): NodeRecord | undefined => {
  const [, owner = "", token, granted, described] = (typeof lock === "string" ? format.exec(lock) : null) ?? []
  const [ownerId, fence, since, remaining] = [decode(owner), naturalOf(token), microsOf(granted), integerOf(left)]
  const metadata = metadataOf(described)
  if (ownerId === undefined || fence === undefined || since === undefined || remaining === undefined) return undefined
  return metadata === undefined ? undefined : { ownerId, fence, since: Math.floor(since / 1000), remaining, metadata }
}

const format = /^1\|([^|]+)\|\d{1,16}\|(\d{1,16})\|([\d.]+)\|[a-z]\|([^]*)$/

// What TIME says, `seconds.microseconds`, in microseconds.
const microsOf = (text: unknown): number | undefined => {
  const [, seconds, micros] = (typeof text === "string" ? /^(\d{1,10})\.(\d{1,6})$/.exec(text) : null) ?? []
  return seconds === undefined ? undefined : Number(seconds) * 1_000_000 + Number(micros)
}

const naturalOf = (text: unknown): number | undefined => {
  const number = typeof text === "string" && /^\d{1,16}$/.test(text) ? Number(text) : NaN
  return Number.isSafeInteger(number) ? number : undefined
}

const metadataOf = (text: unknown): Readonly<Record<string, string>> | undefined => {
  const parsed: unknown = typeof text === "string" ? Option.getOrUndefined(parse(text)) : undefined
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) return undefined
  const entries = Object.entries(parsed)
  return entries.every(([, value]) => typeof value === "string") ? Object.fromEntries(entries) : undefined
}

const parse = Option.liftThrowable((text: string): unknown => JSON.parse(text))

const greetingOf = (answer: unknown): Greeting | undefined => {
  if (typeof answer !== "string") return undefined
  const identity = /^run_id:(\w+)/m.exec(answer)?.[1]
  const seconds = naturalOf(/^uptime_in_seconds:(\d+)/m.exec(answer)?.[1])
  // The difference of two whole seconds: up to one more than the truth.
  return identity === undefined || seconds === undefined
    ? undefined
    : { identity, uptime: Math.max(seconds - 1, 0) * 1000 }
}

const evicts = (policy: string) =>
  `may evict locks while they are held (maxmemory-policy ${policy}): set maxmemory-policy noeviction`

const escaped = (text: string): string => text.replace(/[\\*?[\]]/g, "\\$&")
