"""What the learner finds: a direction for "known", and a confidence, judged on entities and questions never used."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from mi_course.exercises import Call, Case, Complaint, Exercise, Mistake, Part, RandomInputs
from mi_course.interp.models.errors import ModelError
from mi_course.interp.steering.controls import random_controls
from mi_course.lessons.entities_and_uncertainty.held_out import HeldOutNames, HeldOutQuestions
from mi_course.wire import Observation


def _pairs_won(scores: Tensor, labels: Tensor) -> Tensor:
    """[true, false]: 1 where the true row is above, ½ where both are equal."""
    difference = scores.double()[labels][:, None] - scores.double()[~labels][None]
    return (difference > 0).double() + 0.5 * (difference == 0).double()


def _area(scores: Tensor, labels: Tensor) -> float:
    return float(_pairs_won(scores, labels).mean())


# ---------------------------------------------------------------------------------------------------------------------
# my_knowledge_direction

MARGIN, CONTROLS, QUANTILE = 0.1, 200, 0.95
"""The AUROC must exceed the QUANTILE of that of 200 random directions, and that of token frequency, by MARGIN. Measured,
fitted on ten blocks of names and judged on the ten others, with four ways to part them: layer 5 0.79 to 0.88, layers 11
to 19 0.86 to 0.94; the quantile is 0.57 at layer 5 and 0.63 to 0.67 there; token frequency has 0.48 to 0.52. Of 2,000
random directions at most 0.3 % pass, whatever the layer; directions fitted to token features reach 0.51 to 0.59."""


class PlantedEntities:
    """The small size: an invented model with a direction for known entities at each layer, and one for common names."""

    d_model, n_layers, n = 64, 30, 160

    def __init__(self, draw: RandomInputs) -> None:
        self.known = torch.arange(self.n) % 2 == 0
        # Not matched perfectly: how common a name is still says a little about whether it is known.
        self.frequency = (draw.normal(self.n) + 0.9 * self.known)[:, None]
        noise = draw.normal(2, self.n_layers, self.d_model)
        self.directions, self.common = noise / noise.norm(dim=-1, keepdim=True)
        self.noise = draw.normal(self.n_layers, self.n, self.d_model)

    def activations(self, layer: int) -> Tensor:
        signal = 2.4 * self.known[:, None] * self.directions[layer]
        return self.noise[layer] + signal + 1.5 * self.frequency * self.common[layer] + 2.0

    def direction(self, layer: int) -> Tensor:
        along = self.directions[layer] - self.directions[layer] @ self.common[layer] * self.common[layer]
        return along


def _read_direction(value: Any, world: Any) -> tuple[Tensor, int] | Complaint:
    expected = "(vector, layer) is asked for, such as `(w, 12)`"
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        return Complaint(f"This is not a pair; {expected}.", "type")
    vector, layer = value
    if isinstance(layer, Tensor) and layer.ndim == 1 and isinstance(vector, int):
        return Complaint("", mistake="another_order")
    if isinstance(vector, (list, tuple)) and vector and all(type(v) in (int, float) for v in vector):
        vector = torch.tensor(vector, dtype=torch.float32)
    layer = layer.item() if isinstance(layer, Tensor) and layer.numel() == 1 else layer
    if not isinstance(vector, Tensor) or not vector.is_floating_point():
        return Complaint(f"The first entry is a {type(vector).__name__}, expected the vector; {expected}.", "type")
    if isinstance(layer, bool) or not isinstance(layer, int):
        return Complaint(f"The layer is {layer!r:.40}, expected a whole number; {expected}.", "type")
    if vector.shape != (world.d_model,):
        return Complaint(f"The vector has shape {tuple(vector.shape)}, expected ({world.d_model},).", "shape")
    if not vector.isfinite().all():
        bad = int((~vector.isfinite()).sum())
        return Complaint(f"{bad} components of the vector are NaN or infinite.", "nan")
    if not vector.any():
        return Complaint("", mistake="nothing")
    if not 0 <= layer < world.n_layers:
        return Complaint(f"There is no layer {layer}: they run from 0 to {world.n_layers - 1}.")
    return vector.detach().double().cpu(), layer


def _judge_direction(case: Case, observation: Observation) -> Complaint | None:
    world = case.judge_data
    found = _read_direction(observation.replies[0].value, world)
    if isinstance(found, Complaint):
        return found
    vector, layer = found
    try:
        x, known, frequency = world.activations(layer).double(), world.known, world.frequency
    except ModelError as error:
        return Complaint(f"This answer is judged on SmolLM2, which could not be loaded: {error}", "crashed")
    area = _area(x @ vector, known)
    controls = random_controls(vector.float(), CONTROLS, seed=8).double()
    chance = torch.tensor([_area(x @ control, known) for control in controls])
    low, high = (float(chance.quantile(q)) for q in (1 - QUANTILE, QUANTILE))
    common = max(abs(_area(column, known) - 0.5) for column in frequency.T) + 0.5
    if area >= max(high, common) + MARGIN:
        return None
    if area < low:
        return Complaint("", mistake="turned_around")
    if area <= high:
        return Complaint("", mistake="like_random")
    if common > high and area < common + MARGIN / 2:
        return Complaint("", mistake="no_better_than_frequency")
    return Complaint(
        f"On {len(known)} held-out names, matched in their tokens, the AUROC is {area:.3f}. {QUANTILE:.0%} of {CONTROLS} random directions stay below {high:.3f}, and token frequency reaches {common:.3f}; asked for is {MARGIN} more than either."
    )


def _direction_cases(draw: RandomInputs, size: str) -> list[Case]:
    world = HeldOutNames() if size == "full" else PlantedEntities(draw)
    return [
        Case(calls=(Call(driver="value"),), judge=_judge_direction, judge_data=world, about="held-out matched names")
    ]


def _common_direction(case: Case) -> tuple[Tensor, int]:
    """Along the frequency of names, and a little along knowing."""
    world = case.judge_data
    x, frequency = world.activations(12).double(), world.frequency[:, 0].double()
    fitted = torch.linalg.lstsq(x - x.mean(0), frequency - frequency.mean()).solution
    return fitted.float(), 12


def _least_telling(case: Case) -> tuple[Tensor, int]:
    """Of some random directions the one with the AUROC nearest one half."""
    world = case.judge_data
    some = random_controls(torch.ones(world.d_model), 5, 11)
    areas = [abs(_area(world.activations(12) @ one, world.known) - 0.5) for one in some]
    return some[int(torch.tensor(areas).argmin())], 12


MY_KNOWLEDGE_DIRECTION = Exercise(
    id="entities_and_uncertainty.my_knowledge_direction",
    task="(vector, layer): a direction in the residual stream along which names that the model knows lie further than names it cannot know, where the names are matched and new.",
    minutes=12,
    difficulty=3,
    kind="value",
    fallback="mi_course.lessons.entities_and_uncertainty.held_out:smollm2_direction",
    parts=(Part("held-out matched names, token frequency, 200 random directions", 4, _direction_cases),),
    mistakes=(
        Mistake(
            "turned_around",
            "It separates, the wrong way around: names that *nobody* has lie further along your vector. Turn its sign.",
            lambda case: (-case.judge_data.direction(12), 12),
        ),
        Mistake(
            "like_random",
            "On names that you have not seen it does no more than one in twenty random directions. Does the vector belong to this layer, and to raw activations (not standardized ones)?",
            _least_telling,
        ),
        Mistake(
            "no_better_than_frequency",
            "It separates, but no better than how common the names' tokens are. That is the confound: fit on pairs that are matched in it.",
            _common_direction,
        ),
        Mistake(
            "nothing",
            "The vector is zero.",
            lambda case: (torch.zeros(case.judge_data.d_model), 12),
        ),
        Mistake(
            "another_order",
            "The order is (vector, layer): the vector first.",
            lambda case: (12, case.judge_data.direction(12)),
        ),
    ),
    hints=(
        "Fit on famous names and on those shuffled from their halves, and keep blocks together when you choose the layer: with `group_folds` on the blocks, not by how well the fit separates what it was fitted on.",
        "`w, b = fit_probe(read(model, people, 16), known, 1.0)`; `my_knowledge_direction = (w, 16)`. A strong penalty helps: there are far fewer names than dimensions. The difference of means is nearly as good.",
    ),
    reveal="At the embedding matched names cannot be told apart: each half occurs in a famous name and in a shuffled one. A few layers on they can, so something joined the halves and found that they belong together. That is knowledge of a kind, but of which? A famous name is also a more *expected* one: how probable the model finds the second half after the first separates them even better. "
    "Knowing a person and having seen two words side by side are hard to tell apart, in a model of this size more than in a large one.",
)


# ---------------------------------------------------------------------------------------------------------------------
# my_confidence

RESAMPLES = 1000
"""Over so many resamples of the 270 held-out questions the gain must be above 0 in 95 %. Measured: the first token's
probability has an AUROC of 0.773, the whole answer's 0.823 (gain above +0.023), with agreeing samples 0.823. Weights
that are fitted on shuffled labels pass in 0.3 % of 300 draws. Of 1,500 random ones 4 % do, and 92 % of those are better
on the other 270 questions as well: they are right, by whatever luck."""


class PlantedSignals:
    """The small size: invented signals, of which some say more about being right than the top probability."""

    own = "top probability"

    def __init__(self, draw: RandomInputs) -> None:
        n = 240
        right = draw.normal(n)
        self.correct = right + draw.normal(n, std=0.4) > 0.1
        self.signals = {
            "top probability": (0.5 * right + draw.normal(n)).sigmoid(),
            "answer log-probability": 0.6 * right + draw.normal(n) - 3.0,
            "entropy": 2.0 - 0.6 * right + draw.normal(n),
            "semantic entropy": 1.0 - 0.7 * right + draw.normal(n),
            "P(True)": (draw.normal(n) * 0.3 + 1.0).sigmoid(),
        }
        self.weights = {
            "top probability": 1.0,
            "answer log-probability": 1.0,
            "entropy": -1.0,
            "semantic entropy": -1.0,
        }


def _read_weights(value: Any, names: list[str]) -> dict[str, float] | Complaint:
    listed = ", ".join(map(repr, names))
    if not isinstance(value, dict):
        return Complaint(
            f"This is a {type(value).__name__}, expected a dictionary from signals to weights. Signals: {listed}.",
            "type",
        )
    if unknown := [name for name in value if name not in names]:
        return Complaint(f"There is no signal {str(unknown[0])!r:.60}. Signals: {listed}.")
    weights = {}
    for name, weight in value.items():
        weight = weight.item() if isinstance(weight, Tensor) and weight.numel() == 1 else weight
        if isinstance(weight, bool) or not isinstance(weight, (int, float)):
            return Complaint(f"The weight of {name!r} is {weight!r:.40}, expected a number.", "type")
        if not math.isfinite(weight) or abs(weight) > 1e6:
            return Complaint(f"The weight of {name!r} is {weight}, expected a finite number.", "nan")
        weights[name] = float(weight)
    return weights


def standardized(signal: Tensor) -> Tensor:
    """z-scores over the questions; 0 for a signal without spread."""
    z = signal.double() - signal.double().mean()
    spread = z.std(correction=0)
    return z / spread if spread > 0 else z * 0


def gains(score: Tensor, own: Tensor, correct: Tensor, n: int = RESAMPLES) -> Tensor:
    """AUROC of the score minus that of `own`, on n bootstrap samples of the questions (the same for both)."""
    generator = torch.Generator().manual_seed(8)
    drawn = torch.randint(len(correct), (n, len(correct)), generator=generator)
    counts = torch.zeros(n, len(correct), dtype=torch.float64).scatter_add_(1, drawn, torch.ones(drawn.shape).double())
    true, false = counts[:, correct], counts[:, ~correct]
    difference = _pairs_won(score, correct) - _pairs_won(own, correct)
    return ((true @ difference) * false).sum(1) / (true.sum(1) * false.sum(1))


def _weighted(weights: dict[str, float], signals: dict[str, Tensor]) -> Tensor:
    return torch.stack([w * standardized(signals[name]) for name, w in weights.items()]).sum(0)


def _judge_confidence(case: Case, observation: Observation) -> Complaint | None:
    world = case.judge_data
    try:
        signals, correct = world.signals, world.correct
    except ModelError as error:
        return Complaint(f"This answer is judged on SmolLM2, which could not be loaded: {error}", "crashed")
    weights = _read_weights(observation.replies[0].value, list(signals))
    if isinstance(weights, Complaint):
        return weights
    if not any(weights.values()):
        return Complaint("", mistake="nothing_weighed")
    score = _weighted(weights, signals)
    own = signals[world.own]
    low, high = (float(gains(score, own, correct).quantile(q)) for q in (0.05, 0.95))
    if low > 0:
        return None
    if high < 0 and float(gains(-score, own, correct).quantile(0.05)) > 0:
        return Complaint("", mistake="turned_around")
    turned = {name: -w if "entropy" in name and w > 0 else w for name, w in weights.items()}
    if turned != weights and float(gains(_weighted(turned, signals), own, correct).quantile(0.05)) > 0:
        return Complaint("", mistake="entropy_unturned")
    if {name for name, w in weights.items() if w} == {world.own} and weights[world.own] > 0:
        return Complaint("", mistake="top_probability_alone")
    area, before = _area(score, correct), _area(own, correct)
    return Complaint(
        f"On {len(correct)} held-out questions the AUROC of your confidence for being right is {area:.3f}, that of the top probability alone {before:.3f}. Over {RESAMPLES:,} resamples of the questions the gain is above {low:+.3f} in 95 % of them; that must be more than 0."
    )


def _confidence_cases(draw: RandomInputs, size: str) -> list[Case]:
    world = HeldOutQuestions() if size == "full" else PlantedSignals(draw)
    return [Case(calls=(Call(driver="value"),), judge=_judge_confidence, judge_data=world, about="held-out questions")]


MY_CONFIDENCE = Exercise(
    id="entities_and_uncertainty.my_confidence",
    task="A weight for each signal that you use: their weighted sum says better whether the model is right than its own top probability does.",
    minutes=10,
    difficulty=2,
    kind="value",
    fallback="mi_course.lessons.entities_and_uncertainty.held_out:stored_confidence",
    parts=(Part("held-out questions, against the top probability, by a paired bootstrap", 4, _confidence_cases),),
    mistakes=(
        Mistake(
            "turned_around",
            "It tells right from wrong, the wrong way around: your confidence is high where the model is *wrong*. Entropies are high where the model is unsure: their weights are negative.",
            lambda case: {name: -weight for name, weight in case.judge_data.weights.items()},
        ),
        Mistake(
            "entropy_unturned",
            "An entropy has a positive weight, and with a negative one your answer would pass. Entropies are high where the model is *unsure*.",
            lambda case: {name: abs(weight) for name, weight in case.judge_data.weights.items()},
        ),
        Mistake(
            "top_probability_alone",
            "This is the model's own top probability, which is what you are compared with. Add what else you have measured.",
            lambda case: {case.judge_data.own: 2.0},
        ),
        Mistake(
            "nothing_weighed",
            "All weights are zero, so every question gets the same confidence.",
            lambda case: {},
        ),
    ),
    hints=(
        "Standardize the signals on your own questions, and fit a probe on them: a handful of weights and two hundred questions need next to no penalty.",
        "Weights belong to *standardized* signals. `fit_probe` returns weights for raw ones: give it standardized signals, or multiply its weights by the standard deviations.",
    ),
    reveal="The probability of the whole answer is what the first token's leaves out, and most of the gain. Samples that agree add little to it, entropies over samples nothing, and P(True) is no better than a coin in this model: it says yes. Larger models do better at that (Kadavath et al. 2022). A signal that is good by itself need not add to another: they may know the same thing.",
)
