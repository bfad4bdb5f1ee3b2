/**
 * What a script answers, read strictly: what is nearly a number (`true`, `null`, a list of one) is none.
 */

/** A whole number, or its digits: that is what a user's client with `stringNumbers` makes of one. */
export const integerOf = (answer: unknown): number | undefined => {
  const number = typeof answer === "string" && digits.test(answer) ? Number(answer) : answer
  return typeof number === "number" && Number.isSafeInteger(number) ? number : undefined
}

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const digits = /^(?:0|-?[1-9]\d{0,15})$/
