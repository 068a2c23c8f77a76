"""Sparse autoencoders: build them, train them on a laptop, and say honestly how good they are.

The functions that a learner of lesson 06 writes are here under the same names and signatures.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOME = {
    "SAEConfig": "config",
    "SAE": "base",
    "train": "training",
    "Trainer": "training",
    "CheckpointError": "checkpoints",
    "Progress": "training",
    "Batches": "batches",
    "TensorBatches": "batches",
    "l0": "metrics",
    "density": "metrics",
    "density_histogram": "metrics",
    "Density": "metrics",
    "explained_variance": "metrics",
    "explained_variance_variants": "metrics",
    "shrinkage": "metrics",
    "loss_recovered": "metrics",
    "dead_latents": "metrics",
    "FiringWindow": "metrics",
    "mean_max_cosine": "metrics",
    "match_dictionary": "metrics",
    "Matching": "metrics",
    "absorption": "absorption",
    "Absorption": "absorption",
    "planted_dictionary": "planted",
    "planted_activations": "planted",
    "planted_hierarchy": "planted",
    "Planted": "planted",
    "sampled_tokens": "activations",
    "ordinary_tokens": "activations",
    "collect_activations": "activations",
    "ModelBatches": "activations",
    "LeftOut": "activations",
    "write_shards": "shards",
    "ShardBatches": "shards",
    "loss_with_sae": "splicing",
    "SpliceLoss": "splicing",
    "load_sae": "files",
    "save_sae": "files",
    "FileError": "files",
    "live_training": "live",
}
__all__ = [*_HOME]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
