/**
 * Where owner ids come from.
 */
import * as Context from "effect/Context"
import * as Hex from "effect/encoding/Hex"

/**
 * Makes a fresh owner id: 128 bits of the platform's secure randomness, in hexadecimal. A reference, so that tests and
 * simulations can pin it; never Effect's `Random`, which programs seed.
 */
export const OwnerIds: Context.Reference<() => string> = Context.Reference<() => string>("effect-lock/OwnerIds", {
  defaultValue: () => fromSecureRandomness()
})

// Randomness is drawn for 64 ids at a time, because a draw costs far more than the bytes in it. Each digit is used once.
const fromSecureRandomness = (): () => string => {
  const bytes = new Uint8Array(16 * 64)
  let digits = ""
  let used = 0
  return () => {
    if (used === digits.length) {
      digits = Hex.encode(globalThis.crypto.getRandomValues(bytes))
      used = 0
    }
    used += 32
    return digits.slice(used - 32, used)
  }
}
