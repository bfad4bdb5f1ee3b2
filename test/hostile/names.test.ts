/**
 * Names of users as names of servers: injective, within limits, of harmless characters; and back.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as encodedName from "../../src/layers/internal/encodedName.ts"
import { leaseId, namesOf } from "../../src/layers/internal/etcdRecord.ts"
import * as gcsPlace from "../../src/layers/internal/gcsPlace.ts"
import { labelOf, placeOf } from "../../src/layers/internal/kubernetesName.ts"
import { nameOf } from "../../src/layers/internal/memcachedRecord.ts"
import type { RedisClient } from "../../src/layers/internal/redisClient.ts"
import * as redisKeys from "../../src/layers/internal/redisKeys.ts"
import * as redlockNode from "../../src/layers/internal/redlockNode.ts"
import { count, Draw, hostileKeys, key, namespace, nearPairs, type Pair, text, told } from "./corpus.ts"

const utf8 = new TextEncoder()
const bytesOf = (name: string): number => utf8.encode(name).length

/** An assertion that costs nothing while it holds: there are a million of them. */
const check = (holds: boolean, about: string, ...told: ReadonlyArray<unknown>): void => {
  if (!holds) assert.fail(`${about}: ${told.map((each) => JSON.stringify(each)).join(", ")}`)
}

/** Half of the inputs; the other half are answers (decoders.test.ts). Gives each lock's names to whoever claims something of them: hostile keys in hostile namespaces, then random ones. */
const forAllPairs = <E>(
  salt: number,
  see: (pair: Pair) => Effect.Effect<void, E>,
  most = count / 2
): Effect.Effect<void, E> =>
  Effect.gen(function*() {
    const draw = new Draw(salt)
    let left = most
    for (const space of ["", "a", "a:b", "a/b", "A", "%", "{a}", "*", "é", "e\u0301", "n-", "x".repeat(512)]) {
      for (const name of hostileKeys) {
        yield* see([space, name])
        left--
      }
    }
    while (left > 0) {
      for (const pair of nearPairs(draw)) {
        yield* see(pair)
        left--
      }
    }
  })

/** Remembers whose each name is, and fails when a second lock claims it. */
class Registry {
  readonly #owners = new Map<string, string>()

  claim(name: string, [space, key]: Pair, what = "name"): void {
    const owner = JSON.stringify([space, key])
    const known = this.#owners.get(name)
    if (known === undefined) this.#owners.set(name, owner)
    else if (known !== owner) assert.fail(`${what} ${JSON.stringify(name)} is both ${known} and ${owner}`)
  }
}

describe(`names (${told})`, () => {
  it("encoded names are plain, injective also where case is folded, keep prefixes, and decode to what they were", () => {
    const draw = new Draw(1)
    const seen = new Registry()
    for (let left = count; left > 0; left--) {
      const given = draw.chance(0.5) ? key(draw) : text(draw)
      const encoded = encodedName.encode(given)
      check(/^(?:[a-z0-9_-]|%[0-9A-F]{2})*$/.test(encoded), "characters", encoded)
      check(encodedName.decode(encoded) === given, "decoded", given, encoded)
      seen.claim(encoded.toLowerCase().normalize("NFC"), ["", given])
      const start = given.slice(0, draw.below(given.length + 1))
      check(!start.isWellFormed() || encoded.startsWith(encodedName.encode(start)), "prefix", start, given)
    }
  })

  it("what nothing was encoded to is not decoded, and nothing else is", () => {
    const draw = new Draw(2)
    for (let left = count; left > 0; left--) {
      const bytes = Array.from(
        { length: draw.below(6) },
        () => `%${draw.below(256).toString(16).toUpperCase().padStart(2, "0")}`
      )
      const foreign = draw.chance(0.5) ? text(draw) : bytes.join("")
      const decoded = encodedName.decode(foreign)
      check(decoded === undefined || encodedName.encode(decoded) === foreign, "decoded", foreign, decoded)
    }
  })

  it.effect("file: every lock is a folder of its own that stays in its directory, on a disk that folds case too", () => {
    const seen = new Registry()
    return forAllPairs(3, ([space, name]) =>
      Effect.gen(function*() {
        const folders = [yield* encodedName.fileName("n", space), yield* encodedName.fileName("l", name)]
        for (const folder of folders) {
          check(/^[nl]h?-[a-z0-9_%A-F-]*$/.test(folder) && folder.length <= 255, "folder", folder)
        }
        seen.claim(folders.join("/").toLowerCase(), [space, name])
      }))
  })

  it.effect("redis: record, fence, queue and tombstones of all locks are different keys, in the slot of their lock", () => {
    const seen = new Registry()
    const draw = new Draw(4)
    return forAllPairs(5, ([space, name]) =>
      Effect.sync(() => {
        const names = redisKeys.make(space, "")
        const { fence, queue, record } = names.keysOf(name)
        const owner = draw.of([":f", ":q", "x", "}", ":d:x", text(draw, 3)])
        const tombstone = names.tombstone(name, redisKeys.escapeOwner(owner))
        for (const each of [record, fence, queue]) seen.claim(each, [space, name])
        seen.claim(tombstone, [space, name])
        const all = [record, fence, queue, tombstone]
        check(new Set(all).size === 4, "one of the four is another", all)
        check(names.channels.startsWith(record.slice(0, record.indexOf("{"))), "channels", names.channels, record)
        check(!record.startsWith(names.channels), "channel and record", names.channels, record)
        check(all.every((each) => slotTagOf(each) === slotTagOf(record)), "slots", all)
        check(names.keyOf(record) === name, "key", record, name)
        check([fence, queue, tombstone].every((each) => names.keyOf(each) === undefined), "keys of no records", all)
        check(redisKeys.make(`${space}x`, "").keyOf(record) === undefined, "another namespace's", record)
        check(globMatches(names.pattern(name), record), "pattern", names.pattern(name), record)
        check(redisKeys.unescapeOwner(redisKeys.escapeOwner(owner)) === owner, "owner", owner)
      }))
  })

  it.effect("redlock: lock, token and tombstone of all locks are different keys, in the slot of their lock", () => {
    const seen = new Registry()
    const sent: Array<string> = []
    const nodes = new Map<string, ReturnType<typeof redlockNode.make>>()
    const client = fakeClient((keys) => {
      sent.push(...keys)
      return null
    })
    return forAllPairs(6, (pair) =>
      Effect.gen(function*() {
        const [space, name] = pair
        sent.length = 0
        const node = nodes.get(space) ?? redlockNode.make(client, space)
        nodes.set(space, node)
        const take = {
          key: name,
          ownerId: "o",
          attempt: 1,
          fence: 1,
          ttl: 1000,
          metadata: {},
          mode: "propose"
        } as const
        yield* Effect.ignore(node.take(take, 10))
        check(new Set(sent).size === 3, "one of the three is another", sent)
        for (const each of sent) {
          seen.claim(each, pair)
          check(/^[!-~]+$/.test(each) && slotTagOf(each) === slotTagOf(sent[0] ?? ""), "key", each)
        }
      }))
  })

  it.effect("etcd: no lock's key is another's, namespaces are no prefixes of one another, lease ids differ", () => {
    const seen = new Registry()
    const leases = new Registry()
    return forAllPairs(7, (pair) =>
      Effect.sync(() => {
        const [space, name] = pair
        const names = namesOf(space)
        seen.claim(names.locks + name, pair)
        seen.claim(names.dead, [space, "dead"])
        check(/^effect-lock\/[^/]*\/locks\/$/.test(names.locks), "locks", names.locks)
        check(/^effect-lock\/[^/]*\/dead\/$/.test(names.dead), "dead", names.dead)
        if (pair[1].length % 8 !== 0) return
        const id = leaseId(names, name, "o")
        check(/^\d{1,19}$/.test(id) && BigInt(id) > 0n && BigInt(id) < 2n ** 63n, "lease", id)
        leases.claim(id, pair, "lease")
      }), count * 0.7)
  })

  it.effect("memcached: every lock is an item of its own, whose name is one word of at most 250 bytes", () => {
    const seen = new Registry()
    return forAllPairs(8, (pair) =>
      Effect.sync(() => {
        const name = nameOf(...pair)
        check(/^[\x21-\x7e]{1,250}$/.test(name), "name", name)
        seen.claim(name, pair)
      }))
  })

  // Each of these names is a hash, and each hash a turn of the event loop.
  it.effect("kubernetes: every lock is an object of its own, whose name is a DNS label", () => {
    const seen = new Registry()
    const labels = new Registry()
    return forAllPairs(9, (pair) =>
      Effect.gen(function*() {
        const place = yield* placeOf(...pair)
        check(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(place.name), "name", place.name)
        check(place.namespace === pair[0] && place.key === pair[1], "place", place, pair)
        seen.claim(place.name, pair)
        if (pair[1].length % 8 !== 0) return
        const label = yield* labelOf(pair[0])
        check(/^[a-z0-9]{1,63}$/.test(label), "label", label)
        labels.claim(label, [pair[0], ""], "label")
      }), count / 4)
  })

  it.effect("gcs: every lock is an object of its own, whose name the service takes, and which tells its key or hashes it", () => {
    const seen = new Registry()
    const prefixes = ["", "locks/", "p".repeat(600)]
    return forAllPairs(10, ([space, name]) =>
      Effect.gen(function*() {
        const prefix = prefixes[bytesOf(name) % prefixes.length] ?? ""
        const place = yield* gcsPlace.make({ bucket: "locks", prefix, namespace: space })
        const { hashed, name: object } = yield* gcsPlace.objectOf(place, name)
        check(bytesOf(object) <= 1024, "length", object)
        check(/^nh?-[a-z0-9_%A-F-]*\/lh?-[a-z0-9_%A-F-]*$/.test(object.slice(prefix.length)), "object", object)
        check(gcsPlace.keyOf(place, object) === (hashed ? undefined : name), "key", object, name)
        check(gcsPlace.prefixesOf(place, name).some((start) => object.startsWith(start)), "prefix", object, name)
        seen.claim(object.slice(prefix.length), [space, name])
      }))
  })

  it("gcs: a location is read whole or refused, and never moves out of its bucket", () => {
    const draw = new Draw(11)
    for (let left = count; left > 0; left--) {
      const bucket = draw.of(["locks", "gs://locks", `gs://locks/${text(draw, 4)}`, text(draw), `gs://${text(draw)}`])
      const parsed = gcsPlace.parse({
        bucket,
        ...(draw.chance(0.5) ? { objectPrefix: text(draw, 4) } : {}),
        ...(draw.chance(0.5) ? { namespace: namespace(draw) } : {})
      })
      if (parsed._tag === "Failure") {
        check(typeof parsed.failure === "string", "refusal", parsed)
        continue
      }
      const { bucket: read, prefix } = parsed.success
      check(/^[a-z0-9._-]{3,222}$/.test(read) && !prefix.startsWith("/"), "location", bucket, read, prefix)
    }
  })
})

/** What Redis Cluster hashes of a key (cluster specification, "Hash tags"). */
const slotTagOf = (name: string): string => {
  const open = name.indexOf("{")
  const close = open < 0 ? -1 : name.indexOf("}", open + 1)
  return close > open + 1 ? name.slice(open + 1, close) : name
}

/** Redis's glob, as far as patterns of ours have it: `*`, and `\` before a character that stands for itself. */
const globMatches = (pattern: string, name: string): boolean => {
  const start = pattern.slice(0, -2)
  if (!pattern.endsWith("*}") || /[*?[\]^]/.test(start.replace(/\\./gsu, ""))) return false
  return name.startsWith(start.replace(/\\(.)/gsu, "$1")) && name.endsWith("}")
}

/** A client whose server answers what `answer` says. */
const fakeClient = (answer: (keys: ReadonlyArray<string>) => unknown): RedisClient => ({
  endpoint: "127.0.0.1:1",
  kind: "standalone",
  keyPrefix: "",
  isReady: () => true,
  connections: () => 1,
  run: (_script, keys) => Effect.sync(() => answer(keys)),
  command: () => Effect.succeed(null),
  subscribe: () => Effect.void,
  masters: () => []
})
