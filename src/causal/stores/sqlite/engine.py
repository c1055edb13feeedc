"""The embedded store's configuration: where, which site, how it lags, how durable.

Owns the public class and the controls. Connects nothing until `open`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, cast

from causal.clock import HybridLogicalClock
from causal.controls import Lag
from causal.core.frontier import MAX_ORIGIN, shard_id
from causal.engine import Capabilities
from causal.errors import ConfigError
from causal.stores.sqlite.alink import AsyncSQLiteLink, in_thread
from causal.stores.sqlite.files.directory import CUT, PAUSED, Directory, check_name
from causal.stores.sqlite.link import Settings, SQLiteLink
from causal.stores.sqlite.observe import Observed, ObservingLink
from causal.stores.sqlite.replication import members

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence

    from causal.stores.sqlite.files.schema import Durability

_MAX_FIRST_ORIGIN: Final = MAX_ORIGIN - 2**21


class SQLiteEngine:
    """Several sites on one machine, each one SQLite file for each shard, in one directory.

    Every site takes writes; any number of processes may open any site. Opening a site that the directory does not have yet makes it
    join: it copies the most advanced site's data first.

    Args:
        directory: where the files are; made if it is not there.
        site: the site of this process.
        shards: the names of the shards that this process uses, each its own file and log at every site. Numbered when first used.
        lag_s: how long after its commit a write is applied at this site, in seconds, as a `Lag`, or as its text, "50ms".
        rtt_s: the simulated round trip to other sites, in seconds, for all or by site.
        durability: "full" acknowledges what is on the disk. "relaxed" does not wait for the disk. HAZARD: a power loss may then take
            acknowledged writes; a site that was not closed properly starts a new origin, so that they are said to be lost.
        replicate: "thread" applies others' writes in the background while a link is open; "manual" only in `step` and `catch_up`.
        clock: where conflict stamps come from; by default one on `wall`.
        wall: the time of day in nanoseconds.
        sleep: how a simulated round trip is spent.
        first_origin: the number of a new directory's first origin. By default random, so that a token from a directory that was
            removed is not mistaken for one of its successor. For tests and stories.
        observe: only look: nothing of the directory is changed, made or waited for, and it may be read-only, or a copy. Reads and
            questions are answered from copies of the files, each as it is then; writes and controls are refused. A site or shard
            that is not there is not made. For tools.

    Raises: ConfigError. Thread-safety: safe; safe to make before a fork, as long as nothing of the directory is open then.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        site: str,
        shards: Sequence[str] = ("main",),
        lag_s: float | Lag | str = 0.0,
        rtt_s: float | Mapping[str, float] = 0.0,
        durability: Durability = "full",
        replicate: Literal["thread", "manual"] = "thread",
        clock: HybridLogicalClock | None = None,
        wall: Callable[[], int] = time.time_ns,
        sleep: Callable[[float], None] = time.sleep,
        first_origin: int | None = None,
        observe: bool = False,
    ) -> None:
        if isinstance(shards, str) or not shards or len(set(shards)) < len(shards):
            raise ConfigError(f"shards are a list of different names, not {shards!r}")
        if durability not in {"full", "relaxed"} or replicate not in {"thread", "manual"}:
            raise ConfigError(
                f"durability is 'full' or 'relaxed', replicate is 'thread' or 'manual': {durability!r}, {replicate!r}"
            )
        if first_origin is not None and not 0 <= first_origin <= _MAX_FIRST_ORIGIN:
            raise ConfigError(f"first_origin is in 0..{_MAX_FIRST_ORIGIN}, not {first_origin}")
        try:
            negative = any(not 0 <= rtt < inf for rtt in (rtt_s.values() if isinstance(rtt_s, Mapping) else (rtt_s,)))
        except TypeError:
            negative = True
        if negative:
            raise ConfigError(f"a round trip is a number of seconds, not negative: {rtt_s!r}")
        try:
            self.directory = Path(directory).absolute()  # the process may change its own
        except TypeError as error:
            raise ConfigError(f"a directory is a path, not {directory!r}") from error
        if "\0" in str(self.directory):
            raise ConfigError(f"a directory is a path, without null characters: {directory!r}")
        self.site = check_name(site, "site")
        self._names = tuple(check_name(name, "shard") for name in shards)
        self._first_origin = first_origin
        self._replicate = replicate
        self._observe = observe
        self._shards: dict[str, int] | None = None
        self._settings = Settings(
            self.site,
            Lag.of(lag_s),
            (lambda name: float(rtt_s.get(name, 0.0))) if isinstance(rtt_s, Mapping) else (lambda _: float(rtt_s)),
            durability,
            clock or HybridLogicalClock(wall=wall),
            wall,
            sleep,
        )

    @property
    def shards(self) -> Mapping[str, int]:
        """Shard name -> index, as the directory has numbered them. Raises: StoreError."""
        if self._observe:
            return Observed(self.directory).shards(self.site, self._names)
        if self._shards is None:
            with self._shared() as directory:
                known = members.add_shards(directory, self._names, self.site)
            self._shards = {name: known[name] for name in self._names}
        return self._shards

    @property
    def capabilities(self) -> Capabilities:
        """Versions carry their writer's frontier."""
        return Capabilities(dependencies=True, exact=True)

    def open(self, store: int = 0) -> SQLiteLink:
        """Connect, and replicate in the background unless that is manual. Raises: ConfigError, StoreError, Unreachable."""
        if self._observe:
            # The contract's methods are there, and those by which the asynchronous link drives it.
            return cast("SQLiteLink", ObservingLink(self.directory, self.site, self._settings.rtt_s, store))
        return self._open(store, replicating=self._replicate == "thread")

    def _open(self, store: int, *, replicating: bool) -> SQLiteLink:
        self._takes_part()
        shard_id(store, 0)
        directory = Directory.share(self.directory, self._first_origin)
        try:
            members.open_site(directory, self.site, self._names, store)
            return SQLiteLink(directory, self._settings, replicating=replicating)
        except BaseException:
            directory.release(members.mark_closed)
            raise

    async def aopen(self, store: int = 0) -> AsyncSQLiteLink:
        """Connect for use in the running event loop. Raises: as `open`."""
        return AsyncSQLiteLink(await in_thread(None, lambda: self.open(store), lambda link: link.close()))

    # --- controls ----------------------------------------------------------------------------------------------

    def _takes_part(self) -> None:
        if self._observe:
            raise ConfigError(f"{self.directory} is only observed here: use an engine without observe=True")

    @contextmanager
    def _shared(self) -> Iterator[Directory]:
        self._takes_part()
        directory = Directory.share(self.directory, self._first_origin)
        try:
            yield directory
        finally:
            directory.release(members.mark_closed)

    @contextmanager
    def _linked(self) -> Iterator[SQLiteLink]:
        with self._shared() as directory:
            store = directory.members().store or 0
        link = self._open(store, replicating=False)
        try:
            yield link
        finally:
            link.close()

    def pause(self, endpoint: str) -> None:
        """Stop applying others' writes at a site, in every process; it stays readable and falls behind."""
        with self._shared() as directory:
            directory.flag(endpoint, PAUSED, up=True)

    def resume(self, endpoint: str) -> None:
        """Undo `pause`."""
        with self._shared() as directory:
            directory.flag(endpoint, PAUSED, up=False)

    def cut_off(self, site: str) -> None:
        """Separate a site from all others, in every process: no replication, and unreachable from elsewhere."""
        with self._shared() as directory:
            directory.flag(site, CUT, up=True)

    def rejoin(self, site: str) -> None:
        """Undo `cut_off`."""
        with self._shared() as directory:
            directory.flag(site, CUT, up=False)

    def catch_up(self, endpoint: str) -> None:
        """Apply now, at a site, everything it can reach, whatever the lag or pause; return when done."""
        with self._linked() as link:
            link.catch_up(endpoint)

    def step(self) -> int:
        """Apply at this site what is due now; return how many transactions that were."""
        with self._linked() as link:
            return link.step().applied

    def collect(self) -> int:
        """Remove at this site what no member needs any more; return how many keys that freed. The thread does it now and then.

        HAZARD: the thread keeps a tombstone for a while, and this does not: a session that finds a key gone may then be shown it again, by
        a cache or an index that has not heard of the deletion.
        """
        with self._linked() as link:
            return link.collect()

    def leave(self, site: str) -> None:
        """Take a site out of the directory for good; it may join again later. Raises: ConfigError for the last one."""
        with self._linked() as link:
            members.leave(link.directory, site)
