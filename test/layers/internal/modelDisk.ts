/**
 * A disk in memory, as far as locks use one: every operation is one step, which whoever makes the file system may delay,
 * order or leave undone.
 */
import { ByteSize, Effect, FileSystem, Option, PlatformError } from "effect"

export interface FileNode {
  content: string
  mtime: number
}

/** What goes wrong is an answer, like any other. */
export type Answer<A> = A | PlatformError.PlatformError

/** A step: what it does on which path, and the doing. */
export type Step = <A>(
  method: string,
  path: string,
  run: () => Answer<A>
) => Effect.Effect<A, PlatformError.PlatformError>

export class Disk {
  readonly directories = new Map<string, Map<string, FileNode>>()
  /** Called after a change to what is in a directory. */
  onChange: (directory: string) => void = () => {}
  private readonly granularity: number

  /** `granularity` of mtimes in milliseconds. */
  constructor(granularity: number) {
    this.granularity = granularity
  }

  at(path: string): FileNode | undefined {
    const [parent, name] = split(path)
    return this.directories.get(parent)?.get(name)
  }

  names(path: string): ReadonlyArray<string> {
    return [...this.directories.get(path)?.keys() ?? []].sort()
  }

  put(path: string, content: string, mtime: number): void {
    const [parent, name] = split(path)
    const entries = this.directories.get(parent) ?? new Map<string, FileNode>()
    this.directories.set(parent, entries)
    entries.set(name, { content, mtime })
    this.onChange(parent)
  }

  list(path: string): Answer<Array<string>> {
    return this.directories.has(path) ? [...this.names(path)] : missing
  }

  stat(path: string): Answer<FileSystem.File.Info> {
    return this.directories.has(path) ? directoryInfo : infoOf(this.at(path))
  }

  write(path: string, content: string, now: number): Answer<void> {
    if (!this.directories.has(split(path)[0])) return missing
    if (this.at(path) !== undefined) return exists
    return this.put(path, content, now)
  }

  makeDirectory(path: string): Answer<void> {
    if (this.directories.has(path)) return exists
    this.directories.set(path, new Map())
    return done
  }

  setTime(path: string, seconds: number): Answer<void> {
    const node = this.at(path)
    if (node === undefined) return missing
    node.mtime = seconds === 0 ? 0 : Math.floor(seconds * 1000 / this.granularity) * this.granularity
    this.onChange(split(path)[0])
    return done
  }

  link(from: string, to: string): Answer<void> {
    const [parent, name] = split(to)
    const node = this.at(from)
    const entries = this.directories.get(parent)
    if (node === undefined || entries === undefined) return missing
    if (entries.has(name)) return exists
    entries.set(name, node)
    this.onChange(parent)
    return done
  }

  rename(from: string, to: string): Answer<void> {
    const entries = this.directories.get(from)
    if (entries === undefined) return missing
    if ((this.directories.get(to)?.size ?? 0) > 0) return notEmpty
    this.directories.delete(from)
    this.directories.set(to, entries)
    this.onChange(to)
    return done
  }

  remove(path: string): Answer<void> {
    const [parent, name] = split(path)
    if (this.directories.delete(path)) return done
    if (this.directories.get(parent)?.delete(name) !== true) return missing
    this.onChange(parent)
    return done
  }
}

/** Effect's file system on `disk`; `now` is the kernel's wall clock. What else it can do is in `more`. */
export const fileSystemOf = (
  disk: Disk,
  step: Step,
  now: () => number,
  more: Partial<FileSystem.FileSystem>
): FileSystem.FileSystem =>
  FileSystem.makeNoop({
    readDirectory: (path) => step("list", path, () => disk.list(path)),
    stat: (path) => step("stat", path, () => disk.stat(path)),
    lstat: (path) => step("lstat", path, () => disk.stat(path)),
    open: (path, options) =>
      step("open", path, () => {
        const made = options?.flag === "wx" ? disk.write(path, "", now()) : done
        if (PlatformError.isPlatformError(made)) return made
        const node = disk.at(path)
        if (node === undefined) return missing
        return {
          writeAll: (bytes: Uint8Array) =>
            step("write", path, () => {
              node.content = new TextDecoder().decode(bytes)
              node.mtime = now()
            }),
          stat: step("fstat", path, () => infoOf(node)),
          readAlloc: () => Effect.succeed(Option.some(new TextEncoder().encode(node.content)))
        } as unknown as FileSystem.File
      }),
    writeFileString: (path, content) => step("write", path, () => disk.write(path, content, now())),
    makeDirectory: (path) => step("mkdir", path, () => disk.makeDirectory(path)),
    utimes: (path, _, mtime) => step(mtime === 0 ? "release" : "touch", path, () => disk.setTime(path, Number(mtime))),
    link: (from, to) => step("link", to, () => disk.link(from, to)),
    rename: (from, to) => step("rename", to, () => disk.rename(from, to)),
    remove: (path) => step("remove", path, () => disk.remove(path)),
    ...more
  })

/** The directory of a path, and its name in it. */
export const split = (path: string): readonly [string, string] => {
  const at = path.lastIndexOf("/")
  return [path.slice(0, at), path.slice(at + 1)]
}

export const failure = (_tag: PlatformError.SystemErrorTag, code: string) =>
  PlatformError.systemError({ _tag, module: "FileSystem", method: "model", cause: { code } })
export const missing = failure("NotFound", "ENOENT")
const exists = failure("AlreadyExists", "EEXIST")
const notEmpty = failure("Unknown", "ENOTEMPTY")

const done: void = undefined

const info = { atime: Option.none(), uid: Option.some(1000), mode: 0o700, size: ByteSize.bytes(1) }
const directoryInfo = { ...info, type: "Directory", mtime: Option.none() } as unknown as FileSystem.File.Info

const infoOf = (node: FileNode | undefined): Answer<FileSystem.File.Info> =>
  node === undefined
    ? missing
    : { ...info, type: "File", mtime: Option.some(new Date(node.mtime)) } as unknown as FileSystem.File.Info
