"""Indirect object identification (IOI): prompts, and how much of the task a set of heads keeps.

The task and the three-name prompts (ABC) are Wang et al.'s (2022), section 2; names and templates are our own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mi_course.interp.heads import all_heads
from mi_course.interp.models import load_model
from mi_course.interp.models.where import data_dir
from mi_course.interp.patching import faithfulness, head_means, logit_difference, mean_ablations

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from transformer_lens.model_bridge import TransformerBridge

    from mi_course.interp.patching.metrics import Metric

    Head = tuple[int, int]

# None of these names and templates occurs in lesson 03. Each name is one token of SmolLM2, with a leading space.
HELD_OUT = (
    (
        "Then {A} and {B} sat in the garden, and {S} gave a book to",
        (("Amy", "Jack"), ("Michael", "Emily"), ("Jennifer", "Andrew"), ("Richard", "Linda")),
    ),
    (
        "While {A} and {B} were at the office, {S} sent a letter to",
        (("Karen", "Steven"), ("Edward", "Nancy"), ("Diana", "Arthur"), ("Frank", "Martha")),
    ),
)
# No lesson judges by these: they show how much a score depends on its prompts.
FURTHER = {
    "held-out templates, names exchanged": ((HELD_OUT[0][0], HELD_OUT[1][1]), (HELD_OUT[1][0], HELD_OUT[0][1])),
    "two more templates, other names": (
        (
            "After {A} and {B} left the station, {S} passed a ticket to",
            (("Ruth", "Carl"), ("Oscar", "Grace"), ("Rose", "Philip"), ("Albert", "Jessica")),
        ),
        (
            "Because {A} and {B} were late, {S} offered a chair to",
            (("Alan", "Ellen"), ("Clara", "Jason"), ("Roger", "Sara"), ("Maria", "Eric")),
        ),
    ),
}
NAME_PAIRS = (
    *(("Mary", "John"), ("James", "Sarah"), ("Anna", "Paul"), ("Tom", "Alice"), ("Emma", "David"), ("Peter", "Laura")),
    *(("Kate", "Mark"), ("Simon", "Lucy"), ("Jane", "Robert"), ("George", "Julia"), ("Helen", "Henry")),
    *(("Daniel", "Rachel"), ("Lisa", "Kevin"), ("Brian", "Susan"), ("Elizabeth", "William"), ("Victor", "Margaret")),
)
"""The sixteen pairs that lesson 03 works with. In every other pair the man comes first. Each name is one token."""
STRONGEST, N_HEADS = (23, 3), 270
"""The head with the largest effect on this task in SmolLM2, and how many heads there are."""


def ioi_prompts(pairs: Sequence[tuple[str, str]], template: str) -> tuple[list[str], list[str], list[tuple[str, str]]]:
    """Clean prompts, corrupted prompts, and (indirect object, subject) of each clean prompt.

    template: text with {A} and {B}, the two names in the order in which they are read, and {S}, the subject. Each pair
    (a, b) is used twice, with a named first: with S=b, so that the indirect object is named first (ABB), and with S=a,
    so that it is named second (ABA). In the corrupted prompt S is the indirect object: each of the two is the other's.

    >>> clean, corrupted, names = ioi_prompts([("Mary", "John")], "{A} and {B}: {S} gave it to")
    >>> clean, names
    (['Mary and John: John gave it to', 'Mary and John: Mary gave it to'], [('Mary', 'John'), ('John', 'Mary')])
    """
    rows = [(a, b, subject, other) for a, b in pairs for other, subject in ((a, b), (b, a))]
    clean = [template.format(A=a, B=b, S=subject) for a, b, subject, _ in rows]
    corrupted = [template.format(A=a, B=b, S=other) for a, b, _, other in rows]
    return clean, corrupted, [(other, subject) for *_, subject, other in rows]


def abc_prompts(names: Sequence[str], template: str) -> list[str]:
    """Prompts with three different names each: no name is repeated, so there is no indirect object.

    Activations averaged over them carry the template, and nothing about who should be named next. Every name takes each
    of the three roles equally often. Raises ValueError for fewer than three different names.

    >>> abc_prompts(["Mary", "John", "Tom"], "{A} and {B}: {S} gave it to")[0]
    'Mary and John: Tom gave it to'
    """
    n = len(set(names))
    if n < 3 or n != len(names):
        raise ValueError(f"{len(names)} names, {n} of them different; at least three different names are needed.")
    steps = [(1, 2)] if n == 3 else [(1, 2), (2, 1), (1, 3)] if n == 4 else [(1, 3), (2, 1), (3, 4)]
    return [
        template.format(A=names[i], B=names[(i + to_b) % n], S=names[(i + to_s) % n])
        for to_b, to_s in steps
        for i in range(n)
    ]


def record(
    model: TransformerBridge, tokens: Int[Tensor, "batch pos"], hooks: Sequence[tuple[str, Callable[..., Any]]] = ()
) -> tuple[Float[Tensor, "batch pos vocab"], Mapping[Any, Tensor]]:
    """Logits of a run with these hooks, and a cache of what the lesson reads.

    In the cache: every layer's z, pattern and MLP output, the first and last stream, and the final norm's scale.
    """
    last = f"blocks.{int(model.cfg.n_layers) - 1}.hook_resid_post"
    wanted = ("hook_z", "hook_pattern", "hook_mlp_out", "hook_scale", "blocks.0.hook_resid_pre", last)
    with torch.no_grad(), model.hooks(fwd_hooks=list(hooks)):
        return model.run_with_cache(tokens, names_filter=lambda name: name.endswith(wanted))


def after_first_layer(model: TransformerBridge, names: Int[Tensor, " name"]) -> Float[Tensor, "name d_model"]:
    """What a head would read at each name behind BOS: the normed stream after layer 0 (Wang et al. 2022, 3.1)."""
    bos = torch.full_like(names, model.tokenizer.bos_token_id)
    name = "blocks.1.hook_resid_pre"
    with torch.no_grad():
        _, cache = model.run_with_cache(torch.stack([bos, names], dim=1), names_filter=name)
    x = cache[name][:, -1]
    return x / x.pow(2).mean(-1, keepdim=True).sqrt()


def parts_at_end(model: TransformerBridge, cache: Mapping[Any, Tensor]) -> Float[Tensor, "part batch d_model"]:
    """What every head, then every MLP, then the embedding write at the last position; together the whole stream."""
    mlps = [cache["mlp_out", layer][:, -1] for layer in range(int(model.cfg.n_layers))]
    with torch.no_grad():
        heads = head_outputs(model, cache).flatten(0, 1)
        return torch.cat([heads, torch.stack(mlps), cache["resid_pre", 0][None, :, -1]])


def head_outputs(
    model: TransformerBridge, cache: Mapping[Any, Tensor], position: int = -1
) -> Float[Tensor, "layer head batch d_model"]:
    """What every head writes into the residual stream at one position: z @ W_O."""
    return torch.stack(
        [
            torch.einsum("bhd,hdm->hbm", cache["z", layer][:, position], model.blocks[layer].attn.W_O)
            for layer in range(int(model.cfg.n_layers))
        ]
    )


def z_and_gradient(
    model: TransformerBridge, tokens: Int[Tensor, "batch pos"], metric: Metric
) -> tuple[Float[Tensor, "layer batch pos head d_head"], Float[Tensor, "layer batch pos head d_head"]]:
    """z of every head, and the gradient of the metric's mean with respect to it; prompts of one length."""
    kept: list[Tensor] = []

    def keep(z: Tensor, hook: Any) -> Tensor:
        z = z.clone() if z.requires_grad else z.detach().requires_grad_()
        kept.append(z)
        return z

    names = [f"blocks.{layer}.attn.hook_z" for layer in range(int(model.cfg.n_layers))]
    with torch.enable_grad():
        logits = model.run_with_hooks(tokens, fwd_hooks=[(name, keep) for name in names])
        gradients = torch.autograd.grad(metric(logits[:, -1]).mean(), kept)
    return torch.stack([z.detach() for z in kept]), torch.stack(gradients)


@dataclass(frozen=True)
class HeadProfile:
    """What one head looks at from the last position, and what it writes there; means over prompts."""

    looks: dict[str, float]
    """Attention to each role's mentions, to BOS and to the last position itself."""
    writes: dict[str, float]
    """Logits on each role's name, above names that do not occur in the prompt."""

    def __str__(self) -> str:
        looks = "  ".join(f"{name} {value:4.2f}" for name, value in self.looks.items())
        return f"looks at {looks}   writes {'  '.join(f'{n} {v:+5.2f}' for n, v in self.writes.items())}"


@torch.no_grad()
def head_profile(
    model: TransformerBridge,
    cache: Mapping[Any, Tensor],
    tokens: Int[Tensor, "batch pos"],
    roles: Mapping[str, Int[Tensor, " batch"]],
    head: Head,
) -> HeadProfile:
    """Where a head looks from the last position, and what it adds to the names' logits (direct, norm frozen).

    cache: `z` and `pattern` of the head's layer, and `ln_final.hook_scale`. roles: the token of each role, such as
    {"IO": ..., "S": ...}. Of a name that is mentioned twice, both mentions are listed (S1, S2). Names are compared with
    those of the other prompts: a head that raises all names alike writes 0.
    """
    layer, number = head
    pattern, rows = cache["pattern", layer][:, number, -1], torch.arange(len(tokens))
    looks = {}
    for role, ids in roles.items():
        places = [(row == name).nonzero().flatten() for row, name in zip(tokens, ids, strict=True)]
        counts = {len(place) for place in places}
        if len(counts) > 1:
            raise ValueError(f"{role} occurs {min(counts)} to {max(counts)} times in a prompt; expected equally often.")
        for i, at in enumerate(torch.stack(places, dim=1)):
            looks[f"{role}{i + 1}" if len(places[0]) > 1 else role] = float(pattern[rows, at].mean())
    looks |= {"BOS": float(pattern[:, 0].mean()), "end": float(pattern[:, -1].mean())}
    written = cache["z", layer][:, -1, number] @ model.blocks[layer].attn.W_O[number]
    everyone = torch.cat([ids for ids in roles.values()]).unique()
    logits = written / cache["ln_final.hook_scale"][:, -1] @ model.W_U[:, everyone]
    own = torch.stack([ids[:, None] == everyone for ids in roles.values()])
    absent = ~own.any(0)
    others = (logits * absent).sum(-1) / absent.sum(-1)
    writes = {role: float(((logits * mine).sum(-1) - others).mean()) for role, mine in zip(roles, own, strict=True)}
    return HeadProfile(looks, writes)


@dataclass
class Task:
    """IOI prompts of several templates, and the share of the logit difference that heads keep on them."""

    model: TransformerBridge
    sets: list[tuple[Tensor, Any, Tensor]]
    """Tokens, metric, and the heads' means over ABC prompts, of each template."""
    _ends: tuple[float, float] | None = None
    _scores: dict[frozenset[Head], float] = field(default_factory=dict)

    def score(self, heads: Sequence[Head]) -> float:
        """Faithfulness of these heads, over all templates together."""
        return self.scores([heads])[0]

    def scores(self, circuits: Sequence[Sequence[Head]]) -> list[float]:
        """Faithfulness of each circuit: measured together, which takes less time."""
        keys = [frozenset((layer, head) for layer, head in heads) for heads in circuits]
        new = sorted({key for key in keys if key not in self._scores}, key=sorted)
        ends = [] if self._ends else [frozenset(self._all_heads()), frozenset()]
        if new or ends:
            *values, full, empty = [*self._mean_metrics([*new, *ends]), *list(self._ends or ())]
            self._ends = full, empty
            self._scores |= {key: faithfulness(value, full, empty) for key, value in zip(new, values, strict=True)}
        return [self._scores[key] for key in keys]

    def completeness(self, heads: Sequence[Head]) -> float:
        """Faithfulness of all the other heads (Marks et al. 2024): near 0 if nothing of the circuit is missing."""
        return self.score([head for head in self._all_heads() if head not in set(heads)])

    def drops(self, heads: Sequence[Head]) -> dict[Head, float]:
        """By how much the faithfulness of these heads falls if one of them is left out."""
        whole, *left = self.scores([heads, *([other for other in heads if other != head] for head in heads)])
        return {head: whole - score for head, score in zip(heads, left, strict=True)}

    def _all_heads(self) -> list[Head]:
        return all_heads(int(self.model.cfg.n_layers), int(self.model.cfg.n_heads))

    def _mean_metrics(self, circuits: Sequence[frozenset[Head]]) -> list[float]:
        """For each circuit the metric's mean over all templates, with every other head at its mean."""
        kept = [sorted(heads) for heads in circuits]
        values = [
            mean_ablations(self.model, tokens, metric, kept, means=means).mean(1) for tokens, metric, means in self.sets
        ]
        return torch.stack(values).mean(0).tolist()


def ioi_task(model: TransformerBridge, templates: Sequence[str], pairs: Sequence[tuple[str, str]]) -> Task:
    """IOI prompts of these templates and names, with the heads' means over ABC prompts of each template."""
    names = [name for pair in pairs for name in pair]
    sets = []
    for template in templates:
        clean, _, answers = ioi_prompts(pairs, template)
        means = head_means(model, abc_prompts(names, template))
        sets.append((model.to_tokens(clean), logit_difference(answers, model), means))
    return Task(model, sets)


@cache
def smollm2_held_out() -> Task:
    """The task on SmolLM2 and the held-out prompts: 16, of two templates. Cached."""
    return _task_of(HELD_OUT)


def further_tasks() -> dict[str, Task]:
    """The task on SmolLM2 and two further sets of 16 prompts, by what they consist of."""
    return {name: _task_of(sets) for name, sets in FURTHER.items()}


def _task_of(sets: Sequence[tuple[str, Sequence[tuple[str, str]]]]) -> Task:
    model = load_model()
    return Task(model, [prompts for template, pairs in sets for prompts in ioi_task(model, [template], pairs).sets])


@cache
def random_scores() -> dict[int, tuple[list[float], list[float]]]:
    """Held-out faithfulness of random sets of SmolLM2's heads: size to (without, with) the strongest head, ascending.

    Measured by `data/measure_ioi_chance.py`: each set without the strongest head, and with it in the place of one head.
    """
    rows = json.loads((data_dir() / "smollm2-ioi-chance.json").read_text())["rows"]
    return {row["size"]: (sorted(row["without"]), sorted(row["with"])) for row in rows}


def chance_bands() -> dict[str, tuple[list[float], list[float], list[float]]]:
    """Median, lowest and highest random set of each size, without and with the strongest head, for `show.lines`."""
    name = f"{STRONGEST[0]}.{STRONGEST[1]}"
    bands = {}
    for i, word in enumerate(("without", "with")):
        columns = [scores[i] for scores in random_scores().values()]
        medians = [column[len(column) // 2] for column in columns]
        bands[f"control: random {word} {name}"] = (medians, [c[0] for c in columns], [c[-1] for c in columns])
    return bands


def chance(size: int, level: float = 0.95) -> float:
    """What this share of random sets of `size` heads does not exceed on the held-out prompts.

    Sets with and without the strongest head count as often as they would be drawn; between the measured sizes it is
    interpolated.
    """
    table = random_scores()
    below = max((n for n in table if n <= size), default=min(table))
    above = min((n for n in table if n >= size), default=max(table))
    ends = [_quantile(*table[n], share=n / N_HEADS, level=level) for n in (below, above)]
    return ends[0] if above == below else ends[0] + (ends[1] - ends[0]) * (size - below) / (above - below)


def _quantile(without: list[float], including: list[float], share: float, level: float) -> float:
    """A quantile of two samples together, the second of which has this share of the weight."""
    weighted = [(value, (1 - share) / len(without)) for value in without]
    weighted += [(value, share / len(including)) for value in including]
    total = 0.0
    for value, weight in sorted(weighted):
        total += weight
        if total >= level:
            return value
    return max(value for value, _ in weighted)


# Lesson 03's own circuit: the first five heads that help by the first-order effect of ABC ablation, as in its cells
# use-ablation and answer-my_circuit.
_CIRCUIT = ((23, 3), (29, 1), (20, 0), (17, 4), (19, 2))


def smollm2_circuit() -> list[Head]:
    """The course's own circuit for indirect objects in SmolLM2, as lesson 03 finds it."""
    return list(_CIRCUIT)
