"""Keys that several processes share, or do not."""

from __future__ import annotations

import logging
from collections.abc import Callable
from unittest.mock import patch

import pytest

from causal import Key, Keyring, TokenError
from causal.core import keyring as core
from causal.core.frontier import Position
from causal.session import Written
from tests.scenarios.stage import FIRST_KEY, SECOND_KEY, Stage
from tests.scenarios.story import Story, told
from tests.stores.worlds import Time

Recorded = Callable[[str, str], None]


def refused(stage: Stage, keyrings: list[Keyring]) -> tuple[int, int]:
    """Let each process seal a token and each open it; return how many could not be opened, of how many."""
    stores = [stage.process("eu", keyring=keyring) for keyring in keyrings]
    count = 0
    for store in stores:
        session = store.session(subject="alice")
        session.join(Written([Position(0, 1, 0)]))
        text = session.token()
        count += sum(bool(other.session(text, subject="alice").rejected) for other in stores)
    return count, len(stores) ** 2


def test_a_new_key_is_rolled_out_in_two_steps(recorded: Recorded) -> None:
    def adding_is_sealing(keyring: Keyring, key: Key) -> None:
        core.Keyring.add(keyring, key)
        keyring.promote(key.id)

    def play(tell: Story) -> None:
        stage = Stage(tell, "eu")
        keyrings = [Keyring([FIRST_KEY]) for _ in range(20)]
        tell("20 processes share key 1. Key 2 is rolled out, process by process.")
        steps: dict[str, Callable[[Keyring], None]] = {
            "add": lambda ring: ring.add(SECOND_KEY),
            "promote": lambda ring: ring.promote(SECOND_KEY.id),
        }
        for step, change in steps.items():
            for half in (keyrings[:10], keyrings[10:]):
                for ring in half:
                    change(ring)
                failed, pairs = refused(stage, keyrings)
                done = "half of them" if half[0] is keyrings[0] else "all"
                tell(
                    f"{step} in {done}: {failed} of {pairs} fresh tokens, one for each pair of processes, cannot be opened."
                )
                tell.never(
                    failed > 0,
                    f"Half-way, {failed / pairs:.0%} of the fresh tokens are of a key that who gets them lacks.",
                )
        tell("When the last token of key 1 has expired, drop it.")

    rule = "a key that is added only opens; it seals once it is promoted, when every process has it."
    without = patch.object(Keyring, "add", adding_is_sealing)
    recorded("keys/rotation", told("A new key is rolled out", play, rule, without))


def test_generated_keys_in_several_processes_are_warned_of(
    recorded: Recorded, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = Time()
    monkeypatch.setattr("causal.keys.time", time)

    def silently(_: Keyring, error: TokenError) -> TokenError:
        return error

    def play(tell: Story) -> None:
        caplog.clear()
        time.now_s = 0.0
        stage = Stage(tell, "eu")
        tell("Four workers start, and each makes its own key: Keyring.generate().")
        keyrings = [Keyring.generate() for _ in range(4)]
        with caplog.at_level(logging.WARNING, logger="causal"):
            for minute in range(2):
                time.now_s = 61.0 * minute
                failed, pairs = refused(stage, keyrings)
                tell(f"minute {minute}: {failed} of {pairs} tokens cannot be opened.")
                warnings = [r.getMessage() for r in caplog.records if "Keyring.generate()" in r.getMessage()]
                tell.never(not warnings, "3 in 4 tokens are of no use, and no line in the log says why.")
                for warning in warnings:
                    tell(f"log: {warning}")
                assert len(warnings) == 4, "once a minute and process"
                caplog.clear()

    rule = (
        "a keyring that was generated in its process warns when it meets a token it cannot open, at most once a minute."
    )
    without = patch.object(Keyring, "_unopened", silently)
    recorded("keys/generated", told("Every worker makes its own key", play, rule, without))
