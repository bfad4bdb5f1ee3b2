/**
 * What a simulated server is to the rest: it tells the truth about its locks, and gives each process a port to them.
 */
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { LockBackend } from "../../LockBackend.ts"
import type { LockBackendError } from "../../LockError.ts"
import type { Faults, Mix } from "./Faults.ts"
import type { Network } from "./Network.ts"
import type { Oracles } from "./Oracles.ts"
import type { Process } from "./Process.ts"
import type { World } from "./World.ts"

/**
 * One time that a lock was given to somebody.
 *
 * @category models
 */
export interface Grant {
  readonly ownerId: string
  readonly fence: number
  /** The server's time. */
  expiresAt: number
  /** True time: from when, and until when at most. */
  readonly from: number
  until: number
}

/**
 * What the oracles want to know of a lock.
 *
 * @category models
 */
export interface Truth {
  /** Who holds the lock now. */
  readonly holder: () => { readonly ownerId: string; readonly fence: number } | undefined
  /** Every grant that there was, the oldest first. */
  readonly grants: ReadonlyArray<Grant>
  /** Who keeps others from taking it, where that may also be somebody who was not granted it. */
  readonly occupant?: (() => { readonly ownerId: string } | undefined) | undefined
}

/**
 * A server, or whatever else the processes share.
 *
 * **Details**
 *
 * - `truthOf`: what is so, whatever anybody believes.
 * - `open`: the backend, as one process has it; must end without waiting.
 * - `restart`: the server is away for so many milliseconds, and has forgotten everything if it `forgets`; `undefined`
 *   if there is no server that could.
 * - `mostUntilFree`: how long the lock of a dead holder may be taken, in milliseconds; default a ttl.
 *
 * @category models
 */
export interface Model {
  readonly truthOf: (key: string) => Truth
  readonly open: (process: Process) => Effect.Effect<LockBackend["Service"], LockBackendError, Scope.Scope>
  readonly restart?: ((forgets: boolean, millis: number) => void) | undefined
  readonly mostUntilFree?: number | undefined
}

/**
 * What a model is made in.
 *
 * @category models
 */
export interface Surroundings {
  readonly world: World
  readonly faults: Faults
  readonly network: Network
  readonly oracles: Oracles
  readonly mix: Mix
  readonly seed: number
  /** Draws how much faster than true time a clock runs. */
  readonly rate: () => number
}
