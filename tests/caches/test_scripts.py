"""The scripts on a real server do what the pure comparisons say, offsets past 2^53 included."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
import valkey

from causal.caches.base import NOTHING
from causal.caches.entry import Entry, decode, encode, join, outdates, pack_pairs, replaces
from causal.caches.scripts import DISCARD, FILL, INVALIDATE, LEASE
from causal.core.frontier import pack
from causal.lab.valkey import ValkeyServer

KEY, HELD = b"{causal:shop:0:photo}", b"{causal:shop:0:photo}:lease"
CASES = 3000
BIG = (0, 1, 2**32 - 1, 2**32, 2**53, 2**53 + 1, 2**63, 2**64 - 2, 2**64 - 1)


@pytest.fixture
def client(server: ValkeyServer) -> Iterator[Any]:
    client = valkey.Valkey.from_url(server.url, socket_timeout=10)
    yield client
    client.close()


def random_wm(draw: random.Random) -> dict[int, int]:
    keys = [pack(shard, origin) for shard in (0, 1) for origin in (1, 2**32 - 1)]
    return {key: draw.choice(BIG) for key in draw.sample(keys, draw.randint(1, 4))}


def random_entry(draw: random.Random) -> Entry:
    return Entry(random_wm(draw), 5, NOTHING, draw.choice((b"value", None)))


def test_a_fill_stores_what_replaces(client: Any) -> None:
    draw, stored = random.Random(1), 0
    for _ in range(CASES):
        current, new = random_entry(draw), Entry(random_wm(draw), 6, NOTHING, b"new")
        client.set(KEY, encode(KEY, current))
        done = client.eval(FILL.text, 2, KEY, HELD, encode(KEY, new), 60_000, b"me")
        assert done == replaces(new.wm, current.wm)
        held = decode(KEY, client.get(KEY), NOTHING)
        assert held is not None
        assert dict(held.wm) == (new.wm if done else current.wm)
        stored += done
    assert CASES / 10 < stored < CASES * 0.9
    assert 0 < client.pttl(KEY) <= 60_000 or not done


def test_an_invalidation_leaves_what_joins(client: Any) -> None:
    draw, left = random.Random(2), 0
    for _ in range(CASES):
        current, at = random_entry(draw), random_wm(draw)
        there = draw.random() < 0.9
        client.set(KEY, encode(KEY, current)) if there else client.delete(KEY)
        done = client.eval(INVALIDATE.text, 1, KEY, pack_pairs(at), (7).to_bytes(8, "big"), 60_000)
        assert done == (not there or outdates(at, current.wm))
        held = decode(KEY, client.get(KEY), NOTHING)  # the server's own checksum is right
        assert held is not None
        if done:
            assert held.value is None
            assert dict(held.wm) == (join(current.wm, at) if there else at)
            assert held.good_until_ms == 7
            assert 0 < client.pttl(KEY) <= 60_000
        else:
            assert held.raw == encode(KEY, current)
        left += done
    assert CASES / 10 < left < CASES * 0.95


def test_what_is_no_entry_gives_way(client: Any) -> None:
    new = encode(KEY, Entry({1: 1}, 6, NOTHING, b"new"))
    right = encode(KEY, Entry({1: 2**64 - 1}, 6, NOTHING, b"right"))
    for garbage in (b"", b"x", b"\xcaC\x01V", right[:20], b"\xcaC\x01V\xff\xff" + right[6:], b"\xcaC\x02" + right[3:]):
        client.set(KEY, garbage)
        assert client.eval(FILL.text, 2, KEY, HELD, new, 60_000, b"me") == 1
        client.set(KEY, garbage)
        assert client.eval(INVALIDATE.text, 1, KEY, pack_pairs({1: 1}), (7).to_bytes(8, "big"), 60_000) == 1
    for make in (lambda: client.rpush(KEY, "a list"), lambda: client.hset(KEY, "a", "hash")):
        for script, args in (
            (FILL, (2, KEY, HELD, new, 60_000, b"me")),
            (INVALIDATE, (1, KEY, pack_pairs({1: 1}), (7).to_bytes(8, "big"), 60_000)),
        ):
            client.delete(KEY)
            make()
            assert client.eval(script.text, *args) == 1


def test_a_lease_is_one_caller_s_until_it_is_given_back(client: Any) -> None:
    entry = encode(KEY, Entry({1: 5}, 6, NOTHING, b"value"))
    assert client.eval(LEASE.text, 2, KEY, HELD, b"me", 60_000, b"") == 1
    assert client.eval(LEASE.text, 2, KEY, HELD, b"you", 60_000, b"") == 0
    assert client.eval(LEASE.text, 2, KEY, HELD, b"me", 60_000, b"") == 0  # nor twice the same process's
    assert 0 < client.pttl(HELD) <= 60_000
    assert client.eval(FILL.text, 2, KEY, HELD, entry, 60_000, b"you") == 1
    assert client.exists(HELD)  # not yours to give back
    assert client.eval(LEASE.text, 2, KEY, HELD, b"you", 60_000, b"") == entry  # it has come meanwhile
    assert client.eval(LEASE.text, 2, KEY, HELD, b"you", 60_000, entry[-16:]) == 0  # which was seen, and did not serve
    older = encode(KEY, Entry({1: 4}, 6, NOTHING, b"older"))
    assert client.eval(FILL.text, 2, KEY, HELD, older, 60_000, b"me") == 0
    assert not client.exists(HELD)  # given back, though nothing was stored
    assert client.eval(LEASE.text, 2, KEY, HELD, b"you", 60_000, entry[-16:]) == 1


def test_only_what_was_judged_is_discarded(client: Any) -> None:
    client.set(KEY, b"another")
    assert client.eval(DISCARD.text, 1, KEY, b"one") == 0
    assert client.get(KEY) == b"another"
    assert client.eval(DISCARD.text, 1, KEY, b"another") == 1
    assert client.get(KEY) is None
