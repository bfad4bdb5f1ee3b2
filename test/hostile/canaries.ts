/** Looks for planted secrets in everything that a program could show: errors, causes, logs, spans, what is printed. */
import { assert } from "@effect/vitest"
import { Cause, Effect, Exit, Logger, References, Tracer } from "effect"
import { inspect } from "node:util"

/** Where a secret was found in a value, by name; looks at what is hidden too. */
export const traces = (root: unknown, secrets: ReadonlyArray<string>): ReadonlyArray<string> => {
  const found: Array<string> = []
  const seen = new Set<object>()
  const search = (value: unknown, path: string): void => {
    if (typeof value === "string") {
      if (secrets.some((secret) => value.includes(secret))) found.push(path)
      return
    }
    if ((typeof value !== "object" && typeof value !== "function") || value === null || seen.has(value)) return
    seen.add(value)
    if (value instanceof Map || value instanceof Set) { for (const each of value) search(each, `${path}[]`) }
    if (value instanceof Uint8Array) search(Buffer.from(value).toString("latin1"), `${path}.bytes`)
    for (
      let from: object | null = value;
      from !== null && from !== Object.prototype;
      from = Object.getPrototypeOf(from)
    ) {
      for (const name of Reflect.ownKeys(from)) {
        const { get, value: own } = Object.getOwnPropertyDescriptor(from, name) ?? {}
        search(get === undefined ? own : read(() => get.call(value)), `${path}.${String(name)}`)
      }
    }
  }
  search(root, "it")
  const texts: Readonly<Record<string, () => unknown>> = {
    inspect: () => inspect(root, { depth: Infinity, showHidden: true, maxStringLength: null, maxArrayLength: null }),
    JSON: () => JSON.stringify(root),
    String: () => String(root),
    // A class of errors shows itself by this where causes are printed.
    pretty: () => Cause.pretty(Cause.fail(root))
  }
  for (const [name, text] of Object.entries(texts)) search(read(text), name)
  return found
}

const read = (get: () => unknown): unknown => {
  try {
    return get()
  } catch {
    return undefined
  }
}

/** A secret as it may be written: as it is, in a URL, in base64, in hexadecimal digits. */
export const spellings = (secret: string, user = "user"): ReadonlyArray<string> => [
  secret,
  encodeURIComponent(secret),
  Buffer.from(secret).toString("base64").replace(/=+$/, "").slice(0, -1),
  Buffer.from(`${user}:${secret}`).toString("base64").replace(/=+$/, "").slice(0, -1),
  Buffer.from(secret).toString("hex")
]

/** Everything that was said while something ran. */
export interface Said {
  readonly what: string
  readonly exit: Exit.Exit<unknown, unknown>
  readonly spans: ReadonlyArray<Tracer.NativeSpan>
  readonly logs: ReadonlyArray<unknown>
  readonly printed: ReadonlyArray<string>
}

const printed: Array<string> = []

/** From now on what is printed is kept, not shown; until the function that it answers is called. */
export const listenToConsole = (): () => void => {
  const names = ["log", "info", "warn", "error", "debug", "trace"] as const
  const saved = names.map((name) => [name, globalThis.console[name]] as const)
  for (const name of names) globalThis.console[name] = (...args) => void printed.push(inspect(args, { depth: 12 }))
  return () => {
    for (const [name, print] of saved) globalThis.console[name] = print
  }
}

/** Runs it to its end, with ears everywhere. */
export const overheard = <A, E, R>(what: string, self: Effect.Effect<A, E, R>): Effect.Effect<Said, never, R> =>
  Effect.suspend(() => {
    const spans: Array<Tracer.NativeSpan> = []
    const logs: Array<unknown> = []
    const from = printed.length
    const tracer = Tracer.make({
      span: (options) => {
        const span = new Tracer.NativeSpan(options)
        spans.push(span)
        return span
      }
    })
    const logger = Logger.make(({ cause, fiber, logLevel, message }) => {
      const annotations = fiber.getRef(References.CurrentLogAnnotations)
      logs.push({ cause, logLevel, message, annotations, pretty: Cause.pretty(cause) })
    })
    return Effect.exit(self).pipe(
      Effect.map((exit) => ({ what, exit, spans, logs, printed: printed.slice(from) })),
      Effect.provideService(Tracer.Tracer, tracer),
      Effect.provide(Logger.layer([logger])),
      Effect.provideService(References.MinimumLogLevel, "All")
    )
  })

/** It failed, as it was meant to, and nothing of what it said shows a secret. */
export const assertDiscreet = ({ exit, logs, printed, spans, what }: Said, secrets: ReadonlyArray<string>): void => {
  assert.isTrue(Exit.isFailure(exit), `${what}: nothing was provoked`)
  for (const [name, said] of Object.entries({ exit, logs, spans: spans.map(shownOf), printed })) {
    assert.deepStrictEqual(traces(said, secrets), [], `${what}: ${name}: ${inspect(said, { depth: 6 }).slice(0, 3000)}`)
  }
}

// What an exporter reads of a span. The fiber's context, which it also carries, is not shown by any.
const shownOf = ({ attributes, events, kind, links, name, status }: Tracer.NativeSpan) => ({
  name,
  kind,
  status,
  events,
  attributes: [...attributes],
  links: links.map(({ attributes }) => attributes)
})
