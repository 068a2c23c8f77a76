"""Lesson 02: find, explain, ablate and grow induction heads (Elhage et al. 2021; Olsson et al. 2022)."""

from mi_course.lessons.induction_heads.circuits import COMPOSITION_SCORE, COPYING_SCORE, LOSS_WITHOUT_HEADS
from mi_course.lessons.induction_heads.growth import TRAIN_STEP
from mi_course.lessons.induction_heads.outcome import MY_INDUCTION_HEADS
from mi_course.lessons.induction_heads.paths import LOSS_WITHOUT_PATH
from mi_course.lessons.induction_heads.real_text import TEXT_INDUCTION_SCORE
from mi_course.lessons.induction_heads.scores import INDUCTION_SCORE, PREVIOUS_TOKEN_SCORE
from mi_course.lessons.induction_heads.sequences import LOSS_PER_TOKEN, REPEATED_TOKENS

EXERCISES = (
    REPEATED_TOKENS,
    LOSS_PER_TOKEN,
    INDUCTION_SCORE,
    MY_INDUCTION_HEADS,
    PREVIOUS_TOKEN_SCORE,
    COMPOSITION_SCORE,
    COPYING_SCORE,
    LOSS_WITHOUT_HEADS,
    LOSS_WITHOUT_PATH,
    TEXT_INDUCTION_SCORE,
    TRAIN_STEP,
)
