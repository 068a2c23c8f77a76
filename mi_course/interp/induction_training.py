"""Training an induction head: a small attention-only model, trained from scratch on repeated random tokens.

The period varies from batch to batch, so that the offset between the copies does not help. With a fixed period the
model learns to look back by it, and fails at any other: a positional copy, not induction. Some periods are never
trained on and serve as the test. Olsson et al. 2022, "In-context Learning and Induction Heads" (argument 1: the phase
change).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from mi_course.interp.induction import emergence_step, head_scores, loss_per_token, repeated_tokens, train_step
from mi_course.interp.models import native
from mi_course.interp.models.bridge import one_thread
from mi_course.interp.models.where import data_dir

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

VOCAB, BOS = 64, 0
UNSEEN_PERIODS = (18, 19, 20, 21, 22)
TRAIN_PERIODS = tuple(period for period in range(6, 33) if period not in UNSEEN_PERIODS)


@dataclass(frozen=True)
class TrainingSnapshot:
    """Measurements after `step` training steps, at one test period. Losses in nats, scores between 0 and 1."""

    step: int
    loss_first: float  # unpredictable tokens: the first copy, and the first token of the second
    loss_second: float  # predictable for an induction head: the second copy but its first token
    induction: Float[Tensor, "layer head"]
    previous_token: Float[Tensor, "layer head"]

    @property
    def best_induction(self) -> float:
        return float(self.induction.max())

    @property
    def best_previous_token(self) -> float:
        """Of the first layer only: an induction head needs a previous-token head in an earlier layer."""
        return float(self.previous_token[0].max())


def tiny_config(n_layers: int = 2) -> dict[str, Any]:
    """The shape of `data/tiny-induction` (fields of TransformerBridgeConfig): attention only, d_model 64, 4 heads.

    Rotary positions, because a previous-token head then forms in a few hundred steps (with learned ones it did not).
    The norm has no weights, so the matrices can be read as they are, without folding.
    """
    return {
        "n_layers": n_layers,
        "n_heads": 4,
        "d_model": 64,
        "d_head": 16,
        "d_vocab": VOCAB,
        "n_ctx": 128,
        "attn_only": True,
        "positional_embedding_type": "rotary",
        "normalization_type": "RMSPRE",
    }


def untrained_tiny_model(n_layers: int = 2, seed: int = 0) -> TransformerBridge:
    """An untrained model of that shape, in train mode. The seed decides its weights; the global random state stays."""
    return native.boot({**tiny_config(n_layers), "seed": seed}, name="tiny").train()


def measure_growth(
    model: TransformerBridge, step: int, period: int, *, batch: int = 64, seed: int = 10_000
) -> TrainingSnapshot:
    """Losses and scores of every head on `batch` fresh sequences of this period; two forward passes, no gradient."""
    tokens = repeated_tokens(batch, period, low=1, high=model.cfg.d_vocab, bos=BOS, seed=seed)
    with torch.no_grad():
        loss = loss_per_token(model(tokens), tokens)
    # Entry i of the loss predicts token i + 1; the second copy's first token, at period + 1, is unpredictable too.
    return TrainingSnapshot(
        step=step,
        loss_first=float(loss[:, : period + 1].mean()),
        loss_second=float(loss[:, period + 1 :].mean()),
        induction=head_scores(model, tokens, period, "induction"),
        previous_token=head_scores(model, tokens, period, "previous_token"),
    )


def train_induction(
    model: TransformerBridge,
    *,
    steps: int = 600,
    periods: Sequence[int] = TRAIN_PERIODS,
    test_period: int = 20,
    every: int = 25,
    batch: int = 64,
    lr: float = 8e-3,
    warmup: int = 200,
    weight_decay: float = 0.1,
    seed: int = 0,
    step_fn: Callable[[TransformerBridge, torch.optim.Optimizer, Tensor], float] = train_step,
) -> Iterator[TrainingSnapshot]:
    """Train in place, yielding measurements before the first step, every `every` steps, and after the last.

    Each step takes a fresh batch of `repeated_tokens` of one period, drawn from `periods`; the same seed gives the same
    run, and the global random state is left alone. AdamW; the learning rate rises over `warmup` steps, and falls
    linearly towards zero over the last quarter. `step_fn` may be the learner's own `train_step`. Between yields the
    model may be read (saved as a checkpoint, say). Raises ValueError for an impossible setting.
    """
    longest = 1 + 2 * max(*periods, test_period)
    if longest > model.cfg.n_ctx:
        raise ValueError(f"A period asks for {longest} positions; the model has {model.cfg.n_ctx}.")
    if steps < 1 or every < 1:
        raise ValueError(f"steps is {steps} and every is {every}; both must be at least 1.")
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=weight_decay)
    yield measure_growth(model, 0, test_period)
    for start in range(0, steps, every):
        stop = min(start + every, steps)
        with one_thread():  # products this small gain nothing from a second thread
            for step in range(start + 1, stop + 1):
                for group in optimizer.param_groups:
                    group["lr"] = lr * min(1.0, step / warmup, 4 * (steps - step + 1) / steps)
                period = periods[int(torch.randint(len(periods), (1,), generator=generator))]
                batch_seed = int(torch.randint(2**31, (1,), generator=generator))
                step_fn(model, optimizer, repeated_tokens(batch, period, 1, model.cfg.d_vocab, BOS, batch_seed))
            snapshot = measure_growth(model, stop, test_period)
        yield snapshot


def watch_induction_grow(
    step_fn: Callable[[TransformerBridge, torch.optim.Optimizer, Tensor], float] = train_step,
    *,
    seed: int = 0,
    steps: int = 500,
) -> list[TrainingSnapshot]:
    """Train two layers from scratch, with live pictures of the losses and of the best scores. Returns the snapshots."""
    from mi_course import show

    losses = show.live_lines(
        xlabel="training step", ylabel="loss (nats)", title="Two layers, live: the loss on a period never trained on"
    )
    scores = show.live_lines(xlabel="training step", ylabel="score", title="Two layers, live: the best scores")
    snapshots = []
    for snapshot in train_induction(untrained_tiny_model(2, seed=seed), steps=steps, step_fn=step_fn):
        snapshots.append(snapshot)
        losses.update(snapshot.step, first_copy=snapshot.loss_first, second_copy=snapshot.loss_second)
        scores.update(snapshot.step, induction=snapshot.best_induction, previous_token=snapshot.best_previous_token)
    losses.close()
    scores.close()
    return snapshots


@dataclass(frozen=True)
class RecordedRun:
    """A run that `data/train_tiny_induction.py` recorded, tested at a period of 20."""

    steps: list[int]
    loss_second: list[float]
    induction_at: int | None  # the step from which the best induction score stays above the threshold
    previous_token_at: int | None


def recorded_growth(threshold: float = 0.5) -> dict[str, RecordedRun]:
    """The recorded runs of the small models in `data/`, by name."""
    runs = json.loads((data_dir() / "tiny-induction-growth.json").read_text(encoding="utf-8"))["runs"]
    recorded = {}
    for name, run in runs.items():
        induction = torch.tensor(run["induction"]).flatten(1).amax(1).tolist()
        previous = torch.tensor(run["previous_token"])[:, 0].amax(1).tolist()
        recorded[name] = RecordedRun(
            run["step"],
            run["loss_second"],
            emergence_step(run["step"], induction, threshold),
            emergence_step(run["step"], previous, threshold),
        )
    return recorded
