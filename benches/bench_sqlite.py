"""The embedded store against the same statements by hand, on the same disk, at the same durability, in the same run.

The floor of a read is what I4 costs without a library: BEGIN, the watermark, the value, COMMIT. The floor of a write is the same rows
and the same COMMIT. Medians of interleaved rounds: each round measures floor and library one after the other, and the ratio is the
median of the rounds' ratios.
"""

from __future__ import annotations

import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cbor2

from causal import CausalStore, Keyring
from causal.core.frontier import Frontier
from causal.stores.sqlite import SQLiteEngine

ROUNDS = 15
READS = 2000
WRITES = 60
KEYS = 1000

GET = "SELECT value FROM data WHERE key = ?"
MARKS = 'SELECT origin, applied, "end" FROM watermark'


def rows(rounds: int = ROUNDS) -> Iterator[dict[str, Any]]:
    """Measure; yields one object a row: name, value, floor, ratio, at_most, unit."""
    with tempfile.TemporaryDirectory(dir=".") as path:  # the project's own disk: /tmp is often memory
        yield from _measured(Path(path), rounds)


def _measured(path: Path, rounds: int) -> Iterator[dict[str, Any]]:
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

        yield _row("read one key, bare handle", by_handle, by_hand, READS, rounds, 2.0)
        yield _row("read one key, gated block", gated, by_hand, READS, rounds, 2.0)

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

        yield _row("durable put, bare handle", put_by_handle, put_by_hand, WRITES, rounds, 1.5)
        yield _row("durable put, gated block", put_gated, put_by_hand, WRITES, rounds, 1.5)
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


def _row(
    name: str, ours: Callable[[], None], floor: Callable[[], None], times: int, rounds: int, at_most: float
) -> dict[str, Any]:
    mine, theirs = [], []
    ours()
    floor()
    for n in range(rounds):
        for subject, results in ((ours, mine), (floor, theirs)) if n % 2 else ((floor, theirs), (ours, mine)):
            began = time.perf_counter_ns()
            for _ in range(times):
                subject()
            results.append((time.perf_counter_ns() - began) / times / 1000)
    return {
        "name": name,
        "value": statistics.median(mine),
        "floor": statistics.median(theirs),
        "ratio": statistics.median(a / b for a, b in zip(mine, theirs, strict=True)),
        "at_most": at_most,
        "unit": "us",
    }


def main() -> None:
    for row in rows():
        print(
            f"{row['name']:30} {row['value']:9.1f} us   floor {row['floor']:9.1f} us   ratio {row['ratio']:.2f} (at most {row['at_most']})"
        )


if __name__ == "__main__":
    main()
