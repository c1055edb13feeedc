"""Replication of a site: everything it can reach, over all its shards, until nothing moves.

Owns one round of replication and the thread that repeats it. Of all processes that have a site open, one at a time replicates it:
who holds a lock that dies with its process. Correctness does not rest on that (`apply.py`), only thrift.
"""

from __future__ import annotations

import logging
import threading
from functools import partial
from time import time_ns
from typing import TYPE_CHECKING, Final

from causal.errors import CausalError, StoreError
from causal.stores.sqlite.files.directory import CUT, PAUSED
from causal.stores.sqlite.files.locks import try_flock
from causal.stores.sqlite.replication.apply import Coverage, Pulled, pull

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from causal.controls import Lag
    from causal.stores.sqlite.files.directory import Directory
    from causal.stores.sqlite.files.shard import ShardFile

_log = logging.getLogger("causal")

_POLL_MIN_S: Final = 0.002
_POLL_IDLE_S: Final = 0.01
_POLL_MAX_S: Final = 0.05
_TAKE_OVER_S: Final = 0.1


def replicate(
    directory: Directory,
    site: str,
    *,
    lag: Lag | None = None,
    wall: Callable[[], int] = time_ns,
    leaver: str | None = None,
    pausable: bool = False,
) -> Pulled:
    """Apply at a site all that its peers have, in order and after its causes; what is due now, by `wall`, if there is a `lag`.

    `pausable`: nothing is applied that was committed after the site was paused.
    `leaver` is a site that is no member any more, whose files can still be read.
    Raises: StoreError for the site's own files, when all else is done; what is wrong with a peer's is logged.
    """
    total = Pulled()
    if directory.is_up(site, CUT):
        return total
    files = directory.files(site)
    coverage = Coverage(directory.members().store or 0)
    for file in files:
        coverage.learn(file.shard, file.rows())

    def stopped(peer: str) -> bool:
        return not directory.reachable(site, peer) or (pausable and directory.is_up(site, PAUSED))

    failed: dict[ShardFile, StoreError] = {}
    while True:
        last = Pulled()
        for peer in [*directory.peers(site), *([leaver] if leaver else [])]:
            for source, file in _pairs(directory, peer, files):
                if file not in failed:
                    due_ns = None if lag is None or lag.median_s == 0 else _due(lag, site, file.shard)
                    try:
                        done = pull(file, source, coverage, due_ns, wall, partial(stopped, peer))
                    except StoreError as error:
                        failed[file] = error
                        continue
                    last.add(done)
                    what = f"replication from {peer} to {site} goes on without {source.path.name}"
                    if done.failed is not None:
                        directory.complain(what, done.failed)
                    else:
                        directory.content(what)
        total.applied += last.applied
        if not last.applied:
            for failure in failed.values():
                raise failure
            total.due_ns, total.gaps, total.forgotten = last.due_ns, last.gaps - last.offered, last.forgotten
            return total


def _pairs(directory: Directory, peer: str, files: Sequence[ShardFile]) -> list[tuple[ShardFile, ShardFile]]:
    """Return a peer's files, each with the site's own of the same shard."""
    try:
        theirs = {file.index: file for file in directory.files(peer)}
    except StoreError:  # since `peers` has looked; it will say so
        return []
    return [(theirs[file.index], file) for file in files if file.index in theirs]


def _due(lag: Lag, site: str, shard: int) -> Callable[[int, int, int], int]:
    if lag.sigma == 0:
        delay_ns = int(lag.median_s * 1e9)
        return lambda _origin, _offset, committed_ns: committed_ns + delay_ns
    return lambda origin, offset, committed_ns: committed_ns + int(lag.delay_s(site, shard, origin, offset) * 1e9)


class Replicator:
    """The thread that keeps a site up to date while its link is open. Raises: StoreError if its lock cannot be opened.

    `step()` does one round and returns when the next entry is due, in nanoseconds, or None. Thread-safety: safe.
    """

    def __init__(
        self, directory: Directory, site: str, step: Callable[[], Pulled], wall: Callable[[], int], lag: Lag
    ) -> None:
        self._directory, self._site, self._step, self._wall = directory, site, step, wall
        # Another process's commit is noticed by looking; that must not add much to the lag.
        self._poll_max_s = min(_POLL_MAX_S, max(_POLL_IDLE_S, lag.median_s / 2))
        self._wake = threading.Event()
        self._stopped = False
        self._fd = directory.locks.open_lock(f"{site}.replicator")
        self._thread = threading.Thread(target=self._run, name=f"causal-replicator-{site}", daemon=True)
        directory.wakes.add(self._wake)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; returns when it has ended. Idempotent."""
        self._stopped = True
        self._wake.set()
        if self._thread is not threading.current_thread():
            self._thread.join()
        self._directory.wakes.discard(self._wake)

    def _run(self) -> None:
        try:
            while not self._stopped:
                if try_flock(self._fd):
                    self._replicate()
                else:
                    self._wake.wait(_TAKE_OVER_S)
                    self._wake.clear()
        finally:
            self._directory.locks.close_lock(self._fd)

    def _replicate(self) -> None:
        pause_s, what = _POLL_MIN_S, f"replication at {self._site} failed and goes on"
        while not self._stopped:
            self._wake.clear()
            try:
                done = self._step()
                self._directory.content(what)
            except CausalError as error:
                self._directory.complain(what, error)
                done = Pulled()
            except Exception:  # noqa: BLE001 - a thread that dies unseen would stop replication for good
                _log.exception("replication at %s met a bug and goes on", self._site)
                done = Pulled()
            pause_s = _POLL_MIN_S if done.applied else min(pause_s * 1.5, self._poll_max_s)
            wait_s = pause_s
            if done.due_ns is not None:
                wait_s = min(wait_s, max((done.due_ns - self._wall()) / 1e9, 0.0002))
            self._wake.wait(wait_s)
