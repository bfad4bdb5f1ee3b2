/** Each contestant is measured in a process of its own: what it leaves behind, or dies of, is nobody else's. */
import { type ChildProcess, fork } from "node:child_process"
import { fileURLToPath } from "node:url"
import type { Task } from "./tasks.ts"

/** Why there is no answer. */
export class NoAnswer extends Error {
  readonly status: "not installed" | "failed"
  constructor(status: "not installed" | "failed", message: string) {
    super(message)
    this.status = status
  }
}

export interface Child {
  /** The next message of that kind; rejects with `NoAnswer` when the child can't send one any more. */
  readonly next: <A>(kind: string, within: number) => Promise<A>
  readonly send: (message: object) => void
  readonly end: () => Promise<void>
}

interface Message {
  readonly kind: string
  readonly value?: unknown
}

export const start = (task: Task): Child => {
  const child: ChildProcess = fork(fileURLToPath(new URL("../child.ts", import.meta.url)), {
    serialization: "advanced",
    // Compiled once, not once per process: a crowd of fifty has to start.
    env: { ...process.env, NODE_COMPILE_CACHE: fileURLToPath(new URL("../../.tmp/bench-compiled", import.meta.url)) },
    stdio: ["ignore", "ignore", "pipe", "ipc"]
  })
  const messages: Array<Message> = []
  let said = ""
  let problem: NoAnswer | undefined
  let wake = () => {}
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()))
  child.stderr?.on("data", (text) => {
    said = (said + String(text)).slice(-2000)
  })
  child.on("message", (message: Message) => {
    if (message.kind === "problem") {
      const { missing, text } = message.value as { missing: boolean; text: string }
      problem ??= new NoAnswer(missing ? "not installed" : "failed", text)
    } else messages.push(message)
    wake()
  })
  child.once("exit", (code, signal) => {
    problem ??= new NoAnswer("failed", `its process ended (${signal ?? code}) ${said.trim().split("\n").at(-1) ?? ""}`)
    wake()
  })
  child.once("error", (error) => {
    problem ??= new NoAnswer("failed", error.message)
    wake()
  })
  const send = (message: object) => {
    if (child.connected) child.send(message)
  }
  send(task)
  return {
    send,
    next: async <A>(kind: string, within: number): Promise<A> => {
      const deadline = performance.now() + within
      for (;;) {
        const index = messages.findIndex((message) => message.kind === kind)
        const [found] = index < 0 ? [] : messages.splice(index, 1)
        if (found !== undefined) return found.value as A
        if (problem !== undefined) throw problem
        const left = deadline - performance.now()
        if (left <= 0) throw new NoAnswer("failed", `no answer within ${(within / 1000).toFixed(0)} s`)
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, left)
          wake = () => {
            clearTimeout(timer)
            resolve()
          }
        })
      }
    },
    end: async () => {
      child.kill("SIGKILL")
      await exited
    }
  }
}

/** Asks for one answer. */
export const ask = async <A>(task: Task, within: number): Promise<A> => {
  const child = start(task)
  try {
    return await child.next<A>("answer", within)
  } finally {
    await child.end()
  }
}
