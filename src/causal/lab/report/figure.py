"""Figures: which strategies show users wrong pages, and what each costs.

Owns how a figure looks. It needs matplotlib (the extra `plot`), which nothing else imports; it draws without a screen and without global
state. Colours are those of Okabe and Ito, which people see apart with any kind of colour vision; nothing is said by colour alone.
Every figure is the same, to the byte, for the same rows.
"""

from __future__ import annotations

import io
import textwrap
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogFormatter, LogLocator, NullFormatter, NullLocator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes

    from causal.lab.report.rows import Row
    from causal.lab.report.sweep import Axis

BLACK, ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE = "#000000 #E69F00 #56B4E9 #009E73 #0072B2 #D55E00 #CC79A7".split()
GREY: Final = "#666666"
PALE: Final = "#E4E4E4"
DPI: Final = 100
WORTH_SHOWING: Final = 0.001
"""A share that a bar can show."""
SUFFIXES: Final = (".png", ".svg")
LINES: Final = {
    "token": (BLUE, "o", "-"),
    "token-shard": (SKY, "s", "--"),
    "leader": (BLACK, "^", "-"),
    "window": (ORANGE, "v", "--"),
    "quorum": (PURPLE, "D", "--"),
    "quorum+token": (GREEN, "P", "-"),
    "bounded": (GREY, "X", "--"),
    "eventual": (VERMILION, "*", "--"),
}
"""How a strategy is drawn in a sweep: colour, marker, line. A whole line is a strategy that promises."""
_OWN: Final[dict[str, Any]] = {"facecolor": VERMILION, "edgecolor": VERMILION, "linewidth": 0.8}
_OTHER: Final[dict[str, Any]] = {"facecolor": "#F7D7BF", "edgecolor": VERMILION, "linewidth": 0.8, "hatch": "////"}
_QUANTILES: Final[tuple[tuple[str, str, str, dict[str, Any]], ...]] = (
    ("read_p50_s", "median", "o", {"s": 62, "edgecolors": "white", "linewidths": 0.7}),
    ("read_p99_s", "99 %", "|", {"s": 150, "linewidths": 2.4}),
    ("read_p999_s", "99.9 %", "d", {"s": 44, "edgecolors": "white", "linewidths": 0.7}),
)
_SHARES: Final[tuple[tuple[str, str, dict[str, Any]], ...]] = (
    ("leader", "leader", {"facecolor": "#555555", "edgecolor": "#555555", "linewidth": 0.6}),
    ("away", "other site", {"facecolor": "#FBE3B0", "edgecolor": "#B07A00", "linewidth": 0.6, "hatch": "////"}),
    ("refused_share", "refused", {"facecolor": VERMILION, "edgecolor": VERMILION, "linewidth": 0.6}),
)
_RC: Final[Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "causal",
    "hatch.linewidth": 1.2,
}


def encode(figure: Figure, suffix: str) -> bytes:
    """Return a figure as the bytes of a file, `.png` or `.svg`. Text stays text in SVG."""
    data = io.BytesIO()
    metadata: dict[str, Any] = {"Date": None} if suffix == ".svg" else {"Software": None}
    with mpl.rc_context(_RC):
        figure.savefig(data, format=suffix[1:], dpi=DPI, metadata=metadata)
    return data.getvalue()


def ordered(rows: Sequence[Row]) -> list[Row]:
    """Return rows as a figure shows them: those without a wrong page first, the fastest on top; then by how many they show."""
    return sorted(
        rows,
        key=lambda row: (
            row["acausal"] > 0,
            _rate(row, "acausal"),
            not row["promises"],
            row["read_p50_s"],
            row["read_p99_s"],
        ),
    )


def comparison(rows: Sequence[Row], title: str, subtitle: str = "") -> Figure:
    """Draw strategies side by side: wrong pages, latency, and where reads were served."""
    rows = ordered(rows)
    lines = wrapped(subtitle)
    height = 2.35 + 0.5 * len(rows) + 0.2 * lines.count("\n")
    with mpl.rc_context(_RC):
        figure = Figure(figsize=(12, height), dpi=DPI)
        FigureCanvasAgg(figure)
        edges = {
            "left": 0.118,
            "right": 0.985,
            "top": 1 - (1.4 + 0.2 * lines.count("\n")) / height,
            "bottom": 0.64 / height,
        }
        grid = figure.add_gridspec(1, 3, width_ratios=(4.1, 4.5, 2.8), wspace=0.09, **edges)
        wrong, latency, shares = (figure.add_subplot(grid[0, n]) for n in range(3))
        _title(figure, title, lines)
        _wrong_pages(wrong, rows)
        _latency(latency, rows)
        _shares(shares, rows)
        for axes in (wrong, latency, shares):
            _tidy(axes, rows)
        wrong.set_yticks(range(len(rows)), [row["strategy"] for row in rows])
        wrong.tick_params(axis="y", length=0, labelsize=11.5)
        for axes in (latency, shares):
            axes.set_yticks([])
    return figure


def _title(figure: Figure, title: str, lines: str) -> None:
    """Say at the top what is compared, and under which circumstances."""
    height = figure.get_figheight()
    figure.text(
        0.012, 1 - 0.16 / height, textwrap.shorten(title, 95, placeholder=" ..."), fontsize=15, weight="bold", va="top"
    )
    figure.text(0.012, 1 - 0.5 / height, lines, fontsize=10, color=GREY, va="top", linespacing=1.4)


def _rate(row: Row, field: str) -> float:
    """Return how many of 10,000 judged reads."""
    return float(row[field]) * 10_000 / max(1, int(row["judged"]))


def _tidy(axes: Axes, rows: Sequence[Row]) -> None:
    axes.set_ylim(len(rows) - 0.45, -0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(visible=True, axis="x", color=PALE)
    border = next((n for n, row in enumerate(rows) if row["acausal"]), 0)
    if border:
        axes.axhline(border - 0.5, color=GREY, linewidth=1, linestyle=(0, (2, 3)))


def _heading(axes: Axes, text: str, pad: float = 8) -> None:
    axes.set_title(text, loc="left", fontsize=11.5, weight="bold", pad=pad)


def _key(axes: Axes, handles: Sequence[Any], labels: Sequence[str], heading: str) -> None:
    """Put a heading over a panel, and between them what its marks are."""
    _heading(axes, heading, pad=27)
    axes.legend(
        handles,
        labels,
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=len(labels),
        frameon=False,
        fontsize=9.5,
        handlelength=1.1,
        handletextpad=0.4,
        columnspacing=0.9,
        borderaxespad=0.2,
        borderpad=0.2,
    )


def _wrong_pages(axes: Axes, rows: Sequence[Row]) -> None:
    """Draw a bar for each strategy: own writes that were missing, and what else was behind what a user knew."""
    most = max(_rate(row, "acausal") for row in rows)
    for n, row in enumerate(rows):
        own, every = _rate(row, "stale"), _rate(row, "acausal")
        if every:
            axes.barh(n, own, height=0.56, **_OWN)
            axes.barh(n, every - own, left=own, height=0.56, **_OTHER)
            axes.text(every + most * 0.015, n, _number(every), va="center")
        elif row["promises"]:
            axes.text(most * 0.012 or 0.012, n, "none", va="center", color=GREEN, weight="bold")
        else:
            axes.text(most * 0.012 or 0.012, n, "none here, but not promised", va="center", color=GREY)
    axes.set_xlim(0, most * 1.16 or 1)
    if not most:
        axes.set_xticks([0])
    axes.set_xlabel("wrong reads per 10,000")
    handles = [Patch(**style) for style in (_OWN, _OTHER)]
    _key(axes, handles, ["own write missing", "another's write missing"], "Reads that showed a wrong page")


def _latency(axes: Axes, rows: Sequence[Row]) -> None:
    """Draw what a read takes: half of all reads, 99 %, 99.9 %."""
    marks = [mark for mark in _QUANTILES if all(mark[0] in row for row in rows)]
    low = max(1e-4, min(row["read_p50_s"] for row in rows)) * 1000
    high = max(row[marks[-1][0]] for row in rows) * 1000
    handles = []
    for n, row in enumerate(rows):
        values = [max(low, row[field] * 1000) for field, *_ in marks]
        axes.plot([values[0], values[-1]], [n, n], color=BLUE, linewidth=2.2, solid_capstyle="butt", zorder=2)
        handles = [
            axes.scatter(value, n, marker=marker, color=BLUE, zorder=3, **style)
            for (_, _, marker, style), value in zip(marks, values, strict=True)
        ]
        axes.annotate(
            _ms(row["read_p50_s"] * 1000), (values[0], n), (0, 7), textcoords="offset points", ha="center", fontsize=9
        )
        if values[-1] > values[0] * 1.02:
            axes.annotate(_ms(values[-1]), (values[-1], n), (9, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_xscale("log")
    axes.set_xlim(low / 1.7, max(high, low * 10) * 2.8)
    axes.xaxis.set_major_locator(LogLocator(10))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _ms(value)))
    axes.set_xlabel("read latency, logarithmic")
    _key(axes, handles, [label for _, label, *_ in marks], "What a read takes")


def _shares(axes: Axes, rows: Sequence[Row]) -> None:
    """Draw shares, a thin bar each: reads at a leader, reads at another site, and what was refused."""
    kinds = _SHARES if any(row["refused_share"] >= WORTH_SHOWING for row in rows) else _SHARES[:2]
    thick = 0.6 / len(kinds)
    for nth, (field, _, style) in enumerate(kinds):
        places = [n + (nth - (len(kinds) - 1) / 2) * thick for n in range(len(rows))]
        axes.barh(places, [row[field] * 100 for row in rows], height=thick * 0.85, **style)
    axes.set_xlim(0, 100)
    axes.set_xticks([0, 25, 50, 75, 100])
    axes.set_xlabel("share, %")
    _key(axes, [Patch(**style) for *_, style in kinds], [label for _, label, _ in kinds], "Where it was served")


def sweep(rows: Sequence[Row], axis: Axis, title: str, subtitle: str = "") -> Figure:
    """Draw how each cost grows along an axis: small multiples, a line for each strategy."""
    names = list(dict.fromkeys(row["strategy"] for row in rows))
    panels: tuple[tuple[str, str, Callable[[Row], float], bool], ...] = (
        ("Reads that showed a wrong page", "per 10,000 reads", lambda row: _rate(row, "acausal"), False),
        ("What a read takes: 99 %", "ms (logarithmic)", lambda row: row["read_p99_s"] * 1000, True),
        ("Reads served by a leader", "% of reads", lambda row: row["leader"] * 100, False),
        ("Token", "characters, mean", lambda row: row["token_mean"], False),
    )
    with mpl.rc_context(_RC):
        lines = wrapped(subtitle)
        height = 7.2 + 0.2 * lines.count("\n")
        figure = Figure(figsize=(12, height), dpi=DPI)
        FigureCanvasAgg(figure)
        top = 1 - (1.2 + 0.2 * lines.count("\n")) / height
        grid = figure.add_gridspec(2, 2, hspace=0.42, wspace=0.17, left=0.065, right=0.82, top=top, bottom=0.085)
        _title(figure, title, lines)
        for n, (heading, unit, value, logarithmic) in enumerate(panels):
            axes = figure.add_subplot(grid[n // 2, n % 2])
            _panel(axes, rows, names, axis, value)
            _heading(axes, heading)
            axes.set_ylabel(unit)
            if logarithmic:
                _logarithmic(axes, [value(row) for row in rows])
            else:
                axes.set_ylim(0)
            if n // 2:
                axes.set_xlabel(axis.heading)
            if n == 1:
                axes.legend(
                    loc="upper left", bbox_to_anchor=(1.03, 1.0), frameon=False, handlelength=3.2, labelspacing=0.7
                )
    return figure


def _logarithmic(axes: Axes, values: Sequence[float]) -> None:
    """Let a panel's height grow by factors; what takes no time at all has its place at the bottom."""
    least = min((value for value in values if value > 0), default=1.0)
    if min(values) > 0:
        axes.set_yscale("log")
    else:
        axes.set_yscale("symlog", linthresh=least)
        axes.set_ylim(0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    axes.yaxis.set_minor_formatter(LogFormatter() if max(values) < 10 * least else NullFormatter())


def _panel(axes: Axes, rows: Sequence[Row], names: Sequence[str], axis: Axis, value: Any) -> None:
    points = sorted({row["value"] for row in rows})
    for name in sorted(names, key=lambda name: LINES[name][2] == "-"):  # what promises lies on top
        mine = sorted((row for row in rows if row["strategy"] == name), key=lambda row: row["value"])
        colour, marker, line = LINES[name]
        axes.plot(
            [row["value"] for row in mine],
            [value(row) for row in mine],
            color=colour,
            marker=marker,
            linestyle=line,
            markersize=11 if marker == "*" else 7,
            markeredgecolor="white",
            markeredgewidth=0.7,
            linewidth=1.9,
            label=name,
            clip_on=False,
        )
    if points[0] > 0 and points[-1] / points[0] >= 10:
        axes.set_xscale("log")
    axes.set_xticks(points, [f"{point * axis.scale:,g}" for point in points])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, axis="y", color=PALE)
    axes.set_axisbelow(True)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _ms(value: float) -> str:
    return f"{value / 1000:,.3g} s" if value >= 1000 else f"{value:.3g} ms"


def wrapped(text: str, width: int = 150) -> str:
    """Return a text in lines that fit under a figure's title."""
    return "\n".join(textwrap.wrap(text, width))
