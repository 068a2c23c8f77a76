"""Loading models, from wherever they are. Importing this imports neither torch nor transformer_lens.

model = load_model()                   SmolLM2, the course's real language model: see smollm2.py
model = load_model("tiny-induction")   a small model of our own, in data/: see native.py
model = load_model("gpt2")             a name on the Hugging Face hub, or a folder: see hub.py
model = small_model(config, seed=0)    random weights, for checks: see small.py
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from mi_course.interp.models.errors import ModelError

_HOME = {
    "load_model": "loading",
    "fetch": "loading",
    "list_models": "loading",
    "ModelInfo": "loading",
    "cache_dir": "cache",
    "load_native": "native",
    "save_native": "native",
    "load_checkpoints": "native",
    "save_checkpoints": "native",
    "load_state": "native",
    "state_of": "native",
    "small_model": "small",
    "reseed": "small",
}
__all__ = ["ModelError", *_HOME]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
