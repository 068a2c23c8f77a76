"""Lesson 04: find directions, steer with them, and compare them with honest controls (Turner et al. 2023; Arditi et al. 2024)."""

from mi_course.lessons.steering_vectors.activations import LAST_TOKEN_INDEX
from mi_course.lessons.steering_vectors.controls import RANDOM_CONTROLS
from mi_course.lessons.steering_vectors.directions import COSINE_SIMILARITIES, MASS_MEAN_PROBE
from mi_course.lessons.steering_vectors.generating import STEERED_GENERATION
from mi_course.lessons.steering_vectors.interventions import ABLATE_DIRECTION, ADD_VECTOR
from mi_course.lessons.steering_vectors.matched import MATCHED_CONTROLS
from mi_course.lessons.steering_vectors.measures import KL_DIVERGENCE, LOG_ODDS
from mi_course.lessons.steering_vectors.outcome import MY_STEERING
from mi_course.lessons.steering_vectors.sweeps import LAYER_SWEEP

EXERCISES = (
    LAST_TOKEN_INDEX,
    MASS_MEAN_PROBE,
    LOG_ODDS,
    ADD_VECTOR,
    COSINE_SIMILARITIES,
    RANDOM_CONTROLS,
    MATCHED_CONTROLS,
    LAYER_SWEEP,
    KL_DIVERGENCE,
    MY_STEERING,
    STEERED_GENERATION,
    ABLATE_DIRECTION,
)
