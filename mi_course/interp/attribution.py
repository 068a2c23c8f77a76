"""Direct attribution of a logit difference to every head and MLP, beside what ablating each of them does.

Attribution (Elhage et al. 2021, "direct path") counts only what a component itself writes at the last position, read
through the final norm with its scale frozen. An ablation also counts what later components make of it. Both are
relative to the component's mean over the prompts, so that they can be compared.

Components are in the order of `ioi.parts_at_end`: all heads, layer by layer, then the MLPs (then the embedding).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from mi_course.interp.heads import all_heads, named
from mi_course.interp.ioi import parts_at_end, record
from mi_course.interp.patching.batched_forward import PatchedRuns, run_patched
from mi_course.interp.patching.decoder import open_model
from mi_course.interp.prompts import answer_tokens, read_prompts

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from transformer_lens.model_bridge import TransformerBridge


@dataclass(frozen=True)
class PromptSet:
    """Prompts of one length, and the (right, wrong) next token of each."""

    tokens: Int[Tensor, "prompt pos"]
    answers: Int[Tensor, "prompt 2"]


def prompt_set(model: TransformerBridge, prompts: Sequence[str], answers: Sequence[tuple[str, str]]) -> PromptSet:
    """Texts and pairs of words as tokens. Raises ValueError for prompts of several lengths, words of several tokens."""
    batch = read_prompts(model, prompts)
    if not bool(batch.mask.all()):
        raise ValueError(
            "The prompts have different lengths; expected one length, so that a mean over them is of one place."
        )
    return PromptSet(batch.tokens, answer_tokens(model, answers))


def component_names(model: TransformerBridge) -> list[str]:
    """Heads as "26.0", MLPs as "MLP 26", then "embedding"."""
    n_layers = int(model.cfg.n_layers)
    heads = map(named, all_heads(n_layers, int(model.cfg.n_heads)))
    return [*heads, *(f"MLP {layer}" for layer in range(n_layers)), "embedding"]


def _directions(model: TransformerBridge, prompts: PromptSet) -> Float[Tensor, "prompt d_model"]:
    """W_U of the right answer minus that of the wrong one."""
    return (model.W_U[:, prompts.answers[:, 0]] - model.W_U[:, prompts.answers[:, 1]]).T


@torch.no_grad()
def attributions(
    model: TransformerBridge,
    prompts: PromptSet,
    attribute: Callable[[Tensor, float, Tensor], Tensor],
    *,
    without: Sequence[tuple[int, int]] = (),
) -> Float[Tensor, "component prompt"]:
    """What each component adds to the difference of the answers' logits; its sum over components is the difference.

    attribute: (parts [part, d_model], scale, direction [d_model]) to one number for each part, such as the learner's
    `logit_attribution`. without: (layer, head) pairs whose output at the last position is its mean over the prompts.
    """
    _, clean = record(model, prompts.tokens) if without else (None, {})

    def at_mean(z: Tensor, hook: Any) -> Tensor:
        z = z.clone()
        for layer, head in without:
            if layer == hook.layer():
                z[:, -1, head] = clean["z", layer][:, -1, head].mean(0)
        return z

    hooks = [(f"blocks.{layer}.attn.hook_z", at_mean) for layer in sorted({layer for layer, _ in without})]
    _, cache = record(model, prompts.tokens, hooks)
    parts, scale = parts_at_end(model, cache), cache["ln_final.hook_scale"][:, -1, 0]
    directions = _directions(model, prompts)
    rows = [attribute(parts[:, i], float(scale[i]), directions[i]) for i in range(len(directions))]
    return torch.stack([torch.as_tensor(row) for row in rows], dim=1)


def pull_of_heads(
    model: TransformerBridge,
    prompts: PromptSet,
    attribute: Callable[[Tensor, float, Tensor], Tensor],
    heads: Sequence[tuple[int, int]],
) -> dict[str, tuple[float, float, float]]:
    """How agreement prompts fare: share right, mean difference of logits, and what these heads add of it directly.

    prompts: of `agreement.agreement_prompts`, whose four combinations of number follow each other. "like": subject and
    distractor have the same number; "unlike": they do not.
    """
    table = attributions(model, prompts, attribute)
    rows = [layer * int(model.cfg.n_heads) + head for layer, head in heads]
    combination = torch.arange(table.shape[1]) % 4
    pulls = {}
    for word, kept in (("like", combination % 3 == 0), ("unlike", combination % 3 != 0)):
        whole, ours = table.sum(0)[kept], table[rows].sum(0)[kept]
        pulls[word] = float((whole > 0).float().mean()), float(whole.mean()), float(ours.mean())
    return pulls


@torch.no_grad()
def ablation_drops(
    model: TransformerBridge,
    prompts: PromptSet,
    *,
    where: Literal["every position", "last position"] = "every position",
    rotation: Float[Tensor, "d_model d_model"] | None = None,
) -> tuple[Float[Tensor, "component prompt"], Float[Tensor, "component prompt"]]:
    """How much of the logit difference is lost when one head or MLP outputs its mean over the prompts.

    where: at which positions. rotation: an orthogonal matrix; then not the component's own deviation from its mean is
    taken away but this one turned: a random component with the same norms, which differs between prompts as much.
    Returns the drops, and the direct attribution of what was taken away (norm frozen). Raises ValueError for a model
    whose layers `open_model` cannot run one by one.
    """
    batch = read_prompts(model, prompts.tokens)
    decoder = open_model(model, batch)
    if decoder is None:
        raise ValueError("This model's layers cannot be run one by one, which ablating 300 components asks for.")
    trace, n_heads = decoder.trace(batch), decoder.n_heads
    count, end = prompts.tokens.shape
    start = end - 1 if where == "last position" else 0
    rows, total = torch.arange(count), decoder.n_layers * (n_heads + 1)
    scale = (trace.pre[-1][:, -1].pow(2).mean(-1, keepdim=True) + model.cfg.eps).sqrt()
    toward = _directions(model, prompts) / scale
    finals, direct = torch.zeros(total, count, trace.pre[-1].shape[-1]), torch.zeros(total, count)

    def runs(component: int, stream: Tensor, output: Tensor) -> PatchedRuns:
        """The stream without what this output has above its mean over the prompts."""
        deviation = (output - output.mean(0, keepdim=True))[:, start:]
        deviation = deviation if rotation is None else deviation @ rotation
        direct[component] = (deviation[:, -1] * toward).sum(-1)
        return PatchedRuns(start, end, torch.full((count,), component), rows, stream[:, start:] - deviation)

    def starts(layer: int, stage: str) -> Iterator[PatchedRuns]:
        if stage == "mid":
            written = decoder.head_writes(layer, trace.z[layer])
            for head in range(n_heads):
                yield runs(layer * n_heads + head, trace.mid[layer], written[:, :, head])
        elif layer:
            component = decoder.n_layers * n_heads + layer - 1
            yield runs(component, trace.pre[layer], trace.pre[layer] - trace.mid[layer - 1])

    run_patched(decoder, trace, starts, finals)

    def difference(final: Tensor) -> Tensor:
        logits = decoder.logits_of(final, prompts.answers)
        return logits[..., 0] - logits[..., 1]

    return difference(trace.pre[-1][:, -1]) - difference(finals), direct


def random_rotation(size: int, seed: int) -> Float[Tensor, "d d"]:
    """A random orthogonal matrix."""
    generator = torch.Generator().manual_seed(seed)
    Q, R = torch.linalg.qr(torch.randn(size, size, generator=generator))
    return Q * R.diagonal().sign()
