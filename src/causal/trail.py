"""The trail of one session: its operations in the order in which they were answered, as lines of a history.

Owns the numbering and the words of the format. Knows nothing of blocks, links or files.

A line's session is `WHO.REQUEST`: a digest of the subject (`-`: none), and a name of this session object alone. Which requests one session
was made of is not claimed here: the lines say which tokens each was given and which it gave out, and `causal.lab.joining` finds that
out from all processes' files. Two requests with one subject and no token between them were never promised to see each other's writes.

Operations are numbered as they are answered, those of a block all at its end: that is when the session learns of them. What had been
answered before a block began, everything up to `after`, is then exactly what the block could know.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from causal.core.position import LeaderMark
from causal.kv import decode_value
from causal.recorder import digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from causal.core.keyring import Keyring
    from causal.core.position import Loss
    from causal.engine import KeyVersion
    from causal.recorder import Line, Recorder

MAX_TEXT: int = 256
"""A value that is a longer text is written as a digest even where values are asked for."""

MAX_TOKENS: int = 64
"""Of a session that goes on joining tokens, every line would repeat them all: these many are named, those it began with first."""


class Trail:
    """What is recorded of one session object. Thread-safety: safe from any thread."""

    __slots__ = ("_issued", "_key", "_presented", "_seq", "_who", "name", "recorder", "source")

    def __init__(self, recorder: Recorder, key: bytes, who: str) -> None:
        self.recorder = recorder
        self._key = key
        self._who = who
        self._presented: tuple[str, ...] = ()
        self._begin()

    def _begin(self) -> None:
        self.source = self.recorder.source
        self.name = f"{self._who}.{self.recorder.name_one()}"
        self._seq = 0
        self._issued: tuple[int, str] | None = None

    @classmethod
    def begin(cls, recorder: Recorder, keyring: Keyring, subject: str | None) -> Trail | None:
        """Return the trail of a new session, or None if it is not in the sample."""
        key = recorder.key or keyring.pseudonym_key()
        who = None if subject is None else digest(key, f"subject {subject}")
        return cls(recorder, key, who or "-") if recorder.keeps(who) else None

    # --- tokens ----------------------------------------------------------------------------------------------------

    def presented(self, texts: Iterable[str]) -> None:
        """Note tokens that were opened and joined."""
        if len(self._presented) < MAX_TOKENS:
            new = (one for one in map(self._token, texts) if one not in self._presented)
            self._presented = (*self._presented, *new)[:MAX_TOKENS]

    def issued(self, text: str | None, at: float) -> None:
        """Record that a token was given out, after everything that has been answered so far."""
        if text is None:
            return
        token = self._token(text)
        with self.recorder.lock:
            if self._issued != (self._seq, token) and self.source == self.recorder.source:
                self._issued = self._seq, token
                line = {"op": "meta", "session": self.name, "seq": self._seq, "token_out": token, "at": round(at, 6)}
                self.recorder.put([line | self._given])

    def _token(self, text: str) -> str:
        return text if self.recorder.tokens else digest(self._key, f"token {text}")

    @property
    def _given(self) -> Line:
        return {"token_in": " ".join(self._presented)} if self._presented else {}

    # --- blocks ----------------------------------------------------------------------------------------------------

    def start(self) -> tuple[str, int]:
        """Return the place where a block begins: up to which number everything had been answered, as which source."""
        if self.source != self.recorder.source:
            self._begin()  # in a forked child: two processes must not go on with one numbering
        return self.source, self._seq

    def answered(
        self,
        started: tuple[str, int],
        shared: Mapping[str, Any],
        reads: Iterable[KeyVersion] = (),
        writes: Iterable[KeyVersion] = (),
        *,
        ok: bool | None = True,
        known: int | None = None,
    ) -> None:
        """Record a block that began at `started`; its writes depend on what had been answered up to `known`, and on its reads."""
        source, after = started
        lines = [self._line("read", version, shared, True) for version in reads]
        first_write = len(lines)
        lines += [self._line("write", version, shared, ok) for version in writes]
        with self.recorder.lock:
            if source != self.recorder.source:
                return  # forked underway
            first = self._seq + 1
            for nth, line in enumerate(lines):
                line["seq"] = first + nth
                floor = known if nth >= first_write and known is not None else after
                if floor != first - 1:  # others were answered meanwhile
                    line["after"] = floor
            self._seq += len(lines)
            self.recorder.put(lines)

    def refused(self, started: tuple[str, int], kind: str, shard: int, shared: Mapping[str, Any]) -> None:
        """Record a block that was refused before it could name a key."""
        source, after = started
        with self.recorder.lock:
            if source == self.recorder.source:
                line = {
                    "op": kind,
                    "session": self.name,
                    "seq": self._seq + 1,
                    "key": "*",
                    "shard": shard,
                    "value": None,
                }
                self._seq += 1
                if after != self._seq - 1:
                    line["after"] = after
                self.recorder.put([line | self._given | {**shared, "ok": False}])

    def _line(self, kind: str, shown: KeyVersion, shared: Mapping[str, Any], ok: bool | None) -> Line:
        key = shown.key if self.recorder.names else digest(self._key, f"key {shown.key}")
        version = shown.version if ok else None
        line: Line = {"op": kind, "session": self.name, "seq": 0, "key": key, "shard": shown.shard}
        line["value"] = None if shown.data is None else self._value(version, shown.data)
        if version is not None:
            line["version"] = list(version)
            if shown.stamp is not None:
                line["stamp"] = shown.stamp
        if kind == "write" and shown.data is None:
            line["delete"] = True
        line |= self._given
        line |= shared
        if ok is not True:
            line["ok"] = ok
        return line

    def _value(self, version: tuple[int, int] | None, data: bytes) -> Any:
        """Return what stands for a value: which write it is from says more than a digest of it, and less about it."""
        if self.recorder.values:
            try:
                value = decode_value(data)
            except Exception:  # noqa: BLE001 - another engine's encoding
                value = None
            if (isinstance(value, int) and abs(value) < 2**63) or (isinstance(value, float) and math.isfinite(value)):
                return value
            if isinstance(value, str) and len(value) <= MAX_TEXT:
                return value
        return f"{version[0]}@{version[1]}" if version is not None else digest(self._key, data.hex())

    # --- losses ----------------------------------------------------------------------------------------------------

    def told(self, lost: Sequence[Loss | LeaderMark], ends: Mapping[int, int]) -> None:
        """Record that the session was told of a loss, and where the histories that it is about have ended."""
        here = {(loss.position.shard, loss.position.origin) for loss in lost if not isinstance(loss, LeaderMark)}
        places = ((key >> 32, key & 0xFFFFFFFF, end) for key, end in ends.items())
        self.recorder.ended(place for place in places if place[:2] in here)
        self._losses("lost", lost)

    def forgot(self, lost: Iterable[Loss | LeaderMark]) -> None:
        """Record that the session accepted a loss."""
        self._losses("forget", lost)

    def _losses(self, op: str, lost: Iterable[Loss | LeaderMark]) -> None:
        with self.recorder.lock:
            for loss in lost:
                if isinstance(loss, LeaderMark) or self.source != self.recorder.source:
                    continue
                self._seq += 1
                p = loss.position
                place = {"shard": p.shard, "version": [p.origin, p.offset]}
                self.recorder.put([{"op": op, "session": self.name, "seq": self._seq, **place}])
