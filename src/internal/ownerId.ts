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

// Randomness is drawn for 64 ids at a time, because a draw costs far more than the bytes in it. Each byte is used once.
const fromSecureRandomness = (): () => string => {
  const bytes = new Uint8Array(16 * 64)
  let used = bytes.length
  return () => {
    if (used === bytes.length) {
      globalThis.crypto.getRandomValues(bytes)
      used = 0
    }
    const id = Hex.encode(bytes.subarray(used, used + 16))
    used += 16
    return id
  }
}
