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
 * - `messages`: the network loses, delays and cuts; in half of the histories the server wakes waiters too.
 * - `twice`: requests arrive twice, the second time up to three ttls later.
 * - `everything`: all faults, with machines that sleep or wall clocks that are set back.
 * - `clocks`: processes stand still, and machines sleep or wall clocks are set back.
 * - `rates`: clock rates differ, replies come slowly, and leases run out because renewals are lost.
 * - `takeover`: the server knows no time, and contenders with clocks that are set observe it.
 * - `unanswered`: replies get lost, callers give up, and requests arrive when nobody waits for them any more.
 * - `replays`: replies get lost and leases are not renewed, so that what a replay sets is what trust is built on.
 * - `operators`: an operator breaks locks, the server restarts and may have forgotten them, backends are closed.
 *
 * @category mixes
 */
export const mixes = {
  healthy: { interrupt: 0.5, rate: 0.005 },
  messages: { ...messages, interrupt: 0.2, rate: 0.005, push: 0.5 },
  twice: { duplicate: 0.15, lostReply: 0.05, pause: 0.05, interrupt: 0.2, rate: 0.005 },
  everything: {
    ...messages,
    duplicate: 0.02,
    pause: 0.15,
    suspend: 0.1,
    kill: 0.02,
    forward: 0.05,
    backward: 0.05,
    close: 0.02,
    restart: 0.02,
    forget: 0.01,
    drain: 0.02,
    break: 0.01,
    interrupt: 0.3,
    push: 0.2,
    rate: 0.005
  },
  clocks: { pause: 0.2, suspend: 0.2, forward: 0.1, backward: 0.15, lostRequest: 0.08, interrupt: 0.05, rate: 0.005 },
  rates: { rate: 0.023, slow: 0.2, lostRequest: 0.4, pause: 0.1, push: 0.3 },
  takeover: {
    takeover: "observed",
    forward: 0.3,
    suspend: 0.05,
    pause: 0.1,
    kill: 0.01,
    lostRequest: 0.05,
    rate: 0.005
  },
  unanswered: { lostReply: 0.12, resetAfter: 0.08, late: 0.12, interrupt: 0.7, rate: 0.005 },
  replays: { lostReply: 0.15, resetAfter: 0.15, renews: false, rate: 0.005 },
  operators: {
    drain: 0.15,
    break: 0.12,
    restart: 0.06,
    forget: 0.1,
    close: 0.12,
    lostRequest: 0.03,
    interrupt: 0.1,
    push: 0.5,
    rate: 0.005
  }
} as const satisfies Record<string, Mix>

/**
 * The name of a mix.
 *
 * @category mixes
 */
export type MixName = keyof typeof mixes
