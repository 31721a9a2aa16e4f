/**
 * The scripts that run inside Redis: all that must be one step for every node is here. They need Redis 6.2.
 *
 * Keys of a namespace, all with one hash tag, so that a cluster keeps them on one node:
 * - `root` (hash): `r` the run, `s` the newest sequence, `f` forgotten: keys that are not in `:last` had nothing after it,
 *   `b` dropped: nothing up to it is served, because of its age, `m` how it is published (`p` PUBLISH, `s` SPUBLISH),
 *   `t` when ages were looked at last, `e` the epoch: the run with which this history began, `i` the server that was published
 *   on last.
 * - `root:last` (sorted set): channel key → its newest sequence, for keys used within the age limit; and '' → 0, by which it is
 *   known to be the one that was kept.
 * - `root:times` (sorted set): sequence → a time at which it was the newest; by these an age becomes a sequence.
 * - `root:runs` (sorted set): run → the sequence after which it began.
 * - `root:by:…` (string, expires): the last batch of one publisher, so that a batch sent twice is stored once.
 * - `root:h:…` (stream, expires): history of one channel key, `sequence-0`: `p` the sequence before it on its key and its
 *   run, `d` the event.
 *
 * A *run* begins where Redis may have lost its newest writes: with an empty Redis, and on another server than the one that
 * was published on last (a restart and a promotion both give a server another replication id; that scripts are unknown would
 * not do: a master that serves again after a replica did knows them). Ids are `run-sequence`, so an id is good exactly as
 * long as the run had got that far. Where somebody has seen more of a run than Redis has, acknowledged writes are gone:
 * everything before is given up, and a new run begins behind what was seen. Sequences begin at the microsecond of the first
 * use, so that they grow over a lost Redis too.
 */

const PRELUDE = `
local metaKey, lastKey, timesKey, runsKey = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local run, sequence, forgotten, dropped, mode, marked, server

local function text(number) return string.format('%.0f', number) end

local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function begin(candidate, from)
  run, sequence, forgotten, dropped, marked = candidate, from, from, from, 0
  redis.call('DEL', lastKey, timesKey, runsKey)
  server = ''
  redis.call('HSET', metaKey, 'r', run, 's', text(from), 'f', text(from), 'b', text(from), 'm', mode, 't', '0', 'e', run, 'i', '')
  redis.call('ZADD', runsKey, text(from), run)
  redis.call('ZADD', lastKey, 0, '')
end

-- Sharded where this server is able to, for 'a'.
local function modeOf(proposal)
  if proposal ~= 'a' then return proposal end
  local answer = redis.pcall('SPUBLISH', metaKey .. ':b:', '')
  return type(answer) == 'table' and answer.err and 'p' or 's'
end

local function load(candidate, proposal)
  local meta = redis.call('HMGET', metaKey, 'r', 's', 'f', 'b', 'm', 't', 'i')
  if not meta[1] then
    mode = modeOf(proposal)
    begin(candidate, clock() * 1000)
    return
  end
  run, sequence, forgotten, dropped = meta[1], tonumber(meta[2]), tonumber(meta[3]), tonumber(meta[4])
  mode, marked, server = meta[5], tonumber(meta[6]), meta[7]
  -- A Redis that evicts takes one key and leaves the others.
  if not redis.call('ZSCORE', runsKey, run) then
    begin(candidate, sequence)
  elseif not redis.call('ZSCORE', lastKey, '') then
    forgotten = sequence
    redis.call('HSET', metaKey, 'f', text(forgotten))
    redis.call('ZADD', lastKey, 0, '')
  end
end

-- True where this history has got as far as somebody has seen; nil where what they saw is of another history.
local function contains(knownRun, known)
  if knownRun == run then return known <= sequence end
  local base = redis.call('ZSCORE', runsKey, knownRun)
  if not base or known < tonumber(base) then return nil end
  local following = redis.call('ZRANGEBYSCORE', runsKey, '(' .. base, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  return not following[2] or known <= tonumber(following[2])
end

-- The same; where acknowledged writes are gone, nothing that was before counts any more.
local function compare(candidate, knownRun, known)
  if knownRun == '' then return true end
  -- No sequence gets there before the year 2250: somebody wrote into our channels.
  if known > 8.9e15 then return nil end
  local isContained = contains(knownRun, known)
  if isContained == false then begin(candidate, math.max(sequence, known)) end
  return isContained
end

-- Turns the age limit into a sequence, now and then, and forgets channel keys that had nothing since.
local function age(limit)
  local time = clock()
  if time >= marked and time - marked < math.max(50, limit / 32) then return end
  redis.call('HSET', metaKey, 't', text(time))
  redis.call('ZADD', timesKey, 'NX', text(time), text(sequence))
  local old = redis.call('ZREVRANGEBYSCORE', timesKey, text(time - limit), '-inf', 'LIMIT', 0, 1)
  if old[1] and tonumber(old[1]) > dropped then
    dropped = tonumber(old[1])
    redis.call('HSET', metaKey, 'b', text(dropped))
  end
  redis.call('ZREMRANGEBYSCORE', timesKey, '-inf', text(time - limit))
  local idle = redis.call('ZRANGEBYSCORE', lastKey, '(0', text(dropped), 'WITHSCORES', 'LIMIT', 0, 1000)
  if #idle == 0 then return end
  local names = {}
  for i = 1, #idle, 2 do names[#names + 1] = idle[i] end
  forgotten = math.max(forgotten, tonumber(idle[#idle]))
  redis.call('HSET', metaKey, 'f', text(forgotten))
  redis.call('ZREM', lastKey, unpack(names))
end
`;

/**
 * Orders, stores and sends a batch.
 *
 * KEYS: root, last, times, runs, by, and for each event its stream. ARGV: a name for a run, mode, historySize, historyTtl,
 * number of the batch, the run and sequence the publisher has seen; then the events. Returns run, first sequence, mode.
 */
export const PUBLISH_SCRIPT = `${PRELUDE}
local byKey = KEYS[5]
load(ARGV[1], ARGV[2])
local size, limit = tonumber(ARGV[3]), tonumber(ARGV[4])
compare(ARGV[1], ARGV[6], tonumber(ARGV[7]))

local by = redis.call('GET', byKey)
if by then
  local number, itsRun, first = string.match(by, '^(%d+) (%S+) (%d+)$')
  if number == ARGV[5] then return {itsRun, first, mode} end
  if tonumber(number) > tonumber(ARGV[5]) then return redis.error_reply('STALE a newer batch of this publisher is stored') end
end

-- A server that takes over may have lost what the one before it had: whoever saw that can tell by the run.
local here = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)') or ''
if here ~= server then
  redis.call('HSET', metaKey, 'i', here)
  local base = tonumber(redis.call('ZSCORE', runsKey, run))
  -- One without events may as well go on.
  if base < sequence then
    run = ARGV[1]
    redis.call('HSET', metaKey, 'r', run)
    redis.call('ZADD', runsKey, text(sequence), run)
    redis.call('ZREMRANGEBYRANK', runsKey, 0, -129)
  end
end

local count = #KEYS - 5
local first = sequence + 1
redis.call('HSET', metaKey, 's', text(sequence + count))
age(limit)
redis.call('SET', byKey, ARGV[5] .. ' ' .. run .. ' ' .. text(first), 'PX', 600000)
local publish = mode == 's' and 'SPUBLISH' or 'PUBLISH'
for i = 1, count do
  sequence = sequence + 1
  local place, previous = text(sequence), '-'
  local stream, body = KEYS[5 + i], ARGV[7 + i]
  local key = string.sub(stream, #metaKey + 4)
  local kind = string.byte(key)
  -- c: and n: are live only.
  if kind ~= 99 and kind ~= 110 then
    local last = redis.call('ZSCORE', lastKey, key)
    previous = last and text(tonumber(last)) or text(forgotten)
    redis.call('ZADD', lastKey, place, key)
    if size > 0 then
      redis.call('XADD', stream, 'MAXLEN', size, place .. '-0', 'p', previous .. ' ' .. run, 'd', body)
      redis.call('XTRIM', stream, 'MINID', text(dropped + 1))
      redis.call('PEXPIRE', stream, limit)
    end
  end
  redis.call(publish, metaKey .. ':c:' .. key, run .. ' ' .. place .. ' ' .. previous .. ' ' .. body)
end
return {run, text(first), mode}
`;

/**
 * Where the namespace stands, and what has changed.
 *
 * KEYS: root, last, times, runs. ARGV: a name for a run, mode, historyTtl, run and sequence the node follows, run and
 * sequence it has seen, channel and text of a barrier (empty for none), a sequence (empty for none), a limit. Returns run,
 * sequence, mode, 1 where what the node follows is in this history, forgotten, how many channel keys had events after the
 * given sequence, the run and the sequence with which this history begins, its epoch, and those channel keys with their
 * newest, where they are no more than the limit.
 */
export const LOOK_SCRIPT = `${PRELUDE}
load(ARGV[1], ARGV[2])
local isSeen = compare(ARGV[1], ARGV[6], tonumber(ARGV[7]))
local isContained = isSeen ~= false and compare(ARGV[1], ARGV[4], tonumber(ARGV[5]))
if ARGV[4] == '' then isContained = true end
age(tonumber(ARGV[3]))
local oldest = redis.call('ZRANGE', runsKey, 0, 0, 'WITHSCORES')
local answer = {run, text(sequence), mode, isContained and 1 or 0, text(forgotten), 0, oldest[1], oldest[2]}
answer[9] = redis.call('HMGET', metaKey, 'e')[1]
if ARGV[8] ~= '' then redis.call(mode == 's' and 'SPUBLISH' or 'PUBLISH', ARGV[8], ARGV[9]) end
if ARGV[10] ~= '' then
  local count = redis.call('ZCOUNT', lastKey, '(' .. ARGV[10], '+inf')
  answer[6] = count
  if count > 0 and count <= tonumber(ARGV[11]) then
    for _, item in ipairs(redis.call('ZRANGEBYSCORE', lastKey, '(' .. ARGV[10], '+inf', 'WITHSCORES')) do
      answer[#answer + 1] = item
    end
  end
end
return answer
`;

/**
 * History of some channel keys as one list in order.
 *
 * KEYS: root, last, runs, and the streams. ARGV: the run of the cursor (empty: it is trusted), most events, most events in
 * all (0 for no limit), most bytes, the last sequence to serve (`+` for all), and the cursors: one for all keys or one for
 * each. Returns run, sequence, epoch, `ok` / `epoch` / `unknown`, 1 where more follow, the sequence through which something is
 * missing (0 for nothing) with its run, the indexes of the keys that miss something, and the events: index of the key,
 * sequence, run, text.
 */
export const READ_SCRIPT = `
local metaKey, lastKey, runsKey = KEYS[1], KEYS[2], KEYS[3]
local meta = redis.call('HMGET', metaKey, 'r', 's', 'f', 'b', 'e')
if not meta[1] then return {} end
local run, sequence, forgotten, dropped = meta[1], tonumber(meta[2]), tonumber(meta[3]), tonumber(meta[4])
local limit, max, maxBytes, through = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]

local function text(number) return string.format('%.0f', number) end

local cursorRun, cursor = ARGV[1], tonumber(ARGV[6])
if cursorRun == run then
  if cursor > sequence then return {run, meta[2], meta[5], 'unknown'} end
elseif cursorRun ~= '' then
  local base = redis.call('ZSCORE', runsKey, cursorRun)
  if not base or cursor < tonumber(base) then return {run, meta[2], meta[5], 'epoch'} end
  local following = redis.call('ZRANGEBYSCORE', runsKey, '(' .. base, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if following[2] and cursor > tonumber(following[2]) then return {run, meta[2], meta[5], 'epoch'} end
end

local CHUNK = math.min(limit + 1, 32)

local function fetch(one)
  one.chunk = redis.call('XRANGE', one.stream, text(one.from), through, 'COUNT', CHUNK)
  one.at = 1
  local entry = one.chunk[1]
  one.sequence = entry and tonumber(string.match(entry[1], '^%d+'))
end

local function step(one)
  one.at = one.at + 1
  local entry = one.chunk[one.at]
  if entry then
    one.sequence = tonumber(string.match(entry[1], '^%d+'))
  elseif #one.chunk == CHUNK then
    one.from = one.sequence + 1
    fetch(one)
  else
    one.sequence = nil
  end
end

-- The sequence before an event, and its run; nil for what somebody else wrote.
local function placeOf(entry)
  local previous, itsRun = string.match(entry[2][2], '^(%d+) (%S+)$')
  if previous and tonumber(previous) < tonumber(string.match(entry[1], '^%d+')) then
    return tonumber(previous), itsRun
  end
end

-- What is no event is told as a loss of its own: nothing need be known before it.
local function previousOf(entry) return placeOf(entry) or 0 end

local open, lost, missing, upper = {}, {}, 0, 0
for i = 1, #KEYS - 3 do
  local stream = KEYS[3 + i]
  local after = tonumber(ARGV[5 + i] or cursor)
  local one = {index = i, stream = stream, from = math.max(after, dropped) + 1}
  fetch(one)
  local lostThrough
  if one.sequence then
    lostThrough = previousOf(one.chunk[1])
    open[#open + 1] = one
    if max > 0 then upper = upper + redis.call('XLEN', stream) end
  else
    local later = through ~= '+' and redis.call('XRANGE', stream, text(one.from), '+', 'COUNT', 1)
    if later and later[1] then
      lostThrough = previousOf(later[1])
    else
      lostThrough = tonumber(redis.call('ZSCORE', lastKey, string.sub(stream, #metaKey + 4)) or forgotten)
    end
  end
  if lostThrough > after then
    lost[#lost + 1] = i
    missing = math.max(missing, lostThrough)
  end
end

-- Only the newest of all: find the one before them, backwards.
if max > 0 and upper > max then
  local backwards = {}
  for _, one in ipairs(open) do
    backwards[#backwards + 1] = {stream = one.stream, from = one.from, to = '+'}
  end
  local function fetchBackwards(one)
    one.chunk = redis.call('XREVRANGE', one.stream, one.to, text(one.from), 'COUNT', 32)
    one.at = 1
    one.sequence = one.chunk[1] and tonumber(string.match(one.chunk[1][1], '^%d+'))
  end
  for _, one in ipairs(backwards) do fetchBackwards(one) end
  local skipped
  for _ = 0, max do
    local best
    for _, one in ipairs(backwards) do
      if one.sequence and (not best or one.sequence > best.sequence) then best = one end
    end
    skipped = best and best.sequence
    if not best then break end
    best.at = best.at + 1
    local entry = best.chunk[best.at]
    if entry then
      best.sequence = tonumber(string.match(entry[1], '^%d+'))
    else
      best.to = text(best.sequence - 1)
      fetchBackwards(best)
    end
  end
  if skipped then
    missing = math.max(missing, skipped)
    local rest = {}
    for _, one in ipairs(open) do
      one.from = math.max(one.from, skipped + 1)
      fetch(one)
      if one.sequence then rest[#rest + 1] = one end
    end
    open = rest
  end
end

local events, bytes, count = {}, 0, 0
while count < limit and bytes < maxBytes do
  local best
  for _, one in ipairs(open) do
    if one.sequence and (not best or one.sequence < best.sequence) then best = one end
  end
  if not best then break end
  local entry = best.chunk[best.at]
  local place, itsRun = placeOf(entry)
  -- No event has an empty text.
  local body = place and entry[2][4] or ''
  events[#events + 1] = best.index
  events[#events + 1] = text(best.sequence)
  events[#events + 1] = itsRun or run
  events[#events + 1] = body
  bytes = bytes + #body
  count = count + 1
  step(best)
end
local more = 0
for _, one in ipairs(open) do if one.sequence then more = 1 end end
local missingRun = ''
if missing > 0 then
  missingRun = redis.call('ZREVRANGEBYSCORE', runsKey, text(missing), '-inf', 'LIMIT', 0, 1)[1] or run
end
return {run, meta[2], meta[5], 'ok', more, text(missing), missingRun, lost, events}
`;
