"""Lesson 12: whether a model's written reasoning is what its answer comes from.

Sources: Lanham et al. 2023; Turpin et al. 2023; Chen et al. 2025; Bogdan et al. 2025.
"""

from mi_course.lessons.chain_of_thought.chains import CORRUPT_STEP, TRUNCATE_REASONING
from mi_course.lessons.chain_of_thought.curves import AREA_OVER_CURVE, EARLY_ANSWER_CURVE
from mi_course.lessons.chain_of_thought.outcome import MY_VERDICTS
from mi_course.lessons.chain_of_thought.rates import ANSWER_FLIP_RATE, HINT_EFFECT, MENTION_RATE
from mi_course.lessons.chain_of_thought.steps import KNOCK_OUT_ATTENTION, RECEIVER_SCORE, STEP_IMPORTANCE

EXERCISES = (
    TRUNCATE_REASONING,
    EARLY_ANSWER_CURVE,
    AREA_OVER_CURVE,
    CORRUPT_STEP,
    ANSWER_FLIP_RATE,
    HINT_EFFECT,
    MENTION_RATE,
    STEP_IMPORTANCE,
    KNOCK_OUT_ATTENTION,
    RECEIVER_SCORE,
    MY_VERDICTS,
)
