"""One PostgreSQL server behind one DSN: what is known of it, and how it is asked.

Owns the connection that questions go through, and what its answers prove (by `lineage.py`). Blocks have pools of their own.
"""

from __future__ import annotations

import threading
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Final, TypeVar
from weakref import WeakKeyDictionary

import attrs
from psycopg import conninfo, errors, pq

from causal.errors import ConfigError, StoreError, Unreachable
from causal.stores.postgres import statements
from causal.stores.postgres.answers import Ground, row
from causal.stores.postgres.exchange import Cut, ask, connect, failed, first_line, values
from causal.stores.postgres.lineage import Facts, Known, Life, Lives, Row, by_timeline, current, known
from causal.stores.postgres.lsn import parse, rounded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from psycopg.pq.abc import PGconn, PGresult

T = TypeVar("T")

NOBODY: Final = 0
"""The receiver of a standby that receives nothing, and says itself how far it must have come before."""
_RECEIVERS: Final = 64
"""How many receivers of the standbys behind one name are remembered."""
_REMEMBERED: Final = 8
"""How many ends of timelines a process remembers where no rows are installed."""


@attrs.frozen
class Backend:
    """The backend behind one of our connections, as it was when that was made. Thread-safety: immutable.

    `direct`: the connection is this backend's own for good. Otherwise somebody in between may change the server with every transaction.
    """

    pid: bytes
    life: Life
    direct: bool


class Server:
    """One server of one shard.

    Thread-safety: safe; questions are asked one at a time. HAZARD: not to be used across a fork.
    """

    def __init__(self, name: str, dsn: str, shard: int, lives: Lives | None = None) -> None:
        self.name = name
        self.shard = shard
        self.dsn = dsn
        self.known: Known | None = None
        """The newest answer's; kept while the server is silent."""
        self.ground: Ground | None = None
        self.stamped = False
        """Whether there have been dependency stamps: until then, nobody asks for them."""
        self.down = False
        """Whether the last question went without an answer."""
        self.asked_at = 0.0
        self.unsure = False
        """Whether the newest answer was of a receiver that may be younger than the primary's life whose row is the newest."""
        self.alone = False
        """Whether the primary cannot be asked: then a standby that receives nothing counts as far as it must have come."""
        self._lives = Lives() if lives is None else lives
        self._receivers: dict[tuple[Life, int], float] = {}
        self._backends: WeakKeyDictionary[object, Backend] = WeakKeyDictionary()
        self._asking = threading.Lock()
        self._pgconn: PGconn | None = None
        self._followed: tuple[Life, int] | None = None
        self._ends: tuple[tuple[int, int], ...] = ()
        self._light = False
        self._rows: tuple[Row, ...] = ()
        self._closed = False

    def __repr__(self) -> str:
        return f"<Server {self.name}>"

    # --- questions -------------------------------------------------------------------------------------------------

    def poll(self, timeout_s: float) -> Known:
        """Ask the server where it is, now. Raises: Unreachable; StoreError where a privilege is missing, which it names."""
        return self._conversed(self._poll, timeout_s)

    def stamps(self, timeout_s: float) -> PGresult:
        """Ask for the dependency stamps, now. Raises: as `poll`."""
        return self._conversed(self._stamps, timeout_s)

    def _conversed(self, conversation: Callable[[float], T], timeout_s: float) -> T:
        deadline = time.monotonic() + timeout_s
        if not self._asking.acquire(timeout=max(0.0, timeout_s)):
            raise Unreachable(f"{self.name} has not answered an earlier question yet")
        idle = self._pgconn is not None
        try:
            try:
                return conversation(deadline)
            except Cut as cut:
                if not (idle and cut.lost):
                    raise
            self._hang_up()  # it was lost since the last question: the server may be back
            return conversation(deadline)
        except BaseException:
            self._hang_up()
            raise
        finally:
            self._asking.release()

    def _stamps(self, deadline: float) -> PGresult:
        self._ground(deadline)
        return self._ask(statements.STAMPED, deadline)[1]

    def _poll(self, deadline: float) -> Known:
        if self._closed:
            raise ConfigError("this link is closed")
        ground = self._ground(deadline)
        at = time.monotonic()
        facts = self.facts(
            self._ask(statements.question(installed=ground.installed, light=self._light), deadline), 1, ground
        )
        if ground.installed and not facts.life.standby and current(facts) is None:
            self._ask(statements.BEGIN_ORIGIN, deadline)
            facts = self.facts(self._ask(statements.question(installed=True, light=self._light), deadline), 1, ground)
            if current(facts) is None:
                raise Unreachable(f"{self.name} has begun another life")
        if facts.life.standby and facts.timeline is None:
            if not (ground.installed or ground.sees):
                raise self._blind(ground)
            facts = self._bounded(facts, deadline)
        news = self.learn(facts, at)
        if not news.marks[self.shard].origins:
            raise self._blind(ground)
        return news

    def _blind(self, ground: Ground) -> StoreError:
        return StoreError(
            f"cannot see which history {self.name} follows: run `causal postgres install` at the primary, "
            f"or there GRANT pg_monitor TO {ground.user}"
        )

    def learn(self, facts: Facts, at: float) -> Known:
        """Take an answer over as what is known, unless a newer question was answered already; return what it shows."""
        before = self.known
        if self.ground is not None and not self.ground.installed:
            if before is not None and before.life.standby and not facts.life.standby:
                self._witness(before, facts)
            facts = self._named(facts)
        if current(facts) is not None:
            self._lives.found(facts.rows[-1].origin, at)
        for one, following in pairwise(facts.rows):
            if following.parent_end is not None:
                self._lives.ended(one.origin, following.parent_end)
        confirmed = self._confirmed(facts)
        news = known(self.shard, facts, before, at, confirmed=confirmed)
        self.unsure = not confirmed
        if before is None or before.at <= at:
            self.known = news
        return news

    def _confirmed(self, facts: Facts) -> bool:
        """Return whether a standby's receiver is of no later life than its newest row's: a primary was found in that one afterwards.

        Where that life is known to have ended, whatever is not past its end is of it, too.
        """
        if facts.receiver is None or not facts.rows:
            return True
        if len(self._receivers) >= _RECEIVERS:
            self._receivers.clear()
        if facts.receiver == NOBODY and self.alone:
            return True  # HAZARD: so it looks to the first who asks after a crash that nobody saw, if the primary is down again
        since, newest = (
            self._receivers.setdefault((facts.life, facts.receiver), time.monotonic()),
            facts.rows[-1].origin,
        )
        return self._lives.seen.get(newest, since) > since or facts.lsn <= self._lives.ends.get(newest, -1)

    def _witness(self, before: Known, facts: Facts) -> None:
        """Remember where a timeline ended that this server was seen to follow until it was promoted."""
        end = facts.life.recovered
        followed = self._followed[1] if self._followed is not None and self._followed[0] == before.life else None
        # One that skips a number may have followed, unseen, the timeline that it skips.
        if followed is not None and end is not None and facts.timeline == followed + 1:
            self._ends = (*self._ends, (followed, end))[-_REMEMBERED:]

    def _named(self, facts: Facts) -> Facts:
        """Return facts whose rows stand for timelines, where none are installed."""
        assert self.ground is not None
        timeline = facts.timeline
        if timeline is not None:
            self._followed = facts.life, timeline
        elif self._followed is not None and self._followed[0] == facts.life:
            timeline = self._followed[1]
        rows = by_timeline(self.ground.system, attrs.evolve(facts, timeline=timeline), self._ends)
        return attrs.evolve(facts, rows=rows)

    def _bounded(self, facts: Facts, deadline: float) -> Facts:
        """Return facts of a standby that receives nothing, at a place that it must have reached on a timeline that it names."""
        bound, timeline = values(self._ask(statements.BOUND, deadline), 1)
        if bound is None or timeline is None or not int(timeline):
            return facts
        assert self.ground is not None
        upto = min(parse(bound), facts.lsn)
        before = self.known
        if before is not None and before.life == facts.life and before.lsn >= upto:
            return facts
        if any(life == facts.life and receiver != NOBODY for life, receiver in self._receivers):
            return facts  # what it has replayed since may have come through a receiver that was not seen
        return attrs.evolve(facts, lsn=upto, timeline=int(timeline), receiver=NOBODY if self.ground.installed else None)

    def _ground(self, deadline: float) -> Ground:
        if self._pgconn is not None and self.ground is not None:
            return self.ground
        self._pgconn = connect(self._probing(), max(0.0, deadline - time.monotonic()))
        result = self._ask(statements.HELLO, deadline)[1]
        self.ground = ground = Ground.of(result)
        # Prepared only on a backend of our own: through a pooler, the next transaction may be another's.
        self._light = int(result.get_value(0, result.nfields - 1) or 0) == self._pgconn.backend_pid
        if self._light:
            self._ask(statements.prepare_question(installed=ground.installed), deadline)
        return ground

    def _probing(self) -> bytes:
        params = conninfo.conninfo_to_dict(self.dsn)
        params.setdefault("application_name", "causal")
        return conninfo.make_conninfo("", **params).encode()

    def _ask(self, message: bytes, deadline: float) -> list[PGresult]:
        assert self._pgconn is not None
        results = ask(self._pgconn, message, max(0.0, deadline - time.monotonic()))
        self.refused(results)
        return results

    def refused(self, results: Sequence[PGresult]) -> None:
        """Raise what a server answered instead of a result. Raises: Unreachable; StoreError where a privilege is missing."""
        error = failed(results[-1]) if results else None
        if error is None:
            return
        said = first_line(str(error))
        if isinstance(error, errors.InsufficientPrivilege):
            role = self.ground.user if self.ground is not None else "the role"
            if self.ground is None and self._pgconn is not None:
                role = self._pgconn.user.decode()
            raise StoreError(
                f"{self.name}: {said}. Run `causal postgres install` at the primary with --role {role}, or there: "
                f"GRANT USAGE ON SCHEMA causal TO {role}; GRANT SELECT ON ALL TABLES IN SCHEMA causal TO {role}; "
                f"GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA causal TO {role}"
            ) from error
        raise Unreachable(f"{self.name}: {said}") from error

    # --- reading answers -------------------------------------------------------------------------------------------

    def facts(self, results: Sequence[PGresult], place: int, ground: Ground) -> Facts:
        """Read the answer to `statements.facts`, which begins at a place among the results."""
        _, standby, lsn, started, address, port, recovered, timeline = values(results, place)
        if lsn is None or started is None:
            raise Unreachable(f"{self.name} is starting up")
        life = Life(
            started.decode(),
            None if address is None else address.decode(),
            None if port is None else port.decode(),
            standby == b"t",
            None if recovered is None else parse(recovered),
        )
        received, receiver = values(results, place + 1)
        if receiver is not None and not ground.installed:
            raise self._blind(ground)  # somebody receives, and that is all that this role is shown
        if timeline is not None:
            number: int | None = int(timeline, 16)
        else:
            number = None if received is None else int(received)
        at = parse(lsn)
        facts = Facts(
            life,
            at if life.standby else rounded(at, ground.segment, ground.page),
            number,
            receiver=None if receiver is None or not life.standby else int(receiver),
        )
        if not ground.installed:
            return facts
        return attrs.evolve(facts, rows=self._read(results[place + 2]))

    def _read(self, table: PGresult) -> tuple[Row, ...]:
        """Return the rows of an answer: the same as the last one's, if they end in the same row, since a row never changes."""
        rows, count = self._rows, table.ntuples
        if not rows or len(rows) != count or row(table, count - 1) != rows[-1]:
            self._rows = rows = tuple(row(table, n) for n in range(count))
        return rows

    def here(self, results: Sequence[PGresult], place: int, ground: Ground) -> tuple[bytes | None, bool, int]:
        """Read the first three columns, which every check has: the backend, whether it is a standby, and where it is."""
        pid, standby, lsn, *_ = values(results, place)
        if lsn is None:
            raise Unreachable(f"{self.name} is starting up")
        at = parse(lsn)
        return pid, standby == b"t", at if standby == b"t" else rounded(at, ground.segment, ground.page)

    # --- the backends of a pool ------------------------------------------------------------------------------------

    def introduce(self, connection: object, pgconn: pq.abc.PGconn, results: Sequence[PGresult], ground: Ground) -> None:
        """Remember which backend a new connection has, by the answer to `statements.question`."""
        pid = results[1].get_value(0, 0)
        facts = self.facts(results, 1, ground)
        assert pid is not None
        self._backends[connection] = Backend(pid, facts.life, int(pid) == pgconn.backend_pid)

    def backend(self, connection: object) -> Backend | None:
        """Return what is known of a pooled connection's backend."""
        return self._backends.get(connection)

    def close(self) -> None:
        """Hang up. Idempotent."""
        self._closed = True
        if self._asking.acquire(timeout=1.0):
            try:
                self._hang_up()
            finally:
                self._asking.release()

    def _hang_up(self) -> None:
        pgconn, self._pgconn = self._pgconn, None
        if pgconn is not None:
            pgconn.finish()
