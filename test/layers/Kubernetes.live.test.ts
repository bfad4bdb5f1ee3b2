import { NodeHttpClient } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import {
  Cause,
  ConfigProvider,
  Duration,
  Effect,
  Exit,
  Fiber,
  Layer,
  Logger,
  Redacted,
  References,
  type Scope,
  Tracer
} from "effect"
import { Lock, LockBackend, withLock } from "effect-lock"
import { BackendLaws } from "effect-lock/testing"
import { testLaws } from "effect-lock/testing/vitest"
import { FetchHttpClient, type HttpClient } from "effect/http"
import { randomBytes } from "node:crypto"
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import * as path from "node:path"
import { rootCertificates } from "node:tls"
import { inspect as inspectValue } from "node:util"
import * as Kubernetes from "../../src/layers/Kubernetes.ts"
import { faultProxy } from "../servers/FaultProxy.ts"
import { kubernetesServer } from "../servers/KubernetesServer.ts"
import { grant, inspect, refused, release, renew, tryAcquire } from "./internal/kubernetesLocks.ts"

const now = { startImmediately: true } as const

const makeWith = (client: Layer.Layer<HttpClient.HttpClient>, options: Kubernetes.Options) =>
  Effect.gen(function*() {
    const context = yield* Layer.build(client)
    return yield* Effect.provideContext(Kubernetes.make(options), context)
  })

// Laws that end within round trips; those that wait for the end of a lease are asked on the test's clock.
const quick = BackendLaws.all.filter(({ id }) =>
  !/^(expiry|fencing\/over-(expiry|idle))|ends-by-ttl|after-expiry|stays-dead|after-a-grant|taken$/.test(id) &&
  !/renewal\/(extends|never-shortens|stale-handle)|replay\/(refreshes|never-takes)|release\/late/.test(id) &&
  !/renewal-or-takeover|lease\/(renewed|unrenewed)|acquire-late|renewal-reply-lost|lost-when-(taken|removed)/.test(id)
)

const environment = (
  server: Effect.Effect<Omit<Kubernetes.Options, "namespace">, never, Scope.Scope>,
  client: Layer.Layer<HttpClient.HttpClient>
) =>
  Effect.gen(function*() {
    const options = yield* server
    const root = randomBytes(6).toString("hex")
    const backend = (namespace: string) => makeWith(client, { ...options, namespace: `${root}${namespace}` })
    return BackendLaws.LawEnvironment.make({
      first: yield* backend(""),
      second: yield* backend(""),
      withNamespace: backend,
      contenders: 8,
      acquisitions: 40,
      positions: 20
    })
  })

const double = Effect.map(kubernetesServer(), ({ url }) => ({ endpoint: url, kubernetesNamespace: "default" }))

await testLaws("Kubernetes keeps the laws over sockets (undici)", environment(double, NodeHttpClient.layerUndici), {
  laws: quick,
  concurrent: true
})
await testLaws(
  "Kubernetes keeps the laws over sockets (fetch)",
  environment(double, FetchHttpClient.layer),
  { laws: quick.filter(({ id }) => /^(waiting|interruption|concurrency)/.test(id)), concurrent: true }
)

// A real API server, if there is one: its certificate by NODE_EXTRA_CA_CERTS.
const { KUBE_TEST_TOKEN, KUBE_TEST_URL } = process.env
if (KUBE_TEST_URL !== undefined && KUBE_TEST_TOKEN !== undefined) {
  const real = { endpoint: KUBE_TEST_URL, kubernetesNamespace: "default", token: Redacted.make(KUBE_TEST_TOKEN) }
  await testLaws(
    "Kubernetes keeps the laws on a real API server",
    Effect.map(environment(Effect.succeed(real), FetchHttpClient.layer), (environment) => ({
      ...environment,
      expirySlack: Duration.seconds(7),
      positions: 10
    })),
    { concurrent: true }
  )
}

const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(path.join(tmpdir(), "effect-lock-kubernetes-"))),
  (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
)

const all = ["get", "create", "update", "watch", "list"]

describe("over sockets", () => {
  it.live("an interrupted awaitTurn closes its connection", () =>
    Effect.gen(function*() {
      const server = yield* kubernetesServer()
      const options = { endpoint: server.url, kubernetesNamespace: "default" }
      for (
        const [name, client] of [["undici", NodeHttpClient.layerUndici], ["fetch", FetchHttpClient.layer]] as const
      ) {
        const backend = yield* makeWith(client, options)
        yield* grant({ backend }, `owner-${name}`)
        yield* refused({ backend }, `waiter-${name}`, { willWait: true })
        const turn = yield* Effect.forkChild(backend.awaitTurn!({ key: "k", ownerId: `waiter-${name}` }), now)
        yield* until(() => server.api.watches === 1, "a watch")
        yield* Fiber.interrupt(turn)
        yield* until(() => server.api.watches === 0, "the end of the watch")
        yield* release({ backend }, `owner-${name}`)
      }
    }))

  it.live("a server that does not answer is TimedOut within the budget, and its late work is undone", () =>
    Effect.gen(function*() {
      const server = yield* kubernetesServer()
      const proxy = yield* faultProxy(server.port)
      const backend = yield* makeWith(NodeHttpClient.layerUndici, {
        endpoint: `http://127.0.0.1:${proxy.port}`,
        kubernetesNamespace: "default"
      })
      yield* proxy.set({ loseReplies: true })
      const error = yield* Effect.flip(backend.tryAcquire({
        key: "k",
        ownerId: "owner",
        ttl: Duration.seconds(10),
        metadata: {},
        willWait: false,
        budget: Duration.millis(600)
      }))
      assert.strictEqual(error.reason._tag, "TimedOut")
      yield* proxy.refuse
      assert.strictEqual((yield* Effect.flip(tryAcquire({ backend }, "owner"))).reason._tag, "Unreachable")
      yield* proxy.heal
      yield* proxy.listen
      yield* release({ backend }, "owner")
      yield* grant({ backend }, "next")
    }))

  it.live("a holder's lease survives connections that are reset", () =>
    Effect.gen(function*() {
      const server = yield* kubernetesServer()
      const proxy = yield* faultProxy(server.port)
      const backend = yield* makeWith(NodeHttpClient.layerUndici, {
        endpoint: `http://127.0.0.1:${proxy.port}`,
        kubernetesNamespace: "default"
      })
      yield* Effect.gen(function*() {
        const lease = yield* withLock("k", { ttl: "5 seconds", renewEvery: "200 millis" })
        for (let round = 0; round < 10; round++) {
          yield* Effect.sleep("100 millis")
          yield* proxy.reset
        }
        yield* lease.ensure("4 seconds")
      }).pipe(Effect.scoped, Effect.provideService(LockBackend, backend))
      yield* until(() => server.api.leases[0]?.spec.holderIdentity === undefined, "the release")
    }))
})

describe("in a cluster", () => {
  it.live("address, token, namespace and CA come from the pod", () =>
    Effect.gen(function*() {
      const server = yield* kubernetesServer({ namespaces: ["prod"], tokens: new Map([["pod-token", all]]) })
      const directory = yield* folder
      writeFileSync(path.join(directory, "token"), "pod-token\n")
      writeFileSync(path.join(directory, "namespace"), "prod\n")
      const backend = yield* Kubernetes.makeInCluster({ directory, endpoint: server.url })
      const { handle } = yield* grant({ backend }, "owner")
      assert.strictEqual(server.api.leases[0]?.metadata.namespace, "prod")
      // The kubelet has rotated the token.
      writeFileSync(path.join(directory, "token"), "next-token\n")
      server.api.tokens = new Map([["next-token", all]])
      assert.strictEqual(yield* renew({ backend }, "owner", handle), "Renewed")
      assert.strictEqual(yield* release({ backend }, "owner", handle), "Released")
    }))

  it.live("outside of one, it is Misconfigured, and says what to do", () =>
    Effect.gen(function*() {
      const directory = yield* folder
      const nowhere = yield* Effect.flip(Kubernetes.makeInCluster({ directory, endpoint: "http://127.0.0.1:1" }))
      assert.strictEqual(nowhere.reason._tag, "Misconfigured")
      assert.match(nowhere.message, /layerKubeconfig/)
      const noAddress = yield* Effect.flip(
        Kubernetes.makeInCluster({ directory }).pipe(
          Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromUnknown({}))
        )
      )
      assert.match(noAddress.message, /KUBERNETES_SERVICE_HOST/)
    }))

  it.live("the environment's address is used, IPv6 too, and the CA is needed for https", () =>
    Effect.gen(function*() {
      const directory = yield* folder
      writeFileSync(path.join(directory, "token"), "pod-token")
      writeFileSync(path.join(directory, "namespace"), "prod")
      const settings = { KUBERNETES_SERVICE_HOST: "fd00::1", KUBERNETES_SERVICE_PORT: "443" }
      const make = Kubernetes.makeInCluster({ directory }).pipe(
        Effect.provideService(ConfigProvider.ConfigProvider, ConfigProvider.fromUnknown(settings))
      )
      assert.match((yield* Effect.flip(make)).message, /ca\.crt/)
      writeFileSync(path.join(directory, "ca.crt"), "")
      assert.strictEqual((yield* make).name, "kubernetes")
    }))
})

describe("by a kubeconfig", () => {
  const kubeconfig = (folder: string, server: string, user: object, cluster: object = {}) => {
    const file = path.join(folder, `${randomBytes(4).toString("hex")}.yaml`)
    // JSON is YAML.
    writeFileSync(
      file,
      JSON.stringify({
        apiVersion: "v1",
        kind: "Config",
        "current-context": "main",
        clusters: [{ name: "c", cluster: { server, "insecure-skip-tls-verify": true, ...cluster } }],
        users: [{ name: "u", user }],
        contexts: [
          { name: "main", context: { cluster: "c", user: "u", namespace: "prod" } },
          { name: "other", context: { cluster: "c", user: "u" } },
          { name: "broken", context: { cluster: "none", user: "u" } }
        ]
      })
    )
    return file
  }

  it.live("server, token and namespace come from its context", () =>
    Effect.gen(function*() {
      const server = yield* kubernetesServer({
        namespaces: ["prod", "default", "mine"],
        tokens: new Map([["t-1", all]])
      })
      const file = kubeconfig(yield* folder, server.url, { token: "t-1" })
      for (
        const [options, namespace] of [
          [{}, "prod"],
          [{ context: "other" }, "default"],
          [{ kubernetesNamespace: "mine" }, "mine"]
        ] as const
      ) {
        const backend = yield* Kubernetes.makeKubeconfig({ path: file, ...options })
        yield* grant({ backend }, `owner in ${namespace}`)
        assert.isTrue(server.api.leases.some((lease) => lease.metadata.namespace === namespace), namespace)
      }
      const wrong = kubeconfig(yield* folder, server.url, { token: "t-2" })
      const backend = yield* Kubernetes.makeKubeconfig({ path: wrong })
      assert.strictEqual((yield* Effect.flip(inspect({ backend }))).reason._tag, "Unauthorized")
    }))

  it.live("a program that makes tokens is run", () =>
    Effect.gen(function*() {
      const server = yield* kubernetesServer({ namespaces: ["prod"], tokens: new Map([["made-1", all]]) })
      const credential = {
        apiVersion: "client.authentication.k8s.io/v1",
        kind: "ExecCredential",
        status: { token: "made-1" }
      }
      const exec = {
        apiVersion: "client.authentication.k8s.io/v1",
        command: process.execPath,
        args: ["-e", `console.log(${JSON.stringify(JSON.stringify(credential))})`],
        interactiveMode: "Never"
      }
      const backend = yield* Kubernetes.makeKubeconfig({ path: kubeconfig(yield* folder, server.url, { exec }) })
      yield* grant({ backend }, "owner")
    }))

  it.live("what it asks for and can't have is Misconfigured or Unauthorized, without showing secrets", () =>
    Effect.gen(function*() {
      const directory = yield* folder
      const url = "https://127.0.0.1:1"
      const broken = path.join(directory, "broken.yaml")
      writeFileSync(broken, "token: [canary-1")
      const cases: ReadonlyArray<readonly [Kubernetes.KubeconfigOptions, string, RegExp]> = [
        [{ path: path.join(directory, "none") }, "Misconfigured", /can't be read/],
        [{ path: broken }, "Misconfigured", /can't be read/],
        [{ path: kubeconfig(directory, url, {}), context: "broken" }, "Misconfigured", /"broken"/],
        [{ path: kubeconfig(directory, url, {}), context: "no-such" }, "Misconfigured", /"no-such"/],
        [
          { path: kubeconfig(directory, url, { token: "canary-2" }, { "proxy-url": "http://canary@x" }) },
          "Misconfigured",
          /proxy/
        ],
        [{ path: kubeconfig(directory, url, { username: "x", password: "canary-3" }) }, "Misconfigured", /basic/],
        [{ path: kubeconfig(directory, url, { as: "x", token: "canary-4" }) }, "Misconfigured", /impersonation/],
        [
          {
            path: kubeconfig(directory, url, {
              exec: { apiVersion: "client.authentication.k8s.io/v1", command: "no-such-program", args: ["canary-5"] }
            })
          },
          "Unauthorized",
          /program/
        ]
      ]
      for (const [options, tag, complaint] of cases) {
        const error = yield* Effect.flip(Kubernetes.makeKubeconfig(options))
        assert.strictEqual(error.reason._tag, tag, error.message)
        assert.match(error.message, complaint)
        assert.notInclude(`${error.message} ${JSON.stringify(error)} ${Cause.pretty(Cause.fail(error))}`, "canary")
      }
    }))
})

const ca = process.env["NODE_EXTRA_CA_CERTS"]

// Not skipped without a server, but not there: nothing that this machine should have is missing.
if (KUBE_TEST_URL !== undefined && KUBE_TEST_TOKEN !== undefined && ca !== undefined) {
  describe(
    "with the CA of a real API server (KUBE_TEST_URL, KUBE_TEST_TOKEN, NODE_EXTRA_CA_CERTS)",
    () => {
      const endpoint = KUBE_TEST_URL ?? ""
      const token = KUBE_TEST_TOKEN ?? ""
      const holds = (backend: LockBackend["Service"]) =>
        Effect.gen(function*() {
          const key = randomBytes(8).toString("hex")
          const lease = yield* withLock(key, { ttl: "5 seconds" })
          yield* lease.renew
          assert.lengthOf(yield* Lock.inspect(key), 1)
        }).pipe(Effect.scoped, Effect.provideService(LockBackend, backend))

      it.live("layerInCluster connects, and without that CA it does not", () =>
        Effect.gen(function*() {
          const directory = yield* folder
          writeFileSync(path.join(directory, "token"), token)
          writeFileSync(path.join(directory, "namespace"), "default")
          copyFileSync(ca ?? "", path.join(directory, "ca.crt"))
          yield* holds(yield* Kubernetes.makeInCluster({ directory, endpoint }))
          writeFileSync(path.join(directory, "ca.crt"), rootCertificates[0] ?? "")
          const backend = yield* Kubernetes.makeInCluster({ directory, endpoint })
          assert.strictEqual((yield* Effect.flip(inspect({ backend }))).reason._tag, "Unreachable")
        }))

      it.live("layerKubeconfig connects", () =>
        Effect.gen(function*() {
          const file = path.join(yield* folder, "config")
          const cluster = { server: endpoint, "certificate-authority": ca }
          writeFileSync(
            file,
            JSON.stringify({
              apiVersion: "v1",
              kind: "Config",
              "current-context": "main",
              clusters: [{ name: "c", cluster }],
              users: [{ name: "u", user: { token } }],
              contexts: [{ name: "main", context: { cluster: "c", user: "u" } }]
            })
          )
          yield* holds(yield* Kubernetes.makeKubeconfig({ path: file }))
        }))
    }
  )
}

describe("the token", () => {
  it.live("is in no error, log, span or metric, whatever goes wrong", () =>
    Effect.gen(function*() {
      const canary = "canary-token-1234567890"
      const server = yield* kubernetesServer({ tokens: new Map([[canary, all]]) })
      const proxy = yield* faultProxy(server.port)
      const seen: Array<string> = []
      const show = (value: unknown): string => inspectValue(value, { depth: 8, showHidden: true })
      const logger = Logger.make(({ cause, message }) => {
        seen.push(show(message), Cause.pretty(cause))
      })
      const tracer = Tracer.make({
        span: (options) => {
          const span = new Tracer.NativeSpan(options)
          const end = span.end.bind(span)
          span.end = (at, exit) => {
            const failure = Exit.isFailure(exit) ? Cause.pretty(exit.cause) : ""
            seen.push(`${span.name} ${show([...span.attributes])} ${failure}`)
            end(at, exit)
          }
          return span
        }
      })
      const backend = yield* makeWith(NodeHttpClient.layerUndici, {
        endpoint: `http://127.0.0.1:${proxy.port}`,
        kubernetesNamespace: "default",
        token: Redacted.make(canary)
      })
      const program = Effect.gen(function*() {
        const attempt = Effect.exit(
          Effect.scoped(withLock("k", { ttl: "5 seconds", wait: "300 millis", outageBudget: 0 }))
        )
        const exits: Array<Exit.Exit<unknown, unknown>> = []
        const held = yield* Effect.exit(
          withLock("k", { ttl: "5 seconds" }).pipe(
            Effect.flatMap((lease) => Effect.andThen(proxy.refuse, lease.renew)),
            Effect.scoped
          )
        )
        exits.push(held, yield* attempt)
        yield* proxy.listen
        server.api.tokens = new Map()
        exits.push(yield* attempt)
        server.api.tokens = new Map([[canary, []]])
        exits.push(yield* attempt)
        exits.push(yield* Effect.exit(Effect.map(Lock.inspect("k"), () => undefined)))
        assert.isAtLeast(exits.filter(Exit.isFailure).length, 4)
        for (const exit of exits) {
          if (Exit.isFailure(exit)) {
            seen.push(Cause.pretty(exit.cause), show(exit.cause), String(Cause.squash(exit.cause)))
          }
        }
      }).pipe(
        Effect.provideService(LockBackend, backend),
        Effect.provide(Logger.layer([logger])),
        Effect.provideService(References.MinimumLogLevel, "All"),
        Effect.withTracer(tracer)
      )
      yield* program
      assert.isAbove(seen.length, 10)
      for (const text of seen) {
        assert.notInclude(text, canary)
        assert.notInclude(text, "Bearer")
      }
    }))
})

const until = (done: () => boolean, what: string) =>
  Effect.gen(function*() {
    const deadline = performance.now() + 10_000
    while (!done()) {
      if (performance.now() > deadline) assert.fail(`never: ${what}`)
      yield* Effect.sleep("5 millis")
    }
  })
