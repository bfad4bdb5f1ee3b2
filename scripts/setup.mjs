// Makes a bare machine ready for `npm start` and `npm test`; does nothing, and says nothing, when it is ready already.
//
//   node scripts/setup.mjs [start | test]      what `npm start`, or `npm test`, needs; without an argument everything
//
// Plain JavaScript for any Node.js from 18 on and without dependencies, because it runs before there are any.
import { spawnSync } from "node:child_process"
import { existsSync, readFileSync, realpathSync, rmSync } from "node:fs"
import * as path from "node:path"
import { fileURLToPath } from "node:url"

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)))
const modules = path.join(root, "node_modules")
const windows = process.platform === "win32"

/** What ends the set-up with a message instead of a stack trace. */
class SetupError extends Error {}

// -----------------------------------------------------------------------------
// dependencies
// -----------------------------------------------------------------------------

/** @param {string} file */
const packagesOf = (file) => {
  try {
    return /** @type {Record<string, Record<string, unknown>>} */ (JSON.parse(readFileSync(file, "utf8")).packages)
  } catch {
    return undefined
  }
}

/** Whether node_modules is what package-lock.json says; npm keeps its own record of what it installed there. */
const dependenciesAreInstalled = () => {
  const wanted = packagesOf(path.join(root, "package-lock.json"))
  const installed = packagesOf(path.join(modules, ".package-lock.json"))
  if (wanted === undefined) throw new SetupError("package-lock.json is missing or is not JSON: restore it from git.")
  if (installed === undefined) return false
  return Object.keys(wanted).every((name) => {
    const { devOptional, integrity, optional, version } = /** @type {Record<string, unknown>} */ (wanted[name])
    const found = installed[name]
    if (name === "") return true
    // npm leaves out an optional package that is not for this platform.
    if (found === undefined) return optional === true || devOptional === true
    return found.version === version && found.integrity === integrity
  })
}

const installDependencies = () => {
  console.log("setup: installing the dependencies (npm ci)")
  const npm = run("npm", ["ci", "--include=dev", "--no-audit", "--no-fund", "--loglevel=error"])
  if (npm.error !== undefined) throw new SetupError(`npm could not be run: ${npm.error.message}`)
  if (npm.status !== 0) {
    throw new SetupError("npm ci failed, see above. It needs the npm registry; once that answers: npm run setup")
  }
}

// -----------------------------------------------------------------------------
// Node.js
// -----------------------------------------------------------------------------

// npm puts node_modules/.bin first on the PATH of scripts, so its `node`, from the package of that name, runs them.
const ownNode = path.join(modules, ".bin", windows ? "node.cmd" : "node")

/** @param {string} version */
const isNewEnough = (version) => {
  const [major = 0, minor = 0] = version.replace(/^v/, "").split(".").map(Number)
  return major > 22 || (major === 22 && minor >= 19)
}

const ownNodeRuns = () => {
  if (!existsSync(ownNode)) return false
  if (realpathSync(ownNode) === realpathSync(process.execPath)) return isNewEnough(process.version)
  const { status, stdout } = run(ownNode, ["--version"], "pipe")
  return status === 0 && isNewEnough(stdout.trim())
}

const nodeIsReady = () => existsSync(ownNode) ? ownNodeRuns() : isNewEnough(process.version)

/** The package `node` gets its binary from an install script, which npm may have been told not to run. */
const installNode = () => {
  console.log("setup: installing Node.js for the scripts (npm rebuild node)")
  run("npm", ["rebuild", "node", "--ignore-scripts=false", "--loglevel=error"])
  if (!ownNodeRuns()) {
    if (!isNewEnough(process.version)) {
      throw new SetupError(
        `this needs Node.js 22.19 or newer. The machine has ${process.version}, and the npm package \`node\` could not `
          + "be installed, see above: install a newer Node.js, then: npm run setup"
      )
    }
    // A `node` that doesn't run must not stand before the machine's own, which does.
    rmSync(ownNode, { force: true })
  }
}

// -----------------------------------------------------------------------------
// servers that the tests start
// -----------------------------------------------------------------------------

/** Program, and the package that has it: of Debian's kin, of Homebrew. */
const servers = [
  { program: "redis-server", apt: "redis-server", brew: "redis" },
  { program: "memcached", apt: "memcached", brew: "memcached" },
  { program: "etcd", apt: "etcd-server", brew: "etcd" }
]

/** @param {string} program */
const isOnPath = (program) => outerPath().split(path.delimiter).some((folder) => existsSync(path.join(folder, program)))

const missingServers = () => servers.filter(({ program }) => !isOnPath(program))

const installServers = () => {
  const missing = missingServers()
  if (missing.length === 0 || windows) return
  if (isOnPath("apt-get")) {
    const root = process.getuid?.() === 0
    if (root || (isOnPath("sudo") && run("sudo", ["-n", "true"], "pipe").status === 0)) {
      const packages = missing.map(({ apt }) => apt)
      console.log(`setup: installing ${packages.join(", ")} (apt-get)`)
      // RUNLEVEL: the tests start servers of their own, so the packages' services need not run.
      const quiet = ["env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get", "-qq"]
      const [program = "", ...args] = root ? quiet : ["sudo", "-n", ...quiet]
      run(program, [...args, "update"])
      run(program, [...args, "install", "-y", "--no-install-recommends", ...packages], "pipe")
    }
  } else if (isOnPath("brew")) {
    const packages = missing.map(({ brew }) => brew)
    console.log(`setup: installing ${packages.join(", ")} (brew)`)
    run("brew", ["install", "--quiet", ...packages])
  }
  const names = missingServers().map(({ program }) => program)
  if (names.length > 0) {
    console.error(
      `setup: NOT INSTALLED: ${names.join(", ")}. The tests that need them are skipped, by name; `
        + "install them with the machine's package manager to run everything."
    )
  }
}

// -----------------------------------------------------------------------------
// running
// -----------------------------------------------------------------------------

/** The PATH without this folder's node_modules: npm must not run on a Node.js that it is about to replace. */
const outerPath = () =>
  (process.env.PATH ?? "").split(path.delimiter).filter((folder) => !folder.startsWith(modules)).join(path.delimiter)

/**
 * @param {string} command
 * @param {Array<string>} args
 * @param {"inherit" | "pipe"} stdio
 */
const run = (command, args, stdio = "inherit", cwd = root) =>
  spawnSync(command, args, {
    cwd,
    stdio,
    encoding: "utf8",
    shell: windows && command !== process.execPath,
    env: { ...process.env, PATH: outerPath() }
  })

const dependencies = () => {
  const installed = dependenciesAreInstalled()
  if (!installed) installDependencies()
  if (installed ? !nodeIsReady() : !ownNodeRuns()) installNode()
  if (!installed) console.log("setup: ready")
}

/** Every step is safe to repeat and costs next to nothing when there is nothing to do. */
const needs = {
  start: [dependencies],
  test: [dependencies, installServers]
}

try {
  const purpose = process.argv[2] ?? "test"
  if (purpose !== "start" && purpose !== "test") throw new SetupError(`what for: start or test, not ${purpose}`)
  for (const step of needs[purpose]) step()
} catch (error) {
  if (!(error instanceof SetupError)) throw error
  console.error(`setup: ${error.message}`)
  process.exitCode = 1
}
