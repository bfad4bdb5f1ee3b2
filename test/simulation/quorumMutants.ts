/**
 * Ways to write Redlock wrong. Each is one change of one file of src/layers/internal, and the mix of faults that shows
 * it: a simulation that does not notice them proves nothing about the code that is right.
 */
import type { MixName } from "./quorumMixes.ts"

export interface QuorumMutant {
  readonly name: string
  readonly file: string
  /** Occurs exactly once in the file. */
  readonly find: string
  readonly replace: string
  readonly mix: MixName
}

export const mutants: ReadonlyArray<QuorumMutant> = [
  {
    name: "half of the masters are enough",
    file: "quorum.ts",
    find: "Math.floor(nodes.length / 2) + 1",
    replace: "Math.ceil(nodes.length / 2)",
    mix: "ties"
  },
  {
    name: "a grant is valid for its ttl from its last answer on",
    file: "quorumAcquire.ts",
    find: "grantedTtl: request.ttl",
    replace: "grantedTtl: Duration.millis(this.ttl + elapsed)",
    mix: "slow"
  },
  {
    name: "only masters that granted a failed try are cleaned up",
    file: "quorumAcquire.ts",
    find: "placed.filter((member) => !granted(member) && member.unready === undefined)",
    replace: "placed.slice(placed.length)",
    mix: "slow"
  },
  {
    name: "a try that was given up and comes late is taken for one that lives",
    file: "quorumClaim.ts",
    find:
      "return this.lost.has(member) || (this.open.get(member) ?? []).some((sentOver) => !member.keepsOrder(sentOver))",
    replace: "return this.lost.has(member) && this.attempt < 0",
    mix: "amnesia"
  },
  {
    name: "a master that has forgotten votes at once",
    file: "quorumMember.ts",
    find: "if (left <= 0) return undefined",
    replace: "if (left <= Infinity) return undefined",
    mix: "amnesia"
  },
  {
    name: "the token is the largest of the masters' own counters",
    file: "quorumVerdict.ts",
    find: "if (count >= majority) return { _tag: \"Won\", fence }",
    replace:
      "if (willing >= majority && count > 0) return { _tag: \"Won\", fence: Math.max(...accepted.keys(), fence) }",
    mix: "counters"
  },
  {
    name: "a lease is renewed by any master",
    file: "quorumVerbs.ts",
    find: "if (ok >= majority) {",
    replace: "if (ok >= 1) {",
    mix: "partitions"
  }
]
