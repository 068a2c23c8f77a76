"""What the learner finds in SmolLM2: heads that carry the number of the subject to the verb, judged on unseen sentences."""

from __future__ import annotations

from collections.abc import Callable

import torch

from mi_course.exercises import Call, Case, Complaint, Exercise, Mistake, Part, RandomInputs, heads_in, turned_around
from mi_course.interp.agreement import layer_matched, smollm2_drops, smollm2_held_out
from mi_course.interp.heads import all_heads
from mi_course.wire import Observation

MOST, LEAST, LEVEL, SETS = 4, 0.25, 0.95, 200
"""How many heads, what share of the logit difference they must take, and what share of random sets they must exceed."""

_Head = tuple[int, int]


class Planted:
    """The small size: a task that is a sum over heads. Four carry it, some work against it, the rest hardly matter."""

    n_layers, n_heads, clean = 12, 7, 1.0

    def __init__(self, draw: RandomInputs) -> None:
        drops = draw.normal(self.n_layers, self.n_heads, std=0.01)
        places = draw.permutation((self.n_layers - 7) * self.n_heads)
        # In layers that are no heads' numbers, so that pairs the other way round are no heads.
        self.carrying = [(7 + layer, draw.integer(0, self.n_heads)) for layer in (0, 1, 3, 4)]
        self.against = [divmod(place, self.n_heads) for place in places[:3]]
        for layer, head in self.carrying:
            drops[layer, head] = draw.number(0.3, 0.4)
        for layer, head in self.against:
            drops[layer, head] = -draw.number(0.2, 0.3)
        self.drops = drops.tolist()

    def drop(self, heads: list[_Head]) -> float:
        return sum(self.drops[layer][head] for layer, head in heads)

    def chance(self, heads: list[_Head]) -> float:
        return _quantile([self.drop(others) for others in layer_matched(heads, self.n_heads, SETS)])


class SmolLM2:
    """The full size: heads of SmolLM2, on held-out sentences. The model is loaded on first use."""

    n_layers, n_heads = 30, 9

    @property
    def clean(self) -> float:
        return smollm2_drops().clean

    def drop(self, heads: list[_Head]) -> float:
        return self.clean - smollm2_held_out().difference(heads)

    def chance(self, heads: list[_Head]) -> float:
        return _quantile([smollm2_drops().total(others) for others in layer_matched(heads, self.n_heads, SETS)])


def _quantile(drops: list[float]) -> float:
    """What 95 % of these do not exceed."""
    return sorted(drops)[round(LEVEL * len(drops)) - 1]


def _judge(case: Case, observation: Observation) -> Complaint | None:
    task: Planted | SmolLM2 = case.judge_data
    heads = heads_in(
        observation.replies[0].value,
        task.n_layers,
        task.n_heads,
        empty="The list is empty: with nothing ablated nothing is lost.",
        example="[(12, 4), (5, 0)]",
    )
    if isinstance(heads, Complaint):
        return heads
    if len(heads) > MOST:
        return Complaint("", mistake="too_many")
    drop, bar = task.drop(heads), task.chance(heads)
    if drop > bar and drop >= LEAST * task.clean:
        return None
    turned = turned_around(heads, task.n_layers, task.n_heads)
    if turned and task.drop(turned) > max(task.chance(turned), LEAST * task.clean):
        return Complaint("", mistake="head_first")
    if drop < -0.05 * task.clean:
        return Complaint("", mistake="against_it")
    if drop <= bar:
        return Complaint(
            f"Without your {len(heads)} heads the logit difference falls by {drop:.2f} of {task.clean:.2f}. One set in twenty of other heads of the same layers takes {bar:.2f} or more. "
            "Rank all heads by what they add to the right verb's logit above the wrong one's, over sentences of both numbers."
        )
    if len(heads) < MOST:
        return Complaint("", mistake="too_few")
    return Complaint("", mistake="too_weak")


def _cases(draw: RandomInputs, size: str) -> list[Case]:
    task = SmolLM2() if size == "full" else Planted(draw)
    about = "sentences that you have not seen"
    return [Case(calls=(Call(driver="value"),), judge=_judge, judge_data=task, about=about)]


def _every(case: Case) -> list[_Head]:
    return all_heads(case.judge_data.n_layers, case.judge_data.n_heads)


def _weak(case: Case) -> list[_Head]:
    """Best of their layers, and yet hardly anything."""
    task = case.judge_data
    strong = {layer for layer, _ in [*task.carrying, *task.against]}
    quiet = [layer for layer in range(task.n_layers) if layer not in strong][:MOST]
    return [(layer, int(torch.tensor(task.drops[layer]).argmax())) for layer in quiet]


_Heads = Callable[[Case], list[_Head]]


MY_AGREEMENT_HEADS = Exercise(
    id="residual_stream.my_agreement_heads",
    task=f"A list of 1 to {MOST} (layer, head) pairs of SmolLM2 that carry subject–verb agreement: with them at their mean, the logit difference on sentences that you have not seen falls by at least {LEAST:.0%} of itself, "
    f"and by more than {LEVEL:.0%} of {SETS} random sets of other heads of the same layers take.",
    minutes=12,
    difficulty=2,
    kind="value",
    fallback="mi_course.interp.agreement:smollm2_agreement_heads",
    parts=(Part("unseen sentences, against random sets of the same layers", 4, _cases),),
    mistakes=(
        Mistake(
            "too_many",
            f"That is more than {MOST} heads. Rank them, and take the first few.",
            _every,
        ),
        Mistake(
            "head_first",
            "Your pairs are (head, layer). Layer comes first: head 4 of layer 12 is (12, 4).",
            lambda case: [(head, layer) for layer, head in case.judge_data.carrying],
        ),
        Mistake(
            "against_it",
            "Without these heads the right verb does *better*: they work against it. If you ranked by absolute attribution, or by wrong minus right, look at the sign.",
            lambda case: case.judge_data.against,
        ),
        Mistake(
            "too_few",
            f"They are more than chance, but take less than {LEAST:.0%} of the logit difference. Up to {MOST} heads are allowed: add the next of your ranking.",
            lambda case: _weak(case)[:2],
        ),
        Mistake(
            "too_weak",
            f"They are more than chance in their layers, but take less than {LEAST:.0%} of the logit difference. Other layers matter more: rank the heads of all layers together, by what they add to the right verb's logit above the wrong one's.",
            _weak,
        ),
    ),
    hints=(
        "A head writes z @ W_O at the last position; `logit_attribution` says what that adds to the right verb's logit above the wrong one's. Do it for all heads, and average over sentences of both numbers.",
        "The direction is W_U[:, right] − W_U[:, wrong]: it turns around with the number of the subject. Average *after* projecting.",
        f"Sort by the mean attribution, largest first, and take the first {MOST}. You can test them with your `ablated_difference`.",
    ),
    reveal="Attribution proposes, ablation decides, and new sentences decide whether it was luck. Random sets of the same layers are the fair control: ablating any head of a late layer does something. "
    "That these heads *carry* the number does not say where it comes from: whoever told them is earlier, and writes nothing about verbs.",
)
