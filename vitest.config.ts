import { defineConfig } from "vitest/config"

// Maps the package's own name, in tests, to src instead of dist.
const source = "effect-lock-source"
// Vite's own conditions for servers, after ours.
const conditions = [source, "module", "node", "development|production"]

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: {
    include: ["test/**/*.test.ts"],
    pool: "forks",
    // One more than the cores of a small machine: many files wait for servers most of their time.
    maxWorkers: 3,
    // Of tests that say they may run side by side; they mostly wait for servers.
    maxConcurrency: 12,
    // What is not bundled by vitest is resolved by Node itself.
    execArgv: [`--conditions=${source}`],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    passWithNoTests: false,
    dangerouslyIgnoreUnhandledErrors: false
  }
})
