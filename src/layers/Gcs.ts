/**
 * Locks as objects in a bucket of Google Cloud Storage: no server to run, strongly consistent, across regions.
 *
 * Endpoint and credentials come from a `Storage` of `@google-cloud/storage`; the requests are our own, over Effect's
 * `HttpClient`: provide `NodeHttpClient.layerUndici` of `@effect/platform-node`, or `FetchHttpClient.layer`.
 */
import * as Config from "effect/Config"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as HttpClient from "effect/http/HttpClient"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import * as LockBackend from "../LockBackend.ts"
import { type BackendReason, LockBackendError, Misconfigured } from "../LockError.ts"
import * as LockOptions from "../LockOptions.ts"
import * as Access from "./internal/gcsAccess.ts"
import { tryAcquire } from "./internal/gcsAcquire.ts"
import * as Calls from "./internal/gcsCalls.ts"
import * as Place from "./internal/gcsPlace.ts"
import { breakLock, release } from "./internal/gcsRelease.ts"
import { renew } from "./internal/gcsRenewal.ts"
import { type GcsStore, look } from "./internal/gcsStore.ts"
import { holderOf, isHeld, timeLeftByDate } from "./internal/gcsVerdict.ts"
import * as Sightings from "./internal/sightings.ts"
import * as Tombstones from "./internal/tombstones.ts"

export type {
  /**
   * What is used of a `Storage` of `@google-cloud/storage`.
   *
   * @category models
   */
  StorageClient
} from "./internal/gcsAccess.ts"

// -----------------------------------------------------------------------------
// options
// -----------------------------------------------------------------------------

/**
 * Options of the Cloud Storage backend.
 *
 * **Details**
 *
 * - `bucket`: a bucket's name, or a location, `"gs://bucket/prefix/"`.
 * - `objectPrefix`: what the names of the lock's objects start with, at most 600 bytes. Default `""`.
 * - `namespace`: keeps applications apart that share a bucket and prefix. Default `""`.
 * - `storage`: a `Storage` of `@google-cloud/storage`, for its endpoint and credentials; its retry and timeout settings
 *   have no effect. By default one is made: Application Default Credentials, `STORAGE_EMULATOR_HOST`.
 * - `endpoint`: of the `Storage` that is made, such as an emulator's `"http://127.0.0.1:9000"`. Not with `storage`.
 * - `userProject`: the project that pays, for requester-pays buckets.
 * - `onRelease`: `"delete"` (default) deletes the object of a lock that is given back. `"keep"` leaves it: fencing
 *   tokens then grow by construction for as long as the object lives, for one request more per acquisition. All users
 *   of a lock must choose the same.
 * - `expiry`: who finds out that a lease has ended. `"serverDate"`: the server's own clock; default on Google's own
 *   HTTPS endpoint. `"observation"`: whoever has seen the lock unchanged for its ttl; default on every other endpoint,
 *   because what stands there, or before it, may put a clock of its own into its answers.
 * - `defaults`: option defaults of every lock of this backend; a call's own options and `LockDefaults` win. The
 *   backend's own: a ttl of 60 seconds, and waiting that begins at 250 ms, doubles up to 5 s, with full jitter.
 *
 * @category options
 */
export interface Options {
  readonly bucket: string
  readonly objectPrefix?: string | undefined
  readonly namespace?: string | undefined
  readonly storage?: Access.StorageClient | undefined
  readonly endpoint?: string | undefined
  readonly userProject?: string | undefined
  readonly onRelease?: "delete" | "keep" | undefined
  readonly expiry?: "serverDate" | "observation" | undefined
  readonly defaults?: LockOptions.LockOptions | undefined
}

/**
 * The part of the options that can come from configuration.
 *
 * @category options
 */
export interface ConfigOptions extends Omit<Options, "storage" | "defaults"> {
  readonly defaults?: Omit<LockOptions.LockOptions, "schedule"> | undefined
}

// -----------------------------------------------------------------------------
// layers
// -----------------------------------------------------------------------------

/**
 * Locks in a bucket.
 *
 * **When to use**
 *
 * Processes anywhere that have a bucket in common and take a lock for seconds or longer: an operation takes tens to
 * hundreds of milliseconds, and one lock changes hands about every two seconds at most.
 *
 * **Details**
 *
 * Connects lazily: a missing bucket or permission fails the first acquisition, with `Misconfigured` or `Unauthorized`.
 * The layer itself fails with `Misconfigured` if its options are wrong or `@google-cloud/storage` is missing.
 *
 * **Gotchas**
 *
 * - Renewing needs the OAuth scope `devstorage.full_control` or `cloud-platform`: with `devstorage.read_write` a lock
 *   can be taken but not kept.
 * - A retention policy, a hold, or a lifecycle rule that deletes, on the bucket, breaks its locks. Use a bucket of its
 *   own, without those, and without soft delete and versioning.
 * - Fencing tokens are object generations. Google's service makes them grow but promises only that they differ; with
 *   `onRelease: "keep"` they grow by construction.
 * - A create that arrives after its caller gave up takes the lock until its ttl ends.
 *
 * @category layers
 */
export const layer = (
  options: Options
): Layer.Layer<LockBackend.LockBackend, LockBackendError, HttpClient.HttpClient> =>
  Layer.effect(LockBackend.LockBackend, make(options))

/**
 * Locks in a bucket, with options from configuration.
 *
 * @category layers
 */
export const layerConfig = (
  options: Config.Wrap<ConfigOptions>
): Layer.Layer<LockBackend.LockBackend, LockBackendError | Config.ConfigError, HttpClient.HttpClient> =>
  Layer.effect(LockBackend.LockBackend, Effect.flatMap(Config.unwrap(options), make))

/**
 * Makes the backend itself, for a tag of your own (`Lock.on`).
 *
 * @category constructors
 */
export const make = (
  options: Options
): Effect.Effect<LockBackend.LockBackend["Service"], LockBackendError, HttpClient.HttpClient | Scope.Scope> =>
  Effect.flatMap(
    Effect.mapError(open(options), toBackendError("build")),
    (store) => LockBackend.LockBackend.make(implementation(store, options))
  )

// -----------------------------------------------------------------------------
// implementation
// -----------------------------------------------------------------------------

const minTtl = 10_000

const backendDefaults: LockOptions.LockOptions = {
  ttl: "60 seconds",
  schedule: LockOptions.fullJitter(Schedule.min([Schedule.exponential("250 millis"), Schedule.spaced("5 seconds")]))
}

const toBackendError =
  (operation: LockBackendError["operation"], key?: string) => (reason: BackendReason): LockBackendError =>
    new LockBackendError({ backend: "gcs", operation, ...(key === undefined ? {} : { key }), reason })

const misconfigured = (detail: string): Effect.Effect<never, Misconfigured> =>
  Effect.fail(new Misconfigured({ detail }))

const open = (options: Options): Effect.Effect<GcsStore, BackendReason, HttpClient.HttpClient> =>
  Effect.gen(function*() {
    const client = yield* HttpClient.HttpClient
    const { endpoint, expiry, namespace = "", onRelease = "delete", storage, userProject } = options
    const location = Place.parse(options)
    if (Result.isFailure(location)) return yield* misconfigured(location.failure)
    if (onRelease !== "delete" && onRelease !== "keep") {
      return yield* misconfigured("onRelease must be \"delete\" or \"keep\"")
    }
    if (expiry !== undefined && expiry !== "serverDate" && expiry !== "observation") {
      return yield* misconfigured("expiry must be \"serverDate\" or \"observation\"")
    }
    if (userProject !== undefined && (typeof userProject !== "string" || userProject === "")) {
      return yield* misconfigured("userProject must be a project's id")
    }
    if (storage !== undefined && endpoint !== undefined) {
      return yield* misconfigured("storage has an endpoint already: give it there (apiEndpoint), not as endpoint too")
    }
    const resolved = LockOptions.resolve({ minTtl, granularity: 0 }, undefined, undefined, defaultsOf(options))
    if (Result.isFailure(resolved)) return yield* misconfigured(`the layer's defaults: ${resolved.failure.message}`)
    const access = yield* Access.fromStorage(storage ?? (yield* Access.makeStorage(endpoint)))
    return {
      service: { client, access, bucket: location.success.bucket, userProject },
      place: yield* Place.make({ ...location.success, namespace }),
      keeps: onRelease === "keep",
      trustsDate: expiry === undefined ? access.own : expiry === "serverDate",
      dead: Tombstones.make(),
      sightings: Sightings.make(),
      tried: new Set()
    }
  })

// What is `undefined` in the layer's defaults is left out there, and must not hide the backend's.
const defaultsOf = ({ defaults = {} }: Options): LockOptions.LockOptions => ({
  ...backendDefaults,
  ...Object.fromEntries(Object.entries(defaults).filter(([, value]) => value !== undefined))
})

const capabilities = ({ keeps }: GcsStore): LockBackend.Capabilities => ({
  minTtl: Duration.millis(minTtl),
  ttlGranularity: Duration.zero,
  fencing: keeps
    ? { grade: "strict" }
    : {
      grade: "conditional",
      condition: "tokens grow while the generations do that Cloud Storage gives to new objects, which it does in "
        + "practice and does not promise (onRelease: \"keep\" makes them grow for the object's life)"
    },
  fair: false,
  lateWrites: "untilTtl",
  drain: true
})

const implementation = (store: GcsStore, options: Options): LockBackend.Implementation => ({
  name: "gcs",
  capabilities: capabilities(store),
  defaults: defaultsOf(options),
  tryAcquire: (request) => Effect.mapError(tryAcquire(store, request), toBackendError("acquire", request.key)),
  renew: (request) => Effect.mapError(renew(store, request), toBackendError("renew", request.key)),
  release: (request) => Effect.mapError(release(store, request), toBackendError("release", request.key)),
  inspect: ({ budget, key }) =>
    Effect.gen(function*() {
      const { name } = yield* Place.objectOf(store.place, key)
      const seen = yield* look(store, yield* Calls.start(budget), name)
      return seen === undefined || !isHeld(seen) ? [] : [holderOf(seen.object, timeLeftByDate(seen))]
    }).pipe(Effect.mapError(toBackendError("inspect", key))),
  list: (keyPrefix) => Stream.mapError(heldKeys(store, keyPrefix), toBackendError("list")),
  break: (request) => Effect.mapError(breakLock(store, request), toBackendError("break", request.key))
})

const heldKeys = (store: GcsStore, keyPrefix: string): Stream.Stream<LockBackend.HeldKey, BackendReason> =>
  Stream.fromIterable(Place.prefixesOf(store.place, keyPrefix)).pipe(
    Stream.flatMap((prefix) =>
      Stream.paginate(
        "",
        (page: string) =>
          Effect.map(Calls.list(store.service, prefix, page === "" ? undefined : page), ({ date, next, objects }) =>
            [
              objects.flatMap((object) => {
                const key = Place.keyOf(store.place, object.name) ?? object.record.key
                return key === undefined || !key.startsWith(keyPrefix) || !isHeld({ object, date })
                  ? []
                  : [{ key, holders: [holderOf(object, timeLeftByDate({ object, date }))] }]
              }),
              Option.fromUndefinedOr(next)
            ] as const)
      )
    )
  )
