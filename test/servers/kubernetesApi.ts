/**
 * The part of a Kubernetes API server that leases need, in memory and without a network: what it answers was compared
 * with a real one, probe by probe (`test/layers/internal/kubernetesContract.test.ts`).
 */
import { randomUUID } from "node:crypto"

export interface ApiRequest {
  readonly method: string
  readonly path: string
  readonly query: URLSearchParams
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string | undefined>>
  readonly body: string
}

export interface ApiReply {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
  /** Of a watch: what follows; gives back how to stop listening. */
  readonly follow?: (line: (text: string) => void, end: () => void) => () => void
}

// oxlint-disable-next-line typescript/no-explicit-any -- whatever a client sends
type Json = any

interface Event {
  readonly type: "ADDED" | "MODIFIED" | "DELETED"
  readonly namespace: string
  readonly object: Json
  readonly revision: number
}

interface Watcher {
  readonly sees: (namespace: string, object: Json) => boolean
  readonly bookmarks: boolean
  readonly line: (text: string) => void
  readonly end: () => void
}

export interface ApiOptions {
  /** The server's clock, in milliseconds since 1970. */
  readonly now?: () => number
  readonly namespaces?: ReadonlyArray<string>
  /** Who may do what: verbs by token. Absent: everybody everything. */
  readonly tokens?: ReadonlyMap<string, ReadonlyArray<string>>
}

export class FakeApi {
  readonly #now: () => number
  readonly #namespaces: ReadonlySet<string>
  tokens: ReadonlyMap<string, ReadonlyArray<string>> | undefined
  // The one counter of the whole server, as etcd's revision is.
  #revision = 100
  // What happened before is not kept.
  #compacted = 50
  readonly #leases = new Map<string, Json>()
  readonly #events: Array<Event> = []
  readonly #watchers = new Set<Watcher>()
  /** Each request that was understood, as `VERB name`. */
  readonly log: Array<string> = []

  constructor(options: ApiOptions = {}) {
    this.#now = options.now ?? Date.now
    this.#namespaces = new Set(options.namespaces ?? ["default"])
    this.tokens = options.tokens
  }

  get watches(): number {
    return this.#watchers.size
  }

  lease(name: string, namespace = "default"): Json | undefined {
    return structuredClone(this.#leases.get(`${namespace}/${name}`))
  }

  get leases(): ReadonlyArray<Json> {
    return [...this.#leases.values()].map((lease) => structuredClone(lease))
  }

  /** Forgets what happened until now, as etcd's compaction does. */
  compact(): void {
    this.#compacted = this.#revision
    this.#events.length = 0
  }

  bookmark(): void {
    const metadata = { resourceVersion: String(this.#revision), creationTimestamp: null }
    const object = { kind: "Lease", apiVersion: "coordination.k8s.io/v1", metadata, spec: {} }
    for (const watcher of this.#watchers) {
      if (watcher.bookmarks) watcher.line(JSON.stringify({ type: "BOOKMARK", object }))
    }
  }

  endWatches(): void {
    for (const watcher of [...this.#watchers]) watcher.end()
  }

  /** Sends a line of the test's making to whoever watches. */
  say(line: string): void {
    for (const watcher of [...this.#watchers]) watcher.line(line)
  }

  handle(request: ApiRequest): ApiReply {
    const match = /^\/apis\/coordination\.k8s\.io\/v1\/namespaces\/([^/]+)\/leases(?:\/([^/]+))?$/.exec(request.path)
    if (match === null) {
      return request.path.startsWith("/apis/coordination.k8s.io/")
        ? this.#status(404, "NotFound", "the server could not find the requested resource")
        : this.#reply(404, "404 page not found\n", "text/plain")
    }
    const namespace = match[1] ?? ""
    const name = match[2]
    const isWatch = name === undefined && /^(1|true)$/.test(request.query.get("watch") ?? "")
    const verb = verbOf(request.method, name, isWatch)
    this.log.push(name === undefined ? verb : `${verb} ${name}`)
    if (this.tokens !== undefined) {
      const [, token = ""] = /^Bearer (.+)$/.exec(request.headers["authorization"] ?? "") ?? []
      const verbs = this.tokens.get(token)
      if (verbs === undefined) return this.#status(401, "Unauthorized", "Unauthorized")
      if (!verbs.includes(verb)) {
        const what = name === undefined ? "leases.coordination.k8s.io" : `leases.coordination.k8s.io "${name}"`
        const message = `${what} is forbidden: User "somebody" cannot ${verb} resource "leases" in API group `
          + `"coordination.k8s.io" in the namespace "${namespace}"`
        return this.#status(403, "Forbidden", message)
      }
    }
    switch (verb) {
      case "get":
        return this.#withLease(namespace, name!, (lease) => this.#json(200, lease))
      case "list":
        return this.#list(namespace, request.query)
      case "watch":
        return this.#watch(namespace, request.query)
      case "create":
        return this.#create(namespace, request.body)
      case "update":
        return this.#update(namespace, name!, request.body)
      case "patch":
        return this.#patch(namespace, name!, request)
      case "delete":
        return this.#delete(namespace, name!, request.body)
      default:
        return this.#status(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
    }
  }

  // ---------------------------------------------------------------------------
  // writing
  // ---------------------------------------------------------------------------

  #create(namespace: string, body: string): ApiReply {
    const object = parsed(body)
    if (object === undefined) return this.#status(400, "BadRequest", "the body is no Lease")
    const wrong = typeError(object)
    if (wrong !== undefined) return this.#status(400, "BadRequest", wrong)
    if (!this.#namespaces.has(namespace)) return this.#status(404, "NotFound", `namespaces "${namespace}" not found`)
    if (object.metadata?.resourceVersion) {
      return this.#status(500, "", "resourceVersion should not be set on objects to be created")
    }
    const invalid = invalidity(object)
    if (invalid !== undefined) return this.#status(422, "Invalid", invalid)
    if (this.#leases.has(`${namespace}/${object.metadata.name}`)) {
      return this.#status(
        409,
        "AlreadyExists",
        `leases.coordination.k8s.io "${object.metadata.name}" already exists`
      )
    }
    return this.#json(201, this.#store("ADDED", namespace, object, randomUUID()))
  }

  #update(namespace: string, name: string, body: string): ApiReply {
    const object = parsed(body)
    if (object === undefined) return this.#status(400, "BadRequest", "the body is no Lease")
    const wrong = typeError(object)
    if (wrong !== undefined) return this.#status(400, "BadRequest", wrong)
    if (object.metadata?.name !== name) {
      return this.#status(400, "BadRequest", "the name of the object does not match the name on the URL")
    }
    return this.#replace(namespace, name, object, true)
  }

  #replace(namespace: string, name: string, object: Json, mayCreate: boolean): ApiReply {
    const found = this.#leases.get(`${namespace}/${name}`)
    const { resourceVersion, uid } = object.metadata
    const conflict = (why: string) =>
      this.#status(
        409,
        "Conflict",
        `Operation cannot be fulfilled on leases.coordination.k8s.io "${name}": ${why}`
      )
    if (found === undefined) {
      if (!mayCreate) return this.#notFound(name)
      if (uid) return conflict("Precondition failed: UID in precondition")
      if (!this.#namespaces.has(namespace)) return this.#status(404, "NotFound", `namespaces "${namespace}" not found`)
      const invalid = invalidity(object)
      if (invalid !== undefined) return this.#status(422, "Invalid", invalid)
      return this.#json(201, this.#store("ADDED", namespace, object, randomUUID()))
    }
    if (uid && uid !== found.metadata.uid) return conflict("Precondition failed: UID in precondition")
    if (!resourceVersion) {
      return this.#status(
        422,
        "Invalid",
        "metadata.resourceVersion: Invalid value: 0x0: must be specified for an update"
      )
    }
    if (resourceVersion !== found.metadata.resourceVersion) return conflict("the object has been modified")
    const invalid = invalidity(object)
    if (invalid !== undefined) return this.#status(422, "Invalid", invalid)
    if (canonical(object) === canonical(found)) return this.#json(200, found)
    return this.#json(200, this.#store("MODIFIED", namespace, object, found.metadata.uid))
  }

  #patch(namespace: string, name: string, { body, headers }: ApiRequest): ApiReply {
    const found = this.#leases.get(`${namespace}/${name}`)
    if (found === undefined) return this.#notFound(name)
    const patch = parsed(body)
    const kind = headers["content-type"] ?? ""
    if (kind.startsWith("application/merge-patch+json")) {
      return this.#replace(namespace, name, merged(structuredClone(found), patch), false)
    }
    if (!kind.startsWith("application/json-patch+json")) {
      return this.#status(415, "UnsupportedMediaType", "the body of the request was in an unknown format")
    }
    const object = structuredClone(found)
    for (const { op, path, value } of patch) {
      const parts: ReadonlyArray<string> = path.split("/").slice(1)
      const last = parts.at(-1) ?? ""
      const target = parts.slice(0, -1).reduce((at: Json, part: string) => at?.[part], object)
      if (op === "test" && JSON.stringify(target?.[last]) !== JSON.stringify(value)) {
        return this.#status(422, "Invalid", "the server rejected our request due to an error in our request")
      }
      if (op === "remove") delete target[last]
      else if (op !== "test") target[last] = value
    }
    return this.#replace(namespace, name, object, false)
  }

  #delete(namespace: string, name: string, body: string): ApiReply {
    const found = this.#leases.get(`${namespace}/${name}`)
    if (found === undefined) return this.#notFound(name)
    const wanted = (body === "" ? {} : parsed(body) ?? {}).preconditions ?? {}
    const stale = (wanted.uid && wanted.uid !== found.metadata.uid) ||
      (wanted.resourceVersion && wanted.resourceVersion !== found.metadata.resourceVersion)
    if (stale) return this.#status(409, "Conflict", "Precondition failed")
    this.#leases.delete(`${namespace}/${name}`)
    this.#revision++
    const object = { ...found, metadata: { ...found.metadata, resourceVersion: String(this.#revision) } }
    this.#emit({ type: "DELETED", namespace, object, revision: this.#revision })
    return this.#json(200, { kind: "Status", apiVersion: "v1", metadata: {}, status: "Success" })
  }

  #store(type: "ADDED" | "MODIFIED", namespace: string, given: Json, uid: string): Json {
    this.#revision++
    const found = this.#leases.get(`${namespace}/${given.metadata.name}`)
    const object = {
      kind: "Lease",
      apiVersion: "coordination.k8s.io/v1",
      metadata: {
        name: given.metadata.name,
        namespace,
        uid,
        resourceVersion: String(this.#revision),
        creationTimestamp: found?.metadata.creationTimestamp ??
          new Date(this.#now()).toISOString().replace(/\.\d+/, ""),
        ...(given.metadata.labels ? { labels: given.metadata.labels } : {}),
        ...(given.metadata.annotations ? { annotations: given.metadata.annotations } : {}),
        managedFields: [{ manager: "somebody", operation: "Update" }]
      },
      spec: given.spec ?? {}
    }
    this.#leases.set(`${namespace}/${given.metadata.name}`, object)
    this.#emit({ type, namespace, object, revision: this.#revision })
    return object
  }

  // ---------------------------------------------------------------------------
  // reading
  // ---------------------------------------------------------------------------

  #list(namespace: string, query: URLSearchParams): ApiReply {
    const all = [...this.#leases.values()]
      .filter((lease) => lease.metadata.namespace === namespace && selects(query, lease))
      .sort((a, b) => a.metadata.name < b.metadata.name ? -1 : 1)
    const from = Number(query.get("continue") ?? 0)
    const limit = Number(query.get("limit") ?? 0) || all.length
    const more = from + limit < all.length ? { continue: String(from + limit) } : {}
    return this.#json(200, {
      kind: "LeaseList",
      apiVersion: "coordination.k8s.io/v1",
      metadata: { resourceVersion: String(this.#revision), ...more },
      items: all.slice(from, from + limit)
    })
  }

  #watch(namespace: string, query: URLSearchParams): ApiReply {
    const text = query.get("resourceVersion") ?? ""
    const from = text === "" || text === "0" ? undefined : Number(text)
    const follow = (line: (text: string) => void, end: () => void): () => void => {
      if (from !== undefined && from < this.#compacted) {
        const object = statusOf(410, "Expired", `too old resource version: ${from} (${this.#compacted})`)
        line(JSON.stringify({ type: "ERROR", object }))
        end()
        return () => {}
      }
      const watcher: Watcher = {
        sees: (where, object) => where === namespace && selects(query, object),
        bookmarks: query.get("allowWatchBookmarks") === "true",
        line,
        end: () => {
          this.#watchers.delete(watcher)
          end()
        }
      }
      this.#watchers.add(watcher)
      const missed = from === undefined
        ? [...this.#leases.values()].map((object): Event => ({ type: "ADDED", namespace, object, revision: 0 }))
        : this.#events.filter(({ revision }) => revision > from)
      for (const event of missed) tell(watcher, event)
      return () => {
        this.#watchers.delete(watcher)
      }
    }
    return { status: 200, headers: this.#headers("application/json"), body: "", follow }
  }

  #emit(event: Event): void {
    this.#events.push(structuredClone(event))
    for (const watcher of [...this.#watchers]) tell(watcher, event)
  }

  // ---------------------------------------------------------------------------
  // answers
  // ---------------------------------------------------------------------------

  #withLease(namespace: string, name: string, use: (lease: Json) => ApiReply): ApiReply {
    const lease = this.#leases.get(`${namespace}/${name}`)
    return lease === undefined ? this.#notFound(name) : use(lease)
  }

  #notFound(name: string): ApiReply {
    return this.#status(404, "NotFound", `leases.coordination.k8s.io "${name}" not found`)
  }

  #status(code: number, reason: string, message: string): ApiReply {
    return this.#json(code, statusOf(code, reason, message))
  }

  #json(status: number, value: Json): ApiReply {
    return this.#reply(status, JSON.stringify(value), "application/json")
  }

  #reply(status: number, body: string, type: string): ApiReply {
    return { status, headers: this.#headers(type), body }
  }

  #headers(type: string): Record<string, string> {
    return { "content-type": type, date: new Date(this.#now()).toUTCString() }
  }

  /** What a server says that is not able to. */
  refusal(status: number, retryAfter?: number): ApiReply {
    const reply = this.#status(status, reasons[status] ?? "InternalError", "not now")
    return retryAfter === undefined
      ? reply
      : { ...reply, headers: { ...reply.headers, "retry-after": String(retryAfter) } }
  }
}

const reasons: Readonly<Record<number, string>> = { 429: "TooManyRequests", 503: "ServiceUnavailable", 504: "Timeout" }

const statusOf = (code: number, reason: string, message: string) => ({
  kind: "Status",
  apiVersion: "v1",
  metadata: {},
  status: "Failure",
  message,
  reason,
  code
})

const verbOf = (method: string, name: string | undefined, isWatch: boolean): string => {
  const verbs: Readonly<Record<string, string>> = name === undefined
    ? { GET: isWatch ? "watch" : "list", POST: "create" }
    : { GET: "get", PUT: "update", PATCH: "patch", DELETE: "delete" }
  return verbs[method] ?? "nothing"
}

const parsed = (body: string): Json | undefined => {
  try {
    const value = JSON.parse(body)
    return typeof value === "object" && value !== null ? value : undefined
  } catch {
    return undefined
  }
}

const selects = (query: URLSearchParams, object: Json): boolean => {
  const [, name] = /^metadata\.name=(.*)$/.exec(query.get("fieldSelector") ?? "") ?? []
  const labels = (query.get("labelSelector") ?? "").split(",").filter((part) => part !== "")
  return (name === undefined || object.metadata.name === name) &&
    labels.every((part) => {
      const [label = "", value] = part.split("=")
      return object.metadata.labels?.[label] === value
    })
}

const tell = (watcher: Watcher, { namespace, object, type }: Event): void => {
  if (watcher.sees(namespace, object)) watcher.line(JSON.stringify({ type, object }))
}

// What the server can't read into its types: 400.
const typeError = ({ metadata, spec = {} }: Json): string | undefined => {
  for (const field of ["acquireTime", "renewTime"]) {
    const time = spec?.[field]
    if (time === undefined || time === null) continue
    if (typeof time !== "string" || !/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d)$/.test(time)) {
      return `parsing time ${JSON.stringify(time)} as "2006-01-02T15:04:05.000000Z07:00"`
    }
  }
  for (const field of ["leaseDurationSeconds", "leaseTransitions"]) {
    const value = spec?.[field]
    if (value === undefined || value === null) continue
    if (!Number.isInteger(value) || value > 0x7fffffff || value < -0x80000000) {
      return `json: cannot unmarshal number ${value} into Go struct field LeaseSpec.spec.${field} of type int32`
    }
  }
  const holder = spec?.holderIdentity
  if (holder !== undefined && holder !== null && typeof holder !== "string") return "holderIdentity is no string"
  for (const values of [metadata?.annotations, metadata?.labels]) {
    if (Object.values(values ?? {}).some((value) => typeof value !== "string")) return "ReadString: expects \""
  }
  return undefined
}

const subdomain = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/
const labelValue = /^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$/

// What it can read and does not allow: 422.
const invalidity = ({ metadata, spec = {} }: Json): string | undefined => {
  const name = metadata?.name
  if (typeof name !== "string" || name.length > 253 || !subdomain.test(name)) {
    return `metadata.name: Invalid value: ${JSON.stringify(name)}: a lowercase RFC 1123 subdomain must consist of …`
  }
  if (typeof spec?.leaseDurationSeconds === "number" && spec.leaseDurationSeconds <= 0) {
    return "spec.leaseDurationSeconds: Invalid value: must be greater than 0"
  }
  if (typeof spec?.leaseTransitions === "number" && spec.leaseTransitions < 0) {
    return "spec.leaseTransitions: Invalid value: must be greater than or equal to 0"
  }
  for (const value of Object.values<string>(metadata.labels ?? {})) {
    if (value.length > 63 || !labelValue.test(value)) return "metadata.labels: Invalid value"
  }
  const size = Object.entries<string>(metadata.annotations ?? {})
    .reduce((sum, [key, value]) => sum + Buffer.byteLength(key) + Buffer.byteLength(value), 0)
  return size > 256 * 1024 ? "metadata.annotations: Too long: must have at most 262144 bytes" : undefined
}

const sorted = (value: Json): Json =>
  typeof value !== "object" || value === null || Array.isArray(value)
    ? value
    : Object.fromEntries(
      Object.keys(value).sort().filter((key) => value[key] !== null).map((key) => [key, sorted(value[key])])
    )

const canonical = ({ metadata, spec }: Json): string =>
  JSON.stringify(sorted({ labels: metadata.labels ?? {}, annotations: metadata.annotations ?? {}, spec: spec ?? {} }))

const merged = (target: Json, patch: Json): Json => {
  if (typeof patch !== "object" || patch === null || Array.isArray(patch)) return patch
  const result = typeof target === "object" && target !== null ? target : {}
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key]
    else result[key] = merged(result[key], value)
  }
  return result
}
