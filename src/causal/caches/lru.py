"""A cache inside one process: the least recently used entries go when it is full. No bytes, no server, no waiting.

Owns the order of entries and the same compare-and-set that `valkey.py` asks a server for. Judges nothing.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from causal.caches.entry import Entry, join, outdates, replaces
from causal.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping


class LRUBackend:
    """Entries of one process, at most `max_entries`, for `CausalCache` and `AsyncCausalCache`.

    Several caches may share one, of stores whose `monotonic` is the same clock. A forked child begins with none.
    Raises: ConfigError. Thread-safety: all methods, from any thread.
    """

    local: bool = True
    down: bool = False

    def __init__(self, max_entries: int = 10_000) -> None:
        number: object = max_entries  # of whatever kind
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ConfigError(f"max_entries is a whole number of at least 1, not {max_entries!r}")
        self.max_entries = max_entries
        self._forked()
        _all.add(self)

    def _forked(self) -> None:
        # In a child, another thread may have left the lock taken and the order half changed.
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> Entry | None:
        """Return what is held under a key: an entry, a tombstone, or None."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                self._entries.move_to_end(key)
            return entry

    def put(self, key: str, entry: Entry, life_s: float = 0.0) -> bool:
        """Hold an entry, unless what is held under its key knows more; return whether it is held now."""
        with self._lock:
            current = self._entries.get(key)
            if current is not None and not replaces(entry.wm, current.wm):
                return False
            self._hold(key, entry)
            return True

    def invalidate(self, key: str, positions: Mapping[int, int], tombstone: Entry, life_s: float = 0.0) -> bool:
        """Leave a tombstone, unless what is held knows of these positions; return whether one was left."""
        with self._lock:
            current = self._entries.get(key)
            if current is not None and not outdates(positions, current.wm):
                return False
            wm = dict(positions) if current is None else join(current.wm, positions)
            self._hold(key, Entry(wm, tombstone.good_until_ms, tombstone.seen, None, tombstone.fresh_until))
            return True

    def discard(self, key: str, entry: Entry) -> None:
        """Remove exactly this entry, if it is still there."""
        with self._lock:
            if self._entries.get(key) is entry:
                del self._entries[key]

    def delete(self, key: str) -> bool:
        """Remove whatever is held under a key; return whether that was done."""
        with self._lock:
            self._entries.pop(key, None)
            return True

    def lease(self, key: str, for_s: float, saw: Entry | None) -> Entry | bool:
        """Return what is there, if that is not what the caller saw; else True: there are no other processes to keep from loading."""
        current = self.get(key)
        return True if current is None or current is saw else current

    def watch(self, key: str) -> tuple[Entry | None, bool]:
        """Return what is held under a key."""
        return self.get(key), False

    def release(self, key: str) -> None:
        """Do nothing: see `lease`."""

    def clear(self) -> None:
        """Remove everything."""
        with self._lock:
            self._entries.clear()

    def _hold(self, key: str, entry: Entry) -> None:
        self._entries[key] = entry
        self._entries.move_to_end(key)
        if len(self._entries) > self.max_entries:
            self._entries.popitem(last=False)


_all: Final[WeakSet[LRUBackend]] = WeakSet()


def _after_fork() -> None:
    for backend in list(_all):
        backend._forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
