/**
 * The client port on ioredis.
 *
 * A client that we make never sends a command late: it has no offline queue, and when a connection closes, what it had
 * in flight fails at once instead of being sent again (`maxRetriesPerRequest: 0`). Of a client that is the user's,
 * nothing is changed, and it is never closed.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Scope from "effect/Scope"
import { type Cluster, Redis } from "ioredis"
import type { BackendReason, Misconfigured } from "../../LockError.ts"
import { Deadlines, type Timed } from "./deadlines.ts"
import type { RedisClient, RedisScript } from "./redisClient.ts"
import { type Connection, endpointOf, hazardsOf, optionsOf, subscriberOptions } from "./redisConnection.ts"
import { closed, isNoScript, reasonOf, timedOut } from "./redisFailure.ts"
import { Subscriber } from "./redisSubscriber.ts"

export type { Connection } from "./redisConnection.ts"

/**
 * Connects at the first command, not here: only what is wrong with the options themselves fails. `name` is what the
 * server shows of a connection that is ours (`CLIENT LIST`).
 */
export const connect = (
  connection: Connection,
  name: string
): Effect.Effect<RedisClient, Misconfigured, Scope.Scope> =>
  Effect.gen(function*() {
    const clock = yield* Clock.Clock
    const scope = yield* Effect.scope
    if ("client" in connection) {
      yield* hazardsOf(connection.client)
      return yield* open(connection.client, false, clock, scope)
    }
    const options = yield* optionsOf(connection, name)
    const driver = yield* Effect.acquireRelease(
      Effect.sync(() => new Redis(options)),
      (driver) => Effect.sync(() => driver.disconnect())
    )
    return yield* open(driver, true, clock, scope)
  })

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const open = (driver: Redis | Cluster, own: boolean, clock: Clock.Clock, scope: Scope.Scope) =>
  Effect.gen(function*() {
    const client = new IoredisClient(driver, own, new Deadlines(clock))
    yield* Scope.addFinalizer(scope, Effect.sync(() => client.detach()))
    return client
  })

class IoredisClient implements RedisClient {
  readonly endpoint: string
  readonly kind: "standalone" | "cluster"
  readonly keyPrefix: string
  private readonly driver: Redis | Cluster
  private readonly own: boolean
  private readonly deadlines: Deadlines<Command>
  private readonly waiting = new Set<Command>()
  private subscriber: Subscriber | undefined
  private epoch: number
  private lastError: unknown
  // We ended the connection, and it is not closed yet.
  private closing = false
  /** What was sent in this turn: nothing, one command, or more that wait for its end. */
  private gathering: "no" | "begun" | "corked" = "no"
  private detached = false
  // Since when something was sent that has no answer, and nothing at all was heard.
  private silentSince: number | undefined

  constructor(driver: Redis | Cluster, own: boolean, deadlines: Deadlines<Command>) {
    this.driver = driver
    this.own = own
    this.deadlines = deadlines
    this.kind = driver.isCluster ? "cluster" : "standalone"
    this.endpoint = endpointOf(driver)
    this.keyPrefix = driver.options.keyPrefix ?? ""
    this.epoch = driver.status === "ready" ? 1 : 0
    driver.on("ready", this.onReady)
    driver.on("close", this.onClose)
    driver.on("end", this.onClose)
    // Without a listener ioredis prints errors. Those of the user's client are the user's.
    if (own) driver.on("error", this.onError)
  }

  isReady(): boolean {
    return this.driver.status === "ready" && !this.closing
  }

  connections(): number {
    return this.epoch
  }

  run(script: RedisScript, keys: ReadonlyArray<string>, args: ReadonlyArray<string>, timeout: Duration.Duration) {
    return this.send(timeout, (known) =>
      known
        ? this.driver.evalsha(script.sha1, keys.length, ...keys, ...args)
        : this.driver.eval(script.source, keys.length, ...keys, ...args))
  }

  command(name: string, args: ReadonlyArray<string>, timeout: Duration.Duration) {
    return this.send(timeout, () => this.driver.call(name, ...args))
  }

  subscribe(channel: string, onMessage: (message: string) => void, onReconnect: () => void) {
    return Effect.suspend(() => {
      this.subscriber ??= new Subscriber(
        () => this.driver.isCluster ? undefined : (this.driver as Redis).duplicate(subscriberOptions),
        this.endpoint
      )
      return this.subscriber.subscribe(channel, onMessage, onReconnect)
    })
  }

  masters(): ReadonlyArray<Pick<RedisClient, "command" | "keyPrefix">> {
    if (!this.driver.isCluster) return [this]
    return (this.driver as Cluster).nodes("master").map((node) => ({
      keyPrefix: this.keyPrefix,
      command: (name, args, timeout) => this.send(timeout, () => node.call(name, ...args))
    }))
  }

  /** Listens no longer, and closes what is ours beside the driver. */
  detach(): void {
    this.detached = true
    this.driver.off("ready", this.onReady)
    this.driver.off("close", this.onClose)
    this.driver.off("end", this.onClose)
    this.subscriber?.close()
    // Also what the user's client goes on with.
    for (const command of this.deadlines.stop()) command.fail(closed(this.endpoint))
  }

  private send(
    timeout: Duration.Duration,
    write: (known: boolean) => Promise<unknown>
  ): Effect.Effect<unknown, BackendReason> {
    return Effect.callback<unknown, BackendReason>((resume) => {
      const command = new Command(this, write, timeout, this.deadlines.now(), resume)
      this.deadlines.add(command)
      this.start(command)
      return Effect.sync(() => command.abandon())
    })
  }

  private start(command: Command): void {
    if (this.detached) return command.fail(closed(this.endpoint))
    if (this.isReady()) return this.transmit(command, true)
    const { status } = this.driver
    // The user's client queues by itself, in order: the release of an acquire that it will send again comes after it.
    if (!this.own && this.driver.options.enableOfflineQueue !== false) return this.transmit(command, true)
    this.waiting.add(command)
    this.silentSince ??= command.startedAt
    if (status === "wait" || (this.own && status === "end")) this.driver.connect().then(ignore, ignore)
    else if (status === "end") this.onClose()
  }

  transmit(command: Command, known: boolean): void {
    this.silentSince ??= command.startedAt
    this.gather()
    command.write(known).then(
      (answer) => {
        this.silentSince = undefined
        command.succeed(answer)
      },
      (error) => {
        this.silentSince = undefined
        if (known && isNoScript(error)) {
          if (!command.isOver) this.transmit(command, false)
        } else command.fail(reasonOf(error, this.endpoint))
      }
    )
  }

  // The first command of a turn is sent at once, so that the server is at it while the turn goes on; what follows goes out
  // in one write when the turn ends: a system call costs more than a command. Only where the connection is ours; a user's
  // may be written to by others, who may count on their own order of things.
  private gather(): void {
    if (!this.own) return
    const { stream } = this.driver as Redis
    if (this.gathering === "no") {
      this.gathering = "begun"
      process.nextTick(() => {
        const { gathering } = this
        this.gathering = "no"
        if (gathering === "corked") stream.uncork()
      })
    } else if (this.gathering === "begun") {
      this.gathering = "corked"
      stream.cork()
    }
  }

  /**
   * Somebody waited in vain. A network that drops everything does not close a connection: a client of ours that heard
   * nothing for a while makes a new one.
   */
  onSilence(): void {
    const silent = this.silentSince
    if (!this.own || this.closing || silent === undefined || this.deadlines.now() - silent < longestSilence) return
    const { status } = this.driver
    // Before it is ready it may hang in its handshake; while it connects, `connectTimeout` is the bound.
    if (status !== "ready" && status !== "connect") return
    this.closing = true
    ;(this.driver as Redis).disconnect(true)
  }

  leave(command: Command): void {
    this.waiting.delete(command)
    this.deadlines.delete(command)
  }

  private readonly onReady = (): void => {
    this.epoch++
    this.closing = false
    this.lastError = undefined
    this.silentSince = undefined
    const waiting = [...this.waiting]
    this.waiting.clear()
    for (const command of waiting) this.transmit(command, true)
  }

  private readonly onError = (error: unknown): void => {
    this.lastError = error
  }

  private readonly onClose = (): void => {
    this.silentSince = undefined
    if (this.closing) {
      this.closing = false
      return
    }
    const reason = this.lastError === undefined ? closed(this.endpoint) : reasonOf(this.lastError, this.endpoint)
    this.lastError = undefined
    for (const command of [...this.waiting]) command.fail(reason)
  }
}

const longestSilence = 1000

const ignore = () => {}

class Command implements Timed {
  readonly write: (known: boolean) => Promise<unknown>
  readonly startedAt: number
  readonly deadline: number
  isOver = false
  private readonly client: IoredisClient
  private readonly timeout: Duration.Duration
  private readonly resume: (exit: Effect.Effect<unknown, BackendReason>) => void

  constructor(
    client: IoredisClient,
    write: Command["write"],
    timeout: Duration.Duration,
    now: number,
    resume: Command["resume"]
  ) {
    this.client = client
    this.write = write
    this.timeout = timeout
    this.startedAt = now
    this.deadline = now + Duration.toMillis(timeout)
    this.resume = resume
  }

  succeed(answer: unknown): void {
    if (this.isOver) return
    this.leave()
    this.resume(Effect.succeed(answer))
  }

  fail(reason: BackendReason): void {
    if (this.isOver) return
    this.leave()
    this.resume(Effect.fail(reason))
  }

  expire(): void {
    if (this.isOver) return
    this.abandon()
    this.resume(Effect.fail(timedOut(this.client.endpoint, this.timeout)))
  }

  /** Nobody waits for the answer any more. */
  abandon(): void {
    this.leave()
    this.client.onSilence()
  }

  private leave(): void {
    this.isOver = true
    this.client.leave(this)
  }
}
