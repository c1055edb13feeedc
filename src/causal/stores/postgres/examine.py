"""What a server would tell the engine, asked from outside: its role, its history, and what its role lacks.

Owns the questions of `causal postgres check`. Changes nothing: a primary whose present life has no origin yet is given none.
"""

from __future__ import annotations

import time
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Final

import attrs
from psycopg import conninfo, pq, sql
from psycopg import errors as driver_errors

from causal.errors import ConfigError, StoreError, Unreachable
from causal.stores.postgres import statements
from causal.stores.postgres.answers import Ground
from causal.stores.postgres.exchange import ask, connect, first_line, values
from causal.stores.postgres.lineage import current
from causal.stores.postgres.lsn import parse
from causal.stores.postgres.server import Server

if TYPE_CHECKING:
    from collections.abc import Sequence

    from causal.stores.postgres.lineage import Facts

CONNECT_S: Final = 10
"""How long to wait for a connection where a DSN does not say."""

_STATE: Final = b"""
SELECT current_user, pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('server_version'),
  pg_catalog.pg_backend_pid(), pg_catalog.current_setting('is_superuser') = 'on',
  pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE'),
  l.oid IS NOT NULL, d.oid IS NOT NULL,
  COALESCE(pg_catalog.has_schema_privilege(n.oid, 'USAGE'), false),
  COALESCE(pg_catalog.has_table_privilege(l.oid, 'SELECT'), false),
  COALESCE(pg_catalog.has_table_privilege(d.oid, 'SELECT') AND pg_catalog.has_table_privilege(d.oid, 'INSERT')
    AND pg_catalog.has_table_privilege(d.oid, 'UPDATE'), false),
  COALESCE(pg_catalog.has_function_privilege(b.oid, 'EXECUTE'), false),
  COALESCE(pg_catalog.has_function_privilege(r.oid, 'EXECUTE'), false),
  COALESCE(pg_catalog.pg_has_role(r.proowner, 'pg_read_all_stats', 'USAGE'), false),
  pg_catalog.quote_ident(COALESCE(pg_catalog.pg_get_userbyid(r.proowner), '')),
  pg_catalog.pg_last_wal_replay_lsn()
FROM (SELECT) one
LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = 'causal'
LEFT JOIN pg_catalog.pg_class l ON l.relnamespace = n.oid AND l.relname = 'lineage'
LEFT JOIN pg_catalog.pg_class d ON d.relnamespace = n.oid AND d.relname = 'dependency'
LEFT JOIN pg_catalog.pg_proc b ON b.pronamespace = n.oid AND b.proname = 'begin_origin'
LEFT JOIN pg_catalog.pg_proc r ON r.pronamespace = n.oid AND r.proname = 'receiver'
"""
"""From the catalogs, which every role may read: what is there, and what this role may do with it."""


@attrs.frozen
class Origin:
    """One row of a server's lineage. `end` is where it ended; None for the newest, and where nobody can know. Thread-safety: immutable."""

    seq: int
    origin: int
    timeline: int
    end: int | None


@attrs.frozen
class Examined:
    """What one server answered. `grants` are statements that it needs to be told, at the primary, by who owns what they name.

    `direct`: the connection is the server's own, with no pooler or balancer between. Thread-safety: immutable.
    """

    name: str
    reached: bool
    problem: str | None = None
    standby: bool | None = None
    user: str | None = None
    version: str | None = None
    direct: bool | None = None
    system: int | None = None
    installed: bool | None = None
    stamps: bool | None = None
    timeline: int | None = None
    lsn: int | None = None
    origin: int | None = None
    lineage: tuple[Origin, ...] = ()
    life: str | None = None
    """When it was started, to the microsecond: the same for the same server, by whatever DSN. Units: Unix seconds."""
    grants: tuple[str, ...] = ()


def readable(dsn: str) -> str:
    """Return a DSN whose connection gives up in time. Raises: ConfigError for one that nobody can read, without showing it."""
    try:
        parts = conninfo.conninfo_to_dict(dsn)
    except driver_errors.Error as error:
        raise ConfigError("the DSN cannot be read (it is not shown: it may hold a password)") from error
    return dsn if "connect_timeout" in parts else conninfo.make_conninfo(dsn, connect_timeout=CONNECT_S)


def examine(name: str, dsn: str, timeout_s: float = 5.0) -> Examined:
    """Ask one server what a store would ask it. Raises: ConfigError for a DSN that cannot be read; what else is wrong, is in the answer."""
    readable(dsn)
    deadline = time.monotonic() + timeout_s
    try:
        pgconn = connect(conninfo.make_conninfo(dsn, application_name="causal").encode(), timeout_s)
    except Unreachable as error:
        return Examined(name, reached=False, problem=first_line(str(error)) or "no answer")
    server = Server(name, dsn, 0)
    try:
        found = _asked(server, pgconn, deadline)
    except StoreError as error:
        return Examined(name, reached=False, problem=str(error))
    finally:
        pgconn.finish()
    return found


def _asked(server: Server, pgconn: pq.abc.PGconn, deadline: float) -> Examined:
    def answers(message: bytes) -> list[Any]:
        results = ask(pgconn, message, max(0.0, deadline - time.monotonic()))
        server.refused(results)
        return results

    state = values(answers(b"BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; " + _STATE + b"; COMMIT"), 1)
    user, standby, version, pid, superuser, sees, installed, stamps, *rights, owner, replayed = (
        "" if one is None else one.decode() for one in state
    )
    grants = _missing(
        sql.Identifier(user).as_string(None),
        owner,
        installed=installed == "t",
        stamps=stamps == "t",
        sees=sees == "t" or standby == "f",  # a primary knows its own timeline
        rights=[right == "t" for right in rights],
    )
    said: dict[str, Any] = {
        "reached": True,
        "standby": standby == "t",
        "user": user,
        "version": version,
        "direct": int(pid) == pgconn.backend_pid,
        "installed": installed == "t",
        "stamps": stamps == "t",
        "grants": () if superuser == "t" else grants,
        "lsn": parse(replayed) if replayed else None,
    }
    if said["grants"]:
        return Examined(server.name, **said, problem="the role may not see what it must")
    server.ground = ground = Ground.of(answers(statements.HELLO)[1])
    facts = server.facts(answers(statements.question(installed=ground.installed)), 1, ground)
    news = server.learn(facts, time.monotonic())
    return Examined(
        server.name,
        **said | {"lsn": facts.lsn},
        system=ground.system,
        timeline=facts.timeline,
        origin=news.origin if ground.installed else None,
        lineage=_origins(facts),
        life=facts.life.started,
        problem=_problem(facts, news.marks[0].origins, installed=ground.installed),
    )


def _missing(
    role: str, owner: str, *, installed: bool, stamps: bool, sees: bool, rights: Sequence[bool]
) -> tuple[str, ...]:
    """Return the statements that give a role what a store needs of it."""
    schema, lineage, dependency, begin, receive, owner_sees = rights
    if not installed:
        return () if sees else (f"GRANT pg_monitor TO {role};",)
    wanted = [
        (schema, f"GRANT USAGE ON SCHEMA causal TO {role};"),
        (lineage, f"GRANT SELECT ON causal.lineage TO {role};"),
        (begin, f"GRANT EXECUTE ON FUNCTION causal.begin_origin() TO {role};"),
        (receive, f"GRANT EXECUTE ON FUNCTION causal.receiver() TO {role};"),
        (dependency or not stamps, f"GRANT SELECT, INSERT, UPDATE ON causal.dependency TO {role};"),
        (owner_sees or not owner, f"GRANT pg_monitor TO {owner};"),
    ]
    return tuple(statement for held, statement in wanted if not held)


def _origins(facts: Facts) -> tuple[Origin, ...]:
    return tuple(
        Origin(row.seq, row.origin, row.timeline, None if after is None else after.parent_end)
        for row, after in zip_longest(facts.rows, facts.rows[1:])
    )


def _problem(facts: Facts, origins: object, *, installed: bool) -> str | None:
    if installed and not facts.life.standby and current(facts) is None:
        return "no origin yet in its present life: the first store that opens begins one"
    if facts.life.standby and facts.timeline is None:
        return "receives nothing at present: it serves what it had, and falls behind"
    return None if origins else "its history cannot be seen"


def disagreements(servers: Sequence[Examined]) -> list[str]:
    """Return what is wrong with servers that are to be one cluster, a sentence each."""
    reached = [one for one in servers if one.reached]
    primaries = [one for one in reached if one.standby is False]
    wrong = []
    if reached and not primaries:
        wrong.append("No primary is among them: nobody takes writes. Name it, too.")
    if len(primaries) > 1:
        names = ", ".join(one.name for one in primaries)
        if len({(one.system, one.life) for one in primaries}) == 1:
            wrong.append(f"These are one and the same server: {names}. Name it once.")
        else:
            newest = max(one.timeline or 0 for one in primaries)
            old = [f"{one.name} (timeline {one.timeline})" for one in primaries if one.timeline != newest]
            told = (
                f"{', '.join(old)} was superseded on timeline {newest}: stop it, and rewind it or clone it anew."
                if old
                else "Their timelines do not tell which is to go: fence one."
            )
            wrong.append(f"Several take writes: {names}. One cluster has one primary. {told}")
    if len({one.system for one in reached if one.system is not None}) > 1:
        wrong.append("They are not of one cluster: their system identifiers differ. Check shard by shard.")
    plain = [one.name for one in reached if one.installed is False]
    if plain:
        wrong.append(
            f"Not installed: {', '.join(plain)}. Failovers are told apart by timeline numbers alone: "
            "run `causal postgres install` at the primary."
        )
    return wrong
