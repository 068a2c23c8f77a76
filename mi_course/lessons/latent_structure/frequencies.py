"""What the learner finds in a model of modular addition that nobody has explained to them: its frequencies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mi_course.exercises import Call, Case, Complaint, Exercise, Mistake, Part, RandomInputs
from mi_course.interp.models.native import find, read_meta
from mi_course.interp.modular import MYSTERY, USED, mystery_frequencies
from mi_course.wire import Observation


@dataclass(frozen=True)
class Truth:
    """The frequencies that a model uses, and those that its embedding holds and nothing reads."""

    p: int
    used: tuple[int, ...]
    decoys: tuple[int, ...]


def _whole(value: Any) -> int | None:
    """The whole number that this is, or None."""
    value = value.item() if isinstance(value, Tensor) and value.ndim == 0 else value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _frequencies(value: Any) -> list[int] | Complaint:
    if isinstance(value, Tensor):
        value = value.tolist()
    if isinstance(value, dict):
        return Complaint("This is a dict. Give the frequencies alone: `list(found)`, if they are its keys.", "type")
    if not isinstance(value, (list, tuple)):
        return Complaint(f"This is a {type(value).__name__}, expected a list of frequencies such as [2, 7].", "type")
    if not value:
        return Complaint("The list is empty, and the model adds rightly: it uses some frequencies.")
    numbers = []
    for i, item in enumerate(value):
        number = _whole(item)
        if number is None:
            return Complaint(f"Entry {i} is {item!r:.60}, expected a frequency, a whole number.", "type")
        numbers.append(number)
    return numbers


def _judge(case: Case, observation: Observation) -> Complaint | None:
    truth: Truth = case.judge_data
    numbers = _frequencies(observation.replies[0].value)
    if isinstance(numbers, Complaint):
        return numbers
    half = (truth.p - 1) // 2
    found, used = set(numbers), set(truth.used)
    if found == used:
        return None
    if 0 in found and min(found) == 0:
        if found == {k - 1 for k in used}:
            return Complaint("", mistake="counted_from_zero")
        return Complaint("", mistake="constant")
    if max(found) >= truth.p or min(found) < 0:
        wrong = max(found) if max(found) >= truth.p else min(found)
        return Complaint(f"{wrong} is no frequency: with {truth.p} hours they run from 1 to {half}.")
    if max(found) > half and {min(k, truth.p - k) for k in found} == used:
        return Complaint("", mistake="mirrored")
    for name, change in _CHANGES.items():
        if found == change(truth):
            return Complaint("", mistake=name)
    if max(found) > half:
        return Complaint(
            f"{max(found)} is beyond {half}: at whole hours it is the same wave as {truth.p - max(found)}."
        )
    if found == set(range(1, half + 1)):
        return Complaint("", mistake="all_of_them")
    if found < used:
        return Complaint("", mistake="too_few")
    if found > used and found & set(truth.decoys):
        return Complaint("", mistake="in_the_embedding")
    if found > used:
        return Complaint("", mistake="too_many")
    return Complaint(
        f"{len(found & used)} of your {len(found)} are used by the model. Take one frequency at a time out of the logits, and "
        "see whether the loss over all pairs rises."
    )


_CHANGES = {
    "counted_from_zero": lambda truth: {k - 1 for k in truth.used},
    "doubled": lambda truth: {min(2 * k % truth.p, -2 * k % truth.p) for k in truth.used},
}


def _cases(draw: RandomInputs, size: str) -> list[Case]:
    if size == "full":
        used, decoys = mystery_frequencies()
        truth = Truth(read_meta(find(MYSTERY))["config"]["d_vocab_out"], used, decoys)
    else:
        # Far enough apart that none is another one's neighbor or double.
        order = [3 + 4 * i for i in draw.permutation(6)]
        truth = Truth(59, tuple(sorted(order[:3])), tuple(order[3:5]))
    about = "the frequencies of the mystery model"
    return [Case(calls=(Call(driver="value"),), judge=_judge, judge_data=truth, about=about)]


MY_FREQUENCIES = Exercise(
    id="latent_structure.my_frequencies",
    task="A list of the frequencies that the mystery model uses: those without which its loss over all pairs rises "
    f"by more than {USED:g} nats.",
    minutes=12,
    difficulty=3,
    kind="value",
    fallback="mi_course.interp.modular:my_frequencies",
    parts=(Part("every frequency that it uses, and no other", 4, _cases),),
    mistakes=(
        Mistake(
            "in_the_embedding",
            "Every frequency that the model uses is there, and one that only its embedding holds. What is in the embedding need not be read by anything: take each frequency out of the logits, and look at the loss.",
            lambda case: sorted({*case.judge_data.used, *case.judge_data.decoys[:1]}),
        ),
        Mistake(
            "mirrored",
            "Some of your frequencies are mirrored: k and p − k are the same wave at whole hours. Give the one that is at most (p − 1)/2.",
            lambda case: [case.judge_data.p - k for k in case.judge_data.used],
        ),
        Mistake(
            "constant",
            "0 is among them. That is the constant, which stays in excluded logits: frequencies begin at 1.",
            lambda case: [0, *case.judge_data.used],
        ),
        Mistake(
            "counted_from_zero",
            "Each of yours is one too low. Frequency k has rows 2k − 1 and 2k of the basis, so the first pair of rows belongs to frequency 1.",
            lambda case: [k - 1 for k in case.judge_data.used],
        ),
        Mistake(
            "doubled",
            "Yours are twice the frequencies that the model uses. Squares of waves have the double frequency, and neurons hold them; the logits cancel them. Look at the logits.",
            lambda case: [min(2 * k % case.judge_data.p, -2 * k % case.judge_data.p) for k in case.judge_data.used],
        ),
        Mistake(
            "too_few",
            "The model uses all of these, and at least one more.",
            lambda case: case.judge_data.used[:-1],
        ),
        Mistake(
            "too_many",
            "Every frequency that the model uses is there, but at least one of the others changes the loss by next to nothing.",
            lambda case: [
                *case.judge_data.used,
                next(k for k in range(1, 9) if k not in {*case.judge_data.used, *case.judge_data.decoys}),
            ],
        ),
        Mistake(
            "all_of_them",
            "These are all frequencies that there are. The model does without most of them.",
            lambda case: list(range(1, (case.judge_data.p + 1) // 2)),
        ),
    ),
    hints=(
        "`modular.pair_logits(clock_mystery)` gives its logits for all pairs. What does `excluded_logits` make of them, one frequency at a time?",
        "The loss over all pairs, `modular.cross_entropy(logits).mean()`, with one frequency taken out, minus the loss as it is: a bar for each frequency. The bars are either high or next to nothing.",
    ),
    reveal="Reading proposes, taking out decides. A frequency with much power in the embedding is a candidate; whether the model uses it is a question about what happens without it. In this model one candidate was planted where no head looks.",
)
