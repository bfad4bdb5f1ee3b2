import { assert, describe, it } from "@effect/vitest"
import { decode, encode, type LockRecord, nextFence, tokenOf } from "../../../src/layers/internal/gcsRecord.ts"

const record: LockRecord = {
  state: "held",
  ownerId: "owner",
  ttl: 10_000,
  fence: 0n,
  metadata: {},
  key: undefined,
  of: undefined,
  token: undefined
}

const objectOf = (changes: Partial<LockRecord>, generation = "7") =>
  decode({ name: "n", generation, metageneration: "1", metadata: encode({ ...record, ...changes }, "seq") })

describe("a record", () => {
  const texts = ["owner", " owner ", "ü", "\n", "🔒 lock", "a b", "~", "\u007f", "-base64"]
  for (const text of texts) {
    it(`keeps ${JSON.stringify(text)}, in printable ASCII`, () => {
      const changes = { ownerId: text, key: text, metadata: { [text]: text, ["__proto__"]: text } }
      for (const value of Object.values(encode({ ...record, ...changes }, "seq"))) {
        assert.match(value, /^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/)
      }
      assert.deepInclude(objectOf(changes)?.record, { ownerId: text, key: text })
      assert.strictEqual(JSON.stringify(objectOf(changes)?.record.metadata), JSON.stringify(changes.metadata))
    })
  }

  it("is at most 8 KiB, whatever metadata and key", () => {
    const metadata = { full: "ü".repeat(2040) }
    assert.isAtMost(new TextEncoder().encode(JSON.stringify(metadata)).length, 4096)
    const encoded = encode({ ...record, metadata, key: "ü".repeat(256), fence: 2n ** 63n, of: 2n ** 63n }, "s")
    const size = Object.entries(encoded).reduce((sum, [name, value]) => sum + name.length + value.length, 0)
    assert.isAtMost(size, 8192)
  })

  it("has a token that is the generation, at least its fence, and the holder's own while it drains", () => {
    const tokens = [objectOf({}), objectOf({ fence: 9n }), objectOf({ fence: 5n }), objectOf({ fence: 9n, token: 3n })]
    assert.deepStrictEqual(tokens.map((object) => tokenOf(object!)), [7n, 9n, 7n, 3n])
    assert.deepStrictEqual(tokens.map((object) => nextFence(object!)), [8n, 10n, 8n, 10n])
    assert.strictEqual(nextFence(objectOf({ token: 77n })!), 78n)
  })
})
