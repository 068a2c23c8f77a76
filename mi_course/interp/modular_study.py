"""Experiments on models of modular addition, and their pictures, for lesson 13."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from mi_course.interp import modular
from mi_course.interp.models.native import load_checkpoints, load_native, load_state
from mi_course.interp.models.where import data_dir

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

    from mi_course.show import Picture

__all__ = [
    "PRIME",
    "Shares",
    "checkpoint_logits",
    "draw_growth",
    "draw_progress",
    "draw_spectra",
    "median_loss",
    "models",
    "neuron_shares",
    "progress",
    "random_keys",
    "recorded_growth",
    "trained_pairs",
    "watch_circles",
]

PRIME = 53
NAME = "tiny-clock"


@cache
def recorded_growth() -> dict[str, dict[str, list[float]]]:
    """What was recorded of the two runs every 50 steps: run -> measure -> numbers. Losses are in nats."""
    growth: dict[str, Any] = json.loads((data_dir() / f"{NAME}-growth.json").read_text())
    return {name: measures for name, measures in growth.items() if name != "run"}


def trained_pairs() -> Bool[Tensor, "a b"]:
    """The pairs that both runs were trained on."""
    run = json.loads((data_dir() / f"{NAME}-growth.json").read_text())["run"]
    return modular.training_pairs(run["p"], run["share"], run["seed"])


def models() -> dict[str, TransformerBridge]:
    """The recorded run's first and last state, and the run without weight decay."""
    checkpoints = load_checkpoints(NAME)
    untrained = checkpoints.boot()
    load_state(untrained, checkpoints[0])
    return {
        "weight decay": checkpoints.boot(),
        "no weight decay": load_native(f"{NAME}-memory"),
        "untrained": untrained,
    }


def checkpoint_logits() -> dict[int, Float[Tensor, "a b c"]]:
    """Step -> logits for all pairs, for every checkpoint of the recorded run."""
    pairs = modular.all_pairs(PRIME)
    with torch.no_grad():
        return {
            step: modular.state_logits(state, pairs[:, 0], pairs[:, 1]).unflatten(0, (PRIME, PRIME))
            for step, state in load_checkpoints(NAME).items()
        }


class Shares(NamedTuple):
    """Explained shares of the variance, each the median: of neurons, or of the directions that the output reads."""

    products: float
    sums: float
    linear: float
    directions: float


def neuron_shares(
    model: TransformerBridge, cosine_fit: Callable[[Tensor, int], float | Tensor], n: int, every: int = 4
) -> Shares:
    """What is in the neurons of a model, and in the directions from which it makes its n strongest frequencies.

    Every fourth neuron of those that are not dead, each with the frequency that fits it best, of all that there are.
    """
    active, W_L = modular.neurons(model), modular.readout(model)
    alive = active.flatten(0, 1).std(0) > 1e-3 * float(active.std())
    frequencies = range(1, (PRIME + 1) // 2)
    products, sums, linear = [], [], []
    for neuron in active[..., alive][..., ::every].unbind(-1):
        fits = {k: float(cosine_fit(neuron, k)) for k in frequencies}
        best = max(fits, key=lambda k: fits[k])
        products.append(fits[best])
        sums.append(modular.sum_share(neuron, best))
        linear.append(modular.linear_share(neuron, best))
    strength = {k: float((W_L @ modular.waves(PRIME, k).T).square().sum()) for k in frequencies}
    strongest = sorted(strength, key=lambda k: -strength[k])[:n]
    directions = [modular.direction_fit(active, W_L, k) for k in strongest]
    return Shares(*(float(torch.tensor(part).median()) for part in (products, sums, linear, directions)))


def median_loss(versions: Sequence[Float[Tensor, "a b c"]], trained_on: Bool[Tensor, "a b"]) -> float:
    """The middle one of the losses on training pairs, in nats, of several versions of a model's logits."""
    return statistics.median(modular.measure(logits, trained_on).train_loss for logits in versions)


def progress(
    excluded_logits: Callable[[Tensor, Tensor, list[int]], Tensor],
    basis: Float[Tensor, "wave hour"],
    keys: list[int],
    other_keys: list[int],
) -> tuple[Int[Tensor, " checkpoint"], dict[str, Float[Tensor, " checkpoint"]]]:
    """The recorded run's checkpoints, and at each: test accuracy, and three losses in nats.

    restricted: on unseen pairs, waves fitted without them; control: the same with the other keys; excluded: on training
    pairs, without the waves of the keys.
    """
    recorded, trained_on = checkpoint_logits(), trained_pairs()
    found: dict[str, list[float]] = {name: [] for name in ("test accuracy", "restricted", "excluded", "control")}
    for logits in recorded.values():
        of_keys, of_others = (modular.held_out_restricted(logits, ks, trained_on) for ks in (keys, other_keys))
        found["test accuracy"].append(modular.measure(logits, trained_on).test_accuracy)
        found["restricted"].append(modular.measure(of_keys, trained_on).test_loss)
        found["excluded"].append(modular.measure(excluded_logits(logits, basis, keys), trained_on).train_loss)
        found["control"].append(modular.measure(of_others, trained_on).test_loss)
    return torch.tensor(list(recorded)), {name: torch.tensor(values) for name, values in found.items()}


def random_keys(n: int, count: int, without: Sequence[int], seed: int) -> list[list[int]]:
    """`count` controls: sets of n frequencies, none of them among `without`."""
    others = torch.tensor([k for k in range(1, (PRIME + 1) // 2) if k not in without])
    generator = torch.Generator().manual_seed(seed)
    return [sorted(others[torch.randperm(len(others), generator=generator)[:n]].tolist()) for _ in range(count)]


def draw_growth(growth: Mapping[str, Mapping[str, list[float]]]) -> Picture:
    """Accuracies of both runs over the steps of the training."""
    from mi_course import show

    decay, control = growth["weight decay"], growth["no weight decay"]
    return show.lines(
        [max(step, 10) for step in decay["step"]],
        {
            "training pairs": decay["train_accuracy"],
            "pairs never seen": decay["test_accuracy"],
            "control: never seen, no weight decay": control["test_accuracy"],
        },
        xlabel="training step",
        ylabel="share of right answers",
        title="First right on every training pair, much later on the others",
        caption="Recorded every 50 steps. The first step is drawn at 10.",
        log_x=True,
    )


def draw_spectra(power: Mapping[str, Float[Tensor, " frequency"]]) -> Picture:
    """The power of each frequency, one bar each; the second entry is drawn as the control."""
    from mi_course import show

    (name, values), (control_name, control) = power.items()
    return show.bars(
        [str(k) for k in range(1, len(values) + 1)],
        values,
        control=control,
        series_name=name,
        control_name=control_name,
        xlabel="frequency",
        ylabel="share of the power",
        title="The power in the embedding, by frequency",
    )


def draw_progress(steps: Sequence[int], measures: Mapping[str, Float[Tensor, " checkpoint"]]) -> Picture:
    """How far each measure is from its first value, in units of the farthest that it gets."""
    from mi_course import show

    return show.lines(
        steps,
        {name: (values - values[0]) / _farthest(values - values[0]) for name, values in measures.items()},
        xlabel="training step",
        ylabel="way gone (0: as at first, 1: farthest)",
        title="Both losses move before the accuracy does",
        caption="Each measure in units of its farthest value; the excluded loss comes back from there.",
    )


def _farthest(ways: Float[Tensor, " checkpoint"]) -> Tensor:
    """The value that is farthest from 0, with its sign."""
    return ways[ways.abs().argmax()]


def watch_circles(keys: Sequence[int]) -> dict[int, Float[Tensor, "2 hour"]]:
    """Show where the hours lie in the planes of these frequencies, step by step; return the last picture's points."""
    from mi_course import show

    with show.live_vectors(
        title="The hours of the clock, in the plane of each frequency",
        caption="Every second hour, as an arrow from the center; colors only tell arrows apart. "
        "The light circle has radius 1.",
        every_s=0.15,
    ) as picture:
        for step, state in load_checkpoints(NAME).items():
            W_E = state["embed.weight"][:PRIME]
            points = {k: modular.circle(W_E, k) for k in keys}
            picture.update(step, {f"frequency {k}": plane[:, ::2] for k, plane in points.items()})
    return points
