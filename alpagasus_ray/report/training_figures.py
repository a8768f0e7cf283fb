"""The report's pictures of training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.ticker import MaxNLocator

from alpagasus_ray.report.collecting import Arm
from alpagasus_ray.report.curves import Points
from alpagasus_ray.report.drawing import (
    ARM_STYLES,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    Picture,
    picture_of,
    plain_grid,
    short,
)
from alpagasus_ray.report.page import time_words


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
        left.set_yticks(places, [short(arm.name) for arm in arms])

    return picture_of(draw, 0.6 + 0.4 * len(arms))


def loss_curves(arms: Sequence[Arm]) -> Picture:
    """Draw the training loss of every arm over its steps."""

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        for place, arm in enumerate(arms):
            colour, dashes = ARM_STYLES[place % len(ARM_STYLES)]
            if arm.losses:
                (line,) = axes.plot(*zip(*arm.losses, strict=True), dashes, color=colour)
                line.set(label=short(arm.name), marker="o", markersize=4, markevery=[-1])
        axes.set(xlabel="optimizer step", ylabel="training loss")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(x=0.02)
        plain_grid(axes, "y")
        figure.legend(ncols=4, loc="outside upper left", handlelength=2.6)

    return picture_of(draw, 3.0)


def training_curves(arm: Arm) -> Picture:
    """Draw an arm's losses, learning rate and gradient norm over its steps, one above the other."""
    panels = [
        (
            "loss",
            {
                "training": (arm.losses, BLUE, "-"),
                "validation": (_curve(arm, "validation_loss"), ORANGE, "--o"),
            },
        ),
        ("learning rate", {"": (_curve(arm, "learning_rate"), GREEN, "-")}),
        ("gradient norm", {"": (_curve(arm, "gradient_norm"), PURPLE, "-")}),
    ]
    shown = [(title, lines) for title, lines in panels if any(points for points, _, _ in lines.values())]
    heights_inch = [1.9 if title == "loss" else 1.15 for title, _ in shown]

    def draw(figure: Any) -> None:
        stacked = figure.subplots(len(shown), sharex=True, squeeze=False, height_ratios=heights_inch)[:, 0]
        for axes, (title, lines) in zip(stacked, shown, strict=True):
            drawn = {label: line for label, line in lines.items() if line[0]}
            for label, (points, colour, form) in drawn.items():
                axes.plot(*zip(*points, strict=True), form, color=colour, markersize=4, label=label)
            if len(drawn) > 1:
                axes.legend(ncols=2, loc="upper right", handlelength=2.6)
            axes.set_title(title)
            axes.yaxis.set_major_formatter("{x:g}")
            axes.margins(x=0.02)
            plain_grid(axes, "y")
        stacked[-1].set_xlabel("optimizer step")
        stacked[-1].xaxis.set_major_locator(MaxNLocator(integer=True))

    return picture_of(draw, 0.6 + sum(heights_inch))


def _curve(arm: Arm, name: str) -> Points:
    return arm.curves.get(name, ())
