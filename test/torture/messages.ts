/** What workers and the harness say to each other: a line of JSON each, over the register's socket. */

/** Fencing tokens are decimal text: JSON has no integers of that size. */
export type FromWorker =
  | { readonly tag: "hello"; readonly life: string }
  | {
    readonly tag: "granted"
    readonly hold: string
    readonly key: string
    readonly fence: string | undefined
    readonly askedAt: number
    readonly grantedAt: number
    readonly deadline: number
  }
  | {
    readonly tag: "contact"
    readonly call: number
    readonly kind: "read" | "write"
    readonly hold: string
    readonly key: string
    readonly fence: string | undefined
    readonly at: number
    readonly deadline: number
    readonly value: number
    /** Sent by a holder that was told of its loss: it has to be refused if anybody has come after. */
    readonly late: boolean
  }
  | {
    readonly tag: "ended"
    readonly hold: string
    readonly at: number
    /** Empty: given back. */
    readonly lost: string
    /** Of a loss: milliseconds until the backend could have given the lock away; negative: it was told too late. */
    readonly early: number
  }
  | { readonly tag: "returned"; readonly hold: string; readonly at: number }
  /** An acquisition that came to nothing, and why. */
  | { readonly tag: "failed"; readonly key: string; readonly why: string }
  /** The worker's wall clock is about to be set. */
  | { readonly tag: "skewed"; readonly at: number }
  /** The worker did not run for so long. */
  | { readonly tag: "stalled"; readonly millis: number }
  /** Everything is closed; what is still open that was not at the beginning. */
  | { readonly tag: "finished"; readonly left: ReadonlyArray<string> }

export interface ToWorker {
  readonly call: number
  readonly accepted: boolean
  readonly value: number
}

/** What the nemesis tells a worker, on its standard input. */
export type Order =
  | { readonly tag: "skew"; readonly millis: number }
  | { readonly tag: "disk"; readonly failing: number }
  | { readonly tag: "finish" }

/** What a worker is started with. */
export interface WorkerSetup {
  readonly life: string
  readonly socket: string
  readonly seed: string
  readonly keys: ReadonlyArray<string>
  readonly ttl: number
  readonly backend: BackendSetup
}

export type BackendSetup =
  | { readonly name: "file"; readonly directory: string }
  | { readonly name: "redis"; readonly url: string; readonly evicts: boolean }
  | { readonly name: "redlock"; readonly urls: ReadonlyArray<string> }
  | { readonly name: "etcd"; readonly urls: ReadonlyArray<string> }
  | { readonly name: "memcached"; readonly port: number }

/** Calls `each` with every line that `stream` brings. */
export const onLines = (stream: NodeJS.ReadableStream, each: (line: string) => void): void => {
  let rest = ""
  stream.setEncoding("utf8")
  stream.on("data", (text: string) => {
    const lines = (rest + text).split("\n")
    rest = lines.pop() ?? ""
    for (const line of lines) each(line)
  })
}
