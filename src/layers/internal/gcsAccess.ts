/**
 * Endpoint and credentials, from a `Storage` of `@google-cloud/storage`: the user's own, or one that is made here.
 *
 * Only its endpoint and its credentials are used. Its requests can be neither bounded in time nor interrupted, and its
 * retries turn a lost reply into "somebody else has it"; so the requests are ours.
 */
import * as Effect from "effect/Effect"
import { type BackendReason, Misconfigured, Unauthorized, Unreachable } from "../../LockError.ts"

/**
 * What is used of a `Storage`. `new Storage(…)` is one.
 *
 * @category models
 */
export interface StorageClient {
  readonly apiEndpoint: string
  readonly customEndpoint?: boolean | undefined
  readonly useAuthWithCustomEndpoint?: boolean | undefined
  readonly authClient: {
    readonly getRequestHeaders: (
      url?: string
    ) => Promise<Iterable<readonly [string, string]> | Readonly<Record<string, string | undefined>>>
  }
}

/** How to reach the service. */
export interface Access {
  /** Without a slash at its end. */
  readonly endpoint: string
  /** Whether this is Google's own service, told by a verified certificate. */
  readonly own: boolean
  /** The headers that authorise a request. May ask the network, and is never cached here: the credentials do that. */
  readonly headers: Effect.Effect<Readonly<Record<string, string>>, BackendReason>
}

/** The access that a `Storage` gives. */
export const fromStorage = (storage: StorageClient): Effect.Effect<Access, Misconfigured> => {
  if (typeof storage?.apiEndpoint !== "string" || typeof storage.authClient?.getRequestHeaders !== "function") {
    return Effect.fail(new Misconfigured({ detail: "storage must be a Storage of @google-cloud/storage" }))
  }
  // Who sets STORAGE_EMULATOR_HOST for the library's sake may have put its path there.
  const endpoint = storage.apiEndpoint.replace(/\/+$/, "").replace(/\/storage\/v1$/, "")
  if (!URL.canParse(endpoint) || !/^https?:$/.test(new URL(endpoint).protocol)) {
    return Effect.fail(
      new Misconfigured({ detail: "the endpoint must be a URL such as \"https://storage.googleapis.com\"" })
    )
  }
  const { hostname, password, protocol, username } = new URL(endpoint)
  if (username !== "" || password !== "") {
    return Effect.fail(
      new Misconfigured({ detail: "the endpoint must not carry credentials; give them to the Storage" })
    )
  }
  const custom = storage.customEndpoint === true
  return Effect.succeed({
    endpoint,
    own: protocol === "https:" && (!custom || hostname === "googleapis.com" || hostname.endsWith(".googleapis.com")),
    // As the library does: an emulator is not told anybody's credentials.
    headers: custom && storage.useAuthWithCustomEndpoint !== true ? Effect.succeed({}) : headersOf(storage, endpoint)
  })
}

/** A `Storage` of our own: Application Default Credentials, and whatever else the library finds in its environment. */
export const makeStorage = (endpoint: string | undefined): Effect.Effect<StorageClient, Misconfigured> =>
  Effect.flatMap(
    Effect.tryPromise({
      try: () => import("@google-cloud/storage"),
      catch: () =>
        new Misconfigured({
          detail: "@google-cloud/storage can't be loaded: install it (it is an optional peer dependency), or pass a "
            + "storage of your own"
        })
    }),
    ({ Storage }) =>
      Effect.try({
        try: () => new Storage(endpoint === undefined ? {} : { apiEndpoint: endpoint }),
        catch: () => new Misconfigured({ detail: "@google-cloud/storage refuses its options or its environment" })
      })
  )

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const headersOf = (
  storage: StorageClient,
  endpoint: string
): Effect.Effect<Readonly<Record<string, string>>, BackendReason> =>
  Effect.map(
    Effect.tryPromise({
      try: () => storage.authClient.getRequestHeaders(endpoint),
      catch: unavailable
    }),
    (headers) => {
      const known: Record<string, string> = {}
      for (const [name, value] of Symbol.iterator in headers ? headers : Object.entries(headers)) {
        if (typeof value === "string") known[name.toLowerCase()] = value
      }
      return known
    }
  )

// The credentials' own error may carry tokens, keys and the request that failed: only its code is passed on.
const unavailable = (error: unknown): BackendReason => {
  const code = field(error, "code") ?? field(field(error, "cause"), "code")
  const status = Number(field(field(error, "response"), "status") ?? field(error, "status") ?? code)
  if (typeof code === "string" && /^(E[A-Z_]+|UND_ERR_[A-Z_]+)$/.test(code)) {
    return new Unreachable({ detail: `the credentials could not be had: ${code}` })
  }
  if (status === 408 || status === 429 || status >= 500) {
    return new Unreachable({ detail: `the credentials could not be had: their server answered ${status}` })
  }
  const why = status >= 400 ? `: their server answered ${status}` : ""
  return new Unauthorized({
    detail: `the credentials could not be had${why}. Set up Application Default Credentials (a service account of the `
      + "machine, or GOOGLE_APPLICATION_CREDENTIALS), or pass a storage that has credentials"
  })
}

const field = (value: unknown, name: string): unknown =>
  typeof value === "object" && value !== null ? (value as Readonly<Record<string, unknown>>)[name] : undefined
