"""What the learner finds: a name for a latent, as a list of words, judged by detection on passages not used for it."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from mi_course.exercises import Call, Case, Complaint, Exercise, Mistake, Part, RandomInputs
from mi_course.interp.sae.naming import detection_score
from mi_course.interp.sae.word_labels import (
    MAX_ENTRIES,
    MysteryContexts,
    fit_words,
    matches,
    problem_with,
    random_labels,
    words_of,
)
from mi_course.lessons.feature_steering.held_out import RecordedMystery
from mi_course.wire import Observation

MARGIN, QUANTILE, CONTROLS = 0.15, 0.95, 200
"""The score must exceed the 95 % quantile of 200 random labels, that of the labels of other latents, and the best single
word by MARGIN. Measured on the 238 held-out passages of latent 1108: 0.546, 0.555 and 0.559; a fitted label 0.81, one
by hand 0.84, `let, give*, allow*` 0.74, `let, give*` 0.66 (tests/lessons/test_my_label.py)."""
BROAD, NARROW, OPPOSITE = 0.7, 0.15, 0.4
"""A label that matches BROAD of the active passages and as much of the inactive ones is too broad; one that matches
less than NARROW of the active ones too narrow; a score below OPPOSITE means the opposite."""
COPIED = 4  # entries at least of a label that was copied from one passage


class PlantedMystery:
    """The small size: invented passages, and a latent that is active where one of six words stands, or a form of it."""

    def __init__(self, draw: RandomInputs) -> None:
        letters = "abdegiklmnoprstu"
        size = [draw.integer(4, 7) for _ in range(240)]
        made = ["".join(letters[i] for i in draw.integers(0, len(letters), n).tolist()) for n in size]
        words = list(dict.fromkeys(made))
        self.target, self.against, self.vocabulary = words[:6], words[6:9], words[9:]
        self.train, self.held_out = self._contexts(draw), self._contexts(draw)
        self.others = [[self.vocabulary[i] for i in draw.permutation(len(self.vocabulary))[:6]] for _ in range(40)]

    def _contexts(self, draw: RandomInputs) -> MysteryContexts:
        texts, peaks = [], []
        for number in range(160):
            words = [self.vocabulary[i] for i in draw.integers(0, len(self.vocabulary), 18).tolist()]
            active = number % 2 == 0
            if active and draw.number() < 0.9:
                words[draw.integer(0, 18)] = self.target[draw.integer(0, 6)].title() + ("", "ing")[draw.integer(0, 2)]
            if not active and draw.number() < 0.9:
                words[draw.integer(0, 18)] = self.against[draw.integer(0, 3)]
            texts.append(" ".join(words))
            peaks.append(draw.number(0.5, 3.0) if active else 0.0)
        return MysteryContexts(
            tuple(texts), torch.zeros(160, 2, dtype=torch.long), ("books",) * 160, torch.tensor(peaks)
        )


_World = PlantedMystery | RecordedMystery


def _read(value: Any) -> list[str] | Complaint:
    example = '["ship*", "boat"]'
    if not isinstance(value, (list, tuple)):
        return Complaint(f"This is a {type(value).__name__}, expected a list of words such as {example}.", "type")
    if not value:
        return Complaint(f"The list is empty; expected words such as {example}.")
    if len(value) > MAX_ENTRIES:
        return Complaint(f"The label has {len(value)} entries; at most {MAX_ENTRIES} are allowed.")
    for entry in value:
        if problem := problem_with(entry):
            if isinstance(entry, str) and re.search(r"[\\|()\[\]^$+?]|\.\*", entry):
                return Complaint("", mistake="pattern")
            return Complaint(f"The entry {entry!r:.60} {problem}. Write single words, or beginnings such as `ship*`.")
    return list(dict.fromkeys(str(entry) for entry in value))


def floor(label: list[str], world: _World) -> dict[str, float]:
    """What the label is held against: scores on held-out passages, by the name of the control."""
    train, held_out = world.train, world.held_out
    words = [text for text, active in zip(train.texts, train.fired.tolist(), strict=True) if active]

    def upper(labels: list[list[str]]) -> float:
        scores = [detection_score(matches(held_out.texts, one), held_out.fired) for one in labels]
        return float(torch.tensor(scores).quantile(QUANTILE))

    single = fit_words(train.texts, train.fired, n=1)
    return {
        "random words": upper(random_labels(words, len(label), CONTROLS)),
        "labels of other latents": upper(world.others),
        "the best single word": detection_score(matches(held_out.texts, single), held_out.fired),
    }


def _judge(case: Case, observation: Observation) -> Complaint | None:
    world: _World = case.judge_data
    label = _read(observation.replies[0].value)
    if isinstance(label, Complaint):
        return label
    fired = world.held_out.fired
    predicted = matches(world.held_out.texts, label)
    score, controls = detection_score(predicted, fired), floor(label, world)
    if score >= max(controls.values()) + MARGIN:
        return None
    hits, false = _share(predicted[fired]), _share(predicted[~fired])
    if mistake := _mistake(label, world.train, hits, false):
        return Complaint("", mistake=mistake)
    beside = ", ".join(f"{name} {value:.3f}" for name, value in controls.items())
    return Complaint(
        f"On {len(fired)} held-out passages your label has a detection score of {score:.3f}: it matches {hits:.0%} of the passages in which the latent is active, and {false:.0%} of the others. Its controls have: {beside}. Asked for is {MARGIN} more than the best of these."
    )


def _share(predicted: Tensor) -> float:
    return float(predicted.double().mean())


def _mistake(label: list[str], train: MysteryContexts, hits: float, false: float) -> str | None:
    """What is known to be wrong with a label that matches this share of the active and of the inactive passages."""
    top = {*words_of(train.texts[int(train.peaks.argmax())])}
    if len(label) >= COPIED and all(bool(matches([" ".join(top)], [entry])) for entry in label):
        return "top_example_words"
    if (hits + 1 - false) / 2 < OPPOSITE:
        return "opposite"
    if min(hits, false) >= BROAD:
        return "too_broad"
    if len(label) == 1 and hits > false:
        return "one_word"
    return "too_narrow" if hits < NARROW else None


def _cases(draw: RandomInputs, size: str) -> list[Case]:
    world = RecordedMystery() if size == "full" else PlantedMystery(draw)
    return [Case(calls=(Call(driver="value"),), judge=_judge, judge_data=world, about="held-out passages")]


def right(case: Case) -> list[str]:
    """The words of the planted latent."""
    return [f"{word}*" for word in case.judge_data.target]


def _of_the_top_example(case: Case) -> list[str]:
    train = case.judge_data.train
    return words_of(train.texts[int(train.peaks.argmax())])[:8]


MY_LABEL = Exercise(
    id="feature_steering.my_label",
    task="A list of words that says in which passages a latent that you have not seen is active, where the passages are new.",
    minutes=15,
    difficulty=3,
    kind="value",
    fallback="mi_course.lessons.feature_steering.held_out:fitted_label",
    parts=(Part("held-out passages, random labels, labels of other latents, one word", 4, _cases),),
    mistakes=(
        Mistake(
            "top_example_words",
            "All of these words stand in the passage where the latent is most active. One passage names many things; look for what the active passages have in common, at middling activations too.",
            _of_the_top_example,
        ),
        Mistake(
            "too_broad",
            "Your label matches nearly everything, also most passages in which the latent is *not* active. Leave out words that stand everywhere.",
            lambda case: case.judge_data.vocabulary[:MAX_ENTRIES],
        ),
        Mistake(
            "one_word",
            "One word is not enough: the latent is active in many passages without it. What else is it active on?",
            lambda case: [f"{case.judge_data.target[0]}*"],
        ),
        Mistake(
            "too_narrow",
            "Your label matches hardly any of the held-out passages in which the latent is active. Write beginnings of words (`ship*`), and more of them.",
            lambda case: [f"{word}ingingly" for word in case.judge_data.target],
        ),
        Mistake(
            "opposite",
            "Your label matches passages in which the latent is *not* active, and fewer of the others.",
            lambda case: case.judge_data.against,
        ),
        Mistake(
            "pattern",
            "Entries are single words, or beginnings such as `ship*`, not regular expressions. Write each alternative as an entry of its own.",
            lambda case: ["|".join(case.judge_data.target)],
        ),
    ),
    hints=(
        "Read the quantiles on its page, not the top alone, and the passages of `word_labels.mystery_contexts()` in which it is *not* active: what do they lack?",
        "Score a draft on half of the training passages: `detection_score(word_labels.matches(texts, draft), fired)`. Add a word if active passages without a match have it in common; take one out if it matches inactive ones.",
        "`word_labels.fit_words(train.texts, train.fired)` fits such a list. Read it, and ask what its words have in common.",
    ),
    reveal='Let, give, allow, enable, yield: words that share a meaning, *to make possible*, and no spelling. No single one of them catches a quarter of the active passages, and the list catches two in three and hardly an inactive one; what it misses are mostly weak activations. But "makes possible" itself scores next to nothing: detection rewards words that predict. It tells good labels from bad, and does not show that the latent *means* the label.',
)
