/** Backends made of the memory backend with some verbs replaced, and a count of what was sent. */
import { Duration, Effect, Layer, Option } from "effect"
import { LockBackend, LockBackendError, Unreachable } from "effect-lock"
import * as Memory from "effect-lock/layers/Memory"

export type Service = LockBackend["Service"]
export type Verb = "acquire" | "renew" | "release"

export interface Sent {
  readonly verb: Verb
  readonly ownerId: string
  readonly at: number
}

/** `replace` sees the real verbs and gives those to use instead. */
export const backend = (replace: (real: Service, sent: Array<Sent>) => Partial<Service> = () => ({})) =>
  Effect.gen(function*() {
    const store = Memory.makeStoreUnsafe()
    const real = yield* Memory.make({ store })
    const sent: Array<Sent> = []
    const replaced = { ...real, ...replace(real, sent) }
    const noted = (verb: Verb, ownerId: string) =>
      Effect.clockWith((clock) =>
        Effect.sync(() => {
          sent.push({ verb, ownerId, at: clock.currentTimeMillisUnsafe() })
        })
      )
    const service = yield* LockBackend.make({
      ...replaced,
      tryAcquire: (request) => Effect.andThen(noted("acquire", request.ownerId), replaced.tryAcquire(request)),
      renew: (request) => Effect.andThen(noted("renew", request.ownerId), replaced.renew(request)),
      release: (request) => Effect.andThen(noted("release", request.ownerId), replaced.release(request))
    })
    return {
      store,
      real,
      service,
      sent,
      layer: Layer.succeed(LockBackend, service),
      provide: Effect.provideService(LockBackend, service),
      count: (verb: Verb) => sent.filter((each) => each.verb === verb).length,
      /** Who holds the key, asked of the real backend. */
      holder: (key: string) =>
        Effect.map(real.inspect({ key, budget: real.capabilities.minTtl }), (holders) => holders[0]?.ownerId)
    }
  })

export const unreachable = (operation: LockBackendError["operation"], key = "k"): LockBackendError =>
  new LockBackendError({ backend: "test", operation, key, reason: new Unreachable({ detail: "ECONNRESET" }) })

/** Takes the key from whoever holds it, as another process would. */
export const steal = (real: Service, key: string) =>
  Effect.gen(function*() {
    const holders = yield* real.inspect({ key, budget: real.capabilities.minTtl })
    for (const holder of holders) {
      yield* real.break!({ key, ownerId: holder.ownerId, now: true, budget: real.capabilities.minTtl })
    }
    return yield* hold(real, key, "thief")
  })

/** Another process's hold of the key, for ever as far as a test goes. */
export const hold = (real: Service, key: string, ownerId: string, ttl = 3_600_000 * 24) =>
  Effect.gen(function*() {
    const reply = yield* real.tryAcquire({
      key,
      ownerId,
      ttl: Duration.millis(ttl),
      metadata: { who: ownerId },
      willWait: false,
      budget: Duration.seconds(1)
    })
    if (reply._tag !== "Acquired") return yield* Effect.die(new Error(`${key} is held`))
    return {
      release: real.release({
        key,
        ownerId,
        handle: Option.some(reply.handle),
        unanswered: false,
        budget: Duration.seconds(1)
      })
    }
  })

export const start = { startImmediately: true } as const
