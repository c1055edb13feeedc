"""What is said to a server, as bytes. Each constant is one message, or a statement of one.

Owns the SQL of reads, writes and questions. The tables and functions are in `install.py`.

HAZARD: the order of statements is what makes them sound. A statement's snapshot is taken before its functions run, so an LSN asked for in
the statement that reads (or inside the transaction of a REPEATABLE READ that reads) may be later than what was read. Here the LSN is
always asked for in an earlier statement than the reads that it is to cover, and in a later one than the reads that it is to account for.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from causal.stores.postgres.lsn import parse, spell

if TYPE_CHECKING:
    from collections.abc import Mapping

_HERE: Final = (
    "pg_catalog.pg_backend_pid(), pg_catalog.pg_is_in_recovery(), "
    "CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() "
    "ELSE pg_catalog.pg_current_wal_insert_lsn() END"
)
"""What is checked with every block: the backend, its role and how far it is."""

_FACTS: Final = (
    f"SELECT {_HERE}, EXTRACT(epoch FROM pg_catalog.pg_postmaster_start_time()), "
    "pg_catalog.inet_server_addr(), pg_catalog.inet_server_port(), "
    "CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() END, "
    "CASE WHEN NOT pg_catalog.pg_is_in_recovery() "
    "THEN pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8) END"
)

_ROWS: Final = "SELECT seq, origin, parent_end, start, timeline, EXTRACT(epoch FROM started), recovered FROM causal.lineage ORDER BY seq"
_RECEIVED: Final = "SELECT timeline, pid FROM causal.receiver()"
_RECEIVED_PLAIN: Final = (
    "SELECT (SELECT received_tli FROM pg_catalog.pg_stat_wal_receiver WHERE status = 'streaming' LIMIT 1), "
    "(SELECT pid FROM pg_catalog.pg_stat_wal_receiver WHERE status IS NULL LIMIT 1)"  # all that others are shown
)
_STAMPS: Final = "SELECT shard, origin, max(upto) FROM causal.dependency GROUP BY shard, origin"

_PLAINLY: Final = b"BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; %b; COMMIT"
"""Whatever the role's default isolation is: a hot standby refuses SERIALIZABLE."""

HELLO: Final = _PLAINLY % (
    b"SELECT (SELECT system_identifier FROM pg_catalog.pg_control_system()), pg_catalog.current_setting('wal_segment_size'), "
    b"pg_catalog.current_setting('wal_block_size'), pg_catalog.to_regclass('causal.lineage') IS NOT NULL, "
    b"pg_catalog.to_regclass('causal.dependency') IS NOT NULL, current_user, "
    b"pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE'), pg_catalog.current_setting('server_version_num'), "
    b"pg_catalog.pg_backend_pid()"
)
"""What holds for as long as a server lives, and what is installed there."""

BOUND: Final = _PLAINLY % (
    b"SELECT min_recovery_end_lsn, min_recovery_end_timeline FROM pg_catalog.pg_control_recovery()"
)
"""How far a standby must have applied which timeline, where it receives none at present."""

WHOLE: Final = "whole"
"""What marks the transaction that a block began with: of a write, and of any behind a pooler."""

MARKED: Final = b"SELECT pg_catalog.current_setting('causal.block', true); "

BEGIN_ORIGIN: Final = b"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SELECT causal.begin_origin(); COMMIT"


@cache
def facts(*, installed: bool) -> str:
    """Return the statements that tell everything of a server, in the order that proves it."""
    if installed:
        return f"{_FACTS}; {_RECEIVED}; {_ROWS}"
    return f"{_FACTS}; {_RECEIVED_PLAIN}"


@cache
def question(*, installed: bool, light: bool = False) -> bytes:
    """Return the message of a probe; `light` where what it executes is prepared."""
    asked = facts(installed=installed)
    if light:
        asked = "EXECUTE causal_facts; EXECUTE causal_received" + ("; EXECUTE causal_rows" if installed else "")
    return f"BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; {asked}; COMMIT".encode()


@cache
def prepare_question(*, installed: bool) -> bytes:
    """Return the message that prepares what a light probe executes: planning it anew is most of what it costs the server."""
    received = _RECEIVED if installed else _RECEIVED_PLAIN
    rows = f"; PREPARE causal_rows AS {_ROWS}" if installed else ""
    return _PLAINLY % f"PREPARE causal_facts AS {_FACTS}; PREPARE causal_received AS {received}{rows}".encode()


@cache
def prepare(*, installed: bool, stamps: bool) -> bytes:
    """Return the message that prepares what blocks execute, on a connection whose backend is its own."""
    newest = "(SELECT max(seq) FROM causal.lineage)" if installed else "NULL::bigint"
    some = "EXISTS (SELECT FROM causal.dependency)" if stamps else "false"
    read = f"; PREPARE causal_stamps AS {_STAMPS}" if stamps else ""
    prepared = f"PREPARE causal_here AS SELECT {_HERE}; PREPARE causal_end AS SELECT {_HERE}, {newest}, {some}{read}"
    return _PLAINLY % prepared.encode()


@cache
def beginning(isolation: str, *, writing: bool, light: bool, installed: bool, transaction: bool = True) -> bytes:
    """Return a block's first message: where the server is, then a transaction whose first snapshot is taken later."""
    here = "EXECUTE causal_here" if light else facts(installed=installed)
    begin = f"BEGIN ISOLATION LEVEL {isolation.upper()} {'READ WRITE' if writing else 'READ ONLY'}"
    check = "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY"
    if not transaction:
        return f"{check}; {here}; COMMIT".encode()
    # A mark that the first COMMIT or ROLLBACK takes away: whether the transaction that ends the block is the one that began it.
    mark = f"; SET LOCAL causal.block = '{WHOLE}'" if writing or not light else ""
    if isolation == "read committed":
        return f"{begin}; {here}{mark}".encode()
    return (
        f"{check}; {here}; COMMIT; {begin}{mark}".encode()
    )  # the first statement of such a transaction takes its only snapshot


@cache
def ending(how: str, *, light: bool, stamps: bool, installed: bool) -> bytes:
    """Return a read's last message: what it can have shown at most. `how` ends the transaction; empty if there is none any more."""
    here = "EXECUTE causal_end" if light else facts(installed=installed)
    told = f"{here}; {_STAMPS}" if stamps else here
    if how == "COMMIT" and (light or not stamps):
        return f"{told}; COMMIT".encode()
    # What a REPEATABLE READ's snapshot is too old to show, and what a failed transaction cannot ask.
    check = "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY"
    return f"{how + '; ' if how else ''}{check}; {told}; COMMIT".encode()


_COMMITTING: Final = (
    "SELECT pg_catalog.current_setting('synchronous_commit'), pg_catalog.pg_current_xact_id_if_assigned() IS NOT NULL, "
    "pg_catalog.current_setting('causal.block', true); "
    "COMMIT; "
    "SELECT pg_catalog.pg_current_wal_flush_lsn(), pg_catalog.pg_current_wal_insert_lsn()"
)


@cache
def committing(*, stamps: bool, direct: bool) -> str:
    """Return a write's last message. The setting is asked for before COMMIT, which undoes SET LOCAL; the LSNs after it.

    Then the stamps of what its transaction can have read: prepared on a `direct` connection, where they may be asked for once more.
    """
    told = "EXECUTE causal_stamps" if direct else _STAMPS
    return f"{_COMMITTING}; {told}" if stamps else _COMMITTING


STAMPED: Final = f"BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; {_STAMPS}; COMMIT".encode()
"""The question for the stamps alone."""

OUTSIDE: Final = _FACTS.encode()

WAITS_SINCE: Final = 190_000
"""The first server_version_num that knows WAIT FOR LSN."""


def waiting(lsn: str, timeout_s: float) -> bytes:
    """Return the statement with which a standby waits until it has replayed a place in the log: for PostgreSQL 19, and not used yet.

    It must be a message of its own, outside of any transaction that reads, whose snapshot would be older than the wait; and it says
    nothing of the timeline, which is still to be checked after it. Raises: ValueError for what is not an LSN, or not a time.
    """
    if not 0 < timeout_s < 2**31 / 1000:
        raise ValueError(f"not a time to wait: {timeout_s} s")
    return f"WAIT FOR LSN '{spell(parse(lsn))}' WITH (TIMEOUT '{max(1, round(timeout_s * 1000))}ms', NO_THROW)".encode()


def stamping(stamps: Mapping[tuple[int, int], int]) -> str:
    """Return the statement that stores what a write depends on in other shards, in its own transaction.

    A slot for each backend: writers do not wait for each other. Keys in order: those who share a slot cannot deadlock.
    """
    rows = ", ".join(
        f"(pg_catalog.pg_backend_pid() % 64, {shard:d}, {origin:d}, {upto:d})"
        for (shard, origin), upto in sorted(stamps.items())
    )
    return (
        f"INSERT INTO causal.dependency AS d (slot, shard, origin, upto) VALUES {rows} "
        "ON CONFLICT (slot, shard, origin) DO UPDATE SET upto = excluded.upto WHERE d.upto < excluded.upto; "
    )
