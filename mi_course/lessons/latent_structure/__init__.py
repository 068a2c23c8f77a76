"""Lesson 13: what a model infers that nobody told it (Shai et al. 2024; Nanda et al. 2023)."""

from mi_course.lessons.latent_structure.beliefs import BELIEF_STATES, BELIEF_UPDATE, OPTIMAL_LOSS
from mi_course.lessons.latent_structure.fourier import COSINE_FIT, FOURIER_BASIS, KEY_FREQUENCIES
from mi_course.lessons.latent_structure.frequencies import MY_FREQUENCIES
from mi_course.lessons.latent_structure.intervention import BELIEF_INTERVENTION
from mi_course.lessons.latent_structure.maps import DISTINGUISHING_PAIRS, HELD_OUT_R2
from mi_course.lessons.latent_structure.outcome import MY_BELIEF_MAP
from mi_course.lessons.latent_structure.progress import EMERGENCE_ORDER, EXCLUDED_LOGITS, RESTRICTED_LOGITS

EXERCISES = (
    # Part A
    BELIEF_UPDATE,
    BELIEF_STATES,
    DISTINGUISHING_PAIRS,
    OPTIMAL_LOSS,
    HELD_OUT_R2,
    BELIEF_INTERVENTION,
    MY_BELIEF_MAP,
    # Part B
    FOURIER_BASIS,
    KEY_FREQUENCIES,
    COSINE_FIT,
    RESTRICTED_LOGITS,
    EXCLUDED_LOGITS,
    EMERGENCE_ORDER,
    MY_FREQUENCIES,
)
