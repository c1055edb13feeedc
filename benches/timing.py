"""`python -m benches.timing`: whether the time that `open` takes tells how much of a forged tag is right. It reports, and judges nothing.

As dudect does it (Reparaz, Balasch, Verbauwhede 2017): two classes of forged tokens in random order, each call timed alone, the slowest
cut off, and Welch's t of what is left. Here one class has a tag that is wrong in its first byte, the other one that is right but for
its last. A comparison that ends at the first difference takes longer for the second: how much longer is what an attacker adds up.

No measurement shows that there is no leak. So each row stands beside controls in the same run: two classes that are the same (|t| should
stay small: if not, the machine is too noisy to say anything), and the very same `open` with a comparison that ends early, in Python and as
`bytes` compare (the first of which must be found: if not, the rows above say nothing). |t| above 4.5 is what dudect calls a leak.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator
from unittest import mock

import attrs
import click

from benches.measure import uncollected
from causal import BadSignature, Frontier, Key, Keyring, Token
from causal.core import cose, keyring

LEAK = 4.5
EXPIRES_AT = 1_800_000_000
CUTS = (1.0, 0.99, 0.95, 0.9, 0.75, 0.5)
"""Shares of the measurements that are kept, the fastest first: what interrupts a call makes it slow, never fast."""

Compare = Callable[[bytes, bytes], bool]


def leaky(a: bytes, b: bytes) -> bool:
    """Compare byte by byte in Python, and end at the first that differs."""
    for x, y in zip(a, b, strict=True):
        if x != y:
            return False
    return True


@attrs.frozen
class Found:
    """One row: Welch's t where it is largest of all cuts, and how much slower the second class was at that cut. Units: nanoseconds."""

    name: str
    t: float
    slower_ns: float
    kept: float
    samples: int


def welch(a: list[int], b: list[int]) -> float:
    """Return Welch's t of two samples: positive where the second is larger."""
    (mean_a, var_a), (mean_b, var_b) = _moments(a), _moments(b)
    spread = math.sqrt(var_a / len(a) + var_b / len(b))
    return (mean_b - mean_a) / spread if spread else 0.0


def _moments(xs: list[int]) -> tuple[float, float]:
    mean = math.fsum(xs) / len(xs)
    return mean, math.fsum((x - mean) ** 2 for x in xs) / (len(xs) - 1)


def judged(name: str, first: list[int], second: list[int]) -> Found:
    """Return the row of two samples: at each cut, whatever took longer than that share of all of them is left out of both."""
    every = sorted(first + second)
    rows = []
    for kept in CUTS:
        most = every[min(len(every) - 1, int(kept * len(every)))]
        a, b = [x for x in first if x <= most], [x for x in second if x <= most]
        if len(a) > 1 and len(b) > 1:
            rows.append(Found(name, welch(a, b), sum(b) / len(b) - sum(a) / len(a), kept, len(first) + len(second)))
    return max(rows, key=lambda row: abs(row.t))


def timed(
    call: Callable[[str], object], classes: tuple[list[str], list[str]], samples: int, seed: int
) -> tuple[list[int], list[int]]:
    """Return what each call took, of two classes of texts in random order. Units: nanoseconds."""
    chance = random.Random(seed)
    took: tuple[list[int], list[int]] = [], []
    clock = time.perf_counter_ns
    with uncollected():
        for nth in range(samples + 1000):
            which = chance.getrandbits(1)
            text = chance.choice(classes[which])
            began = clock()
            call(text)
            ended = clock()
            if nth >= 1000:  # the first ones warm up
                took[which].append(ended - began)
    return took


def forged(keys: Keyring, token: Token, at: int, many: int, chance: random.Random) -> list[str]:
    """Return texts of one token whose tags are right but for one byte. All are as long, and each has its own wrong byte."""
    data = cose.from_text(keys.seal(token, subject="alice", audience="shop"))
    tag = 8 if len(data) < 100 else 32
    place = len(data) - tag + at % tag
    wrong = chance.sample(range(1, 256), many)
    return [cose.to_text(data[:place] + bytes((data[place] ^ x,)) + data[place + 1 :]) for x in wrong]


def rows(samples: int, seed: int) -> Iterator[tuple[str, Found]]:
    """Measure every row: what it is of (`ours`, `same`, `leaky`, `bytes`), and the row."""
    chance = random.Random(seed)
    token = Token(Frontier.of({i << 32 | 1: 10**12 + i for i in range(4)}), expires_at=EXPIRES_AT)
    short = Keyring([Key(1, bytes(range(32)))], cache=0)
    long = Keyring([Key(1, bytes(range(32)))], tag_bits=256, cache=0)
    secret = Keyring([Key(1, bytes(range(32)))], profile="encrypted", cache=0)

    def opened(keys: Keyring) -> Callable[[str], object]:
        def call(text: str) -> None:
            try:
                keys.open(text, subject="alice", audience="shop", now=0)
            except BadSignature:
                return
            raise AssertionError("a forged token opened")

        return call

    def classes(keys: Keyring, first: int, second: int) -> tuple[list[str], list[str]]:
        return forged(keys, token, first, 64, chance), forged(keys, token, second, 64, chance)

    for name, keys in (("64-bit tag", short), ("256-bit tag", long)):
        yield "ours", judged(name, *timed(opened(keys), classes(keys, 0, -1), samples, seed))
    # An encrypted token's tag is the end of its ciphertext.
    yield "ours", judged("encrypted", *timed(opened(secret), classes(secret, -16, -1), samples, seed))
    yield "same", judged("64-bit tag, no difference", *timed(opened(short), classes(short, 0, 0), samples, seed))
    for kind, compare in (("leaky", leaky), ("bytes", bytes.__eq__)):
        with mock.patch.object(keyring, "compare_digest", compare):
            took = timed(opened(long), classes(long, 0, -1), samples, seed)
        yield kind, judged("256-bit tag, " + ("a loop that ends early" if kind == "leaky" else "=="), *took)


def verdict(found: dict[str, list[Found]]) -> str:
    """Say what the rows mean, from the controls first."""
    if abs(found["leaky"][0].t) <= LEAK:
        return (
            "The leak that was planted was not found: these rows say nothing. Take more samples, on a quieter machine."
        )
    if abs(found["same"][0].t) > LEAK:
        return "Two classes that are the same differ: this machine is too noisy for these rows to mean anything."
    leaks = [row for row in found["ours"] if abs(row.t) > LEAK]
    if leaks:
        return (
            "|t| > 4.5: time tells how much of a tag is right. Run it again; if it stays, it is a leak: "
            + ", ".join(row.name for row in leaks)
        )
    return (
        "The planted leak was found, and no such difference in ours: at this many samples, time does not tell how much of a tag "
        "is right. It is evidence, and no proof."
    )


@click.command()
@click.option(
    "--samples", type=click.IntRange(min=100), default=200_000, show_default=True, help="Calls timed for each row."
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of the order, and of what is wrong in each tag.")
def main(samples: int, seed: int) -> None:
    """Whether the time that opening takes tells how much of a forged tag is right: Welch's t, beside controls."""
    found: dict[str, list[Found]] = {}
    print(
        f"{'a tag wrong in its first byte, or in its last':45} {'t':>8} {'later is slower by':>20} {'of the fastest':>15}"
    )
    for kind, row in rows(samples, seed):
        found.setdefault(kind, []).append(row)
        label = row.name if kind == "ours" else f"control: {row.name}"
        print(f"{label:45} {row.t:8.2f} {row.slower_ns:17.1f} ns {row.kept:15.0%}", flush=True)
    print(verdict(found))


if __name__ == "__main__":
    main(prog_name="python -m benches.timing")
