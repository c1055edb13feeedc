"""Hypothesis strategies for the values of `causal.core`."""

from __future__ import annotations

from hypothesis import strategies as st

from causal.core.frontier import MAX_OFFSET, MAX_ORIGIN, MAX_SHARD, Frontier, Position
from causal.core.hlc import MAX_TIMESTAMP, Timestamp
from causal.core.position import MAX_STORE
from causal.core.token import MAX_EXPIRES_AT, Token
from causal.core.touched import MAX_FINGERPRINT


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


def frontiers(of: st.SearchStrategy[Position] | None = None, *, max_size: int = 8) -> st.SearchStrategy[Frontier]:
    """Return frontiers of at most `max_size` positions, without floors and marks."""
    return st.lists(positions() if of is None else of, max_size=max_size).map(Frontier)


def timestamps() -> st.SearchStrategy[Timestamp]:
    """Return hybrid logical timestamps, with counters near both ends."""
    return st.integers(0, MAX_TIMESTAMP).map(Timestamp)


def tokens(of: st.SearchStrategy[Position] | None = None) -> st.SearchStrategy[Token]:
    """Return tokens with own and seen positions, some with ages, a timestamp and filters of touched keys."""
    fingerprints = st.frozensets(st.integers(0, 3) | st.integers(0, MAX_FINGERPRINT), max_size=4)

    @st.composite
    def token(draw: st.DrawFn) -> Token:
        own, seen = draw(frontiers(of)), draw(frontiers(of))
        keys = sorted({*own.entries, *seen.entries})
        ages = draw(st.dictionaries(st.sampled_from(keys), st.integers(0, 40), max_size=3)) if keys else {}
        expires_at, timestamp = draw(st.integers(0, MAX_EXPIRES_AT)), draw(st.none() | timestamps())
        stores = sorted({key >> 48 for key in own.entries if key >> 48 <= MAX_STORE})
        touched = draw(st.dictionaries(st.sampled_from(stores), fingerprints, max_size=2)) if stores else {}
        return Token(own, seen, expires_at=expires_at, timestamp=timestamp, ages=ages, touched=touched)

    return token()
