/**
 * The scripts: each verb is one, so each is one atomic step of the server and one round trip.
 *
 * The record is a string, `1|owner|fence|since|state|metadata`: the format's number, the owner id, the fencing token, the
 * time of the grant in microseconds, `h` (held), `w` (window: given to a waiter, until its first renewal) or `d` (draining),
 * and the metadata as JSON. All times are the server's.
 *
 * The fencing token is max(last + 1, microseconds of the server's clock): it grows by one where the counter is known,
 * and by the clock where the counter was lost with the data. It is printed with `%.0f`, because Lua's own conversion
 * keeps 14 digits.
 *
 * Whoever frees the lock gives it to the first waiter in the same step, with a message that says so. `PUBLISH` answers
 * how many listen: nobody means that the waiter's process is gone, and the next one is called.
 */
import { type RedisScript, script } from "./redisClient.ts"

/** How long a waiter has what it was given until it renews it, in milliseconds, at most; with a shorter ttl, its ttl. */
export const claimWindow = 2000

/** How long a dead owner id is remembered, in milliseconds. */
export const tombstoneLife = 120_000

// A lease lives 24 hours at most without a renewal, and the counter must outlive it.
const fenceLife = 48 * 60 * 60 * 1000
const queueLife = 24 * 60 * 60 * 1000

// KEYS: 1 record, 2 fence, 3 queue, 4 tombstone. A member of the queue is `inbox|ttl|owner|metadata`, a message
// `owner|fence|record`.
// Scripts answer the usual case before these, because a server makes functions anew for each call.
const functions = `
local function parse(value)
  local owner, fence, since, state, metadata = string.match(value, "^1|([^|]*)|(%d+)|(%d+)|(%a)|(.*)$")
  if not owner then return nil, redis.error_reply("FOREIGN data where a lock should be") end
  return {owner = owner, fence = fence, since = since, state = state, metadata = metadata}
end
local function micros()
  local time = redis.call("TIME")
  return time[1] * 1000000 + time[2]
end
local function mint(now)
  local fence = now
  local last = redis.call("GET", KEYS[2])
  if last and tonumber(last) >= now then fence = tonumber(last) + 1 end
  fence = string.format("%.0f", fence)
  redis.call("SET", KEYS[2], fence, "PX", "${fenceLife}")
  return fence
end
local function write(owner, fence, since, state, metadata, ttl)
  redis.call("SET", KEYS[1], "1|" .. owner .. "|" .. fence .. "|" .. since .. "|" .. state .. "|" .. metadata, "PX", ttl)
end
-- Gives the free lock to the first waiter that listens and answers who that is; the asker itself only hears its name.
-- \`member\` was taken from the queue already, if it is there.
local function give(channels, asker, member)
  while true do
    member = member or redis.call("ZPOPMIN", KEYS[3])[1]
    if not member then return nil end
    local inbox, ttl, owner, metadata = string.match(member, "^([^|]*)|(%d+)|([^|]*)|(.*)$")
    if owner == asker then return owner end
    if inbox then
      local now = micros()
      local fence = mint(now)
      if redis.call("PUBLISH", channels .. inbox, owner .. "|" .. fence .. "|" .. KEYS[1]) > 0 then
        local window = math.min(tonumber(ttl), ${claimWindow})
        write(owner, fence, string.format("%.0f", now), "w", metadata, string.format("%.0f", window))
        return owner
      end
    end
    member = nil
  end
end
`

/**
 * ARGV: owner, ttl, metadata, member of the queue (empty: does not wait), channels.
 * Replies `{1, fence}`, or `{0, remaining ms, record}` (record is false where the lock is free and the asker dead).
 */
export const acquire: RedisScript = script(`
local owner, ttl, metadata, member, channels = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local value = redis.call("GET", KEYS[1])
local first
if not value then
  if redis.call("EXISTS", KEYS[4]) == 1 then return {0, -2, false} end
  first = redis.call("ZPOPMIN", KEYS[3])[1]
  if not first then
    local time = redis.call("TIME")
    local now = time[1] * 1000000 + time[2]
    local since = string.format("%.0f", now)
    local fence = since
    local last = redis.call("GET", KEYS[2])
    if last and tonumber(last) >= now then fence = string.format("%.0f", tonumber(last) + 1) end
    redis.call("SET", KEYS[2], fence, "PX", "${fenceLife}")
    redis.call("SET", KEYS[1], "1|" .. owner .. "|" .. fence .. "|" .. since .. "|h|" .. metadata, "PX", ttl)
    return {1, fence}
  end
elseif string.find(value, "^1|[^|]*|%d+|%d+|%a|") and string.sub(value, 3, #owner + 3) ~= owner .. "|" then
  if member ~= "" and redis.call("EXISTS", KEYS[4]) == 0 then
    local time = redis.call("TIME")
    redis.call("ZADD", KEYS[3], "NX", string.format("%d%06d", time[1], time[2]), member)
    redis.call("PEXPIRE", KEYS[3], "${queueLife}")
  end
  return {0, redis.call("PTTL", KEYS[1]), value}
end
${functions}
if value then
  local held, foreign = parse(value)
  if foreign then return foreign end
  local left = redis.call("PTTL", KEYS[1])
  if held.owner == owner and held.state ~= "d" then
    local since = held.since
    if held.state == "w" then since = string.format("%.0f", micros()) end
    if left > tonumber(ttl) then ttl = string.format("%.0f", left) end
    write(owner, held.fence, since, "h", metadata, ttl)
    return {1, held.fence}
  end
  return {0, left, value}
end
local turn = give(channels, owner, first)
if turn and turn ~= owner then
  if member ~= "" then
    redis.call("ZADD", KEYS[3], "NX", string.format("%.0f", micros()), member)
    redis.call("PEXPIRE", KEYS[3], "${queueLife}")
  end
  return {0, redis.call("PTTL", KEYS[1]), redis.call("GET", KEYS[1])}
end
local now = micros()
local fence = mint(now)
write(owner, fence, string.format("%.0f", now), "h", metadata, ttl)
return {1, fence}
`)

/**
 * ARGV: owner, fence, ttl. Replies 1, 0 (nobody's, or not renewed any more), -1 (somebody else's). Never re-creates.
 */
export const renew: RedisScript = script(`${functions}
local value = redis.call("GET", KEYS[1])
if not value then return 0 end
local held, foreign = parse(value)
if foreign then return foreign end
if held.owner ~= ARGV[1] then return -1 end
if held.fence ~= ARGV[2] or held.state == "d" then return 0 end
if held.state == "w" then
  write(held.owner, held.fence, held.since, "h", held.metadata, string.format("%.0f", math.max(redis.call("PTTL", KEYS[1]), 1)))
end
if redis.call("PTTL", KEYS[1]) < tonumber(ARGV[3]) then redis.call("PEXPIRE", KEYS[1], ARGV[3]) end
redis.call("PEXPIRE", KEYS[2], "${fenceLife}")
return 1
`)

/**
 * ARGV: owner, which grant (a fence; empty: any; \`w\`: only what was not claimed), its member of the queue (empty: none),
 * tombstone's life (empty: none), channels. Replies 1 if it was held, else 0.
 */
export const release: RedisScript = script(`
local owner, which, member, tomb, channels = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if tomb ~= "" then redis.call("SET", KEYS[4], "1", "PX", tomb) end
if member ~= "" then redis.call("ZREM", KEYS[3], member) end
local value = redis.call("GET", KEYS[1])
local first
if value then
  local mine = "1|" .. owner .. "|" .. which .. "|"
  if which ~= "" and string.sub(value, 1, #mine) == mine then
    first = redis.call("ZPOPMIN", KEYS[3])[1]
    if not first then
      redis.call("DEL", KEYS[1])
      return 1
    end
    local inbox, ttl, next, metadata = string.match(first, "^([^|]*)|(%d+)|([^|]*)|(.*)$")
    local last = tonumber(which)
    if inbox and last then
      local time = redis.call("TIME")
      local now = time[1] * 1000000 + time[2]
      local since = string.format("%.0f", now)
      local fence = since
      if last >= now then fence = string.format("%.0f", last + 1) end
      if redis.call("PUBLISH", channels .. inbox, next .. "|" .. fence .. "|" .. KEYS[1]) > 0 then
        if tonumber(ttl) > ${claimWindow} then ttl = "${claimWindow}" end
        redis.call("SET", KEYS[2], fence, "PX", "${fenceLife}")
        redis.call("SET", KEYS[1], "1|" .. next .. "|" .. fence .. "|" .. since .. "|w|" .. metadata, "PX", ttl)
        return 1
      end
    end
  end
end
${functions}
if value then
  local held, foreign = parse(value)
  if foreign then return foreign end
  if held.owner ~= owner then return 0 end
  if which ~= "" and which ~= held.fence and which ~= held.state then return 0 end
  if not give(channels, "", first) then redis.call("DEL", KEYS[1]) end
  return 1
end
if member ~= "" then give(channels, "") end
return 0
`)

/** Any number of records; replies each one's value and remaining milliseconds. */
export const inspect: RedisScript = script(`
local found = {}
for index, key in ipairs(KEYS) do
  found[2 * index - 1] = redis.call("GET", key)
  found[2 * index] = redis.call("PTTL", key)
end
return found
`)

/**
 * ARGV: owner, \`now\` or \`drain\`, channels. Replies 2 (freed), 1 (draining), 0 (not that owner's).
 */
export const breakLock: RedisScript = script(`${functions}
local value = redis.call("GET", KEYS[1])
if not value then return 0 end
local held, foreign = parse(value)
if foreign then return foreign end
if held.owner ~= ARGV[1] then return 0 end
if ARGV[2] == "now" then
  if not give(ARGV[3], "") then redis.call("DEL", KEYS[1]) end
  return 2
end
write(held.owner, held.fence, held.since, "d", held.metadata, string.format("%.0f", math.max(redis.call("PTTL", KEYS[1]), 1)))
return 1
`)
