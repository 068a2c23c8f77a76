"""Pictures, tables and controls of lesson 02 that need no code of the learner's, or take what it gave."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from mi_course.interp.heads import named
from mi_course.interp.induction import random_heads

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

    from mi_course.interp.induction_training import RecordedRun

    Head = tuple[int, int]


def by_copy(loss: Float[Tensor, "batch pos-1"], period: int) -> tuple[float, float]:
    """The mean loss of `loss_per_token` in the first and in the second copy.

    The first token of the second copy comes as a surprise too, so it counts with the first.
    """
    return float(loss[:, : period + 1].mean()), float(loss[:, period + 1 :].mean())


def rank(head: Head, table: Mapping[Head, float]) -> int:
    """The place of this head among all in the table, 1 for the largest value."""
    return sorted(table.values(), reverse=True).index(table[head]) + 1


def one_for_each_key_matrix(heads: Sequence[Head], group: int = 3) -> list[Head]:
    """The first of these heads for each key matrix, by layer; `group` query heads share one."""
    first = {(layer, head // group): (layer, head) for layer, head in reversed(heads)}
    return sorted(first.values())


def random_sets(
    exclude: Iterable[Head], counts: Sequence[int], seeds: Iterable[int], n_layers: int = 30, n_heads: int = 9
) -> dict[int, list[list[Head]]]:
    """For each count one random set of as many heads per seed, of all heads but the excluded."""
    left_out, seeds = list(exclude), list(seeds)
    return {count: [random_heads(n_layers, n_heads, count, seed, left_out) for seed in seeds] for count in counts}


def composition_table(into: Mapping[tuple[Head, str], Mapping[Head, float]], source: Head, bystander: Head) -> Any:
    """How two heads are read by each part of each reader. into: (reader, part) to the scores of all earlier heads."""
    from mi_course.show import table

    rows = {
        f"{part} of {named(reader)}": [scores[source], rank(source, scores), scores[bystander]]
        for (reader, part), scores in into.items()
    }
    return table(rows, ["source", "its rank", "bystander"], digits=(3, 0, 3))


def draw_composition(
    into: Mapping[tuple[Head, str], Mapping[Head, float]], reader: Head, source: Head, chance: float
) -> Any:
    """How all earlier heads are read by each part of one reader; marked: the source by its keys, and chance."""
    from mi_course.show import histogram

    return histogram(
        {part: list(into[reader, part].values()) for part in "kqv"},
        xlabel="composition score",
        title=f"How all earlier heads compose with keys, queries and values of {named(reader)}",
        marks=[(into[reader, "k"][source], "source, keys"), (chance, "random")],
    )


def draw_losses(losses: Mapping[str, Float[Tensor, "batch pos-1"]], period: int) -> Any:
    """The loss at each position of two copies: median and range of the rows."""
    from mi_course.show import lines

    return lines(
        range(1, 2 * period + 1),
        losses,
        xlabel="position of the predicted token",
        ylabel="loss (nats)",
        title="The loss, token by token",
        marks=[(period + 1, "second copy")],
        caption="Median and range of the rows.",
    )


def draw_ideal(tokens: Sequence[str], period: int) -> Any:
    """The pattern of an induction head that knows nothing else, on BOS and a sequence written twice."""
    from mi_course.show import heatmap

    keys = [query - period + 1 if query > period else 0 for query in range(len(tokens))]
    return heatmap(
        torch.nn.functional.one_hot(torch.tensor(keys), len(tokens)),
        x=tokens,
        y=tokens,
        xlabel="key (token attended to)",
        ylabel="query (token that attends)",
        title="An ideal induction head: a stripe below the diagonal, in the second copy only",
        unit="attention",
        center=None,
        down=True,
    )


def draw_attention(
    model: TransformerBridge, tokens: Int[Tensor, "1 pos"], heads: Sequence[Head], title: str, caption: str = ""
) -> Any:
    """The attention of these heads on one row of tokens."""
    from mi_course.show import attention

    with torch.no_grad():
        names = {f"blocks.{layer}.attn.hook_pattern" for layer, _ in heads}
        _, cache = model.run_with_cache(tokens, names_filter=lambda name: name in names, return_type=None)
    patterns = torch.stack([cache["pattern", layer][0, head] for layer, head in heads])
    words = [model.tokenizer.decode(token) for token in tokens[0]]
    return attention(patterns, words, heads=[named(head) for head in heads], title=title, caption=caption)


def draw_second_copy(losses: Mapping[str, float], what: str, control: float, control_name: str) -> Any:
    """The loss in the second copy, one bar for each experiment, and a line for the control."""
    from mi_course.show import bars

    return bars(
        list(losses),
        list(losses.values()),
        xlabel=what,
        ylabel="loss in the second copy (nats)",
        title=f"The second copy: {what}",
        control=control,
        control_name=control_name,
    )


def emergence(growth: Mapping[str, RecordedRun]) -> Any:
    """At which step the heads of each recorded run emerged, and its last loss."""
    from mi_course.show import table

    rows = {
        name: [str(run.induction_at), str(run.previous_token_at), run.loss_second[-1]] for name, run in growth.items()
    }
    return table(rows, ["induction at step", "previous-token at step", "final loss (nats)"])


def draw_growth(growth: Mapping[str, RecordedRun]) -> Any:
    """The loss of the recorded runs that were measured at the same steps as the first."""
    from mi_course.show import lines

    steps = next(iter(growth.values())).steps
    return lines(
        steps,
        {name: run.loss_second for name, run in growth.items() if run.steps == steps},
        xlabel="training step",
        ylabel="loss in the second copy (nats)",
        title="Loss at period 20, never trained on",
        caption="An even guess costs log 63 = 4.1 nats.",
    )
