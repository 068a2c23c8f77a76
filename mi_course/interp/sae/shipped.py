"""The sparse autoencoders that ship with the course: trained on 5 to 15 million tokens, each with its card.

    shipped_names()                                     ['early', 'late', 'middle-1152', …]
    sae = load_shipped("middle-4608")
    sae = load_shipped("middle-4608", model=model)      with its feature index, which `show.feature(sae, 7)` needs
    shipped_card("middle-4608")["explained_variance"]

They lie in `data/saes`, in SAELens's format. docs/saes.md shows the cards, `mi-course models list` their main numbers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mi_course.errors import UnknownName
from mi_course.interp.models.where import data_dir
from mi_course.interp.sae.feature_index import FEATURES_FILE, load_feature_index
from mi_course.interp.sae.files import CONFIG_FILE, load_sae

if TYPE_CHECKING:
    from mi_course.interp.sae.base import SAE

CARD_FILE = "evaluation.json"


def shipped_names() -> list[str]:
    """The names that `load_shipped` knows, in alphabetical order."""
    return sorted(path.parent.name for path in _folder().glob(f"*/{CONFIG_FILE}"))


def load_shipped(name: str, *, model: Any = None) -> SAE:
    """The SAE of this name, in float32; `sae.about` says where in which model it belongs.

    model: the one that it was trained on. With it, the feature index that ships with the SAE is put on it, as
    `sae.feature_index`. UnknownName, which lists the names, for another; FileError for damaged files.
    """
    folder = _known(name)
    sae = load_sae(folder)
    if model is not None and (folder / FEATURES_FILE).exists():
        load_feature_index(folder, sae, model)
    return sae


def shipped_card(name: str) -> dict[str, Any]:
    """What was measured of the SAE on held-out text (docs/saes.md explains each number). UnknownName as above."""
    return json.loads((_known(name) / CARD_FILE).read_text(encoding="utf-8"))


def _folder() -> Path:
    return data_dir() / "saes"


def _known(name: str) -> Path:
    if name not in (names := shipped_names()):
        there = f"there are {', '.join(names)}" if names else f"there are none in {_folder()}"
        raise UnknownName(f"{str(name)[:60]!r} is not an SAE of this course; {there}.")
    return _folder() / name
