/**
 * Servers that answer what no server of their kind answers: never a grant, never silence beyond the budget, never a
 * defect; a typed failure instead.
 */
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Option, type Scope } from "effect"
import type { LockBackend } from "effect-lock"
import * as Etcd from "effect-lock/layers/Etcd"
import * as Gcs from "effect-lock/layers/Gcs"
import * as Kubernetes from "effect-lock/layers/Kubernetes"
import * as Memcached from "effect-lock/layers/Memcached"
import * as Redis from "effect-lock/layers/Redis"
import * as Redlock from "effect-lock/layers/Redlock"
import { HttpClient, HttpClientError, HttpClientResponse } from "effect/http"
import { leaseId, namesOf, valueOf } from "../../src/layers/internal/etcdRecord.ts"
import { placeOf } from "../../src/layers/internal/kubernetesName.ts"
import { type BadAnswer, badAnswers, Draw, isPolluted, spoiltJson, values } from "./corpus.ts"
import {
  askAll,
  assertAllFailed,
  assertAnswered,
  assertNothingGranted,
  request,
  shortBudget,
  typedFailure,
  type Verdict
} from "./judged.ts"
import { manners, respServer, tcpServer } from "./respServer.ts"

type Service = LockBackend["Service"]

/** Answers as many answers as there are, each to a backend of its own. */
const each = <A>(
  all: ReadonlyArray<A>,
  see: (one: A, index: number) => Effect.Effect<Verdict>,
  concurrency = 8
): Effect.Effect<void> =>
  Effect.map(Effect.forEach(all, see, { concurrency }), (verdicts) => {
    assertAnswered(verdicts)
    assert.isFalse(isPolluted())
  })

const judging = (self: Effect.Effect<Verdict>, judge: (verdict: Verdict) => void): Effect.Effect<Verdict> =>
  Effect.tap(self, (verdict) => Effect.sync(() => judge(verdict)))

const shown = (bytes: string | Uint8Array | undefined): string =>
  bytes === undefined ? "a hang-up" : JSON.stringify(Buffer.from(bytes).toString("latin1").slice(0, 80))

// -----------------------------------------------------------------------------
// over HTTP
// -----------------------------------------------------------------------------

interface Asked {
  readonly method: string
  readonly path: string
  readonly body: string
}

/** A client whose server answers each request as `answer` says; `undefined` cuts the connection, `"hang"` never answers. */
const httpClient = (answer: (asked: Asked) => BadAnswer | undefined | "hang"): HttpClient.HttpClient =>
  HttpClient.make((asked, url) =>
    Effect.suspend(() => {
      const body = asked.body._tag === "Uint8Array" ? new TextDecoder().decode(asked.body.body) : ""
      const said = answer({ method: asked.method, path: url.pathname, body })
      if (said === "hang") return Effect.never
      if (said === undefined) {
        return Effect.fail(
          new HttpClientError.HttpClientError({
            reason: new HttpClientError.TransportError({ request: asked, cause: { code: "ECONNRESET" } })
          })
        )
      }
      const empty = said.status === 204 || said.status === 304
      const init = { status: said.status, headers: { "content-type": said.type ?? "application/json" } }
      return Effect.succeed(
        HttpClientResponse.fromWeb(asked, new Response(empty ? null : said.body, init))
      )
    })
  )

interface HttpBackend {
  readonly name: string
  readonly make: Effect.Effect<Service, unknown, HttpClient.HttpClient | Scope.Scope>
  readonly handle: string
  /** The statuses that are conclusive whatever the body says. */
  readonly conclusive: ReadonlyArray<number>
  /** An answer that is nearly right. */
  readonly almost: Effect.Effect<(asked: Asked, draw: Draw) => BadAnswer>
}

const { key, ownerId } = request

const overHttp: ReadonlyArray<HttpBackend> = [
  {
    name: "etcd",
    make: Etcd.make({ endpoints: ["http://127.0.0.1:1"] }),
    handle: "7",
    conclusive: [],
    almost: Effect.sync(() => {
      const names = namesOf("")
      const lease = leaseId(names, key, ownerId)
      const header = { cluster_id: "1", revision: "9", raft_term: "2" }
      const base64 = (text: string) => Buffer.from(text).toString("base64")
      const value = valueOf({ ownerId, since: 5, metadata: {} })
      const kv = { key: base64(names.locks + key), value, create_revision: "7", lease }
      const replies: Readonly<Record<string, unknown>> = {
        "/v3/lease/grant": { header, ID: lease, TTL: "20" },
        "/v3/lease/keepalive": { result: { header, ID: lease, TTL: "20" } },
        "/v3/lease/timetolive": { header, ID: lease, TTL: "20" },
        "/v3/lease/revoke": { header },
        "/v3/kv/range": { header, kvs: [kv], count: "1" },
        "/v3/kv/txn": {
          header,
          succeeded: false,
          responses: [{ response_range: { kvs: [kv] } }, { response_range: {} }]
        }
      }
      return ({ path }, draw) => ({ status: 200, body: spoiltJson(draw, replies[path]) })
    })
  },
  {
    name: "gcs",
    make: Gcs.make({ bucket: "locks", endpoint: "http://127.0.0.1:1", expiry: "serverDate" }),
    handle: `5.1.20000.${ownerId}`,
    // An unmet condition, a missing object, a deletion that was done.
    conclusive: [200, 204, 404, 412],
    almost: Effect.succeed((_asked, draw) => ({
      status: 200,
      body: spoiltJson(draw, {
        name: "n-/l-k",
        generation: "5",
        metageneration: "2",
        timeCreated: "2026-01-01T00:00:00Z",
        updated: "2026-01-01T00:00:00Z",
        metadata: { "effect-lock": "1", state: "held", ttl: "20000", seq: "x", owner: "other", metadata: "{}" }
      })
    }))
  },
  {
    name: "kubernetes",
    make: Kubernetes.make({ endpoint: "http://127.0.0.1:1", kubernetesNamespace: "default" }),
    handle: "g.u",
    // A conflict.
    conclusive: [409],
    almost: Effect.map(placeOf("", key), (place) => (_asked, draw) => ({
      status: 200,
      body: spoiltJson(draw, {
        apiVersion: "coordination.k8s.io/v1",
        kind: "Lease",
        metadata: {
          name: place.name,
          uid: "u",
          resourceVersion: "7",
          annotations: { "effect-lock/owner-id": "other", "effect-lock/grant": "g", "effect-lock/metadata": "{}" }
        },
        spec: { holderIdentity: "other", leaseDurationSeconds: 20 }
      })
    }))
  }
]

for (const { almost, conclusive, handle, make, name } of overHttp) {
  const ask = (client: HttpClient.HttpClient, what: string, budget?: Duration.Duration): Effect.Effect<Verdict> =>
    Effect.scoped(
      Effect.flatMap(
        Effect.orDie(Effect.provideService(make, HttpClient.HttpClient, client)),
        (service) => askAll(service, handle, what, budget)
      )
    )

  describe(name, () => {
    it.live("every wrong answer is a typed failure, and no verb concludes anything from it", () =>
      each(badAnswers, (answer, index) => {
        const what = `${index}: HTTP ${answer.status}, ${shown(answer.body)}`
        return judging(ask(httpClient(() => answer), what), (verdict) => {
          assertNothingGranted(verdict, what)
          // An empty message of etcd's, in which nothing is what a lock needs; whoever ends a lease needs nothing.
          const isEmptyMessage = name === "etcd" && answer.body === "{\"header\":{}}"
          if (!conclusive.includes(answer.status) && !isEmptyMessage) assertAllFailed(verdict, what)
        })
      }))

    it.live("an answer of 10 MB is not kept, and not believed", () =>
      each(
        ["9".repeat(10_000_000), `{"a":"${"x".repeat(10_000_000)}"}`, "\xff".repeat(5_000_000)],
        (body, index) =>
          judging(ask(httpClient(() => ({ status: 200, body })), `10 MB, ${index}`), (verdict) =>
            assertNothingGranted(verdict, `10 MB, ${index}`)),
        1
      ))

    it.live("no answer at all, and cut connections, end in time", () =>
      Effect.forEach(
        [undefined, "hang"] as const,
        (answer) =>
          judging(ask(httpClient(() => answer), String(answer), shortBudget), (verdict) =>
            assertAllFailed(verdict, String(answer))),
        { concurrency: "unbounded" }
      ))

    it.live("answers that are nearly right about somebody else's lock are no grant", () =>
      Effect.gen(function*() {
        const answer = yield* almost
        const draw = new Draw(name.length)
        yield* each(Array.from({ length: 400 }, (_, index) => index), (index) => {
          const bodies: Array<string> = []
          const client = httpClient((asked) => {
            // What Kubernetes makes of a write is asked below.
            const refused = name === "kubernetes" && asked.method !== "GET"
            const said = refused ? { status: 409, body: "{}" } : answer(asked, draw)
            bodies.push(`${asked.path} ${String(said.body).slice(0, 600)}`)
            return said
          })
          return ask(client, `almost ${index}`).pipe(
            Effect.tap((verdict) =>
              Effect.sync(() => {
                if (name !== "etcd") assertNothingGranted(verdict, `almost ${index}`)
              })
            ),
            Effect.onError(() => Effect.sync(() => process.stderr.write(`${bodies.join("\n")}\n`)))
          )
        })
      }))
  })
}

interface LeaseBody {
  readonly metadata: { readonly name: string; readonly annotations: object }
  readonly spec: object
}

describe("kubernetes, to a write", () => {
  const answered = (lease: (asked: LeaseBody) => object) =>
    Effect.gen(function*() {
      const missing = JSON.stringify({ kind: "Status", reason: "NotFound" })
      const client = httpClient(({ body, method }) =>
        method === "GET"
          ? { status: 404, body: missing }
          : { status: 201, body: JSON.stringify(lease(JSON.parse(body) as LeaseBody)) }
      )
      const service = yield* Effect.orDie(
        Effect.provideService(
          Kubernetes.make({ endpoint: "http://127.0.0.1:1", kubernetesNamespace: "default" }),
          HttpClient.HttpClient,
          client
        )
      )
      return yield* Effect.exit(service.tryAcquire(request))
    })

  const written = (spec: object, annotations: object) =>
    answered(({ metadata: { name } }) => ({
      kind: "Lease",
      metadata: { name, uid: "u", resourceVersion: "7", annotations },
      spec
    }))

  /** What an API server answers with, but for that. */
  const kept = (
    { metadata, spec, ...asked }: LeaseBody,
    but: { metadata?: object; notes?: object; spec?: object }
  ) => ({
    ...asked,
    metadata: {
      ...metadata,
      uid: "u",
      resourceVersion: "7",
      annotations: { ...metadata.annotations, ...but.notes },
      ...but.metadata
    },
    spec: { ...spec, ...but.spec }
  })

  it.live("what was written is a grant, for the ttl that was asked for", () =>
    Effect.map(answered((asked) => kept(asked, {})), (exit) => {
      assert(Exit.isSuccess(exit) && exit.value._tag === "Acquired", String(exit))
      assert.strictEqual(Duration.toMillis(exit.value.grantedTtl), Duration.toMillis(request.ttl))
      assert.deepStrictEqual(exit.value.fencingToken, Option.some(7n))
    }))

  it.live("what differs from what was written in anything that a lock is made of is no grant", () =>
    Effect.forEach(
      [
        { metadata: { name: "other" } },
        { metadata: { annotations: null } },
        { notes: { "effect-lock/owner-id": "other" } },
        { notes: { "effect-lock/grant": "that of another" } },
        { notes: { "effect-lock/fencing-token": "9".repeat(30) } },
        { notes: { "effect-lock/key": "another" } },
        { notes: { "effect-lock/draining": "x" } },
        { spec: { holderIdentity: "other" } },
        { spec: { holderIdentity: null } },
        ...[null, -1, 0, 19, 21, 2_147_483_647].map((leaseDurationSeconds) => ({ spec: { leaseDurationSeconds } }))
      ],
      (but) =>
        Effect.map(answered((asked) => kept(asked, but)), (exit) => {
          assert.strictEqual(typedFailure(exit, JSON.stringify(but))?.reason._tag, "Protocol", JSON.stringify(but))
        })
    ))

  it.live("an answer that shows another holder is no grant", () =>
    Effect.gen(function*() {
      const exit = yield* written({ holderIdentity: "other", leaseDurationSeconds: 20 }, {})
      if (Exit.isSuccess(exit)) assert.notStrictEqual(exit.value._tag, "Acquired")
      else typedFailure(exit, "another holder")
    }))

  it.live("an answer without a duration is no grant for ever", () =>
    Effect.gen(function*() {
      const annotations = { "effect-lock/owner-id": ownerId, "effect-lock/grant": "g" }
      const exit = yield* written({ holderIdentity: ownerId }, annotations)
      if (Exit.isSuccess(exit)) assert.notStrictEqual(exit.value._tag, "Acquired")
      else typedFailure(exit, "no duration")
    }))
})

// -----------------------------------------------------------------------------
// memcached
// -----------------------------------------------------------------------------

describe.concurrent("memcached", () => {
  const settings = "STAT cas_enabled yes\r\nSTAT evictions on\r\nEND\r\n"
  /** Answers the greeting as a server does, and everything else with `reply`. */
  const ask = (reply: string | Uint8Array | undefined, what: string, greets = true): Effect.Effect<Verdict> =>
    Effect.scoped(Effect.gen(function*() {
      const { port } = yield* tcpServer((bytes, peer) => {
        const end = bytes.indexOf("\r\n")
        if (end < 0) return 0
        const line = bytes.toString("latin1", 0, end)
        let used = end + 2
        if (line.startsWith("ms ")) {
          const size = Number(line.split(" ")[2])
          if (bytes.length < used + size + 2) return 0
          used += size + 2
        }
        if (greets && line === "mn") peer.say("MN\r\n")
        else if (greets && line === "stats settings") peer.say(settings)
        else if (reply === undefined) peer.hangUp()
        else peer.say(reply)
        return used
      })
      const service = yield* Effect.orDie(Memcached.make({ host: "127.0.0.1", port }))
      const isWhole = reply === undefined || Buffer.from(reply).length > 2048 ||
        (Buffer.from(reply).includes("\r\n") && !/^VA \d+ .*\r\n.{0,4}\r\n$/.test(String(reply)))
      return yield* askAll(service, `s.1 5 21 g.1 ${ownerId} {}`, what, isWhole ? undefined : shortBudget)
    }))

  const record = (owner: string) =>
    JSON.stringify({ v: 1, namespace: "", key, ownerId: owner, grant: "g.1", since: 5, metadata: {} })
  const value = (text: string | Buffer, flags = "c5 t9") =>
    Buffer.concat([Buffer.from(`VA ${Buffer.byteLength(text)} ${flags}\r\n`), Buffer.from(text), Buffer.from("\r\n")])

  const replies: ReadonlyArray<string | Uint8Array | undefined> = [
    ...[
      undefined,
      "\r\n",
      " \r\n",
      "HD",
      "HD\n",
      "HD\r\r\n",
      "hd\r\n",
      "HD c\r\n",
      "HD c0\r\n",
      "HD c-1\r\n",
      "HD c1.5\r\n"
    ],
    ...["HD cx\r\n", `HD c${"9".repeat(3000)}\r\n`, "OK\r\n", "+OK\r\n", "-ERR x\r\n", ":1\r\n", "$-1\r\n", "*-1\r\n"],
    ...["VA\r\n", "VA -1\r\n", "VA 1e3 c5\r\n", "VA 99999999999 c5\r\n", "VA 3 c5\r\nabcd\r\n", "VA 5 c5\r\n{}\r\n"],
    ...["ERROR\r\n", "ERROR Too many open connections\r\n", "CLIENT_ERROR bad command line format\r\n"],
    ...["CLIENT_ERROR unauthenticated\r\n", "SERVER_ERROR out of memory storing object\r\n", "SERVER_ERROR \r\n"],
    ...["HTTP/1.1 200 OK\r\n\r\n<html>", "END\r\n", "STORED\r\n", "MN\r\n", "\0\0\0\0\r\n"],
    new Uint8Array([0xff, 0xfe, 0xc3, 0x28, 13, 10]),
    ...["x".repeat(10_000_000), `VA 10000000 c5 t9\r\n${"x".repeat(10_000_000)}\r\n`, "STAT a b\r\n".repeat(1000)],
    ...["", "null", "{}", "[]", "1", "{\"v\":2}", "{\"__proto__\":{\"polluted\":\"yes\"}}"].map((text) => value(text)),
    value(Buffer.from([0xff, 0xfe, 0xc3, 0x28])),
    ...values.map((each) => value(record("other").replace("5", JSON.stringify(each) ?? "null"))),
    ...["c0 t9", "t9", "c5", "c5 t-1", "c5 t-2", "c5 t1e9", "c5 tx", `c5 t${"9".repeat(400)}`, "c-1 t9"].map((flags) =>
      value(record("other"), flags)
    ),
    ...["c0 t9", "t9", "c-1 t9", "cx"].map((flags) => value(record(ownerId), flags))
  ]

  it.live("every wrong answer is a typed failure or tells of somebody else's lock, never a grant", () =>
    each(
      replies,
      (reply, index) =>
        judging(ask(reply, `${index}: ${shown(reply)}`), (verdict) =>
          assertNothingGranted(verdict, `${index}: ${shown(reply)}`))
    ))

  it.live("a grant that is one is believed, so the others were refused for what they said", () =>
    Effect.map(
      ask("HD c5\r\n", "a grant"),
      ({ acquire }) => assert.isTrue(Exit.isSuccess(acquire) && acquire.value._tag === "Acquired", String(acquire))
    ))

  it.live("whoever does not greet as a memcached does is told from one, before anything is stored", () =>
    each(replies.filter((reply) => reply !== "MN\r\n"), (reply, index) => {
      const what = `greeting ${index}: ${shown(reply)}`
      return judging(ask(reply, what, false), (verdict) => assertAllFailed(verdict, what))
    }))
})

// -----------------------------------------------------------------------------
// Redis and Redlock
// -----------------------------------------------------------------------------

const words = [
  "MOVED 1 127.0.0.1:7",
  "ASK 1 127.0.0.1:7",
  "READONLY You can't",
  "LOADING",
  "BUSY",
  "NOSCRIPT x",
  "NOAUTH"
]
const errors = [
  ...words,
  "OOM x",
  "CLUSTERDOWN x",
  "WRONGTYPE x",
  "NOPERM x",
  "ERR unknown command",
  "FOREIGN",
  "wat",
  ""
]

const bulk = (text: string) => `$${Buffer.byteLength(text)}\r\n${text}\r\n`
const array = (...parts: ReadonlyArray<string>) => `*${parts.length}\r\n${parts.join("")}`

/** No script of ours answers so, whichever it is. */
const meaningless: ReadonlyArray<string | Uint8Array | undefined> = [
  ...errors.map((text) => `-${text}\r\n`),
  ...["+wat\r\n", ":7\r\n", ":-7\r\n", bulk("wat"), bulk("1.5"), bulk("x".repeat(100_000)), bulk("9".repeat(400))],
  ...[undefined, "HTTP/1.1 400 Bad Request\r\n\r\n<html>", "\0\0\0\0", "VA 2 c5\r\n{}\r\n", "$5\r\nab", "*3\r\n:1\r\n"],
  // Of the newer protocol: doubles, booleans, big numbers, maps, sets, errors in bulk.
  ...[",1.5\r\n", ",inf\r\n", "#f\r\n", "(99999999999999999999\r\n", "%1\r\n+a\r\n:1\r\n", "~1\r\n+a\r\n"],
  ...["!7\r\nERR wat\r\n", "=7\r\ntxt:wat\r\n"],
  ...[":99999999999999999999999\r\n", "$-5\r\nx\r\n", "*-7\r\n"],
  new Uint8Array([0x2b, 0xff, 0xfe, 0xc3, 0x28, 13, 10]),
  bulk("x".repeat(10_000_000))
]

/** Grants that are none. */
const badGrants: ReadonlyArray<string> = [
  ...["-1", "1.5", "1e3", "", " 7", "7 ", "0x7", "NaN", "x", "-0", "+7"].flatMap((fence) => [
    array(":1\r\n", bulk(fence)),
    array(bulk("1000"), bulk("Ok"), bulk(fence))
  ]),
  ...[array(":1\r\n"), array(":1\r\n", "$-1\r\n"), array(":1\r\n", ":7\r\n"), array(":2\r\n", bulk("7")), array()],
  ...[
    array(":-1\r\n", bulk("7")),
    array(":1\r\n", array()),
    array(array(":1\r\n"), array(bulk("7"))),
    array(bulk("Ok"))
  ]
]

// What a client can tell from an answer that has not come yet.
const isWhole = (reply: string | Uint8Array | undefined): boolean =>
  reply === undefined || !["$5\r\nab", "*3\r\n:1\r\n", "$-5\r\nx\r\n", "*-7\r\n"].includes(String(reply))

const redis = (reply: string | Uint8Array | undefined, what: string) =>
  Effect.scoped(Effect.gen(function*() {
    const { port } = yield* respServer((words) => /^eval(sha)?$/i.test(words[0] ?? "") ? reply : manners(words))
    const service = yield* Effect.orDie(Redis.make({ url: `redis://127.0.0.1:${port}` }))
    return yield* askAll(service, "7", what, isWhole(reply) ? undefined : shortBudget)
  }))

const redlock = (reply: string | Uint8Array | undefined, what: string) =>
  Effect.scoped(Effect.gen(function*() {
    const ports = yield* Effect.forEach(["a", "b", "c"], (id) =>
      respServer((words) => /^eval(sha)?$/i.test(words[0] ?? "") ? reply : manners(words, id)))
    const nodes = ports.map(({ port }) =>
      `redis://127.0.0.1:${port}`
    )
    const service = yield* Effect.orDie(Redlock.make({ nodes, restartGuard: false, perNodeTimeout: "3 seconds" }))
    return yield* askAll(service, "7", what, isWhole(reply) ? undefined : shortBudget)
  }))

for (const [name, ask] of [["redis", redis], ["redlock", redlock]] as const) {
  describe.concurrent(name, () => {
    it.live("an answer of no script is a typed failure, never a grant", () =>
      each(meaningless, (reply, index) => {
        const what = `${index}: ${shown(reply)}`
        return judging(ask(reply, what), (verdict) => assertNothingGranted(verdict, what))
      }))

    it.live("a grant that is one is believed, so the others were refused for what they said", () =>
      Effect.map(
        ask(name === "redis" ? array(":1\r\n", bulk("7")) : array(bulk("1000.0"), bulk("Ok"), bulk("7")), "a grant"),
        ({ acquire }) => assert.isTrue(Exit.isSuccess(acquire) && acquire.value._tag === "Acquired", String(acquire))
      ))

    it.live("a grant with a token that is none is no grant", () =>
      each(
        badGrants,
        (reply) =>
          judging(ask(reply, shown(reply)), (verdict) =>
            assertNothingGranted({ ...verdict, renew: Exit.fail("asked below") }, shown(reply)))
      ))
  })
}

describe.concurrent("redis, what is concluded of answers that no script of ours gives", () => {
  const verdictOf = (reply: string) =>
    Effect.map(redis(reply, shown(reply)), (verdict) => ({ reply: shown(reply), verdict }))

  it.live("a release that was answered with another word is not over", () =>
    Effect.map(
      verdictOf("+wat\r\n"),
      ({ reply, verdict: { release } }) => assert.isTrue(Exit.isFailure(release), reply)
    ))

  // Number([1]) is 1, Number(null) is 0. Of `true`, which ioredis makes 1 of, decoders.test.ts knows.
  it.live("a renewal that was answered with a list is not done", () =>
    Effect.map(
      verdictOf(array(":1\r\n")),
      ({ reply, verdict: { renew } }) => assert.isTrue(Exit.isFailure(renew), reply)
    ))

  it.live("a renewal that was answered with nothing is no loss, and a break no answer", () =>
    Effect.map(verdictOf("$-1\r\n"), ({ reply, verdict }) => {
      assert.isTrue(Exit.isFailure(verdict.renew), reply)
      assert.isTrue(Exit.isFailure(verdict.break), reply)
    }))

  // Above some 10^5 digits BigInt stops the program for seconds.
  it.live("a token of 400 digits is none", () =>
    Effect.map(
      verdictOf(array(":1\r\n", bulk("9".repeat(400)))),
      ({ reply, verdict }) => assert.isTrue(Exit.isFailure(verdict.acquire), reply)
    ))
})

describe.concurrent("a watch that never ends a line", () => {
  /** A megabyte, again and again, up to 48. */
  const endless = () => {
    let left = 48
    return new ReadableStream<Uint8Array>({
      pull: (controller) => left-- > 0 ? controller.enqueue(new Uint8Array(1_000_000).fill(120)) : new Promise(() => {})
    })
  }
  const awaited = (make: HttpBackend["make"], watch: (path: string, url: URL) => boolean, held: string) =>
    Effect.gen(function*() {
      const client = HttpClient.make((asked, url) =>
        Effect.sync(() =>
          HttpClientResponse.fromWeb(asked, new Response(watch(url.pathname, url) ? endless() : held, { status: 200 }))
        )
      )
      const service = yield* Effect.orDie(Effect.provideService(make, HttpClient.HttpClient, client))
      return yield* Effect.exit(
        Effect.timeoutOrElse(service.awaitTurn!({ key, ownerId }), {
          duration: "3 seconds",
          orElse: () => Effect.die(new Error("it is still read"))
        })
      )
    })

  it.live("is given up by etcd's waiter", () =>
    Effect.gen(function*() {
      const names = namesOf("")
      const value = valueOf({ ownerId: "other", since: 5, metadata: {} })
      const kv = { key: Buffer.from(names.locks + key).toString("base64"), value, create_revision: "7", lease: "9" }
      const held = JSON.stringify({ header: { revision: "9" }, kvs: [kv] })
      const exit = yield* awaited(overHttp[0]!.make, (path) => path.endsWith("/watch"), held)
      assert.isDefined(typedFailure(exit, "etcd"))
    }))

  it.live("is given up by Kubernetes' waiter", () =>
    Effect.gen(function*() {
      const place = yield* placeOf("", key)
      const metadata = { name: place.name, uid: "u", resourceVersion: "7" }
      const held = JSON.stringify({
        kind: "Lease",
        metadata,
        spec: { holderIdentity: "other", leaseDurationSeconds: 20 }
      })
      const exit = yield* awaited(overHttp[2]!.make, (_, url) => url.searchParams.has("watch"), held)
      assert.isDefined(typedFailure(exit, "kubernetes"))
    }))
})
