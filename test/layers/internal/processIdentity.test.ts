import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, FileSystem, PlatformError } from "effect"
import { current, isDead, parseStat, type ProcessIdentity } from "../../../src/layers/internal/processIdentity.ts"

const stat = (pid: number, options: { comm?: string; state?: string; threads?: number; start?: string } = {}) => {
  const { comm = "node", start = "4711", state = "S", threads = 11 } = options
  return `${pid} (${comm}) ${state} 1 ${"0 ".repeat(15)}${threads} 0 ${start} 99 0 0\n`
}

const failure = (_tag: PlatformError.SystemErrorTag, code: string) =>
  PlatformError.systemError({ _tag, module: "FileSystem", method: "readFileString", cause: { code } })

/** A machine with these files and links, and no others. */
const machine = (files: Readonly<Record<string, string | PlatformError.PlatformError>>) => {
  const read = (path: string) => {
    const found = files[path] ?? failure("NotFound", "ENOENT")
    return typeof found === "string" ? Effect.succeed(found) : Effect.fail(found)
  }
  return FileSystem.makeNoop({ readFileString: read, readLink: read })
}

const linux = {
  "/proc/sys/kernel/hostname": "host-1\n",
  "/proc/sys/kernel/random/boot_id": "boot-1\n",
  "/proc/self/ns/pid": "pid:[4026531836]",
  "/proc/self/ns/time": "time:[4026531834]",
  "/proc/self/mounts": "proc /proc proc rw,nosuid,nodev 0 0\n/dev/vda / ext4 rw 0 0\n",
  "/proc/self/stat": stat(process.pid)
}

const me: ProcessIdentity = { pid: 10, host: "host-1", bootId: "boot-1", pidNs: "ns", startTime: "100" }
const other: ProcessIdentity = { ...me, pid: 20, startTime: "4711" }

describe("processIdentity", () => {
  it("reads the start time whatever the process calls itself", () => {
    for (const comm of ["node", "a b", "x) S 1 (y", ") Z 0 0", "(((", ""]) {
      assert.deepStrictEqual(parseStat(stat(7, { comm })), { pid: 7, startTime: "4711", ended: false }, comm)
    }
    for (const text of ["", "7", "7 (node", "7 (node) S", "x (node) S 1", stat(7).slice(0, 30)]) {
      assert.strictEqual(parseStat(text), undefined, text)
    }
  })

  it.effect("identifies this process", () =>
    Effect.gen(function*() {
      assert.deepStrictEqual(yield* current(machine(linux)), {
        pid: process.pid,
        host: "host-1",
        bootId: "boot-1",
        pidNs: "pid:[4026531836] time:[4026531834]",
        startTime: "4711"
      })
    }))

  it.effect("claims nothing provable without /proc, with one of another namespace, or one that hides processes", () =>
    Effect.gen(function*() {
      const { "/proc/self/mounts": _, ...noMounts } = linux
      const machines = [
        machine({}),
        machine(noMounts),
        machine({ ...linux, "/proc/self/stat": stat(process.pid + 1) }),
        ...["hidepid=2", "hidepid=invisible", "hidepid=1", "hidepid=ptraceable"].map((option) =>
          machine({ ...linux, "/proc/self/mounts": `proc /proc proc rw,${option},gid=5 0 0\n` })
        )
      ]
      for (const fs of machines) assert.strictEqual((yield* current(fs)).startTime, "")
      const harmless = machine({ ...linux, "/proc/self/mounts": "proc /proc proc rw,hidepid=0 0 0\n" })
      assert.strictEqual((yield* current(harmless)).startTime, "4711")
    }))

  it.effect("proves a death: the process is gone, another has its pid, or only its remains are left", () =>
    Effect.gen(function*() {
      const path = "/proc/20/stat"
      assert(yield* isDead(machine({}), me, other))
      assert(yield* isDead(machine({ [path]: failure("Unknown", "ESRCH") }), me, other))
      assert(yield* isDead(machine({ [path]: stat(20, { start: "4712" }) }), me, other))
      assert(yield* isDead(machine({ [path]: stat(20, { state: "Z", threads: 1 }) }), me, other))
      assert(yield* isDead(machine({}), me, { ...other, pid: me.pid }))
    }))

  it.effect("proves nothing of a process that lives, or that can't be looked at", () =>
    Effect.gen(function*() {
      const path = "/proc/20/stat"
      assert(!(yield* isDead(machine({ [path]: stat(20) }), me, other)))
      assert(!(yield* isDead(machine({ [path]: stat(20, { state: "Z", threads: 3 }) }), me, other)))
      assert(!(yield* isDead(machine({ [path]: "garbage" }), me, other)))
      assert(!(yield* isDead(machine({ [path]: failure("PermissionDenied", "EACCES") }), me, other)))
      assert(!(yield* isDead(machine({ [path]: failure("Unknown", "EMFILE") }), me, other)))
      assert(!(yield* isDead(machine({}), me, me)))
    }))

  it.effect("proves nothing across boots, hosts and namespaces, or where either side is unknown", () =>
    Effect.gen(function*() {
      for (const change of [{ bootId: "boot-2" }, { host: "host-2" }, { pidNs: "ns-2" }, { startTime: "" }]) {
        assert(!(yield* isDead(machine({}), me, { ...other, ...change })), JSON.stringify(change))
        assert(!(yield* isDead(machine({}), { ...me, ...change }, other)), JSON.stringify(change))
      }
    }))

  it.live.skipIf(process.platform !== "linux")(
    "reads the real /proc, whose files say that they are empty",
    () =>
      Effect.gen(function*() {
        const fs = yield* FileSystem.FileSystem
        const self = yield* current(fs)
        assert.strictEqual(self.pid, process.pid)
        assert.match(self.bootId, /^[0-9a-f-]{36}$/)
        assert.match(self.startTime, /^\d+$/)
        const parent = parseStat(yield* fs.readFileString(`/proc/${process.ppid}/stat`))
        assert(parent !== undefined)
        const living = { ...self, pid: process.ppid, startTime: parent.startTime }
        assert(!(yield* isDead(fs, self, living)))
        assert(yield* isDead(fs, self, { ...living, startTime: `${Number(parent.startTime) + 1}` }))
      }).pipe(Effect.provide(NodeServices.layer))
  )
})
