import { assert, describe, it } from "@effect/vitest"
import { DateTime, Option } from "effect"
import * as FileRecord from "../../../src/layers/internal/fileRecord.ts"

const record: FileRecord.FileRecord = {
  v: 1,
  namespace: "n",
  key: "k — \"quoted\"",
  ownerId: "o",
  ttl: 30_000,
  acquiredAt: 1_763_683_200_000,
  pid: 7,
  host: "h",
  bootId: "b",
  pidNs: "p",
  startTime: "1",
  metadata: { job: "nightly", ["__proto__"]: "a field" }
}

describe("fileRecord", () => {
  it("reads what it writes", () => {
    const found = FileRecord.decode(FileRecord.encode(record))
    assert(found._tag === "Record")
    assert.deepStrictEqual(Object.entries(found.record.metadata), Object.entries(record.metadata))
    assert.deepStrictEqual({ ...found.record, metadata: {} }, { ...record, metadata: {} })
  })

  it("leaves another version alone, whatever else is in it", () => {
    for (const text of ["{\"v\":2}", "{\"v\":0,\"ownerId\":\"o\"}", FileRecord.encode({ ...record, v: 3 as 1 })]) {
      assert.strictEqual(FileRecord.decode(text)._tag, "OtherVersion", text)
    }
  })

  it("calls everything else damaged, and never dies of it", () => {
    const text = FileRecord.encode(record)
    for (let length = 0; length < text.length; length++) {
      assert.strictEqual(FileRecord.decode(text.slice(0, length))._tag, "Damaged", text.slice(0, length))
    }
    const changed = [{ ttl: 0 }, { ttl: -1 }, { ttl: "1" }, { ttl: null }, { pid: 1.5 }, { key: 1 }, { metadata: [] }]
    for (const change of changed) {
      assert.strictEqual(FileRecord.decode(JSON.stringify({ ...record, ...change }))._tag, "Damaged")
    }
    const hostile = ["null", "[]", "1", "\"\"", "\u0000\u0000", "{\"v\":\"2\"}", "[".repeat(16_000), "{\"v\":1e999}"]
    for (const text of hostile) assert.strictEqual(FileRecord.decode(text)._tag, "Damaged", text.slice(0, 20))
  })

  it("shows the holder of a record, and a name to break it by where there is none", () => {
    const generation = "0000000000000042"
    const holder = FileRecord.holderOf({ _tag: "Record", record }, generation, Option.none())
    assert.strictEqual(holder.ownerId, "o")
    assert.deepStrictEqual(holder.fencingToken, Option.some(42n))
    assert.deepStrictEqual(holder.since, Option.some(DateTime.makeUnsafe(record.acquiredAt)))
    const damaged = FileRecord.holderOf({ _tag: "Damaged" }, generation, Option.none())
    assert.strictEqual(damaged.ownerId, `damaged:${generation}`)
    const unreal = FileRecord.holderOf(
      { _tag: "Record", record: { ...record, acquiredAt: 1e300 } },
      generation,
      Option.none()
    )
    assert(Option.isNone(unreal.since))
  })
})
