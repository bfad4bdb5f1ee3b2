/** Medians and their spread. */

export interface Measure {
  readonly median: number
  readonly p10: number
  readonly p90: number
  /** How many values it is of. */
  readonly n: number
}

/** The value below which a share `p` of the sorted values lies; between two of them, on the line. */
export const quantile = (sorted: ArrayLike<number>, p: number): number => {
  if (sorted.length === 0) return Number.NaN
  const place = (sorted.length - 1) * p
  const low = Math.floor(place)
  const below = sorted[low] ?? Number.NaN
  const above = sorted[Math.min(low + 1, sorted.length - 1)] ?? Number.NaN
  // Not below + (above - below) * …: of two infinite waits that is no number.
  return place === low || below === above ? below : below + (above - below) * (place - low)
}

export const sorted = (values: Iterable<number>): Float64Array => Float64Array.from(values).sort()

/** Undefined if there is nothing to measure. */
export const measure = (values: Iterable<number>): Measure | undefined => {
  const all = sorted(values)
  if (all.length === 0) return undefined
  return { median: quantile(all, 0.5), p10: quantile(all, 0.1), p90: quantile(all, 0.9), n: all.length }
}

/** What has no spread. */
export const exactly = (value: number): Measure => ({ median: value, p10: value, p90: value, n: 1 })
