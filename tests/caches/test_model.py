"""A hundred thousand random stories of fills, slow fills, invalidations, evictions, writes, replica reads and failovers: nothing stale.

The world is in `world.py`, the oracle in `stories.py`, the caches are the real ones. Controls show that the stories contain what a cache
without the gate, or with a wrong filter, would get wrong.
"""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest

from causal import Guarantee
from causal.caches.valkey import ValkeyBackend
from causal.lab.valkey import ValkeyServer
from tests.caches.stories import Stale, World, ungated

STORIES = 100_000
ON_A_SERVER = 3000
PARTS = 8
STEPS = 8
GUARANTEES = {"all": Guarantee.ALL, "own writes, filtered": Guarantee.READ_YOUR_WRITES}


def play(world: World, seeds: range, steps: int = STEPS) -> None:
    for seed in seeds:
        try:
            world.run(seed, steps)
        except Stale as stale:
            raise AssertionError(f"story {seed}: {stale}") from stale


@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_stale_is_served(part: int) -> None:
    world = World(list(GUARANTEES.values())[part % 2])
    size = STORIES // PARTS
    play(world, range(part * size, (part + 1) * size))
    assert {"hit", "miss", "behind", "dead", "bypass"} <= world.served.keys()
    assert world.served["hit"] > size / 2


class Emptied(ValkeyBackend):
    """A server's entries, all gone at the beginning of each story."""

    def clear(self) -> None:
        self._client.flushall()
        self._decoded.clear()


@pytest.mark.parametrize("guarantees", GUARANTEES.values(), ids=GUARANTEES)
def test_nor_from_a_real_server(guarantees: Guarantee, server: ValkeyServer) -> None:
    with closing(Emptied.from_url(server.url, timeout_s=10.0)) as backend:
        world = World(guarantees, backend, settings={"lease_s": 0})
        play(world, range(ON_A_SERVER))
        assert {"hit", "miss", "behind", "dead", "bypass"} <= world.served.keys()
        assert backend.counts == {}


@pytest.mark.parametrize("guarantees", GUARANTEES.values(), ids=GUARANTEES)
def test_the_control_without_the_gate_serves_what_is_stale(guarantees: Guarantee) -> None:
    with ungated(), pytest.raises(AssertionError, match="is demanded"):
        play(World(guarantees), range(2000))


def test_the_control_with_a_filter_that_forgets_serves_what_is_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.caches.world.ModelSession.touches", lambda *_: False)
    with pytest.raises(AssertionError, match="is demanded"):
        play(World(Guarantee.READ_YOUR_WRITES), range(2000))


def test_where_reads_count_the_filter_has_no_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.caches.world.ModelSession.touches", lambda *_: False)
    play(World(Guarantee.ALL), range(2000))


def test_a_story_is_the_same_whenever_it_is_told() -> None:
    told: list[Any] = []
    for _ in range(2):
        world = World()
        play(world, range(20), 30)
        told.append((world.served, [(v.order, v.lost) for v in world.versions]))
    assert told[0] == told[1]
