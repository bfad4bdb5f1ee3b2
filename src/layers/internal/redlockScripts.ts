/**
 * The lock protocol of one master, each step one script.
 *
 * A lock is a hash: `o` owner id, `a` number of its try, `f` fencing token, `s` since (milliseconds), `m` metadata, `d`
 * draining. Beside it the largest token of the key, which outlives the lock, and tries that are dead but may still
 * arrive. Numbers go through Lua as doubles, which is exact below 2^53, and come out by `%.0f`: the plain conversion has
 * 14 digits. All times are the server's.
 */
import { type RedisScript, script } from "./redisClient.ts"

// What a refusal tells of the holder; `found` is the hash, with o and f first.
const describe = `
local function record(found, key)
  return {found[1], found[2], found[3], string.format("%.0f", redis.call("PTTL", key)), found[4]}
end`

/**
 * KEYS lock, largest token, dead tries; ARGV owner id, try, token, ttl, metadata, mode, milliseconds for which the
 * largest token is kept. Answers clock, verdict, and what belongs to it.
 */
export const take: RedisScript = script(`${describe}
local time = redis.call("TIME")
local micros = tonumber(time[1]) * 1000000 + tonumber(time[2])
local clock = string.format("%.0f", micros)
local try, token, ttl, mode = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[6]
local dead = redis.call("GET", KEYS[3])
if dead and tonumber(dead) >= try then return {clock, "Dead"} end
local found = redis.call("HMGET", KEYS[1], "o", "f", "s", "m", "a", "d")
local mine = found[1] == ARGV[1]
if found[1] and (not mine or found[6]) then return {clock, "Held", record(found, KEYS[1])} end
local again = false
if mine then
  local before = tonumber(found[5])
  if before > try then return {clock, "Dead"} end
  again = before == try
end
local stored = tonumber(redis.call("GET", KEYS[2]) or "0")
if again and (mode == "propose" or token <= tonumber(found[2])) then
  if redis.call("PTTL", KEYS[1]) < ttl then redis.call("PEXPIRE", KEYS[1], ARGV[4]) end
  return {clock, "Ok", found[2]}
end
local seen = math.max(stored, micros - 1000000)
if mode == "join" then seen = stored - 1 end
if token <= seen then return {clock, "TooLow", string.format("%.0f", seen)} end
if token > stored + 1 and token > micros + 60000000 then return {clock, "TooHigh"} end
redis.call("HSET", KEYS[1], "o", ARGV[1], "a", ARGV[2], "f", ARGV[3], "m", ARGV[5],
  "s", string.format("%.0f", micros / 1000))
if not mine or redis.call("PTTL", KEYS[1]) < ttl then redis.call("PEXPIRE", KEYS[1], ARGV[4]) end
redis.call("SET", KEYS[2], ARGV[3], "PX", ARGV[7])
return {clock, "Ok", ARGV[3]}
`)

/** KEYS lock; ARGV owner id, token, ttl. */
export const renew: RedisScript = script(`
local found = redis.call("HMGET", KEYS[1], "o", "f", "d")
if not found[1] then return "Gone" end
if found[1] ~= ARGV[1] then return "Taken" end
if found[2] ~= ARGV[2] or found[3] then return "Gone" end
if redis.call("PTTL", KEYS[1]) < tonumber(ARGV[3]) then redis.call("PEXPIRE", KEYS[1], ARGV[3]) end
return "Ok"
`)

/** KEYS lock, dead tries; ARGV owner id, last try that is over, milliseconds for which they are dead, or 0. */
export const release: RedisScript = script(`
local try = tonumber(ARGV[2])
if ARGV[3] ~= "0" then
  local dead = redis.call("GET", KEYS[2])
  if not dead or tonumber(dead) < try then redis.call("SET", KEYS[2], ARGV[2], "PX", ARGV[3]) end
end
local found = redis.call("HMGET", KEYS[1], "o", "a")
if found[1] ~= ARGV[1] or tonumber(found[2]) > try then return "NotHeld" end
redis.call("DEL", KEYS[1])
return "Released"
`)

/** KEYS lock. */
export const inspect: RedisScript = script(`${describe}
local found = redis.call("HMGET", KEYS[1], "o", "f", "s", "m")
if not found[1] then return {} end
return record(found, KEYS[1])
`)

/** KEYS lock; ARGV owner id, "now" or "drain". */
export const breakLock: RedisScript = script(`
if redis.call("HGET", KEYS[1], "o") ~= ARGV[1] then return "NotFound" end
if ARGV[2] == "now" then redis.call("DEL", KEYS[1]) else redis.call("HSET", KEYS[1], "d", "1") end
return "Found"
`)
