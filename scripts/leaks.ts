// `npm run leaks`: acquire and release over and over, and count what stays.
//
//   npm run leaks                                 10⁶ cycles in memory, 10⁵ on each server, and the two great loads
//   npm run leaks -- --scale 0.1                  a tenth of everything
//   npm run leaks -- --backend redis,etcd         only these
import { Effect } from "effect"
import { parseArgs } from "node:util"
import { grounds } from "../test/leaks/ground.ts"
import { manyLeases, outage } from "../test/leaks/load.ts"
import { measure } from "../test/leaks/measure.ts"
import { isInstalled } from "../test/servers/ServerProcess.ts"

const main = async (): Promise<number> => {
  const { values } = parseArgs({ options: { backend: { type: "string" }, scale: { type: "string" } } })
  const names = values.backend?.split(",") ?? grounds.map(({ name }) => name)
  const scale = Number(values.scale ?? 1)
  if (!(scale > 0 && scale <= 10) || names.some((name) => grounds.every((ground) => ground.name !== name))) {
    console.error(`--scale is a number above 0, --backend some of: ${grounds.map(({ name }) => name).join(", ")}`)
    return 2
  }
  const wrong: Array<string> = []
  const judge = (isWell: boolean, text: string) => {
    console.log(`${isWell ? "ok     " : "BROKEN "}${text}`)
    if (!isWell) wrong.push(text)
  }
  const many = (count: number) => Math.max(Math.round(count * scale), 100)
  const chosen = grounds.filter(({ name }) => names.includes(name))
  const there = chosen.filter(({ program }) => program === undefined || isInstalled(program))
  for (const { name, program } of chosen) {
    if (there.every((ground) => ground.name !== name)) console.log(`${name} is left out: ${program} is not installed`)
  }

  for (const ground of there) {
    const cycles = many(1_000_000 / ground.weight)
    const amounts = {
      cycles,
      interrupted: many(10_000),
      failed: many(10_000),
      waiters: many(10_000),
      // A few hundred kilobytes come with time, not with cycles: code that is compiled anew. Few cycles can't tell them
      // apart, and after many it is measured again.
      allowed: scale < 1 ? Math.max(1, 300_000 / cycles) : 1
    }
    const found = await Effect.runPromise(Effect.scoped(measure(ground, amounts)))
    const { bytesPerCycle, callsPerAcquisition, cyclesPerSecond, left } = found
    judge(
      bytesPerCycle <= amounts.allowed,
      `${ground.name}: ${bytesPerCycle.toFixed(2)} bytes of heap per cycle, over ${cycles} cycles `
        + `(${Math.round(cyclesPerSecond)} a second)`
    )
    judge(
      callsPerAcquisition <= 6,
      `${ground.name}: ${callsPerAcquisition.toFixed(2)} calls per acquisition, ${amounts.waiters} waiters on one key`
    )
    judge(left.length === 0, `${ground.name}: ${left.length === 0 ? "nothing is left" : left.join("; ")}`)
  }

  if (names.includes("memory")) {
    const { bytesLeft, bytesPerLease, delay, leases, lost, renewalsPerSecond } = await Effect.runPromise(
      manyLeases(many(100_000), 30_000)
    )
    judge(
      lost === 0,
      `${leases} leases held: ${Math.round(bytesPerLease)} bytes each, ${Math.round(renewalsPerSecond)} renewals a `
        + `second, event loop late by ${delay.toFixed(1)} ms at the 99th percentile, ${lost} lost`
    )
    judge(bytesLeft <= 100, `${leases} leases given back: ${Math.round(bytesLeft)} bytes left of each`)
  }

  for (const ground of there) {
    if (ground.program === undefined) continue
    const found = await Effect.runPromise(Effect.scoped(outage(ground, many(10_000), 10_000)))
    const { allAfter, bytesPerWaiter, callsPerSecond, failed, firstAfter, waiters } = found
    judge(
      callsPerSecond <= 50 && bytesPerWaiter <= 100 && failed === 0,
      `${ground.name} down, ${waiters} waiters: ${callsPerSecond.toFixed(1)} calls a second, `
        + `${Math.round(bytesPerWaiter)} bytes more per waiter, ${failed} failed; served again ${
          Math.round(firstAfter)
        } `
        + `ms after its return, all of them after ${Math.round(allAfter)} ms`
    )
  }
  console.log(wrong.length === 0 ? "nothing leaks" : `${wrong.length} of these are broken`)
  return wrong.length === 0 ? 0 : 1
}

process.exitCode = await main()
