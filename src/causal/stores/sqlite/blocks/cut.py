"""A read of several shards: snapshots of several files that belong to one moment.

Owns how the moment is found. One snapshot after another is opened, then all but the last are looked at again: if none has moved
meanwhile, all are as they were when the last was opened. If that fails a few times, the write locks are held for as long as it takes
to open the snapshots. At every moment a site holds the causes of all that it holds (`apply.py`), so one block never shows an effect
without its cause.
"""

from __future__ import annotations

from contextlib import ExitStack
from heapq import merge
from typing import TYPE_CHECKING, Any, Final

from causal.core.frontier import Frontier
from causal.stores.sqlite.blocks.reading import Reader, ReadTransaction

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from causal.core.watermark import Watermark
    from causal.engine import KeyVersion
    from causal.stores.sqlite.files.shard import ShardFile

_TRIES: Final = 3
_ABSENT: Final = object()


class CutReader(Reader):
    """What a block over several shards reads through: the first shard that has a key answers.

    Thread-safety: one thread at a time.
    """

    __slots__ = ("_parts",)

    def __init__(self, parts: Sequence[Reader]) -> None:  # its parts have all that a reader has
        self._parts = parts

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, or `default` where there is none. Raises: ConfigError, StoreError."""
        for part in self._parts:
            value = part.get(key, _ABSENT)
            if value is not _ABSENT:
                return value
        return default

    def scan(self, prefix: str = "") -> Iterator[tuple[str, Any]]:
        """Iterate over keys that start with `prefix`, with their values, in the order of the keys. Raises: ConfigError, StoreError."""
        scans = [((key, nth, value) for key, value in part.scan(prefix)) for nth, part in enumerate(self._parts)]
        return _first(merge(*scans, key=lambda row: row[:2]))


def _first(rows: Iterator[tuple[str, int, Any]]) -> Iterator[tuple[str, Any]]:
    last = None
    for key, _, value in rows:
        if key != last:
            yield key, value
        last = key


class CutTransaction:
    """Snapshots of several shards at one moment: the read handle of the contract. Thread-safety: one thread at a time."""

    __slots__ = ("_parts", "connection", "watermarks")

    connection: Reader
    watermarks: Mapping[int, Watermark]

    def __init__(self, files: Sequence[ShardFile]) -> None:
        self._parts = _one_moment(files)
        self.connection = CutReader([part.connection for part in self._parts])
        self.watermarks = {shard: mark for part in self._parts for shard, mark in part.watermarks.items()}

    def seen(self) -> Frontier:
        """Return the positions and stored dependencies of every version shown so far, tombstones included."""
        seen = Frontier()
        for part in self._parts:
            seen |= part.seen()
        return seen

    def trace(self, tell: Callable[[KeyVersion], object]) -> None:
        """Tell of each version that is shown from now on."""
        for part in self._parts:
            part.trace(tell)
        self.connection = CutReader([part.connection for part in self._parts])

    def close(self) -> None:
        """End the snapshots. Idempotent; never raises."""
        for part in self._parts:
            part.close()


def _one_moment(files: Sequence[ShardFile]) -> list[ReadTransaction]:
    for _ in range(_TRIES):
        parts = _open_all(files)
        if parts_stand_still(files, parts):
            return parts
        for part in parts:
            part.close()
    with ExitStack() as locks:
        for file in sorted(files, key=lambda file: file.index):
            connection = file.begin_write()
            locks.callback(file.end_write, connection)
        return _open_all(files)


def parts_stand_still(files: Sequence[ShardFile], parts: Sequence[ReadTransaction]) -> bool:
    """Return whether all snapshots are as their files are now, but for the last, which was opened last."""
    return all(file.now() == part.watermarks for file, part in zip(files[:-1], parts, strict=False))


def _open_all(files: Sequence[ShardFile]) -> list[ReadTransaction]:
    parts: list[ReadTransaction] = []
    try:
        for file in files:
            parts.append(ReadTransaction(file))  # noqa: PERF401 - what was opened is closed if the next fails
    except BaseException:
        for part in parts:
            part.close()
        raise
    return parts
