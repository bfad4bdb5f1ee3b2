/**
 * Every backend on its server, for what is claimed of all of them. Real servers where a machine can have them; Google
 * Cloud Storage and Kubernetes on in-process servers that answer as the real ones are documented to.
 */
import { NodeHttpClient, NodeServices } from "@effect/platform-node"
import { Duration, Effect, Layer, type Scope } from "effect"
import type { LockBackend, LockBackendError } from "effect-lock"
import * as Etcd from "effect-lock/layers/Etcd"
import * as File from "effect-lock/layers/File"
import * as Gcs from "effect-lock/layers/Gcs"
import * as Kubernetes from "effect-lock/layers/Kubernetes"
import * as Memcached from "effect-lock/layers/Memcached"
import * as Memory from "effect-lock/layers/Memory"
import * as Redis from "effect-lock/layers/Redis"
import * as Redlock from "effect-lock/layers/Redlock"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import * as path from "node:path"
import { etcdServer } from "./servers/EtcdServer.ts"
import { GcsServer } from "./servers/GcsServer.ts"
import { kubernetesServer } from "./servers/KubernetesServer.ts"
import { memcachedServer } from "./servers/MemcachedServer.ts"
import { redisServer } from "./servers/RedisServer.ts"
import { isInstalled } from "./servers/ServerProcess.ts"

export type Service = LockBackend["Service"]

/** Makes a backend on a running server, as a process of its own would: it shares nothing with another but the server. */
export type Make = (namespace: string) => Effect.Effect<Service, LockBackendError, Scope.Scope>

export interface BackendUnderTest {
  readonly name: string
  /** The program that has to be installed. */
  readonly program: string | undefined
  readonly start: Effect.Effect<Make, unknown, Scope.Scope>
  /** A lease whose end can be waited for, and how much later it may be seen to end. */
  readonly ttl: Duration.Duration
  readonly slack: Duration.Duration
  /** Which version of the server it is; asked of the program. */
  readonly version: ReadonlyArray<string> | string
}

export const backends: ReadonlyArray<BackendUnderTest> = [
  {
    name: "memory",
    program: undefined,
    start: Effect.sync(() => {
      const store = Memory.makeStoreUnsafe()
      return (namespace) => Memory.make({ namespace, store })
    }),
    ttl: Duration.seconds(1),
    slack: Duration.seconds(1),
    version: "in this process"
  },
  {
    name: "file",
    program: undefined,
    start: Effect.gen(function*() {
      const platform = yield* Layer.build(NodeServices.layer)
      const directory = yield* temporaryDirectory
      return (namespace) => Effect.provideContext(File.make({ directory, namespace }), platform)
    }),
    ttl: Duration.seconds(1),
    slack: Duration.seconds(2),
    version: "the file system of this machine"
  },
  {
    name: "redis",
    program: "redis-server",
    start: Effect.map(redisServer(), ({ url }): Make => (namespace) => Redis.make({ url, namespace })),
    ttl: Duration.seconds(1),
    slack: Duration.seconds(2),
    version: ["redis-server", "--version"]
  },
  {
    name: "redlock",
    program: "redis-server",
    start: Effect.map(
      Effect.all([redisServer(), redisServer(), redisServer()], { concurrency: "unbounded" }),
      (servers): Make => (namespace) => // They were started a moment ago, and have nothing to have forgotten.
        Redlock.make({ nodes: servers.map(({ url }) => url), namespace, restartGuard: false })
    ),
    ttl: Duration.seconds(2),
    slack: Duration.seconds(2),
    version: ["redis-server", "--version"]
  },
  {
    name: "etcd",
    program: "etcd",
    start: Effect.gen(function*() {
      const client = yield* Layer.build(NodeHttpClient.layerUndici)
      const { url } = yield* etcdServer()
      return (namespace) => Effect.provideContext(Etcd.make({ endpoints: [url], namespace }), client)
    }),
    ttl: Duration.seconds(5),
    slack: Duration.seconds(4),
    version: ["etcd", "--version"]
  },
  {
    name: "memcached",
    program: "memcached",
    start: Effect.map(
      memcachedServer(),
      ({ port }): Make => (namespace) => Memcached.make({ host: "127.0.0.1", port, namespace })
    ),
    ttl: Duration.seconds(2),
    slack: Duration.seconds(4),
    version: ["memcached", "--version"]
  },
  {
    name: "gcs",
    program: undefined,
    start: Effect.gen(function*() {
      const client = yield* Layer.build(NodeHttpClient.layerUndici)
      const endpoint = yield* new GcsServer().listen
      return (namespace) =>
        Effect.provideContext(Gcs.make({ bucket: "locks", endpoint, namespace, expiry: "serverDate" }), client)
    }),
    ttl: Duration.seconds(10),
    slack: Duration.seconds(5),
    version: "a server in this process"
  },
  {
    name: "kubernetes",
    program: undefined,
    start: Effect.gen(function*() {
      const client = yield* Layer.build(NodeHttpClient.layerUndici)
      const { url } = yield* kubernetesServer()
      return (namespace) =>
        Effect.provideContext(Kubernetes.make({ endpoint: url, kubernetesNamespace: "default", namespace }), client)
    }),
    ttl: Duration.seconds(5),
    // Whoever comes to an expired lock looks at it for a whole ttl before it believes that.
    slack: Duration.seconds(12),
    version: "an API server in this process"
  }
]

export const isMissing = ({ program }: BackendUnderTest): boolean => program !== undefined && !isInstalled(program)

const temporaryDirectory = Effect.acquireRelease(
  Effect.sync(() => path.join(mkdtempSync(path.join(tmpdir(), "effect-lock-every-")), "locks")),
  (directory) => Effect.sync(() => rmSync(path.dirname(directory), { recursive: true, force: true }))
)
