/**
 * What runs inside Redis for cached counts: each script is one step for every node. They need Redis 6.2.
 *
 * Keys, all with one hash tag, so that a cluster keeps them on one node:
 * - `root` (hash): the version of everything: on this every count depends. `run`: the server process that has it.
 * - `root:u:…`, `root:e:…`, `root:g:…` (hashes, expire): the versions of a user, of everybody in a tenant, of a group.
 * - `root:c:…` (hash, expires): a count, the names and versions of what it depends on, and from when until when it holds.
 * - `root:nodes` (sorted set): writing node → the end of its lease, by the clock of Redis.
 *
 * A version hash has `v`, a text that no version had before, and `w:…` for each write that is under way: until when it is
 * believed to be. While there is one, what depends on it is neither stored nor given out. One that ran out ended nobody knows
 * how, so the version turns; so does one that is missing, which Redis may have forgotten.
 *
 * Where `run` is of another server process, or nothing is there, Redis may have lost what it was told last (a restart with an
 * older file, a replica that took over, a flush): everything turns, and counts as being written for as long as a write may be
 * under way that it does not know of any more.
 */
import { redisScript } from '../buses/redis-caller.js';

/** ARGV: 1 a text that nobody sent before, 2 ms a write is believed, 3 ms that versions are kept, 4 ms until a node is forgotten. */
const PRELUDE = `
local root, keep, lease, forget = KEYS[1], ARGV[3], tonumber(ARGV[2]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
-- With the time: a client that lost its connection may send a command again that was carried out.
local fresh = ARGV[1] .. time[1] .. '.' .. time[2]
local nodes = root .. ':nodes'

local function text(number) return string.format('%.0f', number) end

local function keyOf(name)
  if name == '' then return root end
  return root .. ':' .. name
end

local function turn(name)
  redis.call('HSET', keyOf(name), 'v', fresh)
  redis.call('PEXPIRE', keyOf(name), keep)
end

local function mark(name, writer)
  redis.call('HSET', keyOf(name), 'w:' .. writer, text(now + lease))
  redis.call('PEXPIRE', keyOf(name), keep)
end

-- Who may not ask this gets by without.
local info = redis.pcall('INFO', 'server')
local run = type(info) == 'string' and string.match(info, 'run_id:(%w+)') or ''
if redis.call('HGET', root, 'run') ~= run then
  redis.call('HSET', root, 'run', run)
  turn('')
  mark('', 'unknown')
end

-- Its version; nil where it is being written.
local function versionOf(name)
  local key = keyOf(name)
  local fields = redis.call('HGETALL', key)
  local version, isBusy, hasLapsed
  for i = 1, #fields, 2 do
    local field = fields[i]
    if field == 'v' then
      version = fields[i + 1]
    elseif field ~= 'run' then
      if tonumber(fields[i + 1]) > now then
        isBusy = true
      else
        hasLapsed = true
        redis.call('HDEL', key, field)
      end
    end
  end
  if hasLapsed or not version then
    turn(name)
    version = fresh
  end
  if isBusy then return nil end
  return version
end

-- The versions of a list of names in one text; nil where one of them is being written.
local function versionsOf(names)
  local versions = {}
  for i, name in ipairs(names) do
    versions[i] = versionOf(name)
    if not versions[i] then return nil end
  end
  return table.concat(versions, ' ')
end

-- True where a node may write without a word to Redis.
local function isOneCutOff()
  if redis.call('ZREMRANGEBYSCORE', nodes, '-inf', text(now - forget)) > 0 then turn('') end
  return #redis.call('ZRANGEBYSCORE', nodes, '-inf', text(now), 'LIMIT', 0, 1) > 0
end

local function markAll(marks)
  for _, one in ipairs(cjson.decode(marks)) do
    for _, name in ipairs(one[2]) do mark(name, one[1]) end
  end
end

local function hasLease(node)
  local score = redis.call('ZSCORE', nodes, node)
  return score and tonumber(score) > now
end

-- Never back: what is late says less than what is there.
local function extend(node, through)
  redis.call('ZADD', nodes, 'GT', through, node)
  redis.call('PEXPIRE', nodes, text(tonumber(keep) + forget))
  redis.call('PEXPIRE', root, keep)
end
`;

/** → `ok`, the time. */
export const CLOCK = redisScript(`${PRELUDE}
return {'ok', text(now)}
`);

/** 5 entry, 6 names where the entry has none, 7 `all`: those whatever it has → `ok`, names, versions, and the entry; or `no`. */
export const LOOK = redisScript(`${PRELUDE}
if isOneCutOff() then return {'no'} end
local entry = redis.call('HMGET', root .. ':c:' .. ARGV[5], 'names', 'versions', 'count', 'at', 'until')
local names = ARGV[7] ~= 'all' and entry[1] or ARGV[6]
local versions = versionsOf(cjson.decode(names))
if not versions then return {'no'} end
return {'ok', names, versions, entry[2] or '', entry[3] or '', entry[4] or '', entry[5] or ''}
`);

/** 5 entry, 6 names, 7 versions, 8 count, 9 at, 10 until, 11 ms to keep it: where the versions are still these. */
export const STORE = redisScript(`${PRELUDE}
local names = cjson.decode(ARGV[6])
if isOneCutOff() or versionsOf(names) ~= ARGV[7] then return {'no'} end
local key = root .. ':c:' .. ARGV[5]
redis.call('HSET', key, 'names', ARGV[6], 'versions', ARGV[7], 'count', ARGV[8], 'at', ARGV[9], 'until', ARGV[10])
redis.call('PEXPIRE', key, ARGV[11])
for _, name in ipairs(names) do redis.call('PEXPIRE', keyOf(name), keep) end
return {'ok'}
`);

/** 5 node, 6 end of its lease, 7 `turn`: it wrote without a word, 8 its writes that are under way → `ok`, the time. */
export const JOIN = redisScript(`${PRELUDE}
extend(ARGV[5], ARGV[6])
if ARGV[7] == 'turn' then turn('') end
markAll(ARGV[8])
return {'ok', text(now)}
`);

/** 5 node, 6 end of its lease, 7 its writes that take long → `ok` or `gone`, the time. */
export const RENEW = redisScript(`${PRELUDE}
if not hasLease(ARGV[5]) then return {'gone', text(now)} end
extend(ARGV[5], ARGV[6])
markAll(ARGV[7])
return {'ok', text(now)}
`);

/** 5 node, 6 the write and its names → `ok` or `gone`. */
export const BEGIN = redisScript(`${PRELUDE}
if not hasLease(ARGV[5]) then return {'gone'} end
markAll(ARGV[6])
return {'ok'}
`);

/** 5 write, 6 its names, 7 those of which something changed. */
export const END = redisScript(`${PRELUDE}
for _, name in ipairs(cjson.decode(ARGV[7])) do turn(name) end
for _, name in ipairs(cjson.decode(ARGV[6])) do redis.call('HDEL', keyOf(name), 'w:' .. ARGV[5]) end
return {'ok'}
`);

/** 5 node: it writes no more. */
export const LEAVE = redisScript(`${PRELUDE}
redis.call('ZREM', nodes, ARGV[5])
return {'ok'}
`);
