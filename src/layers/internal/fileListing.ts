/**
 * What the names in a lock's directory say.
 *
 * - `g<generation>`: the record of a grant. The highest is the present one, the tip.
 * - `b<generation>`: that grant drains: an operator asked for it, and it is not renewed any more.
 * - `x<generation>`: that grant is broken: an operator freed its lock at once.
 * - `t<generation>-<ttl>`: that grant lives this many milliseconds after its last renewal, not only what its record says.
 *
 * A generation is 16 digits, so names sort as numbers do. Marks are files of their own, created exclusively, because a
 * mark that was written into the record or its mtime could be undone by a renewal under way.
 */

/** The names in a lock's directory, read at one moment; `generations` from the highest to the lowest. */
export interface Listing {
  readonly generations: ReadonlyArray<string>
  readonly drained: ReadonlyArray<string>
  readonly broken: ReadonlyArray<string>
  readonly lengthened: ReadonlyArray<Lengthened>
}

/** A grant and the longer ttl it was renewed for, in milliseconds. */
export interface Lengthened {
  readonly generation: string
  readonly ttl: number
}

const name = /^([gbxt])(\d{16})(?:-(\d{1,15}))?$/

/** Sorts names out; what is none of ours is left alone. */
export const parse = (names: ReadonlyArray<string>): Listing => {
  const generations: Array<string> = []
  const drained: Array<string> = []
  const broken: Array<string> = []
  const lengthened: Array<Lengthened> = []
  for (const text of names) {
    const [, kind, generation, ttl] = name.exec(text) ?? []
    if (generation === undefined) continue
    if (kind === "t" && ttl !== undefined) lengthened.push({ generation, ttl: Number(ttl) })
    else if (ttl !== undefined) continue
    else if (kind === "g") generations.push(generation)
    else if (kind === "b") drained.push(generation)
    else if (kind === "x") broken.push(generation)
  }
  return { generations: generations.sort().reverse(), drained, broken, lengthened }
}

/** Whether an operator drains or broke this grant. */
export const isMarked = (self: Listing, generation: string): boolean =>
  self.drained.includes(generation) || self.broken.includes(generation)

/** How long a grant lives after its last renewal, if its record says `ttl`. */
export const ttlOf = (self: Listing, generation: string, ttl: number): number =>
  self.lengthened.reduce((most, each) => each.generation === generation ? Math.max(most, each.ttl) : most, ttl)

/** Names of marks on grants below `generation`. */
export const marksBelow = (self: Listing, generation: string): ReadonlyArray<string> => [
  ...self.drained.filter((each) => each < generation).map(drainedName),
  ...self.broken.filter((each) => each < generation).map(brokenName),
  ...self.lengthened.filter((each) => each.generation < generation).map(lengthenedName)
]

/** The name of a grant's record. */
export const recordName = (generation: string): string => `g${generation}`
/** The name of the mark of a grant that drains. */
export const drainedName = (generation: string): string => `b${generation}`
/** The name of the mark of a grant that was broken. */
export const brokenName = (generation: string): string => `x${generation}`
/** The name of the mark of a grant that was renewed for longer than its record says. */
export const lengthenedName = ({ generation, ttl }: Lengthened): string => `t${generation}-${ttl}`

/**
 * The first generation of a lock: the wall clock in microseconds. Grants of one lock are more than a microsecond apart,
 * so the generations of a directory that was deleted and made again go on above the old ones, unless the clock was set
 * back meanwhile: no handle of an old grant fits a new one, and no resource sees a token twice.
 */
export const first = (wallMillis: number): string =>
  pad(BigInt(Math.min(Math.max(1, Math.floor(wallMillis * 1000)), Number.MAX_SAFE_INTEGER)))

/** The generation after this one. */
export const next = (generation: string): string => pad(BigInt(generation) + 1n)

const pad = (generation: bigint): string => generation.toString().padStart(16, "0")

// -----------------------------------------------------------------------------
// handles
// -----------------------------------------------------------------------------

/** What identifies a grant; `ttl` in milliseconds. */
export interface Handle {
  readonly generation: string
  readonly ttl: number
  readonly ownerId: string
}

const handle = /^(\d{16})\.(\d{1,15})\.(.*)$/su

/** A grant as the port's opaque handle. */
export const formatHandle = ({ generation, ownerId, ttl }: Handle): string => `${generation}.${ttl}.${ownerId}`

/** A handle of this backend; `undefined` for anything else. */
export const parseHandle = (text: string): Handle | undefined => {
  const match = handle.exec(text)
  return match === null ? undefined : { generation: match[1]!, ttl: Number(match[2]), ownerId: match[3]! }
}
