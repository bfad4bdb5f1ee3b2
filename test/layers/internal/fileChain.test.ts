/**
 * The chain of generations under every order of steps of the processes that compete for it; see `modelWorld.ts`.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, type FileSystem, PlatformError } from "effect"
import * as ReleasedTips from "../../../src/layers/internal/releasedTips.ts"
import { death, type Event, everyOrder, pass, randomOrders, type Scenario, setWall } from "./explore.ts"
import { directory, ttl, Violation, World } from "./modelWorld.ts"

const enough = 2 * ttl + 200

/** When all is over and every lease has ended, whoever asks gets the lock, with a larger token, and little is left. */
const staysUsable = (world: World) => () => {
  for (const trust of [...world.trusts.values()]) if (!world.dead.has(trust.process)) world.trusts.delete(trust.process)
  const late = world.process("Z")
  for (let round = 0; round < 3 && !world.trusts.has("Z"); round++) {
    world.pass(enough)
    world.start("Z", late.acquire)
    world.settle("Z")
  }
  const token = world.trusts.get("Z")?.token
  if (token === undefined) throw new Violation(`nobody can take the lock any more: ${world.names()}`)
  for (const other of world.tokens) {
    if (other > token) throw new Violation(`token ${token} came after ${other}`)
  }
  world.start("Z", late.release)
  world.settle("Z")
  world.start("Z", late.acquire)
  world.settle("Z")
  const records = world.names().filter((name) => name.startsWith("g"))
  if (records.length > 2) throw new Violation(`records are left: ${world.names()}`)
}

const scenario = (
  set: (world: World) => ReadonlyArray<Event> | void,
  atEnd?: (world: World) => void
) =>
(): Scenario => {
  const world = new World()
  const events = set(world) ?? []
  const usable = staysUsable(world)
  return {
    world,
    events,
    atEnd: () => {
      atEnd?.(world)
      usable()
    }
  }
}

/** A process that has the lock; its lease ends in `left` milliseconds. */
const holder = (world: World, name: string, left: number) => {
  const process = world.process(name)
  world.start(name, process.acquire)
  world.settle(name)
  assert(world.trusts.has(name), world.log.join("\n"))
  world.pass(ttl - left)
  return process
}

/** A process that takes the lock again without looking first. */
const regular = (world: World, name: string) => {
  const process = world.process(name)
  for (const verb of [process.acquire, process.release, process.acquire, process.release]) {
    world.start(name, verb)
    world.settle(name)
  }
  assert(ReleasedTips.take(new Map(process.store.released), directory) !== undefined)
  return process
}

/** A process whose attempt was granted, and which never got the answer. */
const unanswered = (world: World, name: string, left: number) => {
  const process = holder(world, name, left)
  world.trusts.delete(name)
  world.tokens.clear()
  return process
}

const takers = (world: World, ...names: ReadonlyArray<string>) => {
  for (const name of names) world.start(name, world.process(name).acquire)
}

type Bend = (fs: FileSystem.FileSystem) => FileSystem.FileSystem
const straight: Bend = (fs) => fs

/** A taker, and another process that takes and gives back the same lock several times meanwhile. */
const oldListing = (bend: Bend) =>
  scenario((world) => {
    const first = holder(world, "H", ttl)
    world.start("H", first.release)
    world.settle("H")
    world.start("A", world.process("A", bend).acquire)
    const other = world.process("B")
    const round = Effect.andThen(other.acquire, other.release)
    world.start("B", round.pipe(Effect.andThen(round), Effect.andThen(round), Effect.andThen(other.acquire)))
  })

/** One who asks again at the moment its unknown lease expires and then renews, and a taker, while the clock is set back. */
const clockSetBack = (bend: Bend) =>
  scenario((world) => {
    const { acquire, renew } = unanswered(world, "H", 1)
    world.start("H", Effect.andThen(acquire, renew))
    world.start("A", world.process("A", bend).acquire)
    return [pass(2), setWall(-500)]
  })

/** A disk that fails once a name was linked: the next listing, and the removal that follows it. */
const failing: Bend = (fs) => {
  let linked = false
  let failures = 2
  const fail = <A>(self: Effect.Effect<A, PlatformError.PlatformError>) =>
    Effect.suspend(() => linked && failures-- > 0 ? Effect.fail(broken) : self)
  return {
    ...fs,
    link: (from, to) =>
      Effect.map(fs.link(from, to), () => {
        linked = true
      }),
    readDirectory: (path) => fail(fs.readDirectory(path)),
    remove: (path) => path.startsWith(directory) ? fail(fs.remove(path)) : fs.remove(path)
  }
}
const broken = PlatformError.systemError({
  _tag: "Unknown",
  module: "FileSystem",
  method: "model",
  cause: { code: "EIO" }
})

describe("at most one process trusts the lock, in every order of", () => {
  it("two who take a lock that never was", () => {
    assert.isAbove(
      everyOrder(scenario((world) => takers(world, "A", "B"), (world) => assert.strictEqual(world.trusts.size, 1))),
      10
    )
  })

  it("two who take a released lock, and a third who reads an old directory", () => {
    const make = scenario((world) => {
      const first = holder(world, "H", ttl)
      world.start("H", first.release)
      world.settle("H")
      takers(world, "A", "B", "C")
    })
    assert.isAbove(everyOrder(make, 3), 500)
    randomOrders(make, 3000, 1)
  })

  it("a taker that sleeps on an old listing, while another takes and releases again and again", () => {
    assert.isAbove(everyOrder(oldListing(straight), 2), 50)
    randomOrders(oldListing(straight), 2000, 7)
  })

  it("two who released, and take again without looking first, while others take and release", () => {
    const make = scenario((world) => {
      for (const name of ["A", "B"]) {
        const { acquire, release } = regular(world, name)
        world.start(name, Effect.andThen(acquire, Effect.andThen(release, acquire)))
      }
      world.start("C", Effect.andThen(world.process("C").acquire, world.process("C").release))
    })
    assert.isAbove(everyOrder(make, 2), 100)
    randomOrders(make, 3000, 11)
  })

  it("one who takes again without looking first, while the directory is deleted and the clock set back", () => {
    const make = scenario((world) => {
      const { acquire } = regular(world, "A")
      world.disk.directories.delete(directory)
      world.pass(-5)
      world.tokens.clear()
      world.start("A", acquire)
      takers(world, "B")
    })
    assert.isAbove(everyOrder(make, 3), 50)
  })

  it("two who take a released lock where the kernel's time is a ttl and more behind the clock", () => {
    const make = scenario((world) => {
      const first = holder(world, "H", ttl)
      world.start("H", first.release)
      world.settle("H")
      world.kernelLag = 2 * ttl
      takers(world, "A", "B")
    }, (world) => assert.strictEqual(world.trusting.length, 1))
    assert.isAbove(everyOrder(make, 4), 500)
  })

  it("two who take over an expired lease", () => {
    const make = scenario((world) => {
      holder(world, "H", 0)
      takers(world, "A", "B")
    }, (world) => assert.strictEqual(world.trusting.length, 1))
    assert.isAbove(everyOrder(make, 4), 500)
  })

  it("two who take over from a dead process long before its ttl", () => {
    const make = scenario((world) => {
      holder(world, "H", ttl)
      world.dead.add("H")
      takers(world, "A", "B")
    }, (world) => assert.strictEqual(world.trusting.length, 1))
    assert.isAbove(everyOrder(make, 4), 500)
  })

  for (const left of [0, 1, 3]) {
    it(`a taker, and a holder who renews ${left} ms before its lease ends`, () => {
      const make = scenario((world) => {
        world.start("H", holder(world, "H", left).renew)
        takers(world, "A")
        return [pass(1), pass(2)]
      })
      assert.isAbove(everyOrder(make, 2), 100)
      randomOrders(make, 2000, 8)
    })

    it(`a taker, and one who asks again ${left} ms before its unknown lease ends`, () => {
      const make = scenario((world) => {
        world.start("H", unanswered(world, "H", left).acquire)
        takers(world, "A")
        return [pass(1), pass(2)]
      })
      assert.isAbove(everyOrder(make, 2), 100)
      randomOrders(make, 2000, 9)
    })
  }

  it("a taker who dies between any two steps, one who asks again, and the next taker", () => {
    const make = scenario((world) => {
      world.start("H", unanswered(world, "H", 1).acquire)
      takers(world, "A", "B")
      return [death("A"), pass(1), pass(ttl)]
    })
    everyOrder(make, 2)
    randomOrders(make, 5000, 2)
  })

  it("a holder who renews and then releases, an operator who breaks it, and two takers", () => {
    for (const now of [true, false]) {
      const make = scenario((world) => {
        const process = holder(world, "H", 2)
        // A break with `now` may overlap the holder that it breaks: from then on only the others count.
        if (now) world.trusts.delete("H")
        else world.start("H", Effect.andThen(process.renew, process.release))
        world.start("O", world.process("O").breakLock(process.ownerId, now))
        takers(world, "A", "B")
        return [pass(3), death("A")]
      })
      everyOrder(make, 2)
      randomOrders(make, 2000, 3)
    }
  })

  it("a wall clock that is set back, a holder who renews, and takers who watch", () => {
    const make = scenario((world) => {
      const process = holder(world, "H", ttl)
      world.wall -= 10_000
      const watchers = ["A", "B"].map((name) => world.process(name))
      for (const { acquire, name } of watchers) {
        world.start(name, acquire)
        world.settle(name)
      }
      world.pass(ttl + 51)
      for (const { acquire, name } of watchers) world.start(name, acquire)
      world.start("H", process.renew)
      return [pass(1), death("A")]
    })
    everyOrder(make, 2)
    randomOrders(make, 3000, 4)
  })

  it("a wall clock that is set back while one asks again and another takes over", () => {
    everyOrder(clockSetBack(straight), 3)
    randomOrders(clockSetBack(straight), 3000, 5)
  })

  it("a wall clock that is set back while one asks again, and a taker whose disk fails between two tries", () => {
    const make = scenario((world) => {
      world.start("H", unanswered(world, "H", 1).acquire)
      const { acquire } = world.process("A", failing)
      const untilAnswered: typeof acquire = Effect.catch(acquire, () => untilAnswered)
      world.start("A", Effect.andThen(untilAnswered, untilAnswered))
      return [pass(2), setWall(-500)]
    })
    everyOrder(make, 2)
    randomOrders(make, 3000, 10)
  })

  it("a wall clock that is set at any moment, one who asks again, and takers of whom one dies", () => {
    for (const by of [-500, -2 * ttl]) {
      randomOrders(
        scenario((world) => {
          world.start("H", unanswered(world, "H", 1).acquire)
          takers(world, "A", "B")
          return [pass(2), setWall(by), death("A"), pass(ttl)]
        }),
        3000,
        5
      )
    }
  })

  it("a lock directory that is deleted under its holder, who renews, and takers", () => {
    const make = scenario((world) => {
      world.start("H", holder(world, "H", ttl).renew)
      takers(world, "A", "B")
      let deleted = false
      return [{
        name: "the directory is deleted",
        isPossible: () => !deleted,
        // Who deletes it takes the lock away from whoever has it, as who breaks it does.
        happen: () => {
          deleted = true
          world.disk.directories.delete(directory)
          world.trusts.clear()
          world.pass(1)
        }
      }]
    })
    everyOrder(make, 2)
    randomOrders(make, 3000, 6)
  })
})

describe("the exploration itself", () => {
  // Shows a taker that has linked a name nothing but that.
  const blind = (fs: FileSystem.FileSystem): FileSystem.FileSystem => {
    let linked: string | undefined
    return {
      ...fs,
      link: (from, to) =>
        Effect.map(fs.link(from, to), () => {
          linked = to.slice(directory.length + 1)
        }),
      stat: (path) => linked === undefined ? fs.stat(path) : fs.stat(`${directory}/gone`),
      readDirectory: (path) => linked === undefined ? fs.readDirectory(path) : Effect.succeed([linked])
    }
  }
  const sameName = (fs: FileSystem.FileSystem): FileSystem.FileSystem => ({
    ...fs,
    link: (from, to) => Effect.andThen(Effect.ignore(fs.remove(to)), fs.link(from, to))
  })

  it("finds two holders if a taker with an old listing does not look again after it has linked", () => {
    assert.throws(() => everyOrder(oldListing(blind), 2), Violation)
  })

  it("finds two holders if a taker does not look again, and the clock is set back", () => {
    assert.throws(() => randomOrders(clockSetBack(blind), 3000, 5), Violation)
  })

  it("finds two holders if takers replace what they judged over instead of adding to it", () => {
    const make = scenario((world) => {
      holder(world, "H", 0)
      for (const name of ["A", "B"]) world.start(name, world.process(name, sameName).acquire)
    })
    assert.throws(() => everyOrder(make, 3), Violation)
  })
})
