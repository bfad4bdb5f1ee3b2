/** Peers that bring no types of their own, or none that are found: as much of them as is used. */

declare module "proper-lockfile" {
  interface Options {
    readonly realpath?: boolean
    readonly stale?: number
    readonly retries?: object
  }
  export const lock: (file: string, options?: Options) => Promise<() => Promise<void>>
}

declare module "memjs" {
  interface Client {
    readonly add: (key: string, value: string, options: { readonly expires: number }) => Promise<boolean>
    readonly delete: (key: string) => Promise<boolean>
    readonly close: () => void
  }
  export const Client: { readonly create: (servers: string) => Client }
}

declare module "redlock4" {
  interface Lock {
    readonly unlock: () => PromiseLike<void>
  }
  export default class Redlock {
    constructor(
      clients: ReadonlyArray<unknown>,
      options: { readonly retryCount: number; readonly retryDelay?: number; readonly retryJitter?: number }
    )
    on(event: "error", listener: () => void): this
    lock(key: string, ttl: number): PromiseLike<Lock>
  }
}

declare module "redlock5" {
  interface Lock {
    readonly release: () => Promise<unknown>
  }
  export default class Redlock {
    constructor(
      clients: Iterable<unknown>,
      options: { readonly retryCount: number; readonly retryDelay?: number; readonly retryJitter?: number }
    )
    on(event: "error", listener: () => void): this
    acquire(keys: ReadonlyArray<string>, ttl: number): Promise<Lock>
  }
}
