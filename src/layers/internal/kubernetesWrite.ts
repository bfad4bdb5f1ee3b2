/**
 * A Lease object as it is written: each write is the whole object, with uid and resourceVersion of what it replaces.
 *
 * The API server takes it only if nothing was written in between (resourceVersion) and the object was not deleted and
 * made anew (uid): without the uid, a write to a deleted object would make it again.
 */
import * as DateTime from "effect/DateTime"
import type { ReleaseRequest } from "../../LockBackend.ts"
import { annotation, deadOf, grantOf, holderIdentity, type LeaseObject, noteOf, tokenOf } from "./kubernetesLease.ts"
import type { Place } from "./kubernetesName.ts"

/** The part of an object that we write. The server fills in the rest. */
export interface Writing {
  readonly apiVersion: "coordination.k8s.io/v1"
  readonly kind: "Lease"
  readonly metadata: Readonly<Record<string, unknown>> & {
    readonly name: string
    readonly uid?: string
    readonly annotations: Readonly<Record<string, string>>
  }
  readonly spec: Readonly<Record<string, unknown>>
}

/** The labels of our objects; `namespace` is hashed, because labels are short. */
export const label = { manager: "app.kubernetes.io/managed-by", namespace: "effect-lock/namespace" } as const

/** The value of `label.manager`. */
export const manager = "effect-lock"

/** Where an object goes. */
export interface Target {
  readonly place: Place
  /** The value of `label.namespace`. */
  readonly label: string
}

/** What a holder says with each of its writes. */
export interface SignOfLife {
  /** With six digits, on the holder's clock. */
  readonly now: string
  /** Milliseconds since 1970, not before the server's own time; `undefined` if the server does not tell its time. */
  readonly serverTime: number | undefined
  /** Whole seconds. */
  readonly seconds: number
}

/** Takes a free or expired lock, or makes it (`found` is `undefined`). */
export const take = (
  target: Target,
  found: LeaseObject | undefined,
  by: SignOfLife & {
    readonly ownerId: string
    readonly grant: string
    readonly metadata: Readonly<Record<string, string>>
  }
): Writing =>
  write(target, found, {
    annotations: {
      ...unheld,
      ownerId: by.ownerId,
      grant: by.grant,
      renewals: "0",
      serverTime: noted(by.serverTime),
      metadata: JSON.stringify(by.metadata)
    },
    spec: {
      holderIdentity: by.ownerId,
      leaseDurationSeconds: by.seconds,
      acquireTime: by.now,
      renewTime: by.now,
      leaseTransitions: nextTransition(found)
    }
  })

/** Keeps a lock for its holder. It never lives shorter than it did. */
export const renew = (
  target: Target,
  found: LeaseObject,
  by: SignOfLife & { readonly metadata?: Readonly<Record<string, string>> | undefined }
): Writing =>
  write(target, found, {
    annotations: {
      renewals: String(Number(noteOf(found, "renewals") ?? 0) + 1),
      fencingToken: tokenOf(found).toString(),
      serverTime: noted(by.serverTime),
      ...(by.metadata === undefined ? {} : { metadata: JSON.stringify(by.metadata) })
    },
    spec: { renewTime: by.now, leaseDurationSeconds: by.seconds }
  })

/** Frees a lock, in the form that client-go gives a lease back in: the object stays. */
export const free = (target: Target, found: LeaseObject | undefined, now: string, dead?: Death): Writing =>
  write(target, found, {
    annotations: { ...unheld, ...(dead === undefined ? {} : { dead: buried(found, dead) }) },
    spec: {
      holderIdentity: undefined,
      // The least that an API server takes.
      leaseDurationSeconds: 1,
      renewTime: now,
      acquireTime: now,
      leaseTransitions: found?.spec?.leaseTransitions ?? 0
    }
  })

/** Marks the present grant as one that must not be renewed. */
export const drain = (target: Target, found: LeaseObject): Writing =>
  write(target, found, { annotations: { ...tokenKept(found), draining: grantOf(found) }, spec: {} })

/** Notes a dead owner id on an object that it does not hold. */
export const bury = (target: Target, found: LeaseObject, dead: Death): Writing =>
  write(target, found, { annotations: { ...tokenKept(found), dead: buried(found, dead) }, spec: {} })

/**
 * Whether `kept`, which the server answers with, is what was written: that object, holder, grant and duration.
 *
 * A server, or a cache on the way, that shows anything else has not said that the write was done.
 */
export const isKept = ({ metadata, spec }: Writing, kept: LeaseObject): boolean => {
  const holder = holderIdentity(kept)
  return kept.metadata.name === metadata.name
    && (metadata.uid === undefined || kept.metadata.uid === metadata.uid)
    && (holder ?? "") === (spec["holderIdentity"] ?? "")
    // That of a free lock means nothing.
    && (holder === undefined ||
      (kept.spec?.leaseDurationSeconds ?? undefined) === (spec["leaseDurationSeconds"] ?? undefined))
    && noteNames.every((name) => noteOf(kept, name) === metadata.annotations[annotation[name]])
}

/** Whose life is over, and the wall clock's time in milliseconds. */
export interface Death {
  readonly ownerId: ReleaseRequest["ownerId"]
  readonly wall: number
}

/**
 * How long a dead owner id is noted, in milliseconds. What its attempts sent late is refused anyway, because noting it
 * changed the object; so clocks that differ, on which these end sooner or later, do no harm.
 */
export const noteLife = 120_000

/** How many of them at most. */
export const mostNotes = 64

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

type Notes = { readonly [K in keyof typeof annotation]?: string | undefined }

const unheld: Notes = {
  ownerId: undefined,
  grant: undefined,
  renewals: undefined,
  fencingToken: undefined,
  serverTime: undefined,
  metadata: undefined,
  draining: undefined
}

const write = (
  { label: namespaceLabel, place }: Target,
  found: LeaseObject | undefined,
  change: { readonly annotations: Notes; readonly spec: Readonly<Record<string, unknown>> }
): Writing => {
  // What the server keeps about managers is large, and absent means "as it was".
  const { managedFields: _, ...metadata } = found?.metadata ?? { name: place.name, managedFields: undefined }
  const annotations = new Map(Object.entries(found?.metadata.annotations ?? {}))
  const notes: Notes = { ...change.annotations, namespace: place.namespace, key: place.key }
  for (const name of noteNames) {
    if (!(name in notes)) continue
    const value = notes[name]
    if (value === undefined) annotations.delete(annotation[name])
    else annotations.set(annotation[name], value)
  }
  return {
    apiVersion: "coordination.k8s.io/v1",
    kind: "Lease",
    metadata: {
      ...metadata,
      annotations: Object.fromEntries(annotations),
      labels: { ...found?.metadata.labels, [label.manager]: manager, [label.namespace]: namespaceLabel }
    },
    spec: { ...found?.spec, ...change.spec }
  }
}

const noteNames = Object.keys(annotation) as ReadonlyArray<keyof typeof annotation>

// Whoever writes on a grant's object makes its resourceVersion another: the token must be told from then on.
const tokenKept = (found: LeaseObject): Notes =>
  grantOf(found) === undefined ? {} : { fencingToken: tokenOf(found).toString() }

const noted = (millis: number | undefined): string | undefined =>
  millis === undefined ? undefined : DateTime.formatIso(DateTime.makeUnsafe(millis))

const nextTransition = (found: LeaseObject | undefined): number => {
  const last = found?.spec?.leaseTransitions
  return typeof last === "number" && last >= 0 && last < 0x7fffffff ? last + 1 : 1
}

const buried = (found: LeaseObject | undefined, { ownerId, wall }: Death): string => {
  const dead = found === undefined ? [] : [...deadOf(found)].filter(([id, until]) => until > wall && id !== ownerId)
  const all = [...dead, [ownerId, wall + noteLife] as const].slice(-mostNotes)
  return JSON.stringify(Object.fromEntries(all.map(([id, until]) => [id, noted(until)])))
}
