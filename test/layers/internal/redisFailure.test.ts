import { assert, describe, it } from "@effect/vitest"
import { closed, isNoScript, reasonOf } from "../../../src/layers/internal/redisFailure.ts"

const canary = "canary-77aa"

/** As ioredis makes them: with the command and its arguments. */
const replyError = (message: string) =>
  Object.assign(new Error(message), { name: "ReplyError", command: { name: "evalsha", args: [canary, canary] } })
const systemError = (code: string) => Object.assign(new Error(`connect ${code} ${canary}`), { code })

const cases: ReadonlyArray<readonly [error: unknown, tag: string, retryable: boolean, detail: RegExp]> = [
  [replyError("NOAUTH Authentication required."), "Unauthorized", false, /asks for a password/],
  [replyError(`WRONGPASS invalid username-password pair ${canary}`), "Unauthorized", false, /password is wrong/],
  [replyError(`NOPERM User ${canary} has no permissions`), "Unauthorized", false, /permission.*documentation/],
  [
    replyError("ERR The user executing the script can't run this command or subcommand script: x, on @user_script:1."),
    "Unauthorized",
    false,
    /permission/
  ],
  [replyError("READONLY You can't write against a read only replica."), "Unreachable", true, /replica/],
  [replyError("LOADING Redis is loading the dataset in memory"), "Throttled", true, /loads its data/],
  [replyError("BUSY Redis is busy running a script."), "Throttled", true, /script/],
  [replyError("MASTERDOWN Link with MASTER is down"), "Throttled", true, /at the moment/],
  [replyError("CLUSTERDOWN Hash slot not served"), "Throttled", true, /at the moment/],
  [replyError("TRYAGAIN Multiple keys request during rehashing of slot"), "Throttled", true, /at the moment/],
  [replyError("ASK 1 127.0.0.1:1"), "Throttled", true, /at the moment/],
  [replyError("NOREPLICAS Not enough good replicas to write."), "Throttled", true, /at the moment/],
  [replyError("MISCONF Redis is configured to save RDB snapshots"), "Throttled", true, /save to its disk/],
  [replyError("OOM command not allowed when used memory > 'maxmemory'."), "Throttled", true, /memory is full/],
  [replyError("ERR max number of clients reached"), "Throttled", true, /maxclients/],
  [replyError("MOVED 3999 127.0.0.1:6381"), "Misconfigured", false, /new Cluster/],
  [replyError("CROSSSLOT Keys in request don't hash to the same slot"), "Misconfigured", false, /new Cluster/],
  [replyError("WRONGTYPE Operation against a key"), "Misconfigured", false, /other data.*namespace/],
  [
    replyError("ERR Error running script (call to f_1): @user_script:1: WRONGTYPE Operation"),
    "Misconfigured",
    false,
    /other data/
  ],
  [
    replyError(`ERR unknown command 'EVALSHA', with args beginning with: '${canary}'`),
    "Misconfigured",
    false,
    /lacks a command/
  ],
  [replyError("ERR This instance has cluster support disabled"), "Misconfigured", false, /no Redis Cluster/],
  [replyError("ERR DB index is out of range"), "Misconfigured", false, /no database/],
  [replyError("NOPROTO unsupported protocol version"), "Misconfigured", false, /protocol/],
  [replyError("NOSCRIPT No matching script."), "Protocol", false, /script/],
  [replyError(`ERR something else ${canary}`), "Protocol", false, /ERR/],
  [replyError(`SOMETHING new ${canary}`), "Unreachable", true, /no answer/],
  [systemError("ECONNREFUSED"), "Unreachable", true, /ECONNREFUSED/],
  [systemError("ECONNRESET"), "Unreachable", true, /ECONNRESET/],
  [systemError("ENOTFOUND"), "Unreachable", true, /ENOTFOUND/],
  [systemError("ETIMEDOUT"), "Unreachable", true, /ETIMEDOUT/],
  [systemError("SELF_SIGNED_CERT_IN_CHAIN"), "Misconfigured", false, /TLS.*SELF_SIGNED.*certificate authority/],
  [systemError("ERR_SSL_WRONG_VERSION_NUMBER"), "Misconfigured", false, /TLS/],
  [systemError("ERR_TLS_CERT_ALTNAME_INVALID"), "Misconfigured", false, /TLS/],
  [new Error("Connection is closed."), "Unreachable", true, /closed; the outcome is unknown/],
  [
    new Error("Stream isn't writeable and enableOfflineQueue options is false"),
    "Unreachable",
    true,
    /closed; the outcome is unknown/
  ],
  [
    Object.assign(new Error("Reached the max retries"), { name: "MaxRetriesPerRequestError" }),
    "Unreachable",
    true,
    /closed/
  ],
  [new Error("Command timed out"), "TimedOut", true, /commandTimeout/],
  [
    new Error("Connection in subscriber mode, only subscriber commands may be used"),
    "Misconfigured",
    false,
    /duplicate/
  ],
  [new Error("All sentinels are unreachable. Retrying from scratch after 10ms."), "Unreachable", true, /Sentinel/],
  [canary, "Unreachable", true, /no answer/],
  [undefined, "Unreachable", true, /no answer/]
]

describe("what Redis and its driver complain about", () => {
  for (const [error, tag, retryable, detail] of cases) {
    const message = error instanceof Error ? error.message.replaceAll(canary, "…") : "something that is no error"
    it(`${tag}: ${message}`, () => {
      const reason = reasonOf(error, "server:1")
      assert.strictEqual(reason._tag, tag, reason.detail)
      assert.strictEqual(reason.isRetryable, retryable)
      assert.match(reason.detail, detail)
      assert.isUndefined(reason.cause)
      assert.notInclude(JSON.stringify(reason) + String(reason.stack), canary)
    })
  }

  it("a connection that was closed leaves the outcome open", () => assert.isTrue(closed("server:1").isRetryable))
  it("NOSCRIPT is told from everything else", () => {
    assert.isTrue(isNoScript(replyError("NOSCRIPT No matching script.")))
    assert.isFalse(isNoScript(replyError("ERR NOSCRIPT")))
  })
})
