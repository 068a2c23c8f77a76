"""The sparse autoencoders that ship with the course, each with its card.

    shipped_names()                                     ['early', 'late', 'middle-1152', …]
    sae = load_shipped("middle-4608")
    sae = load_shipped("middle-4608", model=model)      with its feature index, which `show.feature(sae, 7)` needs
    shipped_card("middle-4608")["explained_variance"]

They lie in `data/saes`, in SAELens's format. docs/saes.md shows the cards, `mi-course models list` their main numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mi_course.interp.sae.feature_index import FEATURES_FILE, load_feature_index
from mi_course.interp.sae.files import load_sae
from mi_course.interp.shipped_saes import folder_of, shipped_card, shipped_names

if TYPE_CHECKING:
    from mi_course.interp.sae.base import SAE

__all__ = ["load_shipped", "shipped_card", "shipped_names"]


def load_shipped(name: str, *, model: Any = None) -> SAE:
    """The SAE of this name, in float32; `sae.about` says where in which model it belongs.

    model: the one that it was trained on. With it, the feature index that ships with the SAE is put on it, as
    `sae.feature_index`. UnknownName, which lists the names, for another; FileError for damaged files.
    """
    folder = folder_of(name)
    sae = load_sae(folder)
    if model is not None and (folder / FEATURES_FILE).exists():
        load_feature_index(folder, sae, model)
    return sae
