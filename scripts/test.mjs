// `npm test`: every check there is, in order. All of them run even if one fails, so that one run shows every problem.
//
//   npm test                                the whole
//   npm test -- test/Lease.test.ts          the same checks, of the tests only those of that file
//
// The last line is `N passed, N failed, N skipped`: the tests, plus one for every other step.
import { spawnSync } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import * as path from "node:path"
import { fileURLToPath } from "node:url"

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)))

/**
 * @typedef {{ passed: number, failed: number, skipped: number }} Counts
 * @typedef {{ name: string, run: () => Counts }} Step
 */

/** @param {Array<string>} args */
const npm = (args) => {
  const { error, status } = spawnSync("npm", args, { cwd: root, stdio: "inherit", shell: process.platform === "win32" })
  if (error !== undefined) console.error(`npm could not be run: ${error.message}`)
  return status === 0
}

/**
 * A script of package.json; counts as one test.
 *
 * @param {string} name
 * @returns {Step}
 */
const script = (name) => ({
  name,
  run: () =>
    npm(["run", "--silent", name]) ? { passed: 1, failed: 0, skipped: 0 } : { passed: 0, failed: 1, skipped: 0 }
})

/** @returns {Counts} */
const runVitest = () => {
  const folder = mkdtempSync(path.join(tmpdir(), "effect-lock-test-"))
  const report = path.join(folder, "report.json")
  try {
    const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${report}`]
    const succeeded = npm(["exec", "--", "vitest", "run", ...reporters, ...process.argv.slice(2)])
    return countsOf(report, succeeded)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/**
 * A file that could not be loaded holds no test that failed, and an error outside of any test neither; each is a failure.
 *
 * @param {string} report
 * @param {boolean} succeeded
 * @returns {Counts}
 */
const countsOf = (report, succeeded) => {
  /** @type {any} */
  let result
  try {
    result = JSON.parse(readFileSync(report, "utf8"))
  } catch {
    return { passed: 0, failed: 1, skipped: 0 }
  }
  /** @type {(file: any) => boolean} */
  const brokeOutsideATest = (file) =>
    file.status === "failed" && file.assertionResults.every((/** @type {any} */ test) => test.status !== "failed")
  const failed = result.numFailedTests + result.testResults.filter(brokeOutsideATest).length
  return {
    passed: result.numPassedTests,
    failed: failed === 0 && !succeeded ? 1 : failed,
    skipped: result.numPendingTests + result.numTodoTests
  }
}

/** @type {Array<Step>} */
const steps = [
  script("format:check"),
  script("lint"),
  script("types"),
  script("diagnostics"),
  script("build"),
  { name: "tests", run: runVitest }
]

/** @type {Counts} */
const total = { passed: 0, failed: 0, skipped: 0 }
/** @type {Array<string>} */
const failures = []
for (const step of steps) {
  console.log(`\n--- ${step.name}`)
  const startedAt = performance.now()
  const counts = step.run()
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1)
  console.log(`--- ${step.name}: ${counts.failed === 0 ? "ok" : "FAILED"} (${seconds} s)`)
  if (counts.failed > 0) failures.push(step.name)
  for (const name of /** @type {const} */ (["passed", "failed", "skipped"])) total[name] += counts[name]
}

// A test that was skipped for want of a server proves nothing, and where every server must be it is a failure.
if (process.env.CI !== undefined && total.skipped > 0) failures.push(`${total.skipped} skipped`)

if (failures.length > 0) console.log(`\nFAILED: ${failures.join(", ")}`)
console.log(`\n${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`)
process.exitCode = failures.length === 0 ? 0 : 1
