/**
 * Histories by the thousand, on several cores: processes that take what is to be simulated piece by piece.
 */
import { type ChildProcess, fork } from "node:child_process"

/** Seeds of one mix, from `from` on and below `to`, by so many processes in so many rounds. */
export interface Piece {
  readonly name: string
  readonly processes: number
  readonly rounds: number
  readonly from: number
  readonly to: number
}

export interface Done {
  readonly histories: number
  readonly acquired: number
  readonly trustedWrites: number
  readonly lost: number
  /** The seed that failed, if one did: those after it were not simulated. */
  readonly failed: number | undefined
}

/** A piece as many, so that no process is left alone with the last of it. */
export const split = ({ from, to, ...rest }: Piece, most: number): ReadonlyArray<Piece> => {
  const pieces: Array<Piece> = []
  for (let at = from; at < to; at += most) pieces.push({ ...rest, from: at, to: Math.min(at + most, to) })
  return pieces
}

// Most of what a history makes is garbage at once: with a larger nursery it costs a sixth less time.
const execArgv = ["--conditions=effect-lock-source", "--min-semi-space-size=32", "--max-semi-space-size=64"]

export class Histories {
  private readonly children: ReadonlyArray<ChildProcess>

  constructor(cores: number) {
    const child = new URL("historyProcess.ts", import.meta.url)
    this.children = Array.from({ length: cores }, () => fork(child, { execArgv }))
  }

  /** Simulates these, until one fails or there are no more; tells of each that is done. */
  async run(pieces: Iterable<Piece>, onDone: (done: Done, piece: Piece) => void): Promise<Failed | undefined> {
    const all = pieces[Symbol.iterator]()
    let failed: Failed | undefined
    const work = async (child: ChildProcess) => {
      for (let next = all.next(); !next.done && failed === undefined; next = all.next()) {
        const piece = next.value
        const done = await ask(child, piece)
        onDone(done, piece)
        if (done.failed !== undefined) failed ??= { ...piece, seed: done.failed }
      }
    }
    await Promise.all(this.children.map(work))
    return failed
  }

  close(): void {
    for (const child of this.children) child.kill()
  }
}

export interface Failed extends Piece {
  readonly seed: number
}

const ask = (child: ChildProcess, piece: Piece): Promise<Done> =>
  new Promise((resolve, reject) => {
    const gone = (code: number | null) => reject(new Error(`a process of the simulation ended with ${code}`))
    child.once("exit", gone)
    child.once("message", (done: Done) => {
      child.off("exit", gone)
      resolve(done)
    })
    child.send(piece)
  })
