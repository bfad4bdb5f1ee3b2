/**
 * What one process has asked for under one owner id: the tries, and which nodes may still hear of them.
 */
import type { Member } from "./quorumMember.ts"
import { everyAttempt, type NodeRelease } from "./quorumNode.ts"

/**
 * One owner id.
 *
 * The port gives an owner id one life, which its release ends. A quorum has to clean up after a try that failed, and the
 * owner id must live on: so each try has a number, and what is released is the tries up to it.
 */
export class Claim {
  readonly key: string
  readonly ownerId: string
  metadata: Readonly<Record<string, string>> = {}
  /** The present try. */
  attempt = 1
  /** The token that was granted to the present try, if it was. */
  fence: number | undefined
  /** The owner id was released. */
  isOver = false
  /** Nodes that were sent a request, and over which connections those were sent that have no answer yet. */
  private readonly open = new Map<Member, Array<number>>()
  /** Those of them where one was never answered. */
  private readonly lost = new Set<Member>()

  constructor(key: string, ownerId: string) {
    this.key = key
    this.ownerId = ownerId
  }

  /** A request is sent to the node; answers over which connection. */
  send(member: Member): number {
    const connection = member.node.connections()
    const open = this.open.get(member)
    if (open === undefined) this.open.set(member, [connection])
    else open.push(connection)
    return connection
  }

  /** A request that was sent over this connection has ended; `isUnanswered`: nobody knows how. */
  end(member: Member, connection: number, isUnanswered: boolean): void {
    const open = this.open.get(member)
    open?.splice(open.indexOf(connection), 1)
    if (isUnanswered) this.lost.add(member)
  }

  wasAsked(member: Member): boolean {
    return this.open.has(member)
  }

  /** What frees the node from the tries so far. */
  releaseOf(member: Member, attempt = everyAttempt): NodeRelease {
    return { key: this.key, ownerId: this.ownerId, attempt, bury: this.mayArrive(member) }
  }

  // What is still under way over the connection that there is arrives before whatever is sent now.
  private mayArrive(member: Member): boolean {
    return this.lost.has(member) || (this.open.get(member) ?? []).some((sentOver) => !member.keepsOrder(sentOver))
  }
}

/** The owner ids that live, by owner id. */
export type Claims = Map<string, Claim>
