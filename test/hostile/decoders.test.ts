/**
 * What is read of servers and files, whatever is there: decoded whole or not at all, never a defect.
 */
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Option, Result, Schema, Stream } from "effect"
import * as etcdFailure from "../../src/layers/internal/etcdFailure.ts"
import * as etcdRecord from "../../src/layers/internal/etcdRecord.ts"
import * as fileListing from "../../src/layers/internal/fileListing.ts"
import * as fileRecord from "../../src/layers/internal/fileRecord.ts"
import * as gcsFailure from "../../src/layers/internal/gcsFailure.ts"
import * as gcsRecord from "../../src/layers/internal/gcsRecord.ts"
import * as gcsRenewal from "../../src/layers/internal/gcsRenewal.ts"
import * as kubernetesFailure from "../../src/layers/internal/kubernetesFailure.ts"
import * as kubernetesLease from "../../src/layers/internal/kubernetesLease.ts"
import * as memcachedRecord from "../../src/layers/internal/memcachedRecord.ts"
import * as memcachedReply from "../../src/layers/internal/memcachedReply.ts"
import * as quorumHolder from "../../src/layers/internal/quorumHolder.ts"
import type { RedisClient } from "../../src/layers/internal/redisClient.ts"
import * as redisFailure from "../../src/layers/internal/redisFailure.ts"
import * as redisKeys from "../../src/layers/internal/redisKeys.ts"
import * as redisListing from "../../src/layers/internal/redisListing.ts"
import * as redisLocks from "../../src/layers/internal/redisLocks.ts"
import * as redisRecord from "../../src/layers/internal/redisRecord.ts"
import { ServerCheck } from "../../src/layers/internal/redisServerCheck.ts"
import * as redlockNode from "../../src/layers/internal/redlockNode.ts"
import type { BackendReason } from "../../src/LockError.ts"
import {
  count,
  Draw,
  garbled,
  isPolluted,
  key,
  metadata,
  namespace,
  spoilt,
  spoiltJson,
  text,
  told,
  values
} from "./corpus.ts"
import { assertHolder } from "./judged.ts"

const draws = (salt: number, see: (draw: Draw) => void, most = count): void => {
  const draw = new Draw(salt)
  for (let left = most; left > 0; left--) see(draw)
  assert.isFalse(isPolluted(), "something was written into a prototype of everything")
}

const same = (one: unknown, other: unknown, about: string): void => {
  if (one !== other) assert.fail(`${about}: ${String(one)} instead of ${String(other)}`)
}

/** A reason that can be shown: its words are ours or were cleaned, and are not as long as an answer can be. */
const assertReason = (reason: BackendReason): void => {
  if (typeof reason.detail !== "string" || reason.detail.length > 1500 || /\p{Cc}/u.test(reason.detail)) {
    assert.fail(`${reason._tag}: ${JSON.stringify(reason.detail)}`)
  }
}

describe(`file (${told})`, () => {
  const record = (draw: Draw): fileRecord.FileRecord => ({
    v: 1,
    namespace: namespace(draw),
    key: key(draw),
    ownerId: text(draw),
    ttl: 1 + draw.below(1_000_000),
    acquiredAt: draw.below(2 ** 31),
    pid: draw.below(65_536),
    host: text(draw, 3),
    bootId: text(draw, 3),
    pidNs: text(draw, 3),
    startTime: text(draw, 3),
    metadata: metadata(draw)
  })

  it("a record is read as it was written", () =>
    draws(20, (draw) => {
      const written = record(draw)
      const found = fileRecord.decode(fileRecord.encode(written))
      assert.strictEqual(found._tag, "Record")
      if (found._tag === "Record") assert.deepStrictEqual(found.record, written)
    }, count / 20))

  it("anything else is Damaged, another version, or a whole record; and each of them can be shown", () =>
    draws(21, (draw) => {
      const found = fileRecord.decode(spoiltJson(draw, record(draw)))
      assertHolder(fileRecord.holderOf(found, "0000000000000001", Option.none()))
    }, count / 5))

  it("of the names in a directory only those of ours count", () =>
    draws(22, (draw) => {
      const generation = String(draw.below(2 ** 31)).padStart(draw.of([16, 16, 16, 15, 17]), "0")
      const own = draw.of(["g", "b", "x", "t"]) + generation + draw.of(["", "", "-5", "-", "-9999999999999999", "\n"])
      const names = [own, garbled(draw, own), text(draw), "__proto__"]
      const { broken, drained, generations, lengthened } = fileListing.parse(names)
      for (const each of [...generations, ...drained, ...broken, ...lengthened.map(({ generation }) => generation)]) {
        same(/^\d{16}$/.test(each), true, each)
      }
      for (const { ttl } of lengthened) same(Number.isSafeInteger(ttl), true, "ttl")
      const handle = fileListing.parseHandle(garbled(draw, `${generation}.1000.${text(draw)}`))
      if (handle !== undefined) {
        same(/^\d{16}$/.test(handle.generation) && Number.isSafeInteger(handle.ttl), true, "handle")
      }
    }))
})

describe(`redis (${told})`, () => {
  it("a record is read as it was written", () =>
    draws(30, (draw) => {
      const owner = text(draw)
      const data = metadata(draw)
      const holder = redisRecord.holderOf(`1|${redisKeys.escapeOwner(owner)}|7|8000|h|${JSON.stringify(data)}`, 5)
      assert(holder !== undefined)
      same(holder.ownerId, owner, "owner")
      assert.deepStrictEqual(holder.metadata, data)
    }, count / 20))

  it("anything else is no holder, or a whole one", () =>
    draws(31, (draw) => {
      const whole = `1|${text(draw)}|${String(draw.of(values))}|${String(draw.of(values))}|h|${
        spoiltJson(draw, metadata(draw))
      }`
      const given = draw.chance(0.2) ? draw.of(values) : draw.chance(0.5) ? garbled(draw, whole) : whole
      const holder = redisRecord.holderOf(given, draw.of(values))
      if (holder !== undefined) assertHolder(holder)
    }, count / 5))

  it("a name that the server tells is a key of the namespace under which it would be stored, or none", () =>
    draws(32, (draw) => {
      const prefix = draw.of(["", "app:", "*", "{"])
      const names = redisKeys.make(namespace(draw), prefix)
      const record = prefix + names.keysOf(key(draw)).record
      const given = draw.chance(0.7) ? garbled(draw, record) : record
      const found = names.keyOf(given)
      if (found !== undefined) same(prefix + names.keysOf(found).record, given, "record")
    }))

  it("whatever a driver throws becomes a reason that quotes nothing of it", () =>
    draws(33, (draw) => {
      const code = draw.of(["ERR", "NOAUTH", "WRONGPASS", "MOVED", "ASK", "LOADING", "BUSY", "OOM", "XYZ", "", "err"])
      const message = `${code} canary ${text(draw)}`
      const error = draw.of<unknown>([
        new Error(message),
        Object.assign(new Error(message), { code: "ECONNREFUSED" }),
        { message },
        message,
        null,
        draw.of(values)
      ])
      const reason = redisFailure.reasonOf(error, "host:1")
      assertReason(reason)
      same(reason.detail.includes("canary"), false, reason.detail)
    }, count / 10))
})

/** A client of a server that answers everything so. */
const client = (answer: (words: ReadonlyArray<string>) => unknown): RedisClient => {
  const one: RedisClient = {
    endpoint: "127.0.0.1:1",
    kind: "standalone",
    keyPrefix: "",
    isReady: () => true,
    connections: () => 1,
    run: () => Effect.sync(() => answer([])),
    command: (name, args) => Effect.sync(() => answer([name, ...args])),
    subscribe: () => Effect.void,
    masters: () => [one]
  }
  return one
}

describe("redis, what a client makes of an answer", () => {
  const names = redisKeys.make("", "")
  const ask = (answer: unknown) => {
    const given = client(() => answer)
    const self = { client: given, names, check: new ServerCheck(given, true), inbox: undefined }
    const about = { key: "k", ownerId: "o", budget: Duration.seconds(1), ttl: Duration.seconds(1) }
    return {
      acquire: redisLocks.tryAcquire(self, { ...about, metadata: {}, willWait: false }),
      renew: redisLocks.renew(self, { ...about, handle: "7" }),
      release: redisLocks.release(self, { ...about, handle: Option.none(), unanswered: false }),
      break: redisLocks.breakLock(self, { ...about, now: true })
    }
  }

  it("what is nearly a number is a Protocol error", () => {
    const nearly = [true, false, null, undefined, [1], [0], ["1"], "", " 1", "01", "1.0", "-0", "0x1", 1.5, 1n, {}, [
      []
    ]]
    for (const answer of nearly) {
      for (const [verb, effect] of Object.entries(ask(answer))) {
        const exit = Effect.runSyncExit<unknown, BackendReason>(effect)
        const error = Exit.findErrorOption(exit)
        if (Option.isNone(error) || error.value._tag !== "Protocol") {
          assert.fail(`${verb}: ${String(exit)}, of ${JSON.stringify(String(answer))}`)
        }
      }
    }
  })

  it("a number is one, also to a client that makes strings of them", () => {
    for (const one of [1, "1"]) {
      const verbs = ask(one)
      assert.strictEqual(Effect.runSync(verbs.renew)._tag, "Renewed")
      assert.strictEqual(Effect.runSync(verbs.release), "Released")
      assert.strictEqual(Effect.runSync(verbs.break), "Draining")
    }
  })
})

describe("redis and redlock, a SCAN", () => {
  const scans = (page: (cursor: string) => unknown): ReadonlyArray<Effect.Effect<number, BackendReason>> => {
    const given = client(([name, cursor]) => name === "SCAN" ? page(cursor!) : [])
    return [
      Effect.map(Stream.runCollect(redisListing.list(given, redisKeys.make("", ""), "")), (held) => held.length),
      Effect.map(redlockNode.make(given, "").list("", 10), (held) => held.length)
    ]
  }
  const assertRefused = (page: (cursor: string) => unknown, because: RegExp) =>
    Effect.forEach(scans(page), (scan) =>
      Effect.map(Effect.flip(scan), (reason) => {
        assert.strictEqual(reason._tag, "Protocol")
        assert.match(reason.detail, because)
      }))

  it.effect("whose cursor comes again is given up", () =>
    Effect.forEach([1, 2, 3, 7, 100], (length) =>
      // After a start that is not part of the circle.
      assertRefused((cursor) => [String(Number(cursor) < 50 + length ? Number(cursor) + 1 : 51), []], /comes again/)))

  it.effect("that gives more names than can be kept is given up", () => {
    const names = Array.from({ length: 100_000 }, () => "x")
    return assertRefused((cursor) => [String(Number(cursor) + 1), names], /more than/)
  })

  it.effect("whose cursor is none, or whose names are none, is given up", () =>
    Effect.forEach(
      [["", []], ["-1", []], ["x", []], [1, []], [null, []], ["1".repeat(21), []], ["0", [1]], ["0", null], ["0"]],
      (page) => assertRefused(() => page, /answer/)
    ))

  it.effect("that ends is believed", () =>
    Effect.forEach(
      scans((cursor) => [cursor === "3000" ? "0" : String(Number(cursor) + 1), ["x"]]),
      (scan) => Effect.map(scan, (held) => assert.strictEqual(held, 0))
    ))
})

describe(`redlock (${told})`, () => {
  const node = (answer: () => unknown) => {
    return redlockNode.make(client(answer), "")
  }
  const record = (draw: Draw) => `1|o|1|7|8.5|h|${JSON.stringify(metadata(draw))}`
  const good = (draw: Draw): unknown =>
    draw.of<unknown>([
      ["1000.5", "Ok", "7"],
      ["1000.5", "TooLow", "6"],
      ["1000.5", "TooHigh"],
      ["1000.5", "Held", 500, record(draw)],
      [500, record(draw)],
      "Ok",
      "Released",
      "# Server\r\nrun_id:abc\r\nuptime_in_seconds:5\r\n"
    ])

  it("an answer is understood whole, or it is a Protocol error", () => {
    const draw = new Draw(40)
    let answer: unknown
    const one = node(() => answer)
    const take = { key: "k", ownerId: "o", attempt: 1, fence: 7, ttl: 1000, metadata: {}, mode: "propose" } as const
    for (let left = count / 10; left > 0; left--) {
      answer = draw.chance(0.8) ? spoilt(draw, good(draw)) : good(draw)
      const verbs = [
        one.take(take, 10),
        one.renew({ key: "k", ownerId: "o", fence: "7", ttl: 1000 }, 10),
        one.release({ key: "k", ownerId: "o", attempt: 1, bury: true }, 10),
        one.inspect("k", 10),
        one.greet(10)
      ]
      for (const verb of verbs) {
        const exit = Effect.runSyncExit(verb as Effect.Effect<unknown, BackendReason>)
        if (Exit.isFailure(exit)) {
          const error = Exit.findErrorOption(exit)
          if (Option.isNone(error) || error.value._tag !== "Protocol") {
            assert.fail(`${String(exit)}, of ${String(answer)}`)
          }
        } else {
          const value = exit.value as { readonly fence?: unknown } | undefined
          const fence = value?.fence
          if (fence !== undefined) same(Number.isSafeInteger(fence), true, `fence ${String(fence)}`)
        }
      }
    }
    assert.isFalse(isPolluted())
  })

  it("a record whose time is beyond what dates can be is no defect", () => {
    const record = { ownerId: "o", fence: 1, since: 9_007_199_254_740_991, remaining: 1, metadata: {} }
    assertHolder(quorumHolder.holderOf({ ownerId: "o", records: [record] }, 1))
  })

  it("a negative token is none", () => {
    const exit = Effect.runSyncExit(
      node(() => ["1000", "Ok", "-1"]).take(
        { key: "k", ownerId: "o", attempt: 1, fence: 7, ttl: 1000, metadata: {}, mode: "propose" },
        10
      )
    )
    assert.isTrue(Exit.isFailure(exit))
  })
})

describe(`etcd (${told})`, () => {
  const decodeKeyValue = Schema.decodeUnknownOption(Schema.fromJsonString(etcdRecord.KeyValue))
  const base64 = (whole: string) => Buffer.from(whole).toString("base64")

  it("a record is read as it was written", () =>
    draws(50, (draw) => {
      const written = { ownerId: text(draw), since: draw.below(2 ** 31), metadata: metadata(draw) }
      const kv = { key: base64("k"), value: etcdRecord.valueOf(written), create_revision: "7", lease: "9" }
      const found = Effect.runSync(etcdRecord.read(kv))
      same(found.ownerId, written.ownerId, "owner")
      assert.deepStrictEqual(found.holder.metadata, written.metadata)
    }, count / 20))

  it("anything else is Misconfigured, another version, or a whole record", () =>
    draws(51, (draw) => {
      const value = spoiltJson(draw, { v: 1, ownerId: text(draw), since: 5, metadata: metadata(draw) })
      const kv = decodeKeyValue(
        spoiltJson(draw, { key: base64("k"), value: base64(value), create_revision: "7", lease: "9" })
      )
      if (Option.isNone(kv)) return
      same(typeof etcdRecord.keyOf(kv.value), "string", "key")
      const found = Effect.runSync(Effect.result(etcdRecord.read(kv.value)))
      if (Result.isSuccess(found)) assertHolder(found.success.holder)
      else assertReason(found.failure)
    }, count / 5))

  it("whatever an answer says becomes a reason that can be shown", () =>
    draws(52, (draw) => {
      const body = spoiltJson(draw, {
        code: draw.below(18),
        message: text(draw),
        error: { message: text(draw), code: 5 }
      })
      const { reason } = etcdFailure.toBackendError("acquire", "k")(etcdFailure.statusOf(200 + draw.below(400), body))
      assertReason(reason)
    }, count / 10))
})

describe(`memcached (${told})`, () => {
  const record = (draw: Draw): memcachedRecord.MemcachedRecord => ({
    v: 1,
    namespace: namespace(draw),
    key: key(draw),
    ownerId: text(draw),
    grant: "g.1",
    since: draw.below(2 ** 31),
    metadata: metadata(draw)
  })

  it("a record and a handle are read as they were written, and are one line without commands", () =>
    draws(60, (draw) => {
      const written = record(draw)
      const encoded = memcachedRecord.encodeRecord(written)
      same(/^\{[^\r\n]*\}$/.test(encoded), true, encoded)
      assert.deepStrictEqual(memcachedRecord.decodeRecord(encoded), Option.some(written))
      const handle = { session: "s.1", cas: "5", expiry: 9, grant: "g.1", ownerId: written.ownerId, text: encoded }
      if (written.ownerId === "") return
      assert.deepStrictEqual(
        memcachedRecord.decodeHandle(memcachedRecord.encodeHandle(handle), written.ownerId),
        handle
      )
    }, count / 20))

  it("anything else is none, or a whole one", () =>
    draws(61, (draw) => {
      const decoded = memcachedRecord.decodeRecord(spoiltJson(draw, record(draw)))
      if (Option.isSome(decoded)) assertHolder(memcachedRecord.holderOf(decoded.value, Option.none()))
      memcachedRecord.decodeHandle(garbled(draw, "s.1 5 9 g.1 o {}"), "o")
    }, count / 5))

  it("bytes are cut into whole answers, are not there yet, or are garbage; and none is taken for two", () =>
    draws(62, (draw) => {
      const line = draw.of([
        "HD c5 t9",
        "NS",
        "EN",
        "VA 2 c5 t9\r\n{}",
        "VA 99 c5\r\n{}",
        "MN",
        "STAT a b\r\nEND",
        "ERROR"
      ])
      const bytes = Buffer.from(
        garbled(draw, `${line}${draw.of(["\r\n", "\n", "", "\r\n\r\n"])}`),
        draw.of(["utf8", "latin1"])
      )
      const parsed = memcachedReply.parse(bytes, 0, draw.of(["Line", "Settings"]))
      if (parsed?._tag === "Garbage") same(/\p{Cc}/u.test(parsed.detail), false, parsed.detail)
      if (parsed?._tag !== "Reply") return
      same(parsed.end > 0 && parsed.end <= bytes.length, true, "end")
      const { reply } = parsed
      assertReason(memcachedReply.refusalOf(reply).reason)
      const cas = memcachedReply.flagOf(reply, "c")
      if (cas !== undefined) same(/[\s]/.test(cas), false, "cas")
    }))
})

describe(`kubernetes (${told})`, () => {
  const note = kubernetesLease.annotation
  const lease = (draw: Draw) => ({
    metadata: {
      name: "n",
      uid: "u",
      resourceVersion: "7",
      labels: {},
      annotations: {
        [note.namespace]: namespace(draw),
        [note.key]: "k",
        [note.ownerId]: "o",
        [note.grant]: "g",
        [note.renewals]: "1",
        [note.fencingToken]: String(draw.of(values)),
        [note.serverTime]: draw.of(["2026-01-01T00:00:00.000000Z", String(draw.of(values))]),
        [note.metadata]: spoiltJson(draw, metadata(draw)),
        [note.draining]: draw.of(["g", "x"]),
        [note.dead]: spoiltJson(draw, { x: "2026-01-01T00:00:00Z" })
      }
    },
    spec: {
      holderIdentity: "o",
      leaseDurationSeconds: draw.of([5, 5, -1, 0, 2 ** 31]),
      acquireTime: draw.of(["2026-01-01T00:00:00.000000Z", String(draw.of(values))]),
      renewTime: "2026-01-01T00:00:00.000000Z",
      leaseTransitions: 3
    }
  })

  it("an object is read whole or not at all, and whatever it says can be shown", () =>
    draws(70, (draw) => {
      const decoded = kubernetesLease.decode(spoiltJson(draw, lease(draw)))
      if (Option.isNone(decoded)) return
      const found = decoded.value
      kubernetesLease.isOf(found, { name: "n", namespace: "", key: "k" })
      kubernetesLease.isDraining(found)
      kubernetesLease.endOnServer(found)
      same(kubernetesLease.tokenOf(found) >= 0n, true, "token")
      same(typeof kubernetesLease.versionOf(found), "string", "version")
      for (const until of kubernetesLease.deadOf(found).values()) same(Number.isFinite(until), true, "dead until")
      const holder = kubernetesLease.holderIdentity(found)
      if (holder !== undefined) {
        assertHolder(kubernetesLease.shownHolder(found, holder, draw.of([undefined, -1, 5, Infinity])))
      }
    }, count * 0.6))

  it("a list is read whole or not at all", () =>
    draws(71, (draw) => {
      const page = { metadata: { continue: text(draw) }, items: [lease(draw), lease(draw)] }
      const decoded = kubernetesLease.decodeList(spoiltJson(draw, page))
      if (Option.isSome(decoded)) { for (const each of decoded.value.items) kubernetesLease.tokenOf(each) }
    }, count / 10))

  it("whatever an answer says becomes a reason that can be shown, without the token", () =>
    draws(72, (draw) => {
      const message = `${text(draw)} canary-token ${text(draw)}`
      const body = spoiltJson(draw, { kind: "Status", message, reason: text(draw) })
      const reason = kubernetesFailure.reasonOf(
        { status: 200 + draw.below(400), headers: {} as never, body },
        { verb: "get", kubernetesNamespace: "default", secret: "canary-token" }
      )
      assertReason(reason)
      same(reason.detail.includes("canary-token"), false, reason.detail)
    }, count / 10))
})

describe(`gcs (${told})`, () => {
  const decodeResource = Schema.decodeUnknownOption(Schema.fromJsonString(gcsRecord.Resource))
  const record = (draw: Draw): gcsRecord.LockRecord => ({
    state: draw.of(["held", "draining", "free"]),
    ownerId: text(draw),
    ttl: 1 + draw.below(1_000_000),
    fence: BigInt(draw.below(2 ** 31)),
    metadata: metadata(draw),
    key: draw.chance(0.5) ? key(draw) : undefined,
    of: draw.chance(0.5) ? 5n : undefined,
    token: draw.chance(0.5) ? 6n : undefined
  })
  const resource = (draw: Draw, written: gcsRecord.LockRecord) => ({
    name: "n",
    generation: "5",
    metageneration: "1",
    timeCreated: draw.of(["2026-01-01T00:00:00Z", String(draw.of(values))]),
    updated: draw.of(["2026-01-01T00:00:00Z", String(draw.of(values))]),
    metadata: gcsRecord.encode(written, "s")
  })

  it("a record is read as it was written, and is printable ASCII on the way", () =>
    draws(80, (draw) => {
      const written = record(draw)
      const encoded = gcsRecord.encode(written, "s")
      for (const value of Object.values(encoded)) same(/^[\x20-\x7e]*$/.test(value), true, value)
      const object = gcsRecord.decode(resource(draw, written))
      assert.deepStrictEqual(object?.record, written)
    }, count / 20))

  it("only reasons that are documented are shown: another may be a token that a proxy quotes", () => {
    const shown = (reason: string) =>
      gcsFailure.reasonOf("get", "b", {
        status: 403,
        headers: {} as never,
        body: JSON.stringify({ error: { errors: [{ reason }], details: [{ reason }] } })
      }).detail
    for (const secret of ["hunter2", "ya29.a0AfH6SNx", "AKIAEXAMPLE", "constructor", "__proto__"]) {
      assert.notInclude(shown(secret), secret)
    }
    for (const reason of ["insufficientPermissions", "RetentionPolicyNotMet", "SERVICE_DISABLED"]) {
      assert.include(shown(reason).toLowerCase(), reason.toLowerCase())
    }
  })

  it("a key that begins with a byte order mark keeps it", () => {
    const written = { ...record(new Draw(84)), key: "\ufeffk" }
    assert.strictEqual(gcsRecord.decode(resource(new Draw(84), written))?.record.key, written.key)
  })

  it("anything else is no lock, or a whole one", () =>
    draws(81, (draw) => {
      const decoded = decodeResource(spoiltJson(draw, resource(draw, record(draw))))
      const object = Option.isSome(decoded) ? gcsRecord.decode(decoded.value) : undefined
      if (object === undefined) return
      same(gcsRecord.tokenOf(object) >= 0n && gcsRecord.nextFence(object) > object.generation, true, "tokens")
      same(object.record.ttl > 0 && object.record.ttl < Infinity, true, "ttl")
      same(Duration.isDuration(Duration.millis(object.record.ttl)), true, "ttl")
    }, count / 5))

  it("a handle is read whole or not at all", () =>
    draws(82, (draw) => {
      const grant = gcsRenewal.parseHandle(garbled(draw, `5.1.1000.${text(draw)}`))
      if (grant !== undefined) same(grant.ownerId.length > 0 && Number.isSafeInteger(grant.ttl), true, "grant")
    }))

  it("whatever an answer says becomes a reason that can be shown", () =>
    draws(83, (draw) => {
      const body = spoiltJson(draw, {
        error: { errors: [{ reason: text(draw) }], details: [{ reason: "rateLimitExceeded" }] }
      })
      const headers = {
        "retry-after": draw.of(["5", "-1", "x", "Thu, 01 Jan 1970 00:00:00 GMT"]),
        date: text(draw, 2)
      } as never
      assertReason(gcsFailure.reasonOf(draw.of(["insert", "get", "patch", "delete", "list"]), "b", {
        status: 200 + draw.below(400),
        headers,
        body
      }))
    }, count / 10))
})
