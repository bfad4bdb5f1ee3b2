/**
 * One process with its backend: opened, closed under whoever uses it, opened again.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import * as Scope from "effect/Scope"
import type { Instance } from "../../internal/instance.ts"
import type { LockBackend } from "../../LockBackend.ts"
import type { Model, Surroundings } from "./Model.ts"
import { operationTimeout } from "./Oracles.ts"
import type { Process } from "./Process.ts"

/**
 * What the core keeps for a simulated backend.
 *
 * @category getters
 */
export const instanceOf = (backend: LockBackend["Service"]): Instance | undefined =>
  backend.slot.state as Instance | undefined

// Every lease is released while it is trusted, or twice tried; whoever acquires is out within his try, the renewal of a
// grant that came late, and the release. The rest is for the difference of clock rates.
const mostUntilClosed = 3 * operationTimeout * 1.05 + 5

/**
 * Where callers live.
 *
 * @category models
 */
export class Place {
  readonly of: Surroundings
  readonly process: Process
  readonly keys: ReadonlyArray<string>
  /** Milliseconds: every call is a guard that holds the lock for so long, if it is given. */
  readonly hold: number | undefined
  backend: LockBackend["Service"]
  /** This one, and those before it. */
  readonly backends: Array<LockBackend["Service"]> = []
  isClosing = false
  private readonly model: Model
  private scope: Scope.Closeable

  constructor(of: Surroundings, model: Model, process: Process, keys: ReadonlyArray<string>, hold: number | undefined) {
    this.of = of
    this.model = model
    this.process = process
    this.keys = keys
    this.hold = hold
    this.scope = Scope.makeUnsafe()
    this.backend = this.open()
  }

  /** Runs something in the process. */
  start(effect: Effect.Effect<void>): Fiber.Fiber<void> {
    return Effect.runForkWith(this.process.context)(effect)
  }

  /** What has gone wrong with its messages, in it, or with the server. */
  get mishaps(): number {
    const { faults, mix } = this.of
    const isOurs = (process: number) => process === this.process.id || process < 0 || mix.machine === "one"
    return faults.happened.reduce(
      (sum, { kind, process }) => isOurs(process) && kind !== "interrupt" ? sum + 1 : sum,
      0
    )
  }

  /** Closes the backend, as the end of its layer does, and opens another. */
  get reopen(): Effect.Effect<void> {
    return Effect.gen({ self: this }, function*() {
      const { backend, process } = this
      const { oracles } = this.of
      this.isClosing = true
      const since = process.active
      yield* Scope.close(this.scope, Exit.void)
      const took = process.active - since
      if (took > mostUntilClosed) oracles.violated("late", `the backend was closed ${took} ms after it was told to`)
      oracles.onRest("rest", instanceOf(backend), undefined, "after its backend was closed")
      this.scope = Scope.makeUnsafe()
      this.backend = this.open()
      this.isClosing = false
    })
  }

  private open(): LockBackend["Service"] {
    const open = Effect.orDie(Scope.provide(this.model.open(this.process), this.scope))
    const backend = Effect.runSyncWith(this.process.context)(open)
    this.backends.push(backend)
    return backend
  }
}
