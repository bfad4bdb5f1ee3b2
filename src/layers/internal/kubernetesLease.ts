/**
 * A Lease object as it is read: whose it is, since when, and what would count as a sign of life.
 *
 * `spec` has the fields that client-go's leader election has, so that its tools can read our locks and we can respect
 * its leases. What else a lock needs is in annotations. They count only while they name the present holder: client-go
 * keeps annotations when it takes a lease over.
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type { Holder } from "../../Holder.ts"
import type { Place } from "./kubernetesName.ts"
import { millisOf } from "./kubernetesTime.ts"

/** Names of our annotations. */
export const annotation = {
  namespace: "effect-lock/namespace",
  key: "effect-lock/key",
  ownerId: "effect-lock/owner-id",
  /** Random, of one grant: the same over its renewals, another for the same owner id's next. */
  grant: "effect-lock/grant",
  /** Counts the writes of a grant: what its holder writes is never what it wrote before. */
  renewals: "effect-lock/renewals",
  /** The resourceVersion of the write that took the lock; absent as long as that is the object's own. */
  fencingToken: "effect-lock/fencing-token",
  /** When it was last renewed, not before the API server's own time. */
  serverTime: "effect-lock/server-time",
  metadata: "effect-lock/metadata",
  /** The grant that must not be renewed any more. */
  draining: "effect-lock/draining",
  /** Owner ids whose life is over although an attempt of them was not answered, and how long that is remembered. */
  dead: "effect-lock/dead"
} as const

const anything = Schema.Record(Schema.String, Schema.Unknown)
const texts = Schema.optionalKey(Schema.NullOr(Schema.Record(Schema.String, Schema.String)))
const optional = <S extends Schema.Constraint>(schema: S) => Schema.optionalKey(Schema.NullOr(schema))

/** A Lease object. What is not ours in it is kept as it is. */
export const LeaseObject = Schema.StructWithRest(
  Schema.Struct({
    metadata: Schema.StructWithRest(
      Schema.Struct({
        name: Schema.String,
        uid: Schema.String,
        // Opaque by the API's rules before Kubernetes 1.35, but a number of etcd's or kine's in every version.
        resourceVersion: Schema.String.check(Schema.isPattern(/^[0-9]{1,30}$/)),
        annotations: texts,
        labels: texts
      }),
      [anything]
    ),
    spec: optional(Schema.StructWithRest(
      Schema.Struct({
        holderIdentity: optional(Schema.String),
        leaseDurationSeconds: optional(Schema.Int),
        acquireTime: optional(Schema.String),
        renewTime: optional(Schema.String),
        leaseTransitions: optional(Schema.Int)
      }),
      [anything]
    ))
  }),
  [anything]
)

export type LeaseObject = typeof LeaseObject.Type

/** Reads an object. */
export const decode = Schema.decodeUnknownOption(Schema.fromJsonString(LeaseObject))

/** Reads a page of a list. */
export const decodeList = Schema.decodeUnknownOption(Schema.fromJsonString(Schema.Struct({
  metadata: optional(Schema.Struct({ continue: optional(Schema.String) })),
  items: Schema.Array(LeaseObject)
})))

/** The value of an annotation. */
export const noteOf = (lease: LeaseObject, name: keyof typeof annotation): string | undefined =>
  lease.metadata.annotations?.[annotation[name]]

/** Whether the object may be the lock of this key: nobody says that it is another's. */
export const isOf = (lease: LeaseObject, place: Place): boolean =>
  (noteOf(lease, "key") ?? place.key) === place.key &&
  (noteOf(lease, "namespace") ?? place.namespace) === place.namespace

/** Who holds it, expired or not. */
export const holderIdentity = (lease: LeaseObject): string | undefined => {
  const holder = lease.spec?.holderIdentity
  return holder === "" || holder === null ? undefined : holder
}

/** The grant that this library's holder has; `undefined` if nobody or something else holds it. */
export const grantOf = (lease: LeaseObject): string | undefined => {
  const holder = holderIdentity(lease)
  return holder !== undefined && noteOf(lease, "ownerId") === holder ? noteOf(lease, "grant") : undefined
}

/** Whether `ownerId` holds it by a grant of this library. */
export const isHeldBy = (lease: LeaseObject, ownerId: string): boolean =>
  holderIdentity(lease) === ownerId && grantOf(lease) !== undefined

/** Whether its present grant must not be renewed. */
export const isDraining = (lease: LeaseObject): boolean => {
  const grant = grantOf(lease)
  return grant !== undefined && noteOf(lease, "draining") === grant
}

/** The fencing token of the present grant of this library. */
export const tokenOf = (lease: LeaseObject): bigint => {
  const noted = noteOf(lease, "fencingToken")
  return BigInt(noted !== undefined && /^[0-9]{1,30}$/.test(noted) ? noted : lease.metadata.resourceVersion)
}

/**
 * What changes with every sign of life of the holder.
 *
 * A holder of this library changes its count; what others note on the object (that it drains, that an owner id is dead)
 * does not make it live longer. Of a holder of another kind nothing is known, so any change counts.
 */
export const versionOf = (lease: LeaseObject): string => {
  const { resourceVersion, uid } = lease.metadata
  const grant = grantOf(lease)
  return grant === undefined ? `${uid} ${resourceVersion}` : `${uid} ${grant} ${noteOf(lease, "renewals")}`
}

/** How long it lives unrenewed, in milliseconds: for ever if it does not say. */
export const lifeOf = (lease: LeaseObject): number => {
  const seconds = lease.spec?.leaseDurationSeconds
  return typeof seconds === "number" ? seconds * 1000 : Infinity
}

/** When it ends unless it is renewed, on the API server's clock, if its holder is of this library and noted it. */
export const endOnServer = (lease: LeaseObject): number | undefined => {
  const renewed = grantOf(lease) === undefined ? undefined : millisOf(noteOf(lease, "serverTime"))
  return renewed === undefined ? undefined : renewed + lifeOf(lease)
}

/** The dead owner ids that are noted, and until when, in milliseconds since 1970. */
export const deadOf = (lease: LeaseObject): ReadonlyMap<string, number> =>
  Option.match(decodeTexts(noteOf(lease, "dead")), {
    onNone: () => new Map(),
    onSome: (noted) => new Map(Object.entries(noted).map(([ownerId, until]) => [ownerId, millisOf(until) ?? 0]))
  })

/** The holder, as it is shown. Of one that is not of this library, only what client-go writes is known. */
export const shownHolder = (lease: LeaseObject, ownerId: string, remaining: number | undefined): Holder => {
  const ours = grantOf(lease) !== undefined
  const transitions = lease.spec?.leaseTransitions
  return {
    ownerId,
    since: Option.flatMap(Option.fromNullishOr(lease.spec?.acquireTime), DateTime.make),
    remaining: remaining === undefined || !Number.isFinite(remaining)
      ? Option.none()
      : Option.some(Duration.millis(Math.max(remaining, 1))),
    fencingToken: ours ? Option.some(tokenOf(lease)) : Option.none(),
    metadata: ours
      ? Option.getOrElse(decodeTexts(noteOf(lease, "metadata")), () => ({}))
      : typeof transitions === "number"
      ? { leaseTransitions: String(transitions) }
      : {}
  }
}

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const decodeTexts = Schema.decodeUnknownOption(Schema.fromJsonString(Schema.Record(Schema.String, Schema.String)))
