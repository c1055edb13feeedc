"""Caches: what a gated hit costs against a bare one, and what the gate leaves of the hit rate.

Time: a gated hit in the process against a bare LRU under a lock, and a gated hit on a Valkey server against a plain GET with the same
client, on a socket of this machine: farther away, the difference is the same and the GET takes longer.

Hit rates: visits to a site whose replica lags, in virtual time, on one trace: through a gated cache that promises read your writes,
and through a bare cache with the same time to live. Rates are exact for a trace. Where writes invalidate, nothing is asked for: the bare
cache fills itself again at once, with the old row if the replica is behind; the gated one does so once the replica has the new one.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from itertools import accumulate
from typing import Any

import attrs
import cachetools
import cbor2

from benches.measure import Case, Effort, Row, against_floor, alone
from causal import CausalStore, Guarantee, Keyring
from causal.caches import CausalCache, LRUBackend
from causal.caches.valkey import ValkeyBackend
from causal.lab.valkey import ValkeyServer
from causal.stores.memory import MemoryCluster, MemoryEngine

BARE = "a bare LRU under a lock (cachetools)"
AT_MOST_US = 3.0
TEXT = "x" * 100
RECORD = {"name": "Alice", "likes": 5, "photo": "new.jpg"}
KEYS = 500
VISITS = 1500
TTL_S = 10.0
LAG_S = 0.05


def cases() -> Iterator[Case]:
    yield from _in_process()
    yield from _on_a_server()
    for told in (False, True):
        yield from _rates(told)


def _stores() -> tuple[CausalStore[Any, Any], Any]:
    store = CausalStore(MemoryEngine(), keyring=Keyring.generate(), audience="bench")
    session = store.session(subject="alice")
    with session.write() as tx:
        for n in range(KEYS):
            tx.put(f"key/{n}", TEXT)
        tx.put("record", RECORD)
    return store, session


def _load(db: Any) -> Any:
    return db.get("key/7")


def _in_process() -> Iterator[Case]:
    store, session = _stores()
    cache = CausalCache(store, LRUBackend())
    bare: cachetools.LRUCache[str, Any] = cachetools.LRUCache(10_000)
    lock = threading.Lock()
    bare["key/7"], bare["record"] = TEXT, cbor2.dumps(RECORD)

    def hit() -> None:
        cache.get(session, "key/7", _load)

    def plain() -> None:
        with lock:
            bare["key/7"]

    def first_hit() -> None:
        cache.get(store.session(subject="bob"), "key/7", _load)

    def hit_record() -> None:
        cache.get(session, "record", lambda db: db.get("record"))

    def plain_record() -> None:
        with lock:
            data = bare["record"]
        cbor2.loads(data)

    yield against_floor("cache in the process: gated hit", hit, plain, BARE, 4)

    def absolute(effort: Effort) -> Row:
        value = alone(hit, effort)
        return Row(
            "cache in the process: gated hit, in time",
            value,
            "us",
            "3 us: a constant",
            AT_MOST_US,
            "floor",
            value / AT_MOST_US,
            1,
        )

    yield Case("cache in the process: gated hit, in time", absolute)
    yield against_floor("cache in the process: first hit of a new session, made for it", first_hit, plain, BARE, None)
    yield against_floor(
        "cache in the process: gated hit, a record, a copy each",
        hit_record,
        plain_record,
        f"{BARE}, and its CBOR",
        None,
    )


def _on_a_server() -> Iterator[Case]:
    with ValkeyServer() as server, closing(ValkeyBackend.from_url(server.url, timeout_s=10.0)) as backend:
        store, session = _stores()
        cache = CausalCache(store, backend)
        for n in range(KEYS):
            cache.get(session, f"key/{n}", lambda db, n=n: db.get(f"key/{n}"))
        client = backend._client
        name = b"{causal:bench:0:key/7}"
        assert client.get(name) is not None

        def hit() -> None:
            cache.get(session, "key/7", _load)

        def unseen() -> None:
            backend._decoded.clear()
            cache.get(session, "key/7", _load)

        def plain() -> None:
            client.get(name)

        got = "a plain GET of the same entry, same client, Unix socket"
        yield against_floor("cache on Valkey: gated hit", hit, plain, got, 1.3)
        yield against_floor(
            "cache on Valkey: gated hit, an entry that this process has not seen", unseen, plain, got, None
        )
        far = ValkeyBackend.from_url(server.tcp_url, timeout_s=10.0)
        with closing(far):
            distant = CausalCache(store, far)

            def hit_far() -> None:
                distant.get(session, "key/7", _load)

            def plain_far() -> None:
                far._client.get(name)

            yield against_floor(
                "cache on Valkey: gated hit, loopback TCP", hit_far, plain_far, "a plain GET, same client", None
            )


# --- hit rates -------------------------------------------------------------------------------------------------------------


@attrs.define
class Rates:
    """Lookups and hits of one trace, by who asked; and how many of our loads were of what the replica did not have yet."""

    asked: Counter[str] = attrs.field(factory=Counter)
    early: Counter[str] = attrs.field(factory=Counter)
    ours: Counter[str] = attrs.field(factory=Counter)
    bare: Counter[str] = attrs.field(factory=Counter)


class Trace:
    """Visits of forty reads each, one in two of which writes three times, to the keys of a site whose replica lags."""

    def __init__(self, *, told: bool) -> None:
        self.told = told
        self.now_s = 0.0
        cluster = MemoryCluster(("eu", "us"), lag_s=LAG_S, monotonic=lambda: self.now_s)
        settings: dict[str, Any] = {"keyring": Keyring.generate(), "audience": "bench"}
        self.eu, self.us = (
            CausalStore(
                MemoryEngine(site=site, cluster=cluster),
                monotonic=lambda: self.now_s,
                wall=lambda: 1.7e9 + self.now_s,
                sleep=self.pass_s,
                **settings,
            )
            for site in ("eu", "us")
        )
        promise = Guarantee.READ_YOUR_WRITES
        backend = LRUBackend(KEYS)
        self.cache = CausalCache(self.us, backend, guarantees=promise, ttl_s=TTL_S)
        self.writing = CausalCache(self.eu, backend, guarantees=promise, ttl_s=TTL_S)
        self.bare: dict[str, float] = {}
        self.rates = Rates()

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds

    def run(self, visits: int) -> Rates:
        draw = random.Random(1)
        weights = list(accumulate(1 / (n + 1) for n in range(KEYS)))
        names = [f"key/{n}" for n in range(KEYS)]
        # Visits overlap: each step is of a random one of the fifty that go on.
        going: list[tuple[Any, list[bool], set[str]]] = []
        left = visits
        while left or going:
            while left and len(going) < 50:
                writes = left % 2 == 1
                plan = [False] * 40
                for at in draw.sample(range(40), 3) if writes else ():
                    plan[at] = True
                going.append((self.us.session(subject=f"user {left}"), plan, set()))
                left -= 1
            visit = draw.randrange(len(going))
            session, plan, touched = going[visit]
            self.now_s += draw.expovariate(500.0)
            key = draw.choices(names, cum_weights=weights)[0]
            if plan.pop():
                self.write(session, key)
                touched.add(key)
            else:
                self.read(session, key, touched)
            if not plan:
                del going[visit]
        return self.rates

    def write(self, session: Any, key: str) -> None:
        at = session.at(self.eu)
        if self.told:
            with self.writing.write(at, key) as tx:
                tx.put(key, TEXT)
            self.bare.pop(key, None)
        else:
            with at.write(touching=[key]) as tx:
                tx.put(key, TEXT)

    def read(self, session: Any, key: str, touched: set[str]) -> None:
        who = "a writer, other keys" if touched and key not in touched else "" if touched else "wrote nothing"
        _, account = self.cache.lookup(session, key, lambda db: db.get(key))
        held = self.bare.get(key, -1.0) >= self.now_s
        if not held:
            self.bare[key] = self.now_s + TTL_S
        self.rates.asked[who] += 1
        self.rates.ours[who] += account.served
        self.rates.early[who] += account.not_stored == "what is there is newer"
        self.rates.bare[who] += held


def _rates(told: bool) -> Iterator[Case]:
    found: list[Rates] = []
    how = "that writes delete from" if told else "that nobody tells of writes"
    for who, bar in (("wrote nothing", 0.99), ("a writer, other keys", 0.97)):
        name = f"hit rate, {'invalidated' if told else 'TTL only'}: {who}"

        def rate(effort: Effort, name: str = name, who: str = who, bar: float = bar) -> Row:
            if not found:
                found.append(Trace(told=told).run(min(VISITS, 5 * effort.rounds)))
            (rates,) = found
            ours, bare = (100 * hits[who] / rates.asked[who] for hits in (rates.ours, rates.bare))
            said = f"a bare cache, TTL 10 s, {how}"
            if told:
                early = 100 * rates.early[who] / rates.asked[who]
                said += f"; {early:.1f} % were asked for before the replica had the write"
            return Row(name, ours, "%", said, bare, "peer", ours / bare, None if told else bar)

        yield Case(name, rate)
