/**
 * Backends on a server of Cloud Storage in this process, without a network, and their verbs with less to say.
 */
import { Duration, Effect, Option } from "effect"
import { HttpClient } from "effect/http"
import { TestClock } from "effect/testing"
import * as Gcs from "../../../src/layers/Gcs.ts"
import type { Acquired, Held, LockBackend } from "../../../src/LockBackend.ts"
import type { GcsServer } from "../../servers/GcsServer.ts"

export const budget = Duration.seconds(6)

/** Of every lock that does not say otherwise, in milliseconds. */
export const ttl = 10_000

/** A backend that believes the server's clock, unless it is asked not to. */
export const open = (server: GcsServer, options: Partial<Gcs.Options> = {}) =>
  Effect.map(
    Effect.provideService(
      Gcs.make({ bucket: "locks", endpoint: "http://127.0.0.1:1", expiry: "serverDate", ...options }),
      HttpClient.HttpClient,
      server.client
    ),
    (service) => ({ service, ...verbs(service) })
  )

export const verbs = (service: LockBackend["Service"]) => ({
  tryAcquire: (ownerId: string, options: {
    readonly key?: string
    readonly ttl?: number
    readonly metadata?: Readonly<Record<string, string>>
  } = {}) =>
    service.tryAcquire({
      key: options.key ?? "k",
      ownerId,
      ttl: Duration.millis(options.ttl ?? ttl),
      metadata: options.metadata ?? {},
      willWait: true,
      budget
    }),
  renew: (ownerId: string, handle: string, renewTtl = ttl) =>
    service.renew({ key: "k", ownerId, handle, ttl: Duration.millis(renewTtl), budget }),
  release: (ownerId: string, handle?: string) =>
    service.release({
      key: "k",
      ownerId,
      handle: Option.fromUndefinedOr(handle),
      unanswered: handle === undefined,
      budget
    }),
  inspect: (key = "k") => service.inspect({ key, budget }),
  breakLock: (ownerId: string, now: boolean) => service.break!({ key: "k", ownerId, now, budget })
})

export const grantOf = (reply: Acquired | Held): Acquired => {
  if (reply._tag === "Held") throw new Error(`held by ${reply.holders[0]?.ownerId}`)
  return reply
}

export const tokenOf = (reply: Acquired | Held): bigint => Option.getOrThrow(grantOf(reply).fencingToken)

export const holderOf = (reply: Acquired | Held): string | undefined => {
  if (reply._tag === "Acquired") throw new Error("it was acquired")
  return reply.holders[0]?.ownerId
}

/**
 * Lets virtual time go by in steps far shorter than a request's timeout, so that no request times out for want of a
 * step of the runtime.
 */
export const pass = (duration: Duration.Input): Effect.Effect<void> =>
  Effect.gen(function*() {
    const step = 250
    let left = Duration.toMillis(duration)
    for (; left > step; left -= step) yield* TestClock.adjust(step)
    yield* TestClock.adjust(left)
  })
