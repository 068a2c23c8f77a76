"""Lesson 07: find a feature in a real model, name it, and turn it up.

Sources: Templeton et al. 2024; Bricken et al. 2023; Paulo et al. 2024; Bolukbasi et al. 2021.
"""

from mi_course.lessons.feature_steering.scores import COMPARE_BASES, DETECTION_SCORE, FUZZING_SCORE, SPECIFICITY

EXERCISES = (
    DETECTION_SCORE,
    FUZZING_SCORE,
    SPECIFICITY,
    COMPARE_BASES,
)
