# SPDX-License-Identifier: MIT
"""Messages that Redis keeps: one stream for each topic, which a script in Lua writes and reads.

Two keys belong to a topic, after the prefix of the URL:

    history:TOPIC   a stream, whose entries hold the data (d), and the id of the message before (p)
    last:TOPIC      the id of the last message, or the position at which there was none yet

`last` lives for a day longer than the messages. As each entry has the id of the one before, a
reader learns from the first entry after its id whether it has missed one, even if that one is not
kept any more. Where the chain is broken, because a key was lost, the answer is that it has.

The ids are those of the stream: milliseconds of the clock of the server, and a number that tells
those of one millisecond apart. The script makes them from `last`, so that they increase even if the
clock goes back.

A kept message is published as its id, a line feed and the data.
"""

from __future__ import annotations

import re
from hashlib import sha1
from typing import Any, Sequence, Tuple

from ..history import PAGE, PAGE_BYTES, History, Page

__all__ = ["SCRIPT", "append", "page_of", "probe", "read", "split"]

DAY = 24 * 60 * 60 * 1000  # milliseconds

# The keys are two for each topic. The first argument says what to do. For "append" follow channel,
# messages and milliseconds of each topic, then the number of the topic and the data of each
# message. For "read" follow messages, milliseconds and the id as two numbers, or two empty strings
# for an unknown id, or nothing if only the position is wanted; it returns the position, whether it
# is complete, whether there are more, and ids and data of the messages.
SCRIPT = b"""
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function numbers(id)
    local ms, n = string.match(id, '^(%d+)-(%d+)$')
    return tonumber(ms), tonumber(n)
end

local function text(ms, n)
    return string.format('%.0f-%.0f', ms, n)
end

-- What is not of pyws counts as lost: a user of the server has written it.
local function get_last(key)
    local last = redis.pcall('GET', key)
    return type(last) == 'string' and #last < 32 and numbers(last) and last
end

local function add(key, most, id, before, data)
    local words = {'XADD', key, 'MAXLEN', '=', most, id, 'p', before, 'd', data}
    local done = redis.pcall(unpack(words))
    local why = type(done) == 'table' and done.err or ''
    if string.find(why, 'WRONGTYPE') or string.find(why, 'equal or smaller') then
        redis.call('DEL', key)
        redis.call(unpack(words))
    elseif why ~= '' then
        return done
    end
end

local function is_before(ms, n, ms2, n2)
    return ms < ms2 or ms == ms2 and n < n2
end

local function append()
    local topics = {}
    for i = 1, #KEYS / 2 do
        topics[i] = {last = get_last(KEYS[2 * i]) or '', ms = 0, n = 0}
        if topics[i].last ~= '' then
            topics[i].ms, topics[i].n = numbers(topics[i].last)
        else
            redis.call('DEL', KEYS[2 * i - 1])
        end
    end
    for at = 2 + 3 * #topics, #ARGV, 2 do
        local i = tonumber(ARGV[at])
        local topic, data, place = topics[i], ARGV[at + 1], 3 * i
        if now > topic.ms then
            topic.ms, topic.n = now, 0
        else
            topic.n = topic.n + 1
        end
        local id = text(topic.ms, topic.n)
        local failure = add(KEYS[2 * i - 1], ARGV[place], id, topic.last, data)
        if failure then
            return failure
        end
        redis.call('PUBLISH', ARGV[place - 1], id .. '\\n' .. data)
        topic.last, topic.ms_kept = id, ARGV[place + 1]
    end
    for i, topic in ipairs(topics) do
        if topic.ms_kept then
            redis.call('PEXPIRE', KEYS[2 * i - 1], topic.ms_kept)
            redis.call('SET', KEYS[2 * i], topic.last, 'PX', topic.ms_kept + DAY)
        end
    end
    return #topics
end

local function read()
    local most, age, ms, n = tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4], ARGV[5]
    local last = get_last(KEYS[2])
    if not last then
        last = text(now, 0)
        redis.call('DEL', KEYS[1])
        redis.call('SET', KEYS[2], last, 'PX', age + DAY)
        return {last, ms and 0 or 1, 0}
    end
    if not ms then
        redis.call('PEXPIRE', KEYS[2], age + DAY)
        return {last, 1, 0}
    end
    local last_ms, last_n = numbers(last)
    local start_ms, start_n, complete = 0, 0, 0
    if ms ~= '' and not is_before(last_ms, last_n, tonumber(ms), tonumber(n)) then
        ms, n = tonumber(ms), tonumber(n)
        if ms == last_ms and n == last_n then
            return {last, 1, 0}
        end
        start_ms, start_n, complete = ms, n + 1, 1
    end
    if start_ms < now - age then
        start_ms, start_n = now - age, 0
    end
    local page, more, size, before = {last, complete, 0}, true, 0, nil
    while more and #page < 3 + 2 * PAGE and size < BYTES do
        local found = redis.pcall('XRANGE', KEYS[1], text(start_ms, start_n), '+', 'COUNT', 10)
        for _, entry in ipairs(found) do
            local fields = entry[2]
            if fields[1] == 'p' and fields[3] == 'd' then
                before = before or fields[2]
                page[#page + 1], page[#page + 2] = entry[1], fields[4]
                size = size + #fields[4]
            end
        end
        more = #found == 10 and found[10][1] ~= last
        if more then
            start_ms, start_n = numbers(found[10][1])
            start_n = start_n + 1
        end
    end
    if complete == 1 then
        local before_ms, before_n = numbers(before or '')
        if not before_ms or is_before(ms, n, before_ms, before_n) then
            page[2] = 0
        end
    end
    if #page > 3 then
        page[1] = page[#page - 1]
    end
    page[3] = more and 1 or 0
    return page
end

if ARGV[1] == 'append' then
    return append()
end
return read()
"""
SCRIPT = re.sub(
    rb"\b(DAY|PAGE|BYTES)\b",
    lambda name: b"%d" % {b"DAY": DAY, b"PAGE": PAGE, b"BYTES": PAGE_BYTES}[name[0]],
    SCRIPT,
)
NAME = sha1(SCRIPT).hexdigest().encode()

ID = re.compile(rb"([0-9]{1,15})-([0-9]{1,15})")

Words = Tuple[bytes, ...]


def probe(prefix: bytes) -> Words:
    """A command that appends nothing: whether the user may, and whether this is no cluster.

    Afterwards the server knows the script.
    """
    keys = _keys(prefix, b"a") + _keys(prefix, b"b")
    return (b"EVAL", SCRIPT, b"%d" % len(keys), *keys, b"append", *[b""] * 6)


def append(prefix: bytes, messages: Sequence[Tuple[bytes, bytes, History]]) -> Words:
    """The command that keeps and publishes messages, all of them or none."""
    places: dict[bytes, bytes] = {}
    keys: list[bytes] = []
    bounds: list[bytes] = []
    entries: list[bytes] = []
    for topic, data, history in messages:
        place = places.get(topic)
        if place is None:
            place = places[topic] = b"%d" % (len(places) + 1)
            keys += _keys(prefix, topic)
            bounds += (prefix + topic, *_bounds(history))
        entries += (place, data)
    return (b"EVALSHA", NAME, b"%d" % len(keys), *keys, b"append", *bounds, *entries)


def read(prefix: bytes, topic: bytes, after: bytes | None, history: History) -> Words:
    """The command that returns a page."""
    id: Words = ()
    if after is not None:
        match = ID.fullmatch(after)
        id = (b"", b"") if match is None else match.group(1, 2)
    return (b"EVALSHA", NAME, b"2", *_keys(prefix, topic), b"read", *_bounds(history), *id)


def page_of(reply: Any) -> Page:
    """The page that such a command has returned."""
    position, complete, more, *rest = reply
    return Page(position, list(zip(rest[::2], rest[1::2])), complete == 1, more == 1)


def split(data: bytes) -> Tuple[bytes, bytes]:
    """Id and data of a message that has arrived; without an id if it is not kept."""
    if not data[:1].isdigit():
        return b"", data
    id, end, rest = data.partition(b"\n")
    return (id, rest) if end and ID.fullmatch(id) else (b"", data)


def _keys(prefix: bytes, topic: bytes) -> Words:
    return prefix + b"history:" + topic, prefix + b"last:" + topic


def _bounds(history: History) -> Words:
    return b"%d" % history.messages, b"%d" % (history.seconds * 1000)
