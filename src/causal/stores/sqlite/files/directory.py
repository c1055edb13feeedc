"""A directory of sites, as this process has it open: its files, its locks, and who can reach whom.

Owns what all links of one process share: the registry, the locks, one `ShardFile` for each file, and the flags that simulate pauses
and partitions. Knows nothing of how sites join or replicate.

HAZARD: SQLite must not be used across a fork. A directory that was open in the parent is refused in the child.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, Final

import attrs

from causal.core.frontier import shard_id
from causal.errors import CausalError, ConfigError, StoreError, Unreachable
from causal.stores.sqlite.files.locks import Locks
from causal.stores.sqlite.files.registry import LIVE, Members, Registry
from causal.stores.sqlite.files.shard import ShardFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from causal.stores.sqlite.files.schema import Durability
    from causal.stores.sqlite.files.shard import Rows

_log = logging.getLogger("causal")

PAUSED: Final = "paused"
CUT: Final = "cut-off"

_LOCKED_S: Final = 1.0
"""How long a site is left alone whose files were locked: each look at them costs as long as a lock is waited for."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


def check_name(name: str, what: str) -> str:
    """Return the name of a site or a shard if it can be part of a file's name. Raises: ConfigError."""
    try:
        good = _NAME.fullmatch(name) is not None and name != "cluster"
    except TypeError:
        good = False
    if not good:
        raise ConfigError(
            f"a {what} is named by 1 to 63 ASCII letters, digits, - and _ (and not 'cluster'), not {name!r}"
        )
    return name


def file_name(site: str, name: str) -> str:
    """Return what a site calls its file of a shard: the default shard has no name of its own there."""
    return f"{site}.sqlite" if name == "main" else f"{site}.{name}.sqlite"


class Directory:
    """What the links of one process to one directory share; made by `share`, given back by `release`.

    Thread-safety: safe.
    """

    _open: ClassVar[dict[str, Directory]] = {}
    _open_lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, path: Path, first_origin: int | None) -> None:
        self.path = path
        self.pid = os.getpid()
        self.locks = Locks(path)
        self.wakes: set[threading.Event] = set()
        self._lock = threading.RLock()
        self._files: dict[tuple[str, int], ShardFile] = {}
        self._complaints: dict[str, str] = {}
        self._locked: dict[str, float] = {}
        self._relaxed: dict[str, Members] = {}
        self._links = 0
        try:
            path.mkdir(parents=True, exist_ok=True)
            with self.locks.admin():
                registry = self.path / "cluster.sqlite"
                used = any((path / f"{p.name.partition('.')[0]}.open").exists() for p in path.glob("*.sqlite"))
                if used and not registry.exists():
                    raise StoreError(
                        f"{registry} is missing beside the files of its sites: restore it, or remove them all"
                    )
                self.registry = Registry(registry, first_origin, born=self.locks.born(), used=used)
        except OSError as error:
            raise StoreError(
                f"{path} cannot be used: {error.strerror}; it must be a directory that can be written"
            ) from error

    @classmethod
    def share(cls, path: Path, first_origin: int | None = None) -> Directory:
        """Return this process's one view of a directory. Raises: ConfigError after a fork, StoreError."""
        key = os.path.realpath(path)
        with cls._open_lock:
            directory = cls._open.get(key)
            if directory is not None and directory.pid != os.getpid():
                raise ConfigError(f"{path} was open when this process was forked: open it after the fork instead")
            if directory is None:
                directory = cls._open[key] = cls(path, first_origin)
            directory._links += 1
            return directory

    @classmethod
    @contextmanager
    def apart(cls, path: Path) -> Iterator[bool]:
        """Say whether this process does not have a directory open, and keep it so in the block."""
        with cls._open_lock:
            directory = cls._open.get(os.path.realpath(path))
            yield directory is None or directory.pid != os.getpid()

    def release(self, last: Callable[[Directory], None]) -> None:
        """Give back what `share` returned. After the last use in this process, call `last` and close everything; never raises."""
        with self._open_lock:
            self._links -= 1
            if self._links:
                return
            type(self)._open = {key: it for key, it in self._open.items() if it is not self}
            try:
                last(self)
            except (CausalError, OSError) as error:
                _log.warning("%s was closed, but not in order: %s", self.path, error)
        with self._lock:
            for file in self._files.values():
                file.close()
            self._files.clear()
            self.registry.close()
            for site in self.locks.attached:
                self.locks.detach(site)

    # --- files -------------------------------------------------------------------------------------------------

    def members(self) -> Members:
        """Return the registry as it is now."""
        return self.registry.members()

    def file_path(self, site: str, name: str) -> Path:
        """Return where a site keeps a shard."""
        return self.path / file_name(site, name)

    def file(self, site: str, index: int) -> ShardFile:
        """Return a site's file of a shard, opened once for this process. Raises: ConfigError for an unknown shard, StoreError."""
        known = self._files.get((site, index))
        if known is not None:
            return known
        with self._lock:
            if (site, index) not in self._files:
                members = self.members()
                name = next((name for name, number in members.shards.items() if number == index), None)
                if name is None:
                    raise ConfigError(f"no shard {index} in {self.path}")
                shard = shard_id(members.store or 0, index)
                path = self.file_path(site, name)
                self._files[site, index] = ShardFile(path, site, index, shard, members.cluster, name)
            return self._files[site, index]

    def files(self, site: str) -> list[ShardFile]:
        """Return a site's files, of every shard that it has a file of: one may just be added. Raises: StoreError."""
        members = self.members()
        live = members.sites.get(site) == LIVE  # of others the registry does not remember what was made
        return [
            self.file(site, index)
            for name, index in members.shards.items()
            if ((site, index) in members.made if live else self.file_path(site, name).exists())
        ]

    def heard(self, site: str, index: int | None = None) -> dict[int, Rows] | None:
        """Return another site's watermarks by shard index, of all its files or of one; None, said once, if they cannot be read.

        What is wrong with one site's files must not stop another.
        """
        if time.monotonic() < self._locked.get(site, 0.0):
            return None
        try:
            heard = {file.index: file.rows() for file in self.files(site) if index is None or file.index == index}
        except StoreError as error:
            if isinstance(error, Unreachable):  # it took its time to fail
                self._locked[site] = time.monotonic() + _LOCKED_S
            self.complain(f"{site} counts as unreachable", error)
            self._forget(site)
            return None
        if index is None:
            self.content(f"{site} counts as unreachable")
        return heard

    def _forget(self, site: str) -> None:
        """Open a site's files anew at the next use: they may be replaced by better ones."""
        with self._lock:
            if site not in self.locks.attached:
                for key in [key for key in self._files if key[0] == site]:
                    self._files.pop(key).close()

    def complain(self, what: str, error: Exception) -> None:
        """Log what is wrong, unless that was the last that was said of it."""
        if self._complaints.get(what) != str(error):
            self._complaints[what] = str(error)
            _log.warning("%s: %s", what, error)

    def content(self, what: str) -> None:
        """Note that it is well again."""
        self._complaints.pop(what, None)

    # --- flags: pauses and partitions ----------------------------------------------------------------------------

    def flag(self, site: str, flag: str, *, up: bool) -> None:
        """Raise or lower a flag, for every process. Raises: ConfigError for a site that is not there, StoreError."""
        if site not in self.members().sites:
            raise ConfigError(
                f"no site {site!r} in {self.path}; there are {', '.join(self.members().in_state(LIVE)) or 'none'}"
            )
        path = self.path / f"{site}.{flag}"
        try:
            if up:
                path.touch()
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{path} cannot be changed: {error.strerror}") from error
        self.wake()

    def is_up(self, site: str, flag: str) -> bool:
        """Return whether a flag is raised."""
        return os.path.exists(f"{self.path}/{site}.{flag}")

    def reachable(self, here: str, there: str) -> bool:
        """Return whether one site can reach another."""
        return here == there or not (self.is_up(here, CUT) or self.is_up(there, CUT))

    def peers(self, site: str) -> list[str]:
        """Return the other live sites that a site can reach and whose files can be read."""
        return [
            name
            for name in self.members().in_state(LIVE)
            if name != site and self.reachable(site, name) and self.heard(name) is not None
        ]

    def wake(self) -> None:
        """Let this process's replicators look at once."""
        for event in tuple(self.wakes):
            event.set()

    # --- lives -------------------------------------------------------------------------------------------------

    def used_relaxed(self, site: str, durability: Durability) -> None:
        """Record, before anything is written, that a power loss may take acknowledged writes of a site."""
        if durability == "full":
            return
        members = self.members()
        if self._relaxed.get(site) is members:
            return
        for index in members.shards.values():
            record = self.registry.file(site, index)
            if record is not None and not record.relaxed:
                self.registry.set_file(site, index, attrs.evolve(record, relaxed=True))
        self._relaxed[site] = self.members()


def check_reachable(directory: Directory, here: str, there: str) -> None:
    """Raise Unreachable if one site is separated from another."""
    if not directory.reachable(here, there):
        raise Unreachable(f"{there} cannot be reached from {here}: one of them is cut off")


def _after_fork_in_child() -> None:
    Directory._open_lock = threading.Lock()  # another thread of the parent may have held it


os.register_at_fork(after_in_child=_after_fork_in_child)
