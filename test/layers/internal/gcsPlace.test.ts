import { assert, describe, it } from "@effect/vitest"
import { Effect, Result } from "effect"
import * as Place from "../../../src/layers/internal/gcsPlace.ts"

describe("a location", () => {
  const locations: ReadonlyArray<readonly [Place.Location, string]> = [
    [{ bucket: "locks" }, "locks:"],
    [{ bucket: "gs://locks" }, "locks:"],
    [{ bucket: "gs://locks/" }, "locks:"],
    [{ bucket: "gs://locks/app/" }, "locks:app/"],
    [{ bucket: "gs://locks/app" }, "locks:app"],
    [{ bucket: "locks", objectPrefix: "a/b/" }, "locks:a/b/"],
    [{ bucket: "gs://my.bucket_1", objectPrefix: "x" }, "my.bucket_1:x"]
  ]
  for (const [location, expected] of locations) {
    it(`${JSON.stringify(location)} is ${expected}`, () => {
      const { bucket, prefix } = Result.getOrThrow(Place.parse(location))
      assert.strictEqual(`${bucket}:${prefix}`, expected)
    })
  }
})

describe("an object's name", () => {
  it("tells its key, or is a hash, and is never longer than 1024 bytes", () => {
    const longest = "é".repeat(256)
    const place = Effect.runSync(Place.make({ bucket: "locks", prefix: "p".repeat(600), namespace: "a/b" }))
    const short = Effect.runSync(Place.objectOf(place, "K/1"))
    assert.deepStrictEqual(short, { name: `${"p".repeat(600)}n-a%2Fb/l-%4B%2F1`, hashed: false })
    assert.strictEqual(Place.keyOf(place, short.name), "K/1")
    return Effect.runPromise(Effect.gen(function*() {
      const deep = yield* Place.make({ bucket: "locks", prefix: "p".repeat(600), namespace: longest })
      const { hashed, name } = yield* Place.objectOf(deep, longest)
      assert.isTrue(hashed)
      assert.isAtMost(new TextEncoder().encode(name).length, 1024)
      assert.isUndefined(Place.keyOf(deep, name))
    }))
  })
})
