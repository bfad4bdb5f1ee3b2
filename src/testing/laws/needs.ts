/**
 * What a law needs of a backend, and the words for its absence.
 */
import type { Law } from "../Law.ts"

type Need = Law["inapplicable"]

/** The backend can push wake-ups. */
export const awaitTurn: Need = ({ first }) =>
  first.awaitTurn === undefined ? "the backend has no awaitTurn: it can't push wake-ups" : undefined

/** The backend can list keys. */
export const list: Need = ({ first }) => first.list === undefined ? "the backend has no list" : undefined

/** The backend can break locks. */
export const breaking: Need = ({ first }) => first.break === undefined ? "the backend has no break" : undefined

/** The backend can drain locks. */
export const draining: Need = (environment) =>
  breaking(environment) ?? (environment.first.capabilities.drain ? undefined : "the backend can't drain a lock")

/** The backend has fencing tokens. */
export const tokens: Need = ({ first: { capabilities: { fencing } } }) =>
  fencing.grade === "none" ? `the backend has no fencing tokens: ${fencing.condition}` : undefined

/** The backend has no fencing tokens. */
export const noTokens: Need = ({ first: { capabilities: { fencing } } }) =>
  fencing.grade === "none" ? undefined : "the backend has fencing tokens"

/** The backend remembers dead owner ids. */
export const tombstones: Need = ({ first }) =>
  first.capabilities.lateWrites === "refused" ? undefined : "late writes may take the key until their ttl ends"

/** The backend does not remember dead owner ids. */
export const noTombstones: Need = ({ first }) =>
  first.capabilities.lateWrites === "untilTtl" ? undefined : "late writes are refused"

/** The environment can make backends of other namespaces. */
export const namespaces: Need = ({ withNamespace }) =>
  withNamespace === undefined ? "the environment has no withNamespace" : undefined
