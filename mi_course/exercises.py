"""What an exercise consists of (parts, cases, mistakes, hints), and the verdict of a check.

A `Case` is an Ask plus the truth. The Ask crosses to the answer, which may run in a sandbox; the truth stays here. By
default the truth is what the exercise's `oracle` returns for the same Ask: slow, readable, and independent of the
reference solution.

    DOUBLE = Exercise(
        id="numbers.double",
        task="Return twice a number.",
        parts=(Part("any number", 1, lambda draw, size: [case(draw.integer(3, 99)) for _ in range(3)]),),
        mistakes=(Mistake("square", "That is the square.", lambda x: x * x), ...),
        hints=("Add it to itself.", "Or multiply it by two."),
        reveal="Twice means added to itself.",
        minutes=1,
        difficulty=1,
        oracle=lambda x: x + x,
    )
"""

from __future__ import annotations

import inspect
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from mi_course.errors import UnknownName
from mi_course.variations import vary
from mi_course.wire import Ask, Call, Observation, Ref

__all__ = [
    "Call",
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
    "as_tensor",
    "cache_ref",
    "case",
    "function_ref",
    "heads_in",
    "hook_ref",
    "layout_ref",
    "left_hooks",
    "left_hooks_by",
    "model_ref",
    "moved_random_state",
    "optimizer_ref",
    "sae_ref",
    "seed_complaint",
    "trained_ref",
    "turned_around",
]


class RandomInputs:
    """Seeded random inputs for cases. Never touches the global random state."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int, mean: float = 0.0, std: float = 1.0) -> Tensor:
        """Normally distributed numbers."""
        return torch.randn(*shape, generator=self.generator) * std + mean

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        """Numbers spread evenly over [low, high)."""
        return torch.rand(*shape, generator=self.generator) * (high - low) + low

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Whole numbers from [low, high)."""
        return torch.randint(low, high, shape, generator=self.generator)

    def integer(self, low: int, high: int) -> int:
        """One whole number from [low, high)."""
        return int(self.integers(low, high, 1))

    def number(self, low: float = 0.0, high: float = 1.0) -> float:
        """One number from [low, high)."""
        return float(self.uniform(1, low=low, high=high))

    def permutation(self, n: int) -> list[int]:
        """0 to n - 1 in random order."""
        order: list[int] = torch.randperm(n, generator=self.generator).tolist()
        return order

    def pattern(self, *leading: int, length: int, sharpness: float = 2.0) -> Tensor:
        """Causal attention probabilities, shape [*leading, length, length]; every row sums to 1."""
        scores = self.normal(*leading, length, length, std=sharpness)
        future = torch.ones(length, length, dtype=torch.bool).triu(1)
        return scores.masked_fill(future, -torch.inf).softmax(-1)

    def seed(self) -> int:
        """A new seed, for a reference."""
        return self.integer(0, 2**31 - 1)


# ---------------------------------------------------------------------------------------------------------------------
# References: they stand for what cannot cross. `mi_course.asking.references` resolves them.


def model_ref(config: dict[str, Any], seed: int) -> Ref:
    """A small model with random weights. Equal references within one Ask are the same model.

    config: fields of TransformerBridgeConfig, as `mi_course.interp.models.small_model` takes them.
    """
    return Ref("model", {"config": config, "seed": seed})


def trained_ref(name: str) -> Ref:
    """One of the course's trained models in `data/`."""
    return Ref("model", {"name": name})


def cache_ref(model: Ref, tokens: Tensor) -> Ref:
    """The ActivationCache of a forward pass of that model."""
    return Ref("cache", {"model": model, "tokens": tokens})


def hook_ref(model: Ref, name: str) -> Ref:
    """The HookPoint of this name, such as `blocks.0.attn.hook_z`."""
    return Ref("hook", {"model": model, "name": name})


def optimizer_ref(model: Ref, kind: str = "sgd", lr: float = 0.1) -> Ref:
    """An optimizer (sgd, momentum, adam or adamw) over the model's parameters."""
    return Ref("optimizer", {"model": model, "kind": kind, "lr": lr})


def sae_ref(**tensors: Tensor) -> Ref:
    """A sparse autoencoder with these `W_enc`, `b_enc`, `W_dec` and `b_dec`."""
    return Ref("sae", {"tensors": tensors})


def layout_ref(**fields: Any) -> Ref:
    """A `Layout` with these fields: where things stand in a chain of thought."""
    return Ref("layout", {"fields": fields})


def function_ref(name: str, **options: Any) -> Ref:
    """One of the registered functions.

    logit_difference, probability, projection, largest, polynomial, tanh, rms_norm, mass_mean, least_squares,
    mean_gap, accuracy_of_sign, share_a_word, start_alike.
    """
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
    """The name of a mistake that a judge has recognized; its message then replaces this one."""


@dataclass(frozen=True)
class Case:
    """Calls, and what is expected of them. Only the calls and the limits cross."""

    calls: tuple[Call, ...]
    about: str = ""
    """The inputs in words, for messages: "period 7, 3 heads"."""
    truth: Sequence[Any] | Callable[[], Sequence[Any]] | None = None
    """An expected value for each call, or a function that returns these. None: what the oracle returns."""
    judge: Callable[[Case, Observation], Complaint | None] | None = None
    """Judges by properties, instead of comparing with the truth. Called only where every call returned."""
    judge_data: Any = None
    """What only the judge knows: a planted dictionary, scores on held-out data."""
    rtol: float = 1e-4
    atol: float = 1e-5
    """A number is right within atol + rtol · |truth|."""
    limit_s: float = 5.0
    """Seconds for all calls together."""
    max_reply_bytes: int = 16 * 2**20

    def ask(self) -> Ask:
        """A new Ask, with a new random id."""
        return Ask(calls=self.calls, limit_s=self.limit_s, max_reply_bytes=self.max_reply_bytes)


def case(
    *args: Any,
    about: str = "",
    driver: str = "call",
    options: dict[str, Any] | None = None,
    watch: Sequence[str] = ("arguments",),
    **fields: Any,
) -> Case:
    """A case with a single call.

    args: positional arguments of the answer; plain values or references.
    about: the inputs in words, for messages.
    driver, options: how the call is made, see `mi_course.asking.drivers`.
    watch: what else is observed, see `mi_course.asking.watches`. By default the call may not change its arguments.
    fields: further fields of Case, such as `truth` or `judge`.
    """
    return Case(calls=(Call(args, driver, options or {}, tuple(watch)),), about=about, **fields)


@dataclass(frozen=True)
class Part:
    """Points that are earned together: if a single case fails, none of them is given.

    The answer to at least one case must be impossible to guess: a constant, an identity or None may earn nothing.
    """

    name: str
    """What it tests, in words for the learner: "other lengths and batches"."""
    points: int
    cases: Callable[[RandomInputs, str], Sequence[Case]]
    """Makes the cases from random inputs and the size, "full" or "small"."""


@dataclass(frozen=True)
class Mistake:
    """A wrong answer with a name. It is recognized by running it, so each mistake is its own test."""

    name: str
    message: str
    implementation: Any
    """The wrong answer. For a value exercise: the value, or a function of the case that returns it."""
    detect: Callable[[Case, Observation], bool] | None = None
    """Recognizes the mistake in the first faulty case. Without it, `implementation` must give the same values."""
    degenerate: bool = False
    """Name it even if all its values are zero or missing, as those of many other broken answers are."""


def as_tensor(value: Any) -> Any:
    """A nested list of numbers as a tensor, for judges; any other value as it is."""
    if not isinstance(value, (list, tuple)):
        return value
    try:
        return torch.tensor(value)
    except (ValueError, TypeError, RuntimeError):
        return value


def moved_random_state(case: Case, observation: Observation) -> bool:
    """A `detect`: torch's global random state, and no other, is not as we set it."""
    moved = {name for r in observation.replies for name, kept in r.watched.get("random_state", {}).items() if not kept}
    return moved == {"torch"}


def seed_complaint(
    first: Any,
    again: Any,
    other: Any,
    message: str,
    same: Callable[[Any, Any], bool] = torch.equal,
    alike: Callable[[Any, Any], bool] | None = None,
) -> Complaint | None:
    """Complain if one seed gives two results, or two seeds give one.

    first, again: results of the same seed. other: the result of another seed.
    message: the complaint if the first two differ. If all three agree, it is the mistake `seed_ignored`.
    same: compares the results of one seed. alike: compares those of two seeds; `same` by default.
    """
    if not same(first, again):
        return Complaint(message)
    if (alike or same)(first, other):
        return Complaint("", mistake="seed_ignored")
    return None


def left_hooks(case: Case, observation: Observation) -> bool:
    """A `detect`: there are more forward hooks after the call than before."""
    watches = [reply.watched.get(name, []) for reply in observation.replies for name in ("model", "hooks")]
    return any(model["hooks"][1] > model["hooks"][0] for watch in watches for model in watch)


def left_hooks_by(driver: str) -> Callable[[Case, Observation], bool]:
    """A `detect`: as `left_hooks`, of the calls of this driver alone."""

    def detect(case: Case, observation: Observation) -> bool:
        replies = [r for call, r in zip(case.calls, observation.replies, strict=True) if call.driver == driver]
        return left_hooks(case, replace(observation, replies=tuple(replies)))

    return detect


def heads_in(value: Any, n_layers: int, n_heads: int, *, empty: str, example: str) -> list[tuple[int, int]] | Complaint:
    """The (layer, head) pairs of an answer without duplicates, or a complaint about their form.

    empty: the complaint about an empty list. example: a list of pairs, for messages. If all pairs would be heads the
    other way round, it is the mistake `head_first`, which the exercise must have.
    """
    value = value.tolist() if isinstance(value, Tensor) else value
    if not isinstance(value, (list, tuple)):
        return Complaint(
            f"This is a {type(value).__name__}, expected a list of (layer, head) pairs such as {example}.", "type"
        )
    if not value:
        return Complaint(empty)
    pairs: list[tuple[int, int]] = []
    for i, item in enumerate(value):
        pair = item.tolist() if isinstance(item, Tensor) else item
        if not (
            isinstance(pair, (list, tuple))
            and len(pair) == 2
            and all(isinstance(n, int) and not isinstance(n, bool) for n in pair)
        ):
            return Complaint(f"Entry {i} is {pair!r:.60}, expected a (layer, head) pair of whole numbers.", "type")
        pairs.append((pair[0], pair[1]))
    outside = [(layer, head) for layer, head in pairs if not (0 <= layer < n_layers and 0 <= head < n_heads)]
    if outside:
        if min(map(min, pairs)) >= 0 and turned_around(pairs, n_layers, n_heads):
            return Complaint("", mistake="head_first")
        return Complaint(
            f"There is no head {outside[0]}: layers run from 0 to {n_layers - 1}, heads from 0 to {n_heads - 1}."
        )
    return list(dict.fromkeys(pairs))


def turned_around(pairs: Sequence[tuple[int, int]], n_layers: int, n_heads: int) -> list[tuple[int, int]]:
    """The (layer, head) pairs that these are if they are (head, layer); none if one of them is no head then."""
    turned = [(layer, head) for head, layer in pairs]
    return turned if all(layer < n_layers and head < n_heads for layer, head in turned) else []


@dataclass(frozen=True)
class Exercise:
    """Everything about an exercise but its text and its answer, which are in `solutions/`."""

    id: str
    """`<lesson>.<name>`; the name is that of the function or variable that the learner writes."""
    task: str
    """What to do, in one sentence."""
    parts: tuple[Part, ...]
    mistakes: tuple[Mistake, ...]
    hints: tuple[str, ...]
    reveal: str
    """Why the answer is right; shown with the solution."""
    minutes: int
    difficulty: int
    """1, 2 or 3."""
    oracle: Callable[..., Any] | None = None
    """Returns the truth, computed in another way than the reference. Unneeded if every case has a truth or a judge."""
    fallback: str = ""
    """`module:name` of the course's own implementation, for `lesson.use`."""
    kind: str = "function"
    """`function`, or `value` for something that the learner computed or found."""
    revision: int = 1
    """To be raised when the cases change."""
    trivial: bool = False
    """Whether fewer than four mistakes are enough."""
    fixed: Mapping[str, str] = field(default_factory=dict)
    """What cases may not vary, with the reason: `x` (its values), `x[1]` (an axis, never of size one), `x=0` (no row of
    it is zero), `x=twice` (a list without repetitions), `x>=0` (it is never negative)."""
    outcome: bool = False
    """Whether a function is judged by what it achieves, and takes long (training, say). Tests use its small form, and
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
        """The cases of every part, drawn from this seed. size: "full" or "small"."""
        planned = []
        for part in self.parts:
            draw = RandomInputs(zlib.crc32(f"{self.id}/{self.revision}/{part.name}/{seed}".encode()))
            planned += [Planned(part, case, case.ask()) for case in part.cases(draw, size)]
        planned += [Planned(part, case, case.ask()) for part, case in self._variations(planned)]
        return Plan(self, tuple(planned))

    @property
    def parameters(self) -> tuple[str, ...]:
        """The parameters of the answer, by the names that the statement gives them. Empty for a value."""
        functions = [self.oracle, *(mistake.implementation for mistake in self.mistakes)]
        function = next(filter(callable, functions), None)
        return tuple(inspect.signature(function).parameters) if function and self.kind == "function" else ()

    def _variations(self, planned: Sequence[Planned]) -> list[tuple[Part, Case]]:
        """The first case that the oracle answers by a single call, varied in one respect at a time."""
        if self.outcome or self.oracle is None:
            return []
        plain = (p for p in planned if p.case.judge is None and p.case.truth is None and len(p.case.calls) == 1)
        return [
            (p.part, replace(p.case, calls=(call,), about=f"{p.case.about}; {words}"))
            for p in [p for p in plain if p.case.calls[0].driver in ("call", "hook")][:1]
            for words, call in vary(p.case.calls[0], self.parameters, self.fixed)
        ]


@dataclass(frozen=True)
class Planned:
    """A case, its part, and the Ask that is sent for it."""

    part: Part
    case: Case
    ask: Ask


@dataclass(frozen=True)
class Plan:
    """Everything that one check of an exercise asks."""

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
        for exercise in self.exercises:
            if exercise.name == name:
                return exercise
        known = ", ".join(exercise.name for exercise in self.exercises)
        raise UnknownName(f"no exercise {name!r} in lesson {self.id}; it has {known}")


@dataclass(frozen=True)
class PartResult:
    """What one part of an exercise earned, and why not more."""

    name: str
    points: int
    earned: int
    message: str = ""


@dataclass(frozen=True)
class Verdict:
    """The result of a check."""

    exercise: str
    revision: int
    status: str
    """passed, wrong, not_attempted, crashed or timed_out."""
    points: int
    max_points: int
    message: str
    mistake: str | None = None
    """The name of the recognized mistake, if any."""
    details: tuple[PartResult, ...] = ()
    printed: str = ""
    """What the answer printed in the first case that failed."""
    warnings: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return self.status == "passed"

    def raise_if_not_passed(self) -> None:
        """Raise AssertionError with the message, for scripts and tests."""
        if not self.passed:
            raise AssertionError(f"{self.exercise}: {self.status}. {self.message}")
