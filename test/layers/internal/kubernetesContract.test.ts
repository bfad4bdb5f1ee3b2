/**
 * What our Kubernetes backend believes about API servers, asked of the double that the other tests use, and of a real
 * one if there is one: KUBE_TEST_URL, KUBE_TEST_TOKEN (an administrator of leases in `default`), KUBE_TEST_WEAK_TOKEN
 * (somebody who may do nothing; optional). Its certificate: NODE_EXTRA_CA_CERTS. A server that was only just made keeps
 * everything that ever happened: start it anew after some writes, or one probe (410) fails.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Option, type Scope, Stream } from "effect"
import { randomBytes } from "node:crypto"
import { kubernetesServer } from "../../servers/KubernetesServer.ts"

// oxlint-disable-next-line typescript/no-explicit-any -- whatever a server answers
type Json = any

interface Server {
  readonly url: string
  readonly token: string
  readonly weak: string | undefined
}

interface Answer {
  readonly status: number
  readonly reason: string | undefined
  readonly body: Json
  readonly headers: Headers
}

const time = "2026-11-02T03:04:05.678901Z"
const all = ["get", "list", "watch", "create", "update", "patch", "delete"]

const double: Effect.Effect<Server, never, Scope.Scope> = Effect.map(
  kubernetesServer({ tokens: new Map([["strong-token", all], ["weak-token", []]]) }),
  ({ url }) => ({ url, token: "strong-token", weak: "weak-token" })
)

const { KUBE_TEST_TOKEN, KUBE_TEST_URL, KUBE_TEST_WEAK_TOKEN } = process.env
const real = Effect.succeed({ url: KUBE_TEST_URL ?? "", token: KUBE_TEST_TOKEN ?? "", weak: KUBE_TEST_WEAK_TOKEN })

class Client {
  readonly server: Server
  readonly name = `probe-${randomBytes(6).toString("hex")}`

  constructor(server: Server) {
    this.server = server
  }

  address(name: string | undefined, namespace = "default"): string {
    const path = `${this.server.url}/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases`
    return name === undefined ? path : `${path}/${name}`
  }

  send(method: string, url: string, body?: unknown, headers: Record<string, string> = {}): Effect.Effect<Answer> {
    const sent = {
      authorization: `Bearer ${this.server.token}`,
      ...(body === undefined ? {} : { "content-type": "application/json" }),
      ...headers
    }
    return Effect.promise((signal) =>
      fetch(url, { method, signal, headers: sent, ...(body === undefined ? {} : { body: JSON.stringify(body) }) })
    ).pipe(Effect.flatMap((response) =>
      Effect.map(Effect.promise(() => response.text()), (text): Answer => {
        let body: Json = text
        if (response.headers.get("content-type")?.includes("json")) body = JSON.parse(text)
        const reason = body?.kind === "Status" ? body.reason : undefined
        return { status: response.status, reason, body, headers: response.headers }
      })
    ))
  }

  lease(spec: Json = {}, metadata: Json = {}): Json {
    return {
      apiVersion: "coordination.k8s.io/v1",
      kind: "Lease",
      metadata: { name: this.name, ...metadata },
      spec: { holderIdentity: "one", leaseDurationSeconds: 30, renewTime: time, ...spec }
    }
  }

  create(spec?: Json, metadata?: Json): Effect.Effect<Answer> {
    return this.send("POST", this.address(undefined), this.lease(spec, metadata))
  }

  replace(spec: Json, metadata: Json, name = this.name): Effect.Effect<Answer> {
    return this.send("PUT", this.address(name), this.lease(spec, metadata))
  }

  get get(): Effect.Effect<Answer> {
    return this.send("GET", this.address(this.name))
  }

  delete(body?: unknown): Effect.Effect<Answer> {
    return this.send("DELETE", this.address(this.name), body)
  }

  /** A lease that is there. */
  get made(): Effect.Effect<Json> {
    return Effect.map(this.create(), ({ body, status }) => {
      assert.strictEqual(status, 201)
      return body
    })
  }

  /** The events of a watch until one is of `last`, or the server ends it. */
  watch(from: string, last: string, query: Record<string, string> = {}): Effect.Effect<ReadonlyArray<Json>> {
    const parameters = new URLSearchParams({
      watch: "1",
      fieldSelector: `metadata.name=${this.name}`,
      resourceVersion: from,
      allowWatchBookmarks: "true",
      timeoutSeconds: "20",
      ...query
    })
    const headers = { authorization: `Bearer ${this.server.token}` }
    return Effect.gen({ self: this }, function*() {
      const response = yield* Effect.promise((signal) =>
        fetch(`${this.address(undefined)}?${parameters}`, { headers, signal })
      )
      assert.strictEqual(response.status, 200)
      return yield* Stream.fromReadableStream({
        evaluate: () => response.body!,
        onError: (cause) => cause
      }).pipe(
        Stream.decodeText,
        Stream.splitLines,
        Stream.map((line): Json => JSON.parse(line)),
        Stream.takeUntil(({ type }) => type === last),
        Stream.runCollect,
        Effect.orDie
      )
    })
  }
}

const is = ({ reason, status }: Answer, expected: number, expectedReason?: string): void => {
  assert.strictEqual(`${status} ${reason ?? ""}`.trim(), `${expected} ${expectedReason ?? ""}`.trim())
}

const versionOf = (lease: Json): bigint => BigInt(lease.metadata.resourceVersion)

type Probe = (client: Client) => Generator<Effect.Effect<unknown, unknown, Scope.Scope>, void, never>

const probes: Readonly<Record<string, Probe>> = {
  "a lease that is not there is 404 NotFound": function*(client) {
    is(yield* client.get, 404, "NotFound")
  },
  "a lease is created once: 201, then 409 AlreadyExists": function*(client) {
    is(yield* client.create(), 201)
    is(yield* client.create({ holderIdentity: "two" }), 409, "AlreadyExists")
    assert.strictEqual((yield* client.get).body.spec.holderIdentity, "one")
  },
  "a created lease has a uid, a resourceVersion that is a number, and what was sent": function*(client) {
    const annotations = { "effect-lock/key": "日本語 \" \u2028 __proto__", "effect-lock/namespace": "" }
    const { body } = yield* client.create({ acquireTime: time, leaseTransitions: 1 }, { annotations })
    assert.match(body.metadata.uid, /^[0-9a-f-]{36}$/)
    assert.match(body.metadata.resourceVersion, /^[0-9]+$/)
    assert.deepStrictEqual(body.metadata.annotations, annotations)
    assert.deepStrictEqual(body.spec, {
      holderIdentity: "one",
      leaseDurationSeconds: 30,
      acquireTime: time,
      renewTime: time,
      leaseTransitions: 1
    })
  },
  "a namespace that is not there is 404 for a creation, and for a reading": function*(client) {
    is(yield* client.send("POST", client.address(undefined, "no-such"), client.lease()), 404, "NotFound")
    is(yield* client.send("GET", client.address(client.name, "no-such")), 404, "NotFound")
  },
  "an API version that is not there is 404, as an object that is not there is": function*(client) {
    is(yield* client.send("GET", `${client.server.url}/apis/coordination.k8s.io/v0/namespaces/x`), 404, "NotFound")
  },
  "each answer has a date": function*(client) {
    const answer = yield* client.get
    assert.isBelow(Math.abs(Date.parse(answer.headers.get("date") ?? "") - Date.now()), 60_000)
  },
  "a replacement of what was read is taken, under a larger resourceVersion": function*(client) {
    const made = yield* client.made
    const answer = yield* client.replace({ holderIdentity: "two" }, made.metadata)
    is(answer, 200)
    assert.isTrue(versionOf(answer.body) > versionOf(made))
    assert.strictEqual(answer.body.metadata.uid, made.metadata.uid)
  },
  "a replacement without managedFields is taken": function*(client) {
    const { managedFields: _, ...metadata } = (yield* client.made).metadata
    is(yield* client.replace({ holderIdentity: "two" }, metadata), 200)
  },
  "of two replacements of the same state, the second is 409 Conflict": function*(client) {
    const made = yield* client.made
    is(yield* client.replace({ holderIdentity: "two" }, made.metadata), 200)
    is(yield* client.replace({ holderIdentity: "three" }, made.metadata), 409, "Conflict")
    assert.strictEqual((yield* client.get).body.spec.holderIdentity, "two")
  },
  "a replacement without a resourceVersion is 422 Invalid": function*(client) {
    yield* client.made
    is(yield* client.replace({}, {}), 422, "Invalid")
  },
  "a replacement with another uid is 409 Conflict": function*(client) {
    const made = yield* client.made
    const uid = "00000000-0000-0000-0000-000000000000"
    is(yield* client.replace({ holderIdentity: "two" }, { ...made.metadata, uid }), 409, "Conflict")
  },
  "a replacement of what was deleted, with its uid, is 409 Conflict and makes nothing": function*(client) {
    const made = yield* client.made
    is(yield* client.delete(), 200)
    is(yield* client.replace({ holderIdentity: "two" }, made.metadata), 409, "Conflict")
    is(yield* client.get, 404, "NotFound")
  },
  "a replacement of what was deleted, without its uid, makes it again": function*(client) {
    const { metadata: { resourceVersion } } = yield* client.made
    is(yield* client.delete(), 200)
    is(yield* client.replace({}, { resourceVersion }), 201)
  },
  "a replacement of what was deleted and made again is 409 Conflict": function*(client) {
    const made = yield* client.made
    is(yield* client.delete(), 200)
    yield* client.made
    is(yield* client.replace({ holderIdentity: "two" }, made.metadata), 409, "Conflict")
  },
  "a replacement that changes nothing keeps the resourceVersion": function*(client) {
    const made = yield* client.made
    const answer = yield* client.replace({}, made.metadata)
    is(answer, 200)
    assert.strictEqual(versionOf(answer.body), versionOf(made))
  },
  "a change of an annotation alone is a change": function*(client) {
    const made = yield* client.made
    const answer = yield* client.replace({}, { ...made.metadata, annotations: { "effect-lock/draining": "x" } })
    assert.isTrue(versionOf(answer.body) > versionOf(made))
  },
  "a replacement under another name is 400": function*(client) {
    const made = yield* client.made
    is(yield* client.replace({}, made.metadata, `${client.name}-other`), 400, "BadRequest")
  },
  "the holder may be absent, and is absent then": function*(client) {
    const made = yield* client.made
    const answer = yield* client.replace({ holderIdentity: undefined, leaseDurationSeconds: 1 }, made.metadata)
    is(answer, 200)
    assert.isFalse("holderIdentity" in answer.body.spec)
  },
  "resourceVersions grow over deletion": function*(client) {
    const made = yield* client.made
    is(yield* client.delete(), 200)
    assert.isTrue(versionOf(yield* client.made) > versionOf(made))
  },
  "a deletion with a stale precondition is 409, of nothing 404": function*(client) {
    const made = yield* client.made
    const preconditions = { resourceVersion: String(versionOf(made) - 1n) }
    is(yield* client.delete({ apiVersion: "v1", kind: "DeleteOptions", preconditions }), 409, "Conflict")
    const { resourceVersion, uid } = made.metadata
    is(yield* client.delete({ apiVersion: "v1", kind: "DeleteOptions", preconditions: { resourceVersion, uid } }), 200)
    is(yield* client.delete(), 404, "NotFound")
  },
  "a merge patch is conditional on the resourceVersion that it names": function*(client) {
    const made = yield* client.made
    const type = { "content-type": "application/merge-patch+json" }
    const { resourceVersion } = made.metadata
    const patch = { metadata: { resourceVersion }, spec: { holderIdentity: "two" } }
    is(yield* client.send("PATCH", client.address(client.name), patch, type), 200)
    is(yield* client.send("PATCH", client.address(client.name), patch, type), 409, "Conflict")
    is(yield* client.send("PATCH", client.address(`${client.name}-none`), patch, type), 404, "NotFound")
  },
  "a JSON patch whose test fails is 422": function*(client) {
    yield* client.made
    const type = { "content-type": "application/json-patch+json" }
    const patch = (holder: string) => [
      { op: "test", path: "/spec/holderIdentity", value: holder },
      { op: "replace", path: "/spec/renewTime", value: "2026-11-02T03:04:06.000000Z" }
    ]
    is(yield* client.send("PATCH", client.address(client.name), patch("two"), type), 422, "Invalid")
    is(yield* client.send("PATCH", client.address(client.name), patch("one"), type), 200)
  },
  "a list has what the label selects": function*(client) {
    yield* client.create({}, { labels: { "effect-lock/namespace": client.name } })
    const { body } = yield* client.send(
      "GET",
      `${client.address(undefined)}?labelSelector=${encodeURIComponent(`effect-lock/namespace=${client.name}`)}`
    )
    assert.deepStrictEqual(body.items.map((lease: Json) => lease.metadata.name), [client.name])
  },
  "a list is cut into pages": function*(client) {
    const metadata = (index: number) => ({ name: `${client.name}-${index}`, labels: { page: client.name } })
    for (let index = 0; index < 3; index++) is(yield* client.create({}, metadata(index)), 201)
    const found: Array<string> = []
    let from: string | undefined = ""
    for (let page = 0; from !== undefined && page < 5; page++) {
      const query = new URLSearchParams({ labelSelector: `page=${client.name}`, limit: "2" })
      if (from !== "") query.set("continue", from)
      const { body }: Answer = yield* client.send("GET", `${client.address(undefined)}?${query}`)
      for (const lease of body.items) found.push(lease.metadata.name)
      from = body.metadata.continue
    }
    assert.deepStrictEqual(found.sort(), [0, 1, 2].map((index) => `${client.name}-${index}`))
  },
  "a watch tells what happened since, of that one name": function*(client) {
    const made = yield* client.made
    is(yield* client.create({}, { name: `${client.name}-other` }), 201)
    is(yield* client.replace({ holderIdentity: undefined }, made.metadata), 200)
    const events = yield* client.watch(made.metadata.resourceVersion, "MODIFIED")
    const told = events.filter(({ type }) => type !== "BOOKMARK")
    assert.deepStrictEqual(told.map(({ object, type }) => [type, object.metadata.name]), [["MODIFIED", client.name]])
    assert.isUndefined(told[0].object.spec.holderIdentity)
  },
  "a watch tells what happens later, and a deletion": function*(client) {
    const made = yield* client.made
    const watching = yield* Effect.forkChild(client.watch(made.metadata.resourceVersion, "DELETED"))
    is(yield* client.replace({ holderIdentity: "two" }, made.metadata), 200)
    is(yield* client.delete(), 200)
    const events: ReadonlyArray<Json> = yield* Fiber.join(watching)
    const types = events.map(({ type }) => type).filter((type) => type !== "BOOKMARK")
    assert.deepStrictEqual(types.slice(-1), ["DELETED"])
  },
  "a watch from before what is kept is an ERROR with code 410, and ends": function*(client) {
    yield* client.made
    const events = yield* client.watch("1", "never", { timeoutSeconds: "5" })
    assert.deepStrictEqual(events.map(({ object, type }) => [type, object.code]), [["ERROR", 410]])
  },
  "a watch ends after its timeoutSeconds": function*(client) {
    const made = yield* client.made
    const events = yield* client.watch(made.metadata.resourceVersion, "never", { timeoutSeconds: "1" })
    assert.deepStrictEqual(events.filter(({ type }) => type !== "BOOKMARK"), [])
  },
  "an unknown token is 401": function*(client) {
    is(
      yield* client.send("GET", client.address(client.name), undefined, { authorization: "Bearer no-such" }),
      401,
      "Unauthorized"
    )
  },
  "who may not is 403 Forbidden": function*(client) {
    if (client.server.weak === undefined) return
    const headers = { authorization: `Bearer ${client.server.weak}` }
    is(yield* client.send("GET", client.address(client.name), undefined, headers), 403, "Forbidden")
    is(yield* client.send("POST", client.address(undefined), client.lease(), headers), 403, "Forbidden")
  },
  "metadata of a lock fits: annotations of 10,000 bytes": function*(client) {
    is(yield* client.create({}, { annotations: { "effect-lock/metadata": "m".repeat(10_000) } }), 201)
  },
  "an object without uid and resourceVersion is a creation, one with a resourceVersion is none": function*(client) {
    const answer = yield* client.create({}, { resourceVersion: "1" })
    assert.isAtLeast(answer.status, 400)
  }
}

const values: ReadonlyArray<readonly [what: string, status: number, spec: Json, metadata?: Json]> = [
  ["a time with six fractional digits", 201, { renewTime: "2026-11-02T03:04:05.000000Z" }],
  ["a time with three fractional digits", 400, { renewTime: "2026-11-02T03:04:05.678Z" }],
  ["a time with nine fractional digits", 400, { renewTime: "2026-11-02T03:04:05.678901234Z" }],
  ["a time without a fraction", 400, { acquireTime: "2026-11-02T03:04:05Z" }],
  ["a duration of 1", 201, { leaseDurationSeconds: 1 }],
  ["the longest duration", 201, { leaseDurationSeconds: 2147483647 }],
  ["a duration of 0", 422, { leaseDurationSeconds: 0 }],
  ["a negative duration", 422, { leaseDurationSeconds: -1 }],
  ["a duration of 1.5", 400, { leaseDurationSeconds: 1.5 }],
  ["a duration of 2^31", 400, { leaseDurationSeconds: 2147483648 }],
  ["no duration", 201, { leaseDurationSeconds: undefined }],
  ["negative transitions", 422, { leaseTransitions: -1 }],
  ["a name in upper case", 422, {}, { name: "Probe-X" }],
  ["a name with an underscore", 422, {}, { name: "probe_x" }],
  ["a name of 254 characters", 422, {}, { name: "x".repeat(254) }],
  ["a label value with a slash", 422, {}, { labels: { x: "a/b" } }],
  ["an annotation that is no text", 400, {}, { annotations: { x: 1 } }]
]

const contract = (server: Effect.Effect<Server, never, Scope.Scope>) => {
  const test = (name: string, body: (client: Client) => Effect.Effect<void, unknown, Scope.Scope>) =>
    it.live(name, () => Effect.flatMap(server, (server) => body(new Client(server))), 30_000)
  for (const [name, probe] of Object.entries(probes)) test(name, (client) => Effect.gen(() => probe(client)))
  for (const [what, status, spec, metadata] of values) {
    test(`${what} is ${status}`, (client) =>
      Effect.map(client.create(spec, metadata), (answer) => {
        assert.strictEqual(answer.status, status, JSON.stringify(Option.fromNullishOr(answer.body?.message)))
      }))
  }
}

describe("the double of an API server", () => contract(double))

// Not skipped without one, but not there: nothing that this machine should have is missing.
if (KUBE_TEST_URL !== undefined && KUBE_TEST_TOKEN !== undefined) {
  describe("a real API server (KUBE_TEST_URL, KUBE_TEST_TOKEN)", () => contract(real))
}
