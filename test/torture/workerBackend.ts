/** The backend of a worker, loaded when it is known which. */
import { Effect, type FileSystem, Layer, type Path, type Scope } from "effect"
import type { LockBackend, LockBackendError } from "effect-lock"
import type { BackendSetup } from "./messages.ts"

export const namespace = "torture"

export const backendOf = (
  setup: BackendSetup
): Effect.Effect<LockBackend["Service"], LockBackendError, FileSystem.FileSystem | Path.Path | Scope.Scope> =>
  Effect.gen(function*() {
    switch (setup.name) {
      case "file": {
        const File = yield* Effect.promise(() => import("effect-lock/layers/File"))
        return yield* File.make({ directory: setup.directory, namespace })
      }
      case "redis": {
        const Redis = yield* Effect.promise(() => import("effect-lock/layers/Redis"))
        return yield* Redis.make({ url: setup.url, namespace, acceptEviction: setup.evicts })
      }
      case "redlock": {
        const Redlock = yield* Effect.promise(() => import("effect-lock/layers/Redlock"))
        // The masters of the torture write every change to the disk before they answer.
        return yield* Redlock.make({ nodes: setup.urls.map((url) => ({ url })), namespace, restartGuard: false })
      }
      case "etcd": {
        const Etcd = yield* Effect.promise(() => import("effect-lock/layers/Etcd"))
        const Http = yield* Effect.promise(() => import("@effect/platform-node/NodeHttpClient"))
        const client = yield* Layer.build(Http.layerUndici)
        return yield* Effect.provideContext(Etcd.make({ endpoints: setup.urls, namespace }), client)
      }
      case "memcached": {
        const Memcached = yield* Effect.promise(() => import("effect-lock/layers/Memcached"))
        return yield* Memcached.make({ host: "127.0.0.1", port: setup.port, namespace })
      }
    }
  })
