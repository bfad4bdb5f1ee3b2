import { assert, describe, it } from "@effect/vitest"
import { PlatformError } from "effect"
import { isNotFound, isTaken, reasonOfDefect, toBackendError } from "../../../src/layers/internal/fileFailure.ts"

const failure = (code: string, _tag: PlatformError.SystemErrorTag = "Unknown") =>
  PlatformError.systemError({
    _tag,
    module: "FileSystem",
    method: "link",
    pathOrDescriptor: "/locks/tmp/1",
    cause: { code }
  })

describe("fileFailure", () => {
  const cases: ReadonlyArray<readonly [string, PlatformError.PlatformError, string, boolean, RegExp]> = [
    ["no space", failure("ENOSPC"), "Misconfigured", false, /free space/],
    ["quota", failure("EDQUOT"), "Misconfigured", false, /quota/],
    ["read-only", failure("EROFS"), "Misconfigured", false, /mount it for writing/],
    ["long path", failure("ENAMETOOLONG"), "Misconfigured", false, /shorter path/],
    ["not a directory", failure("ENOTDIR", "BadResource"), "Misconfigured", false, /not a directory/],
    ["no links", failure("EOPNOTSUPP"), "Misconfigured", false, /hard links/],
    ["a directory in the way", failure("", "BadResource"), "Misconfigured", false, /remove it/],
    ["no permission", failure("EACCES", "PermissionDenied"), "Unauthorized", false, /must own the lock directory/],
    ["not permitted", failure("EPERM", "PermissionDenied"), "Unauthorized", false, /must own the lock directory/],
    ["too many files", failure("EMFILE"), "Throttled", true, /EMFILE/],
    ["busy", failure("EBUSY", "Busy"), "Throttled", true, /EBUSY/],
    ["disk error", failure("EIO"), "Unreachable", true, /EIO/],
    ["stale handle", failure("ESTALE"), "Unreachable", true, /ESTALE/],
    ["unknown", failure(""), "Unreachable", true, /Unknown/]
  ]
  for (const [name, platformError, tag, retryable, text] of cases) {
    it(`${name}: ${tag}, ${retryable ? "" : "not "}retryable, with what to do about it`, () => {
      const error = toBackendError("acquire", "k")(platformError)
      assert.strictEqual(error.reason._tag, tag)
      assert.strictEqual(error.isRetryable, retryable)
      assert.match(error.message, text)
      assert.include(error.message, "/locks/tmp/1")
      assert.strictEqual(error.backend, "file")
      assert.strictEqual(error.key, "k")
      assert.strictEqual(error.cause, platformError)
    })
  }

  it("a bad argument is a Protocol error", () => {
    const error = toBackendError("list")(PlatformError.badArgument({ module: "FileSystem", method: "open" }))
    assert.strictEqual(error.reason._tag, "Protocol")
    assert.strictEqual(error.key, undefined)
  })

  it("tells what is there and what is not", () => {
    assert(isNotFound(failure("ENOENT", "NotFound")) && !isNotFound(failure("EIO")))
    assert(isTaken(failure("EEXIST", "AlreadyExists")) && isTaken(failure("ENOTEMPTY")) && !isTaken(failure("EIO")))
  })

  it("a watcher that throws is explained", () => {
    assert.match(reasonOfDefect(Object.assign(new Error("no"), { code: "ENOSPC" })).detail, /ENOSPC.*max_user_watches/)
    assert.match(reasonOfDefect("odd").detail, /odd/)
  })
})
