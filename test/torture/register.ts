/**
 * The register: one counter per key, which the locks protect, in the process that also writes down what happened.
 *
 * It refuses whoever comes with a smaller fencing token than it has seen; that is all a resource has to do. Reading shows
 * the token too, because a late write could else slip in between the read and the write of the next holder.
 */
import { Effect, type Scope } from "effect"
import { createServer, type Socket } from "node:net"
import { type Contact, type Hold, hostTime } from "./history.ts"
import { type FromWorker, onLines, type ToWorker } from "./messages.ts"

export interface Counts {
  acquisitions: number
  reads: number
  writes: number
  lateWrites: number
  lateRefused: number
  refused: number
  losses: Map<string, number>
  /** Of each loss, how long before the backend could have given the lock away its holder was told. */
  readonly early: Array<number>
  failures: Map<string, number>
  readonly stalls: Array<number>
}

export interface Register {
  readonly contacts: ReadonlyArray<Contact>
  readonly holds: ReadonlyMap<string, Hold>
  readonly skews: ReadonlyArray<{ readonly life: string; readonly at: number }>
  readonly counters: ReadonlyMap<string, { readonly value: number; readonly written: number }>
  readonly counts: Counts
  /** When each key was acquired last. */
  readonly acquiredAt: ReadonlyMap<string, number>
  /** Lives that have said hello. */
  readonly present: ReadonlySet<string>
  /** Lives that closed everything, and what was left open. */
  readonly finished: ReadonlyMap<string, ReadonlyArray<string>>
}

interface Counter {
  value: number
  written: number
  highest: bigint
}

export const register = (path: string): Effect.Effect<Register, never, Scope.Scope> =>
  Effect.gen(function*() {
    const contacts: Array<Contact> = []
    const holds = new Map<string, Hold>()
    const counters = new Map<string, Counter>()
    const acquiredAt = new Map<string, number>()
    const present = new Set<string>()
    const finished = new Map<string, ReadonlyArray<string>>()
    const skews: Array<{ readonly life: string; readonly at: number }> = []
    const counts: Counts = {
      acquisitions: 0,
      reads: 0,
      writes: 0,
      lateWrites: 0,
      lateRefused: 0,
      refused: 0,
      losses: new Map(),
      early: [],
      failures: new Map(),
      stalls: []
    }

    const counterOf = (key: string): Counter => {
      const known = counters.get(key)
      if (known !== undefined) return known
      const counter = { value: 0, written: 0, highest: -1n }
      counters.set(key, counter)
      return counter
    }

    const onContact = (life: string, message: FromWorker & { readonly tag: "contact" }): ToWorker => {
      const { at, call, deadline, hold, key, kind, late, value } = message
      const counter = counterOf(key)
      const fence = message.fence === undefined ? undefined : BigInt(message.fence)
      const accepted = fence === undefined || fence >= counter.highest
      contacts.push({ kind, key, hold, life, fence, at, deadline, receivedAt: hostTime(), accepted })
      if (accepted && fence !== undefined) counter.highest = fence
      const known = holds.get(hold)
      // Without trust there is nothing claimed: the deadline is the moment of the call then.
      if (known !== undefined && deadline > at) known.deadline = Math.max(known.deadline, deadline)
      if (accepted && kind === "write") {
        counter.value = value
        counter.written++
      }
      counts[kind === "read" ? "reads" : "writes"]++
      if (late) counts.lateWrites++
      if (!accepted) counts[late ? "lateRefused" : "refused"]++
      return { call, accepted, value: counter.value }
    }

    const onMessage = (life: string, message: FromWorker): ToWorker | undefined => {
      switch (message.tag) {
        case "hello":
          present.add(message.life)
          return
        case "granted": {
          const { askedAt, deadline, grantedAt, hold, key } = message
          const fence = message.fence === undefined ? undefined : BigInt(message.fence)
          holds.set(hold, { id: hold, key, life, fence, askedAt, grantedAt, deadline })
          counts.acquisitions++
          acquiredAt.set(key, Math.max(acquiredAt.get(key) ?? 0, grantedAt))
          return
        }
        case "contact":
          return onContact(life, message)
        case "ended": {
          const known = holds.get(message.hold)
          if (known !== undefined) known.endedAt = message.at
          if (message.lost === "") return
          add(counts.losses, message.lost)
          counts.early.push(message.early)
          return
        }
        case "returned": {
          const known = holds.get(message.hold)
          if (known !== undefined) known.returnedAt = message.at
          return
        }
        case "failed":
          return add(counts.failures, message.why)
        case "skewed":
          skews.push({ life, at: message.at })
          return
        case "stalled":
          counts.stalls.push(message.millis)
          return
        case "finished":
          finished.set(life, message.left)
          return
      }
    }

    const sockets = new Set<Socket>()
    const server = createServer((socket) => {
      let life = ""
      sockets.add(socket)
      // A worker that was killed leaves a broken socket behind.
      socket.on("error", () => {})
      socket.on("close", () => sockets.delete(socket))
      onLines(socket, (line) => {
        const message: FromWorker = JSON.parse(line)
        if (message.tag === "hello") life = message.life
        const answer = onMessage(life, message)
        if (answer !== undefined && socket.writable) socket.write(`${JSON.stringify(answer)}\n`)
      })
    })
    yield* Effect.acquireRelease(
      Effect.callback<void>((resume) => {
        server.listen(path, () => resume(Effect.void))
      }),
      () =>
        Effect.callback<void>((resume) => {
          for (const socket of sockets) socket.destroy()
          server.close(() => resume(Effect.void))
        })
    )
    return { contacts, holds, skews, counters, counts, acquiredAt, present, finished }
  })

const add = (counts: Map<string, number>, what: string): undefined => {
  counts.set(what, (counts.get(what) ?? 0) + 1)
}
