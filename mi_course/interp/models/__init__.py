"""Loading models, wherever they are. Importing this imports neither torch nor transformer_lens.

model = load_model()                   SmolLM2, the course's real language model: smollm2.py
model = load_model("tiny-induction")   a small model of our own, in data/: native.py
model = load_model("gpt2")             a name on the Hugging Face hub, or a folder: hub.py
model = small_model(config, seed=0)    random weights, for checks: small.py
logits = run_bare(model, tokens, hooks) a forward pass without the bridge: bare.py
"""

from mi_course.interp.models.bare import record_bare, run_bare
from mi_course.interp.models.cache import cache_dir
from mi_course.interp.models.errors import ModelError
from mi_course.interp.models.loading import ModelInfo, fetch, list_models, load_model
from mi_course.interp.models.native import (
    load_checkpoints,
    load_native,
    load_state,
    save_checkpoints,
    save_native,
    state_of,
)
from mi_course.interp.models.small import redraw, reseed, small_model

__all__ = [
    "ModelError",
    "ModelInfo",
    "cache_dir",
    "fetch",
    "list_models",
    "load_checkpoints",
    "load_model",
    "load_native",
    "load_state",
    "record_bare",
    "redraw",
    "reseed",
    "run_bare",
    "save_checkpoints",
    "save_native",
    "small_model",
    "state_of",
]
