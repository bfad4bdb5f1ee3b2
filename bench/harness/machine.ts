/** Where it was measured, and with which versions: a number without them says nothing. */
import { spawnSync } from "node:child_process"
import { existsSync, readFileSync } from "node:fs"
import { cpus, loadavg, release, totalmem, type } from "node:os"
import { fileURLToPath } from "node:url"

const root = fileURLToPath(new URL("../../", import.meta.url))

/** The first line that a program prints. */
const said = (program: string, ...args: ReadonlyArray<string>): string | undefined => {
  const { status, stdout } = spawnSync(program, args, { encoding: "utf8", cwd: root })
  return status === 0 ? stdout.split("\n")[0]?.trim() : undefined
}

export const machine = (): Readonly<Record<string, string | number>> => ({
  CPU: cpus()[0]?.model.trim() ?? "unknown",
  CPUs: cpus().length,
  "memory in GB": Math.round(totalmem() / 1e9),
  system: `${type()} ${release()}`,
  "load average at the start": Math.round((loadavg()[0] ?? 0) * 100) / 100
})

const versionIn = (folder: string): string | undefined => {
  const file = `${root}${folder}/package.json`
  if (!existsSync(file)) return undefined
  const { version }: { version?: string } = JSON.parse(readFileSync(file, "utf8"))
  return version
}

const number = (text: string | undefined): string | undefined => /\d+\.\d+(\.\d+)?/.exec(text ?? "")?.[0]

const peers = [
  ...["redlock4", "redlock5", "@sesamecare-oss/redlock", "redlock-universal", "redis-semaphore", "simple-redis-mutex"],
  ...["ioredis", "redis", "etcd3", "memjs", "memcache", "proper-lockfile", "async-mutex", "esbuild"]
]

/** What is not there has no version. */
export const versions = (): Readonly<Record<string, string>> => {
  const commit = said("git", "rev-parse", "--short", "HEAD")
  const changed = said("git", "status", "--porcelain", "--", "src") === "" ? "" : ", changed since"
  const all: ReadonlyArray<readonly [string, string | undefined]> = [
    ["effect-lock", `${versionIn(".")}${commit === undefined ? "" : ` (${commit}${changed})`}`],
    ["effect", versionIn("node_modules/effect")],
    ["ioredis of effect-lock", versionIn("node_modules/ioredis")],
    ["node", process.versions.node],
    ["redis-server", number(said("redis-server", "--version"))],
    ["memcached", number(said("memcached", "--version"))],
    ["etcd", number(said("etcd", "--version"))],
    ...peers.map((name) => [name, versionIn(`bench/peers/node_modules/${name}`)] as const),
    ["effect-distributed-lock", versionIn("bench/effect3/node_modules/effect-distributed-lock")],
    ["effect of effect-distributed-lock", versionIn("bench/effect3/node_modules/effect")],
    ["ioredis of effect-distributed-lock", versionIn("bench/effect3/node_modules/ioredis")]
  ]
  return Object.fromEntries(all.flatMap(([name, version]) => version === undefined ? [] : [[name, version]]))
}
