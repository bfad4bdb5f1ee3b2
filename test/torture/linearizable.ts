/**
 * Whether a history of acquisitions and releases can be that of one mutex whose fencing tokens grow: the search of Wing
 * and Gong, with Lowe's memory of states seen.
 *
 * G. Lowe, "Testing for linearizability", Concurrency and Computation 29(4), 2017.
 */

/** One call, from its invocation to its return; `returned` is `Infinity` where nobody knows when it took effect. */
export interface Operation {
  readonly kind: "acquire" | "end"
  /** Which hold it begins or ends. */
  readonly hold: string
  readonly invoked: number
  readonly returned: number
  /** Of an acquisition, where the backend has fencing tokens. */
  readonly fence?: bigint | undefined
  /** It may have had no effect at all. */
  readonly unknown?: boolean
}

/**
 * `undefined` if there is an order of the operations, each at some moment between its invocation and its return, in
 * which the lock is free whenever it is acquired, and every fencing token is larger than those before it. Else the
 * operation that the furthest attempt got stuck at.
 */
export const firstImpossible = (history: ReadonlyArray<Operation>): Operation | undefined => {
  // Nobody ever asked for the outcome of an acquisition that may have had no effect, so it hinders no order: without it
  // there are fewer orders, and each of them is one of the whole history too.
  const operations = history
    .filter((each) => !(each.kind === "acquire" && each.unknown === true))
    .sort((a, b) => a.invoked - b.invoked)
  const done = operations.map(() => false)
  const seen = new Set<string>()
  let furthest = -1
  let stuckAt: Operation | undefined
  let lastTaken = -1

  // Depth first, with a stack of our own: histories are longer than the engine's.
  interface Step {
    readonly holder: string | undefined
    readonly fence: bigint
    readonly first: number
    readonly candidates: ReadonlyArray<number>
    next: number
    taken: number
  }
  const step = (holder: string | undefined, fence: bigint, from: number, depth: number): Step | undefined => {
    let first = from
    while (done[first] === true) first++
    const beyond: Array<number> = []
    const candidates: Array<number> = []
    let earliestReturn = Infinity
    let blocked: Operation | undefined
    for (let index = first; index < operations.length; index++) {
      const each = operations[index]!
      // Whatever was invoked after another had returned comes after it.
      if (each.invoked > earliestReturn) {
        // No candidate, but it may be done already, which makes this state another.
        if (index > lastTaken) break
        if (done[index]) beyond.push(index)
        continue
      }
      if (done[index]) {
        beyond.push(index)
        continue
      }
      if (each.returned < earliestReturn) {
        earliestReturn = each.returned
        blocked = each
      }
      candidates.push(index)
    }
    if (depth > furthest) {
      furthest = depth
      stuckAt = blocked ?? operations[first]
    }
    const state = `${holder ?? ""}|${fence}|${first}|${beyond.join()}`
    if (seen.has(state)) return undefined
    seen.add(state)
    return {
      holder,
      fence,
      first,
      candidates: candidates.filter((index) => operations[index]!.invoked <= earliestReturn),
      next: 0,
      taken: -1
    }
  }

  const isOver = () => operations.every((each, index) => done[index] || each.returned === Infinity)
  const start = step(undefined, -1n, 0, 0)
  const stack: Array<Step> = start === undefined ? [] : [start]
  while (stack.length > 0) {
    const top = stack.at(-1)!
    if (top.taken >= 0) {
      done[top.taken] = false
      top.taken = -1
    }
    if (top.next === 0 && top.candidates.every((index) => operations[index]!.returned === Infinity) && isOver()) {
      return undefined
    }
    const index = top.candidates[top.next++]
    if (index === undefined) {
      stack.pop()
      continue
    }
    const { fence, hold, kind } = operations[index]!
    let after: Step | undefined
    done[index] = true
    lastTaken = Math.max(lastTaken, index)
    if (kind === "acquire") {
      if (top.holder === undefined && (fence === undefined || fence > top.fence)) {
        after = step(hold, fence ?? top.fence, top.first, stack.length)
      }
    } else if (top.holder === hold) {
      after = step(undefined, top.fence, top.first, stack.length)
    }
    if (after === undefined) done[index] = false
    else {
      top.taken = index
      stack.push(after)
    }
  }
  return stuckAt
}
