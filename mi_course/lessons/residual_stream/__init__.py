"""Lesson 01: attention by hand, the residual stream as a sum, lenses, attribution, and circuits in the weights.

Sources: Elhage et al. 2021; nostalgebraist 2020; Belrose et al. 2023.
"""

from mi_course.lessons.residual_stream.attention import ATTENTION_PATTERN, HEAD_OUTPUT
from mi_course.lessons.residual_stream.lenses import ANSWER_LAYER, FIT_TRANSLATOR, LOGIT_LENS
from mi_course.lessons.residual_stream.outcome import MY_AGREEMENT_HEADS
from mi_course.lessons.residual_stream.stream import ABLATED_DIFFERENCE, LOGIT_ATTRIBUTION, RESIDUAL_PARTS, RMS_NORM
from mi_course.lessons.residual_stream.weights import OV_COPYING, SKIP_TRIGRAMS

EXERCISES = (
    ATTENTION_PATTERN,
    HEAD_OUTPUT,
    RESIDUAL_PARTS,
    RMS_NORM,
    LOGIT_LENS,
    ANSWER_LAYER,
    FIT_TRANSLATOR,
    LOGIT_ATTRIBUTION,
    ABLATED_DIFFERENCE,
    MY_AGREEMENT_HEADS,
    OV_COPYING,
    SKIP_TRIGRAMS,
)
