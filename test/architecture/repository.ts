/**
 * What does not belong in the repository: traces of the machine it was written on.
 */

/** The patterns are in pieces so that this file is not an example of what it forbids. */
const traces: ReadonlyArray<readonly [what: string, pattern: RegExp]> = [
  [
    "an absolute path of one machine",
    new RegExp("(?<![\\w.~-])/(" + "work/(main|shared)|root|home/\\w+|Users/\\w+" + ")/")
  ],
  ["the host of a package registry", new RegExp("//(registry|deb|pypi|proxy)\\." + "|\\bregistry\\." + "npmjs")],
  ["a registry's address in a lock file", new RegExp("\"resolved\": \"" + "http")]
]

export const hasNoTraceOfAMachine = (path: string, text: string): ReadonlyArray<string> =>
  text.split("\n").flatMap((line, index) =>
    traces.flatMap(([what, pattern]) => pattern.test(line) ? [`${path}:${index + 1}: ${what}`] : [])
  )

interface Locked {
  readonly version?: string
  readonly link?: boolean
  readonly optionalDependencies?: Readonly<Record<string, string>>
}

/**
 * `npm ci` refuses a lock file that leaves out an optional dependency, as `npm install` does with the packages for
 * other platforms that a registry doesn't have.
 */
export const locksEveryPlatform = (path: string, text: string): ReadonlyArray<string> => {
  const packages: Readonly<Record<string, Locked>> = JSON.parse(text).packages
  const find = (from: string, name: string): Locked | undefined => {
    const candidate = packages[`${from === "" ? "" : `${from}/`}node_modules/${name}`]
    if (candidate !== undefined || from === "") return candidate
    return find(from.includes("/node_modules/") ? from.slice(0, from.lastIndexOf("/node_modules/")) : "", name)
  }
  return Object.entries(packages).flatMap(([from, { optionalDependencies = {} }]) =>
    Object.keys(optionalDependencies).flatMap((name) =>
      find(from, name)?.version === undefined
        ? [
          `${path}: ${from} may need ${name}, which is not locked: take a version of it that the registry has for every `
          + "platform, or add the entry by hand (version, cpu, os, dev, optional)"
        ]
        : []
    )
  )
}
