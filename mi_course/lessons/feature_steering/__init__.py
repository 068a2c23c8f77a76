"""Lesson 07: find a feature in a sparse autoencoder, name it by a rule that can fail, turn it up, and take it out.

Sources: Templeton et al. 2024; Bricken et al. 2023; Paulo et al. 2024; Bolukbasi et al. 2021.
"""

from mi_course.lessons.feature_steering.clamp_outcome import MY_CLAMP
from mi_course.lessons.feature_steering.clamping import CLAMP_FEATURE, SPLICE
from mi_course.lessons.feature_steering.effects import ABLATION_EFFECT, LOGIT_EFFECT
from mi_course.lessons.feature_steering.examples import QUANTILE_EXAMPLES, TOP_ACTIVATIONS
from mi_course.lessons.feature_steering.features_outcome import MY_FEATURES
from mi_course.lessons.feature_steering.label_outcome import MY_LABEL
from mi_course.lessons.feature_steering.scores import COMPARE_BASES, DETECTION_SCORE, FUZZING_SCORE, SPECIFICITY

EXERCISES = (
    TOP_ACTIVATIONS,
    QUANTILE_EXAMPLES,
    LOGIT_EFFECT,
    DETECTION_SCORE,
    FUZZING_SCORE,
    SPLICE,
    CLAMP_FEATURE,
    MY_CLAMP,
    SPECIFICITY,
    MY_FEATURES,
    COMPARE_BASES,
    ABLATION_EFFECT,
    MY_LABEL,
)
