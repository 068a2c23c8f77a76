"""What the learner finds on SmolLM2: a vector, a layer and a coefficient, judged on prompts and words they never saw."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from mi_course.exercises import Call, Case, Complaint, Exercise, Mistake, Part, RandomInputs
from mi_course.interp.models.errors import ModelError
from mi_course.interp.steering.controls import random_controls
from mi_course.lessons.steering_vectors.held_out import HeldOut
from mi_course.wire import Observation

LAST_LAYER = 18
"""Later layers can be gamed: a vector made of the unembedding's own rows raises the words and means nothing."""
MARGIN, MAX_COST, CONTROLS, QUANTILE = 1.0, 0.25, 200, 0.95
"""The rise in log-odds must exceed the QUANTILE of that of 200 random directions by MARGIN nats, and the loss on neutral
text may rise by less than MAX_COST nats per token. Not the best of 20, which ranges from 0.4 to 1.8 with the seed; two
halves of the 200 agree within 0.2. Measured with the difference of means at the last token: layer 14 at coefficient 0.5
is 1.3 above the quantile for 0.08 nats, layer 18 2.0 for 0.04; layer 14 at 1 is 0.9 above it for 0.35."""


class Planted:
    """The small size: an invented model with a direction for the concept at each layer.

    The effect of a vector saturates, and what it costs grows with the square of its length, as on SmolLM2.
    """

    d_model, n_layers = 96, 30

    def __init__(self, draw: RandomInputs) -> None:
        noise = draw.normal(self.n_layers, self.d_model)
        self.directions = noise / noise.norm(dim=1, keepdim=True) * 5.0

    def effects(self, vectors: Tensor, layer: int, coefficient: float) -> Tensor:
        along = vectors @ self.directions[layer] / 25.0 * coefficient
        return 4.0 * torch.tanh(along)

    def cost(self, vector: Tensor, layer: int, coefficient: float) -> float:
        return 0.2 * (coefficient * float(vector.norm()) / 5.0) ** 2

    def direction(self, layer: int) -> Tensor:
        return self.directions[layer]


def _read(value: Any, world: Any) -> tuple[Tensor, int, float] | Complaint:
    """The answer as (vector, layer, coefficient), or a complaint."""
    expected = "(vector, layer, coefficient) is asked for, such as `(vector, 14, 1.0)`"
    if not isinstance(value, (tuple, list)) or len(value) != 3:
        return Complaint(f"This is not a triple; {expected}.", "type")
    vector, layer, coefficient = value
    if isinstance(vector, (int, float)) and any(isinstance(v, Tensor) and v.ndim == 1 for v in value[1:]):
        return Complaint("", mistake="another_order")
    if isinstance(vector, (list, tuple)) and vector and all(type(v) in (int, float) for v in vector):
        vector = torch.tensor(vector, dtype=torch.float32)
    layer, coefficient = (v.item() if isinstance(v, Tensor) and v.numel() == 1 else v for v in (layer, coefficient))
    if not isinstance(vector, Tensor) or not vector.is_floating_point():
        return Complaint(f"The first entry is a {type(vector).__name__}, expected the vector; {expected}.", "type")
    if isinstance(layer, float) and isinstance(coefficient, int) and layer != int(layer):
        return Complaint("", mistake="another_order")
    if isinstance(layer, bool) or not isinstance(layer, int):
        return Complaint(f"The layer is {layer!r:.40}, expected a whole number; {expected}.", "type")
    if isinstance(coefficient, bool) or not isinstance(coefficient, (int, float)):
        return Complaint(f"The coefficient is {coefficient!r:.40}, expected a number; {expected}.", "type")
    if vector.shape != (world.d_model,):
        return Complaint(f"The vector has shape {tuple(vector.shape)}, expected ({world.d_model},).", "shape")
    if not vector.isfinite().all():
        bad = int((~vector.isfinite()).sum())
        return Complaint(f"{bad} components of the vector are NaN or infinite. Was a class empty?", "nan")
    if not 0 <= layer < world.n_layers:
        return Complaint(f"There is no layer {layer}: they run from 0 to {world.n_layers - 1}.")
    if layer > LAST_LAYER:
        return Complaint("", mistake="too_late")
    pushed = float(vector.double().norm()) * abs(float(coefficient))
    if not math.isfinite(pushed) or pushed > 1e6:
        return Complaint(
            f"Coefficient times vector has norm {pushed:.3g}, which breaks any model. Activations have about 150."
        )
    if pushed == 0:
        return Complaint("", mistake="nothing_added")
    return vector.detach().float().cpu(), layer, float(coefficient)


def _judge(case: Case, observation: Observation) -> Complaint | None:
    world = case.judge_data
    found = _read(observation.replies[0].value, world)
    if isinstance(found, Complaint):
        return found
    vector, layer, coefficient = found
    controls = random_controls(vector, CONTROLS, seed=4)
    try:
        effects = world.effects(torch.cat([vector[None], controls]), layer, coefficient)
        cost = world.cost(vector, layer, coefficient)
    except ModelError as error:
        return Complaint(f"This answer is judged on SmolLM2, which could not be loaded: {error}", "crashed")
    effect = float(effects[0])
    if not all(map(math.isfinite, (effect, cost))):
        return Complaint("", mistake="too_strong")
    low, high = (float(effects[1:].quantile(q)) for q in (1 - QUANTILE, QUANTILE))
    seen = (
        f"On held-out prompts the log-odds of words that you have not seen rise by {effect:+.2f} nats; {QUANTILE:.0%} of "
        f"{CONTROLS} random directions of that norm stay below {high:+.2f}. Neutral text costs {cost:+.2f} nats more."
    )
    if effect - high >= MARGIN and cost < MAX_COST:
        return None
    if effect < low:
        return Complaint("", mistake="swapped")
    if cost >= MAX_COST:
        if effect > high:
            return Complaint("", mistake="too_strong")
        return Complaint(f"{seen} The effect is too small for its cost: try another vector or another layer.")
    return Complaint("", mistake="too_weak" if effect > high else "like_random")


def _cases(draw: RandomInputs, size: str) -> list[Case]:
    world = HeldOut() if size == "full" else Planted(draw)
    return [
        Case(calls=(Call(driver="value"),), judge=_judge, judge_data=world, about="held-out prompts, unseen synonyms")
    ]


MY_STEERING = Exercise(
    id="steering_vectors.my_steering",
    task="(vector, layer, coefficient): it makes SmolLM2 more cheerful on prompts and in words you have not seen, more than random directions of its norm do, and leaves neutral text alone.",
    minutes=10,
    difficulty=2,
    revision=2,
    kind="value",
    fallback="mi_course.lessons.steering_vectors.held_out:smollm2_steering",
    parts=(Part("held-out prompts, unseen words, 200 random directions, neutral text", 4, _cases),),
    mistakes=(
        Mistake(
            "swapped",
            "It works, the wrong way around: the cheerful words become *less* likely, further down than 95 % of random directions push them. Positive and negative are swapped, or the coefficient is negative.",
            lambda case: (case.judge_data.direction(14), 14, -1.0),
        ),
        Mistake(
            "too_strong",
            f"It raises the words, but damages the model: on neutral text the loss rises by {MAX_COST} nats per token or more. Try half the dose: the effect saturates, the cost does not. (Is the vector added twice? Was BOS, "
            "of norm 25,000, averaged into a mean?)",
            lambda case: (case.judge_data.direction(14) * 2, 14, 1.3),
        ),
        Mistake(
            "too_weak",
            f"Right direction, but not enough: it is less than {MARGIN} nats above what 95 % of random directions of its norm do. A larger coefficient, or a layer at which your sweep showed more.",
            lambda case: (case.judge_data.direction(14), 14, 0.02),
        ),
        Mistake(
            "like_random",
            "On prompts and words that you have not seen it does no more than one in twenty random directions of the same norm. Does the vector belong to this layer? Does it come from sentences that differ in nothing "
            "but opinion?",
            lambda case: (random_controls(case.judge_data.direction(14), 3, 11)[_least(case)], 14, 1.0),
        ),
        Mistake(
            "too_late",
            f"Layers up to {LAST_LAYER} are asked for. Later ones can be gamed: add the unembedding rows of cheerful words there, and they rise although nothing was learned.",
            lambda case: (case.judge_data.direction(25), 25, 1.0),
        ),
        Mistake(
            "nothing_added",
            "Coefficient times vector is zero, so nothing is added.",
            lambda case: (case.judge_data.direction(14), 14, 0.0),
        ),
        Mistake(
            "another_order",
            "The order is (vector, layer, coefficient): the vector first, then the layer, a whole number, then the coefficient.",
            lambda case: (14, case.judge_data.direction(14), 1.0),
        ),
    ),
    hints=(
        "Your sweep says at which layers the difference of means works, your dose-response curve how much of it the model bears. Choose both from the pictures.",
        "`my_steering = (vector, 18, 0.5)` with `vector` the difference of means at layer 18, collected at the last token of each sentence.",
    ),
    reveal="Nothing has to be optimised: the difference of means at a middle layer, half of it, added once. More is not better: the effect saturates, the cost grows with the square. What makes it a result is what it is compared with: words and prompts that were not used, two hundred directions of the same norm, and "
    "text that has nothing to do with opinion.",
)


def _least(case: Case) -> int:
    """The one of three random directions with the least effect, so that none is right by chance."""
    three = random_controls(case.judge_data.direction(14), 3, 11)
    return int(case.judge_data.effects(three, 14, 1.0).abs().argmin())
