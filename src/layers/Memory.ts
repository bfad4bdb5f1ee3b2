/**
 * Locks in this process's memory: the reference reading of the port, for tests and for programs of one process.
 *
 * Time is Effect's `Clock`, read from the calling fiber, so a whole program with its locks runs under `TestClock`.
 * Nothing here is shared between processes.
 */
import * as Clock from "effect/Clock"
import * as Config from "effect/Config"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Fiber from "effect/Fiber"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import type { Holder } from "../Holder.ts"
import * as LockBackend from "../LockBackend.ts"
import { LockBackendError, Misconfigured } from "../LockError.ts"
import { invalidNamespace, type LockOptions } from "../LockOptions.ts"
import * as Lines from "./internal/memoryLines.ts"
import * as Tombstones from "./internal/tombstones.ts"

// -----------------------------------------------------------------------------
// options
// -----------------------------------------------------------------------------

/**
 * Options of the memory backend.
 *
 * **Details**
 *
 * - `namespace`: keeps applications apart that share a store. Default `""`. A bad one fails every operation with
 *   `Misconfigured`.
 * - `defaults`: option defaults of every lock of this backend; a call's own options and `LockDefaults` win.
 * - `store`: where the locks are; by default each backend has a store of its own. Two backends with one store exclude
 *   each other as two processes with one server would.
 *
 * @category options
 */
export interface Options {
  readonly namespace?: string | undefined
  readonly defaults?: LockOptions | undefined
  readonly store?: Store | undefined
}

/**
 * The part of the options that can come from configuration.
 *
 * @category options
 */
export interface ConfigOptions {
  readonly namespace?: string | undefined
  readonly defaults?: Omit<LockOptions, "schedule"> | undefined
}

/**
 * Where memory locks are kept; plays the server. Opaque; made by `makeStore`.
 *
 * @category models
 */
export interface Store {
  /** @internal */
  readonly clock: Clock.Clock | undefined
  /** @internal */
  readonly spaces: Map<string, Space>
  /** @internal */
  readonly dead: Tombstones.Tombstones
  /** @internal */
  lastToken: number
}

/**
 * Makes an empty store.
 *
 * **Details**
 *
 * `clock` decides when leases expire, as a server's clock would; by default it is the clock of the fiber that asks.
 *
 * @category constructors
 */
export const makeStore = (options?: { readonly clock?: Clock.Clock | undefined }): Effect.Effect<Store> =>
  Effect.sync(() => makeStoreUnsafe(options))

/**
 * Makes an empty store, outside of Effect.
 *
 * @category constructors
 */
export const makeStoreUnsafe = (options?: { readonly clock?: Clock.Clock | undefined }): Store => ({
  clock: options?.clock,
  spaces: new Map(),
  dead: Tombstones.make(),
  lastToken: 0
})

// -----------------------------------------------------------------------------
// layers
// -----------------------------------------------------------------------------

/**
 * Locks in memory.
 *
 * **When to use**
 *
 * Tests, examples, and programs that are sure to be one process.
 *
 * **Gotchas**
 *
 * Two processes do not exclude each other. A layer is built once per reference: bind `layer()` to a constant, because
 * calling it twice makes two stores. Fencing tokens are seeded from the wall clock, so they grow across restarts only
 * while that clock does not go back.
 *
 * @category layers
 */
export const layer = (options?: Options): Layer.Layer<LockBackend.LockBackend> =>
  Layer.effect(LockBackend.LockBackend, make(options))

/**
 * Locks in memory, with options from configuration.
 *
 * @category layers
 */
export const layerConfig = (
  options: Config.Wrap<ConfigOptions>
): Layer.Layer<LockBackend.LockBackend, Config.ConfigError> =>
  Layer.effect(LockBackend.LockBackend, Effect.flatMap(Config.unwrap(options), make))

/**
 * Makes the backend itself, for a tag of your own (`Lock.on`) or for a second instance on the same `store`.
 *
 * @category constructors
 */
export const make = (
  options?: Options
): Effect.Effect<LockBackend.LockBackend["Service"], never, Scope.Scope> =>
  Effect.suspend(() => LockBackend.LockBackend.make(implementation(options ?? {})))

// -----------------------------------------------------------------------------
// implementation
// -----------------------------------------------------------------------------

const name = "memory"

const capabilities: LockBackend.Capabilities = {
  minTtl: Duration.millis(100),
  ttlGranularity: Duration.zero,
  fencing: {
    grade: "conditional",
    condition: "tokens grow within one store; across restarts of the process only while its wall clock does not go back"
  },
  fair: false,
  lateWrites: "refused",
  drain: true
}

const implementation = (options: Options): LockBackend.Implementation => {
  const namespace = options.namespace ?? ""
  const invalid = invalidNamespace(namespace)
  const store = options.store ?? makeStoreUnsafe()
  const verbs = invalid === undefined ? verbsOf(store, spaceOf(store, namespace)) : refuseAll(invalid.message)
  return { name, capabilities, defaults: options.defaults, ...verbs }
}

type Verbs = Required<Omit<LockBackend.Implementation, "name" | "capabilities" | "defaults">>

const verbsOf = (store: Store, space: Space): Verbs => ({
  tryAcquire: (request) => Effect.withFiberSucceed((fiber) => tryAcquire(store, space, clockOf(store, fiber), request)),
  renew: (request) => Effect.withFiberSucceed((fiber) => renew(space, clockOf(store, fiber), request)),
  release: (request) => Effect.withFiberSucceed((fiber) => release(store, space, fiber, request)),
  inspect: ({ key }) =>
    Effect.withFiberSucceed((fiber) => {
      const now = monotonic(clockOf(store, fiber))
      const grant = live(space, key, now)
      return grant === undefined ? [] : [holderOf(grant, now)]
    }),
  awaitTurn: ({ key }) =>
    Lines.awaitTurn(
      space.lines,
      key,
      (fiber) => live(space, key, monotonic(clockOf(store, fiber))) === undefined
    ),
  list: (keyPrefix) =>
    Stream.unwrap(
      Effect.withFiberSucceed((fiber) =>
        Stream.fromIterable(heldKeys(space, monotonic(clockOf(store, fiber)), keyPrefix))
      )
    ),
  break: (request) => Effect.withFiberSucceed((fiber) => breakLock(store, space, fiber, request))
})

// One grant of one key. It outlives its expiry until somebody looks: an expired grant is no grant.
interface Grant {
  readonly ownerId: string
  readonly token: number
  readonly handle: string
  readonly since: number
  metadata: Readonly<Record<string, string>>
  expiresAt: number
  draining: boolean
}

// What one namespace holds. Nested maps, so that no (namespace, key) pair can be spelled like another.
interface Space {
  readonly grants: Map<string, Grant>
  readonly lines: Lines.Lines
  sweepAbove: number
}

const leastSweep = 1024

const spaceOf = (store: Store, namespace: string): Space => {
  const known = store.spaces.get(namespace)
  if (known !== undefined) return known
  const space: Space = { grants: new Map(), lines: new Map(), sweepAbove: leastSweep }
  store.spaces.set(namespace, space)
  return space
}

const clockOf = (store: Store, fiber: Fiber.Fiber<unknown, unknown>): Clock.Clock =>
  store.clock ?? fiber.getRef(Clock.Clock)

// Expiry is measured on the monotonic clock: it can't be set, and where it stops (a sleeping machine) the lease ends
// later than its holder's trust, never earlier.
const monotonic = (clock: Clock.Clock): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e6

const live = (space: Space, key: string, now: number): Grant | undefined => {
  const grant = space.grants.get(key)
  return grant !== undefined && grant.expiresAt > now ? grant : undefined
}

const holderOf = (grant: Grant, now: number): Holder => ({
  ownerId: grant.ownerId,
  since: Option.some(DateTime.makeUnsafe(grant.since)),
  remaining: Option.some(Duration.millis(grant.expiresAt - now)),
  fencingToken: Option.some(BigInt(grant.token)),
  metadata: grant.metadata
})

const tryAcquire = (
  store: Store,
  space: Space,
  clock: Clock.Clock,
  request: LockBackend.AcquireRequest
): LockBackend.Acquired | LockBackend.Held => {
  const now = monotonic(clock)
  const held = live(space, request.key, now)
  if (Tombstones.has(store.dead, request.ownerId, now)) return refusal(held, now)
  const expiresAt = now + Duration.toMillis(request.ttl)
  if (held === undefined) {
    const since = clock.currentTimeMillisUnsafe()
    const token = nextToken(store, since)
    const handle = token.toString()
    space.grants.set(request.key, {
      ownerId: request.ownerId,
      token,
      handle,
      since,
      metadata: request.metadata,
      expiresAt,
      draining: false
    })
    if (space.grants.size > space.sweepAbove) sweep(space, now)
    return { _tag: "Acquired", fencingToken: Option.some(BigInt(token)), handle, grantedTtl: request.ttl }
  }
  // A replay renews, and a draining lock is not renewed: its own holder is refused like everybody else.
  if (held.ownerId !== request.ownerId || held.draining) return refusal(held, now)
  held.expiresAt = Math.max(held.expiresAt, expiresAt)
  held.metadata = request.metadata
  return {
    _tag: "Acquired",
    fencingToken: Option.some(BigInt(held.token)),
    handle: held.handle,
    grantedTtl: request.ttl
  }
}

const refusal = (held: Grant | undefined, now: number): LockBackend.Held =>
  held === undefined
    ? { _tag: "Held", holders: [], retryAfter: Option.none() }
    : { _tag: "Held", holders: [holderOf(held, now)], retryAfter: Option.some(Duration.millis(held.expiresAt - now)) }

const renew = (
  space: Space,
  clock: Clock.Clock,
  request: LockBackend.RenewRequest
): LockBackend.Renewed | LockBackend.Lost => {
  const now = monotonic(clock)
  const held = live(space, request.key, now)
  if (held === undefined) return { _tag: "Lost", reason: "Gone" }
  if (held.ownerId !== request.ownerId) return { _tag: "Lost", reason: "Taken" }
  if (held.handle !== request.handle || held.draining) return { _tag: "Lost", reason: "Gone" }
  held.expiresAt = Math.max(held.expiresAt, now + Duration.toMillis(request.ttl))
  return { _tag: "Renewed", handle: held.handle, grantedTtl: request.ttl }
}

const release = (
  store: Store,
  space: Space,
  fiber: Fiber.Fiber<unknown, unknown>,
  request: LockBackend.ReleaseRequest
): "Released" | "NotHeld" => {
  const now = monotonic(clockOf(store, fiber))
  Tombstones.add(store.dead, request.ownerId, !request.unanswered, now)
  const held = live(space, request.key, now)
  const ours = held !== undefined && held.ownerId === request.ownerId &&
    (Option.isNone(request.handle) || request.handle.value === held.handle)
  if (held !== undefined && !ours) return "NotHeld"
  // Also when nothing was held: the one who gives up may have been called and not come.
  space.grants.delete(request.key)
  Lines.callNext(space.lines, request.key, fiber)
  return ours ? "Released" : "NotHeld"
}

const breakLock = (
  store: Store,
  space: Space,
  fiber: Fiber.Fiber<unknown, unknown>,
  request: LockBackend.BreakRequest
): "Draining" | "Broken" | "NotHeld" => {
  const held = live(space, request.key, monotonic(clockOf(store, fiber)))
  if (held === undefined || held.ownerId !== request.ownerId) return "NotHeld"
  if (!request.now) {
    held.draining = true
    return "Draining"
  }
  space.grants.delete(request.key)
  Lines.callNext(space.lines, request.key, fiber)
  return "Broken"
}

const heldKeys = (space: Space, now: number, keyPrefix: string): ReadonlyArray<LockBackend.HeldKey> => {
  const held: Array<LockBackend.HeldKey> = []
  for (const [key, grant] of space.grants) {
    if (grant.expiresAt > now && key.startsWith(keyPrefix)) held.push({ key, holders: [holderOf(grant, now)] })
  }
  return held
}

// One counter for all keys: it grows for each of them, and a key that nobody holds leaves nothing behind. The wall
// clock in microseconds is its floor, so that a new process goes on above the old one.
const nextToken = (store: Store, wallMillis: number): number => {
  store.lastToken = Math.max(store.lastToken + 1, Math.floor(wallMillis * 1000))
  return store.lastToken
}

// Grants that expired unreleased are dropped when the map has doubled: constant cost per grant on average.
const sweep = (space: Space, now: number): void => {
  for (const [key, grant] of space.grants) {
    if (grant.expiresAt <= now) space.grants.delete(key)
  }
  space.sweepAbove = Math.max(leastSweep, 2 * space.grants.size)
}

const refuseAll = (detail: string): Verbs => {
  const fail = (operation: LockBackendError["operation"]) => ({ key }: { readonly key: string }) =>
    Effect.fail(new LockBackendError({ backend: name, operation, key, reason: new Misconfigured({ detail }) }))
  return {
    tryAcquire: fail("acquire"),
    renew: fail("renew"),
    release: fail("release"),
    inspect: fail("inspect"),
    awaitTurn: fail("awaitTurn"),
    list: (key) => Stream.fromEffect(fail("list")({ key })),
    break: fail("break")
  }
}
