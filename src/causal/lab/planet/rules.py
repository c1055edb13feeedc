"""Rules: what one setting of a planet may be, and what is said when it is not.

Owns the sentences. A rule is used twice: by the class that holds the setting, and by whoever reads it from a file, where the same
number may stand in milliseconds. So that there is one sentence for both, a rule does not know what the setting is called.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

import attrs

from causal.controls import Lag
from causal.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_S: Final = 1e9
"""The longest time: what is far beyond it is no number of seconds."""
MAX_COUNT: Final = 10**9
_HUGE: Final = 1e18
"""No number is so large, in any unit; neither infinity nor what is no number is below it, and an integer that is can be multiplied."""
_SHOWN: Final = 60


class Rule:
    """What a setting may be. `problem` says what it is instead; as an attrs validator it raises ConfigError."""

    def problem(self, value: object, scale: float = 1.0) -> str | None:
        """Return what is wrong with a value, or None. With a `scale`, it is given in units of that many of the rule's own."""
        raise NotImplementedError("each rule says what it refuses")

    def __call__(self, _instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        """Refuse a wrong value. Raises: ConfigError."""
        problem = self.problem(value)
        if problem:
            raise ConfigError(f"{attribute.name} is {problem}")


@attrs.frozen
class Number(Rule):
    """A finite number from `low` to `high`; `above` leaves `low` itself out, `whole` leaves out all but integers."""

    low: float = 0.0
    high: float = MAX_S
    above: bool = False
    whole: bool = False

    def problem(self, value: object, scale: float = 1.0) -> str | None:
        """Say which numbers are meant, in the unit that the value is given in."""
        if not isinstance(value, bool) and isinstance(value, int if self.whole else int | float) and abs(value) < _HUGE:
            number = value * scale
            if self.low <= number <= self.high and not (self.above and number == self.low):
                return None
        kind = "a whole number" if self.whole else "a number"
        low, high = (f"{bound / scale:.12g}" for bound in (self.low, self.high))
        bounds = f"above {low} and at most {high}" if self.above else f"in {low}..{high}"
        return f"{kind} {bounds}, not {shown(value)}"


SHARE: Final = Number(0, 1)
SECONDS: Final = Number()
POSITIVE_S: Final = Number(above=True)
COUNT: Final = Number(1, MAX_COUNT, whole=True)


@attrs.frozen
class Word(Rule):
    """One of a few words."""

    words: tuple[str, ...]

    def problem(self, value: object, scale: float = 1.0) -> str | None:
        """Name the words, and the nearest one."""
        del scale
        if isinstance(value, str) and value in self.words:
            return None
        return f"one of {', '.join(map(repr, self.words))}, not {shown(value)}{nearest(value, self.words)}"


@attrs.frozen
class Text(Rule):
    """Printable text of limited length; a `name` is not empty and has no spaces, so that two of them can stand in one text."""

    high: int = 200
    name: bool = False

    def problem(self, value: object, scale: float = 1.0) -> str | None:
        """Say what text is meant."""
        del scale
        if (
            isinstance(value, str)
            and value.isprintable()
            and len(value) <= self.high
            and not (self.name and self._no_name(value))
        ):
            return None
        if self.name:
            return f"a printable name of 1 to {self.high} characters without spaces, not {shown(value)}"
        return f"a printable text of at most {self.high} characters, not {shown(value)}"

    @staticmethod
    def _no_name(value: str) -> bool:
        return not value or " " in value


NAME: Final = Text(64, name=True)


@attrs.frozen
class Truth(Rule):
    """Yes or no."""

    def problem(self, value: object, scale: float = 1.0) -> str | None:
        """Refuse what only counts as true."""
        del scale
        return None if isinstance(value, bool) else f"true or false, not {shown(value)}"


@attrs.frozen
class Names(Rule):
    """Names, each once."""

    def problem(self, value: object, scale: float = 1.0) -> str | None:
        """Say which name is none, or stands twice."""
        del scale
        if not isinstance(value, tuple | list):
            return f"a list of names, not {shown(value)}"
        for name in value:
            problem = NAME.problem(name)
            if problem:
                return f"a list of names, and a name is {problem}"
        return f"a list of different names: {shown(twice(value))} stands twice" if twice(value) else None


@attrs.frozen
class LagRule(Rule):
    """A `causal.controls.Lag`, which has seen to its own numbers."""

    def problem(self, value: object, scale: float = 1.0) -> str | None:
        """Refuse what still has to be made a lag."""
        del scale
        return None if isinstance(value, Lag) else f"a Lag: write Lag.of({shown(value)})"


@attrs.frozen
class Weights(Rule):
    """Pairs of a name and a number, each name once. With `words`, no other name; with `some`, not all of the numbers zero."""

    words: tuple[str, ...] = ()
    some: bool = False

    def problem(self, value: object, scale: float = 1.0) -> str | None:
        """Say which name or number is wrong."""
        del scale
        if not isinstance(value, tuple) or not all(isinstance(pair, tuple) and len(pair) == 2 for pair in value):
            return f"pairs of a name and a number, not {shown(value)}"
        for name, weight in value:
            problem = (Word(self.words) if self.words else NAME).problem(name)
            if problem:
                return f"numbers by name, and a name is {problem}"
            problem = SECONDS.problem(weight)
            if problem:
                return f"numbers by name, and {name} is {problem}"
        names = [name for name, _ in value]
        if twice(names):
            return f"numbers by name: {shown(twice(names))} stands twice"
        if self.some and not sum(weight for _, weight in value):
            return "numbers by name, not all of them 0"
        return None


def twice(values: Iterable[str]) -> str | None:
    """Return the first value that is there for the second time."""
    seen = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None


def nearest(value: object, words: Iterable[str]) -> str:
    """Return which of the words may have been meant, as the end of a sentence; nothing if none is near."""
    close = get_close_matches(value, list(words), 1) if isinstance(value, str) and len(value) <= _SHOWN else []
    return f"; did you mean {close[0]!r}?" if close else ""


def shown(value: object) -> str:
    """Return a value as an error may show it: whoever wrote it knows it by its start."""
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python shows
        return "a number too long to show"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text):,} characters)"
