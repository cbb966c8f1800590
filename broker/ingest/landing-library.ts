// landing-library: the Redis functions through which gateways append, and cloud clients command.
// Path: uplink → [library, inside the landing Redis] → ingest. Touches: the landing Redis.

import type { Redis } from "ioredis";
import { ENTRY_FIELDS, LANDING_FUNCTIONS, POS_FIELDS } from "#contract/landing";

/**
 * Compare-and-append: a frame is stored only when it follows what is stored, so that a lane's
 * stream holds each sequence once. Numbers stay below 2^53, where Lua's doubles are exact; they are
 * answered as text, since Redis cuts Lua's numbers to integers and Lua prints large ones as 1e+12.
 */
export const LANDING_LIBRARY = `#!lua name=sluice
local function text(number)
  return string.format('%.0f', number)
end

local function stored_position(pos, lane)
  local value = redis.call('HGET', pos, '${POS_FIELDS.lanePrefix}' .. lane)
  if not value then return 0, 0 end
  local epoch, seq = string.match(value, '^(%d+):(%d+)$')
  return tonumber(epoch), tonumber(seq)
end

local function seen(pos)
  local now = redis.call('TIME')
  redis.call('HSET', pos, '${POS_FIELDS.seenMs}', text(now[1] * 1000 + math.floor(now[2] / 1000)),
    '${POS_FIELDS.left}', '')
end

-- KEYS up pos, ARGV lane epoch prev last frame [sent_ms]
local function append(keys, args)
  local lane, epoch = args[1], tonumber(args[2])
  local prev, last = tonumber(args[3]), tonumber(args[4])
  local stored_epoch, stored = stored_position(keys[2], lane)
  seen(keys[2])
  if epoch < stored_epoch then return {'FENCED', text(stored_epoch), text(stored)} end
  if epoch > stored_epoch then stored = 0 end
  if last <= stored then return {'DUP', text(epoch), text(stored)} end
  if prev ~= stored then return {'GAP', text(epoch), text(stored)} end
  local fields = {'${ENTRY_FIELDS.lane}', lane,
    '${ENTRY_FIELDS.epoch}', text(epoch), '${ENTRY_FIELDS.frame}', args[5]}
  if args[6] then
    fields[7], fields[8] = '${ENTRY_FIELDS.sentMs}', args[6]
  end
  redis.call('XADD', keys[1], '*', unpack(fields))
  redis.call('HSET', keys[2], '${POS_FIELDS.lanePrefix}' .. lane, text(epoch) .. ':' .. text(last))
  return {'OK', text(epoch), text(last)}
end

-- KEYS pos, ARGV lane epoch down_cursor
local function probe(keys, args)
  local epoch = tonumber(args[2])
  local stored_epoch, stored = stored_position(keys[1], args[1])
  seen(keys[1])
  redis.call('HSET', keys[1], '${POS_FIELDS.downCursor}', args[3])
  if epoch < stored_epoch then return {'FENCED', text(stored_epoch), text(stored)} end
  if epoch > stored_epoch then stored = 0 end
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

redis.register_function('${LANDING_FUNCTIONS.append}', append)
redis.register_function('${LANDING_FUNCTIONS.probe}', probe)
redis.register_function('${LANDING_FUNCTIONS.leave}', leave)
redis.register_function('${LANDING_FUNCTIONS.command}', command)
`;

/** Loads the library, in place of another version of it; does nothing when it is there. */
export async function loadLandingLibrary(redis: Redis): Promise<void> {
  const listed = await redis.call("FUNCTION", "LIST", "LIBRARYNAME", "sluice", "WITHCODE");
  if (JSON.stringify(listed).includes(JSON.stringify(LANDING_LIBRARY))) return;
  await redis.call("FUNCTION", "LOAD", "REPLACE", LANDING_LIBRARY);
}
