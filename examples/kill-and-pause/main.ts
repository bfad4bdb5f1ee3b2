/**
 * Several processes increment one counter under one lock; one of them is killed and one is paused while it holds the
 * lock; then the evidence is judged.
 *
 *     npm start                       with the lock: all promises hold, exit code 0
 *     npm start -- --without-lock     the same work without it: what goes wrong is found, exit code 1
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Config, Console, Data, Effect, FileSystem, Option, Runtime, Stdio } from "effect"
import * as Crew from "./crew.ts"
import * as Evidence from "./evidence.ts"
import { now } from "./hostClock.ts"
import * as Journal from "./journal.ts"
import { NotCarriedOut } from "./notCarriedOut.ts"
import * as Scenario from "./scenario.ts"
import * as Timeline from "./timeline.ts"
import * as Verdict from "./verdict.ts"

const names = ["ann", "bob", "cid", "dee"] as const

const deadline = "60 seconds"

class Broken extends Data.TaggedError("Broken") {
  // The verdict has said it all.
  override readonly [Runtime.errorReported] = false
}

const demonstration = Effect.gen(function*() {
  const fs = yield* FileSystem.FileSystem
  const stdio = yield* Stdio.Stdio
  const args = yield* stdio.args
  const unknown = args.find((arg) => arg !== "--without-lock")
  if (unknown !== undefined) return yield* new NotCarriedOut({ message: `${unknown} is no option; --without-lock is` })
  if (process.platform === "win32") return yield* new NotCarriedOut({ message: "Windows can't pause a process" })
  const locked = args.length === 0
  const noColour = yield* Config.option(Config.NonEmptyString("NO_COLOR"))

  const directory = yield* fs.makeTempDirectoryScoped({ prefix: "effect-lock-start-" })
  yield* Console.log(
    locked
      ? `Four processes increment one counter under one lock (files in ${directory});`
        + " one is killed and one is paused while it holds the lock."
      : "Four processes increment one counter without a lock; one is killed and one is paused at work."
  )
  const timeline = Timeline.make({
    workers: names,
    startedAt: yield* now,
    colour: (yield* stdio.stdoutIsTerminal) && Option.isNone(noColour)
  })
  const journal = yield* Journal.make(timeline.tell)
  const register = yield* Crew.startRegister(directory, journal)
  const mode = locked ? "with-lock" : "without-lock"
  const start = (name: string) => Crew.startWorker(name, { directory, mode, journal })
  const workers = yield* Effect.all([start(names[0]), start(names[1]), start(names[2]), start(names[3])])

  yield* Effect.raceAllFirst([
    Scenario.play({ workers, journal, timeline, locked }),
    register.failure,
    ...workers.map((worker) => worker.failure)
  ])

  const findings = Verdict.judge(Evidence.gather(yield* journal.entries, yield* register.close))
  yield* timeline.chapter("Verdict, computed from what the workers and the register recorded")
  yield* Console.log(Verdict.format(findings))
  if (findings.some(({ broken }) => broken.length > 0)) return yield* new Broken()
})

// A closed terminal ends the program in order, too: the processes and files that it made go with it.
const hangUp = Effect.callback<never>((resume) => {
  const interrupt = () => resume(Effect.interrupt)
  process.once("SIGHUP", interrupt)
  process.stdout.once("error", interrupt)
})

const late = new NotCarriedOut({ message: `it was not over after ${deadline}` })

demonstration.pipe(
  Effect.scoped,
  Effect.timeoutOrElse({ duration: deadline, orElse: () => Effect.fail(late) }),
  Effect.raceFirst(hangUp),
  Effect.tapErrorTag("NotCarriedOut", ({ message }) => Console.error(`\nThis could not be carried out: ${message}.`)),
  Effect.provide(NodeServices.layer),
  NodeRuntime.runMain
)
