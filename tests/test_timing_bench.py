"""The timing bench: its statistics are right, and what it says follows from its controls first. What it measures is not judged."""

import pytest
from click.testing import CliRunner

from benches.timing import Found, judged, leaky, main, verdict, welch


def test_welchs_t_is_what_the_books_say() -> None:
    a, b = [2, 4, 6, 8], [5, 7, 9, 11, 13]  # means 5 and 9; variances 20/3 and 10
    assert welch(a, b) == pytest.approx(4 / (20 / 12 + 2) ** 0.5)
    assert welch(b, a) == -welch(a, b)
    assert welch([3, 3], [3, 3]) == 0


def test_the_slowest_are_left_out_of_both() -> None:
    row = judged("x", [100, 101] * 500, [102, 103] * 490 + [10**9] * 20)
    assert row.t > 50
    assert row.slower_ns == pytest.approx(2, abs=0.6)
    assert row.kept < 1


def test_the_planted_comparison_ends_early_and_is_right() -> None:
    assert leaky(b"ab", b"ab")
    assert not leaky(b"ab", b"ac")


@pytest.mark.parametrize(
    ("ours", "same", "planted", "said"),
    [
        (1.0, 1.0, 99.0, "no such difference in ours"),
        (-9.0, 1.0, 99.0, "time tells"),
        (9.0, 1.0, 2.0, "was not found"),
        (1.0, 6.0, 99.0, "too noisy"),
    ],
)
def test_what_is_said_follows_from_the_controls(ours: float, same: float, planted: float, said: str) -> None:
    rows = {kind: [Found(kind, t, 0, 1, 9)] for kind, t in (("ours", ours), ("same", same), ("leaky", planted))}
    assert said in verdict(rows)


def test_it_reports_and_fails_nothing() -> None:
    result = CliRunner().invoke(main, ["--samples", "200"])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert [line.split("  ")[0] for line in lines[1:7]] == [
        "64-bit tag",
        "256-bit tag",
        "encrypted",
        "control: 64-bit tag, no difference",
        "control: 256-bit tag, a loop that ends early",
        "control: 256-bit tag, ==",
    ]
