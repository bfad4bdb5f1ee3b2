import { assert, describe, it } from "@effect/vitest"
import { Duration, Option } from "effect"
import { Headers } from "effect/http"
import { reasonOf } from "../../../src/layers/internal/kubernetesFailure.ts"

const secret = "eyJhbGciOi.canary.token"

const of = (status: number, body: string, headers: Record<string, string> = {}) =>
  reasonOf({ status, body, headers: Headers.fromInput(headers) }, {
    verb: "update",
    kubernetesNamespace: "production",
    secret
  })

const said = (message: string) => JSON.stringify({ kind: "Status", message, reason: "Invalid" })

describe("the reason of a refusal", () => {
  it("tells what the server said, without the token, control characters and what is too long", () => {
    const { detail } = of(422, said(`unknown ${secret}\n${secret} ${"x".repeat(1000)}`))
    assert.notInclude(detail, "canary")
    assert.match(detail, /\(422\): unknown <redacted> <redacted> x+$/)
    assert.isBelow(detail.length, 400)
  })

  it("does not repeat what is no answer of an API server", () => {
    for (const body of ["<html>welcome</html>", "", "null", "{\"kind\":\"Status\",\"message\":7}"]) {
      assert.notMatch(of(500, body).detail, /welcome|7|null/)
    }
  })

  it("has the patience that was asked for, if it is a number of seconds", () => {
    const patience = (headers: Record<string, string>) => {
      const reason = of(429, said("slow down"), headers)
      assert(reason._tag === "Throttled")
      return Option.map(reason.retryAfter, Duration.toSeconds)
    }
    assert.deepStrictEqual(patience({ "retry-after": "3" }), Option.some(3))
    for (const text of ["soon", "-1", "1e9", "", "Sun, 01 Nov 2026 00:00:00 GMT"]) {
      assert.deepStrictEqual(patience({ "retry-after": text }), Option.none())
    }
    assert.deepStrictEqual(patience({}), Option.none())
  })
})
