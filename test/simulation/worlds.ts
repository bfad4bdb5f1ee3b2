/**
 * Everything that is simulated, by the name of its mix of faults.
 */
import * as File from "effect-lock/layers/File"
import { Simulation } from "effect-lock/testing"
import { fileMixes, fileModel } from "./fileModel.ts"

export interface Simulated {
  readonly mix: Simulation.Mix
  /** What the processes share; the model server unless it is given. */
  readonly model?: Simulation.Options["model"]
  /** How much of it a test does: a step on a disk each costs more than a request to a server. */
  readonly share: number
}

const files = fileModel(File.make)

export const worlds: Readonly<Record<string, Simulated>> = Object.fromEntries([
  ...Object.entries(Simulation.mixes).map(([name, mix]) => [name, { mix, share: 1 }] as const),
  ...Object.entries(fileMixes).map(([name, mix]) => [name, { mix, model: files, share: 0.1 }] as const)
])
