"""Recorder: where the history of a store's sessions goes, as lines of JSON: a file or a function.

Owns what is kept (sampling, digests, bounds) and the one thread that writes. Knows nothing of blocks or frontiers: `trail.py` makes
the lines of a session. Whoever reads or writes through the store pays for an append to a queue; what does not fit, or cannot be
written, is counted and dropped, and never an error of theirs.

HAZARD: the file says who did what, and when. Subjects and tokens are written as digests under a key, values not at all, but names of
keys as they are, unless asked otherwise. A digest hides a name from who lacks the key, and no pattern of use from anybody.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import secrets
import threading
import time
from base64 import urlsafe_b64encode
from collections import deque
from collections.abc import Callable
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from causal.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Line = dict[str, Any]

log: Final = logging.getLogger("causal")

FORMAT: Final = 1
DIGEST_BYTES: Final = 12
_LINGER_S: Final = 0.05
"""How long the writer waits for company: a busy process writes many lines at once."""
_IDLE_S: Final = 1.0
_BATCH: Final = 1000


class Recorder:
    """Records the operations of a store's sessions: `CausalStore(engine, history=Recorder("history.jsonl", sample=0.01), ...)`.

    `target` is a file that lines are appended to (processes of one machine may share it), or a function that is called with each line, a
    dict, in the recorder's own thread or in one that flushes. `sample` is the share of subjects of whom everything is kept; without a
    subject each session is drawn for itself. A file of `max_bytes` grows no more; at most `max_pending` lines wait for the writer.
    `tokens`, `values` and `names` say whether the texts of tokens, values and names of keys are written themselves, and not digests (of
    a value: which write it is from). `key` keys the digests, in place of one that is derived from the store's primary key: files of
    processes that share it can be joined.

    Raises: ConfigError for a setting that cannot be right, or a file that cannot be opened.
    Thread-safety: safe from any thread and any event loop; after a fork, the child goes on as a source of its own.
    """

    def __init__(
        self,
        target: str | os.PathLike[str] | Callable[[Line], object],
        *,
        sample: float = 1.0,
        max_bytes: int = 256 * 2**20,
        max_pending: int = 100_000,
        tokens: bool = False,
        values: bool = False,
        names: bool = True,
        key: bytes | None = None,
    ) -> None:
        if not callable(target) and not isinstance(target, str | os.PathLike):
            raise ConfigError(f"history is a Recorder, a path or a function, not a {type(target).__name__}")
        if type(sample) not in {int, float} or not 0 <= sample <= 1:
            raise ConfigError(f"sample is a share in 0..1, not {sample!r}")
        for name, number in (("max_bytes", max_bytes), ("max_pending", max_pending)):
            if type(number) is not int or number < 1:
                raise ConfigError(f"{name} is a positive number, not {number!r}")
        if key is not None and (type(key) is not bytes or not 16 <= len(key) <= 64):
            raise ConfigError("key is 16 to 64 bytes")
        self.sample, self.max_bytes, self.max_pending = float(sample), max_bytes, max_pending
        self.tokens, self.values, self.names, self.key = tokens, values, names, key
        self.call: Callable[[Line], object] | None = target if callable(target) else None
        self.path: str | None = None if callable(target) else os.fspath(target)
        self._facts: list[Line] = []
        self._fd: int | None = None
        self._begin()
        if self.path is not None:
            try:
                self._open(self.path)
            except OSError as error:
                raise ConfigError(f"{self.path}: a history cannot be written there: {error.strerror}") from error
        _recorders.add(self)

    def _begin(self) -> None:
        """Begin as a new source, with nothing pending."""
        self.lock = threading.Lock()
        self.source = secrets.token_hex(4)
        self.names_given = self.sessions = self.skipped = self.unnamed = self.dropped = self.failed = 0
        self.ends: set[tuple[int, int]] = set()
        self._pending: deque[Line] = deque()
        self._writing = threading.RLock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._full = self._torn = self._warned = False
        self._said: Line | None = None
        self._head = True

    # --- what is kept ----------------------------------------------------------------------------------------------

    def keeps(self, digest: str | None) -> bool:
        """Return whether a session is recorded: of one subject always the same, wherever `sample` and the key are shared."""
        drawn = secrets.token_bytes(8) if digest is None else blake2b(digest.encode(), digest_size=8).digest()
        kept = int.from_bytes(drawn) < self.sample * 2**64
        with self.lock:
            if kept:
                self.sessions += 1
            else:
                self.skipped += 1
        return kept

    def name_one(self) -> str:
        """Return a name that no other session has, here or elsewhere."""
        with self.lock:
            self.names_given += 1
            return f"{self.source}-{self.names_given:x}"

    def attach(self, facts: Mapping[str, Any]) -> None:
        """Note what a store promises: a history is judged by it."""
        if (line := dict(facts)) not in self._facts:
            with self.lock:
                self._facts.append(line)
                self._head = True

    def ended(self, ends: Iterable[tuple[int, int, int]]) -> None:
        """Record where origins ended, (shard, origin, offset), once each."""
        for shard, origin, offset in ends:
            with self.lock:
                if (shard, origin) in self.ends:
                    continue
                self.ends.add((shard, origin))
                self.put([{"op": "end", "shard": shard, "origin": origin, "offset": offset}])

    def unseen(self, blocks: int = 1) -> None:
        """Count blocks whose engine cannot name the versions that it showed."""
        with self.lock:
            self.unnamed += blocks

    def unrecorded(self, error: Exception) -> None:
        """Count what could not be recorded, by a mistake that is not of who is recorded."""
        self._missed(failed=1)
        self._warn(f"a block could not be recorded: {type(error).__name__}")

    def put(self, lines: list[Line]) -> None:
        """Queue lines, in this order; whoever calls holds `lock`. Never blocks, never raises."""
        if len(self._pending) + len(lines) > self.max_pending:
            self.dropped += len(lines)
            return
        self._pending.extend(lines)
        if self._thread is None:
            try:
                self._thread = threading.Thread(target=self._run, name="causal history", daemon=True)
                self._thread.start()
            except RuntimeError:  # no more threads, or the interpreter is ending: whoever flushes writes
                self._thread = None
        elif not self._wake.is_set():
            self._wake.set()

    # --- the writer ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        self._wake.set()
        while True:
            if self._wake.wait(_IDLE_S):
                self._wake.clear()
                time.sleep(_LINGER_S)
                self._drain()
                continue
            with self.lock:
                if not self._pending:
                    self._thread = None
                    return

    def flush(self) -> None:
        """Write what is pending, and how much was dropped. Waits for the file or the function, and raises nothing."""
        self._drain(account=True)

    def close(self) -> None:
        """Flush, and close the file. Idempotent; what comes later opens it again."""
        with self._writing:
            self._drained(account=True)
            fd, self._fd = self._fd, None
            if fd is not None:
                os.close(fd)

    def _drain(self, *, account: bool = False) -> None:
        with self._writing:
            self._drained(account=account)

    def _drained(self, *, account: bool) -> None:
        while True:
            with self.lock:
                head, self._head = self._head and bool(self._pending), self._head and not self._pending
                batch = [self._pending.popleft() for _ in range(min(len(self._pending), _BATCH))]
            if not batch:
                break
            if head:
                begins = {
                    "op": "meta",
                    "format": FORMAT,
                    "source": self.source,
                    "sample": self.sample,
                    "values": self.values,
                }
                batch[:0] = [begins, *({"op": "meta", "source": self.source, **facts} for facts in self._facts)]
            self._deliver(batch)
        if account:
            self._account()

    def _account(self) -> None:
        """Say what is missing, if that has changed."""
        counts = {
            "sessions": self.sessions,
            "skipped": self.skipped,
            "unnamed": self.unnamed,
            "dropped": self.dropped,
            "failed": self.failed,
        }
        if counts != self._said and any(counts.values()):
            self._said = counts
            self._deliver([{"op": "meta", "source": self.source, **counts}], beyond=True)

    def _deliver(self, batch: list[Line], *, beyond: bool = False) -> None:
        if self.call is None:
            self._append([text for line in batch if (text := self._encoded(line))], beyond=beyond)
            return
        for line in batch:
            try:
                self.call(line)
            except Exception as error:  # noqa: BLE001 - a listener's mistake is not the user's who is recorded
                self._missed(failed=1)
                self._warn(f"the history function raised {type(error).__name__}")

    def _encoded(self, line: Line) -> bytes:
        """Return a line's text: none, and counted, where an engine named what JSON has no word for."""
        try:
            return _text(line)
        except (TypeError, ValueError) as error:
            self.unrecorded(error)
            return b""

    def _append(self, texts: list[bytes], *, beyond: bool) -> None:
        assert self.path is not None
        try:
            fd = self._fd if self._fd is not None else self._open(self.path)
            if not beyond:
                texts = self._fitting(fd, texts)
            data = b"\n" * self._torn + b"".join(texts)
            while texts and data:
                written = os.write(fd, data)
                self._torn = written < len(data)
                data = data[written:]
        except OSError as error:
            self._missed(dropped=len(texts))
            self._warn(f"{self.path}: a history cannot be written: {error.strerror}")

    def _fitting(self, fd: int, texts: list[bytes]) -> list[bytes]:
        """Return the first lines, as many as the file has room for; from the first on that it has not, none."""
        room, fit = self.max_bytes - os.fstat(fd).st_size, 0
        while fit < len(texts) and not self._full:
            room -= len(texts[fit])
            if room < 0:
                self._full = True
            else:
                fit += 1
        if fit < len(texts):
            self._missed(dropped=len(texts) - fit)
            if not self._warned:
                self._warn(f"{self.path}: the history has its {self.max_bytes} bytes, and grows no more")
                said = _text(
                    {"op": "meta", "source": self.source, "dropped": self.dropped}
                )  # should this process not end well
                return [*texts[:fit], said]
        return texts[:fit]

    def _open(self, path: str) -> int:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0), 0o600)
        return self._fd

    def _missed(self, *, dropped: int = 0, failed: int = 0) -> None:
        with self.lock:
            self.dropped += dropped
            self.failed += failed

    def _warn(self, said: str) -> None:
        if not self._warned:
            self._warned = True
            log.warning("%s; said once, counted from now on", said)

    def _forked(self) -> None:
        """In a forked child: what is pending is the parent's to write, and its locks may be held for ever."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)
        self._begin()

    def __repr__(self) -> str:
        return f"Recorder({self.path or self.call!r}, sample={self.sample:g})"


def recorder_of(history: Any) -> Recorder | None:
    """Return the recorder that a store's setting asks for. Raises: ConfigError."""
    return history if history is None or isinstance(history, Recorder) else Recorder(history)


def digest(key: bytes, text: str) -> str:
    """Return a short name for a text, the same wherever the key is, that says nothing about it to who lacks the key."""
    return urlsafe_b64encode(blake2b(text.encode(), key=key, digest_size=DIGEST_BYTES).digest()).decode()


def _text(line: Line) -> bytes:
    return json.dumps(line, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode(errors="replace") + b"\n"


_recorders: Final[WeakSet[Recorder]] = WeakSet()


def _after_fork() -> None:
    for recorder in list(_recorders):
        recorder._forked()


def _at_exit() -> None:
    for recorder in list(_recorders):
        recorder.flush()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
