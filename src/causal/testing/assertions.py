"""What a test asserts of tokens, reads and histories, with the evidence in the message.

Owns the comparison. A history is rows of the format that `causal check` reads (docs/howto/check.md), as dictionaries or as JSON lines.
"""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any, Protocol, cast

from causal.core.frontier import Frontier
from causal.errors import ExpiredToken, TokenError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from causal.core.receipt import Receipt
    from causal.core.token import Token


class Opens(Protocol):
    """A keyring, a `KeyFile`, or whatever opens tokens. Thread-safety: as what opens."""

    def open(self, text: str, *, subject: str | None, audience: str, now: float) -> Token:
        """Return what a text claims."""


def assert_freshest_token_sent(
    sent: Any, *given: Any, keyring: Opens | None = None, subject: str | None = None, audience: str = ""
) -> None:
    """Assert that what was sent demands all that the client was given before: no read of the next request can go back.

    Each is a token's text, a `Token`, a `Frontier`, a session, None, or a list of such (a carrier is a set: they are joined). To
    read texts, name the keyring, the subject and the audience. An expired token still counts.

    Raises: AssertionError with the positions that are missing.
    """

    def read(one: Any) -> Frontier:
        return demanded(one, keyring=keyring, subject=subject, audience=audience)

    has = read(sent)
    for nth, one in enumerate(given, start=1):
        wanted = read(one)
        if not has >= wanted:
            missing = [p for p in wanted if not has >= Frontier([p])]
            what = ", ".join(map(str, missing)) or "floors or leader marks"
            raise AssertionError(
                f"the token that was sent is not the freshest: it demands {has}, and token {nth} of {len(given)} that the client was given "
                f"demands {wanted}; missing: {what}. Keep the last token of every response, or send all of them."
            )


def demanded(one: Any, *, keyring: Opens | None = None, subject: str | None = None, audience: str = "") -> Frontier:
    """Return what one or several of these demand. Raises: AssertionError if that cannot be read."""
    if one is None:
        return Frontier()
    if isinstance(one, Frontier):
        return one
    if isinstance(one, str):
        if keyring is None:
            raise AssertionError("to read the text of a token, give keyring=, subject= and audience=")
        try:
            return keyring.open(one, subject=subject, audience=audience, now=0).frontier
        except ExpiredToken as error:
            return cast("Frontier", error.token.frontier)
        except TokenError as error:
            raise AssertionError(f"a token of {subject!r} for {audience!r} cannot be read: {error}") from error
    if isinstance(one, list | tuple | set | frozenset):
        joined = Frontier()
        for part in one:
            joined |= demanded(part, keyring=keyring, subject=subject, audience=audience)
        return joined
    if hasattr(one, "own") and hasattr(one, "seen"):  # a session, or a token
        both: Frontier = one.own | one.seen
        return both
    raise AssertionError(f"not a token, a frontier or a session: {one!r}")


def assert_covered(receipt: Receipt | None) -> None:
    """Assert that a read held the guarantees of its session. Raises: AssertionError with every endpoint that was considered."""
    if receipt is None:
        raise AssertionError("there is no receipt: the block has not begun")
    if not receipt.held or receipt.refused:
        considered = "; ".join(f"{endpoint}: {why}" for endpoint, why in receipt.considered)
        raise AssertionError(
            f"the session's guarantees were not held: {receipt} ({receipt.how}); considered: {considered or 'none'}"
        )


def assert_no_read_went_backwards(history: Iterable[Any]) -> None:
    """Assert that no session was shown an older version of a key than before; or, given frontiers, that each covers the one before.

    Versions of one origin are compared by offset, those of different origins by stamp where both have one. Raises: AssertionError with both
    reads.
    """
    items = list(history)
    if items and all(isinstance(one, Frontier) for one in items):
        for nth, (before, after) in enumerate(itertools.pairwise(items), start=1):
            if not after >= before:
                raise AssertionError(
                    f"reading {nth + 1} went backwards: {after} does not cover {before}, which was shown before it"
                )
        return
    last: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for row in _rows(items):
        if row["op"] == "read" and row.get("ok", True):
            place = (row["session"], row.get("shard", 0), row["key"])
            _not_older(row, last.get(place), "was shown before")
            if row.get("version") is not None or place not in last:
                last[place] = row


def assert_read_your_writes(history: Iterable[Any]) -> None:
    """Assert that no session was shown an older version of a key than it had written. Raises: AssertionError with write and read."""
    wrote: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for row in _rows(history):
        if row.get("ok", True) is not True:
            continue
        place = (row["session"], row.get("shard", 0), row["key"])
        if row["op"] == "write":
            wrote[place] = row
        elif row["op"] == "read":
            _not_older(row, wrote.get(place), "it had written")


def _not_older(row: Mapping[str, Any], before: Mapping[str, Any] | None, what: str) -> None:
    if before is None or before.get("version") is None:
        return
    if row.get("version") is None:
        older = True
    elif row["version"][0] == before["version"][0]:
        older = row["version"][1] < before["version"][1]
    else:
        now, then = row.get("stamp"), before.get("stamp")
        older = now is not None and then is not None and now < then
    if older:
        raise AssertionError(
            f"a read went backwards: session {row['session']!r} was shown {_said(row)}, and {what} {_said(before)}\n"
            f"  before: {json.dumps(dict(before))}\n  read:   {json.dumps(dict(row))}"
        )


def _said(row: Mapping[str, Any]) -> str:
    version = row.get("version")
    return f"{row['key']} = {row.get('value')!r}" + (
        " (nothing)" if version is None else f" (version {version[0]}@{version[1]})"
    )


def _rows(history: Iterable[Any]) -> Iterator[Mapping[str, Any]]:
    """Read rows or lines; what is neither read nor write is left out."""
    for one in history:
        row = json.loads(one) if isinstance(one, str | bytes) else one
        if row.get("op") in {"read", "write"}:
            yield row
