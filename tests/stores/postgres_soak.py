"""A soak: writers and gated readers on real servers, while standbys are paused, frozen, restarted and promoted, audited from what returned.

Every writer owns one key, whose value only ever grows. So what a session may be shown is simple: never less than what it was acknowledged
or was shown before, unless it was told of the loss of exactly that. Nothing inside the library is asked for the verdict but the errors and
receipts that a user gets; which writes are lost is read from the surviving server's rows, and who served from what that server says of
itself. The servers are met directly, each behind a PgBouncer of its own name, or the standbys behind one balancer.
"""

from __future__ import annotations

import contextlib
import random
import re
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs
import psycopg

from causal import CausalStore, Keyring, ReadPolicy
from causal.core.frontier import Loss
from causal.errors import CausalError, CommitUnknown, WriteLost
from causal.lab.postgres import PostgresCluster
from causal.stores.postgres import PoolSettings, PostgresEngine, install
from tests.stores.poolers import haproxy, pgbouncer
from tests.stores.postgres_soak_trouble import LAG_S, Trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from causal.core.frontier import Frontier, Position

PACE_S: Final = 0.03
"""What a client pauses at most, so that a few dozen of them do not wait for one processor all the time."""
SETTLE_S: Final = 30.0
POOL: Final = 30
PUT: Final = "INSERT INTO kv (k, v) VALUES (%s, %s) ON CONFLICT (k) DO UPDATE SET v = excluded.v"
LOOK: Final = (
    "SELECT coalesce((SELECT v FROM kv WHERE k = %s), 0), pg_is_in_recovery(), current_setting('cluster_name')"
)


@attrs.frozen
class Enough:
    """What must have been done at least, that nothing was found means something."""

    writes: int = 200
    reads: int = 1000
    at_standbys: int = 500
    at_each: int = 0
    """How often each server must have shown something as a standby."""

    def of(self, verdict: Verdict) -> bool:
        """Whether that was done."""
        standbys = [n for who, n in verdict.served.items() if "standby" in who]
        return (
            verdict.counts["write"] > self.writes
            and verdict.reads > self.reads
            and verdict.share * verdict.reads > self.at_standbys
            and (not self.at_each or (len(standbys) > 1 and min(standbys) > self.at_each))
        )


@attrs.define
class Plan:
    """One soak. Units: seconds."""

    seed: int
    run_s: float = 60.0
    writers: int = 8
    readers: int = 16
    synchronous_commit: str = "on"
    isolation: Any = "read committed"
    gated: bool = True
    promotions: bool = True
    through: Literal["", "pgbouncer", "haproxy"] = ""
    policy: ReadPolicy = attrs.field(factory=lambda: ReadPolicy(wait_s=0.2))
    enough: Enough = Enough()


@attrs.define
class Verdict:
    """What the audit found. Every list of sins is to be empty, but for a control's."""

    stale_own: list[str] = attrs.field(factory=list)
    backward: list[str] = attrs.field(factory=list)
    unreported: list[str] = attrs.field(factory=list)
    unexpected: list[str] = attrs.field(factory=list)
    counts: Counter[str] = attrs.field(factory=Counter)
    served: Counter[str] = attrs.field(factory=Counter)
    """Who has shown something, and as what."""
    lost: int = 0

    @property
    def reads(self) -> int:
        """How many reads were served."""
        return sum(n for what, n in self.counts.items() if what.startswith("read "))

    @property
    def share(self) -> float:
        """How much of what was shown was shown by standbys: where that is little, little was tried."""
        return sum(n for who, n in self.served.items() if "standby" in who) / max(1, self.served.total())

    def __str__(self) -> str:
        sins = {
            f.name: getattr(self, f.name)[:3] for f in attrs.fields(Verdict) if isinstance(getattr(self, f.name), list)
        }
        said = f"{dict(sorted(self.counts.items()))}, {self.lost} lost writes; {self.share:.0%} at standbys of"
        return f"{said} {dict(sorted(self.served.items()))}; {sins}"


class Carried:
    """What one client carries and remembers: its token, and what it was told. Thread-safety: guarded by `lock`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lock = threading.Lock()
        self.token: str | None = None
        self.acknowledged = 0
        self.attempted = 0
        self.written: list[tuple[int, Position]] = []
        self.told: list[Loss] = []
        self.floor = 0

    def has_been_told(self, position: Position) -> bool:
        return any(
            one.position.origin == position.origin and one.position.offset >= position.offset > one.end
            for one in self.told
        )


@attrs.define
class Reader:
    """What a client that only reads carries, and what it was shown by key."""

    name: str
    token: str | None = None
    shown: dict[str, int] = attrs.field(factory=dict)


class Soak:
    """The clients, the trouble and the audit."""

    def __init__(self, plan: Plan, cluster: PostgresCluster, stores: Sequence[Any]) -> None:
        self.plan = plan
        self.cluster = cluster
        self.stores = stores
        self.verdict = Verdict()
        self.over = threading.Event()
        self.writers = [Carried(f"w{n}") for n in range(plan.writers)]
        self.readers = [Reader(f"r{n}") for n in range(plan.readers)]
        self.noting = threading.Lock()
        self.positions: dict[str, dict[int, Position]] = {w.name: {} for w in self.writers}

    def note(self, kind: str) -> None:
        with self.noting:
            self.verdict.counts[kind] += 1

    def sin(self, sins: list[str], what: str) -> None:
        with self.noting:
            sins.append(what)

    @contextlib.contextmanager
    def tolerating(self, who: Carried, session: Any, *, writing: bool = False) -> Iterator[None]:
        """Let pass what a user is told by an error, and accept losses as a user would."""
        try:
            yield
        except WriteLost as error:
            self.note("WriteLost")
            who.told += error.lost
            session.forget(error.lost)
            who.token = session.token()
            lost = {one.position.origin: one.end for one in error.lost}
            kept = [n for n, p in who.written if not (p.origin in lost and p.offset > lost[p.origin])]
            who.acknowledged = max(kept, default=0)
            who.floor = 0  # what it was shown of itself is gone with it
        except CommitUnknown as error:
            self.note("CommitUnknown")
            if error.lost:
                session.forget(error.lost)
            who.token = session.token()
        except CausalError as error:
            self.refused(error)
        except psycopg.OperationalError as error:
            if not writing:
                raise
            self.refused(error)  # what a write block's own statement meets is the caller's, and nothing was committed

    def refused(self, error: Exception) -> None:
        """Count an error that is no answer, by what it says."""
        words = re.sub(r"[0-9A-F]+/[0-9A-F]+|[0-9.]+", "N", str(error))
        self.note(f"{type(error).__name__}: {words[:120]}")

    # --- the audit ---------------------------------------------------------------------------------------------------

    @property
    def reads(self) -> ReadPolicy | None:
        """The policy of every read: the store's own, or none at all."""
        return None if self.plan.gated else ReadPolicy.eventual()

    def shown_by(self, row: Any) -> int:
        """Take what a read was shown, and note who served it, by what that server says of itself."""
        value, standby, server = row
        with self.noting:
            self.verdict.served[f"{server} as {'a standby' if standby else 'the primary'}"] += 1
        return int(value)

    def session(self, rng: random.Random, *tokens: str | None, subject: str) -> Any:
        return rng.choice(self.stores).session(*tokens, subject=subject)

    def acknowledged(self, who: Carried, n: int, before: Frontier, session: Any) -> None:
        """Take an acknowledgement over, and which position it added: the only look inside."""
        with self.noting:
            for position in session._state.own:
                if (before.offset(position.shard, position.origin) or -1) < position.offset:
                    who.written.append((n, position))
                    self.positions[who.name][n] = position
        who.acknowledged = n
        who.token = session.token()
        self.note("write")

    def judge_own(self, who: Carried, session: Any, expected: int, found: int, receipt: Any) -> None:
        """Judge what a writer was shown of its own."""
        if found < expected:
            self.sin(self.verdict.stale_own, f"{who.name}: {found} < {expected}: {receipt} {receipt.considered}")
            who.acknowledged = found if not self.plan.gated else expected
        if self.plan.gated:
            who.token = session.token()
        self.note(f"read {receipt.how}")

    def handed(self, reader: Reader, rng: random.Random) -> tuple[Carried, str | None, int]:
        """Pick whose key to read, now and then by a link that its writer sent: what the token demands is what the writer has."""
        writer = rng.choice(self.writers)
        if rng.random() < 0.3 and writer.lock.acquire(blocking=False):
            try:
                if writer.token:
                    session = self.stores[0].session(writer.token, subject=writer.name)
                    return writer, session.token(subject=reader.name), writer.acknowledged
            finally:
                writer.lock.release()
        return writer, None, 0

    @contextlib.contextmanager
    def telling(self, reader: Reader, session: Any) -> Iterator[None]:
        """Let pass what a reader is told by an error."""
        try:
            yield
        except WriteLost as error:
            self.note("WriteLost at a reader")
            session.forget(error.lost)
            self.forgiven(reader.shown, error.lost)
            reader.token = session.token()
        except CommitUnknown as error:
            session.forget(error.lost)
            reader.token = session.token()
        except CausalError as error:
            self.refused(error)

    def judge(
        self, reader: Reader, session: Any, link: tuple[Carried, str | None, int], found: dict[str, int], receipt: Any
    ) -> None:
        """Judge what a reader was shown: never less than before, nor than the writer had whose token it holds."""
        self.forgiven(reader.shown, receipt.clipped)
        for key, value in found.items():
            before = reader.shown.get(key, 0)
            if value < before and not self.lost_meanwhile(key, before, receipt.clipped):
                self.sin(
                    self.verdict.backward, f"{reader.name}: {key} {value} < {before}: {receipt} {receipt.considered}"
                )
            reader.shown[key] = value
        writer, token, expected = link
        value = found[writer.name]
        if token and value < expected and not self.lost_meanwhile(writer.name, expected, receipt.clipped):
            self.sin(self.verdict.stale_own, f"{reader.name} by {writer.name}'s token: {value} < {expected}: {receipt}")
        if self.plan.gated:
            reader.token = session.token()
        self.note(f"read {receipt.how}")

    def forgiven(self, shown: dict[str, int], losses: Sequence[Loss]) -> None:
        """Forget what was shown of writes that the session has now been told are lost."""
        for key, value in list(shown.items()):
            if losses and self.lost_meanwhile(key, value, losses):
                shown[key] = 0

    def lost_meanwhile(self, key: str, value: int, losses: Sequence[Loss]) -> bool:
        """Return whether a version is one of those that the losses tell of, or never was acknowledged (and so never had a position)."""
        position = self.positions[key].get(value)
        if position is None:
            return True
        return any(one.position.origin == position.origin and position.offset > one.end for one in losses)

    # --- clients, each in a thread -----------------------------------------------------------------------------------

    def write(self, who: Carried, rng: random.Random) -> None:
        session = self.session(rng, who.token, subject=who.name)
        n = max(who.attempted, who.acknowledged) + 1
        with self.tolerating(who, session, writing=True):
            before = session._state.own
            with session.write() as connection:
                who.attempted = n
                connection.execute(PUT, (who.name, n))
            self.acknowledged(who, n, before, session)

    def read_own(self, who: Carried, rng: random.Random) -> bool:
        session = self.session(rng, who.token, subject=who.name)
        with self.tolerating(who, session):
            expected = who.acknowledged
            with (block := session.read(policy=self.reads)) as connection:
                found = self.shown_by(connection.execute(LOOK, (who.name,)).fetchone())
            self.judge_own(who, session, expected, found, block.receipt)
            return True
        return False

    def writing(self, who: Carried, rng: random.Random) -> None:
        while not self.over.is_set():
            with who.lock:
                self.write(who, rng)
                self.read_own(who, rng)
            time.sleep(rng.random() * PACE_S)
        deadline = time.monotonic() + SETTLE_S
        while not self.read_own(who, rng) and time.monotonic() < deadline:  # whatever was lost is said by now
            time.sleep(PACE_S)

    def read(self, reader: Reader, rng: random.Random) -> None:
        link = self.handed(reader, rng)
        session = self.session(rng, reader.token, link[1], subject=reader.name)
        with self.telling(reader, session):
            found = {}
            with (block := session.read(policy=self.reads)) as connection:
                for key in (link[0].name, rng.choice(self.writers).name):
                    found[key] = self.shown_by(connection.execute(LOOK, (key,)).fetchone())
            self.judge(reader, session, link, found, block.receipt)

    def reading(self, reader: Reader, rng: random.Random) -> None:
        while not self.over.is_set():
            self.read(reader, rng)
            time.sleep(rng.random() * PACE_S)

    # --- the run -----------------------------------------------------------------------------------------------------

    def clients(self) -> list[tuple[Any, Any, random.Random]]:
        """Return what each client does, as whom, by which dice."""
        seed = self.plan.seed * 1000
        writing = [(self.writing, who, random.Random(seed + n)) for n, who in enumerate(self.writers)]
        return writing + [(self.reading, who, random.Random(seed + 500 + n)) for n, who in enumerate(self.readers)]

    def run(self) -> Verdict:
        threads = [threading.Thread(target=self.guarded, args=client) for client in self.clients()]
        for thread in threads:
            thread.start()
        try:
            self.trouble()
        finally:
            self.over.set()
            for thread in threads:
                thread.join(2 * SETTLE_S)
        if any(thread.is_alive() for thread in threads):
            self.verdict.unexpected.append("a client hangs")
        self.lost()
        return self.verdict

    def trouble(self) -> None:
        """Make trouble for as long as the plan says."""
        plan = self.plan
        trouble = Trouble(self.cluster, random.Random(plan.seed), self.note, promotions=plan.promotions)
        trouble.go_on(plan.run_s, self.enough)

    def enough(self) -> bool:
        """Whether the plan's least was done; by a control, whether it has found what it is to find."""
        with self.noting:
            return self.plan.enough.of(self.verdict) if self.plan.gated else bool(self.verdict.stale_own)

    def guarded(self, work: Callable[..., None], *args: Any) -> None:
        try:
            work(*args)
        except Exception as error:  # noqa: BLE001 - whatever a user would see besides the documented errors is a finding
            self.sin(self.verdict.unexpected, f"{type(error).__name__}: {error}")

    def lost(self) -> None:
        """Compare what was acknowledged with what the surviving history says is gone."""
        last = next(s for s in self.cluster.servers.values() if s.running and not s.in_recovery)
        rows = last._ask(
            "SELECT origin, lead(parent_end) OVER (ORDER BY seq) - '0/0'::pg_lsn, seq = max(seq) OVER () FROM causal.lineage",
            database="app",
        )
        ends = {int(origin): (None if end is None else int(end), newest) for origin, end, newest in rows}
        for writer in self.writers:
            for n, position in writer.written:
                end, newest = ends.get(position.origin, (0, False))
                if newest or (end is not None and position.offset <= end):
                    continue
                self.verdict.lost += 1
                if not writer.has_been_told(position):
                    self.verdict.unreported.append(f"{writer.name}: {n} at {position}, whose history ends at {end}")


@contextlib.contextmanager
def prepared(plan: Plan) -> Iterator[tuple[PostgresCluster, list[PostgresEngine]]]:
    """Start a cluster of its own for a soak, with what stands before it, and configure two stores over that."""
    settings = {"synchronous_commit": plan.synchronous_commit, "max_connections": 300}
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(PostgresCluster(replicas=2, lag_s=LAG_S, settings=settings))
        install(cluster.primary._admin_dsn("app"), ("app",))
        cluster.primary._ask("CREATE TABLE kv (k text PRIMARY KEY, v bigint)", database="app")
        cluster.primary._ask("GRANT ALL ON kv TO app", database="app")
        cluster.wait_caught_up()
        primary, standbys = cluster.primary.dsn, {r.name: r.dsn for r in cluster.replicas}
        if plan.through == "pgbouncer":
            servers = list(cluster.servers.values())
            standbys = stack.enter_context(pgbouncer(servers, pool_size=POOL // 2, max_client_conn=10 * POOL))
            primary = standbys.pop("primary")
        elif plan.through == "haproxy":
            standbys = {"standbys": stack.enter_context(haproxy(cluster.replicas))}
        pool = PoolSettings(max_size=POOL)
        yield cluster, [PostgresEngine(primary, standbys, isolation=plan.isolation, pool=pool) for _ in range(2)]


def soak(plan: Plan) -> Verdict:
    """Run one soak, each client in a thread."""
    keyring = Keyring.generate()
    with prepared(plan) as (cluster, engines), contextlib.ExitStack() as stack:
        stores = [
            stack.enter_context(CausalStore(e, keyring=keyring, audience="soak", policy=plan.policy)) for e in engines
        ]
        return Soak(plan, cluster, stores).run()
