"""What the learner finds out about five models: do they read their steps, and how does a hint reach their answers?"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from mi_course.exercises import Call, Case, Complaint, Exercise, Mistake, Part, RandomInputs
from mi_course.interp.models import native
from mi_course.interp.models.where import data_dir
from mi_course.interp.reasoning import KINDS
from mi_course.lessons.chain_of_thought.mysteries import LETTERS, mystery_kinds
from mi_course.wire import Observation

HINTS = NONE, THROUGH, DIRECT = "none", "through the steps", "direct"
EXPERIMENTS = FLIP, LEAVE_OUT, REWRITE, KEEP = (
    "flip the last step",
    "leave the steps out",
    "turn the hint, write the steps anew",
    "turn the hint, keep the steps",
)

_Truth = tuple[bool, str]
"""Whether a model reads its steps, and how a hint reaches its answer."""

SMALL: dict[str, _Truth] = {
    "a": (True, NONE),
    "b": (False, DIRECT),
    "c": (True, THROUGH),
    "d": (False, NONE),
    "e": (True, DIRECT),
}
"""The small size: one model of each kind."""


@cache
def mystery_truths() -> dict[str, _Truth]:
    """The full size: the kinds that the shipped models were trained to be."""
    version = native.read_meta(data_dir() / "tiny-reasoner-mystery-a.safetensors")["drawn_for"]
    kinds = {letter: KINDS[kind] for letter, kind in mystery_kinds(version).items()}
    return {letter: (kind.reads_steps, kind.hint) for letter, kind in kinds.items()}


def decisive(reads: bool, hint: str) -> str:
    """The experiment that shows what the answers rest on."""
    if hint == NONE:
        return FLIP if reads else LEAVE_OUT
    return KEEP if hint == DIRECT else REWRITE


def _verdict_on(letter: str, value: Any) -> tuple[bool, str, str] | Complaint:
    """This model's verdict, or a complaint about its form."""
    example = f'{{"{letter}": (True, "{NONE}", "{FLIP}"), ...}}'
    if not isinstance(value, dict):
        return Complaint(f"This is a {type(value).__name__}, expected a dict such as {example}.", "type")
    if letter not in value:
        return Complaint(f'There is no verdict on model "{letter}"; expected one for each of {", ".join(LETTERS)}.')
    verdict = value[letter]
    if not isinstance(verdict, (list, tuple)) or len(verdict) != 3:
        return Complaint(
            f'The verdict on "{letter}" is {verdict!r:.60}, expected three things: (reads its steps, hint, experiment).',
            "type",
        )
    reads, hint, experiment = verdict
    if isinstance(reads, Tensor) and reads.dtype == torch.bool and reads.ndim == 0:
        reads = bool(reads)
    if not isinstance(reads, bool):
        return Complaint(f'"{letter}": whether it reads its steps is {reads!r:.40}, expected True or False.', "type")
    if not isinstance(hint, str) or hint not in HINTS:
        return Complaint(
            f'"{letter}": the hint is {hint!r:.60}, expected one of {", ".join(map(repr, HINTS))}.', "type"
        )
    if not isinstance(experiment, str) or experiment not in EXPERIMENTS:
        listed = ", ".join(map(repr, EXPERIMENTS))
        return Complaint(f'"{letter}": the experiment is {experiment!r:.60}, expected one of {listed}.', "type")
    return reads, hint, experiment


_HINT_MISTAKES = {
    (NONE, THROUGH): "hint_through_steps_missed",
    (NONE, DIRECT): "direct_hint_missed",
    (THROUGH, DIRECT): "direct_taken_for_through",
    (DIRECT, THROUGH): "through_taken_for_direct",
    (THROUGH, NONE): "hint_that_moves_nothing",
    (DIRECT, NONE): "hint_that_moves_nothing",
}
"""(Said, true) → mistake."""


def _judge(letter: str, case: Case, observation: Observation) -> Complaint | None:
    verdict = _verdict_on(letter, observation.replies[0].value)
    if isinstance(verdict, Complaint):
        return verdict
    truths: dict[str, _Truth] = case.judge_data or mystery_truths()
    reads, hint, experiment = verdict
    truly_reads, true_hint = truths[letter]
    if reads != truly_reads:
        return Complaint("", mistake="taken_for_reading" if reads else "reading_missed")
    if hint != true_hint:
        return Complaint("", mistake=_HINT_MISTAKES[hint, true_hint])
    return None if experiment == decisive(reads, hint) else Complaint("", mistake="not_decisive")


def _cases(letter: str, draw: RandomInputs, size: str) -> list[Case]:
    return [
        Case(
            calls=(Call(driver="value"),),
            judge=partial(_judge, letter),
            judge_data=SMALL if size == "small" else None,
            about=f"model {letter}",
        )
    ]


_Verdicts = dict[str, tuple[bool, str, str]]


def right(case: Case) -> _Verdicts:
    """The verdicts that are right."""
    return {letter: (*truth, decisive(*truth)) for letter, truth in (case.judge_data or mystery_truths()).items()}


def _believing(change: Callable[[bool, str], tuple[bool, str]]) -> Callable[[Case], _Verdicts]:
    """Verdicts of somebody who takes kinds of models for others."""

    def verdicts(case: Case) -> _Verdicts:
        believed = {letter: change(reads, hint) for letter, (reads, hint, _) in right(case).items()}
        return {letter: (*seen, decisive(*seen)) for letter, seen in believed.items()}

    return verdicts


def _taking(said: str, true: str) -> Callable[[Case], _Verdicts]:
    return _believing(lambda reads, hint: (reads, said if hint == true else hint))


MY_VERDICTS = Exercise(
    id="chain_of_thought.my_verdicts",
    task="For each of five models that you have not seen: whether it reads its steps, how a hint reaches its answer, and the experiment that shows what its answers rest on.",
    minutes=15,
    difficulty=3,
    kind="value",
    parts=tuple(Part(f"model {letter}", 1, partial(_cases, letter)) for letter in LETTERS),
    mistakes=(
        Mistake(
            "taken_for_reading",
            "One of your models does not read its steps, and you say that it does. Right steps before a right answer show nothing: turn the last step, with the hint on none, and see whether the answer follows.",
            _believing(lambda reads, hint: (True, hint)),
        ),
        Mistake(
            "reading_missed",
            "One of your models reads its steps, and you say that it does not. Measure it with the hint on none: a model that follows a hint may read its steps only where there is none. And turn the *last* step; earlier ones may be passed over.",
            _believing(lambda reads, hint: (reads and hint != DIRECT, hint)),
        ),
        Mistake(
            "hint_through_steps_missed",
            "In one of your models a hint goes through the steps, and you say that it does nothing. With the written steps kept, a turned hint moves no answer, since the steps speak for the old one. Let the model write them anew.",
            _taking(NONE, THROUGH),
        ),
        Mistake(
            "direct_hint_missed",
            "One of your models follows a hint whatever its steps say, and you say that the hint does nothing. Turn the hint, keep the steps, and count the answers that move.",
            _taking(NONE, DIRECT),
        ),
        Mistake(
            "direct_taken_for_through",
            "In one of your models a hint goes straight to the answer, and you say that it goes through the steps. Steps written anew move the answer in both; keep the old steps, and turn only the hint.",
            _taking(THROUGH, DIRECT),
        ),
        Mistake(
            "through_taken_for_direct",
            "In one of your models a hint goes through the steps, and you say that it goes straight to the answer. With the steps kept, a turned hint would have to move the answer; measure it.",
            _taking(DIRECT, THROUGH),
        ),
        Mistake(
            "hint_that_moves_nothing",
            "One of your models follows no hint, and you say that it does. Compare with its answers to the same bits with the hint on none, and leave out those that agreed anyway.",
            _believing(lambda reads, hint: (reads, DIRECT if hint == NONE else hint)),
        ),
        Mistake(
            "not_decisive",
            "You know what one of your models does, and name an experiment that does not show what its answers rest on. The statement lists which experiment shows what; for a model that follows a hint it is one of the two that turn the hint.",
            lambda case: {letter: (reads, hint, FLIP) for letter, (reads, hint, _) in right(case).items()},
        ),
    ),
    hints=(
        "Four numbers for each model tell all five kinds apart: answers that move if the last step is turned, if the hint is turned and the steps are kept, if it is turned and they are written anew; and answers that are right without steps. Take the first and the last with the hint on none.",
        "Turned hint, steps kept: if answers move, the hint is direct. If they do not, let the steps be written anew: if they move now, it goes through the steps. If neither moves anything, there is no hint.",
        "The experiment follows from the other two entries; the statement says how.",
    ),
    reveal="No single measure sorts all five. A turned step finds the readers, and takes a model that a hint leads by way of its steps for honest; a turned hint with the steps kept finds only the direct ones; written anew it moves both kinds alike. Whoever publishes one of these numbers has measured one question, and has to say which.",
)
