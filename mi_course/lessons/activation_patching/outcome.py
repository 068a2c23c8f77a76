"""What the learner finds in SmolLM2: a circuit, judged by what it keeps of the task on prompts that they never saw."""

from __future__ import annotations

from collections.abc import Callable

import torch

from mi_course.exercises import Call, Case, Complaint, Exercise, Mistake, Part, RandomInputs, heads_in, turned_around
from mi_course.interp.heads import all_heads
from mi_course.interp.ioi import chance, smollm2_held_out
from mi_course.wire import Observation

LOW, HIGH, MOST = 0.8, 1.2, 30
"""The faithfulness asked for, and how many heads may be used."""

LEVEL = 0.95
"""The share of random sets of the same size that the circuit has to exceed."""


class Planted:
    """The small size: a task that is a sum over heads. Some help in the clean run only, some in both runs, a few work against it."""

    n_layers, n_heads = 12, 7

    def __init__(self, draw: RandomInputs) -> None:
        effects = draw.normal(self.n_layers * self.n_heads, std=0.002)
        places = draw.permutation(self.n_layers * self.n_heads)
        # The same in clean and corrupted runs: patching cannot see these, ablation can.
        self.alike = [divmod(p, self.n_heads) for p in places[:10]]
        self.different = [divmod(p, self.n_heads) for p in places[10:18]]
        self.negative = [divmod(p, self.n_heads) for p in places[18:22]]
        effects[places[:10]] = draw.uniform(10, low=0.075, high=0.085)
        effects[places[10:18]] = draw.uniform(8, low=0.075, high=0.085)
        effects[places[18:22]] = draw.uniform(4, low=-0.12, high=-0.1)
        self.effects = effects.view(self.n_layers, self.n_heads)
        self._seed = draw.seed()

    def score(self, heads: list[tuple[int, int]]) -> float:
        return sum(float(self.effects[layer, head]) for layer, head in heads) / float(self.effects.sum())

    def chance(self, size: int) -> float:
        """What 95 % of random sets of this size do not exceed."""
        generator = torch.Generator().manual_seed(self._seed)
        total = self.n_layers * self.n_heads
        sets = [torch.randperm(total, generator=generator)[:size].tolist() for _ in range(50)]
        return sorted(self.score([divmod(i, self.n_heads) for i in heads]) for heads in sets)[round(LEVEL * 50) - 1]

    def strongest(self, n: int) -> list[tuple[int, int]]:
        """The heads with the largest effects of either sign."""
        order = self.effects.abs().flatten().argsort(descending=True)[:n].tolist()
        return [divmod(place, self.n_heads) for place in order]

    def helping(self) -> list[tuple[int, int]]:
        return [head for head in self.strongest(22) if head not in self.negative]


class SmolLM2:
    """The full size: heads of SmolLM2, on held-out names and templates. The model is loaded on first use."""

    n_layers, n_heads = 30, 9

    def score(self, heads: list[tuple[int, int]]) -> float:
        return smollm2_held_out().score(heads)

    def chance(self, size: int) -> float:
        return chance(size, LEVEL)


def _judge(case: Case, observation: Observation) -> Complaint | None:
    task: Planted | SmolLM2 = case.judge_data
    heads = heads_in(
        observation.replies[0].value,
        task.n_layers,
        task.n_heads,
        empty="The list is empty: with every head at its mean, nothing of the task remains.",
        example="[(12, 4), (5, 0)]",
    )
    if isinstance(heads, Complaint):
        return heads
    if len(heads) > MOST:
        return Complaint("", mistake="too_many")
    share = task.score(heads)
    if share > HIGH:
        return Complaint("", mistake="negative_heads_left_out")
    if share < LOW:
        if len(heads) <= 3:
            return Complaint("", mistake="too_few")
        turned = turned_around(heads, task.n_layers, task.n_heads)
        if turned and task.score(turned) > LOW:
            return Complaint("", mistake="head_first")
        # Much of the task, and not by chance: what a ranking by denoising gives.
        if share > 0.2 and share > task.chance(len(heads)):
            return Complaint("", mistake="part_of_it")
        return Complaint("", mistake="too_weak")
    bar = task.chance(len(heads))
    if share <= bar:
        return Complaint(
            f"Your {len(heads)} heads keep {share:.2f} of the task, but one random set of that size in twenty keeps {bar:.2f} or more. Fewer heads, better chosen."
        )
    return None


def _cases(draw: RandomInputs, size: str) -> list[Case]:
    task = SmolLM2() if size == "full" else Planted(draw)
    return [Case(calls=(Call(driver="value"),), judge=_judge, judge_data=task, about="prompts that you have not seen")]


def _every(case: Case) -> list[tuple[int, int]]:
    return all_heads(case.judge_data.n_layers, case.judge_data.n_heads)


def _weakest(case: Case) -> list[tuple[int, int]]:
    strong = set(case.judge_data.strongest(22))
    return [head for head in _every(case) if head not in strong][:20]


_Heads = Callable[[Case], list[tuple[int, int]]]


MY_CIRCUIT = Exercise(
    id="activation_patching.my_circuit",
    task=f"A list of 1 to {MOST} (layer, head) pairs of SmolLM2 that keep {LOW} to {HIGH} of the logit difference, counted from no head at all, when every other head is set to its ABC mean: on names and templates that you have not seen, "
    f"and more than {LEVEL:.0%} of random sets of as many heads.",
    minutes=12,
    revision=2,
    difficulty=3,
    kind="value",
    fallback="mi_course.interp.ioi:smollm2_circuit",
    parts=(Part("unseen names and templates, against random sets", 4, _cases),),
    mistakes=(
        Mistake(
            "too_many",
            f"That is more than {MOST} heads. All 270 together are faithful, and explain nothing: rank the heads, and take the first few.",
            _every,
        ),
        Mistake(
            "head_first",
            "Your pairs are (head, layer). Layer comes first: head 4 of layer 12 is (12, 4).",
            lambda case: [(head, layer) for layer, head in case.judge_data.strongest(22)],
        ),
        Mistake(
            "negative_heads_left_out",
            f"Your circuit does the task more strongly than the model does: more than {HIGH}. It contains many heads that help and few of those that work against them; these too are part of how the model does it. Take fewer, or rank by the *absolute* effect.",
            lambda case: case.judge_data.helping(),
        ),
        Mistake(
            "part_of_it",
            f"Your heads belong to it, more than chance would give, but they keep less than {LOW} of the task. If some of them work against the answer, others that balance them are missing; heads that do the same in clean and corrupted runs are invisible to denoising. "
            "Rank by what happens when a head of the *clean* run is set to its ABC mean.",
            lambda case: case.judge_data.different,
        ),
        Mistake(
            "too_few",
            f"These few heads keep less than {LOW} of the task. Add heads one at a time, and watch the faithfulness on your own prompts.",
            lambda case: case.judge_data.strongest(22)[:2],
        ),
        Mistake(
            "too_weak",
            "With only these heads left, no more of the task remains than with random heads, or next to nothing. Rank heads by what happens when they are set to their ABC mean in the clean run, and take the first of the list.",
            _weakest,
        ),
    ),
    hints=(
        "You need a number for each head that says what is lost when *it* is set to its ABC mean. One backward pass gives all 270: change times gradient, at the clean run, where the change is mean − z.",
        "Your `attribution_patching(mean_z, clean_z, gradient)` computes that, with the gradient taken at the clean run. What is lost is negative: `ranking(-first_order)` puts the heads that help most first.",
        f"Take the first n of a ranking and measure the faithfulness on the prompts you have, for n from 1 to {MOST}.",
    ),
    reveal="A few heads suffice: one that suppresses the latest name, one that raises what is left, and whoever informs them. Heads that work against the answer are left out, and so are those they cancel; that is why a score near 1 is necessary and not "
    "enough. A set of heads that passes is *a* circuit; that it is *the* one, nobody has shown.",
)
