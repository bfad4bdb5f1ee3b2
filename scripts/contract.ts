// `npm run contract`: asks every law of every backend, each on its server, and writes what came out to docs/contract.md.
//
//   npm run contract                        all of them; some minutes
//   npm run contract -- --only redis,etcd   those, to the screen only
import { Duration, Effect, Logger, Stream } from "effect"
import { BackendLaws } from "effect-lock/testing"
import { execFileSync } from "node:child_process"
import { readFileSync, writeFileSync } from "node:fs"
import * as path from "node:path"
import { parseArgs } from "node:util"
import { backends, type BackendUnderTest, isMissing } from "../test/everyBackend.ts"

const root = path.dirname(import.meta.dirname)

interface Column {
  readonly name: string
  readonly version: string
  readonly findings: ReadonlyMap<string, BackendLaws.Finding>
}

const versionOf = ({ version }: BackendUnderTest): string => {
  if (typeof version === "string") return version
  const [program = "", ...args] = version
  const said = execFileSync(program, args, { encoding: "utf8" })
  return `${program} ${/\d+\.\d+(\.\d+)?/.exec(said)?.[0] ?? said.trim()}`
}

const ask = (backend: BackendUnderTest): Effect.Effect<Column> =>
  Effect.gen(function*() {
    const make = yield* backend.start
    const environment = BackendLaws.LawEnvironment.make({
      first: yield* make("laws"),
      second: yield* make("laws"),
      withNamespace: make,
      ttl: backend.ttl,
      expirySlack: backend.slack,
      budget: Duration.seconds(10),
      contenders: 12,
      acquisitions: 60,
      positions: 40
    })
    const findings = new Map<string, BackendLaws.Finding>()
    yield* BackendLaws.verify(BackendLaws.all, { concurrency: 16 }).pipe(
      Stream.runForEach((finding) =>
        Effect.sync(() => {
          findings.set(finding.law.id, finding)
          if (finding._tag === "Broken") console.log(`${backend.name}: ${finding.violation.message}`)
        })
      ),
      Effect.provideService(BackendLaws.LawEnvironment, environment)
    )
    console.log(`${backend.name}: ${findings.size} laws asked`)
    return { name: backend.name, version: versionOf(backend), findings }
    // Leases are lost by the dozen here, as they should be.
  }).pipe(Effect.scoped, Effect.orDie, Effect.provide(Logger.layer([])))

const page = (columns: ReadonlyArray<Column>): string => {
  const reasons: Array<string> = []
  const noteOf = (reason: string): number => {
    if (!reasons.includes(reason)) reasons.push(reason)
    return reasons.indexOf(reason) + 1
  }
  const cell = (finding: BackendLaws.Finding | undefined): string => {
    switch (finding?._tag) {
      case "Kept":
        return "kept"
      case "Inapplicable":
        return `– (${noteOf(finding.reason)})`
      default:
        return "BROKEN"
    }
  }
  const rows = BackendLaws.all.map(({ claim, id }) =>
    `| \`${id}\` | ${claim} | ${columns.map(({ findings }) => cell(findings.get(id))).join(" | ")} |`
  )
  const { version } = JSON.parse(readFileSync(path.join(root, "node_modules/effect/package.json"), "utf8"))
  return [
    "# The contract, asked of every backend",
    "",
    `Written by \`npm run contract\`, from one run of all ${BackendLaws.all.length} laws of \`effect-lock/testing\`: Node.js ${process.version}, `
    + `effect ${version}, ${columns.map((column) => `${column.name}: ${column.version}`).join("; ")}. Don't edit it.`,
    "",
    `| law | claim | ${columns.map(({ name }) => name).join(" | ")} |`,
    `|---|---|${columns.map(() => "---|").join("")}`,
    ...rows,
    "",
    "Not asked, because:",
    "",
    ...reasons.map((reason, index) => `${index + 1}. ${reason}`),
    ""
  ].join("\n")
}

const { values } = parseArgs({ options: { only: { type: "string" } } })
const only = values.only?.split(",")
const chosen = backends.filter(({ name }) => only?.includes(name) ?? true)
const missing = chosen.filter(isMissing)
if (missing.length > 0) {
  console.error(`not installed: ${missing.map(({ program }) => program).join(", ")}; npm run setup`)
  process.exit(1)
}
const columns = await Effect.runPromise(Effect.forEach(chosen, ask, { concurrency: 4 }))
if (only === undefined) writeFileSync(path.join(root, "docs/contract.md"), page(columns))
const broken = columns.flatMap(({ findings }) => [...findings.values()].filter(({ _tag }) => _tag === "Broken"))
console.log(`${columns.length} backends, ${broken.length} laws broken`)
process.exitCode = broken.length === 0 ? 0 : 1
