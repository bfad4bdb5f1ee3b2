import { assert, describe, it } from "@effect/vitest"
import * as Reply from "../../../src/layers/internal/memcachedReply.ts"

const parse = (text: string, expected: Reply.Expected = "Line") => Reply.parse(Buffer.from(text), 0, expected)

describe("memcachedReply", () => {
  const whole: ReadonlyArray<readonly [text: string, reply: Reply.Reply, expected?: Reply.Expected]> = [
    ["HD\r\n", { line: "HD", value: undefined }],
    ["HD c12 t-1\r\n", { line: "HD c12 t-1", value: undefined }],
    ["VA 6 c1 t5\r\nü\r\nab\r\n", { line: "VA 6 c1 t5", value: "ü\r\nab" }],
    ["VA 0\r\n\r\n", { line: "VA 0", value: "" }],
    ["SERVER_ERROR out of memory storing object\r\n", {
      line: "SERVER_ERROR out of memory storing object",
      value: undefined
    }],
    ["STAT a 1\r\nSTAT path /tmp/ü \r\nEND\r\n", { line: "END", value: "STAT a 1\nSTAT path /tmp/Ã¼ \n" }, "Settings"],
    ["ERROR\r\n", { line: "ERROR", value: "" }, "Settings"]
  ]
  for (const [text, reply, expected] of whole) {
    it(`${JSON.stringify(text)} is one reply, wherever it is cut`, () => {
      const bytes = Buffer.from(text)
      for (let size = 0; size < bytes.length; size++) {
        assert.isUndefined(Reply.parse(bytes.subarray(0, size), 0, expected ?? "Line"), `${size} bytes`)
      }
      assert.deepStrictEqual(parse(text, expected), { _tag: "Reply", reply, end: bytes.length })
      const found = Reply.parse(
        Buffer.concat([Buffer.from("EN\r\n"), bytes, Buffer.from("NS\r\n")]),
        4,
        expected ?? "Line"
      )
      assert.deepStrictEqual(found, { _tag: "Reply", reply, end: bytes.length + 4 })
    })
  }

  for (
    const text of ["\r\n", "\n", "HD\n", "hd\r\n", "VA\r\n", "VA x\r\n", "VA 1\r\nabc", "VA 99999999\r\n", "OK\r\n"]
  ) {
    it(`${JSON.stringify(text)} is no reply`, () => assert.strictEqual(parse(text)?._tag, "Garbage"))
  }

  it("a line without end is not waited for", () => {
    assert.isUndefined(parse("S".repeat(Reply.longestLine)))
    assert.strictEqual(parse("S".repeat(Reply.longestLine + 1))?._tag, "Garbage")
  })

  it("flags are found by their letter", () => {
    const reply = { line: "VA 3 c12 t-1 W", value: "abc" }
    assert.deepStrictEqual(["c", "t", "W", "s"].map((flag) => Reply.flagOf(reply, flag)), ["12", "-1", "", undefined])
    assert.strictEqual(Reply.codeOf(reply), "VA")
  })

  it("only refusals after which the server has read the whole request leave the connection in order", () => {
    const inOrder = (line: string) => Reply.refusalOf({ line, value: undefined }).inOrder
    assert.isTrue(inOrder("SERVER_ERROR out of memory storing object"))
    assert.isTrue(inOrder("SERVER_ERROR object too large for cache"))
    for (const line of ["ERROR", "CLIENT_ERROR bad data chunk", "SERVER_ERROR out of memory reading request", "HD"]) {
      assert.isFalse(inOrder(line), line)
    }
  })
})
