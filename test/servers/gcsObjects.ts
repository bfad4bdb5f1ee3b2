/**
 * The objects of Cloud Storage as its documentation describes them: generations, metagenerations, preconditions, the
 * limit of one change per second and object. No network in here; `GcsServer.ts` puts one before it.
 *
 * Sources: "Request preconditions", "Object metadata", "Quotas & limits", "JSON API: Objects" in Google's documentation.
 */

export interface Request {
  readonly method: string
  /** With the query. */
  readonly path: string
  readonly headers: Readonly<Record<string, string | undefined>>
  readonly body: string
}

export interface Reply {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

export interface StoredObject {
  readonly name: string
  readonly bucket: string
  generation: string
  metageneration: string
  timeCreated: string
  updated: string
  metadata: Record<string, string>
}

export interface Settings {
  /** Milliseconds of the server's own clock, which need not be anybody else's. */
  now: () => number
  buckets: Set<string>
  /** One change per second and object; creates, updates and deletes count. */
  limited: boolean
  /** `undefined`: anybody may. */
  authorization: string | undefined
  /** Who does not name a project to pay is refused. */
  requesterPays: boolean
  /** Objects can't be deleted or overwritten. */
  retained: boolean
  /** What the credentials lack: methods of the JSON API. */
  forbidden: Set<Method>
  /** Otherwise every metageneration is 1, as with some emulators. */
  countsMetageneration: boolean
  /** Whether answers say what time it is. */
  dates: boolean
}

export type Method = "insert" | "get" | "patch" | "delete" | "list"

export const settings = (now: () => number): Settings => ({
  now,
  buckets: new Set(["locks"]),
  limited: false,
  authorization: undefined,
  requesterPays: false,
  retained: false,
  forbidden: new Set(),
  countsMetageneration: true,
  dates: true
})

/** The API's method that a request calls. */
export const methodOf = ({ method, path }: Request): Method => {
  if (method === "POST") return "insert"
  if (method === "PATCH") return "patch"
  if (method === "DELETE") return "delete"
  return /\/o\/[^?]/.test(path) ? "get" : "list"
}

export class GcsObjects {
  readonly settings: Settings
  readonly objects = new Map<string, StoredObject>()
  #lastGeneration = 0n
  readonly #lastChange = new Map<string, number>()

  constructor(settings: Settings) {
    this.settings = settings
  }

  handle(request: Request): Reply {
    const reply = this.#answer(request)
    // Whole seconds, truncated.
    const date = new Date(this.settings.now()).toUTCString()
    return this.settings.dates ? { ...reply, headers: { date, ...reply.headers } } : reply
  }

  #answer(request: Request): Reply {
    const url = new URL(request.path, "http://server")
    const query = url.searchParams
    const method = methodOf(request)
    if (this.settings.authorization !== undefined && request.headers["authorization"] !== this.settings.authorization) {
      return problem(401, "authError")
    }
    const [, upload, bucketPart, objectPart] =
      /^(\/upload)?\/storage\/v1\/b\/([^/]+)\/o(?:\/(.+))?$/.exec(url.pathname) ??
        []
    if (bucketPart === undefined || (upload !== undefined) !== (method === "insert")) return problem(404, "notFound")
    const bucket = decodeURIComponent(bucketPart)
    if (!this.settings.buckets.has(bucket)) return problem(404, "notFound")
    if (this.settings.requesterPays && !query.has("userProject")) return problem(400, "required")
    if (this.settings.forbidden.has(method)) return problem(403, "forbidden")
    if (method === "list") return this.#list(bucket, query)
    const name = method === "insert" ? query.get("name") : decodeURIComponent(objectPart ?? "")
    if (name === null || name === "" || new TextEncoder().encode(name).length > 1024) return problem(400, "invalid")
    const id = `${bucket}/${name}`
    const present = this.objects.get(id)
    if (method !== "get" && this.settings.limited) {
      if (this.settings.now() - (this.#lastChange.get(id) ?? -Infinity) < 1000) return problem(429, "rateLimitExceeded")
    }
    if (present === undefined && method !== "insert") return problem(404, "notFound")
    if (!isMet(query, present)) return problem(412, "conditionNotMet")
    switch (method) {
      case "get":
        return shown(present!, query)
      case "insert":
        return this.#insert(request, bucket, name, present, query)
      case "patch":
        return this.#patch(request, id, present!, query)
      case "delete":
        if (this.settings.retained) return problem(403, "retentionPolicyNotMet")
        this.objects.delete(id)
        this.#lastChange.set(id, this.settings.now())
        return { status: 204, headers: {}, body: "" }
    }
  }

  #insert(request: Request, bucket: string, name: string, present: StoredObject | undefined, query: URLSearchParams) {
    if (query.get("uploadType") !== "multipart") return problem(400, "invalid")
    if (present !== undefined && this.settings.retained) return problem(403, "retentionPolicyNotMet")
    const resource = multipart(request)
    if (resource === undefined || (resource.name !== undefined && resource.name !== name)) {
      return problem(400, "invalid")
    }
    const metadata = resource.metadata ?? {}
    if (!isStorable(metadata)) return problem(400, "invalid")
    const now = this.settings.now()
    const time = new Date(now).toISOString()
    const wanted = BigInt(Math.floor(now * 1000))
    this.#lastGeneration = wanted > this.#lastGeneration ? wanted : this.#lastGeneration + 1n
    const object: StoredObject = {
      name,
      bucket,
      generation: String(this.#lastGeneration),
      metageneration: "1",
      timeCreated: time,
      updated: time,
      metadata
    }
    this.objects.set(`${bucket}/${name}`, object)
    this.#lastChange.set(`${bucket}/${name}`, now)
    return shown(object, query)
  }

  #patch(request: Request, id: string, present: StoredObject, query: URLSearchParams): Reply {
    const changes: { metadata?: Record<string, string | null> } = JSON.parse(request.body)
    const metadata = { ...present.metadata }
    for (const [name, value] of Object.entries(changes.metadata ?? {})) {
      if (value === null) delete metadata[name]
      else metadata[name] = value
    }
    if (!isStorable(metadata)) return problem(400, "invalid")
    present.metadata = metadata
    present.updated = new Date(this.settings.now()).toISOString()
    if (this.settings.countsMetageneration) present.metageneration = String(BigInt(present.metageneration) + 1n)
    this.#lastChange.set(id, this.settings.now())
    return shown(present, query)
  }

  #list(bucket: string, query: URLSearchParams): Reply {
    const prefix = query.get("prefix") ?? ""
    const after = query.get("pageToken") ?? ""
    const most = Number(query.get("maxResults") ?? 1000)
    const found = [...this.objects.values()]
      .filter((object) => object.bucket === bucket && object.name.startsWith(prefix) && object.name > after)
      .sort((a, b) => a.name < b.name ? -1 : 1)
    const [, fields] = /items\(([^)]*)\)/.exec(query.get("fields") ?? "") ?? []
    const items = found.slice(0, most)
    return json(200, {
      ...(items.length === 0 ? {} : { items: items.map((item) => project(item, fields)) }),
      ...(found.length > most ? { nextPageToken: items.at(-1)?.name } : {})
    })
  }
}

const isMet = (query: URLSearchParams, present: StoredObject | undefined): boolean => {
  const generation = query.get("ifGenerationMatch")
  const metageneration = query.get("ifMetagenerationMatch")
  if (generation !== null && generation !== (present?.generation ?? "0")) return false
  return metageneration === null || metageneration === present?.metageneration
}

// At most 8 KiB. Non-ASCII text is possible with the real service, but not all that speaks to it can carry it.
const isStorable = (metadata: Readonly<Record<string, string>>): boolean => {
  const entries = Object.entries(metadata)
  return entries.every(([name, value]) => typeof value === "string" && /^[\x20-\x7e]*$/.test(name + value)) &&
    entries.reduce((sum, [name, value]) => sum + name.length + value.length, 0) <= 8192
}

const multipart = (
  { body, headers }: Request
): { name?: string; metadata?: Record<string, string> } | undefined => {
  const [, boundary] = /^multipart\/related; boundary=(\S+)$/.exec(headers["content-type"] ?? "") ?? []
  if (boundary === undefined) return undefined
  const parts = body.split(`--${boundary}`)
  // Before the first boundary, the resource, the media, and what follows the last boundary.
  if (parts.length !== 4 || parts[0] !== "" || parts[3] !== "--\r\n") return undefined
  const [head, content] = parts[1]!.split("\r\n\r\n")
  return /application\/json/.test(head ?? "") && content !== undefined ? JSON.parse(content) : undefined
}

const shown = (object: StoredObject, query: URLSearchParams): Reply =>
  json(200, project(object, query.get("fields") ?? undefined))

const project = (object: StoredObject, fields: string | undefined): unknown => {
  const all = { kind: "storage#object", ...object, etag: `${object.generation}/${object.metageneration}` }
  return fields === undefined
    ? all
    : Object.fromEntries(Object.entries(all).filter(([name]) => fields.split(",").includes(name)))
}

const json = (status: number, content: unknown): Reply => ({
  status,
  headers: { "content-type": "application/json; charset=UTF-8" },
  body: JSON.stringify(content)
})

export const problem = (status: number, reason: string, headers: Readonly<Record<string, string>> = {}): Reply => {
  const reply = json(status, {
    error: { code: status, message: reason, errors: [{ domain: "global", reason, message: reason }] }
  })
  return { ...reply, headers: { ...reply.headers, ...headers } }
}
