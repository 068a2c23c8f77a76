"""Lesson 06: build, train and judge sparse autoencoders (Bricken et al. 2023; Gao et al. 2024; Rajamanoharan et al. 2024)."""

from mi_course.lessons.sae_training.dashboard import DASHBOARD_ROW
from mi_course.lessons.sae_training.dead_latents import AUXILIARY_LOSS
from mi_course.lessons.sae_training.evaluation import MEAN_MAX_COSINE, SHRINKAGE
from mi_course.lessons.sae_training.gated import GATED_ENCODE, GATED_LOSS
from mi_course.lessons.sae_training.jumprelu import JUMPRELU, THRESHOLD_GRADIENT
from mi_course.lessons.sae_training.metrics import DEAD_LATENTS, EXPLAINED_VARIANCE
from mi_course.lessons.sae_training.outcome import TRAIN_SAE
from mi_course.lessons.sae_training.relu import ENCODE, SAE_LOSS
from mi_course.lessons.sae_training.rescaling import UNDO_SHRINKAGE
from mi_course.lessons.sae_training.splicing import SPLICE
from mi_course.lessons.sae_training.topk import BATCH_TOPK_ACTIVATION, TOPK_ACTIVATION

EXERCISES = (
    MEAN_MAX_COSINE,
    ENCODE,
    SAE_LOSS,
    EXPLAINED_VARIANCE,
    SHRINKAGE,
    UNDO_SHRINKAGE,
    JUMPRELU,
    THRESHOLD_GRADIENT,
    GATED_ENCODE,
    GATED_LOSS,
    TOPK_ACTIVATION,
    BATCH_TOPK_ACTIVATION,
    DEAD_LATENTS,
    AUXILIARY_LOSS,
    TRAIN_SAE,
    SPLICE,
    DASHBOARD_ROW,
)
