"""Sparse autoencoders: build them, train them on a laptop, and measure how good they are.

The functions that a learner of lesson 06 writes are in metrics.py under the same names and signatures; `simple.py` is a
trainer to read, `training.py` the one to use.
"""

from mi_course.interp.sae.absorption import Absorption, absorption
from mi_course.interp.sae.activations import (
    LeftOut,
    ModelBatches,
    collect_activations,
    ordinary_tokens,
    sampled_tokens,
)
from mi_course.interp.sae.base import SAE
from mi_course.interp.sae.batch_topk import BatchTopKSAE
from mi_course.interp.sae.batches import Batches, TensorBatches
from mi_course.interp.sae.checkpoints import CheckpointError
from mi_course.interp.sae.config import SAEConfig
from mi_course.interp.sae.corpus import TextGroup, TokenRows, write_rows
from mi_course.interp.sae.feature_build import build_feature_index
from mi_course.interp.sae.feature_index import FeatureIndex, load_feature_index
from mi_course.interp.sae.file_checks import FileError
from mi_course.interp.sae.files import load_sae, save_sae
from mi_course.interp.sae.gated import GatedSAE
from mi_course.interp.sae.group import Member, places, train_group
from mi_course.interp.sae.jumprelu import JumpReluSAE
from mi_course.interp.sae.live import live_training
from mi_course.interp.sae.matryoshka import MatryoshkaSAE
from mi_course.interp.sae.metrics import (
    Density,
    FiringWindow,
    Matching,
    dead_latents,
    density,
    density_histogram,
    explained_variance,
    explained_variance_variants,
    l0,
    loss_recovered,
    match_dictionary,
    mean_max_cosine,
    shrinkage,
)
from mi_course.interp.sae.planted import Planted, planted_activations, planted_dictionary, planted_hierarchy
from mi_course.interp.sae.relu import ReluSAE
from mi_course.interp.sae.shards import ShardBatches, write_shards
from mi_course.interp.sae.shipped import load_shipped, shipped_card, shipped_names
from mi_course.interp.sae.simple import train_simple
from mi_course.interp.sae.splicing import SpliceLoss, clamp, loss_with_sae, splice
from mi_course.interp.sae.topk import TopKSAE
from mi_course.interp.sae.training import Progress, Trainer, train

__all__ = [
    "SAE",
    "Absorption",
    "BatchTopKSAE",
    "Batches",
    "CheckpointError",
    "Density",
    "FeatureIndex",
    "FileError",
    "FiringWindow",
    "GatedSAE",
    "JumpReluSAE",
    "LeftOut",
    "Matching",
    "MatryoshkaSAE",
    "Member",
    "ModelBatches",
    "Planted",
    "Progress",
    "ReluSAE",
    "SAEConfig",
    "ShardBatches",
    "SpliceLoss",
    "TensorBatches",
    "TextGroup",
    "TokenRows",
    "TopKSAE",
    "Trainer",
    "absorption",
    "build_feature_index",
    "clamp",
    "collect_activations",
    "dead_latents",
    "density",
    "density_histogram",
    "explained_variance",
    "explained_variance_variants",
    "l0",
    "live_training",
    "load_feature_index",
    "load_sae",
    "load_shipped",
    "loss_recovered",
    "loss_with_sae",
    "match_dictionary",
    "mean_max_cosine",
    "ordinary_tokens",
    "places",
    "planted_activations",
    "planted_dictionary",
    "planted_hierarchy",
    "sampled_tokens",
    "save_sae",
    "shipped_card",
    "shipped_names",
    "shrinkage",
    "splice",
    "train",
    "train_group",
    "train_simple",
    "write_rows",
    "write_shards",
]
