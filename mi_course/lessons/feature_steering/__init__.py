"""Lesson 07: find a feature, name it by a rule that can fail, and turn it up.

Sources: Templeton et al. 2024; Bricken et al. 2023; Paulo et al. 2024; Bolukbasi et al. 2021.
"""

from mi_course.lessons.feature_steering.effects import ABLATION_EFFECT, LOGIT_EFFECT
from mi_course.lessons.feature_steering.examples import QUANTILE_EXAMPLES, TOP_ACTIVATIONS

EXERCISES = (
    TOP_ACTIVATIONS,
    QUANTILE_EXAMPLES,
    LOGIT_EFFECT,
    ABLATION_EFFECT,
)
