"""Colors that read on a light and on a dark ground, and with the common forms of color blindness."""

from __future__ import annotations

# Okabe and Ito 2008, without black and yellow, which vanish on a dark or a white ground.
SERIES = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"]
CONTROL = "#8a8a8a"
# Text where no theme says better. No gray has a contrast of 4.5 on both white and JupyterLab's #111111; this one has
# 4.6 and 4.1. Where the theme is known, its own text color is used.
INK = "#757575"
LINE = "#8c959f"
GRID = "#7f7f7f40"
POSITIVE, NEGATIVE = "#2878d2", "#cd4632"

# Heat maps show their ground through: cells of little effect are faint on any page, and the largest are opaque.
# A scale is a list of (share of the range, color).
FAINT = "#7f7f7f1f"
DIVERGING = [(0.0, NEGATIVE), (0.45, NEGATIVE + "29"), (0.5, FAINT), (0.55, POSITIVE + "29"), (1.0, POSITIVE)]
SEQUENTIAL = [(0.0, FAINT), (0.05, POSITIVE + "1f"), (1.0, POSITIVE)]


def rgba(color: str, opacity: float = 1.0) -> str:
    """`#rrggbb` or `#rrggbbaa` for CSS and plotly: `rgba("#2878d2", 0.5)` is 'rgba(40,120,210,0.5)'."""
    red, green, blue, *alpha = bytes.fromhex(color[1:])
    return f"rgba({red},{green},{blue},{round(opacity * (alpha[0] / 255 if alpha else 1), 2):g})"


def tint(share: float, *, strongest: float = 0.62) -> str:
    """A translucent ground for text: share −1 is red, 0 nothing, +1 blue.

    The reader's own text color stays readable on it in a light and in a dark theme, because at most `strongest` of the
    ground is covered.
    """
    return rgba(POSITIVE if share >= 0 else NEGATIVE, abs(share) * strongest)
