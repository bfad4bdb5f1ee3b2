/**
 * Runs a program to its end, for tests of what users run.
 */
import { execFile } from "node:child_process"

export interface Outcome {
  readonly code: number | string
  readonly stdout: string
  readonly stderr: string
}

/** The environment without what npm and vitest put there: a user's shell has neither. */
const environment = (): NodeJS.ProcessEnv =>
  Object.fromEntries(
    Object.entries(process.env).filter(([name]) =>
      !/^(npm_|VITEST|NODE_OPTIONS$|NODE_ENV$|CI$|FORCE_COLOR$)/.test(name)
    )
  )

export const run = (
  command: string,
  args: ReadonlyArray<string>,
  options: { readonly cwd: string; readonly timeout?: number; readonly env?: Readonly<Record<string, string>> }
): Promise<Outcome> =>
  new Promise((resolve) => {
    execFile(command, args, {
      cwd: options.cwd,
      env: { ...environment(), NO_COLOR: "1", ...options.env },
      timeout: options.timeout ?? 100_000,
      killSignal: "SIGKILL",
      maxBuffer: 64 * 1024 * 1024
    }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : error.code ?? `killed by ${error.signal}`, stdout, stderr })
    })
  })

/** Fails, with all that was printed, unless the program ended well. */
export const succeed = async (...call: Parameters<typeof run>): Promise<Outcome> => {
  const outcome = await run(...call)
  if (outcome.code === 0) return outcome
  const [command, args] = call
  throw new Error([`${command} ${args.join(" ")}: ${outcome.code}`, outcome.stdout, outcome.stderr].join("\n"))
}
