"""What a client of a state machine does in one block, in two halves: between them, something else may happen.

Owns the blocks. Knows nothing of what is drawn, or of who may be shown what.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import attrs

from causal.engine import Commit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from causal.core.policy import ReadPolicy
    from causal.store import Session
    from causal.testing.subject import Subject


@attrs.frozen
class Showed:
    """What a block has shown, and the acknowledgement of what it wrote. Thread-safety: immutable."""

    shown: Mapping[str, str | None]
    commit: Commit | None = None


Play = Generator[None, None, Showed]
"""A block that is begun, and stands in its middle until it is asked to go on."""


def ended(play: Play) -> Showed:
    """Go on with a block, and return what it has shown."""
    try:
        next(play)
    except StopIteration as ends:
        showed: Showed = ends.value
        return showed
    raise AssertionError("a block has two halves")


@attrs.frozen
class Act:
    """What a client does in one block, and what is written then. Thread-safety: immutable."""

    play: Callable[[Subject, Session[Any, Any]], Play]
    shard: str
    changes: Mapping[str, str | None] = {}


class _Abandoned(Exception):
    """Why a block is rolled back."""


def reading(shard: str, keys: Iterable[str], policy: ReadPolicy | None = None, key: str | None = None) -> Act:
    """Read all keys at once, or one: the same in both halves."""

    def play(subject: Subject, session: Session[Any, Any]) -> Play:
        with session.read(shard=shard, policy=policy) as db:

            def one_by_one(keys: Iterable[str]) -> dict[str, str | None]:
                return {k: subject.data.get(db, k) for k in keys}

            shown = one_by_one([key]) if key is not None else subject.page(db, keys)
            yield
            for again in (one_by_one(shown), subject.page(db, keys)) if subject.snapshots else ():
                assert shown.items() <= again.items(), (
                    f"a block of {subject.name} was shown {shown}, and then {again}: that is not one snapshot"
                )
        return Showed(shown)

    return Act(play, shard)


def writing(shard: str, changes: Mapping[str, str | None], *, looks: bool, drafts: bool, abandons: bool) -> Act:
    """Write in one transaction: first read, or put something else first, or roll back, if so told."""

    def play(subject: Subject, session: Session[Any, Any]) -> Play:
        shown: Mapping[str, str | None] = {}
        block = session.write(shard=shard)
        with suppress(_Abandoned), block as tx:
            data = subject.data
            if looks:
                shown = {key: data.get(tx, key) for key in changes}
            for key, value in changes.items():
                if drafts:
                    data.put(tx, key, f"{value} (draft)")
                if value is None:
                    data.delete(tx, key)
                else:
                    data.put(tx, key, value)
            _own(subject, tx, changes)
            yield
            _own(subject, tx, changes)
            if abandons:
                raise _Abandoned
        return Showed(shown, block.commit)

    return Act(play, shard, {} if abandons else changes)


def _own(subject: Subject, tx: Any, changes: Mapping[str, str | None]) -> None:
    page = subject.page(tx, changes)
    for mine in ({key: subject.data.get(tx, key) for key in changes}, {key: page.get(key) for key in changes}):
        assert mine == changes, f"a block of {subject.name} wrote {changes}, and is itself shown {mine}"
