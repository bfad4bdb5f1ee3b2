/**
 * The set-up of a bare machine, in a folder of its own and with an npm that only does what each test says.
 */
import { assert, describe, it } from "@effect/vitest"
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync
} from "node:fs"
import { tmpdir } from "node:os"
import * as path from "node:path"
import { run } from "./command.ts"

const root = path.dirname(import.meta.dirname)

const locked = {
  "": { devDependencies: { tool: "^1.0.0" } },
  "node_modules/tool": { version: "1.0.1", integrity: "sha512-tool" },
  "node_modules/tool-for-another-machine": { version: "1.0.1", optional: true }
}

/** What npm leaves behind: its record of what it installed, and the `node` of the package of that name. */
const install = `
mkdir -p node_modules/.bin
cp package-lock.json node_modules/.package-lock.json
printf '#!/bin/sh\\necho v24.0.0\\n' > node_modules/.bin/node
chmod +x node_modules/.bin/node
`

interface SetUp {
  readonly code: unknown
  readonly output: string
  readonly npm: Array<string>
}

interface Machine {
  readonly file: (name: string) => string
  readonly write: (name: string, text: string) => void
  /** What npm does from now on. */
  readonly npm: (script: string) => void
  /** Runs the set-up; answers with its exit code, what it printed, and how npm was called. */
  readonly setup: (...args: ReadonlyArray<string>) => Promise<SetUp>
  readonly setupWith: (env: { readonly PATH: string }, ...args: ReadonlyArray<string>) => Promise<SetUp>
}

const onBareMachine = (use: (machine: Machine) => Promise<void>) => async () => {
  const folder = mkdtempSync(path.join(tmpdir(), "effect-lock-setup-"))
  const file = (name: string) => path.join(folder, name)
  const write: Machine["write"] = (name, text) => {
    mkdirSync(path.dirname(file(name)), { recursive: true })
    writeFileSync(file(name), text)
    chmodSync(file(name), 0o755)
  }
  const npm: Machine["npm"] = (script) => write("bin/npm", `#!/bin/sh\necho "$1 $2" >> "${file("calls")}"\n${script}`)
  try {
    cpSync(path.join(root, "scripts/setup.mjs"), file("scripts/setup.mjs"))
    write("package-lock.json", JSON.stringify({ packages: locked }))
    npm(install)
    const setupWith: Machine["setupWith"] = async (env, ...args) => {
      rmSync(file("calls"), { force: true })
      const { code, stderr, stdout } = await run(process.execPath, [file("scripts/setup.mjs"), ...args], {
        cwd: folder,
        env
      })
      const calls = existsSync(file("calls")) ? readFileSync(file("calls"), "utf8").trim().split("\n") : []
      return { code, output: stdout + stderr, npm: calls }
    }
    const paths = [file("node_modules/.bin"), file("bin"), process.env["PATH"]]
    await use({
      file,
      write,
      npm,
      setupWith,
      setup: (...args) => setupWith({ PATH: paths.join(path.delimiter) }, ...args)
    })
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

describe("the set-up", () => {
  it(
    "installs what is missing, once",
    onBareMachine(async ({ setup }) => {
      const first = await setup("start")
      assert.strictEqual(first.code, 0, first.output)
      assert.deepStrictEqual(first.npm, ["ci --include=dev"])
      for (const args of [["start"], ["test"], []]) {
        assert.deepStrictEqual(await setup(...args), { code: 0, output: "", npm: [] })
      }
    })
  )

  it(
    "installs again when the lock file asks for something else",
    onBareMachine(async ({ setup, write }) => {
      await setup()
      for (
        const tool of [{ version: "1.0.2", integrity: "sha512-tool" }, { version: "1.0.2", integrity: "sha512-other" }]
      ) {
        write("package-lock.json", JSON.stringify({ packages: { ...locked, "node_modules/tool": tool } }))
        assert.deepStrictEqual((await setup()).npm, ["ci --include=dev"])
        assert.deepStrictEqual((await setup()).npm, [])
      }
      write("package-lock.json", JSON.stringify({ packages: { ...locked, "node_modules/more": { version: "1.0.0" } } }))
      assert.deepStrictEqual((await setup()).npm, ["ci --include=dev"])
    })
  )

  it(
    "does not miss what npm leaves out on this platform",
    onBareMachine(async ({ file, setup, write }) => {
      await setup()
      const { "node_modules/tool-for-another-machine": _, ...installed } = locked
      write("node_modules/.package-lock.json", JSON.stringify({ packages: installed }))
      assert.deepStrictEqual(await setup(), { code: 0, output: "", npm: [] })
      rmSync(file("node_modules/.package-lock.json"))
      assert.deepStrictEqual((await setup()).npm, ["ci --include=dev"])
    })
  )

  it(
    "says so and fails when npm fails",
    onBareMachine(async ({ npm, setup }) => {
      npm("exit 7")
      const { code, output } = await setup()
      assert.strictEqual(code, 1)
      assert.match(output, /setup: npm ci failed, see above.*npm run setup/)
    })
  )

  it(
    "installs the Node.js of the scripts when npm did not",
    onBareMachine(async ({ npm, setup }) => {
      npm(`if [ "$1" = ci ]; then ${install} rm node_modules/.bin/node; else ${install} fi`)
      assert.deepStrictEqual((await setup()).npm, ["ci --include=dev", "rebuild node"])
      assert.deepStrictEqual((await setup()).npm, [])
    })
  )

  it(
    "leaves the scripts to the machine's own Node.js when the other one does not run",
    onBareMachine(async ({ file, npm, setup, write }) => {
      await setup()
      for (const broken of ["#!/bin/sh\nexit 1\n", "#!/bin/sh\necho v22.18.0\n"]) {
        npm("exit 1")
        write("node_modules/.bin/node", broken)
        const { code, npm: calls, output } = await setup()
        assert.strictEqual(code, 0, output)
        assert.deepStrictEqual(calls, ["rebuild node"])
        assert.isFalse(existsSync(file("node_modules/.bin/node")))
        assert.deepStrictEqual((await setup()).npm, [])
      }
    })
  )

  // The machine as it is, without the folders where servers may be.
  const withoutServers = (machine: Machine, apt: string) => {
    for (const tool of ["sh", "cp", "mkdir", "chmod", "env"]) {
      symlinkSync(`/bin/${tool}`, machine.file(`bin/${tool}`))
    }
    machine.write("bin/apt-get", `#!/bin/sh\necho "$@" >> "${machine.file("apt")}"\n${apt}`)
    return { PATH: [machine.file("node_modules/.bin"), machine.file("bin")].join(path.delimiter) }
  }
  const asRoot = process.platform === "linux" && process.getuid?.() === 0

  it.skipIf(!asRoot)(
    "installs the servers of the tests, once, and only for the tests",
    onBareMachine(async (machine) => {
      const { file, write } = machine
      const server = "#!/bin/sh\n"
      write("server", server)
      const copies = ["redis-server", "memcached", "etcd"].map((name) =>
        `cp "${file("server")}" "${file("bin")}/${name}"`
      )
      const env = withoutServers(machine, `if [ "$2" = install ]; then ${copies.join("; ")}; fi`)
      assert.strictEqual((await machine.setupWith(env, "start")).code, 0)
      assert.isFalse(existsSync(file("apt")))
      const { code, output } = await machine.setupWith(env, "test")
      assert.strictEqual(code, 0, output)
      const calls = ["-qq update", "-qq install -y --no-install-recommends redis-server memcached etcd-server"]
      assert.deepStrictEqual(readFileSync(file("apt"), "utf8").trim().split("\n"), calls)
      assert.deepStrictEqual(await machine.setupWith(env, "test"), { code: 0, output: "", npm: [] })
    })
  )

  it.skipIf(!asRoot)(
    "names the servers that it could not install, and goes on without them",
    onBareMachine(async (machine) => {
      const env = withoutServers(machine, "exit 100")
      const { code, output } = await machine.setupWith(env, "test")
      assert.strictEqual(code, 0, output)
      assert.match(output, /NOT INSTALLED: redis-server, memcached, etcd\. .*skipped/)
    })
  )

  it(
    "refuses a purpose that it does not know",
    onBareMachine(async ({ setup }) => {
      const { code, npm, output } = await setup("everything")
      assert.strictEqual(code, 1)
      assert.match(output, /start or test, not everything/)
      assert.deepStrictEqual(npm, [])
    })
  )
})
