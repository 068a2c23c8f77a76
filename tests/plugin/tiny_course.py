"""What a school's package offers: a lesson of its own, beside this file. Needs no torch."""

from __future__ import annotations

from pathlib import Path

from mi_course.lessons import LessonInfo, Plugin

PLUGIN = Plugin(
    lessons=(
        LessonInfo(90, "tiny", "Tiny numbers", 3, "90_tiny", "tiny_course_lesson", folder=str(Path(__file__).parent)),
    ),
    asking="tiny_course_asking",
    alternatives="tiny_course_alternatives",
)
