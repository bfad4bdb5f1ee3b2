/**
 * What happens at a time: to a process, to the server, by an operator.
 */
import * as Effect from "effect/Effect"
import * as Lock from "../../Lock.ts"
import { LockBackend } from "../../LockBackend.ts"
import { type Fault, type Faults, ofOperator } from "./Faults.ts"
import type { Model } from "./Model.ts"
import type { Place } from "./Place.ts"
import type { Stroke, World } from "./World.ts"

/**
 * The faults of `faults` that have a time, as strokes.
 *
 * @category constructors
 */
export const strokesOf = (
  world: World,
  faults: Faults,
  model: Model,
  places: ReadonlyArray<Place>,
  operator: Place
): ReadonlyArray<Stroke> =>
  faults.ofTimes(places.length).map((fault) => {
    const place = fault.process === ofOperator ? operator : places[fault.process]
    const struck = place === undefined ? [] : isOfMachine(fault, place) ? [...places, operator] : [place]
    return {
      at: fault.at,
      can: () =>
        place === undefined
          ? model.restart !== undefined
          : !place.process.dead && struck.every(({ process }) => !process.paused)
            && !(fault.kind === "close" && place.isClosing),
      run: () => {
        faults.note(fault)
        world.note(`p${place?.process.id ?? ""} ${fault.kind}`, fault.by)
        if (place === undefined) model.restart!(fault.kind === "forget", fault.by)
        for (const each of struck) strike(each, fault)
      }
    }
  })

const isOfMachine = ({ kind }: Fault, { of: { mix } }: Place): boolean =>
  mix.machine === "one" && (kind === "suspend" || kind === "forward" || kind === "backward")

const strike = (place: Place, { by, kind }: Fault): unknown => {
  const { process } = place
  switch (kind) {
    case "pause":
      return process.pause(by, false)
    case "suspend":
      return process.pause(by, true)
    case "kill":
      return process.kill()
    case "forward":
      return process.setWall(by)
    case "backward":
      return process.setWall(-by)
    case "close":
      return place.start(place.reopen)
    case "drain":
    case "break":
      return place.start(breakSome(place, place.keys[Math.floor(by) % place.keys.length]!, kind === "break", by))
    default:
      return undefined
  }
}

// An operator looks who has the lock, thinks for a while, and breaks it by the name that he saw; who has it by then is not
// meant.
const breakSome = (place: Place, key: string, now: boolean, hesitation: number): Effect.Effect<void> =>
  Effect.flatMap(Lock.inspect(key), ([holder]) => {
    if (holder === undefined) return Effect.void
    if (now) place.of.oracles.onBreak(holder.ownerId)
    return Effect.andThen(Effect.sleep(hesitation), Lock.break(key, holder.ownerId, { now }))
  }).pipe(
    Effect.provideService(LockBackend, place.backend),
    Effect.exit,
    Effect.asVoid
  )
