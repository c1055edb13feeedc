"""The stage of a scenario: sites that all take writes, people who visit them, and one clock that is moved by hand.

Each thing that a person does adds a line to the story: who, where, what, and in brackets what the receipt or the acknowledgement says.
A position is written shard/origin@offset: 0/1@2 is the second write in the log that origin 1 numbers of shard 0.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import attrs

from causal import CausalStore, Frontier, GateError, Key, Keyring, Lag, Position, ReadPolicy
from causal.core.watermark import Watermark
from causal.stores.memory import MemoryCluster, MemoryEngine
from causal.stores.memory.site import Site
from tests.scenarios.story import Story
from tests.stores.worlds import Time

FIRST_KEY, SECOND_KEY = Key(1, b"1" * 32), Key(2, b"2" * 32)


@attrs.frozen
class LagOf(Lag):
    """A lag that is longer for some shards."""

    by_shard: Mapping[int, float] = attrs.field(factory=dict)

    def delay_s(self, site: str, shard: int, origin: int, offset: int) -> float:
        return self.by_shard.get(shard & 0xFFFF, self.median_s)


class Stage:
    """Sites of one store: the first numbers origin 1, the second origin 2, and so on. A write is applied elsewhere after `lag_s`."""

    def __init__(
        self,
        tell: Story,
        *sites: str,
        shards: tuple[str, ...] = ("main",),
        lag_s: float | Lag = 0.05,
        skew_s: Mapping[str, float] | None = None,
        number: int = 0,
        time: Time | None = None,
        **settings: Any,
    ) -> None:
        self.tell = tell
        self.time = time or Time()
        self.settings = {"keyring": Keyring([FIRST_KEY]), "number": number, **settings}
        self.cluster = MemoryCluster(
            sites,
            shards=shards,
            lag_s=lag_s,
            skew_s=skew_s,
            store=number,
            wall=self.time.wall_ns,
            monotonic=self.time.monotonic,
            sleep=self.sleep,
        )
        self.stores = {site: self.process(site) for site in sites}

    def sleep(self, seconds: float) -> None:
        self.time.now_s += seconds

    def pass_s(self, seconds: float) -> None:
        """Let time pass, and say so."""
        self.tell(f"{seconds:g} s pass.")
        self.time.now_s += seconds
        self.cluster.step()

    def process(self, site: str, *, knows: tuple[str, ...] = (), **settings: Any) -> CausalStore[Any, Any]:
        """Start a process at a site. `knows` are the sites in its configuration, if not all."""
        given: dict[str, Any] = {
            "audience": "shop",
            "monotonic": self.time.monotonic,
            "wall": self.time.wall_s,
            "sleep": self.sleep,
            **self.settings,
            **settings,
        }
        store: CausalStore[Any, Any] = CausalStore(_Configured(self.cluster, site, knows), **given)
        store._state.random = random.Random(0)
        return store.__enter__()

    def visit(self, who: str, site: str, *tokens: str | None, process: CausalStore[Any, Any] | None = None) -> Visit:
        """Let somebody come to a site with the tokens that they hold."""
        return Visit(self.tell, who, site, process or self.stores[site], *tokens)

    def restart(self, site: str, *, back: int) -> None:
        """Replace a site by an older copy of itself, which lacks the last `back` transactions of others."""
        self.cluster.restart(site, back=back)


class _Configured(MemoryEngine):
    """The engine of a process whose configuration may not list every site."""

    def __init__(self, cluster: MemoryCluster, site: str, knows: tuple[str, ...]) -> None:
        super().__init__(cluster=cluster, site=site)
        self.knows = knows

    def open(self, store: int = 0) -> Any:
        link = super().open(store)
        if self.knows:
            link.endpoints = tuple(e for e in link.endpoints if e.name in self.knows)
        return link


class Visit:
    """What one person does at one site, in one session."""

    def __init__(self, tell: Story, who: str, site: str, store: CausalStore[Any, Any], *tokens: str | None) -> None:
        self.tell, self.who, self.site = tell, who, site
        self.session = store.session(*tokens, subject=who)

    def reads(
        self, key: str, shard: str | None = None, policy: ReadPolicy | None = None, *, of: Stage | None = None
    ) -> Any:
        """Return what was read, or the GateError that was raised instead. `of` is another store at the same site."""
        block: Any = self.session.read(*([of.stores[self.site]] if of else []), shard=shard, policy=policy)
        try:
            with block as db:
                value = db.get(key)
        except GateError as error:
            self._refused(f"reads {key}", error)
            return error
        clipped = "".join(f"; clipped: {loss}" for loss in block.receipt.clipped)
        self._says(f"reads {key}: {value}", f"{block.receipt}{clipped}")
        return value

    def writes(self, key: str, value: Any, shard: str | None = None, *, of: Stage | None = None) -> Any:
        """Return None, or the GateError that was raised."""
        before = self.session.own
        try:
            with self.session.write(*([of.stores[self.site]] if of else []), shard=shard) as tx:
                tx.put(key, value)
        except GateError as error:
            self._refused(f"writes {key} = {value}", error)
            return error
        self._says(f"writes {key} = {value}", new(before, self.session.own) or "committed, place unknown")
        return None

    @property
    def token(self) -> str | None:
        """What the person takes along."""
        return self.session.token()

    def _refused(self, what: str, error: GateError) -> None:
        self._says(what, f"{type(error).__name__}: {str(error).partition('. ')[0]}")

    def _says(self, what: str, account: str) -> None:
        self.tell(f"{self.who} at {self.site} {what}  [{account}]")


def new(before: Frontier, after: Frontier) -> str:
    """Return the positions in which a frontier has grown."""
    return ", ".join(str(p) for p in after if before.offset(p.shard, p.origin) != p.offset)


def positions(frontier: Frontier) -> str:
    """Return a frontier as text."""
    return ", ".join(map(str, frontier)) or "nothing"


def key_of(position: Position) -> int:
    """Return the packed key of a position's log."""
    return position.shard << 32 | position.origin


@contextmanager
def watermarks_say(change: Callable[[Watermark], Watermark]) -> Iterator[None]:
    """Let every site give other watermarks than it should."""
    honest = Site.snapshot

    def snapshot(site: Site) -> Any:
        return {s: attrs.evolve(one, watermark=change(one.watermark)) for s, one in honest(site).items()}

    with patch.object(Site, "snapshot", snapshot):
        yield
