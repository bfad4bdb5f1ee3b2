/**
 * `npm run bench`: effect-lock, what one would use instead, and the floors of the servers, side by side.
 *
 *   npm run bench                            the whole; bench/results
 *   npm run bench -- --only redis,file       some suites
 *   npm run bench -- --quick                 shorter, for a look; .tmp/bench
 *   npm run bench -- --contestant effect-lock --contestant "redlock 5 beta"
 *   npm run bench -- --results <folder>      written elsewhere
 *   npm run bench -- --report                only tables and charts again, from the results that are there
 */
import { Effect } from "effect"
import { spawnSync } from "node:child_process"
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { isInstalled } from "../test/servers/ServerProcess.ts"
import { efforts } from "./harness/Effort.ts"
import { machine, versions } from "./harness/machine.ts"
import type { Results } from "./harness/Table.ts"
import { installPeers } from "./install.ts"
import { charts, markdown, text } from "./report.ts"
import { only, type Suite } from "./suites/Suite.ts"

const root = fileURLToPath(new URL("../", import.meta.url))

/** In the order in which they run. */
const names = ["memory", "file", "redis", "redlock", "etcd", "memcached", "requests", "renewal", "cost"]

const { values: options } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    contestant: { type: "string", multiple: true, default: [] },
    tiny: { type: "boolean", default: false },
    only: { type: "string", default: names.join() },
    results: { type: "string" },
    report: { type: "boolean", default: false },
    "no-install": { type: "boolean", default: false }
  }
})

const effort = efforts[options.tiny ? "tiny" : options.quick ? "quick" : "full"]
const folder = path.resolve(options.results ?? path.join(root, effort.name === "full" ? "bench/results" : ".tmp/bench"))
const log = (line: string) => console.log(line)

/** The built package, as it is installed, unless this process was told to take the sources. */
const usesSource = import.meta.resolve("effect-lock").endsWith("/src/index.ts")

const build = (): void => {
  if (usesSource) return
  log("Building effect-lock …")
  const shell = process.platform === "win32"
  const { status } = spawnSync("npm", ["run", "--silent", "build"], { cwd: root, stdio: "inherit", shell })
  if (status !== 0) throw new Error("effect-lock can't be built")
}

const suiteOf = async (name: string): Promise<Suite> => {
  const found: Record<string, Suite> = await import(new URL(`suites/${name}.ts`, import.meta.url).href)
  const suite = found[name]
  if (suite === undefined) throw new Error(`suites/${name}.ts exports no ${name}`)
  return suite
}

const runSuite = async (name: string): Promise<void> => {
  const suite = await suiteOf(name)
  const missing = suite.programs.filter((program) => !isInstalled(program))
  if (missing.length > 0) {
    log(`\n${name}: left out, the machine has no ${missing.join(" and no ")}`)
    return
  }
  log(`\n=== ${name}`)
  const where = machine()
  const startedAt = new Date()
  const tables = await Effect.runPromise(Effect.scoped(suite.run(effort, log)))
  const results: Results = {
    format: 1,
    suite: name,
    startedAt: startedAt.toISOString(),
    finishedAt: new Date().toISOString(),
    effort: usesSource ? `${effort.name}, from the sources` : effort.name,
    machine: where,
    versions: versions(),
    tables
  }
  writeFileSync(path.join(folder, `${name}.json`), `${JSON.stringify(results, undefined, 2)}\n`)
  for (const table of tables) log(`\n${text(table, process.stdout.isTTY)}`)
}

/** Everything that is shown is made from the files. */
const report = (): void => {
  const known = names.filter((name) => existsSync(path.join(folder, `${name}.json`)))
  const all = known.map((name): Results => JSON.parse(readFileSync(path.join(folder, `${name}.json`), "utf8")))
  for (const [file, svg] of all.flatMap(charts)) writeFileSync(path.join(folder, file), svg)
  writeFileSync(path.join(folder, "README.md"), markdown(all))
  log(
    `\n${path.join(folder, "README.md")}, ${readdirSync(folder).filter((file) => file.endsWith(".svg")).length} charts`
  )
}

mkdirSync(folder, { recursive: true })
if (!options.report) {
  const wanted = options.only.split(",")
  const unknown = wanted.filter((name) => !names.includes(name))
  if (unknown.length > 0) throw new Error(`there is no suite ${unknown.join()}; there are ${names.join(", ")}`)
  if (!options["no-install"]) installPeers(log)
  build()
  for (const name of options.contestant) only.add(name)
  for (const name of names) if (wanted.includes(name)) await runSuite(name)
}
report()
