import { assert, describe, it } from "@effect/vitest"
import { Storage } from "@google-cloud/storage"
import { Effect } from "effect"
import { fromStorage, type StorageClient } from "../../../src/layers/internal/gcsAccess.ts"

const access = (storage: StorageClient) => Effect.runSync(fromStorage(storage))

describe("Google's own service", () => {
  const endpoints: ReadonlyArray<readonly [string | undefined, boolean]> = [
    [undefined, true],
    ["https://storage.googleapis.com", true],
    ["https://www.googleapis.com/", true],
    ["https://storage.me-central2.rep.googleapis.com", true],
    ["restricted.googleapis.com", true],
    ["http://storage.googleapis.com", false],
    ["https://storage.evilgoogleapis.com", false],
    ["https://storage.googleapis.com.example.org", false],
    ["https://storage.example.org", false],
    ["http://127.0.0.1:9000", false]
  ]
  for (const [apiEndpoint, own] of endpoints) {
    it(`${own ? "is" : "is not"} at ${apiEndpoint ?? "the default endpoint"}`, () => {
      const found = access(new Storage(apiEndpoint === undefined ? {} : { apiEndpoint }))
      assert.strictEqual(found.own, own)
      assert.notMatch(found.endpoint, /\/$/)
    })
  }

  it("may be that of another universe", () => {
    const found = access(new Storage({ universeDomain: "example.cloud" }))
    assert.deepInclude(found, { endpoint: "https://storage.example.cloud", own: true })
  })
})

describe("headers", () => {
  it("may be a record, and are lower case", async () => {
    const { headers } = access({
      apiEndpoint: "https://storage.googleapis.com",
      authClient: { getRequestHeaders: () => Promise.resolve({ Authorization: "Bearer x", "X-None": undefined }) }
    })
    assert.deepStrictEqual(await Effect.runPromise(headers), { authorization: "Bearer x" })
  })
})
