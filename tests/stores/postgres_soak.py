"""A soak: writers and gated readers on real servers, while standbys are paused, frozen, restarted and promoted, audited from what returned.

Every writer owns one key, whose value only ever grows. So what a session may be shown is simple: never less than what it was acknowledged
or was shown before, unless it was told of the loss of exactly that. Nothing inside the library is asked for the verdict but the errors and
receipts that a user gets; which writes are lost is read from the surviving server's rows.
"""

from __future__ import annotations

import contextlib
import random
import re
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import attrs

from causal import CausalStore, Keyring, ReadPolicy
from causal.core.frontier import Loss
from causal.errors import CausalError, CommitUnknown, WriteLost
from causal.lab.postgres import PostgresCluster, Server
from causal.stores.postgres import PoolSettings, PostgresEngine, install

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from causal.core.frontier import Position

LAG_S = 0.03
"""What every standby lags at least: without it, a read that is not gated would hardly ever be stale."""


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
    policy: ReadPolicy = attrs.field(factory=lambda: ReadPolicy(wait_s=0.2))


@attrs.define
class Verdict:
    """What the audit found. Every list of sins is to be empty, but for a control's."""

    stale_own: list[str] = attrs.field(factory=list)
    backward: list[str] = attrs.field(factory=list)
    unreported: list[str] = attrs.field(factory=list)
    unexpected: list[str] = attrs.field(factory=list)
    counts: Counter[str] = attrs.field(factory=Counter)
    lost: int = 0

    def __str__(self) -> str:
        sins = {
            f.name: getattr(self, f.name)[:3] for f in attrs.fields(Verdict) if isinstance(getattr(self, f.name), list)
        }
        return f"{dict(sorted(self.counts.items()))}, {self.lost} lost writes; {sins}"


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


class Soak:
    """The clients, the trouble and the audit."""

    def __init__(self, plan: Plan, cluster: PostgresCluster, stores: Sequence[CausalStore[Any, Any]]) -> None:
        self.plan = plan
        self.cluster = cluster
        self.stores = stores
        self.verdict = Verdict()
        self.over = threading.Event()
        self.writers = [Carried(f"w{n}") for n in range(plan.writers)]
        self.noting = threading.Lock()
        self.positions: dict[str, dict[int, Position]] = {w.name: {} for w in self.writers}

    # --- clients -----------------------------------------------------------------------------------------------------

    def note(self, kind: str) -> None:
        with self.noting:
            self.verdict.counts[kind] += 1

    def sin(self, sins: list[str], what: str) -> None:
        with self.noting:
            sins.append(what)

    @contextlib.contextmanager
    def tolerating(self, who: Carried, session: Any) -> Iterator[None]:
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

    def refused(self, error: CausalError) -> None:
        """Count an error that is no answer, by what it says."""
        words = re.sub(r"[0-9A-F]+/[0-9A-F]+|[0-9.]+", "N", str(error))
        self.note(f"{type(error).__name__}: {words[:120]}")
        time.sleep(0.01)

    def write(self, who: Carried, rng: random.Random) -> None:
        session = rng.choice(self.stores).session(who.token, subject=who.name)
        n = max(who.attempted, who.acknowledged) + 1
        with self.tolerating(who, session):
            before = session._state.own  # the only look inside: which position the acknowledgement added
            with session.write() as connection:
                who.attempted = n
                connection.execute(
                    "INSERT INTO kv (k, v) VALUES (%s, %s) ON CONFLICT (k) DO UPDATE SET v = excluded.v", (who.name, n)
                )
            with self.noting:
                for position in session._state.own:
                    if (before.offset(position.shard, position.origin) or -1) < position.offset:
                        who.written.append((n, position))
                        self.positions[who.name][n] = position
            who.acknowledged = n
            who.token = session.token()
            self.note("write")

    def look(self, connection: Any, key: str) -> int:
        row = connection.execute("SELECT v FROM kv WHERE k = %s", (key,)).fetchone()
        return row[0] if row else 0

    def read_own(self, who: Carried, rng: random.Random) -> None:
        session = rng.choice(self.stores).session(who.token, subject=who.name)
        with self.tolerating(who, session):
            expected = who.acknowledged
            block = session.read(policy=None if self.plan.gated else ReadPolicy.eventual())
            with block as connection:
                found = self.look(connection, who.name)
            if found < expected:
                self.sin(
                    self.verdict.stale_own,
                    f"{who.name}: {found} < {expected}: {block.receipt} {block.receipt.considered}",
                )
                who.acknowledged = found if not self.plan.gated else expected
            if self.plan.gated:
                who.token = session.token()
            self.note(f"read {block.receipt.how}")

    def writing(self, who: Carried, seed: int) -> None:
        rng = random.Random(seed)
        while not self.over.is_set():
            with who.lock:
                self.write(who, rng)
                self.read_own(who, rng)
            time.sleep(rng.random() * 0.03)
        deadline = time.monotonic() + 30
        before = -1
        while time.monotonic() < deadline and before != self.verdict.counts["settled " + who.name]:
            with who.lock:  # whatever was lost is said by now, at the latest
                session = self.stores[0].session(who.token, subject=who.name)
                with self.tolerating(who, session), session.read() as connection:
                    self.look(connection, who.name)
                    with self.noting:
                        self.verdict.counts["settled " + who.name] += 1
                        before = self.verdict.counts["settled " + who.name]

    def reading(self, name: str, seed: int) -> None:
        rng, token = random.Random(seed), None
        shown: dict[str, int] = {}
        while not self.over.is_set():
            writer = rng.choice(self.writers)
            handed = None
            if rng.random() < 0.3 and writer.lock.acquire(blocking=False):
                try:  # as a link that is sent to a friend: what the token demands is what the writer has
                    session = self.stores[0].session(writer.token, subject=writer.name)
                    handed = (session.token(subject=name), writer.acknowledged) if writer.token else None
                finally:
                    writer.lock.release()
            session = rng.choice(self.stores).session(token, handed and handed[0], subject=name)
            try:
                block = session.read(policy=None if self.plan.gated else ReadPolicy.eventual())
                with block as connection:
                    found = {writer.name: self.look(connection, writer.name)}
                    other = rng.choice(self.writers).name
                    found[other] = self.look(connection, other)
            except WriteLost as error:
                self.note("WriteLost at a reader")
                session.forget(error.lost)
                self.forgiven(shown, error.lost)
                token = session.token()
                continue
            except CommitUnknown as error:
                session.forget(error.lost)
                token = session.token()
                continue
            except CausalError as error:
                self.refused(error)
                continue
            receipt = block.receipt
            self.forgiven(shown, receipt.clipped)
            for key, value in found.items():
                if value < shown.get(key, 0) and not self.lost_meanwhile(key, shown[key], receipt.clipped):
                    self.sin(
                        self.verdict.backward, f"{name}: {key} {value} < {shown[key]}: {receipt} {receipt.considered}"
                    )
                shown[key] = value
            if (
                handed
                and found[writer.name] < handed[1]
                and not self.lost_meanwhile(writer.name, handed[1], receipt.clipped)
            ):
                self.sin(
                    self.verdict.stale_own,
                    f"{name} by {writer.name}'s token: {found[writer.name]} < {handed[1]}: {receipt}",
                )
            if self.plan.gated:
                token = session.token()
            self.note(f"read {receipt.how}")
            time.sleep(rng.random() * 0.03)

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

    # --- trouble -----------------------------------------------------------------------------------------------------

    def trouble(self) -> None:
        rng, servers = random.Random(self.plan.seed), list(self.cluster.servers.values())
        primary = self.cluster.primary
        until = time.monotonic() + self.plan.run_s
        next_promotion = time.monotonic() + 4
        while time.monotonic() < until:
            standbys = [s for s in servers if s is not primary]
            victim = rng.choice(standbys)
            if self.plan.promotions and time.monotonic() > next_promotion and until - time.monotonic() > 5:
                primary = self.promote(primary, standbys, rng)
                next_promotion = time.monotonic() + 6
            else:
                self.disturb(victim, rng)
            time.sleep(rng.uniform(0.2, 0.8))

    def disturb(self, victim: Server, rng: random.Random) -> None:
        what = rng.choice(["pause", "pause", "restart", "kill", "freeze", "lag"])
        self.note(f"trouble {what}")
        pause_s = rng.uniform(0.2, 1.2)
        if what == "pause":
            victim.pause()
            time.sleep(pause_s)
            victim.resume()
        elif what in {"restart", "kill"}:
            victim.stop("fast") if what == "restart" else victim.kill()
            time.sleep(pause_s / 2)
            victim.start()
        elif what == "freeze":
            victim.freeze()
            time.sleep(pause_s)
            victim.thaw()
        else:
            victim.set_lag(rng.choice([0.0, LAG_S, 0.15]))

    def promote(self, primary: Server, standbys: Sequence[Server], rng: random.Random) -> Server:
        """Lose a primary, in one of several ways, and let a standby take over that need not have everything."""
        heir, *others = rng.sample(list(standbys), len(standbys))
        if rng.random() < 0.7:
            heir.pause()  # it will lack what is written from now on
            time.sleep(rng.uniform(0.05, 0.3))
        unfenced = rng.random() < 0.3
        if not unfenced:
            primary.kill()
            self.note("trouble promotion")
        else:
            self.note("trouble promotion beside a primary that goes on")
        heir.promote()
        if unfenced:
            time.sleep(rng.uniform(0.05, 0.3))
            primary.kill()
        for other in others:
            other.stop("fast")
            other.rewind(heir)
        primary.rewind(heir)
        return heir

    # --- the run -----------------------------------------------------------------------------------------------------

    def run(self) -> Verdict:
        threads = [
            threading.Thread(target=self.guarded, args=(self.writing, w, self.plan.seed * 1000 + n))
            for n, w in enumerate(self.writers)
        ]
        threads += [
            threading.Thread(target=self.guarded, args=(self.reading, f"r{n}", self.plan.seed * 1000 + 500 + n))
            for n in range(self.plan.readers)
        ]
        for thread in threads:
            thread.start()
        try:
            self.trouble()
        finally:
            for server in self.cluster.servers.values():
                with contextlib.suppress(Exception):
                    server.resume()
            self.over.set()
            for thread in threads:
                thread.join(60)
        if any(thread.is_alive() for thread in threads):
            self.verdict.unexpected.append("a client hangs")
        self.lost()
        return self.verdict

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


def soak(plan: Plan) -> Verdict:
    """Run one soak on a cluster of its own."""
    settings = {"synchronous_commit": plan.synchronous_commit, "max_connections": 300}
    with PostgresCluster(replicas=2, lag_s=LAG_S, settings=settings) as cluster:
        install(cluster.primary._admin_dsn("app"), ("app",))
        cluster.primary._ask("CREATE TABLE kv (k text PRIMARY KEY, v bigint)", database="app")
        cluster.primary._ask("GRANT ALL ON kv TO app", database="app")
        cluster.wait_caught_up()
        keyring = Keyring.generate()
        pool = PoolSettings(max_size=30)
        engines = [
            PostgresEngine(cluster.primary.dsn, [r.dsn for r in cluster.replicas], isolation=plan.isolation, pool=pool)
            for _ in range(2)
        ]
        with contextlib.ExitStack() as stack:
            stores = [
                stack.enter_context(CausalStore(e, keyring=keyring, audience="soak", policy=plan.policy))
                for e in engines
            ]
            return Soak(plan, cluster, stores).run()
