"""What the learner turns up: one latent and a value, judged on held-out prompts and words, and by the text itself."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from mi_course.errors import CourseError
from mi_course.exercises import Call, Case, Complaint, Exercise, Mistake, Part, RandomInputs
from mi_course.interp.sae.clamp_study import Effect
from mi_course.lessons.feature_steering.held_out_clamp import CONTROLS, HeldOutClamp
from mi_course.wire import Observation

QUANTILE = 0.95
MARGIN, MORE_MENTIONS, MOST_LOSS, LESS_VARIETY = 1.0, 0.2, 1.5, 0.15
"""Measured with the latents of data/steered-concepts.json, each adding a norm of 60, with 60 texts each: 1 of 8 latents
passes, and 7 of 8 differences of means would. The latent that is asked for, 4045 (the sea): a rise of 2.8 nats where 0.95
of random latents stay below 0.55; 0.35 of the texts have one of the words (unsteered none), and cost 0.77 nats per token
more. With ten texts each, as in a first table, five latents seemed to pass."""
MOST_NORM = 1e4


class PlantedLatents:
    """The small size: invented latents, of which one writes about the concept, and some do a little.

    The effect of a clamp saturates, and what it costs grows with the square of the norm that it adds, as on SmolLM2.
    """

    n_latents, d = 300, 40
    right = 217

    def __init__(self, draw: RandomInputs) -> None:
        concept = draw.normal(self.d)
        self.concept = concept / concept.norm()
        rows = draw.normal(self.n_latents, self.d)
        rows[self.right] = 6.0 * self.concept + 0.2 * rows[self.right]
        # Decoder rows of other lengths: a value says nothing without its latent.
        self.rows = rows / rows.norm(dim=1, keepdim=True) * draw.uniform(self.n_latents, 1, low=0.5, high=2.0)
        self.controls = [i for i in draw.permutation(self.n_latents) if i != self.right][:CONTROLS]

    def norm(self, index: int, value: float) -> float:
        return abs(value) * float(self.rows[index].norm())

    def value(self, norm: float) -> float:
        """At which the right latent adds a vector of this norm."""
        return norm / float(self.rows[self.right].norm())

    def rises(self, index: int, value: float) -> Tensor:
        norm = self.norm(index, value)
        unit = torch.nn.functional.normalize(self.rows[[index, *self.controls]], dim=1)
        return 6.0 * torch.tanh(math.copysign(norm, value) / 12.0 * (unit @ self.concept))

    def texts(self, index: int, value: float) -> tuple[Effect, Effect]:
        norm, rise = self.norm(index, value), float(self.rises(index, value)[0])
        mentions = 1 / (1 + math.exp(3.0 - rise))
        return (
            Effect(norm, rise, mentions, 0.6 * (norm / 15.0) ** 2, max(0.0, 1.0 - (norm / 60.0) ** 2)),
            Effect(0.0, 0.0, 0.05, 0.0, 0.98),
        )


def _read(value: Any, world: Any) -> tuple[int, float] | Complaint:
    """The answer as (index, value), or a complaint."""
    expected = "(index, value) is asked for, such as `(812, 6.0)`"
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        return Complaint(f"This is not a pair; {expected}.", "type")
    index, strength = (v.item() if isinstance(v, Tensor) and v.numel() == 1 else v for v in value)
    if isinstance(index, float) and isinstance(strength, int) and not isinstance(strength, bool):
        return Complaint("", mistake="another_order")
    if isinstance(index, bool) or not isinstance(index, int):
        return Complaint(f"The index is {index!r:.40}, expected a whole number; {expected}.", "type")
    if isinstance(strength, bool) or not isinstance(strength, (int, float)):
        return Complaint(f"The value is {strength!r:.40}, expected a number; {expected}.", "type")
    if not 0 <= index < world.n_latents:
        return Complaint(f"There is no latent {index}: they run from 0 to {world.n_latents - 1}.")
    if not math.isfinite(strength):
        return Complaint(f"The value is {strength}, expected a finite number.", "nan")
    if strength == 0:
        return Complaint("", mistake="nothing_turned_up")
    return index, float(strength)


def _judge(case: Case, observation: Observation) -> Complaint | None:
    world = case.judge_data
    found = _read(observation.replies[0].value, world)
    if isinstance(found, Complaint):
        return found
    try:
        norm = world.norm(*found)
        if norm > MOST_NORM:
            return Complaint(f"At this value the latent adds a vector of norm {norm:.3g}, which breaks any model.")
        rises = world.rises(*found)
        low, high = (float(rises[1:].quantile(q)) for q in (1 - QUANTILE, QUANTILE))
        rise = float(rises[0])
        if rise < low:
            return Complaint("", mistake="turned_down")
        steered, unsteered = world.texts(*found)
    except CourseError as error:
        return Complaint(f"This is judged on SmolLM2 and its autoencoder, which cannot be loaded: {error}", "crashed")
    return _complaint(rise, high, steered, unsteered)


def _costs(steered: Effect, unsteered: Effect) -> bool:
    """Whether the text falls apart."""
    return not steered.loss < MOST_LOSS or not steered.variety > unsteered.variety - LESS_VARIETY


def would_pass(rise: float, high: float, steered: Effect, unsteered: Effect) -> bool:
    """Whether an answer with these effects passes. rise: of the log-odds. high: the QUANTILE of the controls' rises."""
    mentioned = steered.mentions >= unsteered.mentions + MORE_MENTIONS
    return rise >= high + MARGIN and mentioned and not _costs(steered, unsteered)


def _complaint(rise: float, high: float, steered: Effect, unsteered: Effect) -> Complaint | None:
    if would_pass(rise, high, steered, unsteered):
        return None
    costs = _costs(steered, unsteered)
    if costs and rise > high:
        return Complaint("", mistake="too_strong")
    if not costs and rise <= high:
        return Complaint("", mistake="like_random")
    if not costs and rise < high + MARGIN:
        return Complaint("", mistake="too_weak")
    return Complaint(
        f"The log-odds of the held-out words rise by {rise:+.2f} nats; {QUANTILE:.0%} of {CONTROLS} comparable latents, "
        f"clamped so that they add the same norm, stay below {high:+.2f}. {steered.mentions:.0%} of the texts use one of "
        f"the words (unsteered {unsteered.mentions:.0%}). The texts cost the unsteered model {steered.loss:+.2f} nats per "
        f"token more than its own do, and {steered.variety:.0%} of their neighboring pairs of words are different "
        f"(unsteered {unsteered.variety:.0%})."
    )


def _cases(draw: RandomInputs, size: str) -> list[Case]:
    world = HeldOutClamp() if size == "full" else PlantedLatents(draw)
    return [Case(calls=(Call(driver="value"),), judge=_judge, judge_data=world, about="held-out prompts and words")]


def _right(norm: float) -> Any:
    return lambda case: (case.judge_data.right, case.judge_data.value(norm))


def _least_telling(case: Case) -> tuple[int, float]:
    """Of the controls the one with the smallest effect either way, at the right norm."""
    world = case.judge_data
    others = world.controls
    effects = world.rises(world.right, world.value(12.0))[1:].abs()
    index = others[int(effects.argmin())]
    return index, 12.0 / float(world.rows[index].norm())


MY_CLAMP = Exercise(
    id="feature_steering.my_clamp",
    task="(index, value): clamped to this value, one latent of `middle-4608` makes SmolLM2 write about the concept that the cell above names, and the text still holds together.",
    minutes=12,
    difficulty=3,
    kind="value",
    fallback="mi_course.lessons.feature_steering.held_out_clamp:shipped_clamp",
    parts=(Part("held-out prompts and words, comparable latents, and the text itself", 4, _cases),),
    mistakes=(
        Mistake(
            "turned_down",
            "The words of the concept become *less* likely, further down than 95 % of comparable latents push them. Is the value negative? Turning a latent that writes about the concept up takes a positive one.",
            lambda case: (case.judge_data.right, -case.judge_data.value(12.0)),
        ),
        Mistake(
            "too_strong",
            f"It writes about the concept, but the text falls apart: it costs the unsteered model {MOST_LOSS} nats per token more than its own text does, or more, or it repeats itself. Try half the value: the effect saturates, the cost does not.",
            _right(40.0),
        ),
        Mistake(
            "too_weak",
            f"The right direction, but not enough: the rise of the words' log-odds is less than {MARGIN:g} nats above what 95 % of comparable latents reach when they add the same norm. A larger value, or another latent.",
            lambda case: (case.judge_data.right, case.judge_data.value(_weak_norm(case))),
        ),
        Mistake(
            "like_random",
            "On held-out prompts it raises the held-out words of the concept no more than one in twenty comparable latents does when it adds the same norm. Does the latent *write* about the concept, or is it only active on it? Is it one that you have measured?",
            _least_telling,
        ),
        Mistake(
            "nothing_turned_up",
            "The value is 0. That ablates the latent; it is to be turned up.",
            lambda case: (case.judge_data.right, 0.0),
        ),
        Mistake(
            "another_order",
            "The order is (index, value): the latent first, a whole number, then the value.",
            lambda case: (case.judge_data.value(12.0), case.judge_data.right),
        ),
    ),
    hints=(
        "A latent that is active on sentences about the concept need not write about it. Collect twenty that are, clamp each to the same norm on the training prompts, and see which raises the concept's words most.",
        "`study.log_odds` measures many latents in one batch; `dose_response` shows where the text begins to fall apart. Stay well below that.",
        "`candidates = clamp_study.latents_for(study, sentences, others)`, `index, _ = clamp_study.choose_latent(study, candidates, prompts, words, norm)`, then the largest norm whose texts on the training prompts cost little. The value is the norm divided by that of `sae.W_dec[index]`.",
    ),
    reveal="Choosing by what a latent *does*, on prompts and words that are not used again, is most of it. The rest is the dose: below some norm nothing happens, above another one the text falls apart, and between them lies the sweet spot (Durmus et al. 2024). And then look at the rivals. If a difference of means of the same norm does as well, then what you have found is a direction that steers; that it is a *feature* of the model needs other evidence.",
)


def _weak_norm(case: Case) -> float:
    """A norm at which the right latent does more than the controls, and less than is asked for."""
    world = case.judge_data
    for norm in (0.2 * i for i in range(1, 60)):
        rises = world.rises(world.right, world.value(norm))
        high = float(rises[1:].quantile(QUANTILE))
        if float(rises[0]) > high + MARGIN / 2:
            return norm
    return 1.0
