import { Data, Runtime } from "effect"

/** Why the demonstration could not be carried out to its end. */
export class NotCarriedOut extends Data.TaggedError("NotCarriedOut")<{ readonly message: string }> {
  // main.ts tells it.
  override readonly [Runtime.errorReported] = false
}
