"""The embedded store against the same statements by hand, on the same disk, at the same durability, in the same run.

The floor of a read is what I4 costs without a library: BEGIN, the watermark, the value, COMMIT. The floor of a write is the same rows
and the same COMMIT.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cbor2

from benches.measure import Case, against_floor
from causal import CausalStore, Keyring, Recorder
from causal.core.frontier import Frontier
from causal.stores.sqlite import SQLiteEngine

KEYS = 1000
READING = "BEGIN, watermark, value, COMMIT by hand"
UNRECORDED = "the same gated block, not recorded"
WRITING = "the same INSERTs and COMMIT by hand, synchronous = FULL"

GET = "SELECT value FROM data WHERE key = ?"
MARKS = 'SELECT origin, applied, "end" FROM watermark'


def cases() -> Iterator[Case]:
    with tempfile.TemporaryDirectory(dir=".") as path:  # the project's own disk: /tmp is often memory
        yield from _cases(Path(path))


def _cases(path: Path) -> Iterator[Case]:
    engines = {site: SQLiteEngine(path / "data", site=site, replicate="manual") for site in ("eu", "us")}
    with (
        CausalStore(engines["eu"], keyring=Keyring.generate(), audience="bench") as store,
        CausalStore(engines["us"], keyring=Keyring.generate(), audience="bench"),
    ):
        session = store.session(subject="alice")
        with session.write() as tx:
            for n in range(KEYS):
                tx.put(f"key/{n}", {"n": n, "text": "x" * 20})
        link = engines["eu"].open()
        hand = sqlite3.connect(path / "data" / "eu.sqlite", isolation_level=None)
        hand.execute("PRAGMA synchronous = FULL")

        def by_hand() -> None:
            hand.execute("BEGIN")
            hand.execute(MARKS).fetchall()
            hand.execute(GET, ("key/7",)).fetchone()
            hand.execute("COMMIT")

        def by_handle() -> None:
            handle = link.read("eu", (0,))
            handle.connection.get("key/7")
            handle.seen()
            handle.close()

        def gated() -> None:
            with session.read() as db:
                db.get("key/7")

        yield against_floor("SQLite: read one key, bare handle", by_handle, by_hand, READING, None)
        yield against_floor("SQLite: read one key, gated block", gated, by_hand, READING, 2)

        twin = _twin(path / "twin.sqlite", hand)

        def put_by_hand() -> None:
            _put_by_hand(twin)

        def put_by_handle() -> None:
            handle = link.write("eu", 0, Frontier())
            handle.connection.put("key/7", {"n": 7, "text": "x" * 20})
            handle.commit(Frontier())

        def put_gated() -> None:
            with session.write() as tx:
                tx.put("key/7", {"n": 7, "text": "x" * 20})

        yield against_floor("SQLite: durable put, bare handle", put_by_handle, put_by_hand, WRITING, None)
        yield against_floor("SQLite: durable put, gated block", put_gated, put_by_hand, WRITING, 1.5)

        history = Recorder(path / "history.jsonl", max_bytes=2**30)
        recording = CausalStore(engines["eu"], keyring=Keyring.generate(), audience="bench", history=history)
        followed = recording.session(subject="alice")

        def read_recorded() -> None:
            with followed.read() as db:
                db.get("key/7")

        def put_recorded() -> None:
            with followed.write() as tx:
                tx.put("key/7", {"n": 7, "text": "x" * 20})

        yield against_floor("SQLite: read one key, recorded", read_recorded, gated, UNRECORDED, None)
        yield against_floor("SQLite: durable put, recorded", put_recorded, put_gated, UNRECORDED, None)
        recording.close()
        history.close()
        hand.close()
        twin.close()
        link.close()


def _twin(path: Path, original: sqlite3.Connection) -> sqlite3.Connection:
    """A file with the same tables and rows, that only the floor writes to."""
    twin = sqlite3.connect(path, isolation_level=None)
    original.backup(twin)
    twin.execute("PRAGMA journal_mode = WAL")
    twin.execute("PRAGMA synchronous = FULL")
    return twin


def _put_by_hand(db: sqlite3.Connection) -> None:
    db.execute("BEGIN IMMEDIATE")
    marks = db.execute("SELECT origin, applied, mine FROM watermark").fetchall()
    origin, offset = next((row[0], row[1] + 1) for row in marks if row[2])
    value = cbor2.dumps({"n": 7, "text": "x" * 20})
    stamp = time.time_ns()
    seen = origin.to_bytes(4) + offset.to_bytes(8)
    db.execute("REPLACE INTO data VALUES (?, ?, ?, ?)", ("key/7", value, stamp, seen))
    changes = cbor2.dumps({"key/7": value})
    db.execute("INSERT INTO log VALUES (?, ?, ?, ?, ?, ?)", (origin, offset, stamp, stamp, b"", changes))
    db.execute("UPDATE watermark SET applied = ?, stamp = ? WHERE origin = ?", (offset, stamp, origin))
    db.execute("COMMIT")
