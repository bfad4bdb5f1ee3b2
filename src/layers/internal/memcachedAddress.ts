/**
 * Where a memcached is, and how to be let in: read from a layer's options, and checked before anything is sent.
 */
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import { createSecureContext, type SecureContextOptions } from "node:tls"
import { Misconfigured } from "../../LockError.ts"

/** What of a layer's options says where the server is. */
export interface Where {
  readonly url?: string | Redacted.Redacted<string> | undefined
  readonly host?: string | undefined
  readonly port?: number | undefined
  readonly path?: string | undefined
  readonly auth?: {
    readonly username: string
    readonly password: string | Redacted.Redacted<string>
  } | undefined
  readonly tls?: boolean | Tls | undefined
}

/** What TLS is set up with; texts in PEM. */
export interface Tls {
  readonly ca?: string | undefined
  readonly cert?: string | undefined
  readonly key?: string | Redacted.Redacted<string> | undefined
  readonly servername?: string | undefined
}

/** A checked address. */
export interface Address {
  readonly at: { readonly host: string; readonly port: number } | { readonly path: string }
  readonly auth: { readonly username: string; readonly password: Redacted.Redacted<string> } | undefined
  readonly tls: Tls | undefined
}

/** The port that memcached listens on unless it is told otherwise. */
export const usualPort = 11211

/** What Node's TLS wants of it. */
export const secureContextOf = ({ ca, cert, key }: Tls): SecureContextOptions => ({
  ...(ca === undefined ? {} : { ca }),
  ...(cert === undefined ? {} : { cert }),
  ...(key === undefined ? {} : { key: typeof key === "string" ? key : Redacted.value(key) })
})

/** Reads the address from options. A complaint never quotes a URL, which may carry a password. */
export const read = (where: Where): Result.Result<Address, Misconfigured> => {
  const { host, path, port, url } = where
  const ways = [url, host, path].filter((way) => way !== undefined)
  if (ways.length !== 1) {
    return wrong(
      "say where the server is by exactly one of url (\"memcached://host:11211\"), host, or path (a Unix socket)"
    )
  }
  if (url !== undefined) {
    if (port !== undefined) return wrong("port goes with host; a url has its own")
    return Result.flatMap(
      readUrl(typeof url === "string" ? url : Redacted.isRedacted(url) ? Redacted.value(url) : ""),
      (read) => {
        if (read.auth !== undefined && where.auth !== undefined) {
          return wrong("url has a user and a password: leave out auth")
        }
        return checked(read.at, read.auth ?? where.auth, where.tls)
      }
    )
  }
  return checked(path === undefined ? { host: host ?? "", port: port ?? usualPort } : { path }, where.auth, where.tls)
}

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const wrong = (detail: string): Result.Result<never, Misconfigured> => Result.fail(new Misconfigured({ detail }))

const readUrl = (text: string): Result.Result<Pick<Where, "auth"> & Pick<Address, "at">, Misconfigured> => {
  const form =
    "url must look like memcached://host:11211, memcached://user:password@host:11211 or memcached:///path.sock"
  if (!URL.canParse(text)) return wrong(form)
  const { hash, hostname, password, pathname, port, protocol, search, username } = new URL(text)
  if (protocol !== "memcached:" || search !== "" || hash !== "") return wrong(form)
  const parts = Result.try(() => [username, password, pathname].map(decodeURIComponent))
  if (Result.isFailure(parts)) return wrong(`${form}; a % in it is written as %25`)
  const [user = "", secret = "", path = ""] = parts.success
  const auth = user === "" && secret === "" ? undefined : { username: user, password: Redacted.make(secret) }
  if (hostname === "") return path.length > 1 ? Result.succeed({ at: { path }, auth }) : wrong(form)
  if (path !== "" && path !== "/") return wrong(form)
  const host = hostname.replace(/^\[(.*)\]$/, "$1")
  return Result.succeed({ at: { host, port: port === "" ? usualPort : Number(port) }, auth })
}

const checked = (at: Address["at"], auth: Where["auth"], tls: Where["tls"]): Result.Result<Address, Misconfigured> => {
  if ("path" in at) {
    if (typeof at.path !== "string" || at.path === "" || at.path.includes("\0")) {
      return wrong("path must be that of a Unix socket, such as \"/run/memcached.sock\"")
    }
  } else {
    if (typeof at.host !== "string" || !/^[^\s/@?#\p{Cc}]+$/u.test(at.host)) {
      return wrong("host must be a name or an address, such as \"127.0.0.1\"")
    }
    if (!Number.isInteger(at.port) || at.port < 1 || at.port > 65535) return wrong("port must be from 1 to 65535")
  }
  const secure = tls === true ? {} : tls === false ? undefined : tls
  if (secure !== undefined && Result.isFailure(Result.try(() => createSecureContext(secureContextOf(secure))))) {
    return wrong("tls: ca, cert and key must be PEM, and cert and key belong together")
  }
  if (auth === undefined) return Result.succeed({ at, auth: undefined, tls: secure })
  const password = typeof auth.password === "string" ? Redacted.make(auth.password) : auth.password
  const secret = Redacted.isRedacted(password) ? Redacted.value(password) : undefined
  if (typeof auth.username !== "string" || typeof secret !== "string") {
    return wrong("auth must be { username, password }")
  }
  // Sent as one line, with a blank between the two.
  if (!/^[^\s:\p{Cc}]+$/u.test(auth.username) || !/^[^\s\p{Cc}]+$/u.test(secret)) {
    return wrong("auth: user and password must not be empty nor have blanks or control characters, the user no colon")
  }
  return Result.succeed({ at, auth: { username: auth.username, password }, tls: secure })
}
