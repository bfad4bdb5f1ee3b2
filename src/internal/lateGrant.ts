/**
 * A grant that came so late that little of its trust is left: it is renewed once, else it is worth nothing.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Lease from "../Lease.ts"
import type { Acquired } from "../LockBackend.ts"
import type { ResolvedOptions } from "../LockOptions.ts"
import { bounded } from "./bounded.ts"
import type { Instance } from "./instance.ts"
import { trustOf } from "./renewal.ts"
import { isRenewed } from "./reply.ts"

/** Whether enough trust is left at `now` to hand the grant out. */
export const isEnough = (
  options: ResolvedOptions,
  reply: { readonly grantedTtl: Duration.Duration; readonly provisional?: boolean | undefined },
  sentAt: Lease.Stamp,
  now: Lease.Stamp
): boolean => {
  const lasts = reply.provisional === true ? Duration.toMillis(reply.grantedTtl) : options.ttl
  return Lease.remainingTrust(trustOf(options, sentAt, reply), now) >= Lease.leastTrustOfGrant(lasts)
}

/** Renews `late` once; `undefined` if that did not give it enough trust. */
export const refresh = (
  of: {
    readonly instance: Instance
    readonly key: string
    readonly ownerId: string
    readonly options: ResolvedOptions
    readonly clock: Clock.Clock
  },
  late: Acquired
): Effect.Effect<{ readonly reply: Acquired; readonly sentAt: Lease.Stamp } | undefined> =>
  Effect.suspend(() => {
    const { clock, instance, key, options, ownerId } = of
    const { backend } = instance
    const sentAt = Lease.stamp(clock)
    const budget = options.operationTimeout
    const request = {
      key,
      ownerId,
      ttl: Duration.millis(options.ttl),
      handle: late.handle,
      budget: Duration.millis(budget)
    }
    const call = { backend: backend.name, operation: "renew", key, budget } as const
    return Effect.match(bounded(instance, call, Effect.suspend(() => backend.renew(request))), {
      onSuccess: (reply) =>
        isRenewed(reply) && isEnough(options, reply, sentAt, Lease.stamp(clock))
          ? { reply: { ...late, handle: reply.handle, grantedTtl: reply.grantedTtl }, sentAt }
          : undefined,
      onFailure: () => undefined
    })
  })
