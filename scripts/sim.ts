// `npm run sim`: simulates the core on all cores until time is up or something that must not happen does.
//
//   npm run sim -- --seconds 600                  from a random seed on, all mixes, all shapes
//   npm run sim -- --seeds 10000 [--from 0]       so many seeds of every mix instead
//   npm run sim -- --mix clocks                   one mix only
//   npm run sim -- --seed 279 --mix late          one history, in words
//       [--processes 3] [--rounds 3]
import { Simulation } from "effect-lock/testing"
import { availableParallelism } from "node:os"
import { parseArgs } from "node:util"
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads"

interface Work {
  readonly mixes: ReadonlyArray<Simulation.MixName>
  readonly shapes: ReadonlyArray<{ readonly processes: number; readonly rounds: number }>
  readonly from: number
  readonly step: number
  readonly end: number
}

interface Failure {
  readonly seed: number
  readonly mix: Simulation.MixName
  readonly shape: { readonly processes: number; readonly rounds: number }
}

type Message = { readonly done: number } | { readonly failed: Failure }

// Of every 32 seeds, 27 are small, four medium, one large: a large one takes as long as a hundred small ones.
const mixedShapes = Array.from({ length: 32 }, (_, index) => {
  if (index === 31) return { processes: 8, rounds: 5 }
  return index % 8 === 7 || index === 30 ? { processes: 3, rounds: 3 } : { processes: 2, rounds: 1 }
})

const work = ({ end, from, mixes, shapes, step }: Work) => {
  // Errors are made by the thousand, and nobody looks at where.
  Error.stackTraceLimit = 0
  const post = (message: Message) => parentPort!.postMessage(message)
  for (let seed = from; seed < end; seed += step) {
    const shape = shapes[seed % shapes.length]!
    for (const mix of mixes) {
      const { violations } = Simulation.simulate(seed, Simulation.mixes[mix], shape)
      if (violations.length > 0) return post({ failed: { seed, mix, shape } })
    }
    post({ done: mixes.length })
  }
}

const explore = (seconds: number, all: Omit<Work, "step">): Promise<Failure | undefined> =>
  new Promise((resolve) => {
    const startedAt = performance.now()
    const cores = availableParallelism()
    let histories = 0
    let running = cores
    const told = () => {
      const elapsed = (performance.now() - startedAt) / 1000
      return `${histories} histories, ${Math.round(histories / elapsed)} a second, ${Math.round(elapsed)} s`
    }
    const workers = Array.from({ length: cores }, (_, index) =>
      new Worker(new URL(import.meta.url), { workerData: { ...all, from: all.from + index, step: cores } }))
    const finish = (failure: Failure | undefined) => {
      clearInterval(progress)
      clearTimeout(timer)
      for (const worker of workers) {
        void worker.terminate()
      }
      console.log(told())
      resolve(failure)
    }
    const progress = setInterval(() =>
      console.log(told()), 5000)
    const timer = setTimeout(() => finish(undefined), Math.min(seconds * 1000, 2 ** 31 - 1))
    for (const worker of workers) {
      worker.on("message", (message: Message) => {
        if ("done" in message) histories += message.done
        else finish(message.failed)
      })
      worker.on("error", (error) => {
        console.error(error)
        process.exit(1)
      })
      worker.on("exit", () => {
        if (--running === 0) finish(undefined)
      })
    }
  })

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
  const names = Object.keys(Simulation.mixes) as ReadonlyArray<Simulation.MixName>
  const mixes = values.mix === undefined ? names : names.filter((name) => name === values.mix)
  const numbers = [values.seconds, values.seeds, values.from, values.seed, values.processes, values.rounds]
  const wrong = numbers.find((each) => each !== undefined && !/^\d{1,9}$/.test(each))
  if (mixes.length === 0 || wrong !== undefined) {
    console.error(wrong === undefined ? `--mix is one of: ${names.join(", ")}` : `${wrong} is not a whole number`)
    return 2
  }
  const shape = { processes: Number(values.processes ?? 3), rounds: Number(values.rounds ?? 3) }
  if (values.seed !== undefined) {
    const seed = Number(values.seed)
    for (const mix of mixes) {
      const outcome = Simulation.simulate(seed, Simulation.mixes[mix], { ...shape, keepHistory: true })
      if (outcome.violations.length > 0) {
        console.log(Simulation.report(seed, mix, shape))
        return 1
      }
      if (mixes.length === 1) console.log(outcome.history.join("\n"))
      console.log(`seed ${seed} of ${mix} passes: ${outcome.faults.length} faults, ${JSON.stringify(outcome.counts)}`)
    }
    return 0
  }
  const isCounted = values.seeds !== undefined
  const from = Number(values.from ?? (isCounted ? 0 : Math.floor(Math.random() * 1e9)))
  const end = isCounted ? from + Number(values.seeds) : Infinity
  const shapes = values.processes === undefined && values.rounds === undefined ? mixedShapes : [shape]
  console.log(`${mixes.length} mixes, seeds from ${from} on, ${availableParallelism()} cores`)
  const seconds = Number(values.seconds ?? (isCounted ? Infinity : 60))
  const failure = await explore(seconds, { mixes, shapes, from, end })
  if (failure === undefined) return 0
  console.log(Simulation.report(failure.seed, failure.mix, failure.shape))
  return 1
}

if (isMainThread) process.exitCode = await main()
else work(workerData as Work)
