"""Lesson 05: more features than dimensions, and the shapes they make (Elhage et al. 2022)."""

from mi_course.lessons.superposition.data import SAMPLE_FEATURES
from mi_course.lessons.superposition.geometry import FEATURE_DIMENSIONALITY, INTERFERENCE
from mi_course.lessons.superposition.model import BEST_LINEAR_LOSS, IMPORTANCE_LOSS, TOY_FORWARD
from mi_course.lessons.superposition.outcome import TRAIN_TOY
from mi_course.lessons.superposition.pairs import PAIRED_FEATURES

EXERCISES = (
    SAMPLE_FEATURES,
    TOY_FORWARD,
    IMPORTANCE_LOSS,
    BEST_LINEAR_LOSS,
    TRAIN_TOY,
    INTERFERENCE,
    FEATURE_DIMENSIONALITY,
    PAIRED_FEATURES,
)
