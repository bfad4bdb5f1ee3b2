/** Does what was planned. */
import { Effect } from "effect"
import type { Arena, ServerFault } from "./arenas.ts"
import type { Crew } from "./crew.ts"
import { hostTime } from "./history.ts"
import type { Faults, Link } from "./link.ts"
import type { Stroke } from "./plan.ts"

/** Every stroke at its time; those that come late because the machine is busy are not left out. */
export const strike = (
  strokes: ReadonlyArray<Stroke>,
  arena: Arena,
  crew: Crew,
  ttl: number,
  onStroke: (stroke: Stroke) => void
): Effect.Effect<void> => {
  const startedAt = hostTime()
  return Effect.forEach(
    strokes,
    (stroke) =>
      Effect.gen(function*() {
        yield* Effect.sleep(Math.max(startedAt + stroke.at - hostTime(), 0))
        const { begin, end } = faultOf(stroke, arena, crew, ttl)
        onStroke(stroke)
        yield* begin
        yield* Effect.sleep(stroke.lasts)
        yield* end
      }),
    { concurrency: "unbounded", discard: true }
  )
}

/** Everything as it should be. */
export const heal = (arena: Arena, crew: Crew, workers: number): Effect.Effect<void> =>
  Effect.sync(() => {
    for (const link of arena.links.flat()) {
      link.heal("reset")
      link.accept()
    }
    for (let worker = 0; worker < workers; worker++) {
      crew.goOn(worker)
      crew.tell(worker, { tag: "skew", millis: 0 })
      crew.tell(worker, { tag: "disk", failing: 0 })
    }
  })

const faultOf = (stroke: Stroke, arena: Arena, crew: Crew, ttl: number): ServerFault => {
  const { fault, server, size, worker } = stroke
  const links = arena.links[worker] ?? []
  // One connection of a worker is bad, or all of them.
  const affected = size > 0.5 ? links : links.slice(server, server + 1)
  const all = (action: (link: Link) => void) => Effect.sync(() => affected.forEach(action))
  const bad = (faults: Partial<Faults>): ServerFault => ({
    begin: all((link) => link.set(faults)),
    end: all((link) => link.heal(Math.round(size * 1000) % 2 === 0 ? "arrives" : "reset"))
  })
  const once = (begin: Effect.Effect<void>): ServerFault => ({ begin, end: Effect.void })
  switch (fault) {
    case "kill":
      return { begin: crew.kill(worker), end: Effect.sync(() => crew.start(worker)) }
    case "pause":
      return {
        begin: Effect.sync(() => crew.pause(worker)),
        end: Effect.sync(() => crew.goOn(worker))
      }
    case "clock": {
      // From a tenth of a ttl to ten of them, forwards or backwards.
      const by = ttl * 10 ** (4 * Math.abs(size - 0.5) - 1) * Math.sign(size - 0.5)
      return once(Effect.sync(() => crew.tell(worker, { tag: "skew", millis: by })))
    }
    case "disk errors":
      return {
        begin: Effect.sync(() => crew.tell(worker, { tag: "disk", failing: size })),
        end: Effect.sync(() => crew.tell(worker, { tag: "disk", failing: 0 }))
      }
    case "latency":
      return bad({ latency: 5 + size * 150 })
    case "drip":
      return bad({ drip: 0.5 + size * 10 })
    case "black hole":
      return bad({ withholdRequests: true, withholdReplies: true })
    case "lost replies":
      return bad({ withholdReplies: true })
    case "lost requests":
      return bad({ withholdRequests: true })
    case "reset":
      return once(all((link) => link.reset()))
    case "half-close":
      return once(all((link) => link.halfClose()))
    case "refuse":
      return {
        begin: all((link) => link.refuse()),
        end: all((link) => link.accept())
      }
    default:
      return arena.fault(fault, server, size)
  }
}
