"""Lesson 03: find the circuit of indirect-object identification by patching (Wang et al. 2022; Heimersheim and Nanda 2024)."""

from mi_course.lessons.activation_patching.estimates import ATTRIBUTION_PATCHING, DIRECT_ATTRIBUTION
from mi_course.lessons.activation_patching.hooks import MEAN_ABLATE, PATCH_HEAD, PATCH_POSITION
from mi_course.lessons.activation_patching.numbers import AGREEMENT, FAITHFULNESS, RECOVERY
from mi_course.lessons.activation_patching.outcome import MY_CIRCUIT
from mi_course.lessons.activation_patching.paths import PATH_PATCH_TO_LOGITS
from mi_course.lessons.activation_patching.prompts import IOI_PROMPTS, LOGIT_DIFFERENCE
from mi_course.lessons.activation_patching.sweeps import HEAD_SWEEP, RESIDUAL_SWEEP

EXERCISES = (
    LOGIT_DIFFERENCE,
    IOI_PROMPTS,
    DIRECT_ATTRIBUTION,
    RECOVERY,
    PATCH_POSITION,
    RESIDUAL_SWEEP,
    PATCH_HEAD,
    HEAD_SWEEP,
    ATTRIBUTION_PATCHING,
    AGREEMENT,
    PATH_PATCH_TO_LOGITS,
    MEAN_ABLATE,
    FAITHFULNESS,
    MY_CIRCUIT,
)
