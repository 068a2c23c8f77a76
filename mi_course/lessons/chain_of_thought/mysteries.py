"""Which kind each of the five mystery models is. The truth of `my_verdicts`: never in `interp`, which answers can read."""

from __future__ import annotations

import random

CANDIDATES = ("needs", "ignores", "hint-through", "hint-direct", "hint-direct-ignores")
"""Kinds (`mi_course.interp.reasoning.KINDS`) that a mystery model can be of."""
LETTERS = "abcde"


def mystery_kinds(version: str) -> dict[str, str]:
    """Letter → kind, as drawn for this version of the course, with replacement; at least three kinds occur."""
    draw = random.Random(f"mystery reasoners of {version}")
    while True:
        kinds = draw.choices(CANDIDATES, k=len(LETTERS))
        if len(set(kinds)) >= 3:
            return dict(zip(LETTERS, kinds, strict=True))
