"""Lesson 04: find directions, steer with them, and compare them with honest controls (Turner et al. 2023; Arditi et al. 2024)."""

from mi_course.lessons.steering_vectors.activations import ACTIVATIONS_AT, LAST_TOKEN_INDEX
from mi_course.lessons.steering_vectors.controls import RANDOM_CONTROLS
from mi_course.lessons.steering_vectors.directions import (
    COSINE_SIMILARITIES,
    DIFFERENCE_OF_MEANS,
    MASS_MEAN_PROBE,
    PROBE_ACCURACY,
)
from mi_course.lessons.steering_vectors.interventions import ABLATE_DIRECTION, ADD_VECTOR, ORTHOGONALIZE
from mi_course.lessons.steering_vectors.measures import DOSE_RESPONSE, KL_DIVERGENCE, LOG_ODDS
from mi_course.lessons.steering_vectors.outcome import MY_STEERING

EXERCISES = (
    LAST_TOKEN_INDEX,
    ACTIVATIONS_AT,
    MASS_MEAN_PROBE,
    PROBE_ACCURACY,
    DIFFERENCE_OF_MEANS,
    LOG_ODDS,
    ADD_VECTOR,
    DOSE_RESPONSE,
    KL_DIVERGENCE,
    RANDOM_CONTROLS,
    COSINE_SIMILARITIES,
    MY_STEERING,
    ABLATE_DIRECTION,
    ORTHOGONALIZE,
)
