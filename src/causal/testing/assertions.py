"""What a test asserts of tokens, reads and histories, with the evidence in the message.

Owns the comparison of tokens. A history is rows of the format that `causal check` reads (docs/howto/check.md), as dictionaries, as JSON
lines or as one text; the checker judges it.
"""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from causal.core.frontier import Frontier
from causal.errors import ExpiredToken, TokenError
from causal.lab.checker import check
from causal.lab.checking.findings import MONOTONIC_READS, READ_YOUR_WRITES
from causal.lab.history import NO_VERSION, REFUSED, WRITE, HistoryError, parse_history

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from causal.core.receipt import Receipt
    from causal.core.token import Token

NAME: Final = "history"
"""What errors call a history that is no file."""


class Opens(Protocol):
    """A keyring, a `KeyFile`, or whatever opens tokens. Thread-safety: as what opens."""

    def open(self, text: str, *, subject: str | None, audience: str, now: float) -> Token:
        """Return what a text claims."""


def assert_freshest_token_sent(
    sent: Any, *given: Any, keyring: Opens | None = None, subject: str | None = None, audience: str = ""
) -> None:
    """Assert that what was sent demands all that the client was given before: no read of the next request can go back.

    Each is a token's text, a `Token`, a `Frontier`, a session, None, or several of such (a carrier is a set: they are joined). To
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
    if hasattr(one, "own") and hasattr(one, "seen"):  # a session, or a token
        both: Frontier = one.own | one.seen
        return both
    if isinstance(one, Iterable) and not isinstance(one, bytes | bytearray | Mapping):
        joined = Frontier()
        for part in one:
            joined |= demanded(part, keyring=keyring, subject=subject, audience=audience)
        return joined
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

    A history is judged as `causal check` judges it, for monotonic reads.

    Raises: AssertionError with the fewest rows that show it; HistoryError, if it cannot be read or cannot be judged.
    """
    items: list[Any] = [history] if isinstance(history, str | bytes) else list(history)
    if all(isinstance(one, Frontier) for one in items):
        for nth, (before, after) in enumerate(itertools.pairwise(items), start=1):
            if not after >= before:
                raise AssertionError(
                    f"reading {nth + 1} went backwards: {after} does not cover {before}, which was shown before it"
                )
        return
    _holds(MONOTONIC_READS, items)


def assert_read_your_writes(history: Iterable[Any]) -> None:
    """Assert that no session was shown an older version of a key than it had written, as `causal check` judges it.

    Raises: AssertionError with the fewest rows that show it; HistoryError, if it cannot be read or cannot be judged.
    """
    items: list[Any] = [history] if isinstance(history, str | bytes) else list(history)
    if items:
        _holds(READ_YOUR_WRITES, items)


def _holds(guarantee: str, items: Sequence[Any]) -> None:
    """Judge one guarantee by the checker. Reads that it would pass over are refused: no history passes unjudged."""
    history = parse_history(_lines(items), NAME)
    report = check(history)
    verdict = report[guarantee]
    if verdict.state == "not judged":
        raise HistoryError(NAME, 0, f"{guarantee} cannot be judged: {verdict.reason}. Record versions")
    if verdict.witness is not None:
        rows = [{**one} for one in verdict.witness.operations]
        shown = "".join(f"\n  row {one.pop('line')}: {json.dumps(one)}" for one in rows)
        raise AssertionError(f"{guarantee} is violated: {verdict.witness.sentence}{shown}")
    for i, value in enumerate(history.values):
        blind = value is not None and history.origin[i] == NO_VERSION and not history.flags[i] & (WRITE | REFUSED)
        if blind and report.mode == "white":
            why = "this read has a value and no version, though writes have versions: nothing tells what it saw"
            raise HistoryError(NAME, history.line[i], why)


def _lines(items: Sequence[Any]) -> Iterator[bytes]:
    """Yield the lines that a file of this history would have: of rows, of lines with their ends or without, or of one text."""
    for nth, one in enumerate(items, start=1):
        if isinstance(one, str | bytes):
            raw = one.encode("utf-8", "surrogatepass") if isinstance(one, str) else one
            if raw:
                yield from io.BytesIO(raw)
            elif nth < len(items):  # what a text that is split at its line ends has last, is no line
                yield raw
        elif isinstance(one, Mapping):
            try:
                yield json.dumps(dict(one)).encode()
            except (TypeError, ValueError) as error:
                raise HistoryError(NAME, nth, f"not JSON: {error}") from error
        else:
            raise HistoryError(NAME, nth, f"a row is a dictionary or a line, not {type(one).__name__}")
