// `npm run sim`: simulates the core on all cores until time is up or something that must not happen does.
//
//   npm run sim -- --seconds 600                  from a random seed on, all mixes, all shapes
//   npm run sim -- --seeds 10000 [--from 0]       so many seeds of every mix instead
//   npm run sim -- --mix clocks                   one mix only
//   npm run sim -- --seed 279 --mix clocks        one history, in words
//       [--processes 3] [--rounds 3]
import { Simulation } from "effect-lock/testing"
import { availableParallelism } from "node:os"
import { parseArgs } from "node:util"
import { type Failed, Histories, type Piece } from "../test/simulation/histories.ts"
import { worlds } from "../test/simulation/worlds.ts"

interface Work {
  readonly mixes: ReadonlyArray<string>
  readonly shapes: ReadonlyArray<{ readonly processes: number; readonly rounds: number }>
  readonly from: number
  readonly end: number
}

// Of every 32 pieces, 27 are of small histories, four of medium, one of large ones: a large one takes as long as fifty
// small ones.
const mixedShapes = Array.from({ length: 32 }, (_, index) => {
  if (index === 31) return { processes: 8, rounds: 5 }
  return index % 8 === 7 || index === 30 ? { processes: 3, rounds: 3 } : { processes: 2, rounds: 1 }
})
const seedsOfPiece = 8

function* piecesOf({ end, from, mixes, shapes }: Work, isOver: () => boolean): Generator<Piece> {
  for (let at = from, index = 0; at < end; at += seedsOfPiece, index++) {
    const shape = shapes[index % shapes.length]!
    for (const name of mixes) {
      if (isOver()) return
      yield { name, ...shape, from: at, to: Math.min(at + seedsOfPiece, end) }
    }
  }
}

const explore = async (seconds: number, work: Work): Promise<Failed | undefined> => {
  const startedAt = performance.now()
  const elapsed = () => (performance.now() - startedAt) / 1000
  let done = 0
  const told = () => `${done} histories, ${Math.round(done / elapsed())} a second, ${Math.round(elapsed())} s`
  const histories = new Histories(availableParallelism())
  const progress = setInterval(() => console.log(told()), 5000)
  try {
    return await histories.run(piecesOf(work, () => elapsed() >= seconds), (each) => {
      done += each.histories
    })
  } finally {
    clearInterval(progress)
    histories.close()
    console.log(told())
  }
}

const main = async () => {
  const { values } = parseArgs({
    options: {
      seconds: { type: "string" },
      seeds: { type: "string" },
      from: { type: "string" },
      seed: { type: "string" },
      mix: { type: "string" },
      processes: { type: "string" },
      rounds: { type: "string" }
    }
  })
  const mixes = Object.keys(worlds).filter((name) => values.mix === undefined || name === values.mix)
  const numbers = [values.seconds, values.seeds, values.from, values.seed, values.processes, values.rounds]
  const wrong = numbers.find((each) => each !== undefined && !/^\d{1,9}$/.test(each))
  if (mixes.length === 0 || wrong !== undefined) {
    console.error(
      wrong === undefined ? `--mix is one of: ${Object.keys(worlds).join(", ")}` : `${wrong} is not a whole number`
    )
    return 2
  }
  const shape = { processes: Number(values.processes ?? 3), rounds: Number(values.rounds ?? 3) }
  if (values.seed !== undefined) {
    const seed = Number(values.seed)
    for (const name of mixes) {
      const { mix, model } = worlds[name]!
      const outcome = Simulation.simulate(seed, mix, { ...shape, model, keepHistory: true })
      if (outcome.violations.length > 0) {
        console.log(Simulation.report(seed, name, mix, { ...shape, model }))
        return 1
      }
      if (mixes.length === 1) console.log(outcome.history.join("\n"))
      console.log(`seed ${seed} of ${name} passes: ${outcome.faults.length} faults, ${JSON.stringify(outcome.counts)}`)
    }
    return 0
  }
  const isCounted = values.seeds !== undefined
  const from = Number(values.from ?? (isCounted ? 0 : Math.floor(Math.random() * 1e9)))
  const end = isCounted ? from + Number(values.seeds) : Infinity
  const shapes = values.processes === undefined && values.rounds === undefined ? mixedShapes : [shape]
  console.log(`${mixes.length} mixes, seeds from ${from} on, ${availableParallelism()} cores`)
  const seconds = Number(values.seconds ?? (isCounted ? Infinity : 60))
  const failed = await explore(seconds, { mixes, shapes, from, end })
  if (failed === undefined) return 0
  const { mix, model } = worlds[failed.name]!
  const { name, processes, rounds } = failed
  console.log(Simulation.report(failed.seed, name, mix, { processes, rounds, model }))
  return 1
}

process.exitCode = await main()
