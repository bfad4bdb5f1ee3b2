/** Installs what effect-lock is measured against, where it is missing or older than its lock file. */
import { spawnSync } from "node:child_process"
import { existsSync, statSync } from "node:fs"
import { fileURLToPath } from "node:url"

const isStale = (folder: string): boolean => {
  const installed = `${folder}/node_modules/.package-lock.json`
  return !existsSync(installed) || statSync(installed).mtimeMs < statSync(`${folder}/package-lock.json`).mtimeMs
}

export const installPeers = (log: (line: string) => void): void => {
  for (const name of ["peers", "effect3"]) {
    const folder = fileURLToPath(new URL(name, import.meta.url))
    if (!isStale(folder)) continue
    log(`Installing bench/${name} …`)
    const { status } = spawnSync("npm", ["ci", "--no-audit", "--no-fund", "--silent"], {
      cwd: folder,
      stdio: "inherit",
      shell: process.platform === "win32"
    })
    // Whoever is missing is listed as such.
    if (status !== 0) log(`bench/${name} could not be installed: its contestants are left out`)
  }
}
