"""What an exercise is made of: cases in parts, mistakes with a name, hints; and the verdict it ends in.

A `Case` is an Ask plus the truth. The Ask crosses to the answer; the truth stays here. By default the truth is what the
exercise's `oracle` returns when it is asked the same: slow, readable, and independent of the reference solution.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mi_course.errors import UnknownName
from mi_course.wire import Ask, Call, Observation, Ref

__all__ = [
    "Case",
    "Complaint",
    "Exercise",
    "LessonSpec",
    "Mistake",
    "Part",
    "PartResult",
    "Plan",
    "Planned",
    "RandomInputs",
    "Verdict",
    "cache_ref",
    "case",
    "changed_arguments",
    "function_ref",
    "heads_in",
    "hook_ref",
    "left_hooks",
    "model_ref",
    "moved_random_state",
    "optimizer_ref",
    "sae_ref",
    "trained_ref",
]

STATUSES = ("passed", "wrong", "not_attempted", "crashed", "timed_out")


class RandomInputs:
    """Seeded random inputs for cases. Never touches the global random state."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int, mean: float = 0.0, std: float = 1.0) -> Tensor:
        return torch.randn(*shape, generator=self.generator) * std + mean

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return torch.rand(*shape, generator=self.generator) * (high - low) + low

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Whole numbers from [low, high)."""
        return torch.randint(low, high, shape, generator=self.generator)

    def integer(self, low: int, high: int) -> int:
        """One whole number from [low, high)."""
        return int(self.integers(low, high, 1))

    def number(self, low: float = 0.0, high: float = 1.0) -> float:
        return float(self.uniform(1, low=low, high=high))

    def permutation(self, n: int) -> list[int]:
        return torch.randperm(n, generator=self.generator).tolist()

    def pattern(self, *leading: int, length: int, sharpness: float = 2.0) -> Tensor:
        """Causal attention probabilities, shape [*leading, length, length]; every row sums to 1."""
        scores = self.normal(*leading, length, length, std=sharpness)
        future = torch.ones(length, length, dtype=torch.bool).triu(1)
        return scores.masked_fill(future, -torch.inf).softmax(-1)

    def seed(self) -> int:
        """A fresh seed, for a reference."""
        return self.integer(0, 2**31 - 1)


# ---------------------------------------------------------------------------------------------------------------------
# References: what an Ask names because it cannot cross. `mi_course.asking.references` resolves them.


def model_ref(config: dict[str, Any], seed: int) -> Ref:
    """A small random model of this shape; two equal references within one Ask are one model."""
    return Ref("model", {"config": config, "seed": seed})


def trained_ref(name: str) -> Ref:
    """One of our own trained models in `data/`."""
    return Ref("model", {"name": name})


def cache_ref(model: Ref, tokens: Tensor) -> Ref:
    """The ActivationCache of a forward pass of that model."""
    return Ref("cache", {"model": model, "tokens": tokens})


def hook_ref(model: Ref, name: str) -> Ref:
    """The HookPoint of this name, `blocks.0.attn.hook_z` say."""
    return Ref("hook", {"model": model, "name": name})


def optimizer_ref(model: Ref, kind: str = "sgd", lr: float = 0.1) -> Ref:
    """An optimiser (sgd, adam or adamw) over that model's parameters."""
    return Ref("optimizer", {"model": model, "kind": kind, "lr": lr})


def sae_ref(**tensors: Tensor) -> Ref:
    """A sparse autoencoder with these `W_enc b_enc W_dec b_dec`."""
    return Ref("sae", {"tensors": tensors})


def function_ref(name: str, **options: Any) -> Ref:
    """A function of the closed registry: logit_difference, probability, projection, polynomial, tanh."""
    return Ref("function", {"name": name, **options})


# ---------------------------------------------------------------------------------------------------------------------
# The parts of an exercise


@dataclass(frozen=True)
class Complaint:
    """Why an observation is not right."""

    message: str
    kind: str = "value"
    """value, shape, dtype, precision, nan, type, tidiness, crashed, timed_out or not_attempted."""
    mistake: str | None = None
    """Set where a judge recognises a mistake itself."""


@dataclass(frozen=True)
class Case:
    """Calls, and what is expected of them. Neither name nor truth crosses."""

    calls: tuple[Call, ...]
    about: str = ""
    """The inputs in words, for messages: "period 7, 3 heads"."""
    truth: Sequence[Any] | Callable[[], Sequence[Any]] | None = None
    """One expected value for each call. None: what the exercise's oracle returns to the same Ask."""
    judge: Callable[[Case, Observation], Complaint | None] | None = None
    """Judges by properties instead of by comparing with a truth."""
    judge_data: Any = None
    """What only the judge knows: a planted dictionary, scores on held-out data. It does not cross."""
    rtol: float = 1e-4
    atol: float = 1e-5
    limit_s: float = 5.0
    max_reply_bytes: int = 16 * 2**20

    def ask(self) -> Ask:
        """A fresh Ask with a fresh id."""
        return Ask(calls=self.calls, limit_s=self.limit_s, max_reply_bytes=self.max_reply_bytes)


def case(
    *args: Any,
    about: str = "",
    driver: str = "call",
    options: dict[str, Any] | None = None,
    watch: Sequence[str] = ("arguments",),
    **rest: Any,
) -> Case:
    """A case of a single call. Unless told otherwise it is seen to that the call leaves its arguments as they were."""
    return Case(calls=(Call(args, driver, options or {}, tuple(watch)),), about=about, **rest)


@dataclass(frozen=True)
class Part:
    """Points that are earned together: all its cases pass, or none of its points are given.

    At least one case must be one whose answer cannot be guessed; a constant, an identity and None earn nothing.
    """

    name: str
    """What it shows, in words a learner reads: "other lengths and batches"."""
    points: int
    cases: Callable[[RandomInputs, str], Sequence[Case]]
    """Makes the cases from random inputs; the second argument is the size, "full" or "small"."""


@dataclass(frozen=True)
class Mistake:
    """A wrong answer with a name. `implementation` is the answer itself, and therefore also its test."""

    name: str
    message: str
    implementation: Any
    """An implementation. For a value exercise: the value, or a function of the case that makes it."""
    detect: Callable[[Case, Observation], bool] | None = None
    """Recognises it where judging goes by properties. Otherwise: `implementation` gives the same values."""
    degenerate: bool = False
    """Named even where its values are zero throughout, which other broken answers come to as well."""


def changed_arguments(case: Case, observation: Observation) -> bool:
    """A sign: an argument is not what it was before the call."""
    return any(reply.watched.get("arguments") for reply in observation.replies)


def moved_random_state(case: Case, observation: Observation) -> bool:
    """A sign: the global random state is not where we set it."""
    return any(not all(reply.watched.get("random_state", {}).values()) for reply in observation.replies)


def seed_complaint(
    first: Any,
    again: Any,
    other: Any,
    message: str,
    same: Callable[[Any, Any], bool] = torch.equal,
    alike: Callable[[Any, Any], bool] | None = None,
) -> Complaint | None:
    """Of two results of one seed and one of another: `message` where the two differ, `seed_ignored` where all agree.

    same: whether the two are one result. alike: whether that of the other seed is, too; `same` unless given.
    """
    if not same(first, again):
        return Complaint(message)
    if (alike or same)(first, other):
        return Complaint("", mistake="seed_ignored")
    return None


def left_hooks(case: Case, observation: Observation) -> bool:
    """A sign: there are more forward hooks after the call than before."""
    seen = [one for reply in observation.replies for name in ("model", "hooks") for one in reply.watched.get(name, [])]
    return any(one["hooks"][1] > one["hooks"][0] for one in seen)


def heads_in(value: Any, n_layers: int, n_heads: int, *, empty: str, example: str) -> list[tuple[int, int]] | Complaint:
    """The (layer, head) pairs of an answer, each once; or what is wrong with their form.

    empty: what to say of an empty list. example: what a list looks like. Pairs that would all be heads the other way
    round are the mistake `head_first`, which the exercise must have.
    """
    value = value.tolist() if isinstance(value, Tensor) else value
    if not isinstance(value, (list, tuple)):
        return Complaint(
            f"This is a {type(value).__name__}; a list of (layer, head) pairs is asked, such as {example}.", "type"
        )
    if not value:
        return Complaint(empty)
    pairs = []
    for i, item in enumerate(value):
        pair = item.tolist() if isinstance(item, Tensor) else item
        if not (
            isinstance(pair, (list, tuple))
            and len(pair) == 2
            and all(isinstance(n, int) and not isinstance(n, bool) for n in pair)
        ):
            return Complaint(f"Entry {i} is {pair!r:.60}; a (layer, head) pair of whole numbers is asked.", "type")
        pairs.append(tuple(pair))
    outside = [(layer, head) for layer, head in pairs if not (0 <= layer < n_layers and 0 <= head < n_heads)]
    if outside:
        if all(0 <= head < n_layers and 0 <= layer < n_heads for layer, head in pairs):
            return Complaint("", mistake="head_first")
        return Complaint(
            f"There is no head {outside[0]}: layers run from 0 to {n_layers - 1}, heads from 0 to {n_heads - 1}."
        )
    return list(dict.fromkeys(pairs))


@dataclass(frozen=True)
class Exercise:
    """All of an exercise but its text, which stands in `solutions/`."""

    id: str
    """`<lesson>.<name>`, where name is what the learner defines."""
    task: str
    """What is asked, in one sentence."""
    parts: tuple[Part, ...]
    mistakes: tuple[Mistake, ...]
    hints: tuple[str, ...]
    reveal: str
    """The reason behind the answer; shown with the solution."""
    minutes: int
    difficulty: int
    """1, 2 or 3."""
    oracle: Callable[..., Any] | None = None
    """The truth by a second road. May be None where every case brings its truth or its judge."""
    fallback: str = ""
    """`module:name` of the course's own implementation, for `lesson.use`."""
    kind: str = "function"
    """`function`, or `value` for what the learner computed or found."""
    revision: int = 1
    """Raised when the cases change."""
    trivial: bool = False
    """Fewer than four mistakes are enough."""
    outcome: bool = False
    """A function that is judged by what it achieves, and takes its time (training, say). Tests ask its small form, and
    make no mutants of it."""

    @property
    def lesson(self) -> str:
        return self.id.partition(".")[0]

    @property
    def name(self) -> str:
        return self.id.partition(".")[2]

    @property
    def points(self) -> int:
        return sum(part.points for part in self.parts)

    def plan(self, seed: int, size: str = "full") -> Plan:
        """The cases of every part, from this seed."""
        planned = []
        for part in self.parts:
            draw = RandomInputs(zlib.crc32(f"{self.id}/{self.revision}/{part.name}/{seed}".encode()))
            planned += [Planned(part, one, one.ask()) for one in part.cases(draw, size)]
        return Plan(self, tuple(planned))


@dataclass(frozen=True)
class Planned:
    """A case, the part it belongs to, and the Ask that goes out for it."""

    part: Part
    case: Case
    ask: Ask


@dataclass(frozen=True)
class Plan:
    """Everything one check of one exercise asks."""

    exercise: Exercise
    cases: tuple[Planned, ...]

    @property
    def asks(self) -> tuple[Ask, ...]:
        return tuple(planned.ask for planned in self.cases)


@dataclass(frozen=True)
class LessonSpec:
    """A lesson's catalogue entry and its exercises; `mi_course.lessons.load` makes it."""

    id: str
    number: int
    title: str
    minutes: int
    exercises: tuple[Exercise, ...]
    notebook: str
    """File name without ending: `02_induction_heads`."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Former names of exercises, so that old notebooks are still understood."""

    def exercise(self, name: str) -> Exercise:
        name = self.aliases.get(name, name)
        for one in self.exercises:
            if one.name == name:
                return one
        known = ", ".join(one.name for one in self.exercises)
        raise UnknownName(f"no exercise {name!r} in lesson {self.id}; it has {known}")


@dataclass(frozen=True)
class PartResult:
    name: str
    points: int
    earned: int
    message: str = ""


@dataclass(frozen=True)
class Verdict:
    """What a check came to."""

    exercise: str
    revision: int
    status: str
    """passed, wrong, not_attempted, crashed or timed_out."""
    points: int
    max_points: int
    message: str
    mistake: str | None = None
    """The name of the recognised mistake, if one was."""
    details: tuple[PartResult, ...] = ()
    printed: str = ""
    """What the answer printed in the first case that failed."""
    warnings: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return self.status == "passed"

    def raise_if_not_passed(self) -> None:
        """Raises AssertionError with the message, for use in scripts and tests."""
        if not self.passed:
            raise AssertionError(f"{self.exercise}: {self.status}. {self.message}")
