"""Robustness to answers that nobody foresaw: at least 95 % of each lesson's mutants are refused.

`pytest tests/test_mutants.py -s` prints the share, and every mutant that got through.
"""

from __future__ import annotations

import pytest
from answers import functions, namespace, reference_source
from equivalent_mutants import EQUIVALENT
from mutants import mutants

from mi_course import lessons
from mi_course.course import check_exercise

REFUSED_AT_LEAST = 0.95
LESSONS = [info.id for info in lessons.OURS if any(exercise.lesson == info.id for exercise in functions())]


@pytest.mark.slow
@pytest.mark.parametrize("lesson", LESSONS)
def test_mutants_are_refused(lesson, capsys):
    total, survivors, unknown = 0, [], []
    for exercise in (one for one in functions() if one.lesson == lesson and not one.outcome):
        known = EQUIVALENT.get(exercise.id, {})
        made = mutants(reference_source(lesson)[exercise.name], exercise.name)
        unknown += [f"{exercise.id}: {change}" for change in known if change not in {m.change for m in made}]
        for mutant in made:
            if mutant.change in known:
                continue
            total += 1
            answer = namespace(lesson, {exercise.name: mutant.source})[exercise.name]
            if check_exercise(exercise, answer).passed:
                survivors.append(f"{exercise.id}: {mutant.change}")
    share = 1 - len(survivors) / total
    with capsys.disabled():
        print(
            f"\n{lesson}: {total - len(survivors)} of {total} mutants refused ({share:.1%})",
            *survivors,
            sep="\n  survived: ",
        )
    assert not unknown, f"equivalent mutants that no longer exist: {unknown}"
    assert share >= REFUSED_AT_LEAST
