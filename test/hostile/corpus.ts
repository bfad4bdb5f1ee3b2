/**
 * Input that means harm, or that harms without meaning to: what has broken lock libraries, and random mixtures of it.
 *
 * Every run draws the same input: a failure names its seed, and `EFFECT_LOCK_HOSTILE_SEED` draws another one.
 * `EFFECT_LOCK_HOSTILE` raises the number of inputs per claim.
 */
import { invalidKey } from "../../src/LockOptions.ts"
import { hostileKeys } from "../../src/testing/laws/names.ts"

export { hostileKeys }

/** How many random inputs each claim is given. */
export const count = Number(process.env["EFFECT_LOCK_HOSTILE"] ?? 100_000)

export const seed = Number(process.env["EFFECT_LOCK_HOSTILE_SEED"] ?? 20_261)

/** For the names of tests. */
export const told = `${count} inputs, seed ${seed}`

/** Draws the same numbers for the same seed (mulberry32). */
export class Draw {
  #state: number

  constructor(salt: number) {
    this.#state = (seed * 2_654_435_761 + salt) >>> 0
  }

  /** A whole number below `end`. */
  below(end: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296) * end)
  }

  of<A>(from: ReadonlyArray<A>): A {
    return from[this.below(from.length)]!
  }

  chance(part: number): boolean {
    return this.below(1000) < part * 1000
  }
}

// -----------------------------------------------------------------------------
// texts
// -----------------------------------------------------------------------------

/** No backend ever sees these as a key: they are refused before anything is sent. */
export const invalidKeys: ReadonlyArray<string> = [
  ...["", "\0", "a\0b", "a\r\nb", "k 0 0 1\r\nflush_all", "\t", "a\u0085b", "\u001b[2J", "\u007f", "\n"],
  ...["\ud800", "a\udfff", "\udc00\ud800", "x".repeat(513), "語".repeat(171), "x".repeat(1024), "x".repeat(1025)],
  "x".repeat(1_000_000),
  "\ud83d".repeat(100_000)
]

/** Pieces that mean something to somebody: to servers, scripts, shells, paths, our own encodings. */
const pieces: ReadonlyArray<string> = [
  ...["a", "b", "A", "B", "0", "1", "-", "_", ".", "~", " ", "/", "\\", ":", "|", "#", "%", "{", "}", "*", "?", "["],
  ...["]", "^", "(", ")", "<", ">", "&", "=", "+", ",", ";", "!", "$", "@", "'", "\"", "`"],
  ...["%2e", "%2E", "%25", "%", "%%", "%zz", "%7B", "%3A", "%C3%A9", "%2", "../", "..", "//", "::", "{}", "{a}", "}{"],
  ...["é", "e\u0301", "ß", "ẞ", "SS", "İ", "ı", "i\u0307", "K", "\u212a", "Å", "\u212b", "\u00a0", "\u2028", "\u200d"],
  ...["\u202e", "\ufeff", "\ufffd", "\uffff", "👩", "👩‍👩‍👧", "日本", "\u{10ffff}", "ﬀ"],
  ...[":f", ":q", ":d:", ":lock", ":fence", ".lock", "n-", "nh-", "l-", "lh-", "locks/", "dead/", "effect-lock", "#"],
  ...["__proto__", "constructor", "$(id)", "'; DROP", "end return 1 --", "flush_all", " noreply", "\\x00", "\\u0000"],
  ...["i:", "w|", "1|o|1|1|h|{}", "h", "C1", "T0", "null", "undefined", "NaN", "[\"a\",\"b\"]", "\",\""]
]

/** A text of such pieces. */
export const text = (draw: Draw, most = 10): string => {
  let built = ""
  for (let length = draw.below(most + 1); length > 0; length--) built += draw.of(pieces)
  return built
}

/** A key that is valid; now and then as long as one may be. */
export const key = (draw: Draw): string => {
  if (draw.chance(0.1)) return draw.of(hostileKeys)
  let made = text(draw) || "k"
  if (draw.chance(0.02)) made = made.repeat(64)
  while (invalidKey(made) !== undefined) made = made.slice(0, made.length >> 1).toWellFormed() || "k"
  return made
}

/** A namespace is a key, or empty. */
export const namespace = (draw: Draw): string => draw.chance(0.2) ? "" : key(draw)

/** One lock: what has to be told apart from every other. */
export type Pair = readonly [namespace: string, key: string]

/**
 * A pair, and others that a careless encoding would take for it: the boundary moved, escapes written out or undone, case
 * and normal forms changed, something hung on.
 */
export const nearPairs = (draw: Draw): ReadonlyArray<Pair> => {
  const [n, k] = [namespace(draw), key(draw)]
  const at = draw.below(k.length + 1)
  const end = draw.of([":f", ":q", ":d:x", "}", "{", "/", "%", ".lock", " ", "0", "\u0301"])
  const separator = draw.of([":", "/", "-", "|", "}:{", "/l-", "/locks/", "%2F", "\",\""])
  return [
    [n, k],
    [n + k.slice(0, at), k.slice(at)],
    [n + separator + k.slice(0, at), k.slice(at)],
    [n, separator + k],
    [k, n],
    [n, k + end],
    [n + end, k],
    [n.toUpperCase(), k.toUpperCase()],
    [n.toLowerCase(), k.toLowerCase()],
    [n, k.normalize("NFC")],
    [n, k.normalize("NFD")],
    [n, k.normalize("NFKC")],
    [n, encodeURIComponent(k.toWellFormed())],
    [n, k.replace(/%([0-9A-F]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))],
    [n, k.trim()],
    [n, k.slice(0, -1)]
  ].flatMap(([space = "", name = ""]): ReadonlyArray<Pair> => {
    const isValid = invalidKey(name) === undefined && (space === "" || invalidKey(space) === undefined)
    return isValid ? [[space, name]] : []
  })
}

/** Metadata as a program may pass it, with the names that an object must not be asked for. */
export const metadata = (draw: Draw): Readonly<Record<string, string>> => {
  const names = ["__proto__", "constructor", "toString", "a", "ü", "a b", "|", "", "v", "ownerId"]
  const entries: Array<readonly [string, string]> = []
  for (let left = draw.below(5); left > 0; left--) {
    entries.push([
      draw.chance(0.5) ? draw.of(names) : text(draw, 3),
      `${text(draw)}${draw.of(["", "\r\n", "\0", "\t"])}`
    ])
  }
  return Object.fromEntries(entries)
}

// -----------------------------------------------------------------------------
// values
// -----------------------------------------------------------------------------

/** Numbers, and what is passed for them. */
export const numbers: ReadonlyArray<unknown> = [
  ...[0, -0, -1, 1, NaN, Infinity, -Infinity, 0.4, 1e-9, -1e-9, 99.999, 100, 2 ** 31 - 1, 2 ** 31, 2 ** 32, 2 ** 53],
  ...[2 ** 53 + 2, 1e21, 1e300, Number.MAX_VALUE, Number.MIN_VALUE, 0n, -1n, 1n, 10n ** 9n, 2n ** 63n, 2n ** 200n],
  ...[
    "",
    " ",
    "0",
    "-1",
    "1e3",
    "5 parsecs",
    "NaN",
    "Infinity",
    "-Infinity",
    "1 second",
    "-1 seconds",
    "1e400 seconds"
  ],
  ...["0x10", "١", "1 second; DROP", "forever", "x".repeat(100_000), true, false, null, Symbol("s"), () => 1],
  ...[[], [1], [1, 0], [NaN, 0], [Infinity, 0], [1, 2, 3], ["1", "0"], [0, 0.5], {}, { seconds: 1 }, { seconds: "1" }],
  ...[{ seconds: NaN }, { seconds: Infinity }, { seconds: -1 }, { years: 1 }, { nanoseconds: 0.5 }],
  ...[JSON.parse("{\"__proto__\":{\"seconds\":1}}"), Object.create(null), { toString: () => "1 second" }],
  ...[new Date(0), new Map(), /x/, new Proxy({}, {}), { valueOf: () => 5 }, Object.create({ seconds: 5 })]
]

/** Values in the place of others, in what a server says. */
export const values: ReadonlyArray<unknown> = [
  ...[null, true, false, 0, -1, 1, 1.5, 2 ** 53, 1e21, -1e300, "", "0", "-1", "1.5", "1e3", "NaN", "9".repeat(19)],
  ...["9".repeat(25), "9".repeat(400), "18446744073709551616", "x", "\0", "\ud800", "\u202e", "x".repeat(5000), [], {}],
  ...[[[]], [null], [1], { a: {} }, "1970-01-01T00:00:00Z", "+275760-09-13T00:00:00.001Z", " 1 "],
  ...["0x1f", "१", "true", "held", "1|x|1|1|h|{}", "{\"__proto__\":{\"polluted\":\"yes\"}}", "%E0%A4%A", "======"]
]

const names: ReadonlyArray<string> = ["__proto__", "constructor", "prototype", "toString", "v", "key", "x"]

/** A copy of a JSON value with something wrong somewhere in it. */
export const spoilt = (draw: Draw, value: unknown): unknown => {
  if (typeof value !== "object" || value === null || draw.chance(0.15)) return draw.of(values)
  if (Array.isArray(value)) {
    if (value.length === 0 || draw.chance(0.2)) return [...value, draw.of(values)]
    const at = draw.below(value.length)
    return draw.chance(0.2)
      ? value.filter((_, index) => index !== at)
      : value.map((each: unknown, index) => index === at ? spoilt(draw, each) : each)
  }
  const entries = Object.entries(value)
  if (entries.length === 0 || draw.chance(0.15)) {
    return Object.fromEntries([...entries, [draw.of(names), draw.chance(0.3) ? { polluted: "yes" } : draw.of(values)]])
  }
  const at = draw.below(entries.length)
  return draw.chance(0.2)
    ? Object.fromEntries(entries.filter((_, index) => index !== at))
    : Object.fromEntries(entries.map(([name, each], index) => [name, index === at ? spoilt(draw, each) : each]))
}

/** A text with something wrong in it: cut off, a character changed, something in between, twice. */
export const garbled = (draw: Draw, whole: string): string => {
  const at = draw.below(whole.length + 1)
  switch (draw.below(6)) {
    case 0:
      return whole.slice(0, at)
    case 1:
      return whole.slice(0, at) + draw.of(pieces) + whole.slice(at)
    case 2:
      return whole.slice(0, at) + draw.of(["\0", "\r\n", "\u0000", "\ufffd", "9", "-", "e9", "\"", "}"]) +
        whole.slice(at + 1)
    case 3:
      return whole + whole
    case 4:
      return text(draw)
    default:
      return whole.slice(at)
  }
}

/** JSON of a value, spoilt as a value, as a text, or not at all. */
export const spoiltJson = (draw: Draw, value: unknown): string => {
  let bad = value
  for (let times = draw.below(3); times > 0; times--) bad = spoilt(draw, bad)
  const json = JSON.stringify(bad) ?? "undefined"
  return draw.chance(0.2) ? garbled(draw, json) : json
}

/** Whether anything that was read has got into what all objects have. */
export const isPolluted = (): boolean =>
  "polluted" in {} || "polluted" in [] || "polluted" in Function.prototype || Object.keys(Object.prototype).length > 0

// -----------------------------------------------------------------------------
// whole answers
// -----------------------------------------------------------------------------

/** An answer over HTTP that is none. */
export interface BadAnswer {
  readonly status: number
  readonly body: string | Uint8Array<ArrayBuffer>
  readonly type?: string
}

const html = "<!doctype html><title>Sign in</title><h1>Welcome</h1>"

/** Bodies in the place of JSON, with 200. */
export const badBodies: ReadonlyArray<string | Uint8Array<ArrayBuffer>> = [
  ...["", " ", "null", "true", "0", "-1", "1.5", "1e999", "[]", "{}", "\"\"", "{", "[", "{\"a\":", "undefined", "NaN"],
  ...[
    html,
    "\ufeff{}",
    "{}{}",
    "{\"header\":null}",
    "{\"header\":{}}",
    "{\"kind\":\"Status\"}",
    "{\"kind\":\"Lease\"}"
  ],
  ...["{\"__proto__\":{\"polluted\":\"yes\"}}", "{\"constructor\":{\"prototype\":{\"polluted\":\"yes\"}}}", "\0\0\0"],
  new Uint8Array([0xff, 0xfe, 0xc3, 0x28, 0x80]),
  "[".repeat(20_000),
  "{\"a\":".repeat(20_000),
  "9".repeat(100_000)
]

export const statuses: ReadonlyArray<number> = [
  ...[
    100,
    204,
    201,
    202,
    206,
    299,
    300,
    301,
    302,
    304,
    307,
    400,
    401,
    403,
    404,
    405,
    408,
    409,
    410,
    411,
    412,
    413,
    415
  ],
  ...[418, 422, 425, 429, 431, 451, 499, 500, 501, 502, 503, 504, 507, 511, 599]
]

export const badAnswers: ReadonlyArray<BadAnswer> = [
  ...badBodies.map((body) => ({ status: 200, body })),
  ...statuses.filter((status) => status >= 200).flatMap((status) => [
    { status, body: status === 204 || status === 304 ? "" : html, type: "text/html" },
    { status, body: status === 204 || status === 304 ? "" : "{\"error\":{\"code\":5,\"message\":null}}" }
  ])
]
