"""Lesson 03: find the circuit of indirect-object identification by patching (Wang et al. 2022; Heimersheim and Nanda 2024)."""

from mi_course.lessons.activation_patching.estimates import ATTRIBUTION_PATCHING, DIRECT_ATTRIBUTION, SELF_REPAIR
from mi_course.lessons.activation_patching.hooks import MEAN_ABLATE, PATCH_POSITION
from mi_course.lessons.activation_patching.numbers import RECOVERY
from mi_course.lessons.activation_patching.outcome import MY_CIRCUIT
from mi_course.lessons.activation_patching.paths import PATH_PATCH_TO_LOGITS, PATH_PATCH_TO_QUERY
from mi_course.lessons.activation_patching.prompts import IOI_PROMPTS, LOGIT_DIFFERENCE
from mi_course.lessons.activation_patching.sweeps import RESIDUAL_SWEEP
from mi_course.lessons.activation_patching.weights import COPYING_SCORE

EXERCISES = (
    LOGIT_DIFFERENCE,
    IOI_PROMPTS,
    DIRECT_ATTRIBUTION,
    RECOVERY,
    PATCH_POSITION,
    RESIDUAL_SWEEP,
    COPYING_SCORE,
    PATH_PATCH_TO_LOGITS,
    PATH_PATCH_TO_QUERY,
    MEAN_ABLATE,
    ATTRIBUTION_PATCHING,
    MY_CIRCUIT,
    SELF_REPAIR,
)
