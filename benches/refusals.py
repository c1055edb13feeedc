"""`python -m benches.refusals`: what a text can make a reader do, before it is refused or opened. It reports, and judges nothing.

The table of docs/spec/token.md, "What a token can make a reader do", is one run of this. Units: microseconds, best of 7 runs.
"""

from __future__ import annotations

import base64
import time
import tracemalloc
from collections.abc import Callable
from itertools import count

import click

from benches.measure import uncollected
from causal import Frontier, Key, Keyring, Token, TokenError
from causal.core.position import pack

EXPIRES_AT = 1_800_000_000
RUNS = 7
ONE, OTHER = Key(1, bytes(32)), Key(2, bytes(range(32)))


def text_of(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def scattered(n: int) -> Token:
    return Token(
        Frontier.of({pack(i * i * 977, i * 31 % 1009): i**9 % 2**40 for i in range(1, n + 1)}), expires_at=EXPIRES_AT
    )


def usual(seconds: int = 0) -> Token:
    return Token(Frontier.of({pack(i, 1): 2**41 + 977 * i for i in range(6)}), expires_at=EXPIRES_AT + seconds)


def best_us(act: Callable[[], object], times: int) -> float:
    best = float("inf")
    with uncollected():
        for _ in range(RUNS):
            start = time.perf_counter_ns()
            for _ in range(times):
                act()
            best = min(best, (time.perf_counter_ns() - start) / times)
    return best / 1000


def opening(keys: Keyring, texts: Callable[[], str], subject: str = "alice") -> Callable[[], object]:
    def act() -> object:
        try:
            return keys.open(texts(), subject=subject, audience="shop", now=0)
        except TokenError as error:
            return error

    return act


def rows() -> list[tuple[str, Callable[[], object], int]]:
    keys, hidden = Keyring([ONE], cache=0), Keyring([ONE], profile="encrypted", cache=0)
    sealed, secret = (
        {
            n: k.seal(token, subject="alice", audience="shop")
            for n, token in (("usual", usual()), ("long", scattered(330)))
        }
        for k in (keys, hidden)
    )
    elsewhere = Keyring([OTHER]).seal(scattered(330), subject="alice", audience="shop")
    hours = [hidden.seal(usual(3600 * n), subject="alice", audience="shop") for n in range(200)]
    turn = count()
    row = Token(Frontier.of({pack(i, 1): 5 for i in range(65_535)}), expires_at=EXPIRES_AT)
    many = keys.seal(row, subject="alice", audience="shop")
    same = lambda text: lambda: text  # noqa: E731
    return [
        ("1,000,000 characters", opening(keys, same("A" * 1_000_000)), 1000),
        ("4,096 characters that are no frame", opening(keys, same("A" * 4096)), 300),
        (f"{len(elsewhere):,} characters, a key that is not held", opening(keys, same(elsewhere)), 300),
        (f"{len(sealed['long']):,} characters, another subject", opening(keys, same(sealed["long"]), "bob"), 300),
        (
            f"{len(secret['long']):,} characters, encrypted, another subject",
            opening(hidden, same(secret["long"]), "bob"),
            300,
        ),
        (
            "encrypted, each under another hour: a key is derived",
            opening(hidden, lambda: hours[next(turn) % len(hours)], "bob"),
            400,
        ),
        ("a usual token, another subject", opening(keys, same(sealed["usual"]), "bob"), 1000),
        ("a usual token, six shards", opening(keys, same(sealed["usual"])), 1000),
        ("the same, remembered", opening(Keyring([ONE]), same(sealed["usual"])), 3000),
        (f"{len(sealed['long']):,} characters, 330 positions", opening(keys, same(sealed["long"])), 30),
        (f"{len(many)} characters that list 65,535 positions", opening(keys, same(many)), 3),
    ]


@click.command()
def main() -> None:
    """Measure each text, and print how long it takes, and how much memory at most."""
    for name, act, times in rows():
        us = best_us(act, times)
        tracemalloc.start()
        kept = act()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        outcome = type(kept).__name__
        click.echo(f"{name:58} {us:10.1f} us {peak / 2**20:8.2f} MiB  {outcome}")


if __name__ == "__main__":
    main()
