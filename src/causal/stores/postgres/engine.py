"""PostgreSQL with streaming replication as a store: which servers, how blocks run. Configuration only.

Owns the public class, and how endpoints are named. Connects nothing until `open`.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, Final, Literal

import attrs
from psycopg import conninfo
from psycopg import errors as driver_errors

from causal.core.frontier import shard_id
from causal.engine import Capabilities
from causal.errors import ConfigError
from causal.stores.postgres.alink import AsyncPostgresLink
from causal.stores.postgres.blocks import Manner
from causal.stores.postgres.link import PostgresLink
from causal.stores.postgres.pools import PoolSettings
from causal.stores.postgres.servers import Member, Settings

Isolation = Literal["read committed", "repeatable read"]
ELSEWHERE_S: Final = 0.05
"""The latency that is assumed to a server of another site, where none is given."""


@attrs.frozen
class Replica:
    """A standby, or the primary, with more than its DSN.

    `site` is where it is: servers of the engine's own site are nearer. Units: `latency_s` in seconds. Thread-safety: immutable.
    """

    dsn: str = attrs.field(repr=False)  # it may hold a password
    name: str | None = None
    site: str = ""
    latency_s: float | None = None


@attrs.frozen
class Shard:
    """One cluster: a primary and its standbys, whoever leads at present.

    `index` is the shard's number in tokens, never reused; by default it follows from the name, which must then stay.
    Thread-safety: immutable.
    """

    primary: str | Replica = attrs.field(repr=False)
    replicas: Sequence[str | Replica] | Mapping[str, str | Replica] = attrs.field(default=(), repr=False)
    index: int | None = None


class PostgresEngine:
    """A primary and its streaming standbys, or several of them: shards.

    Blocks give plain psycopg connections. Reads go to standbys that hold what the session demands, writes to whoever is primary.
    `causal postgres install` should be run once on each primary: without it failovers are told apart by timeline numbers alone.

    Args:
        primary: the DSN of the primary, of one shard named "main". After a failover it may be a standby's: roles are asked for.
        replicas: the DSNs of the standbys, as a list, or by name.
        site: where this process is, if servers have sites.
        shards: several shards instead: name -> Shard, or a mapping of its fields.
        isolation: of every block's transaction; whatever the role's own default is.
        autocommit: read blocks without a transaction: each statement is its own. The check before and the account after are then
            messages of their own.
        pool: how many connections, and how they are made.
        timeout_s: how long a connection, a check or a question may take before the next endpoint is tried.
        commit_timeout_s: how long a COMMIT may take before it is in doubt: deferred constraints are checked then, and synchronous
            standbys waited for.
        poll_s: how often each server is asked in the background while the store is in use.
        order: which of equally near standbys is preferred: "random", anew for each process, or as "listed".
        wait_for_lsn: whether a standby itself waits for what a read demands (`WAIT FOR LSN`, PostgreSQL 19) instead of being asked over
            and over. Refused today: there is no release of that version that it could have been tested on.

    Raises: ConfigError. Thread-safety: immutable; safe to make before a fork.
    """

    def __init__(
        self,
        primary: str | Replica | None = None,
        replicas: Sequence[str | Replica] | Mapping[str, str | Replica] = (),
        *,
        site: str = "",
        shards: Mapping[str, Shard | Mapping[str, Any]] | None = None,
        isolation: Isolation = "read committed",
        autocommit: bool = False,
        pool: PoolSettings | None = None,
        timeout_s: float = 1.0,
        commit_timeout_s: float = 10.0,
        poll_s: float = 0.01,
        order: Literal["random", "listed"] = "random",
        wait_for_lsn: bool = False,
    ) -> None:
        if (primary is None) == (not shards):
            raise ConfigError("name a primary (and replicas), or several shards: one of the two")
        if isolation not in {"read committed", "repeatable read"}:
            raise ConfigError(
                f"isolation is 'read committed' or 'repeatable read', not {isolation!r}: a hot standby knows no other"
            )
        if order not in {"random", "listed"}:
            raise ConfigError(f"order is 'random' or 'listed', not {order!r}")
        if wait_for_lsn:
            raise ConfigError(
                "wait_for_lsn cannot be turned on yet: WAIT FOR LSN comes with PostgreSQL 19, and was not tested on a release of it; "
                "without it, reads that wait share one question after another"
            )
        _positive("timeout_s", timeout_s)
        _positive("commit_timeout_s", commit_timeout_s)
        _positive("poll_s", poll_s)
        self.site = site
        given = {"main": Shard(primary, replicas)} if primary is not None else shards or {}
        self._given = {name: _shard(name, shard) for name, shard in given.items()}
        self._indexes = _indexes(self._given)
        self._pool = pool or PoolSettings()
        self._manner = Manner(isolation, transaction=not autocommit)
        self._timeout_s, self._commit_timeout_s = float(timeout_s), float(commit_timeout_s)
        self._poll_s, self._order = float(poll_s), order
        self._members(0)  # what is wrong with it is said now

    @property
    def shards(self) -> Mapping[str, int]:
        """Shard name -> index."""
        return self._indexes

    @property
    def capabilities(self) -> Capabilities:
        """A block's demand is that of its shard; what it depends on in others travels by stamps, where they are installed."""
        return Capabilities(poll_s=self._poll_s)

    def open(self, store: int = 0) -> PostgresLink:
        """Make the pools; connections are made as they are needed. Raises: ConfigError."""
        return PostgresLink(self._settings(store))

    async def aopen(self, store: int = 0) -> AsyncPostgresLink:
        """Make the pools in the running event loop. Raises: ConfigError."""
        link = AsyncPostgresLink(self._settings(store))
        await link.open()
        return link

    def _settings(self, store: int) -> Settings:
        members, primaries = self._members(store)
        return Settings(members, primaries, self._pool, self._manner, self._timeout_s, self._commit_timeout_s)

    def _members(self, store: int) -> tuple[tuple[Member, ...], dict[int, str]]:
        members: list[Member] = []
        primaries: dict[int, str] = {}
        for name, shard in self._given.items():
            number = shard_id(store, self._indexes[name])
            before = f"{name}/" if len(self._given) > 1 else ""
            standbys = [self._member(before, own, one, number) for own, one in _named(shard.replicas)]
            if self._order == "random":
                random.SystemRandom().shuffle(standbys)
            primary = self._member(before, "primary", shard.primary, number)
            primaries[number] = primary.name
            members += [*standbys, primary]
        names = [member.name for member in members]
        if len(set(names)) < len(names):
            raise ConfigError(f"two servers have the same name: {', '.join(sorted(names))}")
        return tuple(members), primaries

    def _member(self, before: str, name: str, given: str | Replica, shard: int) -> Member:
        replica = given if isinstance(given, Replica) else Replica(given)
        if not _readable(replica.dsn):
            raise ConfigError(f"the DSN of {before}{name} cannot be read (it is not shown: it may hold a password)")
        near = 0.0 if replica.site == self.site else ELSEWHERE_S
        return Member(
            before + (replica.name or name),
            replica.dsn,
            shard,
            replica.site,
            near if replica.latency_s is None else replica.latency_s,
        )


def _readable(dsn: object) -> bool:
    """Return whether a DSN is one. What libpq says of one that is not would show it, as an error's cause."""
    try:
        conninfo.conninfo_to_dict(dsn)  # type: ignore[arg-type]
    except (driver_errors.Error, TypeError, AttributeError):
        return False
    return True


def _positive(name: str, value: object) -> None:
    if not isinstance(value, int | float) or not (isfinite(value) and value > 0):
        raise ConfigError(f"{name} is a positive number of seconds, not {value!r}")


def _shard(name: str, given: Shard | Mapping[str, Any]) -> Shard:
    if isinstance(given, Shard):
        return given
    try:
        return Shard(**given)
    except TypeError as error:
        raise ConfigError(
            f"shard {name!r} is a Shard, or its primary, replicas and index by name, not {sorted(given)}"
        ) from error


def _named(replicas: Sequence[str | Replica] | Mapping[str, str | Replica]) -> list[tuple[str, str | Replica]]:
    if isinstance(replicas, Mapping):
        return list(replicas.items())
    if isinstance(replicas, str):
        raise ConfigError("replicas are a list of DSNs, not one")
    return [(f"replica-{n}", one) for n, one in enumerate(replicas, 1)]


def _indexes(shards: Mapping[str, Shard]) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, shard in shards.items():
        # Of the name, not of its place among others: a shard that is added must not move any other.
        default = 0 if name == "main" else zlib.crc32(name.encode()) & 0xFFFF
        index = default if shard.index is None else shard.index
        if not 0 <= index <= 0xFFFF:
            raise ConfigError(f"a shard's index is in 0..65535, not {index}")
        other = next((n for n, i in found.items() if i == index), None)
        if other is not None:
            raise ConfigError(
                f"shards {other!r} and {name!r} both have index {index}: give one of them another, for good"
            )
        found[name] = index
    return found
