/**
 * Tools for testing backends and programs that use locks.
 *
 * - `BackendLaws`: what every backend must keep, as values.
 * - `FaultyBackend`: a backend whose network a test controls.
 * - `Doubles`: backends that behave in one known way.
 * - `Simulation`: the core in thousands of made-up histories, against a server that knows the truth.
 */
export * as BackendLaws from "./BackendLaws.ts"
export * as Doubles from "./Doubles.ts"
export * as FaultyBackend from "./FaultyBackend.ts"
export * as Simulation from "./simulation/Simulation.ts"
