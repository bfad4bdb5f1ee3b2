/** The mixes of faults that a quorum is simulated under, each made for something that could be wrong. */
import type { Mix } from "../../src/testing/simulation/Faults.ts"
import type { Masters } from "./quorumWorld.ts"

export interface QuorumMix {
  readonly mix: Mix
  readonly masters: Masters
}

const messages = { lostRequest: 0.03, lostReply: 0.03, resetBefore: 0.02, resetAfter: 0.02, slow: 0.03, late: 0.03 }
const rate = 0.005
const skew = 100

/**
 * - `healthy`: nothing goes wrong, but callers are interrupted. `messages`: the network loses, delays and cuts.
 * - `ties`: an even number of masters, and contenders that each get half of them. `two`, `one`: so few.
 * - `dead`: two of five are down all the time.
 * - `amnesia`: masters lose their memory, and requests arrive late, also at the next life of a master.
 * - `crashes`: masters are killed, stand still, and can't be reached by some.
 * - `partitions`: processes reach ever other masters, often too few.
 * - `slow`: answers come too late. `unrenewed`: they come late, and leases are used until they run out. `counters`: masters count their tokens by themselves.
 * - `processes`: clients stand still, sleep, are killed, and their clocks are set; backends are closed.
 * - `everything`: all of these.
 */
export const mixes = {
  healthy: { mix: { interrupt: 0.5, rate }, masters: { skew } },
  messages: { mix: { ...messages, interrupt: 0.2, rate }, masters: { skew } },
  ties: { mix: { interrupt: 0.1, lostRequest: 0.05, rate }, masters: { count: 4, skew } },
  two: { mix: { ...messages, rate }, masters: { count: 2 } },
  one: { mix: { ...messages, rate }, masters: { count: 1 } },
  dead: { mix: { interrupt: 0.2, rate }, masters: { down: 2, skew } },
  amnesia: { mix: { late: 0.05, lostRequest: 0.05, rate }, masters: { forget: 0.4, skew } },
  crashes: { mix: { lostRequest: 0.02, interrupt: 0.2, rate }, masters: { crash: 0.1, stop: 0.1, cut: 0.3, skew } },
  slow: { mix: { slow: 0.4, rate }, masters: { skew } },
  unrenewed: { mix: { slow: 0.6, pause: 0.3, renews: false, rate }, masters: { nodeTimeout: 83 } },
  partitions: { mix: { rate }, masters: { cut: 0.9, skew } },
  counters: { mix: { lostRequest: 0.1, rate }, masters: { counts: true, cut: 0.5 } },
  processes: {
    mix: { pause: 0.2, suspend: 0.1, kill: 0.02, forward: 0.1, backward: 0.1, close: 0.05, rate },
    masters: { skew }
  },
  everything: {
    mix: {
      ...messages,
      pause: 0.1,
      suspend: 0.05,
      kill: 0.01,
      forward: 0.05,
      backward: 0.05,
      close: 0.02,
      interrupt: 0.2,
      rate
    },
    masters: { crash: 0.05, forget: 0.1, stop: 0.1, cut: 0.1, skew }
  }
} as const satisfies Record<string, QuorumMix>

export type MixName = keyof typeof mixes
