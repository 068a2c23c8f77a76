"""Lesson 02: find, explain, ablate and grow induction heads (Elhage et al. 2021; Olsson et al. 2022)."""

from mi_course.lessons.induction_heads.circuits import COMPOSITION_SCORE, COPYING_SCORE, LOSS_WITHOUT_HEADS
from mi_course.lessons.induction_heads.growth import EMERGENCE_STEP, TRAIN_STEP
from mi_course.lessons.induction_heads.outcome import MY_INDUCTION_HEADS
from mi_course.lessons.induction_heads.scores import INDUCTION_SCORE, PREVIOUS_TOKEN_SCORE, SCORE_HOOK, TOP_HEADS
from mi_course.lessons.induction_heads.sequences import LOSS_PER_TOKEN, REPEATED_TOKENS

EXERCISES = (
    REPEATED_TOKENS,
    LOSS_PER_TOKEN,
    INDUCTION_SCORE,
    SCORE_HOOK,
    TOP_HEADS,
    MY_INDUCTION_HEADS,
    PREVIOUS_TOKEN_SCORE,
    COMPOSITION_SCORE,
    COPYING_SCORE,
    LOSS_WITHOUT_HEADS,
    TRAIN_STEP,
    EMERGENCE_STEP,
)
