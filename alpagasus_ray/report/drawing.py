"""How the report draws: each picture as a PNG file, and as an SVG that takes its colours from the page."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.figure import Figure

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


def picture_of(draw: Callable[[Any], None], height_inch: float) -> Picture:
    """Return what `draw` puts on a matplotlib figure of the page's width, in the house style."""
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


def short(name: str) -> str:
    """Return a name, cut to what an axis has room for."""
    return name if len(name) <= 28 else f"{name[:27]}…"


def plain_grid(axes: Any, axis: str) -> None:
    """Give axes grid lines along one axis, and no frame."""
    axes.grid(axis=axis, linewidth=0.8)
    axes.spines[["left", "bottom"]].set_visible(False)
