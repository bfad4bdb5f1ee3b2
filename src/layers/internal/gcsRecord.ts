/**
 * The object of a lock: an empty one, with everything in its custom metadata, so that one request reads it.
 *
 * Values are printable ASCII; other text is stored as base64 of its UTF-8 under `<name>-base64`, because not everything
 * on the way to the metadata of an object carries more than that.
 */
import * as Base64 from "effect/encoding/Base64"
import * as Option from "effect/Option"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"

/**
 * What the object says.
 *
 * - `held`: by `ownerId`, for `ttl` milliseconds since the object's metadata last changed.
 * - `draining`: the same, but an operator asked for it: it is not renewed. `of` is the generation of the holder's grant,
 *   `token` its fencing token.
 * - `free`: given back, kept for the sake of the fencing token.
 */
export interface LockRecord {
  readonly state: "held" | "draining" | "free"
  readonly ownerId: string
  readonly ttl: number
  /** The fencing token is at least this. */
  readonly fence: bigint
  readonly metadata: Readonly<Record<string, string>>
  /** Where the object's name is a hash. */
  readonly key: string | undefined
  readonly of: bigint | undefined
  readonly token: bigint | undefined
}

/** One version of the object. Times are milliseconds of the server's clock; NaN if it did not tell. */
export interface LockObject {
  readonly name: string
  readonly generation: bigint
  readonly metageneration: bigint
  readonly created: number
  readonly updated: number
  readonly record: LockRecord
}

/** The fields of an object that are asked for. */
export const fields = "name,generation,metageneration,timeCreated,updated,metadata"

/** The custom metadata of a record. */
export const encode = (record: LockRecord, seq: string): Readonly<Record<string, string>> => ({
  "effect-lock": "1",
  state: record.state,
  ttl: String(record.ttl),
  seq,
  ...(record.fence === 0n ? {} : { fence: String(record.fence) }),
  ...text("owner", record.ownerId),
  ...text("metadata", JSON.stringify(record.metadata)),
  ...(record.key === undefined ? {} : text("key", record.key)),
  ...(record.of === undefined ? {} : { of: String(record.of) }),
  ...(record.token === undefined ? {} : { token: String(record.token) })
})

/** An object of the service, if it is a lock of ours. */
export const decode = (resource: typeof Resource.Type): LockObject | undefined => {
  const raw = new Map(Object.entries(resource.metadata ?? {}))
  const state = raw.get("state")
  const ownerId = textOf(raw, "owner")
  const ttl = Number(raw.get("ttl") ?? NaN)
  const metadata = Option.getOrUndefined(decodeMetadata(textOf(raw, "metadata")))
  if (
    raw.get("effect-lock") !== "1" || (state !== "held" && state !== "draining" && state !== "free") ||
    ownerId === undefined || !(ttl > 0 && ttl < Infinity) || metadata === undefined
  ) return undefined
  return {
    name: resource.name,
    generation: BigInt(resource.generation),
    metageneration: BigInt(resource.metageneration),
    created: Date.parse(resource.timeCreated ?? ""),
    updated: Date.parse(resource.updated ?? ""),
    record: {
      state,
      ownerId,
      ttl,
      fence: integer(raw.get("fence")) ?? 0n,
      metadata,
      key: textOf(raw, "key"),
      of: integer(raw.get("of")),
      token: integer(raw.get("token"))
    }
  }
}

/** The fencing token of the present grant. */
export const tokenOf = ({ generation, record }: LockObject): bigint =>
  record.token ?? (record.fence > generation ? record.fence : generation)

/** What the fencing token of the next grant is at least: above everything that this object shows. */
export const nextFence = ({ generation, record }: LockObject): bigint =>
  [record.fence, record.token ?? 0n].reduce((most, each) => each > most ? each : most, generation) + 1n

const digits = Schema.String.pipe(Schema.check(Schema.isPattern(/^\d{1,19}$/)))

/** An object as the service describes it. */
export const Resource = Schema.Struct({
  name: Schema.String,
  generation: digits,
  metageneration: digits,
  timeCreated: Schema.optional(Schema.String),
  updated: Schema.optional(Schema.String),
  metadata: Schema.optional(Schema.Record(Schema.String, Schema.String))
})

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

// Spaces at the ends are left to base64 too: a header's are not its value's.
const plain = /^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/

const text = (name: string, value: string): Readonly<Record<string, string>> =>
  plain.test(value) ? { [name]: value } : { [`${name}-base64`]: Base64.encode(value) }

const textOf = (raw: ReadonlyMap<string, string>, name: string): string | undefined => {
  const encoded = raw.get(`${name}-base64`)
  if (encoded === undefined) return raw.get(name)
  return Result.getOrUndefined(Result.map(Base64.decode(encoded), (bytes) => utf8.decode(bytes)))
}

// Without `ignoreBOM`, a text that begins with a byte order mark would lose it, and a key would be another.
const utf8 = new TextDecoder("utf-8", { ignoreBOM: true })

const integer = (value: string | undefined): bigint | undefined =>
  value !== undefined && /^\d{1,19}$/.test(value) ? BigInt(value) : undefined

const decodeMetadata = Schema.decodeUnknownOption(
  Schema.fromJsonString(Schema.Record(Schema.String, Schema.String))
)
