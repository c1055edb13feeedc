"""Hypothesis strategies for the values of `causal.core`, and for histories."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from causal.core.frontier import EVERY_STORE, MAX_OFFSET, MAX_ORIGIN, MAX_SHARD, Frontier, LeaderMark, Position
from causal.core.hlc import MAX_TIMESTAMP, Timestamp
from causal.core.keyring import Key, Keyring
from causal.core.position import ANY_ORIGIN, FOREVER, MAX_STORE
from causal.core.token import MAX_EXPIRES_AT, Token
from causal.core.touched import MAX_FINGERPRINT
from causal.core.watermark import Watermark


def positions(
    shards: st.SearchStrategy[int] | None = None, origins: st.SearchStrategy[int] | None = None
) -> st.SearchStrategy[Position]:
    """Return positions: by default mostly few shards and origins, so that they meet, and sometimes any."""
    few = st.integers(0, 3)
    return st.builds(
        Position,
        few | st.integers(0, MAX_SHARD) if shards is None else shards,
        few | st.integers(0, MAX_ORIGIN) if origins is None else origins,
        st.integers(0, 9) | st.integers(0, MAX_OFFSET),
    )


def frontiers(
    of: st.SearchStrategy[Position] | None = None, *, max_size: int = 8, floors: bool = False, marks: bool = False
) -> st.SearchStrategy[Frontier]:
    """Return frontiers of at most `max_size` positions; with floors, and with leader marks, only where that is asked for."""
    exact = st.lists(positions() if of is None else of, max_size=max_size).map(Frontier)
    if not floors and not marks:
        return exact
    stores = st.integers(0, 2) | st.integers(0, MAX_STORE)
    lows = st.dictionaries(stores, st.integers(0, 9) | st.integers(0, MAX_OFFSET), max_size=2 if floors else 0)
    tops = st.dictionaries(stores | st.just(EVERY_STORE), leader_marks(), max_size=2 if marks else 0)
    return st.builds(lambda f, low, top: f | Frontier.of({}, low, top), exact, lows, tops)


def leader_marks() -> st.SearchStrategy[LeaderMark]:
    """Return leader marks: lapsing, and for ever; with origins that are few, none, or too many to list."""
    few = st.frozensets(st.integers(0, 3), max_size=3)
    until = st.integers(0, 9) | st.integers(0, FOREVER)
    return st.builds(
        LeaderMark, until, st.just(frozenset()) | few, st.just(frozenset()) | few | st.just(frozenset({ANY_ORIGIN}))
    )


def watermarks(shards: st.SearchStrategy[int] | None = None, *, diverged: bool = False) -> st.SearchStrategy[Watermark]:
    """Return watermarks of few origins, live and ended. `diverged`: also such that hold writes past an origin's end."""
    few, offsets = st.integers(0, 3), st.integers(0, 9) | st.integers(0, MAX_OFFSET)

    @st.composite
    def watermark(draw: st.DrawFn) -> Watermark:
        origins: dict[int, tuple[int, int | None]] = {}
        for origin in sorted(draw(st.frozensets(few | st.integers(0, MAX_ORIGIN), max_size=4))):
            applied, end = draw(offsets), draw(st.none() | offsets)
            origins[origin] = applied if end is None or diverged else min(applied, end), end
        live = sorted(origin for origin, (_, end) in origins.items() if end is None)
        leads = draw(st.frozensets(st.sampled_from(live), max_size=2)) if live else frozenset[int]()
        return Watermark(draw(few if shards is None else shards), origins, draw(few), leads)

    return watermark()


def keyrings() -> st.SearchStrategy[Keyring]:
    """Return keyrings of one to three keys, of both profiles and both lengths of tags. Their secrets are no secrets."""
    keys = st.lists(
        st.builds(Key, st.integers(0, 255), st.binary(min_size=32, max_size=32)),
        min_size=1,
        max_size=3,
        unique_by=lambda key: key.id,
    )
    profiles = st.sampled_from(["signed", "signed", "encrypted"])
    return st.builds(
        lambda k, p, bits: Keyring(k, profile=p, tag_bits=bits), keys, profiles, st.sampled_from([64, 256])
    )


def histories(*, sound: bool = False, max_size: int = 12) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Return histories as rows of the format that `causal check` reads: sessions that write to one log, and read copies of it that lag.

    With `sound`, no session reads a copy that lacks what it knows, so that every guarantee holds. Without it, anything may be violated.
    `json.dumps` makes a line of each row. Values are written once.
    """
    names = st.sampled_from(["alice", "bob", "carol"])

    @st.composite
    def history(draw: st.DrawFn) -> list[dict[str, Any]]:
        log: list[tuple[str, str]] = []
        known: dict[str, int] = {}
        rows: list[dict[str, Any]] = []
        for _ in range(draw(st.integers(0, max_size))):
            session, key = draw(names), draw(st.sampled_from("ab"))
            row = {"session": session, "seq": sum(r["session"] == session for r in rows), "key": key}
            if draw(st.booleans()):
                log.append((key, f"v{len(log)}"))
                known[session] = len(log)
                row |= {"op": "write", "value": log[-1][1], "version": [1, len(log)], "stamp": len(log)}
            else:
                upto = draw(st.integers(known.get(session, 0) if sound else 0, len(log)))
                known[session] = max(upto, known.get(session, 0))
                found = [n for n, (k, _) in enumerate(log[:upto], start=1) if k == key][-1:]
                row |= {"op": "read", "value": None}
                for n in found:
                    row |= {"value": log[n - 1][1], "version": [1, n], "stamp": n}
            rows.append(row)
        return rows

    return history()


def timestamps() -> st.SearchStrategy[Timestamp]:
    """Return hybrid logical timestamps, with counters near both ends."""
    return st.integers(0, MAX_TIMESTAMP).map(Timestamp)


def tokens(
    of: st.SearchStrategy[Position] | None = None, *, floors: bool = False, marks: bool = False
) -> st.SearchStrategy[Token]:
    """Return tokens with own and seen positions, some with ages, a timestamp and filters of touched keys.

    What makes a token short has to be asked for, as of `frontiers`: floors, and leader marks.
    """
    fingerprints = st.frozensets(st.integers(0, 3) | st.integers(0, MAX_FINGERPRINT), max_size=4)

    @st.composite
    def token(draw: st.DrawFn) -> Token:
        own, seen = draw(frontiers(of)), draw(frontiers(of, floors=floors, marks=marks))
        keys = sorted({*own.entries, *seen.entries})
        ages = draw(st.dictionaries(st.sampled_from(keys), st.integers(0, 40), max_size=3)) if keys else {}
        expires_at, timestamp = draw(st.integers(0, MAX_EXPIRES_AT)), draw(st.none() | timestamps())
        stores = sorted({key >> 48 for key in own.entries if key >> 48 <= MAX_STORE})
        touched = draw(st.dictionaries(st.sampled_from(stores), fingerprints, max_size=2)) if stores else {}
        return Token(own, seen, expires_at=expires_at, timestamp=timestamp, ages=ages, touched=touched)

    return token()
