/**
 * The options that every layer has, looked at before anything is sent.
 */
import * as Result from "effect/Result"
import { invalidNamespace, type LockOptions, resolve } from "../../LockOptions.ts"

/** What is wrong with them, in words; `undefined` if nothing is. Limits in milliseconds. */
export const problemOf = (
  { defaults, namespace = "" }: {
    readonly namespace?: string | undefined
    readonly defaults?: LockOptions | undefined
  },
  limits: { readonly minTtl: number; readonly granularity: number }
): string | undefined => {
  const invalid = invalidNamespace(namespace)
  if (invalid !== undefined) return invalid.message
  const resolved = resolve(limits, undefined, undefined, defaults)
  return Result.isFailure(resolved) ? `the layer's defaults: ${resolved.failure.message}` : undefined
}
