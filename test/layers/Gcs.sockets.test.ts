import { NodeHttpClient } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Storage } from "@google-cloud/storage"
import {
  Config,
  ConfigProvider,
  Duration,
  Effect,
  Exit,
  Fiber,
  Layer,
  Logger,
  Option,
  Schedule,
  type Scope,
  Tracer
} from "effect"
import { Lock, LockBackend, type LockBackendError, withLock } from "effect-lock"
import { FetchHttpClient, type HttpClient } from "effect/http"
import { inspect } from "node:util"
import * as Gcs from "../../src/layers/Gcs.ts"
import { all, LawEnvironment } from "../../src/testing/BackendLaws.ts"
import { testLaws } from "../../src/testing/vitest.ts"
import { GcsServer, type Method, problem } from "../servers/GcsServer.ts"
import { grantOf, verbs } from "./internal/gcsLocks.ts"

type Service = LockBackend["Service"]

const clients: ReadonlyArray<readonly [string, Layer.Layer<HttpClient.HttpClient>]> = [
  ["undici", NodeHttpClient.layerUndici],
  ["fetch", FetchHttpClient.layer]
]

const environment = (
  make: (namespace?: string) => ReturnType<typeof Gcs.make>,
  client: Layer.Layer<HttpClient.HttpClient>,
  counts: { readonly acquisitions: number; readonly contenders: number; readonly positions: number },
  adapt: (service: Service) => Effect.Effect<Service, never, Scope.Scope> = Effect.succeed
) =>
  Effect.gen(function*() {
    // One pool of connections, as a program has.
    const context = yield* Layer.build(client)
    const build = (namespace?: string) => Effect.flatMap(Effect.provide(make(namespace), context), adapt)
    return LawEnvironment.make({
      first: yield* build(),
      second: yield* build(),
      withNamespace: build,
      expirySlack: Duration.seconds(5),
      ...counts
    })
  })

// Most laws about expiry wait for a ttl several times, and are asked in virtual time.
const quick =
  /^(exclusion|namespace|names|inspect)|^replay\/is|^refusal|^expiry\/after|^release\/(id|not|nev|unk|after)/
const more =
  /^fencing\/over-rel|^break\/now|^concurrency\/(counter|dup)|^interruption|^lease\/(scope|early|if|waiter-is|interrupted|backend)/

for (const [name, client] of clients) {
  const overSocket = Effect.gen(function*() {
    const endpoint = yield* new GcsServer().listen
    return yield* environment(
      (namespace) => Gcs.make({ bucket: "locks", endpoint, namespace, expiry: "serverDate" }),
      client,
      { acquisitions: 30, contenders: 12, positions: 25 }
    )
  })
  await testLaws(`Gcs keeps the laws, over ${name}`, overSocket, {
    laws: all.filter(({ id }) => quick.test(id) || more.test(id)),
    concurrent: true
  })
}

const { GCS_TEST_BUCKET, GCS_TEST_ENDPOINT } = process.env

if (GCS_TEST_BUCKET !== undefined || GCS_TEST_ENDPOINT !== undefined) {
  const bucket = GCS_TEST_BUCKET ?? "effect-lock-tests"
  if (GCS_TEST_ENDPOINT !== undefined) {
    // It may be there already.
    await fetch(`${GCS_TEST_ENDPOINT}/storage/v1/b?project=effect-lock`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ name: bucket })
    })
  }
  // The core waits when it is throttled; laws about the port's verbs don't.
  const untilNotThrottled = <A>(self: Effect.Effect<A, LockBackendError>) =>
    Effect.retry(self, {
      while: ({ reason }) => reason._tag === "Throttled",
      schedule: Schedule.spaced(1100),
      times: 30
    })
  const patient = (service: Service) =>
    LockBackend.make({
      ...service,
      tryAcquire: (request) => untilNotThrottled(service.tryAcquire(request)),
      renew: (request) => untilNotThrottled(service.renew(request)),
      release: (request) => untilNotThrottled(service.release(request)),
      break: (request) => untilNotThrottled(service.break!(request))
    })
  const outside = environment(
    (namespace) =>
      Gcs.make({
        bucket,
        objectPrefix: "effect-lock-tests/",
        namespace,
        endpoint: GCS_TEST_ENDPOINT,
        expiry: "serverDate"
      }),
    NodeHttpClient.layerUndici,
    { acquisitions: 5, contenders: 5, positions: 5 },
    patient
  )
  await testLaws(`Gcs keeps the laws, on ${GCS_TEST_ENDPOINT ?? `gs://${bucket}`}`, outside, {
    concurrent: true,
    timeout: 600_000
  })
}

const server = Effect.gen(function*() {
  const server = new GcsServer()
  return { server, endpoint: yield* server.listen }
})

/** Takes, renews and gives back a lock. */
const cycle = (options: Gcs.Options) =>
  Effect.gen(function*() {
    const { release, renew, tryAcquire } = verbs(yield* Gcs.make(options))
    const { handle } = grantOf(yield* tryAcquire("a"))
    const renewed = yield* renew("a", handle)
    assert(renewed._tag === "Renewed")
    assert.strictEqual(yield* release("a", renewed.handle), "Released")
  }).pipe(Effect.provide(NodeHttpClient.layerUndici))

const methods: ReadonlyArray<Method> = ["insert", "patch", "delete"]

const withVariable = (name: string, value: string) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const before = process.env[name]
      process.env[name] = value
      return before
    }),
    (before) =>
      Effect.sync(() => {
        if (before === undefined) delete process.env[name]
        else process.env[name] = before
      })
  )

const canary = "canary-4f1e0c"
const credentials = (token: () => string) => ({
  getRequestHeaders: async () => new Headers({ authorization: token(), "x-goog-user-project": "quota" })
})

/** A Storage that sends its credentials to that endpoint, as one with a private endpoint would. */
const storageWith = (endpoint: string, token: () => string) =>
  new Storage({
    apiEndpoint: endpoint,
    useAuthWithCustomEndpoint: true,
    // What is asked of it is one method.
    authClient: credentials(token) as unknown as NonNullable<Storage["authClient"]>
  })

describe("endpoint and credentials", () => {
  it.live("are those of the user's Storage; an emulator is not told any", () =>
    Effect.gen(function*() {
      const { endpoint, server: emulator } = yield* server
      yield* cycle({ bucket: "locks", storage: new Storage({ apiEndpoint: endpoint }) })
      assert.isTrue(emulator.asked.every(({ request }) => request.headers["authorization"] === undefined))
      assert.deepStrictEqual(emulator.methods(), methods)
    }))

  it.live("are found by a Storage that is made: STORAGE_EMULATOR_HOST", () =>
    Effect.gen(function*() {
      const { endpoint, server: emulator } = yield* server
      for (const ending of ["", "/", "/storage/v1"]) {
        yield* Effect.scoped(
          Effect.andThen(withVariable("STORAGE_EMULATOR_HOST", endpoint + ending), cycle({ bucket: "locks" }))
        )
        assert.deepStrictEqual(emulator.methods(), methods)
      }
    }))

  it.live("of a Storage that authorises are sent with every request, and renewed when they are refused", () =>
    Effect.gen(function*() {
      const { endpoint, server: service } = yield* server
      service.settings.authorization = "Bearer second"
      const tokens = ["Bearer first", "Bearer second"]
      const storage = storageWith(endpoint, () => tokens.length > 1 ? tokens.shift()! : tokens[0]!)
      yield* cycle({ bucket: "locks", storage })
      assert.isTrue(service.asked.every(({ request }) => request.headers["x-goog-user-project"] === "quota"))
      assert.deepStrictEqual(service.methods(), ["insert", ...methods])
    }))

  it.live("that can't be had are Unauthorized, or an outage of the server that gives them", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* server
      const failures: ReadonlyArray<readonly [unknown, string]> = [
        [new Error(`Could not load the default credentials (${canary})`), "Unauthorized"],
        [Object.assign(new Error(canary), { code: "400", response: { status: 400, data: canary } }), "Unauthorized"],
        [Object.assign(new Error(canary), { code: "ECONNREFUSED" }), "Unreachable"],
        [Object.assign(new Error(canary), { response: { status: 503 } }), "Unreachable"],
        [canary, "Unauthorized"]
      ]
      for (const [failure, tag] of failures) {
        const storage = storageWith(endpoint, () => {
          throw failure
        })
        const error = yield* Effect.flip(cycle({ bucket: "locks", storage }))
        assert.strictEqual(error._tag === "LockBackendError" ? error.reason._tag : "", tag)
        assert.notInclude(shown(error), canary)
      }
    }))

  it.live("that hang are part of what is bounded", () =>
    Effect.gen(function*() {
      const { endpoint } = yield* server
      const storage: Gcs.StorageClient = {
        apiEndpoint: endpoint,
        customEndpoint: true,
        useAuthWithCustomEndpoint: true,
        authClient: { getRequestHeaders: () => new Promise(() => {}) }
      }
      const { service } = { service: yield* Gcs.make({ bucket: "locks", storage }) }
      const error = yield* Effect.flip(service.inspect({ key: "k", budget: Duration.millis(150) }))
      assert.strictEqual(error.reason._tag, "TimedOut")
    }).pipe(Effect.provide(FetchHttpClient.layer)))
})

const shown = (error: unknown): string =>
  [String(error), JSON.stringify(error), inspect(error, { depth: 6 }), error instanceof Error ? error.stack : ""].join(
    "\n"
  )

describe("a secret", () => {
  it.live("of the credentials is in no error, log or span, whatever happens to a request", () =>
    Effect.gen(function*() {
      const { endpoint, server: service } = yield* server
      const written: Array<string> = []
      const logger = Logger.make<unknown, void>((options) => {
        written.push(shown(options.message), shown(options.cause))
      })
      const spans: Array<Tracer.NativeSpan> = []
      const tracer = Tracer.make({
        span: (options) => {
          const span = new Tracer.NativeSpan(options)
          spans.push(span)
          return span
        }
      })
      const echo = { status: 403, headers: {}, body: `you sent Bearer ${canary}` }
      const faults = [
        undefined,
        { _tag: "Reset", applied: false } as const,
        { _tag: "Hang", applied: false } as const,
        { _tag: "Answer", reply: problem(503, `Bearer ${canary}`), applied: false } as const,
        { _tag: "Answer", reply: problem(403, "forbidden"), applied: false } as const,
        { _tag: "Answer", reply: { ...echo, status: 200 }, applied: false } as const,
        { _tag: "Answer", reply: echo, applied: false } as const
      ]
      for (const [, client] of clients) {
        for (const fault of faults) {
          service.fault = () => fault
          const exit = yield* Effect.exit(
            Effect.scoped(withLock("k", { ttl: "10 seconds", operationTimeout: 300, outageBudget: 400 })).pipe(
              Effect.provide(
                Gcs.layer({ bucket: "locks", storage: storageWith(endpoint, () => `Bearer ${canary}`) }).pipe(
                  Layer.provide(client),
                  Layer.merge(Logger.layer([logger]))
                )
              ),
              Effect.provideService(Tracer.Tracer, tracer)
            )
          )
          assert.strictEqual(Exit.isSuccess(exit), fault === undefined)
          if (Exit.isFailure(exit)) {
            written.push(shown(exit.cause), shown(Option.getOrUndefined(Exit.findErrorOption(exit))))
          }
        }
      }
      assert.isTrue(service.asked.every(({ request }) => request.headers["authorization"] === `Bearer ${canary}`))
      for (const span of spans) {
        const { status } = span
        written.push(span.name, shown([...span.attributes]), shown(span.events))
        if (status._tag === "Ended" && Exit.isFailure(status.exit)) written.push(shown(status.exit.cause))
      }
      assert.isAbove(spans.length, 0)
      assert.notInclude(written.join("\n"), canary)
    }))
})

describe("options", () => {
  const wrong: ReadonlyArray<readonly [string, Gcs.Options, RegExp]> = [
    ["an empty bucket", { bucket: "" }, /bucket/],
    ["a bucket that is none", { bucket: "My Bucket" }, /bucket/],
    ["a URL that is none", { bucket: "s3://locks" }, /bucket/],
    ["a prefix given twice", { bucket: "gs://locks/a/", objectPrefix: "b/" }, /leave out one/],
    ["a prefix that starts with a slash", { bucket: "locks", objectPrefix: "/a" }, /objectPrefix/],
    ["a prefix with a control character", { bucket: "locks", objectPrefix: "a\n" }, /objectPrefix/],
    ["a prefix too long", { bucket: "locks", objectPrefix: "é".repeat(301) }, /objectPrefix/],
    ["a prefix that is reserved", { bucket: "locks", objectPrefix: ".well-known/acme-challenge/" }, /reserved|itself/],
    ["a bad namespace", { bucket: "locks", namespace: "\0" }, /namespace/],
    ["an endpoint that is none", { bucket: "locks", endpoint: "nowhere at all" }, /endpoint/],
    ["an endpoint with a password", { bucket: "locks", endpoint: "http://u:pw-canary@localhost" }, /credentials/],
    ["two endpoints", { bucket: "locks", endpoint: "http://x", storage: new Storage() }, /not as endpoint too/],
    ["an empty project", { bucket: "locks", userProject: "" }, /userProject/],
    ["an unknown onRelease", { bucket: "locks", onRelease: "drop" as "keep" }, /onRelease/],
    ["an unknown expiry", { bucket: "locks", expiry: "never" as "serverDate" }, /expiry/],
    ["a storage that is none", { bucket: "locks", storage: {} as Storage }, /storage must be/],
    ["defaults that contradict each other", {
      bucket: "locks",
      defaults: { ttl: "10 seconds", operationTimeout: 9000 }
    }, /defaults/]
  ]
  for (const [what, options, words] of wrong) {
    it.live(`${what}: Misconfigured, before anything is sent`, () =>
      Effect.gen(function*() {
        const error = yield* Effect.flip(Effect.scoped(Gcs.make(options)))
        assert.strictEqual(error.operation, "build")
        assert.strictEqual(error.reason._tag, "Misconfigured")
        assert.match(error.message, words)
        assert.notInclude(error.message, "pw-canary")
      }).pipe(Effect.provide(FetchHttpClient.layer)))
  }

  it.live("can come from configuration", () =>
    Effect.gen(function*() {
      const { endpoint, server: service } = yield* server
      const layer = Gcs.layerConfig({
        bucket: Config.String("LOCK_BUCKET"),
        endpoint: Config.String("LOCK_ENDPOINT"),
        onRelease: Config.Literals(["delete", "keep"], "LOCK_ON_RELEASE")
      })
      yield* Effect.void.pipe(
        Lock.guard("nightly"),
        Effect.provide(Layer.provide(layer, NodeHttpClient.layerUndici)),
        Effect.provideService(
          ConfigProvider.ConfigProvider,
          ConfigProvider.fromUnknown({ LOCK_BUCKET: "gs://locks/x/", LOCK_ENDPOINT: endpoint, LOCK_ON_RELEASE: "keep" })
        )
      )
      assert.strictEqual(service.object.name, "x/n-/l-nightly")
      assert.strictEqual(service.object.metadata["state"], "free")
    }))

  it.live("give a ttl of a minute, and hide nothing of it by leaving it undefined", () =>
    Effect.gen(function*() {
      const { endpoint, server: service } = yield* server
      yield* withLock("k").pipe(
        Effect.andThen(Effect.sync(() => assert.strictEqual(service.object.metadata["ttl"], "60000"))),
        Effect.scoped,
        Effect.provide(
          Layer.provide(
            Gcs.layer({ bucket: "locks", endpoint, defaults: { ttl: undefined } }),
            NodeHttpClient.layerUndici
          )
        )
      )
      const error = yield* withLock("k", { ttl: "9 seconds" }).pipe(
        Effect.scoped,
        Effect.provide(Layer.provide(Gcs.layer({ bucket: "locks", endpoint }), NodeHttpClient.layerUndici)),
        Effect.flip
      )
      assert.strictEqual(error._tag, "InvalidLockRequest")
    }))
})

describe("a request", () => {
  for (const [name, client] of clients) {
    it.live(`that hangs can be interrupted, and its connection is closed, over ${name}`, () =>
      Effect.gen(function*() {
        const { endpoint, server: service } = yield* server
        service.fault = () => ({ _tag: "Hang", applied: false })
        const backend = yield* Gcs.make({ bucket: "locks", endpoint })
        const asking = yield* Effect.forkChild(
          backend.inspect({ key: "k", budget: Duration.hours(1) }),
          { startImmediately: true }
        )
        yield* Effect.repeat(Effect.sleep(5), { until: () => service.asked.length > 0, times: 1000 })
        assert.lengthOf(service.asked, 1)
        yield* Fiber.interrupt(asking)
        yield* Effect.repeat(Effect.sleep(5), { until: () => service.connections === 0, times: 1000 })
        assert.strictEqual(service.connections, 0)
      }).pipe(Effect.provide(client)))
  }
})
