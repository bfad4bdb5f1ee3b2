import { assert, describe, it } from "@effect/vitest"
import { Effect, Option } from "effect"
import { endOfPrefix, leaseId, namesOf, read, valueOf } from "../../../src/layers/internal/etcdRecord.ts"

const text = (base64: string): string => Buffer.from(base64, "base64").toString()

describe("the names of a lock in etcd", () => {
  it("keep namespaces and kinds apart", () => {
    assert.deepStrictEqual(namesOf("billing"), {
      namespace: "billing",
      locks: "effect-lock/billing/locks/",
      dead: "effect-lock/billing/dead/"
    })
    assert.strictEqual(namesOf("").locks, "effect-lock//locks/")
    assert.strictEqual(namesOf("a/locks").locks, "effect-lock/a%2Flocks/locks/")
    assert.strictEqual(namesOf("Ä").locks, "effect-lock/%C3%84/locks/")
  })

  it("are those that other versions know: the id of a lease is part of the format", () => {
    const names = namesOf("billing")
    assert.strictEqual(leaseId(names, "k", "owner"), "4989103483102876088")
    assert.strictEqual(leaseId(names, "k", "owner", "tombstone"), "8714794936743412485")
  })

  it("give each namespace, key, owner id and purpose a lease of its own, positive and of 63 bits", () => {
    const ids = new Set<string>()
    const parts = ["a", "b", "ab", ""]
    for (const namespace of parts) {
      for (const key of parts) {
        for (const owner of parts) {
          for (const purpose of parts) {
            const id = leaseId(namesOf(namespace), key, owner, purpose)
            assert.isTrue(BigInt(id) > 0n && BigInt(id) < 2n ** 63n, id)
            ids.add(id)
          }
        }
      }
    }
    assert.strictEqual(ids.size, parts.length ** 4)
  })

  it("end a range right after everything that has the prefix", () => {
    for (const prefix of ["a", "effect-lock/a/", "é", "日本", "\u{10ffff}"]) {
      const end = Buffer.from(endOfPrefix(prefix), "base64")
      assert.isTrue(Buffer.compare(Buffer.from(`${prefix}\u{10ffff}`), end) < 0, prefix)
      assert.isTrue(Buffer.compare(Buffer.from(prefix), end) < 0, prefix)
      const last = end.length - 1
      assert.deepStrictEqual([...end.subarray(0, last), (end[last] ?? 0) - 1], [...Buffer.from(prefix)])
    }
  })
})

describe("the value of a lock in etcd", () => {
  it.effect("is JSON with a version, and read as it was written", () =>
    Effect.gen(function*() {
      const record = { ownerId: "o", since: 1_700_000_000_000, metadata: { job: "Zürich\n", ["__proto__"]: "x" } }
      const value = valueOf(record)
      assert.strictEqual(
        text(value),
        "{\"v\":1,\"ownerId\":\"o\",\"since\":1700000000000,\"metadata\":{\"job\":\"Zürich\\n\",\"__proto__\":\"x\"}}"
      )
      const found = yield* read({ key: "", value, create_revision: "7", lease: "9" })
      assert.strictEqual(found.ownerId, "o")
      assert.deepStrictEqual(found.holder.fencingToken, Option.some(7n))
      assert.deepStrictEqual(Object.entries(found.holder.metadata), Object.entries(record.metadata))
    }))
})
