"""Colours that survive colour blindness, both themes and grey print."""

from __future__ import annotations

# Okabe and Ito 2008, without black and yellow, which vanish on a dark or a white ground.
SERIES = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"]
CONTROL = "#8a8a8a"
INK = "#24292f"
SOFT = "#57606a"
GRID = "#e4e7eb"
PAPER = "#ffffff"

# Red to blue through near-white (ColorBrewer's RdBu, which stays apart for the common forms of colour blindness):
# red is below the centre, blue above.
DIVERGING = ["#b2182b", "#d6604d", "#f4a582", "#fddbc7", "#f7f7f7", "#d1e5f0", "#92c5de", "#4393c3", "#2166ac"]
# White to navy, as in the attention view: falling in lightness, so the same order to all readers and in print. Nothing
# is pale: the few heads that do something are what one sees first, and a frame around a cell can be seen too.
SEQUENTIAL = ["#f4f6f8", "#b3d4ec", "#4a98cf", "#08519c", "#08306b"]

BELOW, ABOVE = (178, 24, 43), (33, 102, 172)


def plotly_scale(stops: list[str]) -> list[list[float | str]]:
    return [[round(i / (len(stops) - 1), 4), stop] for i, stop in enumerate(stops)]


def wash(share: float, *, most: float = 0.62) -> str:
    """A see-through tint for text: share −1 is red, 0 nothing, +1 blue.

    The reader's own text colour stays readable on it in a light and in a dark theme, because at most `most` of the
    ground is covered.
    """
    red, green, blue = ABOVE if share >= 0 else BELOW
    return f"rgba({red}, {green}, {blue}, {abs(share) * most:.2f})"
