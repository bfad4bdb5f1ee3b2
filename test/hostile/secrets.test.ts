/**
 * Passwords and tokens are planted everywhere they can be given, and everything is made to fail in every way it can:
 * nothing that a program could show shows one, not even where a server quotes what it was sent.
 */
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Layer, Redacted, type Scope, Stream } from "effect"
import { Lock, LockBackend, type LockBackendError, withLock } from "effect-lock"
import * as Etcd from "effect-lock/layers/Etcd"
import * as Gcs from "effect-lock/layers/Gcs"
import * as Kubernetes from "effect-lock/layers/Kubernetes"
import * as Memcached from "effect-lock/layers/Memcached"
import * as Redis from "effect-lock/layers/Redis"
import * as Redlock from "effect-lock/layers/Redlock"
import { HttpClient, HttpClientError, type HttpClientRequest, HttpClientResponse } from "effect/http"
import { Redis as Ioredis } from "ioredis"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import * as path from "node:path"
import { afterAll } from "vitest"
import { memcachedServer } from "../servers/MemcachedServer.ts"
import { redisServer } from "../servers/RedisServer.ts"
import { freePort, isInstalled } from "../servers/ServerProcess.ts"
import { assertDiscreet, listenToConsole, overheard, spellings, traces } from "./canaries.ts"
import { manners, respServer, tcpServer } from "./respServer.ts"

const user = "user"
const secret = "cAnArY-0f-A-SeCrEt"
const secrets = spellings(secret, user)

afterAll(listenToConsole())

type Make = Effect.Effect<LockBackend["Service"], LockBackendError, Scope.Scope>

/** All that a program does with a lock; the first failure of it. */
const use = (make: Make) =>
  Effect.flatMap(make, (service) => {
    const operations: ReadonlyArray<Effect.Effect<unknown, unknown, LockBackend>> = [
      withLock("k", { ttl: "20 seconds", outageBudget: 0, operationTimeout: "400 millis", wait: 0 }).pipe(
        Effect.andThen(Effect.fail("it was granted")),
        Effect.scoped
      ),
      Lock.inspect("k"),
      Lock.break("k", "other", { now: true }),
      Stream.runDrain(service.list?.("") ?? Stream.empty)
    ]
    // A list has no budget of its own.
    const bounded = (operation: Effect.Effect<unknown, unknown, LockBackend>) =>
      Effect.exit(Effect.provideService(Effect.timeout(operation, "4 seconds"), LockBackend, service))
    return Effect.flatMap(
      Effect.forEach(operations, bounded, { concurrency: "unbounded" }),
      (exits) => {
        const failed = exits.filter(Exit.isFailure)
        return failed.length === 0 ? Effect.void : Effect.fail(failed)
      }
    )
  })

const provoke = (cases: Readonly<Record<string, Make>>) =>
  Effect.gen(function*() {
    const said = yield* Effect.forEach(
      Object.entries(cases),
      ([what, make]) => overheard(what, Effect.scoped(use(make))),
      { concurrency: "unbounded" }
    )
    for (const each of said) assertDiscreet(each, secrets)
  })

it("the search finds what is hidden", () => {
  const hidden = Object.defineProperty(new Error("x"), "config", {
    value: { headers: new Map([["a", `Bearer ${secret}`]]) }
  })
  assert.isNotEmpty(traces(new Error("outer", { cause: hidden }), secrets))
  assert.isNotEmpty(traces(Object.defineProperty({}, "toJSON", { value: () => secret }), secrets))
  assert.isNotEmpty(traces({ a: [new TextEncoder().encode(`auth ${secret}`)] }, secrets))
  assert.isNotEmpty(traces(`redis://${encodeURIComponent(secret)}@h`, secrets))
  assert.isNotEmpty(traces(Buffer.from(`${user}:${secret}`).toString("base64"), secrets))
  assert.isEmpty(traces(Redacted.make(secret), secrets))
})

// -----------------------------------------------------------------------------
// Redis, Redlock
// -----------------------------------------------------------------------------

/** Redis servers that fail in ways of their own. */
const badRedises = Effect.gen(function*() {
  const refused = yield* freePort
  const quoting = yield* respServer((words) => `-ERR unknown command ${words.join(" ")}\r\n`)
  const rejecting = yield* respServer((words) => `-WRONGPASS invalid pair ${words.join(" ")}\r\n`)
  const late = yield* respServer((words) =>
    /^eval/i.test(words[0] ?? "") ? `-ERR Error running script: ${words.join(" ")} ${secret}\r\n` : manners(words)
  )
  const garbage = yield* respServer((words) => `HTTP/1.1 400 Bad Request\r\n\r\n${words.join(" ")}`)
  const reset = yield* respServer(() => undefined)
  const silent = yield* tcpServer(() => 0)
  return {
    "refused": refused,
    "an error that quotes": quoting.port,
    "a wrong password that is quoted": rejecting.port,
    "a script's error that quotes": late.port,
    "garbage": garbage.port,
    "a hang-up": reset.port,
    "silence": silent.port
  }
})

const wrongUrls: ReadonlyArray<string> = [
  `redis//${user}:${secret}@h`,
  `http://${user}:${secret}@127.0.0.1`,
  `redis://${user}:${secret}@127.0.0.1:99999`,
  `redis://${user}:${secret}@127.0.0.1/x`,
  `redis://${user}:${secret}@127.0.0.1?password=${secret}`,
  `redis://${user}:${secret}%@127.0.0.1`,
  `${secret}`
]

describe.concurrent("redis", () => {
  it.live("a password in a url, in options or in a client is never shown", () =>
    Effect.gen(function*() {
      const cases: Record<string, Make> = {}
      for (const [what, port] of Object.entries(yield* badRedises)) {
        const url = `redis://${user}:${secret}@127.0.0.1:${port}`
        cases[`${what}: url`] = Redis.make({ url })
        cases[`${what}: redacted url`] = Redis.make({ url: Redacted.make(url) })
        cases[`${what}: options`] = Redis.make({
          options: { host: "127.0.0.1", port, username: user, password: secret }
        })
        cases[`${what}: client`] = Effect.acquireRelease(
          Effect.sync(() => {
            const client = new Ioredis(url, { lazyConnect: true, maxRetriesPerRequest: 0 })
            client.on("error", () => {})
            return client
          }),
          (client) => Effect.sync(() => client.disconnect())
        ).pipe(Effect.flatMap((client) => Redis.make({ client })))
      }
      for (const [index, url] of wrongUrls.entries()) cases[`wrong url ${index}`] = Redis.make({ url })
      yield* provoke(cases)
    }))

  it.live.skipIf(!isInstalled("redis-server"))(
    "a real server that refuses a password is told without it",
    () =>
      Effect.gen(function*() {
        const { port } = yield* redisServer("--requirepass", "another")
        const url = `redis://:${secret}@127.0.0.1:${port}`
        yield* provoke({
          "wrong": Redis.make({ url }),
          "unknown user": Redis.make({ url: `redis://${user}:${secret}@127.0.0.1:${port}` }),
          "redlock": Redlock.make({ nodes: [url] })
        })
      })
  )
})

describe.concurrent("redlock", () => {
  it.live("a password in a node's url or options is never shown", () =>
    Effect.gen(function*() {
      const cases: Record<string, Make> = {}
      for (const [what, port] of Object.entries(yield* badRedises)) {
        const url = `redis://${user}:${secret}@127.0.0.1:${port}`
        const options = { host: "127.0.0.1", port: 1, username: user, password: secret }
        cases[what] = Redlock.make({ nodes: [url, Redacted.make(`redis://:${secret}@127.0.0.1:2`), { options }] })
        cases[`${what}, twice`] = Redlock.make({ nodes: [url, url, { url }] })
      }
      for (const [index, url] of wrongUrls.entries()) {
        cases[`wrong url ${index}`] = Redlock.make({ nodes: [url, { url }] })
      }
      yield* provoke(cases)
    }))
})

// -----------------------------------------------------------------------------
// memcached
// -----------------------------------------------------------------------------

describe.concurrent("memcached", () => {
  it.live("a password in auth or a url is never shown", () =>
    Effect.gen(function*() {
      const quoting = (before: string) =>
        tcpServer((bytes, peer) => {
          peer.say(`${before}${bytes.toString("latin1").replace(/\r\n/g, " ")}\r\n`)
          return bytes.length
        })
      const ports = {
        "refused": yield* freePort,
        "an error that quotes": (yield* quoting("CLIENT_ERROR ")).port,
        "an error of the server that quotes": (yield* quoting("SERVER_ERROR ")).port,
        "an echo": (yield* quoting("")).port,
        "a hang-up": (yield* respServer(() => undefined)).port,
        "silence": (yield* tcpServer(() => 0)).port
      }
      const cases: Record<string, Make> = {}
      for (const [what, port] of Object.entries(ports)) {
        const auth = { username: user, password: secret }
        cases[`${what}: auth`] = Memcached.make({ host: "127.0.0.1", port, auth })
        cases[`${what}: redacted`] = Memcached.make({
          host: "127.0.0.1",
          port,
          auth: { ...auth, password: Redacted.make(secret) }
        })
        cases[`${what}: url`] = Memcached.make({ url: `memcached://${user}:${secret}@127.0.0.1:${port}` })
      }
      const wrong: ReadonlyArray<Memcached.Options> = [
        { url: `memcache://${user}:${secret}@h` },
        { url: `memcached://${user}:${secret}@h:99999` },
        { url: `memcached://${user}:${secret}@h`, auth: { username: user, password: secret } },
        { url: `memcached://${user}:${secret}%@h` },
        { host: "h", auth: { username: user, password: `${secret} ` } },
        { host: "h", auth: { username: `${user} `, password: secret } },
        { host: "h", tls: { key: `-----BEGIN PRIVATE KEY-----\n${secret}\n-----END PRIVATE KEY-----` } }
      ]
      for (const [index, options] of wrong.entries()) cases[`wrong ${index}`] = Memcached.make(options)
      yield* provoke(cases)
    }))

  it.live.skipIf(!isInstalled("memcached"))(
    "a password is not left in a server that does not ask for one",
    () =>
      Effect.gen(function*() {
        const { directory, port } = yield* memcachedServer()
        assert.isString(directory)
        // Without authentication the greeting is an ordinary write, which must not leave the password in the cache.
        const auth = { username: user, password: secret }
        const service = yield* Memcached.make({ host: "127.0.0.1", port, auth })
        yield* Effect.scoped(Effect.provideService(withLock("k"), LockBackend, service))
        const kept = yield* Effect.promise(() => get(port, "effect-lock-auth"))
        assert.strictEqual(kept, "END\r\n")
      })
  )
})

const get = async (port: number, name: string): Promise<string> => {
  const { connect } = await import("node:net")
  return new Promise((resolve) => {
    const socket = connect({ port, host: "127.0.0.1" }, () => void socket.write(`get ${name}\r\n`))
    socket.once("data", (data) => {
      socket.destroy()
      resolve(String(data))
    })
  })
}

// -----------------------------------------------------------------------------
// over HTTP
// -----------------------------------------------------------------------------

type Failing = (request: HttpClientRequest.HttpClientRequest) => Effect.Effect<Response, unknown>

const sentBy = (request: HttpClientRequest.HttpClientRequest): string => {
  const body = request.body._tag === "Uint8Array" ? new TextDecoder().decode(request.body.body) : ""
  return `${request.url} ${JSON.stringify(request.headers)} ${body} ${secret}`
}

/** What each of these makes of a request: errors that carry it, and answers that quote it, in every form we read. */
const failing: Readonly<Record<string, Failing>> = {
  ...Object.fromEntries(
    [200, 400, 401, 403, 404, 409, 412, 418, 429, 500, 503].map((status) => [
      `a ${status} that quotes`,
      (request: HttpClientRequest.HttpClientRequest) => {
        const said = sentBy(request)
        const quoted = {
          kind: "Status",
          reason: said,
          code: status === 401 ? 16 : 3,
          message: said,
          error: { code: 7, message: said, errors: [{ reason: said, message: said }] }
        }
        return Effect.succeed(new Response(JSON.stringify(quoted), { status, headers: { "x-said": secret } }))
      }
    ])
  ),
  "garbage that quotes": (request) => Effect.succeed(new Response(sentBy(request))),
  "a reset that carries it": (request) =>
    Effect.fail(
      Object.assign(new Error(sentBy(request)), { code: "ECONNRESET", request, cause: new Error(sentBy(request)) })
    ),
  "an error whose code is it": (request) => Effect.fail({ code: "EWHATEVER", config: { headers: request.headers } }),
  "silence": () => Effect.never
}

const clientOf = (answer: Failing): HttpClient.HttpClient =>
  HttpClient.make((request) =>
    answer(request).pipe(
      Effect.map((response) => HttpClientResponse.fromWeb(request, response)),
      Effect.mapError((cause) =>
        new HttpClientError.HttpClientError({ reason: new HttpClientError.TransportError({ request, cause }) })
      )
    )
  )

const overHttp = (make: Effect.Effect<LockBackend["Service"], LockBackendError, HttpClient.HttpClient | Scope.Scope>) =>
  Object.fromEntries(
    Object.entries(failing).map(([what, answer]) => [
      what,
      Effect.provideService(make, HttpClient.HttpClient, clientOf(answer))
    ])
  )

const named = (name: string, cases: Readonly<Record<string, Make>>) =>
  Object.fromEntries(Object.entries(cases).map(([what, make]) => [`${name}: ${what}`, make]))

describe.concurrent("etcd", () => {
  it.live("neither the password nor the token of a login is ever shown", () =>
    Effect.gen(function*() {
      const auth = { user, password: Redacted.make(secret) }
      const endpoints = ["http://127.0.0.1:1"]
      // The password opens the door, and what it gives is the secret from then on.
      const loggedIn = Object.fromEntries(
        Object.entries(failing).map(([what, answer]) => {
          const client = clientOf((request) =>
            request.url.endsWith("/auth/authenticate")
              ? Effect.succeed(new Response(JSON.stringify({ header: {}, token: secret })))
              : answer(request)
          )
          const make = Etcd.make({ endpoints, auth: { user, password: Redacted.make("opens") } })
          return [`token: ${what}`, Effect.provideService(make, HttpClient.HttpClient, client)]
        })
      )
      const quiet = clientOf(failing["silence"]!)
      const pem = (kind: string) => `-----BEGIN ${kind}-----\n${secret}\n-----END ${kind}-----\n`
      const certified = Layer.build(Etcd.layerNode({
        endpoints: ["https://127.0.0.1:1"],
        tls: { cert: pem("CERTIFICATE"), key: Redacted.make(pem("PRIVATE KEY")), ca: pem("CERTIFICATE") }
      })).pipe(Effect.map(Context.get(LockBackend)))
      const wrong = [
        { endpoints: [`http://${user}:${secret}@h:1`] },
        { endpoints: [`ftp://${user}:${secret}@h:1`] },
        { endpoints: [`http://h:1/?token=${secret}`] },
        { endpoints: [secret] },
        { endpoints, auth: { user, password: secret as never } }
      ].map((options, index) =>
        [`wrong ${index}`, Effect.provideService(Etcd.make(options), HttpClient.HttpClient, quiet)] as const
      )
      yield* provoke({
        ...named("password", overHttp(Etcd.make({ endpoints, auth }))),
        ...loggedIn,
        "a key that is none": certified,
        ...Object.fromEntries(wrong)
      })
    }))
})

describe.concurrent("kubernetes", () => {
  it.live("a bearer token is never shown", () =>
    Effect.gen(function*() {
      const at = { endpoint: "https://127.0.0.1:1", kubernetesNamespace: "default" }
      const token = Redacted.make(secret)
      const quiet = clientOf(failing["silence"]!)
      const wrong = [
        { ...at, endpoint: `https://${user}:${secret}@h` },
        { ...at, endpoint: `https://h?token=${secret}` },
        { ...at, endpoint: secret },
        { ...at, endpoint: "http://example.test", token },
        { ...at, token: Redacted.make(`${secret}\r\nx`) },
        { ...at, token: Effect.fail({ message: `exec --token ${secret}`, cause: new Error(secret) }) },
        { ...at, token: Effect.die(new Error(`exec --token ${secret}`)) }
      ].map((options, index) =>
        [`wrong ${index}`, Effect.provideService(Kubernetes.make(options), HttpClient.HttpClient, quiet)] as const
      )
      yield* provoke({
        ...named("fixed", overHttp(Kubernetes.make({ ...at, token }))),
        ...named("rotating", overHttp(Kubernetes.make({ ...at, token: Effect.succeed(token) }))),
        ...Object.fromEntries(wrong)
      })
    }))
})

describe.concurrent("kubernetes, from a kubeconfig", () => {
  const yaml = (server: string, user: string) =>
    [
      "apiVersion: v1",
      "kind: Config",
      "current-context: c",
      `clusters: [{ name: k, cluster: { server: "${server}" } }]`,
      "contexts: [{ name: c, context: { cluster: k, user: u } }]",
      `users: [{ name: u, user: ${user} }]`
    ].join("\n")

  it.live("what is in the file, or in a plugin's arguments, is never shown", () =>
    Effect.gen(function*() {
      const folder = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(path.join(tmpdir(), "effect-lock-kubeconfig-"))),
        (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
      )
      const refused = `https://127.0.0.1:${yield* freePort}`
      const exec = (command: string) =>
        `{ exec: { apiVersion: client.authentication.k8s.io/v1, command: "${command}", args: ["--token", "${secret}"], `
        + `interactiveMode: Never, env: [{ name: TOKEN, value: "${secret}" }] } }`
      const files: Readonly<Record<string, string>> = {
        "a token, refused": yaml(refused, `{ token: "${secret}" }`),
        "a password, refused": yaml(refused, `{ username: "${user}", password: "${secret}" }`),
        "a key that is none": yaml(
          refused,
          `{ client-certificate-data: "${Buffer.from(secret).toString("base64")}", `
            + `client-key-data: "${Buffer.from(secret).toString("base64")}" }`
        ),
        "a plugin that fails": yaml(refused, exec("/bin/false")),
        "a plugin that is missing": yaml(refused, exec("/nonexistent/plugin")),
        "a plugin that says something else": yaml(refused, exec("/bin/echo")),
        "a plain http endpoint": yaml("http://example.test", `{ token: "${secret}" }`),
        "an endpoint with a password": yaml(`https://${user}:${secret}@127.0.0.1:1`, `{ token: "${secret}" }`),
        "no yaml": `{ token: "${secret}\n  - ]`,
        "another shape": `- ${secret}`
      }
      const cases: Record<string, Make> = {}
      for (const [index, [what, text]] of Object.entries(files).entries()) {
        const file = path.join(folder, `config-${index}`)
        writeFileSync(file, text)
        cases[what] = Kubernetes.makeKubeconfig({ path: file })
      }
      yield* provoke(cases)
    }))
})

describe.concurrent("gcs", () => {
  it.live("what the credentials of a Storage give, or fail with, is never shown", () =>
    Effect.gen(function*() {
      const storageOf = (getRequestHeaders: () => Promise<Record<string, string>>): Gcs.StorageClient => ({
        apiEndpoint: "https://storage.googleapis.com",
        authClient: { getRequestHeaders }
      })
      const good = storageOf(() => Promise.resolve({ authorization: `Bearer ${secret}` }))
      // As gaxios and google-auth-library fail: the request, its headers and the answer are all in the error.
      const carrying = (more: object) =>
        Object.assign(new Error(`invalid_grant ${secret}`), {
          config: { headers: { authorization: secret }, data: secret },
          response: {
            data: { error_description: secret },
            status: 400,
            config: { headers: { authorization: secret } }
          },
          ...more
        })
      const bad = [{}, { code: "ECONNREFUSED" }, { code: secret }, { status: 503, response: undefined }, {
        code: "E_X "
      }]
      const quiet = clientOf(failing["silence"]!)
      const wrong: ReadonlyArray<Gcs.Options> = [
        ...bad.map((more) => ({ bucket: "locks", storage: storageOf(() => Promise.reject(carrying(more))) })),
        { bucket: "locks", storage: storageOf(() => Promise.reject(secret)) },
        { bucket: "locks", endpoint: `http://${user}:${secret}@h` },
        { bucket: "locks", endpoint: `ftp://${secret}` },
        { bucket: "locks", endpoint: secret },
        { bucket: "locks", storage: { ...good, apiEndpoint: `https://${user}:${secret}@h` } }
      ]
      yield* provoke({
        ...overHttp(Gcs.make({ bucket: "locks", storage: good })),
        ...Object.fromEntries(
          wrong.map((options, index) =>
            [`wrong ${index}`, Effect.provideService(Gcs.make(options), HttpClient.HttpClient, quiet)] as const
          )
        )
      })
    }))
})
