/** A process that measures one contestant: the first message says what, see `harness/tasks.ts`. */
import { type Reference, resolveContestant, type Session } from "./harness/Contestant.ts"
import { quantile, sorted } from "./harness/statistics.ts"
import type {
  MemberTask,
  Phase,
  PhasesTask,
  RenewalTask,
  Round,
  RoundTask,
  Slice,
  SlicesTask,
  Task
} from "./harness/tasks.ts"
import type { Turn } from "./harness/turns.ts"

const say = (kind: string, value?: unknown) => void process.send?.({ kind, value })

/** Milliseconds of a clock that all processes of the machine have in common. */
const now = (): number => Number(process.hrtime.bigint()) / 1e6

const pause = (milliseconds: number) => new Promise<void>((resolve) => void setTimeout(resolve, milliseconds))

const told = (kind: string): Promise<{ readonly at: number }> =>
  new Promise((resolve) => {
    const listen = (message: { readonly kind: string; readonly at: number }) => {
      if (message.kind !== kind) return
      process.off("message", listen)
      resolve(message)
    }
    process.on("message", listen)
  })

const isMissing = (error: unknown) => error instanceof Error && "code" in error && error.code === "ERR_MODULE_NOT_FOUND"

const report = (error: unknown) => {
  say("problem", {
    missing: isMissing(error),
    text: error instanceof Error ? `${error.name}: ${error.message}` : String(error)
  })
}

// A contestant that loses track of a promise has failed, not this process.
process.on("uncaughtException", report)
process.on("unhandledRejection", report)
process.on("disconnect", () => process.exit())

// -----------------------------------------------------------------------------
// slices
// -----------------------------------------------------------------------------

class Sliced {
  readonly session: Session
  readonly keys: ReadonlyArray<string>
  violations = 0

  constructor(session: Session, keys: ReadonlyArray<string>) {
    this.session = session
    this.keys = keys
  }

  async slice(milliseconds: number): Promise<Slice> {
    const times: Array<number> = []
    const begin = performance.now()
    const end = begin + milliseconds
    await Promise.all(this.keys.map((key) => {
      let held = 0
      let last = Number.NaN
      return this.session.loop(key, {
        more: () => {
          const time = performance.now()
          if (!Number.isNaN(last)) {
            times.push(time - last)
            held--
          }
          last = time
          return time < end
        },
        held: () => {
          if (++held !== 1) this.violations++
        }
      })
    }))
    const took = performance.now() - begin
    const all = sorted(times)
    return { perSecond: times.length / took * 1000, p50: quantile(all, 0.5), p99: quantile(all, 0.99) }
  }
}

const opened = async (task: SlicesTask, reference: Reference, index: number): Promise<Sliced> =>
  new Sliced(
    await (await resolveContestant(reference)).open(task.place),
    Array.from({ length: task.keys }, (_, key) => `bench-${index}-${key}`)
  )

const slices = async (task: SlicesTask) => {
  const contestant = await opened(task, task.contestant, 0)
  const floors = await Promise.all(
    task.floors.map((floor, index) =>
      opened(task, floor, index + 1).catch((error) => {
        if (isMissing(error)) return undefined
        throw error
      })
    )
  )
  for (const each of [...floors, contestant]) await each?.slice(task.warmUp)
  const measured: Array<Slice> = []
  const measuredFloors: Array<Array<Slice>> = floors.map(() => [])
  const measureFloors = async () => {
    for (const [index, floor] of floors.entries()) {
      if (floor !== undefined) measuredFloors[index]?.push(await floor.slice(task.slice))
    }
  }
  await measureFloors()
  for (let slice = 0; slice < task.slices; slice++) {
    measured.push(await contestant.slice(task.slice))
    await measureFloors()
  }
  const { violations } = contestant
  say("answer", { slices: measured, floors: measuredFloors, violations })
}

// -----------------------------------------------------------------------------
// crowds
// -----------------------------------------------------------------------------

interface Open {
  waiter: number
  asked: number
  granted: number
  ended: number
}

const workFor = (milliseconds: number) => milliseconds > 0 ? () => pause(milliseconds) : () => undefined

const rounds = async (task: RoundTask) => {
  const session = await (await resolveContestant(task.contestant)).open(task.place)
  const work = workFor(task.work)
  const once = async (key: string, waiters: number): Promise<Round> => {
    const turns: Array<Open> = []
    const begin = now()
    await Promise.all(Array.from({ length: waiters }, (_, waiter) => {
      const turn: Open = { waiter, asked: 0, granted: Number.POSITIVE_INFINITY, ended: Number.POSITIVE_INFINITY }
      turns.push(turn)
      let asked = false
      return session.loop(key, {
        more: () => {
          if (asked) return false
          asked = true
          turn.asked = now()
          return true
        },
        held: () => {
          turn.granted = now()
          const working = work()
          if (working === undefined) {
            turn.ended = now()
            return
          }
          return working.then(() => {
            turn.ended = now()
          })
        }
      })
    }))
    return { milliseconds: now() - begin, turns }
  }
  const warm = now() + task.warmUp
  do await once("bench-warm", task.waiters)
  while (now() < warm)
  // The parent clears the server's counters.
  say("ready")
  await told("go")
  const done: Array<Round> = []
  const deadline = now() + task.within
  while (done.length < task.rounds && (done.length === 0 || now() < deadline)) {
    done.push(await once(`bench-${done.length}`, task.waiters))
  }
  say("answer", done)
}

const member = async (task: MemberTask) => {
  const session = await (await resolveContestant(task.contestant)).open(task.place)
  const warm = now() + task.warmUp
  let taken = 0
  await session.loop(`bench-warm-${task.member}`, {
    more: () => taken++ === 0 || now() < warm,
    held: () => {}
  })
  say("ready")
  const { at } = await told("go")
  const from = at + task.runIn
  const until = from + task.milliseconds
  const work = workFor(task.work)
  const turns: Array<Open> = []
  await pause(Math.max(0, at - now()))
  for (let waiter = 0; waiter < task.waiters; waiter++) {
    let turn: Open
    const begin = () => {
      turn = {
        waiter: task.member * task.waiters + waiter,
        asked: now(),
        granted: Number.POSITIVE_INFINITY,
        ended: Number.POSITIVE_INFINITY
      }
      if (turn.asked >= until) return false
      turns.push(turn)
      return true
    }
    const loop = session.loop("bench-crowd", {
      more: () => pause(Math.random() * task.rest).then(begin),
      held: () => {
        const mine = turn
        mine.granted = now()
        const working = work()
        if (working === undefined) {
          mine.ended = now()
          return
        }
        return working.then(() => {
          mine.ended = now()
        })
      }
    })
    loop.catch(report)
  }
  await pause(Math.max(0, until - now()))
  const over: ReadonlyArray<Turn> = turns.filter(({ granted }) => granted >= from).map((turn) => ({
    ...turn,
    granted: turn.granted <= until ? turn.granted : Number.POSITIVE_INFINITY
  }))
  say("answer", over)
}

// -----------------------------------------------------------------------------
// phases
// -----------------------------------------------------------------------------

const phases = async (task: PhasesTask) => {
  const session = await (await resolveContestant(task.contestant)).open(task.place)
  const phase = async (key: string, milliseconds: number): Promise<Phase> => {
    const begin = now()
    const end = begin + milliseconds
    let done = -1
    let held = 0
    let longest = 0
    let violations = 0
    let last = begin
    let over = false
    const loop = session.loop(key, {
      more: () => {
        if (over) return false
        const time = now()
        done++
        if (done > 0) {
          held--
          longest = Math.max(longest, time - last)
        }
        last = time
        return time < end
      },
      held: () => {
        if (++held !== 1) violations++
      }
    })
    // One that hangs is left behind, with what it took so far.
    await Promise.race([loop, pause(milliseconds + 500)])
    over = true
    const time = now()
    return { done: Math.max(done, 0), milliseconds: time - begin, longest: Math.max(longest, time - last), violations }
  }
  await phase("bench-warm", 100)
  for (let index = 0; index < task.phases; index++) {
    say("ready")
    await told("go")
    say("phase", await phase(`bench-phase-${index}`, task.milliseconds))
  }
}

// -----------------------------------------------------------------------------

// Only who needs it pays for loading effect-lock.
const renewal = async (task: RenewalTask) => {
  const { measureRenewal } = await import("./harness/renewal.ts")
  say("answer", await measureRenewal(task, say, told))
}

const run = (task: Task): Promise<void> => {
  switch (task.kind) {
    case "slices":
      return slices(task)
    case "rounds":
      return rounds(task)
    case "member":
      return member(task)
    case "phases":
      return phases(task)
    case "renewal":
      return renewal(task)
  }
}

process.once("message", (task: Task) => void run(task).catch(report))
