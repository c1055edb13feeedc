"""Random stories with the real gate, on the memory engine: lag, restarts that go back, failovers, lost answers, users who move about.

The oracle keeps, of each user and key, the newest number that they wrote or were shown. Numbers only grow, so a smaller one later is stale;
but for what a failover lost.
"""

from __future__ import annotations

import random
from contextlib import suppress
from typing import Any

import pytest

from causal import CausalStore, CommitUnknown, GateError, Guarantee, ReadPolicy, StoreError, WriteLost
from causal.caches import CausalCache, LRUBackend
from causal.kv import decode_value
from causal.stores.memory import MemoryCluster, MemoryEngine
from tests.caches.stage import KEYS
from tests.caches.stories import ungated

SITES = ("eu", "us")
NAMES = ("a", "b", "c")
STORIES, STEPS = 400, 30


class User:
    def __init__(self, store: CausalStore[Any, Any]) -> None:
        self.session: Any = store.session(subject="somebody")
        self.own: dict[str, int] = {}
        self.seen: dict[str, int] = {}


class Story:
    def __init__(self, seed: int, guarantees: Guarantee) -> None:
        self.draw = random.Random(seed)
        self.everything = guarantees is Guarantee.ALL
        self.now_s = 0.0
        self.number = 0
        self.cluster = MemoryCluster(
            SITES,
            shards=("x", "y"),
            monotonic=lambda: self.now_s,
            wall=lambda: (1_700_000_000_000 + self.number) * 10**6,
        )
        self.stores = {site: self.store(site) for site in SITES}
        backend = LRUBackend(4)
        self.caches = {site: CausalCache(self.stores[site], backend, guarantees=guarantees) for site in SITES}
        self.users = [User(self.stores["eu"]) for _ in range(3)]
        self.lost: set[int] = set()
        self.hits = 0

    def store(self, site: str) -> CausalStore[Any, Any]:
        return CausalStore(
            MemoryEngine(site=site, cluster=self.cluster),
            keyring=KEYS,
            audience="shop",
            policy=ReadPolicy(wait_s=0.002),
            monotonic=lambda: self.now_s,
            wall=lambda: 1.7e9 + self.now_s,
            sleep=self.pass_s,
            max_staleness_s=100.0,
            max_clock_skew_s=1.0,
        )

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds

    def tell(self) -> None:
        for _ in range(STEPS):
            self.step(2)

    def step(self, depth: int) -> None:
        draw, site = self.draw.random(), self.draw.choice(SITES)
        if draw < 0.5:
            self.look(depth)
        elif draw < 0.72:
            self.write(depth)
        elif draw < 0.8:
            self.draw.choice((self.cluster.pause, self.cluster.resume, self.cluster.catch_up))(site)
        elif draw < 0.84:
            self.cluster.restart(site, back=self.draw.randrange(3))
        elif draw < 0.88:
            self.fail_over(site)
        elif draw < 0.91:
            with suppress(GateError):
                self.stores[site].head()
        elif draw < 0.94:
            self.caches[site].backend.delete(self.caches[site].prefix + self.draw.choice(NAMES))
        elif draw < 0.97:
            self.pass_s(self.draw.choice((0.1, 10.0, 60.0)))
        else:
            user = self.draw.choice(self.users)
            text = user.session.token()
            user.session = self.stores[site].session(text, subject="somebody")

    def shard(self, key: str) -> str:
        return "y" if key == "c" else "x"

    def look(self, depth: int) -> None:
        user, site, key = self.draw.choice(self.users), self.draw.choice(SITES), self.draw.choice(NAMES)
        demanded = (
            dict(user.own) if not self.everything else {k: max(user.own.get(k, 0), user.seen.get(k, 0)) for k in NAMES}
        )
        loaded: list[bool] = []

        def load(db: Any) -> int:
            found = db.get(key, 0)
            loaded.append(True)
            if depth and self.draw.random() < 0.3:
                for _ in range(self.draw.randrange(4)):
                    self.step(depth - 1)
            return int(found)

        try:
            found = self.caches[site].get(user.session.at(self.stores[site]), key, load, shard=self.shard(key))
        except WriteLost as lost:
            user.session.forget(lost.lost)
            return
        except (GateError, StoreError):
            return
        self.hits += not loaded
        wanted = demanded.get(key, 0)
        assert found >= wanted or wanted in self.lost, f"{key}: {wanted} is demanded at {site}, {found} was served"
        user.seen[key] = max(found, user.seen.get(key, 0) if user.seen.get(key, 0) not in self.lost else 0)

    def write(self, depth: int) -> None:
        user, site, key = self.draw.choice(self.users), self.draw.choice(SITES), self.draw.choice(NAMES)
        if self.draw.random() < 0.1:
            self.cluster.lose_answer(site, committed=self.draw.random() < 0.5)
        session = user.session.at(self.stores[site])
        told = self.draw.random() < 0.5  # else nobody tells the cache, which only costs others' freshness
        block: Any = (
            self.caches[site].write(session, key, shard=self.shard(key))
            if told
            else session.write(shard=self.shard(key), touching=[key])
        )
        try:
            with block as tx:
                if depth and self.draw.random() < 0.3:
                    self.look(0)
                self.number = number = self.number + 1  # in the order of commits
                tx.put(key, number)
                if told and self.draw.random() < 0.4:
                    block.set(key, number)
        except WriteLost as lost:
            session.forget(lost.lost)
        except CommitUnknown:
            pass
        except (GateError, StoreError):
            pass
        else:
            user.own[key] = max(number, user.own.get(key, 0) if user.own.get(key, 0) not in self.lost else 0)

    def fail_over(self, site: str) -> None:
        """Note what is lost: what this site numbered and no other one holds."""
        for shard, copy in self.cluster.site(site).copies.items():
            held = max(len(s.copies[shard].log(copy.own)) for name, s in self.cluster.sites.items() if name != site)
            for entry in copy.log(copy.own)[held:]:
                self.lost.update(decode_value(value) for value in entry.changes.values() if value is not None)
        self.cluster.fail_over(site)


def tell_all(guarantees: Guarantee) -> int:
    hits = 0
    for seed in range(STORIES):
        story = Story(seed, guarantees)
        try:
            story.tell()
        except AssertionError as stale:
            raise AssertionError(f"story {seed}: {stale}") from stale
        hits += story.hits
    return hits


@pytest.mark.parametrize("guarantees", [Guarantee.ALL, Guarantee.READ_YOUR_WRITES], ids=["all", "own writes"])
def test_nothing_stale_is_served(guarantees: Guarantee) -> None:
    assert tell_all(guarantees) > STORIES


@pytest.mark.parametrize("guarantees", [Guarantee.ALL, Guarantee.READ_YOUR_WRITES], ids=["all", "own writes"])
def test_the_control_without_the_gate_serves_what_is_stale(guarantees: Guarantee) -> None:
    with ungated(), pytest.raises(AssertionError, match="is demanded"):
        tell_all(guarantees)
