// `npm run torture`: real processes on real servers, under faults; see test/torture.
//
//   npm run torture -- --short                    what `npm test` does: every backend at once, less than a minute
//   npm run torture -- --seconds 600              longer, with more of everything
//   npm run torture -- --backend redis,etcd       only these; redis-evicting, redis-clock and
//                                                 redis-broken only so
//   npm run torture -- --seed S                   the same faults at the same times
//       [--workers 3] [--keys 4]
import { Effect } from "effect"
import { parseArgs } from "node:util"
import { isInstalled } from "../test/servers/ServerProcess.ts"
import { grounds, separateGrounds } from "../test/torture/arenas.ts"
import { showProgress, showReplay, showReport } from "../test/torture/report.ts"
import { shortRun } from "../test/torture/shortRun.ts"
import { type Progress, torture } from "../test/torture/torture.ts"

const main = async (): Promise<number> => {
  const { values } = parseArgs({
    options: {
      short: { type: "boolean" },
      seconds: { type: "string" },
      backend: { type: "string" },
      seed: { type: "string" },
      workers: { type: "string" },
      keys: { type: "string" }
    }
  })
  const wrong = [values.seconds, values.workers, values.keys].find((each) =>
    each !== undefined && !/^[1-9]\d{0,6}$/.test(each)
  )
  const names = values.backend?.split(",") ?? grounds.map(({ name }) => name)
  const all = [...grounds, ...separateGrounds]
  const unknown = names.find((name) => all.every((ground) => ground.name !== name))
  if (wrong !== undefined || unknown !== undefined) {
    const known = all.map(({ name }) => name).join(", ")
    console.error(unknown === undefined ? `${wrong} is not a whole number above 0` : `--backend is some of: ${known}`)
    return 2
  }
  const chosen = all.filter(({ name }) => names.includes(name))
  const missing = chosen.filter(({ program }) => program !== undefined && !isInstalled(program))
  for (const { name, program } of missing) console.log(`${name} is left out: ${program} is not installed`)
  const fought = chosen.filter((ground) => !missing.includes(ground))
  if (fought.length === 0) return 2

  const seed = values.seed ?? String(Math.floor(Math.random() * 1e9))
  const seconds = Number(values.seconds ?? (values.short === true ? shortRun.millis / 1000 : 60))
  console.log(`seed ${seed}, ${seconds} s under fire, ${fought.map(({ name }) => name).join(", ")}`)
  const progress = new Map<string, Progress>()
  const isTerminal = process.stdout.isTTY
  const live = setInterval(() => {
    const line = showProgress([...progress.values()])
    if (isTerminal) process.stdout.write(`\r\u001b[2K${line.slice(0, process.stdout.columns)}`)
    else console.log(line)
  }, isTerminal ? 1000 : 10_000)

  const reports = await Effect.runPromise(Effect.forEach(fought, (ground) =>
    Effect.scoped(torture({
      ...shortRun,
      ground,
      seed,
      millis: seconds * 1000,
      workers: Number(values.workers ?? 3),
      keys: Number(values.keys ?? (values.short === true ? shortRun.keys : 4)),
      onProgress: (each) => progress.set(ground.name, each)
    })), { concurrency: "unbounded" }))
  clearInterval(live)
  if (isTerminal) process.stdout.write("\r\u001b[2K")

  for (const report of reports) console.log(`${showReport(report)}\n`)
  const broken = reports.filter(({ counts, violations }) => violations.length > 0 || counts.writes === 0)
  for (const report of broken) console.log(`${showReplay(report, seconds)}\n`)
  const late = reports.reduce((sum, { violations }) => sum + violations.filter(({ rule }) => rule === "R2").length, 0)
  console.log(`Writes received inside their claimed trust after a higher fence was accepted: ${late}`)
  return broken.length === 0 ? 0 : 1
}

process.exitCode = await main()
