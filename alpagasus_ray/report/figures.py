"""The report's pictures: each as a PNG file, and as an SVG that takes its colours from the page."""

from __future__ import annotations

import hashlib
import io
import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from alpagasus_ray.report.collecting import POOLED, Arm, Histogram, Pair, Result
from alpagasus_ray.report.page import percent, time_words

# Blue and orange stay apart for every kind of colour blindness. The page maps each of these to a CSS
# variable of its own, so that one SVG serves the light and the dark page.
CSS_VARIABLES = {
    "#1b2733": "ink",
    "#5b6876": "muted",
    "#dfe4ea": "line",
    "#2f6db5": "blue",
    "#bf5f13": "orange",
    "#1f8a70": "green",
    "#8e5aa8": "purple",
    "#d3dae2": "grey",
    "#fefefe": "on-colour",
}
INK, MUTED, LINE, BLUE, ORANGE, GREEN, PURPLE, GREY, ON_COLOUR = CSS_VARIABLES
ARM_STYLES = ((BLUE, "-"), (ORANGE, "--"), (GREEN, "-."), (PURPLE, ":"), (MUTED, "-"))
STYLE = {
    "font.family": "DejaVu Sans",
    **dict.fromkeys(("font.size", "axes.titlesize"), 9),
    **dict.fromkeys(("text.color", "ytick.color"), INK),
    **dict.fromkeys(("axes.labelcolor", "xtick.color"), MUTED),
    **dict.fromkeys(("axes.edgecolor", "grid.color"), LINE),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    **dict.fromkeys(("xtick.major.size", "ytick.major.size"), 0),
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "text.parse_math": False,  # a "$" in a name is a dollar sign
    "svg.fonttype": "none",  # text stays text: small, sharp, and in the page's font
}
WIDTH_INCH = 8.2
DASHES = (0, (4, 3))


@dataclass(frozen=True, slots=True)
class Picture:
    """One figure in its two forms."""

    svg: str
    """For the page: no namespaces, nothing to fetch."""
    png: bytes


def score_histogram(histogram: Histogram) -> Picture:
    """Draw how many rows have each score, and where the thresholds cut."""

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        cuts = sorted(histogram.cuts, key=lambda cut: cut.threshold)
        marks = sorted({score for score, _ in histogram.bars} | {cut.threshold for cut in cuts})
        gap = min([0.5, *(right - left for left, right in itertools.pairwise(marks))])
        kept_from = cuts[0].threshold if cuts else float("-inf")
        for score, count in histogram.bars:
            axes.bar(score, count, width=0.8 * gap, color=BLUE if score >= kept_from else GREY)
            if len(histogram.bars) <= 14:
                axes.annotate(f"{count:,}", (score, count), (0, 3), textcoords="offset points", ha="center")
        for place, cut in enumerate(cuts):
            left = cut.threshold - gap / 2  # between the bars: the threshold's own bar is kept
            axes.axvline(left, color=INK, linewidth=1.2, linestyle=DASHES)
            label = (
                f"{_short(cut.arm)}: score ≥ {cut.threshold:g}\n{cut.kept:,} rows kept, {percent(cut.share)}"
            )
            height = 1.04 + 0.18 * (len(cuts) - 1 - place)
            axes.text(left, height, label, transform=axes.get_xaxis_transform(), ha="center")
        if len(marks) <= 14:
            axes.set_xticks(marks, [f"{mark:g}" for mark in marks])
        axes.set(xlabel=f"score for {histogram.rubric} by {histogram.judge_model}", ylabel="rows")
        axes.yaxis.set_major_formatter("{x:,.0f}")
        axes.margins(y=0.12)
        _plain_grid(axes, "y")

    return _picture(draw, 3.1)


def outcome_bars(pair: Pair) -> Picture:
    """Draw win, tie and lose of every test set as one bar each."""

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        rows = [result for result in pair.rows if result.n]
        places = _place_rows(axes, rows)
        parts = (
            ("win", f"{_short(pair.a)} better", BLUE, ON_COLOUR),
            ("tie", "tie", GREY, INK),
            ("lose", f"{_short(pair.b)} better", ORANGE, ON_COLOUR),
        )
        left = [0.0] * len(rows)
        for outcome, label, colour, text_colour in parts:
            counts = [getattr(result, outcome) for result in rows]
            shares = [count / result.n for count, result in zip(counts, rows, strict=True)]
            bars = axes.barh(places, shares, left=left, height=0.62, color=colour, label=label)
            words = [f"{n:,}" if share > 0.04 else "" for n, share in zip(counts, shares, strict=True)]
            axes.bar_label(bars, words, label_type="center", color=text_colour)
            left = [start + share for start, share in zip(left, shares, strict=True)]
        for place, result in zip(places, rows, strict=True):
            words = [f"{result.winning_score:.2f}"] if result.winning_score is not None else []
            words += (
                [f"[{result.low:.2f}, {result.high:.2f}]"] if None not in (result.low, result.high) else []
            )
            axes.text(1.02, place, "  ".join(words), va="center", weight=_weight(result))
        axes.set(xlim=(0, 1))
        axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
        axes.spines[["left", "bottom"]].set_visible(False)
        figure.legend(ncols=3, loc="outside upper left", handlelength=0.9, handleheight=0.9)

    return _picture(draw, 1.0 + 0.38 * len(pair.rows))


def score_intervals(pairs: Sequence[Pair]) -> Picture:
    """Draw every winning score with its interval, against the line where both arms are even."""

    def draw(figure: Any) -> None:
        counts = [len(pair.rows) for pair in pairs]
        panels = figure.subplots(len(pairs), sharex=True, squeeze=False, height_ratios=counts)[:, 0]
        for axes, pair in zip(panels, pairs, strict=True):
            rows = [result for result in pair.rows if result.winning_score is not None]
            places = _place_rows(axes, rows)
            axes.axvline(1, color=MUTED, linewidth=1, linestyle=DASHES)
            for place, result in zip(places, rows, strict=True):
                pooled = result is pair.pooled
                colour, size = (BLUE, 7.5) if pooled else (MUTED, 5.5)
                if result.low is not None and result.high is not None:
                    axes.plot([result.low, result.high], [place, place], color=colour, linewidth=1.8)
                axes.plot(result.winning_score, place, "D" if pooled else "o", color=colour, markersize=size)
            axes.set_title(f"{_short(pair.a)} against {_short(pair.b)}")
            _plain_grid(axes, "x")
        figure.get_layout_engine().set(hspace=0.06)
        panels[-1].set_xlabel("winning score: 1 is even, above 1 the first-named arm is ahead")

    return _picture(draw, 0.6 + sum(0.45 + 0.3 * len(pair.rows) for pair in pairs))


def training_cost(arms: Sequence[Arm]) -> Picture:
    """Draw the rows of every arm beside the time that training on them took."""

    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        places = list(range(len(arms)))[::-1]
        rows, times = [arm.kept for arm in arms], [arm.train_time_s for arm in arms]
        columns = ((left, "rows", rows, "{:,}".format), (right, "training time", times, time_words))
        colours = [ARM_STYLES[place % len(ARM_STYLES)][0] for place in range(len(arms))]
        for axes, title, values, words in columns:
            bars = axes.barh(places, [value or 0 for value in values], height=0.55, color=colours)
            axes.bar_label(bars, ["not known" if v is None else words(v) for v in values], padding=4)
            axes.set(title=title, xticks=[])
            axes.margins(x=0.25)
            axes.spines["bottom"].set_visible(False)
        left.set_yticks(places, [_short(arm.name) for arm in arms])

    return _picture(draw, 0.6 + 0.4 * len(arms))


def loss_curves(arms: Sequence[Arm]) -> Picture:
    """Draw the training loss of every arm over its steps."""

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        for place, arm in enumerate(arms):
            colour, dashes = ARM_STYLES[place % len(ARM_STYLES)]
            if arm.losses:
                (line,) = axes.plot(*zip(*arm.losses, strict=True), dashes, color=colour)
                line.set(label=_short(arm.name), marker="o", markersize=4, markevery=[-1])
        axes.set(xlabel="optimizer step", ylabel="training loss")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(x=0.02)
        _plain_grid(axes, "y")
        figure.legend(ncols=4, loc="outside upper left", handlelength=2.6)

    return _picture(draw, 3.0)


def _picture(draw: Callable[[Any], None], height_inch: float) -> Picture:
    png, svg = io.BytesIO(), io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_INCH, height_inch), layout="constrained")
        draw(figure)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # laid out once is enough for both files
        figure.savefig(png, format="png", dpi=160, facecolor="white", metadata={"Software": None})
        # Ids are hashes: the same on every call, and no other picture's on the page.
        matplotlib.rcParams["svg.hashsalt"] = hashlib.sha256(png.getvalue()).hexdigest()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(svg, format="svg", transparent=True, metadata=nothing)
    return Picture(_inline_svg(svg.getvalue()), png.getvalue())


def _inline_svg(text: str) -> str:
    """Return the SVG as an element of an HTML page, in the page's font and colours."""
    root = ElementTree.fromstring(text[text.index("<svg") :])
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        attributes = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
        if element.tag == "g":
            attributes.pop("id", None)  # matplotlib's own, the same in every picture
        element.attrib = attributes
    inline = re.sub(r'font-family: [^;"]*;?', "", ElementTree.tostring(root, encoding="unicode"))
    for colour, name in CSS_VARIABLES.items():
        inline = inline.replace(colour, f"var(--{name})")
    return inline


def _place_rows(axes: Any, rows: Sequence[Result]) -> list[float]:
    """Name a line of the figure for each row, the first on top and a little apart; return their heights."""
    places = [len(rows) - place + (0.0 if place else 0.25) for place in range(len(rows))]
    axes.set_yticks(places, [f"{_short(result.testset)} (n = {result.n:,})" for result in rows])
    for label, result in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_weight(_weight(result))
    axes.set_ylim(min(places) - 0.6, max(places) + 0.6)
    return places


def _weight(result: Result) -> str:
    return "bold" if result.testset == POOLED else "normal"


def _short(name: str) -> str:
    return name if len(name) <= 28 else f"{name[:27]}…"


def _plain_grid(axes: Any, axis: str) -> None:
    axes.grid(axis=axis, linewidth=0.8)
    axes.spines[["left", "bottom"]].set_visible(False)
