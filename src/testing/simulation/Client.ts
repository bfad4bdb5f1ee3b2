/**
 * The port of a model server, as one process has it.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as LockBackend from "../../LockBackend.ts"
import { type Inbox, provisional } from "./Line.ts"
import { backendName, type Network } from "./Network.ts"
import type { Process } from "./Process.ts"
import type { ServedLock } from "./ServedLock.ts"

/**
 * What the simulated backends can do.
 *
 * @category constants
 */
export const capabilities: LockBackend.Capabilities = {
  minTtl: Duration.millis(100),
  ttlGranularity: Duration.zero,
  fencing: { grade: "strict" },
  fair: false,
  lateWrites: "refused",
  drain: true
}

/**
 * The verbs, each a message; with an `inbox` where the server gives locks to who waits.
 *
 * @category constructors
 */
export const clientOf = (
  lockOf: (key: string) => ServedLock,
  network: Network,
  process: Process,
  pushes: boolean,
  inbox: Inbox | undefined,
  onTold: (ownerId: string) => void
): LockBackend.Implementation => ({
  name: backendName,
  // Messages overtake each other here, so this promise is broken at times, which may cost time and nothing else.
  capabilities: { ...capabilities, ordered: pushes, fair: inbox !== undefined },
  tryAcquire: (request) =>
    Effect.suspend(() => {
      const { key, ownerId } = request
      const given = request.provisional === true ? inbox?.take(ownerId) : undefined
      if (given !== undefined) return Effect.succeed(provisional(given))
      inbox?.enter(ownerId)
      const serve = () => lockOf(key).tryAcquire(request, inbox)
      return Effect.map(network.send(process, { operation: "acquire", key }, serve), (reply) => {
        if (reply._tag === "Held") inbox?.refused(ownerId, tokenOf(reply))
        return reply
      })
    }),
  renew: (request) =>
    Effect.map(
      network.send(process, { operation: "renew", key: request.key }, () => lockOf(request.key).renew(request)),
      (reply) => {
        if (reply._tag === "Lost") onTold(request.ownerId)
        return reply
      }
    ),
  release: (request) =>
    network.send(process, { operation: "release", key: request.key }, () => lockOf(request.key).release(request)),
  inspect: ({ key }) => network.send(process, { operation: "inspect", key }, () => lockOf(key).inspect()),
  break: (request) =>
    network.send(process, { operation: "break", key: request.key }, () => lockOf(request.key).break(request)),
  awaitTurn: pushes
    ? ({ key, ownerId }) =>
      Effect.callback<void>((resume) => {
        const wake = () => resume(Effect.void)
        const unwatch = inbox === undefined
          ? lockOf(key).watch(() => network.tell(process, wake))
          : inbox.watch(ownerId, wake)
        return Effect.sync(unwatch)
      })
    : undefined
})

const tokenOf = ({ holders }: LockBackend.Held): number | undefined =>
  holders[0] === undefined ? undefined : Number(Option.getOrThrow(holders[0].fencingToken))
