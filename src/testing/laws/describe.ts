/**
 * What a backend said, in words, for violations.
 */
import * as Exit from "effect/Exit"
import type { Acquired, Held, Lost, Renewed } from "../../LockBackend.ts"

/** What a backend said, in words. */
export const describe = (reply: Acquired | Held | Renewed | Lost): string => {
  switch (reply._tag) {
    case "Acquired":
      return "Acquired"
    case "Held":
      return `Held by ${describeHolders(reply.holders)}`
    case "Renewed":
      return "Renewed"
    case "Lost":
      return `Lost(${reply.reason})`
  }
}

/** Who holds it, in words. */
export const describeHolders = (holders: Held["holders"]): string =>
  holders.length === 0 ? "nobody" : holders.map((holder) => holder.ownerId).join(", ")

/** What an exit was, in words. */
export const describeExit = (exit: Exit.Exit<unknown, unknown>): string =>
  Exit.isSuccess(exit) ? "success" : String(exit.cause)
