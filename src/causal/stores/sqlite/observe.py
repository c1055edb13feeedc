"""Looking at a directory without taking part in it: nothing is opened for writing, joined, recovered, replicated or left behind.

Owns `look`, which reads a file without changing a byte of the directory, and the link that is made of such looks. SQLite itself
cannot: who reads a file with a -wal writes to its -shm, or makes one. So a look copies a file and its -wal to a place of its own, and
SQLite opens the copy. Every question is a new look.

What makes the copy one moment of the file: the -wal is copied after it, and has not begun anew meanwhile, so it holds every page that
was written to the file while it was copied. A file without one is copied under the lock that keeps others from removing theirs.

HAZARD: SQLite's locks are the process's, and copying a file would drop them. A directory that this process has open is read through
SQLite instead, which is no change of anything but the -shm that is there already.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from causal.core.frontier import Frontier, shard_id
from causal.core.position import Position
from causal.engine import Endpoint
from causal.errors import ConfigError, StoreError, Unreachable
from causal.stores.sqlite.blocks.cut import CutTransaction
from causal.stores.sqlite.blocks.reading import Reader, ReadTransaction
from causal.stores.sqlite.files.directory import CUT, Directory, file_name
from causal.stores.sqlite.files.registry import LIVE, Members, members_in
from causal.stores.sqlite.files.schema import check_registry, check_shard, connect, errors_of
from causal.stores.sqlite.files.shard import ShardFile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from causal.core.watermark import Watermark
    from causal.stores.sqlite.files.schema import Durability

_TRIES: Final = 10
_WAL_HEADER: Final = 32
_SHARED: Final = (0x40000000 + 2, 510)
"""Where SQLite's shared lock lies: every connection holds it, and only without it is a -wal removed."""


def look(path: Path) -> sqlite3.Connection:
    """Return a connection to what a file holds now; it changes nothing of the file or beside it. Raises: StoreError, Unreachable.

    Complexity: linear in the size of the file.
    """
    with errors_of(path), Directory.apart(path.parent) as apart:
        if not apart:
            return connect(path, read_only=True)
        for _ in range(_TRIES):
            with tempfile.TemporaryDirectory(prefix="causal-look-") as room:
                copy = Path(room, "copy.sqlite")
                try:
                    whole = _copy(path, copy)
                except FileNotFoundError as error:
                    raise StoreError(f"{path} is gone") from error
                except OSError as error:
                    raise StoreError(f"{path} cannot be looked at: {error.strerror}") from error
                if whole:
                    connection = sqlite3.connect(copy, isolation_level=None, check_same_thread=False)
                    try:
                        connection.execute(
                            "PRAGMA journal_mode = DELETE"
                        )  # what the -wal holds is in the copy itself now
                    except BaseException:
                        connection.close()
                        raise
                    return connection  # it needs no name any more
    raise Unreachable(f"{path} did not stand still in {_TRIES} looks: try again")


def _copy(path: Path, copy: Path) -> bool:
    """Copy a file with its -wal; return whether that is one moment of it."""
    wal, wal_copy = (Path(f"{name}-wal") for name in (path, copy))
    with path.open("rb") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB, _SHARED[1], _SHARED[0])
        except BlockingIOError:
            return False  # somebody is just closing it
        before, written = _log(wal), os.fstat(file.fileno()).st_mtime_ns
        with copy.open("wb") as target:
            shutil.copyfileobj(file, target)
        if before:
            shutil.copyfile(wal, wal_copy)
        return _log(wal) == before and bool(before or os.fstat(file.fileno()).st_mtime_ns == written)


def _log(wal: Path) -> bytes:
    """Return what is another whenever a -wal begins anew; empty where there is none."""
    try:
        with wal.open("rb") as file:
            return file.read(_WAL_HEADER)
    except FileNotFoundError:
        return b""


class ObservedFile(ShardFile):
    """One site's file of one shard, looked at. Each borrowed connection is a look of its own. Thread-safety: as `ShardFile`."""

    __slots__ = ()

    def _first(self) -> sqlite3.Connection:
        return self._connect()

    def _connect(self, durability: Durability = "full") -> sqlite3.Connection:
        connection = look(self.path)
        try:
            check_shard(connection, self.path)
        except BaseException:
            connection.close()
            raise
        return connection

    def give_back(self, cursor: sqlite3.Cursor) -> None:
        """End a look: the next one is of what is there then."""
        cursor.connection.close()

    def begin_write(self, durability: Durability = "full") -> NoReturn:
        """Refuse: all that is left to do where several files cannot be seen at one moment is to hold them, and that is no looking."""
        raise Unreachable(f"{self.path} and its site's other files did not stand still: try again")


class Observed:
    """A directory as it is looked at: who is there, and what they hold. Thread-safety: safe."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def members(self) -> Members:
        """Return the registry as it is now. Raises: ConfigError where there is no store, StoreError."""
        registry = self.path / "cluster.sqlite"
        if not registry.exists():
            raise ConfigError(f"{self.path} holds no store: there is no cluster.sqlite")
        db = look(registry)
        try:
            with errors_of(registry):
                check_registry(db, registry)
                return members_in(db)
        except KeyError as error:
            raise StoreError(f"{registry} is damaged, it lacks rows: restore it") from error
        finally:
            db.close()

    def live(self, site: str) -> Members:
        """Return the registry, if a site is live. Raises: ConfigError."""
        members = self.members()
        if members.sites.get(site) != LIVE:
            live = ", ".join(members.in_state(LIVE)) or "none"
            raise ConfigError(f"no live site {site!r} in {self.path}: there are {live}")
        return members

    def shards(self, site: str, names: Sequence[str]) -> Mapping[str, int]:
        """Return shard name -> index; no names: of all. Raises: ConfigError for one that is not there: none is made by looking."""
        known = self.live(site).shards
        for name in names:
            if name not in known:
                raise ConfigError(f"no shard {name!r} in {self.path}: there are {', '.join(known)}")
        return {name: known[name] for name in names or known}

    def files(self, members: Members, site: str, shards: Sequence[int] | None = None) -> list[ObservedFile]:
        """Return a site's files, of these shards or of every one. Raises: StoreError."""
        return [
            ObservedFile(self.path / file_name(site, name), site, index, shard, members.cluster, name)
            for name, index in members.shards.items()
            for shard in (shard_id(members.store or 0, index),)
            if (site, index) in members.made and (shards is None or shard in shards)
        ]

    def cut(self, site: str) -> bool:
        """Return whether a site is cut off."""
        return (self.path / f"{site}.{CUT}").exists()


class ObservingLink:
    """A link that only looks: endpoints, questions and reads as from a site; writes are refused. Thread-safety: safe."""

    closed: Final = False

    def __init__(self, path: Path, site: str, rtt_s: Callable[[str], float], store: int) -> None:
        self._directory, self._site, self._rtt_s = Observed(path), site, rtt_s
        known = self._directory.live(site).store
        if known not in {None, store}:
            raise ConfigError(f"{path} was made as store {known}, and is opened as store {store}")

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        """The sites that are live, this one first."""
        names = sorted(self._directory.members().in_state(LIVE), key=lambda name: (name != self._site, name))
        return tuple(Endpoint(name, name, self._rtt_s(name) if name != self._site else 0.0) for name in names)

    def _files(self, endpoint: str, shards: Sequence[int] | None = None) -> list[ObservedFile]:
        directory = self._directory
        members = directory.members()
        if members.sites.get(endpoint) != LIVE:
            raise Unreachable(f"{endpoint} is not a live site of {directory.path}")
        if endpoint != self._site and (directory.cut(endpoint) or directory.cut(self._site)):
            raise Unreachable(f"{endpoint} cannot be reached from {self._site}: one of them is cut off")
        return directory.files(members, endpoint, shards)

    def probe(self, endpoint: str, timeout_s: float) -> Mapping[int, Watermark]:
        """Return the watermarks of an endpoint now, of every shard. Raises: Unreachable, StoreError."""
        found: dict[int, Watermark] = {}
        for file in self._files(endpoint):
            found.update(file.now())
        return found

    def read(self, endpoint: str, shards: Sequence[int]) -> ReadTransaction | CutTransaction:
        """Open one snapshot of a site's shards. Raises: Unreachable, StoreError."""
        files = {file.shard: file for file in self._files(endpoint, shards)}
        for shard in shards:
            if shard not in files:
                raise ConfigError(f"no shard {shard} in {self._directory.path}")
        if len(shards) == 1:
            return ReadTransaction(files[shards[0]])
        return CutTransaction([files[shard] for shard in shards])

    def write(self, endpoint: str, shard: int, deps: Frontier) -> NoReturn:
        """Refuse. Raises: ConfigError."""
        self.write_entry(endpoint, shard)

    def write_entry(self, endpoint: str, shard: int) -> NoReturn:
        """Refuse. Raises: ConfigError."""
        raise ConfigError(f"{self._directory.path} is only observed here: open it without observe=True to write")

    def write_locked(self, endpoint: str, file: ShardFile, left_s: float) -> NoReturn:
        """Refuse. Raises: ConfigError."""
        self.write_entry(endpoint, file.shard)

    def is_near(self, endpoint: str) -> bool:
        """Return False: a look is no matter of microseconds."""
        return False

    def leader(self, shard: int) -> str:
        """Return the site that is looked from."""
        return self._site

    def position(self, connection: Any) -> Frontier:
        """Return this site's heads. Raises: ConfigError for a connection of another store."""
        if not isinstance(connection, Reader) and connection is not None:
            raise ConfigError(f"not a connection of this store: {type(connection).__name__}")
        heads = self.probe(self._site, 0.0)
        return Frontier(Position(s, o, w.origins[o][0]) for s, w in heads.items() for o in w.leads)

    def close(self) -> None:
        """Do nothing: nothing is open between looks."""
