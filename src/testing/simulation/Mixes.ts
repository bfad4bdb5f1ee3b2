/**
 * The mixes of faults that the core is simulated under, each made for something that could be wrong.
 */
import type { Mix } from "./Faults.ts"

const messages: Mix = {
  lostRequest: 0.03,
  slow: 0.03,
  lostReply: 0.03,
  resetBefore: 0.02,
  resetAfter: 0.02,
  late: 0.03,
  resent: 0.02
}

/**
 * Mixes by name.
 *
 * **Details**
 *
 * - `healthy`: nothing goes wrong, but callers are interrupted.
 * - `messages`, `push`: the network loses, delays and cuts; with `push` the server wakes waiters too.
 * - `twice`: requests arrive twice, the second time up to three ttls later.
 * - `everything`: all faults, with machines that sleep or wall clocks that are set back.
 * - `pauses`, `sleep`, `clocks`, `rates`: processes stand still, machines sleep, wall clocks are set, clock rates differ.
 * - `slow`: replies come slowly, and leases run out because renewals are lost.
 * - `takeover`: the server knows no time, and contenders with clocks that are set observe it.
 * - `unanswered`: replies get lost and callers give up; `late`: requests arrive when nobody waits for them any more.
 * - `replays`: replies get lost and leases are not renewed, so that what a replay sets is what trust is built on.
 *
 * @category mixes
 */
export const mixes = {
  healthy: { interrupt: 0.5, rate: 0.005 },
  messages: { ...messages, interrupt: 0.2, rate: 0.005 },
  push: { ...messages, interrupt: 0.2, rate: 0.005, push: true },
  twice: { duplicate: 0.15, lostReply: 0.05, pause: 0.05, interrupt: 0.2, rate: 0.005 },
  everything: {
    ...messages,
    duplicate: 0.02,
    pause: 0.15,
    suspend: 0.1,
    kill: 0.02,
    forward: 0.05,
    backward: 0.05,
    interrupt: 0.3,
    rate: 0.005
  },
  pauses: { pause: 0.4, lostRequest: 0.05, interrupt: 0.1, rate: 0.005 },
  sleep: { suspend: 0.4, lostRequest: 0.05, forward: 0.05, rate: 0.005 },
  clocks: { backward: 0.2, forward: 0.1, pause: 0.2, lostRequest: 0.1, rate: 0.005 },
  slow: { slow: 0.4, lostRequest: 0.25, rate: 0.005 },
  rates: { rate: 0.02, lostRequest: 0.3, pause: 0.1 },
  takeover: {
    takeover: "observed",
    forward: 0.3,
    suspend: 0.05,
    pause: 0.1,
    kill: 0.01,
    lostRequest: 0.05,
    rate: 0.005
  },
  unanswered: { lostReply: 0.15, resetAfter: 0.1, interrupt: 0.7, rate: 0.005 },
  late: { late: 0.3, interrupt: 0.7, rate: 0.005 },
  replays: { lostReply: 0.15, resetAfter: 0.15, renews: false, rate: 0.005 }
} as const satisfies Record<string, Mix>

/**
 * The name of a mix.
 *
 * @category mixes
 */
export type MixName = keyof typeof mixes
