/**
 * The verbs of a lock in a memcached. Each change is one command that is conditional on a cas value, which stands for the
 * record that was seen under it.
 *
 * Source: doc/protocol.txt of memcached ("Meta Commands"); what it does not say was measured with memcached 1.6.18, and
 * read in its proto_text.c.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as LockBackend from "../../LockBackend.ts"
import { type BackendReason, Misconfigured, Protocol, Throttled } from "../../LockError.ts"
import * as Connection from "./memcachedConnection.ts"
import * as Record from "./memcachedRecord.ts"
import * as Reply from "./memcachedReply.ts"
import type { Session } from "./memcachedSession.ts"

/** The locks of one namespace on one server. */
export interface Locks {
  readonly connection: Connection.Connection
  readonly namespace: string
  grants: number
}

/** One try to take a lock. */
export const tryAcquire = (
  self: Locks,
  request: LockBackend.AcquireRequest
): Effect.Effect<LockBackend.Acquired | LockBackend.Held, BackendReason> =>
  within(self, request, (item) => {
    const expiry = Record.expiryOf(request.ttl)
    if (expiry > Record.longestExpiry) return Effect.fail(tooLong)
    const { key, metadata, ownerId, ttl } = request
    const fresh = (): Found => {
      const since = self.connection.clock.currentTimeMillisUnsafe()
      const grant = `${self.connection.id}.${++self.grants}`
      const record = { v: 1, namespace: self.namespace, key, ownerId, grant, since, metadata } as const
      return { record, text: Record.encodeRecord(record), cas: "", remaining: Option.none() }
    }
    const acquired = (
      { record, text }: Found,
      answer: Reply.Reply
    ): Effect.Effect<LockBackend.Acquired, BackendReason> =>
      withCas(answer, (cas) => ({
        _tag: "Acquired",
        fencingToken: Option.none(),
        handle: Record.encodeHandle({ session: item.session.id, cas, expiry, grant: record.grant, ownerId, text }),
        grantedTtl: ttl
      }))

    const look = (steps: number): Effect.Effect<LockBackend.Acquired | LockBackend.Held, BackendReason> =>
      Effect.flatMap(find(item), (found) => {
        if (found === undefined) return steps > 0 ? add(steps - 1) : Effect.succeed(heldBySomebody)
        if (found === "Foreign") return Effect.fail(foreign)
        const { record, remaining } = found
        if (record.ownerId !== ownerId || record.draining === true) {
          return Effect.succeed({
            _tag: "Held",
            holders: [Record.holderOf(record, remaining)],
            retryAfter: remaining
          })
        }
        const again = { ...record, metadata }
        return keep({ ...found, record: again, text: Record.encodeRecord(again) }, steps)
      })

    const add = (steps: number): Effect.Effect<LockBackend.Acquired | LockBackend.Held, BackendReason> => {
      const found = fresh()
      return Effect.flatMap(set(item, found.text, `T${expiry} ME c`), (answer) => {
        const code = Reply.codeOf(answer)
        if (code === "NS") return look(steps)
        if (code !== "HD") return refused(item, answer)
        return acquired(found, answer)
      })
    }

    // Sets the whole ttl again, if it is still what was found.
    const keep = (
      found: Found,
      steps: number
    ): Effect.Effect<LockBackend.Acquired | LockBackend.Held, BackendReason> =>
      Effect.flatMap(set(item, found.text, `T${expiry} MS C${found.cas} c`), (answer) => {
        const code = Reply.codeOf(answer)
        if (code === "EX" || code === "NF") return steps > 0 ? look(steps - 1) : Effect.succeed(heldBySomebody)
        if (code !== "HD") return refused(item, answer)
        return acquired(found, answer)
      })

    // Where the server does not evict, an item that it has no room for takes the one of the same name with it (it
    // drops what it calls stale, also in mode "add"), so a contender could remove a held lock: it looks first there.
    return item.session.evicts === true ? add(mostSteps) : look(mostSteps)
  })

/** Sets the whole ttl again, if the grant still holds. */
export const renew = (
  self: Locks,
  request: LockBackend.RenewRequest
): Effect.Effect<LockBackend.Renewed | LockBackend.Lost, BackendReason> =>
  within(self, request, (item) => {
    const handle = Record.decodeHandle(request.handle, request.ownerId)
    const expiry = Math.max(Record.expiryOf(request.ttl), handle?.expiry ?? 0)
    if (expiry > Record.longestExpiry) return Effect.fail(tooLong)

    const look = (steps: number): Effect.Effect<LockBackend.Renewed | LockBackend.Lost, BackendReason> =>
      Effect.flatMap(find(item), (found) => {
        if (found === undefined) return Effect.succeed(gone)
        if (found === "Foreign" || found.record.ownerId !== request.ownerId) return Effect.succeed(taken)
        const { record } = found
        if (record.grant !== handle?.grant || record.draining === true) return Effect.succeed(gone)
        return steps > 0 ? keep(handle, found.cas, steps) : Effect.fail(restless)
      })

    const keep = (
      { grant, ownerId, text }: Record.Handle,
      cas: string,
      steps: number
    ): Effect.Effect<LockBackend.Renewed | LockBackend.Lost, BackendReason> =>
      Effect.flatMap(set(item, text, `T${expiry} MS C${cas} c`), (answer) => {
        const code = Reply.codeOf(answer)
        if (code === "NF") return Effect.succeed(gone)
        if (code === "EX") return look(steps - 1)
        if (code !== "HD") return refused(item, answer)
        return withCas(answer, (cas) => ({
          _tag: "Renewed",
          handle: Record.encodeHandle({ session: item.session.id, cas, expiry, grant, ownerId, text }),
          grantedTtl: request.ttl
        }))
      })

    return handle?.session === item.session.id ? keep(handle, handle.cas, mostSteps) : look(mostSteps)
  })

/** Removes the lock, if the grant (or, without a handle, the owner id) holds it. */
export const release = (
  self: Locks,
  request: LockBackend.ReleaseRequest
): Effect.Effect<"Released" | "NotHeld", BackendReason> =>
  within(self, request, (item) => {
    const handle = Option.map(request.handle, (text) => Record.decodeHandle(text, request.ownerId))
    const isOurs = ({ record }: Found) =>
      record.ownerId === request.ownerId && (Option.isNone(handle) || record.grant === handle.value?.grant)
    const known = Option.getOrUndefined(handle)
    return Effect.map(
      removeIf(item, isOurs, known?.session === item.session.id ? known.cas : undefined),
      (removed) => removed ? "Released" : "NotHeld"
    )
  })

/** Who holds it now. */
export const inspect = (
  self: Locks,
  request: { readonly key: string; readonly budget: Duration.Duration }
): Effect.Effect<ReadonlyArray<LockBackend.Held["holders"][number]>, BackendReason> =>
  within(self, request, (item) =>
    Effect.flatMap(find(item), (found) => {
      if (found === "Foreign") return Effect.fail(foreign)
      return Effect.succeed(found === undefined ? [] : [Record.holderOf(found.record, found.remaining)])
    }))

/** Removes another's lock, or marks it, so that its renewals find that it has changed. */
export const breakLock = (
  self: Locks,
  request: LockBackend.BreakRequest
): Effect.Effect<"Draining" | "Broken" | "NotHeld", BackendReason> =>
  within(self, request, (item) => {
    const isTheirs = ({ record }: Found) => record.ownerId === request.ownerId
    if (request.now) {
      return Effect.map(removeIf(item, isTheirs, undefined), (removed) => removed ? "Broken" : "NotHeld")
    }
    const drain = (steps: number): Effect.Effect<"Draining" | "NotHeld", BackendReason> =>
      Effect.flatMap(find(item), (found) => {
        if (found === undefined || found === "Foreign" || !isTheirs(found)) return Effect.succeed("NotHeld")
        if (found.record.draining === true) return Effect.succeed("Draining")
        if (steps === 0) return Effect.fail(restless)
        // Its present expiry, counted anew: a tick of the clock meanwhile makes it a second later, never earlier.
        const expiry = Option.match(found.remaining, { onNone: () => 1, onSome: Duration.toSeconds })
        const text = Record.encodeRecord({ ...found.record, draining: true })
        return Effect.flatMap(set(item, text, `T${expiry} MS C${found.cas}`), (answer) => {
          const code = Reply.codeOf(answer)
          if (code === "HD") return Effect.succeed("Draining" as const)
          return code === "EX" || code === "NF" ? drain(steps - 1) : refused(item, answer)
        })
      })
    return drain(mostSteps)
  })

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

// One lock, seen through one session.
interface Item {
  readonly connection: Connection.Connection
  readonly session: Session
  readonly name: string
  /** Of one request, in milliseconds. */
  readonly timeout: number
}

// What lies under a name. `text` is the value as it is.
interface Found {
  readonly record: Record.MemcachedRecord
  readonly text: string
  readonly cas: string
  readonly remaining: Option.Option<Duration.Duration>
}

/** How often a record may change under a verb before the verb gives up. */
const mostSteps = 8

const gone: LockBackend.Lost = { _tag: "Lost", reason: "Gone" }
const taken: LockBackend.Lost = { _tag: "Lost", reason: "Taken" }
const heldBySomebody: LockBackend.Held = { _tag: "Held", holders: [], retryAfter: Option.none() }

const tooLong = new Misconfigured({ detail: "memcached reads an expiry above 30 days as a date: choose a shorter ttl" })
const foreign = new Protocol({
  detail: "under the lock's name is something that is not a lock of this version of effect-lock: remove it, "
    + "or choose another namespace"
})
const restless = new Throttled({
  detail: "the record of the lock changed between every question and its answer",
  retryAfter: Option.none()
})

const within = <A>(
  { connection, namespace }: Locks,
  { budget, key }: { readonly budget: Duration.Duration; readonly key: string },
  use: (item: Item) => Effect.Effect<A, BackendReason>
): Effect.Effect<A, BackendReason> => {
  const timeout = Duration.toMillis(budget) / 3
  const name = Record.nameOf(namespace, key)
  return Connection.withSession(connection, timeout, (session) => use({ connection, session, name, timeout }))
}

const ask = ({ connection, session, timeout }: Item, command: string): Effect.Effect<Reply.Reply, BackendReason> =>
  Connection.ask(connection, session, command, timeout)

const set = (item: Item, text: string, flags: string): Effect.Effect<Reply.Reply, BackendReason> =>
  ask(item, `ms ${item.name} ${Buffer.byteLength(text)} ${flags}\r\n${text}\r\n`)

const find = (item: Item): Effect.Effect<Found | "Foreign" | undefined, BackendReason> =>
  Effect.flatMap(
    ask(item, `mg ${item.name} v c t\r\n`),
    (answer): Effect.Effect<Found | "Foreign" | undefined, BackendReason> => {
      const code = Reply.codeOf(answer)
      if (code === "EN") return Effect.undefined
      if (code !== "VA" || answer.value === undefined) return refused(item, answer)
      const text = answer.value
      const record = Option.getOrUndefined(Record.decodeRecord(text))
      const isOurs = record !== undefined && Record.nameOf(record.namespace, record.key) === item.name
      if (!isOurs) return Effect.succeed("Foreign")
      const seconds = Number(Reply.flagOf(answer, "t"))
      const remaining = seconds >= 0 ? Option.some(Duration.seconds(Math.max(1, seconds))) : Option.none()
      return withCas(answer, (cas) => ({ record, text, cas, remaining }))
    }
  )

// `cas`: what it had when it was last known to pass.
const removeIf = (
  item: Item,
  passes: (found: Found) => boolean,
  cas: string | undefined
): Effect.Effect<boolean, BackendReason> => {
  const look = (steps: number): Effect.Effect<boolean, BackendReason> =>
    Effect.flatMap(find(item), (found) => {
      if (found === undefined || found === "Foreign" || !passes(found)) return Effect.succeed(false)
      return steps > 0 ? remove(found.cas, steps - 1) : Effect.fail(restless)
    })
  const remove = (cas: string, steps: number): Effect.Effect<boolean, BackendReason> =>
    Effect.flatMap(ask(item, `md ${item.name} C${cas}\r\n`), (answer) => {
      const code = Reply.codeOf(answer)
      if (code === "HD") return Effect.succeed(true)
      if (code === "NF") return Effect.succeed(false)
      return code === "EX" ? look(steps) : refused(item, answer)
    })
  return cas === undefined ? look(mostSteps) : remove(cas, mostSteps)
}

// A server without cas says 0, and C0 compares nothing.
const withCas = <A>(answer: Reply.Reply, use: (cas: string) => A): Effect.Effect<A, BackendReason> => {
  const cas = Reply.flagOf(answer, "c") ?? ""
  if (/^[1-9]\d*$/.test(cas)) return Effect.succeed(use(cas))
  return Effect.fail(
    cas === "0"
      ? Reply.withoutCas
      : new Protocol({ detail: "the server answered without the cas value that it was asked for" })
  )
}

const refused = ({ session }: Item, answer: Reply.Reply): Effect.Effect<never, BackendReason> => {
  const { inOrder, reason } = Reply.refusalOf(answer)
  if (!inOrder) session.end(reason)
  return Effect.fail(reason)
}
