"""Replay a trace over several sites, under one strategy, in virtual time, on the embedded store's real files.

Owns the model of users: a session stays at its site and moves to another one now and then (`hop`, seeded); each operation is a
request of its own that carries the session's token, as a web client would. A session has one request under way at a time; one that
takes longer than the trace's pause delays those after it. Every site takes writes. A remote site costs one round trip to open a block
at, and one for each question. What is committed arrives at each other site one lag later.

Durability is relaxed, and the files lie in memory where the system has some to spare: they are thrown away, and waiting for a real
disk would only slow virtual time down. Time that the processor takes is not counted: latency is lag, round trips and waits.
"""

from __future__ import annotations

import math
import os
import random
import shutil
import sqlite3
import tempfile
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import attrs

from causal.controls import Lag
from causal.core.keyring import Key, Keyring
from causal.core.policy import Limits, ReadPolicy
from causal.errors import ConfigError, GateError
from causal.lab.audit import Audit
from causal.lab.trace import MAX_T_S
from causal.lab.virtual_time import VirtualTime
from causal.store import CausalStore
from causal.stores.sqlite import SQLiteEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from causal.core.receipt import Receipt
    from causal.lab.audit import Counts, Rank
    from causal.lab.trace import Operation
    from causal.stores.sqlite.link import SQLiteLink

STRATEGIES: Final[Mapping[str, Callable[[], ReadPolicy]]] = {
    "token": lambda: ReadPolicy(wait_s=1.0),
    "leader": lambda: ReadPolicy.leader(wait_s=1.0),
    "window": lambda: ReadPolicy.leader_window(0.5),
    "quorum": lambda: ReadPolicy.quorum(2, token=False, wait_s=1.0),
    "quorum+token": lambda: ReadPolicy.quorum(2, wait_s=1.0),
    "bounded": lambda: ReadPolicy.bounded(0.5, wait_s=1.0),
    "eventual": ReadPolicy.eventual,
}
"""The strategies that the embedded store can run, by the names that `causal compare --policy` takes."""

MAX_SITES: Final = 16


@attrs.frozen
class Setting:
    """What is held fixed while strategies are compared. Units: seconds. Thread-safety: immutable."""

    sites: tuple[str, ...] = ("eu", "us", "ap")
    lag: Lag = attrs.field(factory=lambda: Lag(0.05))
    rtt_s: float = 0.08
    speed: float = 1.0
    hop: float = 0.2
    seed: int = 1

    def __attrs_post_init__(self) -> None:
        if not 2 <= len(self.sites) <= MAX_SITES or len(set(self.sites)) != len(self.sites):
            raise ConfigError(
                f"a comparison needs 2 to {MAX_SITES} different sites, not {', '.join(self.sites[: MAX_SITES + 1])}"
            )
        if not (0 < self.speed < math.inf and 0 <= self.hop <= 1 and 0 <= self.rtt_s < math.inf):
            raise ConfigError("speed is positive, hop is in 0..1, a round trip is not negative, and none is infinite")


@attrs.frozen
class Result:
    """What one strategy did to the users of a trace, and what it cost.

    `leader` is the share of reads that were sent to a leader for being one, `away` of those served at another site than the
    reader's, `waited` how many were held back. Units: seconds; shares in 0..1. Thread-safety: immutable.
    """

    strategy: str
    policy: str
    reads: int
    writes: int
    stale: int
    non_monotonic: int
    out_of_causal_order: int
    read_p50_s: float
    read_p99_s: float
    leader: float
    away: float
    waited: int
    waited_p50_s: float
    refused_reads: int
    refused_writes: int


def replay(
    operations: Sequence[Operation], strategy: str, setting: Setting, progress: Callable[[int], None] = lambda _: None
) -> Result:
    """Run a trace under one of STRATEGIES. The same arguments give the same result. Raises: ConfigError for an unknown strategy."""
    if strategy not in STRATEGIES:
        raise ConfigError(f"no strategy {strategy!r}: there are {', '.join(STRATEGIES)}")
    if not operations:
        raise ConfigError("a trace without operations cannot be replayed")
    if operations[-1].t_s > MAX_T_S * setting.speed:
        raise ConfigError(f"at speed {setting.speed:g} the trace would last more than {MAX_T_S:g} seconds")
    with tempfile.TemporaryDirectory(prefix="causal-", dir=roomy(len(operations))) as directory:
        return _Run(operations, strategy, setting, Path(directory), progress).run()


def roomy(operations: int) -> str | None:
    """Return where files that nobody keeps are fastest: in memory, if there is room to spare and nobody has named a place (TMPDIR)."""
    if os.environ.get("TMPDIR"):
        return None
    memory = "/dev/shm"  # noqa: S108 - a directory of its own is made in it
    try:
        roomy = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2**26 + 2**12 * operations
    except OSError:
        return None
    return memory if roomy else None


class _Run:
    """One run. Everything happens inside virtual time."""

    def __init__(
        self,
        operations: Sequence[Operation],
        strategy: str,
        setting: Setting,
        directory: Path,
        progress: Callable[[int], None],
    ) -> None:
        self.operations = operations
        self.strategy = strategy
        self.setting = setting
        self.directory = directory
        self.progress = progress
        self.time = VirtualTime()
        self.audit = Audit()
        self.policy = STRATEGIES[strategy]()
        self.latencies_s: list[float] = []
        self.waits_s: list[float] = []
        self.leader = self.away = self.refused_reads = self.refused_writes = 0
        self.wrote_s: dict[str, float] = {}
        self.engines = {
            site: SQLiteEngine(
                directory,
                site=site,
                lag_s=setting.lag,
                rtt_s=setting.rtt_s,
                durability="relaxed",
                replicate="manual",
                wall=self.time.wall_ns,
                sleep=self.time.sleep,
                first_origin=1,
            )
            for site in setting.sites
        }
        # A key of no secret value: the tokens of a simulation protect nothing, and must be the same in every run.
        keyring = Keyring([Key(1, bytes(32))])
        self.stores = {
            site: CausalStore(
                engine,
                keyring=keyring,
                audience="compare",
                policy=self.policy,
                limits=Limits(10**6, 10**6, 10**6, 10**6),
                monotonic=self.time.monotonic,
                wall=self.time.wall,
                sleep=self.time.sleep,
            )
            for site, engine in self.engines.items()
        }
        self.files: dict[str, sqlite3.Connection] = {}
        self.links: dict[str, SQLiteLink] = {}
        self.last = (0, 0)

    def run(self) -> Result:
        sessions: dict[str, list[Operation]] = defaultdict(list)
        for operation in self.operations:
            sessions[operation.session].append(operation)
        try:
            # Every site joins before a store opens: a store learns at once of all that are there, and of others by real time.
            self.links = {site: engine.open() for site, engine in self.engines.items()}
            for site, store in self.stores.items():
                store._state.random.seed(f"{self.setting.seed}/{site}")  # the jitter of its questions, too, must repeat
                store.__enter__()
            for site in self.setting.sites:
                path = self.directory / f"{site}.sqlite"
                self.files[site] = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            for name, mine in sessions.items():
                self.time.spawn(partial(self.live, name, mine), at_s=self.due_s(mine[0]))
            self.time.run()
        finally:
            for file in self.files.values():
                file.close()
            for link in self.links.values():
                link.close()
            for store in self.stores.values():
                store.close()
        return self.result(self.audit.counts)

    def due_s(self, operation: Operation) -> float:
        return 1.0 + (operation.t_s - self.operations[0].t_s) / self.setting.speed

    def live(self, name: str, operations: Sequence[Operation]) -> None:
        """Be one user: one request after the other, at the trace's times, never two at once."""
        chance = random.Random(f"{self.setting.seed}/{name}")  # the same walk under every strategy
        site = chance.choice(self.setting.sites)
        token: str | None = None
        for operation in operations:
            wait_s = self.due_s(operation) - self.time.now_s
            if wait_s > 0:
                self.time.sleep(wait_s)
            if chance.random() < self.setting.hop:
                site = chance.choice([other for other in self.setting.sites if other != site])
            session = self.stores[site].session(token, subject=name)
            if operation.op == "write":
                self.write(site, session, operation)
            else:
                self.read(site, session, operation)
            token = session.token()
            self.progress(1)

    def write(self, site: str, session: Any, operation: Operation) -> None:
        try:
            with session.write(wait_s=5.0) as tx:
                tx.put(operation.key, [operation.number, operation.value])
        except GateError:
            self.refused_writes += 1
            return
        self.audit.wrote(operation.session, operation.key, operation.number, self.rank(site))
        self.wrote_s[operation.session] = now_s = self.time.now_s
        for other in self.setting.sites:
            if other != site:
                self.time.at(now_s + self.delay_s(other), partial(self.arrive, other))

    def arrive(self, site: str) -> None:
        """Apply at a site what is due, and with it what waited for that."""
        self.links[site].step()

    def rank(self, site: str) -> Rank:
        """Look up how the store ranks the write just acknowledged, in its file: nobody else runs between its commit and this."""
        found = self.files[site].execute('SELECT origin, applied, stamp FROM watermark WHERE mine AND "end" IS NULL')
        origin, offset, stamp = found.fetchone()
        self.last = origin, offset
        return stamp, origin

    def delay_s(self, other: str) -> float:
        origin, offset = self.last
        return self.setting.lag.delay_s(other, 0, origin, offset) + 1e-6

    def read(self, site: str, session: Any, operation: Operation) -> None:
        began_s = self.time.now_s
        block = session.read()
        try:
            with block as db:
                found = db.get(operation.key)
        except GateError:
            self.refused_reads += 1
            return
        self.audit.read(operation.session, operation.key, None if found is None else found[0])
        receipt: Receipt = block.receipt
        self.latencies_s.append(self.time.now_s - began_s)
        self.away += receipt.endpoint != site
        in_window = began_s - self.wrote_s.get(operation.session, -math.inf) < self.policy.window_s
        self.leader += receipt.how in {"leader", "fallback"} or (receipt.how == "window" and in_window)
        if receipt.waited_s > 0:
            self.waits_s.append(receipt.waited_s)

    def result(self, counts: Counts) -> Result:
        return summed_up(self, str(self.policy), counts)


class Measured(Protocol):
    """What a replay has measured, whatever it ran on. Units: seconds."""

    strategy: str
    latencies_s: list[float]
    waits_s: list[float]
    leader: int
    away: int
    refused_reads: int
    refused_writes: int


def summed_up(run: Measured, policy: str, counts: Counts) -> Result:
    """Return what a replay came to."""
    latencies, waits = sorted(run.latencies_s), sorted(run.waits_s)
    answered = max(1, len(latencies))
    return Result(
        run.strategy,
        policy,
        counts.reads,
        counts.writes,
        counts.stale,
        counts.non_monotonic,
        counts.out_of_causal_order,
        quantile(latencies, 0.5),
        quantile(latencies, 0.99),
        round(run.leader / answered, 6),
        round(run.away / answered, 6),
        len(waits),
        quantile(waits, 0.5),
        run.refused_reads,
        run.refused_writes,
    )


def quantile(ordered: Sequence[float], q: float) -> float:
    """Return a quantile of values in ascending order, to the microsecond; 0 where there are none."""
    return round(ordered[min(len(ordered) - 1, int(q * len(ordered)))], 6) if ordered else 0.0
