"""Lesson 08: probes and their controls, known entities, and whether a model knows what it does not know.

Sources: Ferrando et al. 2024; Hewitt & Liang 2019; Farquhar et al. 2024; Kadavath et al. 2022.
"""

from mi_course.lessons.entities_and_uncertainty.confidence import (
    ANSWER_LOGPROB,
    CALIBRATION_ERROR,
    RISK_COVERAGE,
    SEMANTIC_ENTROPY,
)
from mi_course.lessons.entities_and_uncertainty.labels import GROUP_FOLDS, LABEL_KNOWN, MATCH_ON
from mi_course.lessons.entities_and_uncertainty.outcomes import MY_CONFIDENCE, MY_KNOWLEDGE_DIRECTION
from mi_course.lessons.entities_and_uncertainty.probes import AUROC, FIT_PROBE, PERMUTATION_P, SELECTIVITY
from mi_course.lessons.entities_and_uncertainty.units import SEPARATION

EXERCISES = (
    LABEL_KNOWN,
    GROUP_FOLDS,
    FIT_PROBE,
    AUROC,
    SELECTIVITY,
    PERMUTATION_P,
    MATCH_ON,
    SEPARATION,
    MY_KNOWLEDGE_DIRECTION,
    ANSWER_LOGPROB,
    SEMANTIC_ENTROPY,
    CALIBRATION_ERROR,
    RISK_COVERAGE,
    MY_CONFIDENCE,
)
