"""Replay a trace on a real local cluster, under one strategy, in real time: threads, connections, streaming replication.

Owns the model of users, which is that of `causal.lab.replay` where it can be: each operation is a request of its own that carries its
session's token, and a session has one request under way at a time. There is an application process (a store of its own) beside each
standby, which it prefers; a session stays with one and moves to another now and then (`hop`, seeded). All write at the one primary.
Keys are rows of one plain table, each with the number of the write that made it and a version that counts the row's writes.

Time is real, so pauses are cut: no two operations of the trace lie further apart than `think_s`. What users then saw varies a little
from run to run. The lag is the standbys' `recovery_min_apply_delay`.
"""

from __future__ import annotations

import heapq
import itertools
import json
import math
import random
import threading
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

import attrs

from causal.core.keyring import Key, Keyring
from causal.core.policy import Limits
from causal.errors import CommitUnknown, ConfigError, GateError, Unreachable
from causal.lab.audit import Audit
from causal.lab.postgres.cluster import PostgresCluster
from causal.lab.replay import STRATEGIES, Result, summed_up
from causal.store import CausalStore
from causal.stores.postgres import PoolSettings, PostgresEngine, Replica, install

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType
    from typing import Self

    from causal.lab.trace import Operation

TABLE: Final = "causal_compare"
MAX_REPLICAS: Final = 8
_NEAR_S, _FAR_S = 0.0, 0.001
"""The order of preference; there is no network between them."""
_PUT: Final = f"""
INSERT INTO {TABLE} AS old VALUES (%s, %s, %s, 1)
ON CONFLICT (key) DO UPDATE SET number = excluded.number, value = excluded.value, version = old.version + 1
RETURNING version"""  # noqa: S608 - a constant
_GET: Final = f"SELECT number, version FROM {TABLE} WHERE key = %s"  # noqa: S608 - a constant


@attrs.frozen
class RealSetting:
    """What is held fixed while strategies are compared on real servers. Units: seconds. Thread-safety: immutable."""

    replicas: int = 2
    lag_s: float = 0.05
    think_s: float = 0.01
    speed: float = 1.0
    hop: float = 0.2
    clients: int = 8
    seed: int = 1

    def __attrs_post_init__(self) -> None:
        if not 1 <= self.replicas <= MAX_REPLICAS:
            raise ConfigError(f"a comparison needs 1 to {MAX_REPLICAS} standbys, not {self.replicas}")
        if not 1 <= self.clients <= 64:
            raise ConfigError(f"a comparison has 1 to 64 clients, not {self.clients}")
        if not (0 < self.speed < math.inf and 0 <= self.hop <= 1 and 0 <= self.think_s < math.inf):
            raise ConfigError("speed is positive, hop is in 0..1, a pause is not negative, and none is infinite")

    def due_s(self, operations: Sequence[Operation]) -> list[float]:
        """Return when each operation is due, from the first on: at the trace's times, with long pauses cut."""
        gaps = (
            min((after.t_s - before.t_s) / self.speed, self.think_s) for before, after in itertools.pairwise(operations)
        )
        return [0.0, *itertools.accumulate(gaps)]


class RealReplays:
    """A cluster with the table that replays use, as a context manager. Thread-safety: none."""

    def __init__(self, setting: RealSetting) -> None:
        self.setting = setting
        self.cluster = PostgresCluster(setting.replicas)

    def __enter__(self) -> Self:
        self.cluster.start()
        try:
            prepare(self.cluster)
            for server in self.cluster.replicas:
                server.set_lag(self.setting.lag_s)
        except BaseException:
            self.cluster.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.cluster.close()

    def run(
        self, operations: Sequence[Operation], strategy: str, progress: Callable[[int], None] = lambda _: None
    ) -> Result:
        """Run a trace under one of STRATEGIES, on an empty table. Raises: ConfigError, StoreError."""
        return replay_on(self.cluster, operations, strategy, self.setting, progress)


def prepare(cluster: PostgresCluster) -> None:
    """Make in a running cluster what replays need: the lineage, and the table."""
    install(cluster.primary.admin_dsn, ("app",))
    cluster.primary.query(
        f"CREATE TABLE {TABLE} (key text PRIMARY KEY, number integer NOT NULL, value text NOT NULL, version integer NOT NULL)"
    )
    cluster.primary.query(f"ALTER TABLE {TABLE} OWNER TO app")


def replay_on(
    cluster: PostgresCluster,
    operations: Sequence[Operation],
    strategy: str,
    setting: RealSetting,
    progress: Callable[[int], None] = lambda _: None,
) -> Result:
    """Run a trace under one of STRATEGIES on a cluster that was prepared. Raises: ConfigError, StoreError."""
    if strategy not in STRATEGIES:
        raise ConfigError(f"no strategy {strategy!r}: there are {', '.join(STRATEGIES)}")
    if not operations:
        raise ConfigError("a trace without operations cannot be replayed")
    for operation in operations:
        if "\0" in operation.key:
            raise ConfigError(f"PostgreSQL cannot hold the key {operation.key!r}: it has a null character")
    empty(cluster)
    return _Run(cluster, operations, strategy, setting, progress).run()


def empty(cluster: PostgresCluster) -> None:
    """Empty the table, at every standby."""
    cluster.primary.query(f"TRUNCATE {TABLE}")
    for server in cluster.replicas:
        cluster.catch_up(server.name)  # at once, whatever its lag


@attrs.define
class _Life:
    """One user's session: what it is still to do, where it is, and the token that it carries."""

    name: str
    chance: random.Random
    site: int
    left: list[tuple[float, Operation]]  # the next one last
    token: str | None = None
    wrote_s: float = -math.inf


class _Run:
    """One run. Thread-safety: what clients share is under `lock`."""

    def __init__(
        self,
        cluster: PostgresCluster,
        operations: Sequence[Operation],
        strategy: str,
        setting: RealSetting,
        progress: Callable[[int], None],
    ) -> None:
        self.strategy, self.setting, self.progress = strategy, setting, progress
        self.policy = STRATEGIES[strategy]()
        self.sites = [server.name for server in cluster.replicas]
        keyring = Keyring([Key.generate()])
        self.stores = [
            CausalStore(
                _engine(cluster, near, setting.clients),
                keyring=keyring,
                audience="compare",
                policy=self.policy,
                limits=Limits(10**6, 10**6, 10**6, 10**6),
            )
            for near in self.sites
        ]
        self.lock = threading.Condition()
        self.due: list[tuple[float, int, _Life]] = []
        self.under_way = 0
        self.failure: BaseException | None = None
        self.began_s = 0.0
        # What happened, in an order that it can have happened in: a write stands before its commit, a read after its end.
        self.events: list[tuple[Operation, int | None]] = []
        self.undone: set[int] = set()
        self.latencies_s: list[float] = []
        self.waits_s: list[float] = []
        self.leader = self.away = self.refused_reads = self.refused_writes = 0
        sessions: dict[str, list[tuple[float, Operation]]] = defaultdict(list)
        for due_s, operation in zip(setting.due_s(operations), operations, strict=True):
            sessions[operation.session].append((due_s, operation))
        for nth, (name, mine) in enumerate(sessions.items()):
            chance = random.Random(f"{setting.seed}/{name}")  # the same walk under every strategy
            life = _Life(name, chance, chance.randrange(len(self.sites)), mine[::-1])
            heapq.heappush(self.due, (mine[0][0], nth, life))

    def run(self) -> Result:
        clients = [threading.Thread(target=self.client, name=f"client {n}") for n in range(self.setting.clients)]
        try:
            for store in self.stores:
                store.__enter__()
            self.began_s = time.monotonic()
            for client in clients:
                client.start()
            with self.lock:
                self.lock.wait_for(lambda: self.failure is not None or not (self.due or self.under_way))
        except BaseException as error:
            with self.lock:
                self.failure = self.failure or error
                self.lock.notify_all()
            raise
        finally:
            for client in clients:
                if client.ident is not None:
                    client.join()
            for store in self.stores:
                store.close()
        if self.failure is not None:
            raise self.failure
        return self.result()

    # --- clients ---------------------------------------------------------------------------------------------------

    def client(self) -> None:
        """Do what is due, until nothing is left."""
        while (task := self.next()) is not None:
            nth, life = task
            try:
                self.step(life)
            except BaseException as error:  # noqa: BLE001 - raised again by who waits
                with self.lock:
                    self.failure = self.failure or error
            with self.lock:
                self.under_way -= 1
                self.progress(1)
                if life.left:
                    heapq.heappush(self.due, (life.left[-1][0], nth, life))
                self.lock.notify_all()

    def next(self) -> tuple[int, _Life] | None:
        """Wait for a session whose next request is due; None when there is no more."""
        with self.lock:
            while self.failure is None and (self.due or self.under_way):
                pause_s = self.due[0][0] - (time.monotonic() - self.began_s) if self.due else None
                if pause_s is None or pause_s > 0:
                    self.lock.wait(pause_s)
                    continue
                _, nth, life = heapq.heappop(self.due)
                self.under_way += 1
                return nth, life
            return None

    def step(self, life: _Life) -> None:
        _, operation = life.left.pop()
        if life.chance.random() < self.setting.hop and len(self.sites) > 1:
            life.site = life.chance.choice([n for n in range(len(self.sites)) if n != life.site])
        session = self.stores[life.site].session(life.token, subject=life.name)
        (self.write if operation.op == "write" else self.read)(life, session, operation)
        life.token = session.token()

    def write(self, life: _Life, session: Any, operation: Operation) -> None:
        value = json.dumps(operation.value)
        try:
            with session.write(wait_s=5.0) as tx:
                (version,) = tx.execute(_PUT, (operation.key, operation.number, value)).fetchone()
                self.events.append((operation, version))
        except CommitUnknown:
            raise  # nobody cut anything here
        except (GateError, Unreachable):
            with self.lock:
                self.undone.add(operation.number)
                self.refused_writes += 1
            return
        life.wrote_s = time.monotonic()

    def read(self, life: _Life, session: Any, operation: Operation) -> None:
        began_s = time.monotonic()
        block = session.read()
        try:
            with block as db:
                found = db.execute(_GET, (operation.key,)).fetchone()
        except (GateError, Unreachable):
            with self.lock:
                self.refused_reads += 1
            return
        took_s, receipt = time.monotonic() - began_s, block.receipt
        with self.lock:
            self.events.append((operation, None if found is None else found[0]))
            self.latencies_s.append(took_s)
            self.leader += receipt.endpoint == "primary"
            self.away += receipt.endpoint != self.sites[life.site]
            if receipt.waited_s > 0:
                self.waits_s.append(receipt.waited_s)

    # --- what came of it -------------------------------------------------------------------------------------------

    def result(self) -> Result:
        audit = Audit()
        for operation, what in self.events:
            if operation.op == "read":
                audit.read(operation.session, operation.key, what)
            elif operation.number not in self.undone:
                assert what is not None
                audit.wrote(operation.session, operation.key, operation.number, (what, 0))
        return summed_up(self, str(self.policy), audit.counts)


def _engine(cluster: PostgresCluster, near: str, clients: int) -> PostgresEngine:
    """Return the engine of an application that stands beside one of the standbys."""
    return PostgresEngine(
        Replica(cluster.primary.dsn, latency_s=_FAR_S),
        {
            server.name: Replica(server.dsn, latency_s=_NEAR_S if server.name == near else _FAR_S)
            for server in cluster.replicas
        },
        order="listed",
        pool=PoolSettings(max_size=clients),
    )


def check_control(eventual: Result) -> str | None:
    """Return why a comparison is void: the control that nothing holds back showed nothing stale. None: it is not."""
    if eventual.out_of_causal_order:
        return None
    return (
        "void: the eventual run, which nothing holds back, showed nothing stale either, so that the others did not is no evidence. "
        "Raise the lag, or cut pauses further with --think."
    )
