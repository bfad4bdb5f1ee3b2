/**
 * Users, roles and TLS, on a real etcd with authentication enabled.
 */
import { assert, describe, it } from "@effect/vitest"
import {
  Cause,
  Duration,
  Effect,
  Exit,
  Fiber,
  Layer,
  Logger,
  Redacted,
  References,
  Scope,
  Stream,
  Tracer
} from "effect"
import { Lock, LockBackend, type LockBackendError, withLock } from "effect-lock"
import * as Etcd from "effect-lock/layers/Etcd"
import { execFileSync } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import * as path from "node:path"
import { inspect } from "node:util"
import { afterAll } from "vitest"
import { type EtcdServer, etcdServer, etcdServerWithTls, type TlsFiles } from "../servers/EtcdServer.ts"
import { isInstalled } from "../servers/ServerProcess.ts"
import {
  answer,
  answeredFirst,
  ask,
  backend,
  base64,
  grantOf,
  type Intercept,
  keysUnder
} from "./internal/etcdLocks.ts"

const installed = isInstalled("etcd")
const scope = Scope.makeUnsafe()
afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))

const password = "canary-of-a-password"

/** A user for each role of these tests, all with the same password. */
const setUp = ({ url }: EtcdServer) =>
  Effect.gen(function*() {
    const prefix = (text: string) => ({ key: base64(text), range_end: base64(text.replace(/\/$/, "0")) })
    const roles = {
      locks: [{ permType: "READWRITE", ...prefix("effect-lock/billing/") }],
      reader: [{ permType: "READ", ...prefix("effect-lock/billing/") }],
      writer: [{ permType: "WRITE", ...prefix("effect-lock/billing/") }],
      half: [{ permType: "READWRITE", ...prefix("effect-lock/billing/locks/") }],
      other: [{ permType: "READWRITE", ...prefix("effect-lock/billings/") }],
      nobody: []
    }
    for (const [role, permissions] of Object.entries(roles)) {
      yield* ask(url, "auth/user/add", { name: role, password })
      yield* ask(url, "auth/role/add", { name: role })
      for (const perm of permissions) yield* ask(url, "auth/role/grant", { name: role, perm })
      yield* ask(url, "auth/user/grant", { user: role, role })
    }
    yield* ask(url, "auth/user/add", { name: "root", password })
    yield* ask(url, "auth/user/grant", { user: "root", role: "root" })
    yield* ask(url, "auth/enable", {})
  })

const server: EtcdServer | undefined = installed
  ? await Effect.runPromise(
    Scope.provide(Effect.tap(etcdServer("--bcrypt-cost", "4", "--auth-token-ttl", "300"), setUp), scope)
  )
  : undefined
const url = server?.url ?? ""
const endpoints = [url]
const authOf = (user: string, secret = password) => ({ user, password: Redacted.make(secret) })
const as = (user: string, intercept?: Intercept) =>
  backend({ endpoints, auth: authOf(user), namespace: "billing" }, intercept)

const rootToken = Effect.map(ask(url, "auth/authenticate", { name: "root", password }), ({ token }): string => token)

const unauthorized = (self: Effect.Effect<unknown, LockBackendError>) =>
  Effect.map(Effect.flip(self), (error) => {
    assert.strictEqual(error.reason._tag, "Unauthorized", error.message)
    return error.message
  })

let names = 0
const fresh = () => `k${++names}`

describe.skipIf(!installed)("a user of etcd", () => {
  it.live("with readwrite on the prefix of the namespace can do everything that locks need", () =>
    Effect.gen(function*() {
      const { inspect, paths, release, renew, service, tryAcquire } = yield* as("locks")
      const key = fresh()
      const { handle } = grantOf(yield* tryAcquire("a", { key }))
      yield* renew("a", handle, { key })
      assert.strictEqual((yield* renew("a", handle, { key, ttl: 90_000 }))._tag, "Renewed")
      assert.strictEqual((yield* inspect(key))[0]?.ownerId, "a")
      assert.lengthOf(yield* Stream.runCollect(service.list!(key)), 1)
      yield* tryAcquire("b", { key, willWait: true })
      const turn = yield* Effect.forkChild(service.awaitTurn!({ key, ownerId: "b" }), { startImmediately: true })
      assert.strictEqual(yield* release("a", handle, { key }), "Released")
      yield* Fiber.join(turn)
      grantOf(yield* tryAcquire("b", { key, willWait: true }))
      const request = { key, ownerId: "b", now: true, budget: Duration.seconds(5) }
      assert.strictEqual(yield* service.break!(request), "Broken")
      yield* release("b", undefined, { key, unanswered: true })
      assert.strictEqual((yield* tryAcquire("b", { key }))._tag, "Held")
      assert.lengthOf(paths.filter((path) => path === "auth/authenticate"), 1)
    }))

  for (const user of ["reader", "writer", "half", "other", "nobody"]) {
    it.live(`with the role "${user}" is Unauthorized to take a lock, and takes none`, () =>
      Effect.gen(function*() {
        const key = fresh()
        const { tryAcquire } = yield* as(user)
        const message = yield* unauthorized(tryAcquire("a", { key }))
        assert.match(message, /readwrite on everything with the prefix/)
        assert.deepStrictEqual(yield* keysUnder(url, `effect-lock/billing/locks/${key}`, yield* rootToken), [])
      }))
  }

  it.live("that may only read sees the holder, and can neither break nor release its lock", () =>
    Effect.gen(function*() {
      const key = fresh()
      const { release, tryAcquire } = yield* as("locks")
      const reader = yield* as("reader")
      const { handle } = grantOf(yield* tryAcquire("a", { key }))
      assert.strictEqual((yield* reader.inspect(key))[0]?.ownerId, "a")
      yield* unauthorized(reader.service.break!({ key, ownerId: "a", now: true, budget: Duration.seconds(5) }))
      yield* unauthorized(reader.release("a", handle, { key }))
      assert.strictEqual(yield* release("a", handle, { key }), "Released")
    }))

  it.live("that may not even read is Unauthorized to look, to list and to wait", () =>
    Effect.gen(function*() {
      const { inspect, service } = yield* as("other")
      yield* unauthorized(inspect())
      yield* unauthorized(Stream.runDrain(service.list!("")))
      yield* unauthorized(service.awaitTurn!({ key: "k", ownerId: "a" }))
    }))

  it.live("with a wrong password, unknown, or not given at all, is Unauthorized", () =>
    Effect.gen(function*() {
      for (const auth of [authOf("locks", "canary-wrong"), authOf("unknown")]) {
        const { tryAcquire } = yield* backend({ endpoints, auth })
        const message = yield* unauthorized(tryAcquire("a"))
        assert.match(message, /check auth\.user and auth\.password/)
        assert.notMatch(message, /canary/)
      }
      const { tryAcquire } = yield* backend({ endpoints })
      assert.match(yield* unauthorized(tryAcquire("a")), /pass auth/)
    }))

  it.live("given to an etcd without authentication is Misconfigured", () =>
    Effect.gen(function*() {
      const open = yield* etcdServer()
      const { tryAcquire } = yield* backend({ endpoints: [open.url], auth: authOf("locks") })
      const error = yield* Effect.flip(tryAcquire("a"))
      assert.strictEqual(error.reason._tag, "Misconfigured")
      assert.match(error.message, /leave out auth/)
    }))
})

describe.skipIf(!installed)("a login to etcd", () => {
  // A new password, though it is the old one, ends all logins of the user.
  const endLogins = (user: string) =>
    Effect.flatMap(rootToken, (token) => ask(url, "auth/user/changepw", { name: user, password }, token))

  it.live("that has ended is made anew, within the request that finds it so", () =>
    Effect.gen(function*() {
      const key = fresh()
      const { release, renew, sent, tryAcquire } = yield* as("locks", answeredFirst("lease/grant"))
      const { handle } = grantOf(yield* tryAcquire("a", { key }))
      assert.deepStrictEqual(sent(), ["auth/authenticate", "lease/grant", "kv/txn"])
      yield* endLogins("locks")
      assert.strictEqual((yield* renew("a", handle, { key }))._tag, "Renewed")
      const login = sent().filter((path) => path === "auth/authenticate")
      assert.lengthOf(login, 1)
      yield* endLogins("locks")
      assert.strictEqual(yield* release("a", handle, { key }), "Released")
      assert.deepStrictEqual(sent(), ["lease/revoke", "auth/authenticate", "lease/revoke"])
    }))

  it.live("is shared by requests at the same time, and made anew once for all of them", () =>
    Effect.gen(function*() {
      const keys = Array.from({ length: 8 }, fresh)
      const { sent, tryAcquire } = yield* as("locks")
      const all = (owner: string) =>
        Effect.forEach(keys, (key) => tryAcquire(`${owner}-${key}`, { key }), { concurrency: "unbounded" })
      for (const reply of yield* all("a")) grantOf(reply)
      assert.lengthOf(sent().filter((path) => path === "auth/authenticate"), 1)
      yield* endLogins("locks")
      yield* all("b")
      assert.lengthOf(sent().filter((path) => path === "auth/authenticate"), 1)
    }))

  it.live("that has ended does not end the waiting for a lock", () =>
    Effect.gen(function*() {
      const key = fresh()
      const a = yield* as("locks")
      const b = yield* as("locks")
      const { handle } = grantOf(yield* a.tryAcquire("a", { key }))
      yield* b.inspect(key)
      yield* endLogins("locks")
      const turn = yield* Effect.forkChild(b.service.awaitTurn!({ key, ownerId: "b" }), { startImmediately: true })
      yield* a.release("a", handle, { key })
      yield* Fiber.join(turn)
    }))

  it.live("ends with the member that gave it, which is no reason to lose a lease", () =>
    Effect.gen(function*() {
      const key = fresh()
      const { renew, tryAcquire } = yield* as("locks")
      const { handle } = grantOf(yield* tryAcquire("a", { key }))
      yield* server!.stop
      yield* server!.start
      assert.strictEqual((yield* renew("a", handle, { key }))._tag, "Renewed")
    }))

  it.live("never shows its password or token: not in errors, logs and spans", () =>
    Effect.gen(function*() {
      const said: Array<string> = []
      const secrets = [password]
      const spans: Array<Tracer.NativeSpan> = []
      const say = (exit: Exit.Exit<unknown, unknown>) => {
        if (Exit.isSuccess(exit)) return
        for (const reason of exit.cause.reasons) said.push(JSON.stringify(reason), inspect(reason, { depth: 8 }))
        said.push(Cause.pretty(exit.cause), String(exit))
      }
      const tracer = Tracer.make({
        span: (options) => {
          const span = new Tracer.NativeSpan(options)
          spans.push(span)
          return span
        }
      })
      const logger = Logger.make((entry) =>
        void said.push(inspect(entry.message, { depth: 8 }), Cause.pretty(entry.cause))
      )
      let broken = ""
      const { service } = yield* backend({ endpoints, auth: authOf("locks"), namespace: "billing" }, (path, _, send) =>
        path === broken
          ? Effect.succeed(answer("no etcd", 200))
          : path === "auth/authenticate"
          ? Effect.flatMap(send, (response) =>
            Effect.map(response.text, (text) => {
              secrets.push(JSON.parse(text).token)
              return answer(text)
            }))
          : send)
      const use = Effect.scoped(withLock(fresh(), { ttl: "5 seconds", outageBudget: 0 }))
      const others = [
        backend({ endpoints: ["http://127.0.0.1:1"], auth: authOf("locks") }),
        backend({ endpoints, auth: authOf("locks", "canary-wrong") }),
        backend({ endpoints, auth: authOf("nobody") })
      ]
      yield* Effect.gen(function*() {
        for (broken of ["", "kv/txn", "lease/revoke", "auth/authenticate"]) {
          yield* endLogins("locks")
          say(yield* Effect.exit(Effect.provideService(use, LockBackend, service)))
        }
        for (const other of others) {
          const { service } = yield* other
          say(yield* Effect.exit(Effect.provideService(use, LockBackend, service)))
        }
      }).pipe(
        Effect.provideService(Tracer.Tracer, tracer),
        Effect.provide(Logger.layer([logger])),
        Effect.provideService(References.MinimumLogLevel, "All")
      )
      const text = said.map((each) =>
        `${inspect(each, { depth: 12 })} ${String(each)}`
      ).join("\n")
      assert.match(text, /Lock\.wait/)
      assert.match(text, /Unauthorized/)
      assert.isAbove(secrets.length, 1)
      for (const secret of [...secrets, "canary"]) assert.notInclude(text, secret)
    }))
})

const openssl = isInstalled("openssl")

describe.skipIf(!installed || !openssl)(`etcd behind TLS${openssl ? "" : " (openssl is not installed)"}`, () => {
  const certificates: Effect.Effect<TlsFiles, never, Scope.Scope> = Effect.gen(function*() {
    const folder = yield* Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(path.join(tmpdir(), "effect-lock-tls-"))),
      (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
    )
    const at = (name: string) => path.join(folder, name)
    const run = (...args: ReadonlyArray<string>) => execFileSync("openssl", args, { stdio: "pipe" })
    const curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    run("req", "-x509", ...curve, "-subj", "/CN=ca", "-days", "2", "-keyout", at("ca.key"), "-out", at("ca.crt"))
    writeFileSync(at("ext"), "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n")
    for (const name of ["server", "client"]) {
      run("req", ...curve, "-subj", `/CN=${name}`, "-keyout", at(`${name}.key`), "-out", at(`${name}.csr`))
      const signer = ["-CA", at("ca.crt"), "-CAkey", at("ca.key"), "-CAcreateserial", "-days", "2"]
      run("x509", "-req", "-in", at(`${name}.csr`), ...signer, "-extfile", at("ext"), "-out", at(`${name}.crt`))
    }
    const read = (name: string) => readFileSync(at(name), "utf8")
    return {
      args: [
        ...["--cert-file", at("server.crt"), "--key-file", at("server.key")],
        ...["--trusted-ca-file", at("ca.crt"), "--client-cert-auth"]
      ],
      client: { ca: read("ca.crt"), cert: read("client.crt"), key: read("client.key") }
    }
  })

  it.live("is reached by layerNode with a private authority and a client certificate, and not without either", () =>
    Effect.gen(function*() {
      const files = yield* certificates
      const { url } = yield* etcdServerWithTls(files)
      const { ca, cert, key } = files.client
      const held = (tls: Etcd.Tls) =>
        Lock.inspect("k").pipe(
          Lock.guard("k", { ttl: "5 seconds", outageBudget: 0 }),
          Effect.provide(Etcd.layerNode({ endpoints: [url], tls })),
          Effect.exit
        )
      const all = { ca, cert, key: Redacted.make(key) }
      const exit = yield* held(all)
      assert(Exit.isSuccess(exit), String(exit))
      assert.lengthOf(exit.value, 1)
      for (const tls of [{ cert, key: Redacted.make(key) }, { ca }]) {
        const error = Exit.findErrorOption(yield* held(tls))
        assert(error._tag === "Some" && error.value._tag === "LockBackendError")
        assert.strictEqual(error.value.reason._tag, "Unreachable")
        assert.notInclude(inspect(error.value, { depth: 8 }), "PRIVATE KEY")
      }
    }))

  it.live("layerNode needs no TLS: it is an HTTP client of its own", () =>
    Effect.gen(function*() {
      const open = yield* etcdServer()
      const layer = Etcd.layerNode({ endpoints: [open.url] })
      assert.lengthOf(yield* Lock.inspect("k").pipe(Lock.guard("k"), Effect.provide(Layer.fresh(layer))), 1)
    }))
})
