import { Duration, Effect, Layer, Option, Result, Schema } from "effect"
import { LockBackend, LockBackendError, type LockBackendImplementation, Protocol, Unreachable } from "effect-lock"

// What the store can do: put if absent, compare-and-swap by version, a ttl. Its revisions grow, none is given twice.
export interface Entry {
  readonly value: string
  readonly created: bigint // the revision of the put: it stays while the entry is replaced
  readonly version: bigint // the revision of the last change
  readonly expiresIn: number // milliseconds
}
export interface Store {
  readonly get: (name: string) => Promise<Entry | undefined>
  readonly putIfAbsent: (name: string, value: string, ttl: number) => Promise<bigint | undefined>
  readonly replace: (name: string, version: bigint, value: string, ttl: number) => Promise<boolean>
  readonly remove: (name: string, version: bigint) => Promise<boolean>
}

const Value = Schema.Struct({ ownerId: Schema.String, metadata: Schema.Record(Schema.String, Schema.String) })
const decode = Schema.decodeUnknownResult(Schema.fromJsonString(Value))

const implementation = (store: Store, namespace: string): LockBackendImplementation => {
  // Injective: no two pairs of namespace and key have one name.
  const nameOf = (key: string) => JSON.stringify([namespace, key])

  const failed = (operation: LockBackendError["operation"], key: string, reason: LockBackendError["reason"]) =>
    new LockBackendError({ backend: "example", operation, key, reason })

  // "Don't know" is the error channel. The driver's own error is not passed on: it might carry credentials.
  const ask = <A>(operation: LockBackendError["operation"], key: string, request: (name: string) => Promise<A>) =>
    Effect.tryPromise({
      try: () => request(nameOf(key)),
      catch: () => failed(operation, key, new Unreachable({ detail: "the store did not answer" }))
    })

  const look = Effect.fnUntraced(function*(operation: LockBackendError["operation"], key: string) {
    const entry = yield* ask(operation, key, (name) => store.get(name))
    if (entry === undefined) return undefined
    const value = decode(entry.value)
    if (Result.isFailure(value)) return yield* failed(operation, key, new Protocol({ detail: "that is no lock" }))
    const [since, fencingToken] = [Option.none(), Option.some(entry.created)]
    const holder = { ...value.success, since, fencingToken, remaining: Option.some(Duration.millis(entry.expiresIn)) }
    return { ...entry, holder }
  })

  // Sets the ttl again while the grant (owner id and handle) is what the store has; a replay, a renewal.
  const keep = Effect.fnUntraced(function*(
    operation: LockBackendError["operation"],
    grant: { readonly key: string; readonly ownerId: string; readonly handle: string; readonly ttl: Duration.Duration }
  ) {
    while (true) {
      const entry = yield* look(operation, grant.key)
      if (entry === undefined) return "Gone"
      if (entry.holder.ownerId !== grant.ownerId) return "Taken"
      if (String(entry.created) !== grant.handle) return "Gone"
      const ttl = Math.max(Duration.toMillis(grant.ttl), entry.expiresIn) // never shortens
      const isKept = yield* ask(operation, grant.key, (name) => store.replace(name, entry.version, entry.value, ttl))
      if (isKept) return "Kept"
    }
  })

  return {
    name: "example",
    capabilities: {
      minTtl: Duration.millis(100),
      ttlGranularity: Duration.zero,
      fencing: { grade: "strict" }, // only because revisions never start anew
      fair: false,
      lateWrites: "untilTtl", // a put that was on its way when its caller gave up may still land
      drain: false
    },
    tryAcquire: Effect.fnUntraced(function*({ key, metadata, ownerId, ttl }) {
      const value = JSON.stringify({ ownerId, metadata })
      let created = yield* ask("acquire", key, (name) => store.putIfAbsent(name, value, Duration.toMillis(ttl)))
      if (created === undefined) {
        const entry = yield* look("acquire", key)
        const held = { _tag: "Held", holders: [], retryAfter: Option.none() } as const
        if (entry === undefined) return held // just freed: the core asks again
        if (entry.holder.ownerId !== ownerId) {
          return { ...held, holders: [entry.holder], retryAfter: entry.holder.remaining }
        }
        // Our own id: an attempt whose reply was lost. It is granted, after its ttl was set again.
        if ((yield* keep("acquire", { key, ownerId, ttl, handle: String(entry.created) })) !== "Kept") return held
        created = entry.created
      }
      return { _tag: "Acquired", fencingToken: Option.some(created), handle: String(created), grantedTtl: ttl }
    }),
    renew: (request) =>
      Effect.map(keep("renew", request), (reply) =>
        reply === "Kept"
          ? { _tag: "Renewed", handle: request.handle, grantedTtl: request.ttl }
          : { _tag: "Lost", reason: reply }),
    release: Effect.fnUntraced(function*({ handle, key, ownerId }) {
      while (true) {
        const entry = yield* look("release", key)
        if (entry === undefined || entry.holder.ownerId !== ownerId) return "NotHeld"
        if (Option.isSome(handle) && handle.value !== String(entry.created)) return "NotHeld"
        if (yield* ask("release", key, (name) => store.remove(name, entry.version))) return "Released"
      }
    }),
    inspect: ({ key }) => Effect.map(look("inspect", key), (entry) => entry === undefined ? [] : [entry.holder])
  }
}

export const make = (store: Store, namespace = "") => LockBackend.make(implementation(store, namespace))
export const layer = (store: Store, namespace = "") => Layer.effect(LockBackend, make(store, namespace))
