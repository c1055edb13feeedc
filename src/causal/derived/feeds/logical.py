"""Feeding an index from PostgreSQL, by a logical slot that is read with SQL.

A step notes how far the primary's log is durable, peeks at the slot up to there for the keys that were touched, reads the rows of those
keys in a snapshot, takes them in together with that place in the log, and only then moves the slot on. Who dies in between finds the
same changes again: they come to the same.

What makes it sound: every transaction whose keys were found must be visible in the snapshot, or the step is put off: a commit is in the log
before others see it, and with synchronous standbys for long. Rows may be newer than the place that is claimed: up to where the log is
after they were read (`shown`), and a session that is shown them demands as much. A slot that is gone, or ahead of the index, or of another
history, has lost changes: then the index is built anew.

HAZARD: a slot keeps the log until it is moved on. An index that nobody feeds any more fills the primary's disk: `discard` its slot, and
set `max_slot_wal_keep_size`, so that the slot is given up first, and the index built anew.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import attrs
import psycopg
from psycopg import conninfo
from psycopg.rows import dict_row

from causal.core.frontier import Frontier
from causal.derived.contract import Place
from causal.derived.feeds.decoding import touched
from causal.derived.feeds.query import DocumentQuery, PostgresView, check_tables
from causal.errors import StoreError, Unreachable
from causal.stores.postgres import statements
from causal.stores.postgres.answers import Ground, stamped
from causal.stores.postgres.exchange import ask, failed, first_line
from causal.stores.postgres.lineage import current, known
from causal.stores.postgres.lsn import parse, rounded, spell

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from psycopg.pq.abc import PGresult

    from causal.derived.contract import Document, Places, Row
    from causal.derived.fts.file import Generation, IndexFile
    from causal.stores.postgres.lineage import Facts
    from causal.stores.postgres.link import PostgresLink

_TIMEOUT_S: Final = 10.0
_CHUNK: Final = 500
_MOST: Final = 10_000
"""How many changes one step peeks at, roughly: it ends with a transaction."""
_TRIES: Final = 20
_PEEK: Final = (
    "SELECT lsn::text, xid::text::bigint, data FROM pg_catalog.pg_logical_slot_peek_changes("
    "%s, %s::pg_lsn, %s, 'include-xids', '1', 'skip-empty-xacts', '1')"
)
_SLOT: Final = (
    "SELECT confirmed_flush_lsn::text, wal_status FROM pg_catalog.pg_replication_slots "
    "WHERE slot_name = %s AND database = current_database() AND plugin = 'test_decoding'"
)
_INVISIBLE: Final = (
    "WITH s AS (SELECT pg_catalog.pg_current_snapshot() AS here), "
    "x AS (SELECT pg_catalog.pg_snapshot_xmax(here)::text::bigint AS top FROM s), "
    "t AS (SELECT (top - top %% 4294967296) + low AS id, top FROM x, pg_catalog.unnest(%s::bigint[]) AS low) "
    "SELECT count(*) FROM t, s WHERE NOT pg_catalog.pg_visible_in_snapshot("
    "(CASE WHEN id >= top + 2147483648 THEN id - 4294967296 ELSE id END)::text::xid8, here)"
)
"""How many of these transactions, known by the lower half of their numbers, this snapshot does not show."""


@attrs.frozen
class _Here:
    """Where the primary is, on a connection that a restart would end."""

    facts: Facts
    ground: Ground
    places: Places
    system: str


class PostgresFeeding:
    """One process's hold on a primary and an index, to feed the one from the other. Thread-safety: one thread at a time, but for `wake`."""

    def __init__(
        self,
        queries: Sequence[DocumentQuery],
        login: Mapping[str, str],
        file: IndexFile,
        link: PostgresLink,
        shard: int,
    ) -> None:
        self._queries, self._login, self._file = queries, login, file
        self._link, self._shard = link, shard
        self._news = threading.Event()
        self._connection: psycopg.Connection[Any] | None = None
        self._ground: Ground | None = None
        self._checked = False

    @property
    def _index(self) -> int:
        return self._shard & 0xFFFF

    def step(self) -> int:
        """Take in what the primary's log has more of; build the index where there is none, or where changes were lost."""
        with self._file.fed_by_me(wait=False) as mine:
            if not mine:
                return 0
            generation = self._file.generation()
            with self._errors():
                done = None if generation is None else self._follow(generation)
        if done is None:
            self._rebuild(0 if generation is None else generation.number)
            return 1
        return done

    def rebuild(self) -> None:
        """Derive everything anew from a snapshot of the primary, by a slot of its own, then follow until nothing is lacking."""
        self._rebuild(None)

    def _rebuild(self, instead_of: int | None) -> None:
        with self._file.fed_by_me("builder"):
            if instead_of is not None and (now := self._file.generation()) is not None and now.number != instead_of:
                return  # another process was faster
            with self._errors():
                self._sweep()
                number = self._build().number
                for _ in range(_TRIES):
                    if self._file.publish(number):
                        break
                    self._catch_up(number)
                else:
                    with self._file.fed_by_me():  # whoever feeds the current one now waits
                        self._catch_up(number)
                        if not self._file.publish(number):
                            raise StoreError(f"{self._file.path} has what its source lacks: it cannot be rebuilt yet")
                self._sweep()

    def discard(self) -> None:
        """Drop the index's slots at the primary, all of them: for an index that is given up. What is fed again is built anew."""
        with self._file.fed_by_me("builder"), self._file.fed_by_me(), self._errors():
            self._sweep()
            generation = self._file.generation()
            if generation is not None:
                self._drop(generation.note.get("slot"))

    def wait(self, timeout_s: float) -> None:
        """Return after a time, or when it is woken: nobody tells of commits."""
        self._news.wait(timeout_s)
        self._news.clear()

    def wake(self) -> None:
        """Let `wait` return. From any thread."""
        self._news.set()

    def close(self) -> None:
        """Let go of the primary and the index; the slot stays. Idempotent."""
        self._hang_up()
        self._link.close()
        self._file.close()

    # --- the connection --------------------------------------------------------------------------------------------

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Raise StoreError for what the server says, and begin anew with another connection."""
        try:
            yield
        except psycopg.errors.InsufficientPrivilege as error:
            self._hang_up()
            raise StoreError(
                f"{first_line(str(error))}: who feeds needs the REPLICATION attribute (login=...)"
            ) from error
        except psycopg.Error as error:
            self._hang_up()
            raise Unreachable(f"feeding {self._file.path}: {first_line(str(error))}") from error
        except BaseException:
            self._hang_up()
            raise

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _primary(self) -> psycopg.Connection[Any]:
        """Return a connection to the primary, in autocommit."""
        if self._connection is None:
            name = self._link.leader(self._shard)
            self._link.probe(name, _TIMEOUT_S)  # begins its origin if it has none
            dsn = conninfo.make_conninfo(self._link._servers.of(name).dsn, **self._login)
            self._connection = psycopg.connect(dsn, autocommit=True, connect_timeout=int(_TIMEOUT_S))
            results = ask(self._connection.pgconn, statements.HELLO, _TIMEOUT_S)
            self._must(name, results)
            self._ground = Ground.of(results[1])
            if not self._ground.installed:
                raise StoreError(f"an index tells failovers apart by `causal postgres install`: run it at {name}")
            self._checked = False
        return self._connection

    def _must(self, name: str, results: list[PGresult]) -> None:
        """Raise what the server answered instead of a result: most likely a privilege that who feeds lacks."""
        error = failed(results[-1])
        if error is not None:
            assert self._connection is not None
            role = self._connection.info.user
            raise StoreError(
                f"{name}: {first_line(str(error))}: let {role} use what was installed, by `causal postgres install --role {role}`"
            ) from error

    def _here(self) -> _Here:
        """Ask the primary where it is, outside any transaction. Raises: Unreachable for one that is none, or has no origin yet."""
        pgconn, ground = self._primary().pgconn, self._ground
        assert ground is not None
        assert self._connection is not None
        if not self._checked:
            check_tables(self._connection, self._queries)
            self._checked = True
        server = self._link._servers.of(self._link.leader(self._shard))
        results = ask(pgconn, statements.question(installed=True), _TIMEOUT_S)
        self._must(server.name, results)
        facts = server.facts(results, 1, ground)
        if facts.life.standby or current(facts) is None:
            raise Unreachable(f"{server.name} is not the primary in a life that is known")
        mark = known(self._shard, facts, None, 0.0).marks[self._shard]
        places = {self._index: {origin: Place(applied, end) for origin, (applied, end) in mark.origins.items()}}
        return _Here(facts, ground, places, f"{ground.system}/{facts.timeline}")

    def _places(self, here: _Here, applied: int, shown: int, before: Mapping[int, Place] | None = None) -> Places:
        """Return what is claimed: of histories that have ended all that survives, of the present one up to a place.

        What was shown `before`, still is.
        """
        newest = here.facts.rows[-1].origin
        if before is not None and newest in before:
            shown = max(shown, before[newest].shown)
        return {self._index: {**here.places[self._index], newest: Place(applied, None, max(applied, shown))}}

    # --- how ---------------------------------------------------------------------------------------------------------

    def _follow(self, generation: Generation) -> int | None:
        """Take one step with a generation; None where changes are lost, or it is of another history."""
        here, db = self._here(), self._primary()
        slot = generation.note.get("slot", "")
        row = db.execute(_SLOT, (slot,)).fetchone()
        if row is None or row[0] is None or row[1] == "lost" or generation.note.get("system") != here.system:
            return None
        mine = generation.places.get(self._index, {})
        confirmed, newest = parse(row[0]), here.facts.rows[-1].origin
        for origin, place in mine.items():
            now = here.places[self._index].get(origin)
            if now is None and place.end is not None:
                continue  # it ended long ago, and of the oldest no rows are kept
            if now is None or (now.end is not None and place.applied > now.end):
                return None
        if confirmed > max((place.applied for place in mine.values()), default=0):
            return None  # somebody else has moved it on: what lay between is gone
        flushed, inserted = self._flushed(db, here)
        if newest in mine and mine[newest].applied >= flushed:
            if inserted > flushed:
                self._flush(db)
            return 0
        lines = db.execute(_PEEK, (slot, spell(flushed), _MOST)).fetchall()
        found = [touched(lines, query.tables) for query in self._queries]
        if any(one.whole for one in found):
            return None
        keys = {query.prefix + key for query, one in zip(self._queries, found, strict=True) for key in one.keys}
        transactions = frozenset[int]().union(*(one.transactions for one in found))
        upto = flushed
        if len(lines) >= _MOST and found[0].upto is not None:
            upto = min(flushed, parse(found[0].upto))
        rows: list[Row] = []
        shown, deps = upto, generation.deps
        if keys:
            with self._snapshot(db):
                (invisible,) = db.execute(_INVISIBLE, (list(transactions),)).fetchone() or (1,)
                if invisible:
                    return 0
                rows = [(self._index, key, made) for key, made in self._read(db, keys).items()]
                shown, deps = self._shown(db, here), self._deps(here)
            if upto == flushed and self._as_claimed(db, here, slot, keys, transactions, shown):
                shown = upto
        places = self._places(here, upto, shown, mine)
        if self._file.apply(generation, rows, places, deps):
            db.execute("SELECT pg_catalog.pg_replication_slot_advance(%s, %s::pg_lsn)", (slot, spell(upto)))
        return max(1, len(rows))

    def _as_claimed(
        self, db: psycopg.Connection[Any], here: _Here, slot: str, keys: set[str], known: frozenset[int], upto: int
    ) -> bool:
        """Return whether rows that were read are as old as the place that is claimed: no other transaction up to `upto` touched them.

        Otherwise a session that was shown them demands more than the index claims, and waits for the next step.
        """
        if self._flushed(db, here)[0] < upto:
            self._flush(db)
        flushed, _ = self._flushed(db, here)
        lines = [line for line in db.execute(_PEEK, (slot, spell(flushed), None)).fetchall() if line[1] not in known]
        for query in self._queries:
            later = touched(lines, query.tables)
            if later.whole or not keys.isdisjoint(query.prefix + key for key in later.keys):
                return False
        return flushed >= upto

    def _flushed(self, db: psycopg.Connection[Any], here: _Here) -> tuple[int, int]:
        """Return how far the primary's log is durable, and how far it is."""
        row = db.execute(
            "SELECT pg_catalog.pg_current_wal_flush_lsn()::text, pg_catalog.pg_current_wal_insert_lsn()::text"
        ).fetchone()
        assert row is not None
        return parse(row[0]), rounded(parse(row[1]), here.ground.segment, here.ground.page)

    def _flush(self, db: psycopg.Connection[Any]) -> None:
        """Make the log durable that nobody waits for, as a read's own housekeeping leaves it: heads are to be reached."""
        with db.transaction():
            db.execute("SET LOCAL synchronous_commit = local")
            db.execute("SELECT pg_catalog.pg_logical_emit_message(true, 'causal', '')")

    def _catch_up(self, number: int) -> None:
        generation = self._file.generation(number)
        assert generation is not None
        if self._follow(generation) is None:
            raise StoreError(f"{self._file.path}: its source changed hands while it was rebuilt: do it again")

    def _build(self) -> Generation:
        here, db = self._here(), self._primary()
        generation = self._file.begin()
        slot = f"causal_{self._file.identity[:12]}_{generation.number}"
        note = {"slot": slot, "system": here.system}
        if not self._file.apply(
            generation, (), {}, Frontier(), note
        ):  # first the note, so that a slot is never forgotten
            raise StoreError(f"{self._file.path}: another process builds a generation of the same number")
        generation = attrs.evolve(generation, note=note)
        self._drop(slot)
        row = db.execute(
            "SELECT lsn::text FROM pg_catalog.pg_create_logical_replication_slot(%s, 'test_decoding')", (slot,)
        ).fetchone()
        assert row is not None
        begun = parse(row[0])  # all that was committed before is visible: the slot has waited for it
        with self._snapshot(db):
            for query in self._queries:
                with db.cursor("causal_build", row_factory=dict_row) as cursor:
                    cursor.itersize = _CHUNK
                    cursor.execute(query.everything())
                    while some := cursor.fetchmany(_CHUNK):
                        made = query.all_of(some)
                        self._file.fill(generation, [(self._index, key, document) for key, document in made.items()])
            shown, deps = self._shown(db, here), self._deps(here)
        if not self._file.apply(generation, (), self._places(here, begun, shown), deps):
            raise StoreError(f"{self._file.path}: another process builds a generation of the same number")
        self._flush(db)  # so that one step claims all that was shown
        self._catch_up(generation.number)
        return generation

    @contextmanager
    def _snapshot(self, db: psycopg.Connection[Any]) -> Iterator[None]:
        with db.transaction():
            db.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield

    def _read(self, db: psycopg.Connection[Any], keys: Iterable[str]) -> dict[str, Document | None]:
        view = PostgresView(self._queries, db)
        found: dict[str, Document | None] = {}
        wanted = sorted(keys)
        for first in range(0, len(wanted), _CHUNK):
            found.update(view.documents(wanted[first : first + _CHUNK]))
        return found

    def _shown(self, db: psycopg.Connection[Any], here: _Here) -> int:
        """Return what rows that were read can be of at most: where the log is now."""
        row = db.execute("SELECT pg_catalog.pg_current_wal_insert_lsn()::text").fetchone()
        assert row is not None
        return rounded(parse(row[0]), here.ground.segment, here.ground.page)

    def _deps(self, here: _Here) -> Frontier:
        """Return what the source's writes depend on in other shards, in the snapshot."""
        if not here.ground.stamps:
            return Frontier()
        results = ask(self._primary().pgconn, statements._STAMPS.encode(), _TIMEOUT_S)
        return Frontier.of({key: upto for key, upto in stamped(results[0]).items() if key >> 32 != self._shard})

    def _sweep(self) -> None:
        for note in self._file.sweep():
            self._drop(note.get("slot"))

    def _drop(self, slot: str | None) -> None:
        if slot is not None:
            self._primary().execute(
                "SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots "
                "WHERE slot_name = %s AND database = current_database()",
                (slot,),
            )
