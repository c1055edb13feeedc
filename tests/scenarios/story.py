"""How a scenario is told: the same story with its rule and with the rule taken out, word for word in one recorded file.

A scenario that cannot go wrong proves nothing: without its rule, each must end in what the rule is there to prevent.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest


class WentWrong(AssertionError):
    """What the rule prevents has happened."""


class Story:
    """The lines of one telling. Call it to say what happens; `never` names what must not."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, line: str) -> None:
        self.lines.append(line)

    def never(self, wrong: bool, sentence: str) -> None:
        """End the story if the one thing that its rule prevents has happened."""
        if wrong:
            raise WentWrong(sentence)


def told(title: str, play: Callable[[Story], None], rule: str, without: AbstractContextManager[object]) -> str:
    """Play a story twice, and return the account of both: with the rule it ends well, `without` it goes wrong."""
    right, wrong = Story(), Story()
    play(right)
    with without, pytest.raises(WentWrong) as ended:
        play(wrong)
    lines = [title, "", f"The rule: {rule}", "", *right.lines]
    lines += ["", "Without the rule:", "", *wrong.lines, f"WRONG: {ended.value}"]
    return "\n".join(lines)
