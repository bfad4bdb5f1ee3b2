/**
 * The lock protocol of one master, each step one script.
 *
 * A lock is a string, `1|owner|try|token|since|state|metadata`: the format's number, the owner id (encoded, so that it
 * has no `|`), the number of its try, the fencing token, the time of the grant, `h` (held) or `d` (draining), and the
 * metadata as JSON. Beside it the largest token of the key, which outlives the lock, and tries that are dead but may
 * still arrive.
 *
 * All times are the server's, told as TIME tells them: `seconds.microseconds`. Numbers go through Lua as doubles, which
 * is exact below 2^53, and come out by `%.0f`: the plain conversion has 14 digits.
 */
import { type RedisScript, script } from "./redisClient.ts"

/** For how long a token is remembered after the last grant of its key, in milliseconds: longer than any lease. */
const tokenLife = 48 * 3_600_000

// No functions in the scripts: a server makes them anew for each call.
const fields = "^1|([^|]*)|(%d+)|(%d+)|([%d.]+)|(%a)|(.*)$"
const foreign = "redis.error_reply(\"FOREIGN data where a lock should be\")"

/**
 * KEYS lock, largest token, dead tries; ARGV `1|owner|try`, token, ttl, metadata, mode (none: propose). Answers clock,
 * verdict, and what belongs to it: a token, or how much is left of the lock that is held, and the lock.
 */
export const take: RedisScript = script(`
local time = redis.call("TIME")
local clock, micros = time[1] .. "." .. time[2], time[1] * 1000000 + time[2]
local token, ttl, mode = tonumber(ARGV[2]), ARGV[3], ARGV[5]
local found, dead = redis.call("GET", KEYS[1]), redis.call("GET", KEYS[3])
if found or dead then
  local owner, try = string.match(ARGV[1], "^1|([^|]*)|(%d+)$")
  try = tonumber(try)
  if dead and tonumber(dead) >= try then return {clock, "Dead"} end
  if found then
    local holder, before, placed, _, state = string.match(found, "${fields}")
    if not holder then return ${foreign} end
    local left = redis.call("PTTL", KEYS[1])
    if holder ~= owner or state ~= "h" then return {clock, "Held", left, found} end
    before = tonumber(before)
    if before > try then return {clock, "Dead"} end
    if before == try and (not mode or token <= tonumber(placed)) then
      if left < tonumber(ttl) then redis.call("PEXPIRE", KEYS[1], ttl) end
      return {clock, "Ok", placed}
    end
    if left > tonumber(ttl) then ttl = string.format("%.0f", left) end
  end
end
local stored = tonumber(redis.call("GET", KEYS[2]) or "0")
local seen = math.max(stored, micros - 1000000)
if mode == "join" then seen = stored - 1 end
if token <= seen then return {clock, "TooLow", string.format("%.0f", seen)} end
if token > stored + 1 and token > micros + 60000000 then return {clock, "TooHigh"} end
redis.call("SET", KEYS[1], ARGV[1] .. "|" .. ARGV[2] .. "|" .. clock .. "|h|" .. ARGV[4], "PX", ttl)
redis.call("SET", KEYS[2], ARGV[2], "PX", "${tokenLife}")
return {clock, "Ok", ARGV[2]}
`)

/** KEYS lock; ARGV owner, token, ttl. */
export const renew: RedisScript = script(`
local found = redis.call("GET", KEYS[1])
if not found then return "Gone" end
local holder, _, token, _, state = string.match(found, "${fields}")
if not holder then return ${foreign} end
if holder ~= ARGV[1] then return "Taken" end
if token ~= ARGV[2] or state ~= "h" then return "Gone" end
if redis.call("PTTL", KEYS[1]) < tonumber(ARGV[3]) then redis.call("PEXPIRE", KEYS[1], ARGV[3]) end
return "Ok"
`)

/**
 * KEYS lock, and dead tries if they are to be remembered; ARGV owner, last try that is over, milliseconds for which it
 * is remembered.
 */
export const release: RedisScript = script(`
local try = tonumber(ARGV[2])
if KEYS[2] then
  local dead = redis.call("GET", KEYS[2])
  if not dead or tonumber(dead) < try then redis.call("SET", KEYS[2], ARGV[2], "PX", ARGV[3]) end
end
local found = redis.call("GET", KEYS[1])
if not found then return "NotHeld" end
local holder, placed = string.match(found, "^1|([^|]*)|(%d+)|")
if not holder then return ${foreign} end
if holder ~= ARGV[1] or tonumber(placed) > try then return "NotHeld" end
redis.call("DEL", KEYS[1])
return "Released"
`)

/** KEYS lock. Answers how much is left of it, and the lock. */
export const inspect: RedisScript = script(`
local found = redis.call("GET", KEYS[1])
if not found then return {} end
return {redis.call("PTTL", KEYS[1]), found}
`)

/** KEYS lock; ARGV owner, "now" or "drain". */
export const breakLock: RedisScript = script(`
local found = redis.call("GET", KEYS[1])
if not found then return "NotFound" end
local holder, try, token, since, _, metadata = string.match(found, "${fields}")
if not holder then return ${foreign} end
if holder ~= ARGV[1] then return "NotFound" end
if ARGV[2] == "now" then
  redis.call("DEL", KEYS[1])
else
  local draining = table.concat({"1", holder, try, token, since, "d", metadata}, "|")
  redis.call("SET", KEYS[1], draining, "PX", math.max(redis.call("PTTL", KEYS[1]), 1))
end
return "Found"
`)
