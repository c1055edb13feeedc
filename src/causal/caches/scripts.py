"""What a server does at one blow: compare what is there with what comes, and set, leave a tombstone, or remove.

Owns the Lua twins of `entry.replaces`, `entry.outdates` and `entry.join`. Numbers are compared by halves of 32 bits: Lua's are doubles,
which hold 53 bits exactly, and offsets have 64. Strings are compared for equality only: their order hangs on the server's locale.

Each script touches the keys that it is given and no others: the entry, and beside it, in the same slot of a cluster, the lease.
"""

from __future__ import annotations

import hashlib
from typing import Final

import attrs

_COMMON: Final = r"""
local function origins(s)
  if #s < 30 or string.sub(s, 1, 3) ~= '\202C\1' then return nil end
  local n = string.byte(s, 5) * 256 + string.byte(s, 6)
  if #s < 30 + 16 * n then return nil end
  return n
end
local function less(a, i, b, j)
  local ah, al = struct.unpack('>I4I4', a, i)
  local bh, bl = struct.unpack('>I4I4', b, j)
  return ah < bh or (ah == bh and al < bl)
end
local function index(s, at, n)
  local place, shards = {}, {}
  for i = 0, n - 1 do
    local p = at + 16 * i
    place[string.sub(s, p, p + 7)] = p + 8
    shards[string.sub(s, p, p + 3)] = true
  end
  return place, shards
end
local function failed(reply)
  return type(reply) == 'table' and reply.err ~= nil
end
local function held(key)
  local s = redis.pcall('GET', key)
  if failed(s) then return nil, nil end
  return s, s and origins(s)
end
"""


@attrs.frozen
class Script:
    """A script, and the name that a server knows it by once it has run it. Thread-safety: immutable."""

    text: str
    sha: str = attrs.field(init=False)

    @sha.default
    def _digest(self) -> str:
        return hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


# KEYS: entry, lease. ARGV: the new entry, its life in ms, who asks. 1: stored; 0: what is there knows more; -1: no room.
FILL: Final = Script(
    _COMMON
    + r"""
local new, stored = ARGV[1], 1
local current, n = held(KEYS[1])
if n then
  local place, shards = index(new, 7, origins(new))
  for i = 0, n - 1 do
    local p = 7 + 16 * i
    if shards[string.sub(current, p, p + 3)] then
      local q = place[string.sub(current, p, p + 7)]
      if not q or less(new, q, current, p + 8) then stored = 0 break end
    end
  end
end
if stored == 1 and failed(redis.pcall('SET', KEYS[1], new, 'PX', ARGV[2])) then stored = -1 end
if redis.call('GET', KEYS[2]) == ARGV[3] then redis.call('DEL', KEYS[2]) end
return stored
"""
)

# KEYS: entry. ARGV: positions as in a header, good_until, the tombstone's life in ms. 1: left; 0: known there; -1: no room, so removed.
INVALIDATE: Final = Script(
    _COMMON
    + r"""
local at = ARGV[1]
local current, n = held(KEYS[1])
local offset, order = {}, {}
if n then
  local place, shards = index(current, 7, n)
  local concerned, lacks = false, false
  for p = 1, #at, 16 do
    if shards[string.sub(at, p, p + 3)] then
      local q = place[string.sub(at, p, p + 7)]
      concerned = true
      if not q or less(current, q, at, p + 8) then lacks = true end
    end
  end
  if concerned and not lacks then return 0 end
  for p = 7, 6 + 16 * n, 16 do
    local key = string.sub(current, p, p + 7)
    order[#order + 1] = key
    offset[key] = string.sub(current, p + 8, p + 15)
  end
end
for p = 1, #at, 16 do
  local key, new = string.sub(at, p, p + 7), string.sub(at, p + 8, p + 15)
  if not offset[key] then
    order[#order + 1] = key
    offset[key] = new
  elseif less(offset[key], 1, new, 1) then
    offset[key] = new
  end
end
table.sort(order, function(a, b) return less(a, 1, b, 1) end)
local parts = {'\202C\1T', string.char(math.floor(#order / 256), #order % 256)}
for _, key in ipairs(order) do
  parts[#parts + 1] = key
  parts[#parts + 1] = offset[key]
end
parts[#parts + 1] = ARGV[2]
local body = table.concat(parts)
local sum = string.sub(redis.sha1hex(KEYS[1] .. '\0' .. body), 1, 16)
if failed(redis.pcall('SET', KEYS[1], body .. sum, 'PX', ARGV[3])) then
  redis.call('DEL', KEYS[1])
  return -1
end
return 1
"""
)

# KEYS: entry, lease. ARGV: who asks, the lease's life in ms, the checksum of what it saw. 1: leased; 0: another's; a string: what is there.
LEASE: Final = Script(
    r"""
local current = redis.pcall('GET', KEYS[1])
if type(current) == 'string' and string.sub(current, -16) ~= ARGV[3] then return current end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
return 0
"""
)

# KEYS: entry or lease. ARGV: what it must be to be removed.
DISCARD: Final = Script(
    r"""
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""
)
