"""Which SAEs ship with the course, and their cards: without torch, so that `mi-course models list` is quick.

They lie in `data/saes`, in SAELens's format. `mi_course.interp.sae.load_shipped` loads one; docs/saes.md has the cards.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mi_course.errors import UnknownName
from mi_course.interp.models.where import data_dir

CONFIG_FILE, CARD_FILE = "cfg.json", "evaluation.json"


def shipped_names() -> list[str]:
    """The names that `load_shipped` knows, in alphabetical order."""
    return sorted(path.parent.name for path in shipped_folder().glob(f"*/{CONFIG_FILE}"))


def shipped_card(name: str) -> dict[str, Any]:
    """What was measured of the SAE on held-out text; docs/saes.md explains each number.

    UnknownName, which lists the names, for another.
    """
    return json.loads((folder_of(name) / CARD_FILE).read_text(encoding="utf-8"))


def mean_rise(card: Mapping[str, Any]) -> float:
    """The rise of the loss in nats, mean over all held-out tokens of all groups."""
    tokens = sum(group["tokens"] for group in card["loss"].values())
    return sum(group["rise"] * group["tokens"] for group in card["loss"].values()) / tokens


def shipped_folder() -> Path:
    return data_dir() / "saes"


def folder_of(name: str) -> Path:
    """The folder of the SAE of this name. UnknownName, which lists the names, for another."""
    if name not in (names := shipped_names()):
        there = f"there are {', '.join(names)}" if names else f"there are none in {shipped_folder()}"
        raise UnknownName(f"{str(name)[:60]!r} is not an SAE of this course; {there}.")
    return shipped_folder() / name
