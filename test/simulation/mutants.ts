/**
 * Ways to write the core or a backend wrong. Each is one change of one file, and the mix of faults that shows it: a
 * simulation that does not notice them proves nothing about the code that is right.
 */
import type { Simulation } from "effect-lock/testing"
import type { fileMixes } from "./fileModel.ts"

export interface Mutant {
  readonly name: string
  /** From src. */
  readonly file: string
  /** Occurs exactly once in the file. */
  readonly find: string
  readonly replace: string
  readonly mix: Simulation.MixName | keyof typeof fileMixes
}

const server = "testing/simulation/ServedLock.ts"

export const mutants: ReadonlyArray<Mutant> = [
  {
    name: "a grant is trusted from its reply on",
    file: "internal/acquisition.ts",
    find: "return this.onAcquired(reply, sentAt)",
    replace: "return this.onAcquired(reply, Lease.stamp(this.asked.clock))",
    mix: "rates"
  },
  {
    name: "what was given is trusted from its message on",
    file: "internal/acquisition.ts",
    find: "reply.provisional === true ? this.refusedAt : sentAt",
    replace: "reply.provisional === true ? now : sentAt",
    mix: "rates"
  },
  {
    name: "a renewal is trusted from its reply on",
    file: "internal/renewal.ts",
    find: "trustOf(this.options, sentAt, reply), now)",
    replace: "trustOf(this.options, now, reply), now)",
    mix: "rates"
  },
  {
    name: "trust looks at the monotonic clock only",
    file: "Lease.ts",
    find: "Math.max(to.monotonic - from.monotonic, to.wall - from.wall, 0)",
    replace: "Math.max(to.monotonic - from.monotonic, 0)",
    mix: "clocks"
  },
  {
    name: "trust looks at the wall clock only",
    file: "Lease.ts",
    find: "Math.max(to.monotonic - from.monotonic, to.wall - from.wall, 0)",
    replace: "Math.max(to.wall - from.wall, 0)",
    mix: "clocks"
  },
  {
    name: "a takeover believes the clock that ran ahead",
    file: "Lease.ts",
    find: "Math.max(Math.min(to.monotonic - from.monotonic, to.wall - from.wall), 0)",
    replace: "Math.max(to.monotonic - from.monotonic, to.wall - from.wall, 0)",
    mix: "takeover"
  },
  {
    name: "there is no safety margin",
    file: "internal/renewal.ts",
    find: "return { sentAt, trusted: lasts - margin }",
    replace: "return { sentAt, trusted: lasts }",
    mix: "rates"
  },
  {
    name: "a caller that gives up sends no release",
    file: "internal/acquisition.ts",
    find: "this.mayHold ? Effect.map(this.sendRelease, () => this.letGo()) : this.letGo()",
    replace: "this.letGo()",
    mix: "unanswered"
  },
  {
    name: "a release does not tell that a try stayed without an answer",
    file: "internal/acquisition.ts",
    find: "this.unanswered = true",
    replace: "this.unanswered = false",
    mix: "unanswered"
  },
  {
    name: "an owner id that was released is used again",
    file: "internal/acquisition.ts",
    find: "this.ownerId = this.asked.fiber.getRef(OwnerIds)()\n      this.mayHold",
    replace: "this.mayHold",
    mix: "clocks"
  },
  {
    name: "trust goes on while the release is under way",
    file: "internal/heldLease.ts",
    find: "this.end(reason, now)\n    return this.sendRelease(now, retryFor)",
    replace:
      "this.releasing = \"sent\"\n    return Effect.map(this.sendRelease(now, retryFor), () => {\n      this.end(reason, now)\n"
      + "      this.releasing = \"done\"\n    })",
    mix: "healthy"
  },
  {
    name: "nobody notices that trust has run out",
    file: "internal/heldLease.ts",
    find: "if (renewal.remaining(now) <= Lease.roundOff) return this.lose(\"Expired\", now)",
    replace: "",
    mix: "replays"
  },
  {
    name: "a guarded body goes on after the loss",
    file: "internal/guarded.ts",
    find: "stopped = true\n          child.interruptUnsafe()",
    replace: "stopped = true",
    mix: "clocks"
  },
  {
    name: "a lease that was given back stays with its instance",
    file: "internal/heldLease.ts",
    find: "instance.leases.delete(this)",
    replace: "",
    mix: "healthy"
  },
  {
    name: "contention is told as an outage",
    file: "internal/refusals.ts",
    find: "if (holder !== undefined || refusedBy !== undefined) return this.contended(\"WaitOver\")",
    replace: "",
    mix: "healthy"
  },
  {
    name: "an outage is told as contention",
    file: "internal/refusals.ts",
    find: "if (holder !== undefined || refusedBy !== undefined) return this.contended(\"WaitOver\")",
    replace: "if (this.count >= 0) return this.contended(\"WaitOver\")",
    mix: "unanswered"
  },
  {
    name: "a renewal that says lost is not believed",
    file: "internal/renewal.ts",
    find: "else if (isLost(reply)) this.lease.lose(reply.reason)",
    replace: "else if (isLost(reply)) return",
    mix: "operators"
  },
  {
    name: "a grant that comes while the backend closes is left",
    file: "internal/instance.ts",
    find: "return Effect.andThen(Effect.andThen(released, idle), released)",
    replace: "return Effect.andThen(released, idle)",
    mix: "operators"
  },
  {
    name: "a closing backend waits for those who are gone",
    file: "internal/instance.ts",
    find: "const idle = Effect.suspend(() =>\n        this.acquiring === 0 ?",
    replace: "const { acquiring } = this\n      const idle = Effect.suspend(() =>\n        acquiring === 0 ?",
    mix: "operators"
  },
  {
    name: "a fiber goes on listening for a caller who is gone",
    file: "internal/push.ts",
    find: "this.subscription?.interruptUnsafe()",
    replace: "",
    mix: "messages"
  },
  {
    name: "the keeper's fiber goes on when there is nothing left to keep",
    file: "internal/keeper.ts",
    find: "timer?.interruptUnsafe()",
    replace: "",
    mix: "healthy"
  },
  {
    name: "the fiber of a call goes on when its time is over",
    file: "internal/bounded.ts",
    find: "fiber.interruptUnsafe()\n      return Effect.fail(timedOut(call))",
    replace: "return Effect.fail(timedOut(call))",
    mix: "messages"
  },
  {
    name: "the backend's tokens begin anew when it has forgotten",
    file: server,
    find: "this.lastFence = Math.floor(this.time * 1000)",
    replace: "this.lastFence = 0",
    mix: "operators"
  },
  {
    name: "the backend breaks whoever has the lock",
    file: server,
    find: "const isMeant = held !== undefined && held.ownerId === request.ownerId",
    replace: "const isMeant = held !== undefined",
    mix: "operators"
  },
  {
    name: "the backend frees a lock that should drain",
    file: server,
    find: "    this.draining = true\n    return \"Draining\"",
    replace: "    this.free(held)\n    return \"Draining\"",
    mix: "operators"
  },
  {
    name: "the backend releases whoever holds the lock",
    file: server,
    find: "const isOurs = held !== undefined && held.ownerId === ownerId\n"
      + "      && Option.getOrElse(request.handle, () => String(held.fence)) === String(held.fence)",
    replace: "const isOurs = held !== undefined",
    mix: "messages"
  },
  {
    name: "the backend forgets whom it released",
    file: server,
    find: "if (request.unanswered || this.mayRepeat) this.dead.add(ownerId)",
    replace: "",
    mix: "unanswered"
  },
  {
    name: "the backend renews what is gone",
    file: server,
    find: "const held = this.holder()\n    const isOurs = held !== undefined && held.ownerId === request.ownerId",
    replace: "const held = this.holder() ?? this.give(request.ownerId)\n"
      + "    const isOurs = held !== undefined && held.ownerId === request.ownerId",
    mix: "twice"
  },
  {
    name: "the backend does not renew on a replay",
    file: server,
    find: "    this.extend(grant, ttl)\n    this.world.note(`server acquired",
    replace: "    if (held === undefined) this.extend(grant, ttl)\n    this.world.note(`server acquired",
    mix: "replays"
  },
  {
    name: "a clock that was set back while a record was judged makes it look old",
    file: "layers/internal/fileVerdict.ts",
    find: "mtime + ttl <= Math.min(before.wall, after.wall)",
    replace: "mtime + ttl <= before.wall",
    mix: "files/clocks"
  },
  {
    name: "any other process is taken for dead",
    file: "layers/internal/processIdentity.ts",
    find: "(found.startTime !== other.startTime || found.ended)",
    replace: "found.startTime !== self.startTime",
    mix: "files/kills"
  },
  {
    name: "a record is judged over when half of its ttl has passed",
    file: "layers/internal/fileVerdict.ts",
    find: "mtime + ttl <= Math.min(before.wall, after.wall)",
    replace: "mtime + ttl / 2 <= Math.min(before.wall, after.wall)",
    mix: "files/kills"
  },
  {
    name: "a release marks nothing",
    file: "layers/internal/fileGrant.ts",
    find: "if (!(yield* markReleased(store, path)) || !held) return \"NotHeld\"",
    replace: "if (!held) return \"NotHeld\"",
    mix: "files/hangs"
  }
]
