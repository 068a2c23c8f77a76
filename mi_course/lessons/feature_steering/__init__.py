"""Lesson 07: find a feature in a sparse autoencoder, name it, and turn it up.

Sources: Templeton et al. 2024; Bricken et al. 2023; Paulo et al. 2024; Bolukbasi et al. 2021.
"""

from mi_course.lessons.feature_steering.clamp_outcome import MY_CLAMP
from mi_course.lessons.feature_steering.clamping import CLAMP_FEATURE, SPLICE

EXERCISES = (
    SPLICE,
    CLAMP_FEATURE,
    MY_CLAMP,
)
