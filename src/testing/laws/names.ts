/**
 * Keys are taken as they are: each names a lock of its own, and comes back as it was given.
 */
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import { invalidKey } from "../../LockOptions.ts"
import type { Law } from "../Law.ts"
import { law } from "./law.ts"
import * as needs from "./needs.ts"
import type { Check, Grant, Probe } from "./probe.ts"

/**
 * Keys that have broken lock libraries, all of them valid: traversal, joins, case, normal forms, prefixes, names that a
 * backend might use itself, names that scripts and shells would read as code.
 *
 * @category corpora
 */
export const hostileKeys: ReadonlyArray<string> = [
  ...[
    " ",
    "  ",
    ".",
    "..",
    "...",
    "-",
    "-rf",
    "~",
    "*",
    "?",
    "[",
    "]",
    "[a-z]",
    "%",
    "%2e%2e",
    "%2F",
    "%00",
    "\\",
    "/"
  ],
  ...["//", "/abs", "a/", "/a", "a//b", "a/b", "a/./b", "a/../b", "../../etc/passwd", "C:\\x", "CON", "nul.txt", "aux"],
  ...[
    "a",
    "A",
    "aa",
    "a0",
    "a ",
    " a",
    "a.",
    "a.lock",
    "a.tmp",
    "a:fence",
    "a:lock",
    "a:queue",
    "a:token",
    "a#1",
    "a~"
  ],
  ...["a-1", "a_1", "a.1", "lock", "locks", "lock:a", "fence", "0", "00", "-0", "1e3", "null", "undefined", "true"],
  ...["{}", "{a}", "{a}b", "a{b}c{d}", "{{a}}", "}{", ":", "::", "a:b", "a:b:c", "a|b", "a,b", "a;b", "a&b=c", "a?b#c"],
  ...["__proto__", "constructor", "prototype", "hasOwnProperty", "toString"],
  ...["$(id)", "`id`", "'; DROP TABLE locks; --", "\"", "'", "end return 1 --", "k 0 0 1 flush_all", "<a>&amp;</a>"],
  ...[".well-known/acme-challenge/x", "#", "é", "e\u0301", "Straße", "STRASSE", "İ", "i", "I", "ı", "\u202eabc"],
  ...["日本語", "👩‍👩‍👧", "👩", "\u00a0", "\u2028", "\ufeff", "\ufffd", "ﬀ", "ff", "\u2126", "\u03a9"],
  "x".repeat(63),
  "x".repeat(64),
  "x".repeat(250),
  "x".repeat(251),
  "x".repeat(255),
  "x".repeat(256),
  "x".repeat(511) + "a",
  "x".repeat(511) + "b",
  "X".repeat(512),
  "語".repeat(170) + "xx",
  "/".repeat(512),
  "%".repeat(512)
]

export const names: ReadonlyArray<Law> = [
  law(
    "names/hostile",
    "every valid key is a lock of its own, and inspect finds its own holder under it",
    function*(probe) {
      const grants = yield* holdAll(probe, hostileKeys)
      for (const [key, grant] of grants) {
        yield* probe.heldBy(probe.second, key, grant.ownerId, `key ${JSON.stringify(key)}`)
        yield* probe.refusal(probe.second, key, {}, `key ${JSON.stringify(key)} is held`)
      }
      for (const [key, grant] of grants) {
        yield* probe.released(probe.first, grant)
        const holders = yield* probe.inspect(probe.second, key)
        yield* probe.expect(holders.length === 0, `no holder of ${JSON.stringify(key)}`, "a holder after its release")
      }
    }
  ),

  law(
    "names/near",
    "keys that differ by one character, by case, or by being a prefix are different locks",
    function*(probe) {
      const root = yield* probe.freshKey
      const grants = yield* holdAll(
        probe,
        ["", "/", "/a", "/A", "/a/", "/a0", "/a.", "/a ", "/ä", "/a\u0308", "/b"].map((end) => root + end)
      )
      for (const [key, grant] of grants) yield* probe.heldBy(probe.second, key, grant.ownerId, `key ${key}`)
    }
  ),

  law("names/listed", "list gives keys back as they were given", function*(probe) {
    const root = yield* probe.freshKey
    const keys = [root, ...hostileKeys.map((key) => `${root}/${key}`)].filter((key) => invalidKey(key) === undefined)
    const grants = yield* holdAll(probe, keys)
    const listed = yield* listedKeys(probe, root)
    yield* probe.expect(
      listed.size === grants.size,
      `${grants.size} keys`,
      `${listed.size} keys`
    )
    for (const [key, grant] of grants) {
      const found = listed.get(key)
      yield* probe.expect(found === grant.ownerId, `${JSON.stringify(key)} held by ${grant.ownerId}`, `${found}`)
    }
  }, needs.list),

  law(
    "names/list-prefix",
    "list gives the held keys that start with the prefix, and no others",
    function*(probe) {
      const root = yield* probe.freshKey
      const inside = [`${root}/`, `${root}/a`, `${root}/a/b`, `${root}/*`, `${root}/%`, `${root}/_`]
      yield* holdAll(probe, [...inside, root, `${root}0`, `${root.toUpperCase()}/a`])
      const free = yield* probe.grant(probe.first, `${root}/free`)
      yield* probe.released(probe.first, free)
      const listed = [...(yield* listedKeys(probe, `${root}/`)).keys()].sort()
      yield* probe.expect(
        JSON.stringify(listed) === JSON.stringify([...inside].sort()),
        JSON.stringify([...inside].sort()),
        JSON.stringify(listed)
      )
    },
    needs.list
  )
]

const holdAll = (probe: Probe, keys: ReadonlyArray<string>): Check<ReadonlyMap<string, Grant>> =>
  Effect.gen(function*() {
    const grants = new Map<string, Grant>()
    for (const key of new Set(keys)) {
      if (invalidKey(key) !== undefined) return yield* probe.fail("a valid key", JSON.stringify(key))
      grants.set(key, yield* probe.grant(probe.first, key, {}, `nobody holds ${JSON.stringify(key)}`))
    }
    return grants
  })

// Owner ids by key.
const listedKeys = (probe: Probe, keyPrefix: string): Check<ReadonlyMap<string, string>> =>
  probe.second.list === undefined
    ? probe.fail("list", "nothing")
    : Effect.map(
      probe.answer(Stream.runCollect(probe.second.list(keyPrefix))),
      (held) => new Map(held.map(({ holders, key }) => [key, holders[0]?.ownerId ?? "nobody"]))
    )
