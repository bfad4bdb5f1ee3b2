/**
 * Which leases the running code is known to hold: provided by guards and by `Lock.scoped`, so that waiting for oneself
 * is noticed, and a lease lost can end the region that it was acquired in.
 */
import * as Context from "effect/Context"
import type * as Scope from "effect/Scope"
import type { HeldLease } from "./heldLease.ts"

/** A stretch of code that runs while it holds `leases`, inside of `outer`. */
export interface Region {
  readonly outer: Region | undefined
  /** The scope that belongs to the region, if it has one: leases acquired into it join the region. */
  readonly scope: Scope.Scope | undefined
  readonly leases: Set<HeldLease>
  readonly join: ((lease: HeldLease) => void) | undefined
}

/** The innermost region that the running code is in. */
export const CurrentRegion: Context.Reference<Region | undefined> = Context.Reference<Region | undefined>(
  "effect-lock/CurrentRegion",
  { defaultValue: () => undefined }
)

/** Whether code in `region` holds a lease for which `is` is true. */
export const holds = (region: Region | undefined, is: (lease: HeldLease) => boolean): boolean => {
  for (let each = region; each !== undefined; each = each.outer) {
    for (const lease of each.leases) {
      if (is(lease)) return true
    }
  }
  return false
}

/** The region whose own scope is `scope`, from the innermost outwards. */
export const ofScope = (region: Region | undefined, scope: Scope.Scope): Region | undefined => {
  for (let each = region; each !== undefined; each = each.outer) {
    if (each.scope === scope) return each
  }
  return undefined
}
