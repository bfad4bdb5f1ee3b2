/** What every contestant is driven through, ours, its peers and the floors alike. */

export interface Steps {
  /** Asked before each acquisition; `false` ends the loop. Whoever measures takes the time here, and in `held`. */
  readonly more: () => boolean | Promise<boolean>
  /** While the lock is held; the release is sent when it is over. */
  readonly held: () => void | Promise<void>
}

/** One connection to the server, as one process has it. */
export interface Session {
  /** One caller that acquires, does its step and releases, again and again, waiting as long as it takes. */
  readonly loop: (key: string, steps: Steps) => Promise<void>
  readonly close: () => Promise<void>
}

/** Where the server is; each suite knows what of it there is. */
export interface Place {
  readonly url?: string
  readonly urls?: ReadonlyArray<string>
  readonly port?: number
  readonly directory?: string
}

export type Role = "effect-lock" | "peer" | "floor"

export interface Contestant {
  readonly name: string
  readonly role: Role
  /** Its npm package, for the version. */
  readonly package?: string
  /** Redis commands that its client sends, beside scripts and subscriptions: those that scripts call don't count. */
  readonly sends?: ReadonlyArray<string>
  /** Drivers are imported here: one that is not installed keeps nobody else from running. */
  readonly open: (place: Place) => Promise<Session>
}

/** How a contestant is named across processes. */
export interface Reference {
  /** Relative to `bench/`; exports `contestants`. */
  readonly module: string
  readonly name: string
}

/** The loop of a contestant whose locks are promises. */
export const looping =
  (acquire: (key: string) => Promise<() => PromiseLike<unknown>>): Session["loop"] => async (key, steps) => {
    for (;;) {
      const more = steps.more()
      if (!(typeof more === "boolean" ? more : await more)) return
      const release = await acquire(key)
      const work = steps.held()
      if (work !== undefined) await work
      await release()
    }
  }

/** The loop of one that gives up at once: it asks again after `milliseconds` ± half of it. */
export const polling =
  (milliseconds: number, tryAcquire: (key: string) => Promise<(() => PromiseLike<unknown>) | undefined>) =>
  async (key: string): Promise<() => PromiseLike<unknown>> => {
    for (;;) {
      const release = await tryAcquire(key)
      if (release !== undefined) return release
      await pause(milliseconds * (0.5 + Math.random()))
    }
  }

export const pause = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => void setTimeout(resolve, milliseconds))

export const resolveContestant = async ({ module, name }: Reference): Promise<Contestant> => {
  const { contestants }: { contestants: ReadonlyArray<Contestant> } = await import(
    new URL(`../${module}`, import.meta.url).href
  )
  const found = contestants.find((contestant) => contestant.name === name)
  if (found === undefined) throw new Error(`${module} has no contestant ${name}`)
  return found
}
