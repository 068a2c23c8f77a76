"""Lesson 06: build, train and judge sparse autoencoders (Bricken et al. 2023; Gao et al. 2024; Rajamanoharan et al. 2024)."""

from mi_course.lessons.sae_training.dashboard import DASHBOARD_ROW
from mi_course.lessons.sae_training.dead_latents import AUXILIARY_LOSS
from mi_course.lessons.sae_training.decoder import NORMALIZE_DECODER, PROJECT_GRADIENT
from mi_course.lessons.sae_training.evaluation import LOSS_RECOVERED, MEAN_MAX_COSINE, SHRINKAGE
from mi_course.lessons.sae_training.gated import GATED_ENCODE, GATED_LOSS
from mi_course.lessons.sae_training.jumprelu import JUMPRELU, THRESHOLD_GRADIENT
from mi_course.lessons.sae_training.metrics import DEAD_LATENTS, EXPLAINED_VARIANCE, L0
from mi_course.lessons.sae_training.outcome import TRAIN_SAE
from mi_course.lessons.sae_training.relu import DECODE, ENCODE, SAE_LOSS
from mi_course.lessons.sae_training.rescaling import UNDO_SHRINKAGE
from mi_course.lessons.sae_training.splicing import SPLICE
from mi_course.lessons.sae_training.topk import BATCH_TOPK_ACTIVATION, TOPK_ACTIVATION

EXERCISES = (
    MEAN_MAX_COSINE,
    ENCODE,
    DECODE,
    SAE_LOSS,
    NORMALIZE_DECODER,
    PROJECT_GRADIENT,
    L0,
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
    LOSS_RECOVERED,
    DASHBOARD_ROW,
)
