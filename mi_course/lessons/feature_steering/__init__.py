"""Lesson 07: find a feature in SmolLM2, name it, turn it up.

Sources: Templeton et al. 2024; Bricken et al. 2023; Paulo et al. 2024; Bolukbasi et al. 2021.
"""

from mi_course.lessons.feature_steering.features_outcome import MY_FEATURES
from mi_course.lessons.feature_steering.label_outcome import MY_LABEL

EXERCISES = (MY_LABEL, MY_FEATURES)
