// landing-library: the Redis functions through which gateways append, and cloud clients command.
// Path: uplink → [library, inside the landing Redis] → ingest. Touches: the landing Redis.

import type { Redis } from "ioredis";
import { reasonOf } from "#contract/errors";
import { ENTRY_FIELDS, LANDING_FUNCTIONS, POS_FIELDS } from "#contract/landing";

/** Grows with each change of the library, so that of two brokers' the newer one stays. */
export const LANDING_LIBRARY_VERSION = 2;

/** What an entry takes of the budget beside its frame: about what Redis needs for its fields. */
export const ENTRY_OVERHEAD_BYTES = 64;

/**
 * Compare-and-append: a frame is stored only when it follows what is stored, so that a lane's
 * stream holds each sequence once. Numbers stay below 2^53, where Lua's doubles are exact; they are
 * answered as text, since Redis cuts Lua's numbers to integers and Lua prints large ones as 1e+12.
 *
 * What must go on when Redis is out of memory is flagged so: a gateway's sign of life, and the trim
 * that makes room.
 */
export const LANDING_LIBRARY = `#!lua name=sluice
local VERSION = ${LANDING_LIBRARY_VERSION}

local function text(number)
  return string.format('%.0f', number)
end

local function field(pos, name)
  return tonumber(redis.call('HGET', pos, name) or 0) or 0
end

local function stored_position(pos, lane)
  local value = redis.call('HGET', pos, '${POS_FIELDS.lanePrefix}' .. lane)
  local epoch, seq = string.match(value or '0:0', '^(%d+):(%d+)$')
  local writer = redis.call('HGET', pos, '${POS_FIELDS.writerPrefix}' .. lane)
  return tonumber(epoch), tonumber(seq), writer
end

local function store_position(pos, lane, epoch, seq, writer)
  redis.call('HSET', pos, '${POS_FIELDS.lanePrefix}' .. lane, text(epoch) .. ':' .. text(seq))
  if writer then redis.call('HSET', pos, '${POS_FIELDS.writerPrefix}' .. lane, writer) end
end

local function seen(pos)
  local now = redis.call('TIME')
  redis.call('HSET', pos, '${POS_FIELDS.seenMs}', text(now[1] * 1000 + math.floor(now[2] / 1000)),
    '${POS_FIELDS.left}', '')
end

local function held_bytes(pos)
  return field(pos, '${POS_FIELDS.bytes}') - field(pos, '${POS_FIELDS.trimmed}')
end

local function size_of(frame)
  return #frame + ${ENTRY_OVERHEAD_BYTES}
end

-- KEYS up pos, ARGV lane epoch prev last frame [sent_ms [writer]]
local function append(keys, args)
  local lane, epoch, pos = args[1], tonumber(args[2]), keys[2]
  local prev, last, writer = tonumber(args[3]), tonumber(args[4]), args[7]
  local stored_epoch, stored, stored_writer = stored_position(pos, lane)
  seen(pos)
  if epoch < stored_epoch then return {'FENCED', text(stored_epoch), text(stored)} end
  -- A copy of the outbox says other things under the same numbers: they are no repeats.
  if epoch == stored_epoch and writer and stored_writer and writer ~= stored_writer then
    return {'FENCED', text(stored_epoch), text(stored)}
  end
  if epoch > stored_epoch then stored = 0 end
  if last <= stored then return {'DUP', text(epoch), text(stored)} end
  if prev ~= stored then return {'GAP', text(epoch), text(stored)} end
  local held, most = held_bytes(pos), field(pos, '${POS_FIELDS.bytesMax}')
  -- What is alone there is taken however large it is: waiting would not make room for it.
  if most > 0 and held > 0 and held + size_of(args[5]) > most then
    return {'FULL', text(held), text(most)}
  end
  local total = field(pos, '${POS_FIELDS.bytes}') + size_of(args[5])
  local fields = {'${ENTRY_FIELDS.lane}', lane, '${ENTRY_FIELDS.epoch}', text(epoch),
    '${ENTRY_FIELDS.frame}', args[5], '${ENTRY_FIELDS.total}', text(total)}
  if args[6] then
    fields[9], fields[10] = '${ENTRY_FIELDS.sentMs}', args[6]
  end
  redis.call('XADD', keys[1], '*', unpack(fields))
  redis.call('HSET', pos, '${POS_FIELDS.bytes}', text(total))
  store_position(pos, lane, epoch, last, writer)
  return {'OK', text(epoch), text(last)}
end

-- KEYS pos, ARGV lane epoch down_cursor [writer, earlier writers ...]
local function probe(keys, args)
  local lane, epoch, pos = args[1], tonumber(args[2]), keys[1]
  local stored_epoch, stored, stored_writer = stored_position(pos, lane)
  seen(pos)
  if epoch < stored_epoch then return {'FENCED', text(stored_epoch), text(stored)} end
  if epoch > stored_epoch then
    stored = 0
  elseif args[4] and stored_writer then
    local is_known = false
    for at = 4, #args do is_known = is_known or args[at] == stored_writer end
    if not is_known then return {'FENCED', text(stored_epoch), text(stored)} end
  end
  redis.call('HSET', pos, '${POS_FIELDS.downCursor}', args[3])
  -- Whoever is told the position has the lane from here on.
  if args[4] then store_position(pos, lane, epoch, stored, args[4]) end
  return {'OK', text(epoch), text(stored)}
end

-- KEYS pos, ARGV why
local function leave(keys, args)
  redis.call('HSET', keys[1], '${POS_FIELDS.left}', args[1])
  return 'OK'
end

-- KEYS down pos, ARGV record count_max
local function command(keys, args)
  if redis.call('EXISTS', keys[2]) == 0 then return 'UNKNOWN' end
  if redis.call('XLEN', keys[1]) >= tonumber(args[2]) then return 'FULL' end
  redis.call('XADD', keys[1], '*', '${ENTRY_FIELDS.record}', args[1])
  return 'OK'
end

local function set(pos, name, number)
  if field(pos, name) ~= number then redis.call('HSET', pos, name, text(number)) end
end

-- Trims, and counts what went by what the first entry that is left says.
local function trim_up(up, pos, min_ms)
  local removed = redis.call('XTRIM', up, 'MINID', text(min_ms))
  -- To look at the entry costs as much as it is long; a stream that somebody deleted has none.
  if removed == 0 and redis.call('XLEN', up) > 0 then return end
  local first = redis.call('XRANGE', up, '-', '+', 'COUNT', 1)[1]
  if not first then
    set(pos, '${POS_FIELDS.trimmed}', field(pos, '${POS_FIELDS.bytes}'))
    return
  end
  local fields = {}
  for at = 1, #first[2], 2 do fields[first[2][at]] = first[2][at + 1] end
  local total, frame = tonumber(fields['${ENTRY_FIELDS.total}']), fields['${ENTRY_FIELDS.frame}']
  -- An entry without a total is from before the budget, as are all before it.
  if total and frame then set(pos, '${POS_FIELDS.trimmed}', total - size_of(frame)) end
end

-- KEYS up down pos, ARGV taken_ms tail_ms down_cursor bytes_max
local function trim(keys, args)
  local up, down, pos = keys[1], keys[2], keys[3]
  local taken_ms, most = tonumber(args[1]), tonumber(args[4])
  local now = redis.call('TIME')
  local tail_ms = now[1] * 1000 + math.floor(now[2] / 1000) - tonumber(args[2])
  trim_up(up, pos, math.max(0, math.min(taken_ms, tail_ms)))
  redis.call('XTRIM', down, 'MINID', args[3])
  set(pos, '${POS_FIELDS.bytesMax}', most)
  -- A tail that is kept for its time must not keep out what is new: it goes beyond half the budget.
  if held_bytes(pos) > most / 2 then
    local first = redis.call('XRANGE', up, '-', '+', 'COUNT', 1)[1]
    local first_ms = first and tonumber(string.match(first[1], '^%d+')) or taken_ms
    local share = 1 - most / 2 / held_bytes(pos)
    local min_ms = first_ms + math.ceil((taken_ms - first_ms) * share)
    if first_ms < taken_ms then trim_up(up, pos, min_ms) end
  end
  return text(held_bytes(pos))
end

redis.register_function('${LANDING_FUNCTIONS.append}', append)
redis.register_function('${LANDING_FUNCTIONS.command}', command)
redis.register_function{function_name = '${LANDING_FUNCTIONS.probe}', callback = probe,
  flags = {'allow-oom'}}
redis.register_function{function_name = '${LANDING_FUNCTIONS.leave}', callback = leave,
  flags = {'allow-oom'}}
redis.register_function{function_name = '${LANDING_FUNCTIONS.trim}', callback = trim,
  flags = {'allow-oom'}}
`;

/**
 * Loads the library, in place of an older one; a newer one, of a broker of the next version, stays.
 * What gateways do meanwhile waits: Redis changes a library between two calls.
 */
export async function loadLandingLibrary(redis: Redis): Promise<void> {
  const loaded = await loadedVersion(redis);
  if (loaded !== undefined && loaded >= LANDING_LIBRARY_VERSION) return;
  if (loaded !== undefined) {
    await redis.call("FUNCTION", "LOAD", "REPLACE", LANDING_LIBRARY);
    return;
  }
  try {
    await redis.call("FUNCTION", "LOAD", LANDING_LIBRARY);
  } catch (cause) {
    // Another broker was faster.
    if (!/already exists/i.test(reasonOf(cause))) throw cause;
    await loadLandingLibrary(redis);
  }
}

/** The version of the library that is there, 0 for one from before they had any. */
async function loadedVersion(redis: Redis): Promise<number | undefined> {
  const listed = await redis.call("FUNCTION", "LIST", "LIBRARYNAME", "sluice", "WITHCODE");
  if (!Array.isArray(listed) || listed.length === 0) return undefined;
  return Number(/local VERSION = (\d+)/.exec(JSON.stringify(listed))?.[1] ?? 0);
}
