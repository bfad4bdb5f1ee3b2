/**
 * One connection to a memcached, from its opening to its end: pipelined requests, answered in the order they were sent.
 *
 * A cas value means something only within one session, because a server that was restarted counts from 1 again: a session
 * ends with the server it was opened to, so what was learnt in another session is never compared.
 *
 * An answer that is overdue ends the session: from then on nobody could tell which answer belongs to which request.
 */
import type * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as net from "node:net"
import * as tls from "node:tls"
import { type BackendReason, Misconfigured, Protocol, TimedOut, Unreachable } from "../../LockError.ts"
import { type Address, secureContextOf } from "./memcachedAddress.ts"
import * as Reply from "./memcachedReply.ts"

interface Waiter {
  readonly expected: Reply.Expected
  readonly deadline: number
  readonly timeout: number
  /** Drops the answer if who waited for it was interrupted: `Effect.callback` ignores what comes after that. */
  readonly done: (answer: Reply.Reply | BackendReason) => void
}

/** One connection. `id` is like no other's, in any process. */
export class Session {
  readonly id: string
  private readonly socket: net.Socket
  private readonly plainTcp: boolean
  private readonly secret: string | undefined
  private readonly arriving = new Set<Waiter>()
  private readonly sent: Array<Waiter> = []
  private unread: Buffer = nothing
  /** Why it ended. */
  private ended: BackendReason | undefined
  private closed = false
  private whenClosed: (() => void) | undefined
  isOpen = false
  /** Whether the server makes room for new items by dropping others; `undefined` if it does not tell. */
  evicts: boolean | undefined

  constructor(id: string, address: Address) {
    this.id = id
    const secure = address.tls !== undefined
    this.secret = address.auth === undefined ? undefined : Redacted.value(address.auth.password)
    this.plainTcp = !secure && "host" in address.at
    const buffer = Buffer.allocUnsafe(readAtOnce)
    const callback = (length: number) => {
      this.read(buffer.subarray(0, length))
      return true
    }
    const reading = { onread: { buffer, callback } }
    this.socket = secure
      ? tls.connect({ ...tlsOptions(address), ...reading })
      : net.connect({ ...endpoint(address), ...reading })
    this.socket.setNoDelay(true)
    this.socket.setKeepAlive(true, 30_000)
    this.socket.on(secure ? "secureConnect" : "connect", () => this.greet(address))
    this.socket.on("error", (error) => this.end(reasonOf(error)))
    this.socket.on("end", () => this.end(new Unreachable({ detail: "the server closed the connection" })))
    this.socket.on("close", () => {
      this.end(new Unreachable({ detail: "the connection was closed" }))
      this.closed = true
      this.whenClosed?.()
    })
  }

  get hasEnded(): boolean {
    return this.ended !== undefined
  }

  /** Until the server has answered the greeting. */
  arrival(timeout: number, deadline: number): Effect.Effect<void, BackendReason> {
    return Effect.callback((resume) => {
      if (this.isOpen) return resume(Effect.void)
      if (this.ended !== undefined) return resume(Effect.fail(this.ended))
      const done: Waiter["done"] = (answer) => resume("line" in answer ? Effect.void : Effect.fail(answer))
      const waiter: Waiter = { expected: "Line", deadline, timeout, done }
      this.arriving.add(waiter)
      return Effect.sync(() => this.arriving.delete(waiter))
    })
  }

  /** One request and its answer. Interruption gives up the answer, not the request: that is on its way. */
  ask(command: string, timeout: number, deadline: number): Effect.Effect<Reply.Reply, BackendReason> {
    return Effect.callback((resume) => {
      if (this.ended !== undefined) return resume(Effect.fail(this.ended))
      const done: Waiter["done"] = (answer) => resume("line" in answer ? Effect.succeed(answer) : Effect.fail(answer))
      this.send(command, { expected: "Line", deadline, timeout, done })
    })
  }

  /** When the next answer is due; `Infinity` if none is. */
  get nextDeadline(): number {
    let next = Infinity
    for (const { deadline } of this.arriving) next = Math.min(next, deadline)
    for (const { deadline } of this.sent) next = Math.min(next, deadline)
    return next
  }

  /** Ends the session if an answer is overdue. */
  check(now: number): void {
    const overdue = [...this.arriving, ...this.sent].filter(({ deadline }) => deadline <= now)
    if (overdue.length === 0) return
    this.end(new Unreachable({ detail: "the connection was given up: an earlier answer on it was overdue" }), overdue)
  }

  /** Closes the connection, and waits until it is. */
  get close(): Effect.Effect<void> {
    return Effect.callback((resume) => {
      this.end(new Unreachable({ detail: "the layer of the backend was closed" }))
      if (this.closed) return resume(Effect.void)
      this.whenClosed = () => resume(Effect.void)
    })
  }

  // ---------------------------------------------------------------------------

  private send(command: string, waiter: Waiter): void {
    this.sent.push(waiter)
    this.socket.write(command)
  }

  // Of the greeting: whoever waits for its end has a deadline, it needs none.
  private say(command: string, expected: Reply.Expected, done: Waiter["done"]): void {
    this.send(command, { expected, deadline: Infinity, timeout: Infinity, done })
  }

  // Nothing that could do harm is said before it is known who listens: a server that does not know a command reads the
  // data block after it as commands. `mn` is the meta command that does nothing.
  private greet(address: Address): void {
    const { auth } = address
    const failed = (reason: BackendReason) => this.end(reason)
    if (auth !== undefined) {
      // Any name does. Expired from the start: a server that does not ask for it must not keep it.
      const text = `${auth.username} ${Redacted.value(auth.password)}`
      this.say(`set effect-lock-auth 0 -1 ${Buffer.byteLength(text)}\r\n${text}\r\n`, "Line", (answer) => {
        if (!("line" in answer)) return
        if (answer.line !== "STORED") failed(Reply.refusalOf(answer).reason)
      })
    }
    this.say("mn\r\n", "Line", (answer) => {
      if ("line" in answer && answer.line !== "MN") failed(Reply.refusalOf(answer).reason)
    })
    this.say("stats settings\r\n", "Settings", (answer) => {
      if (!("line" in answer) || this.ended !== undefined) return
      const settings = answer.value ?? ""
      if (/^STAT cas_enabled no$/m.test(settings)) return failed(Reply.withoutCas)
      const evictions = /^STAT evictions (on|off)$/m.exec(settings)?.[1]
      this.evicts = evictions === undefined ? undefined : evictions === "on"
      this.isOpen = true
      for (const waiter of this.arriving) waiter.done(answer)
      this.arriving.clear()
    })
  }

  // `chunk` is overwritten by the next read, so what is kept of it is copied.
  private read(chunk: Buffer): void {
    if (this.ended !== undefined) return
    this.unread = this.unread.length === 0 ? chunk : Buffer.concat([this.unread, chunk])
    let at = 0
    // Whoever is told an answer may ask again at once; what is here already can't be the answer to that.
    let due = this.sent.length
    while (at < this.unread.length) {
      const waiter = due-- > 0 ? this.sent[0] : undefined
      const found = Reply.parse(this.unread, at, waiter?.expected ?? "Line")
      if (found?._tag === "Garbage") return this.end(new Protocol({ detail: found.detail }))
      if (found === undefined && waiter !== undefined) break
      // Nobody asked: a server that is full says so.
      if (found === undefined || waiter === undefined) {
        return this.end(Reply.unasked(found && this.discreet(found.reply)))
      }
      at = found.end
      this.sent.shift()
      waiter.done(this.discreet(found.reply))
      if (this.hasEnded) return
    }
    this.unread = at === this.unread.length ? nothing : Buffer.from(this.unread.subarray(at))
  }

  // An error may quote what was sent, and its words end up in errors of ours.
  private discreet(reply: Reply.Reply): Reply.Reply {
    const { secret } = this
    return secret === undefined || !reply.line.includes("_ERROR ") || !reply.line.includes(secret)
      ? reply
      : { ...reply, line: reply.line.replaceAll(secret, "<redacted>") }
  }

  /** Nothing more is sent or read; whoever waits is told `reason`, the `overdue` that they are. */
  end(reason: BackendReason, overdue: ReadonlyArray<Waiter> = []): void {
    if (this.ended !== undefined) return
    this.ended = reason
    this.isOpen = false
    const waiting = [...this.arriving, ...this.sent]
    this.arriving.clear()
    this.sent.length = 0
    // A reset, where there can be one: what was not sent yet must not arrive late.
    if (this.plainTcp && !this.socket.connecting && waiting.length > 0) this.socket.resetAndDestroy()
    else this.socket.destroy()
    for (const waiter of waiting) waiter.done(overdue.includes(waiter) ? timedOut(waiter) : reason)
  }
}

const timedOut = ({ timeout }: Waiter): TimedOut => {
  const after = Duration.millis(timeout)
  return new TimedOut({ detail: `no answer within ${Duration.format(after)}`, after })
}

/** Monotonic milliseconds. */
export const millis = (clock: Clock.Clock): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e6

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const nothing: Buffer = Buffer.alloc(0)

// One buffer of so many bytes for all that a session reads, because a fresh one for each answer costs more than to
// parse it.
const readAtOnce = 64 * 1024

const endpoint = ({ at }: Address): net.NetConnectOpts =>
  "path" in at ? { path: at.path } : { host: at.host, port: at.port }

const tlsOptions = (address: Address): tls.ConnectionOptions => {
  const secure = address.tls ?? {}
  const { servername } = secure
  return { ...endpoint(address), ...secureContextOf(secure), ...(servername === undefined ? {} : { servername }) }
}

const untrusted = /^(ERR_TLS|ERR_SSL|ERR_OSSL|CERT_|DEPTH_|SELF_SIGNED|UNABLE_TO_)/

// The driver's own error carries addresses; only its code is passed on.
const reasonOf = (error: Error): BackendReason => {
  const code = "code" in error && typeof error.code === "string" ? error.code : error.name
  if (untrusted.test(code)) {
    const detail = `TLS failed: ${code}: check tls (ca, cert, key, servername), and that the server speaks TLS (-Z)`
    return new Misconfigured({ detail })
  }
  return new Unreachable({ detail: `the connection failed: ${code}` })
}
