/**
 * SCAN, page by page: it ends whatever the server answers.
 */
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { type BackendReason, Protocol } from "../../LockError.ts"
import type { RedisClient } from "./redisClient.ts"
import { notUnderstood } from "./redisFailure.ts"

/** The most names that one scan gives, and the most pages that it asks for: some 500 million keys, held or not. */
export const most = 1_000_000

/**
 * The names that match, each at least once if it is there all the time. `endpoint` is for errors, `timeout` of one page.
 *
 * The cursor is the server's to choose, so one that comes again would be followed for ever. Redis counts a cursor up,
 * with its bits reversed, also while a table grows or shrinks: none comes twice in one scan.
 */
export const scan = (
  node: Pick<RedisClient, "command">,
  { endpoint, pattern, timeout }: {
    readonly endpoint: string
    readonly pattern: string
    readonly timeout: Duration.Duration
  }
): Stream.Stream<ReadonlyArray<string>, BackendReason> =>
  Stream.paginate(start, (at) =>
    Effect.flatMap(
      node.command("SCAN", [at.cursor, "MATCH", pattern, "COUNT", pageSize], timeout),
      (answer) => {
        const page = pageOf(answer)
        if (page === undefined) return notUnderstood({ endpoint })
        const names = at.names + page.names.length
        if (names > most) return refuse(`${endpoint} has more than ${most} locks: list those of a longer prefix`)
        if (page.cursor === "0") return Effect.succeed([[page.names], Option.none<Position>()] as const)
        const pages = at.pages + 1
        if (page.cursor === at.cursor || page.cursor === at.landmark || pages > most) {
          return refuse(`${endpoint} does not end a SCAN: its cursor comes again or leads too far`)
        }
        // Landmarks twice as far apart each time: every circle closes at one of them.
        const landmark = Number.isInteger(Math.log2(pages)) ? page.cursor : at.landmark
        return Effect.succeed(
          [[page.names], Option.some<Position>({ cursor: page.cursor, pages, names, landmark })] as const
        )
      }
    ))

// -----------------------------------------------------------------------------
// internal
// -----------------------------------------------------------------------------

const pageSize = "500"

interface Position {
  readonly cursor: string
  readonly pages: number
  readonly names: number
  /** An earlier cursor. */
  readonly landmark: string
}

const start: Position = { cursor: "0", pages: 0, names: 0, landmark: "0" }

const refuse = (detail: string): Effect.Effect<never, BackendReason> => Effect.fail(new Protocol({ detail }))

const pageOf = (answer: unknown): { readonly cursor: string; readonly names: ReadonlyArray<string> } | undefined => {
  if (!Array.isArray(answer)) return undefined
  const [cursor, names] = answer
  const isPage = typeof cursor === "string" && /^\d{1,20}$/.test(cursor) && Array.isArray(names)
    && names.every((name) => typeof name === "string")
  return isPage ? { cursor, names } : undefined
}
