"""Feeding an index from the embedded store: from the file of this process's site.

A step takes one snapshot of the site's files (of several shards, of one moment, so that no effect is shown without its cause), finds
which keys have changed since the checkpoint, and derives their documents from the rows of that very snapshot: so what concurrent writes
came to is never decided here. The keys are in the log; where that was collected, every row says which write it is of.

HAZARD: a site that this process cannot reach, or whose files went back to an older state under the same origins, feeds nothing: the
index falls behind, and says so.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Final

from causal.derived.feeds.rows import EmbeddedView, changed_keys, decoded, has, places_of
from causal.errors import ConfigError, StoreError
from causal.stores.sqlite.blocks.reading import Reader
from causal.stores.sqlite.engine import SQLiteEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from causal.derived.contract import Document, Row
    from causal.derived.fts.file import Generation, IndexFile
    from causal.stores.sqlite.blocks.reading import ReadTransaction
    from causal.stores.sqlite.link import SQLiteLink

_log = logging.getLogger("causal")

_CHUNK: Final = 500
_TRIES: Final = 8


class EmbeddedFeed:
    """Feeds a `SearchIndex` from a `SQLiteEngine`, from the file of the engine's own site.

    `document(key, value)` returns what is derived of a row: a dict, or None for a row that the index is not to have. It is called
    again for the same row whenever that helps, in any thread, and must return the same. Thread-safety: immutable.
    """

    def __init__(self, document: Callable[[str, Any], Document | None]) -> None:
        if not callable(document):
            raise ConfigError(f"document is a function of a key and a value, not a {type(document).__name__}")
        self.document = document

    def open(self, file: IndexFile, source: Any, shards: Mapping[str, int], store: int) -> EmbeddedFeeding:
        """Open what feeds a file. Raises: ConfigError for another kind of source, StoreError."""
        if not isinstance(source, SQLiteEngine):
            raise ConfigError(f"EmbeddedFeed feeds from a SQLiteEngine, not from a {type(source).__name__}")
        link = source.open(store)
        return EmbeddedFeeding(file, link, source.site, [store << 16 | i for i in shards.values()], self.document)

    def view(self, connection: Any, index: int) -> EmbeddedView:
        """Return what a read block of the source says of its shard. Raises: ConfigError for a connection of another store."""
        if not isinstance(connection, Reader):
            raise ConfigError(f"not a connection of the embedded store: {type(connection).__name__}")
        return EmbeddedView(connection, self.document)


class EmbeddedFeeding:
    """One process's hold on a site and an index, to feed the one from the other. Thread-safety: one thread at a time, but for `wake`."""

    def __init__(
        self,
        file: IndexFile,
        link: SQLiteLink,
        site: str,
        shards: list[int],
        document: Callable[[str, Any], Document | None],
    ) -> None:
        self._file, self._link, self._site, self._shards, self._document = file, link, site, shards, document
        self._news = threading.Event()
        self._directory = getattr(link, "directory", None)  # who only observes is not told of commits
        if self._directory is not None:
            self._directory.wakes.add(self._news)
        self._behind = False

    def step(self) -> int:
        """Take in what the site has more of; build the index where there is none, or none of this history."""
        with self._file.fed_by_me(wait=False) as mine:
            if not mine:
                return 0
            generation = self._file.generation()
            try:
                done = None if generation is None else self._follow(generation)
            except StoreError:
                now = self._file.generation()
                if generation is None or now is None or now.number == generation.number:
                    raise
                return 0  # it was replaced meanwhile, and is gone
        if done is None:
            self._rebuild(0 if generation is None else generation.number)
            return 1
        return done

    def rebuild(self) -> None:
        """Derive everything anew from a snapshot of the site, then follow until that lacks nothing that the current one has."""
        self._rebuild(None)

    def _rebuild(self, instead_of: int | None) -> None:
        """Rebuild: whatever is there, or only if it is this generation (0: none) still."""
        with self._file.fed_by_me("builder"):
            if instead_of is not None and (now := self._file.generation()) is not None and now.number != instead_of:
                return  # another process was faster
            self._file.sweep()
            generation = self._file.begin()
            self._build(generation)
            for _ in range(_TRIES):
                if self._file.publish(generation.number):
                    break
                self._catch_up(generation.number)
            else:
                with self._file.fed_by_me():  # whoever feeds the current one now waits
                    self._catch_up(generation.number)
                    if not self._file.publish(generation.number):
                        raise StoreError(
                            f"{self._site} lacks what {self._file.path} has: it cannot be rebuilt from there"
                        )
            self._file.sweep()

    def wait(self, timeout_s: float) -> None:
        """Return when this process has committed something, at the latest after a time."""
        self._news.wait(timeout_s)
        self._news.clear()

    def wake(self) -> None:
        """Let `wait` return. From any thread."""
        self._news.set()

    def close(self) -> None:
        """Let go of the site and the index. Idempotent."""
        if self._directory is not None:
            self._directory.wakes.discard(self._news)
        self._link.close()
        self._file.close()

    # --- how ---------------------------------------------------------------------------------------------------------

    @contextmanager
    def _moment(self) -> Iterator[list[ReadTransaction]]:
        """Hold snapshots of all shards, of one moment. Raises: Unreachable while the site is out of reach or rebuilt, StoreError."""
        handle: Any = self._link.read(self._site, self._shards)
        try:
            yield getattr(handle, "_parts", None) or [handle]
        except sqlite3.Error as error:
            raise StoreError(f"{self._site} cannot be read to feed {self._file.path}: {error}") from error
        finally:
            handle.close()

    def _catch_up(self, number: int) -> None:
        generation = self._file.generation(number)
        assert generation is not None
        if self._follow(generation) is None:
            raise StoreError(f"{self._site} was replaced while {self._file.path} was rebuilt from it: do it again")

    def _build(self, generation: Generation) -> None:
        with self._moment() as parts:
            for part in parts:
                with closing(_db(part).cursor()) as rows:
                    rows.execute("SELECT key, value FROM data WHERE value IS NOT NULL")
                    while some := rows.fetchmany(_CHUNK):
                        made = [(part._file.index, key, decoded(self._document, key, value)) for key, value in some]
                        self._file.fill(generation, made)
            places, deps = places_of(parts)
            note = {"cluster": _cluster(parts)}
        if not self._file.apply(generation, (), places, deps, note):
            raise StoreError(f"{self._file.path}: another process builds a generation of the same number")

    def _follow(self, generation: Generation) -> int | None:
        """Take one step with a generation; None where it is of another history."""
        with self._moment() as parts:
            places, deps = places_of(parts)
            if generation.note.get("cluster") != _cluster(parts) or generation.places.keys() != places.keys():
                return None
            lacks = False
            for part in parts:
                leads = part.watermarks[part._file.shard].leads
                for origin, mine in generation.places[part._file.index].items():
                    place = places[part._file.index].get(origin)
                    if place is None:
                        lacks = True  # somebody has joined, and the site has not heard of it yet: the index was fed elsewhere
                    elif mine.applied > place.applied and (place.end is not None or origin in leads):
                        return None  # a history that was lost
                    elif mine.applied > place.applied:
                        lacks = True
            self._told(lacks=lacks)
            if lacks or places == generation.places:
                return 0
            rows = list(self._changed(generation, parts))
        self._file.apply(generation, rows, places, deps)
        return max(1, len(rows))

    def _changed(self, generation: Generation, parts: list[ReadTransaction]) -> Iterator[Row]:
        for part in parts:
            index, db = part._file.index, _db(part)
            since = {origin: place.applied for origin, place in generation.places[index].items()}
            changed, gone = changed_keys(db, since, None)
            keys = dict.fromkeys(changed)
            if gone:  # tombstones may have been collected, too: whatever the index has, and the site has not
                keys.update(dict.fromkeys(k for k in self._file.keys(generation.number, index) if not has(db, k)))
            for key in keys:
                row = db.execute("SELECT value FROM data WHERE key = ?", (key,)).fetchone()
                yield index, key, None if row is None else decoded(self._document, key, row[0])

    def _told(self, *, lacks: bool) -> None:
        if lacks and not self._behind:
            _log.warning(
                "%s lacks what %s has: it is fed again once the site has caught up", self._site, self._file.path
            )
        self._behind = lacks


def _db(part: ReadTransaction) -> sqlite3.Connection:
    assert part._cursor is not None
    return part._cursor.connection


def _cluster(parts: list[ReadTransaction]) -> str:
    return str(parts[0]._file.identity[0])
