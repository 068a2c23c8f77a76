"""Text in which something comes again: stories with invented names, and lists whose words return in another form.

The stories are ours. Each names somebody three times; the name is invented, so a model can know it from the story only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from mi_course.interp.induction import head_scores, score_heads

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

    Heads = list[tuple[int, int]]
    LossWithout = Callable[[Any, Tensor, Heads], Tensor]


COLORS = "red blue green yellow black white brown pink gold silver gray purple orange"


@dataclass(frozen=True)
class Story:
    text: str
    name: str


STORIES = (
    Story(
        "The lighthouse keeper was called Torvald Brenkmeier, and nobody in the village had ever seen him "
        "smile. Every morning he climbed the stairs, cleaned the lamp and wrote the weather into a small "
        "book. One winter a ship ran onto the rocks, and eleven people came ashore in the dark. They knocked "
        "at the first door they found. It was opened by Torvald Brenkmeier. He gave them soup and dry coats, "
        "and asked no questions. Years later one of them came back to thank him, but the house was empty. On "
        "the table lay the small book, and on its cover stood the name Torvald Brenkmeier.",
        "Torvald Brenkmeier",
    ),
    Story(
        "My aunt Ysolde Quarrington kept bees behind the old mill. In spring she moved the hives to the "
        "orchard, and in autumn she sold honey at the market. Children were afraid of the bees, but not of "
        "her. When the mill burned down, the whole street came to help, and the first to carry water was "
        "Ysolde Quarrington. The bees survived. The next summer the council put up a sign at the orchard. It "
        "said that the trees had been planted by Ysolde Quarrington.",
        "Ysolde Quarrington",
    ),
    Story(
        "In the third week the expedition lost its guide, Pemba Dorjitsang, in a storm. They waited two days "
        "in the tents. On the third morning the wind dropped, and a figure came up the glacier, slowly, with "
        "a rope over one shoulder. It was Pemba Dorjitsang. He had slept in a crack in the ice and eaten "
        "snow. Later, in the newspapers, there was much about the leader of the expedition and little about "
        "Pemba Dorjitsang.",
        "Pemba Dorjitsang",
    ),
)

PASSAGE = (
    "Water expands when it freezes, which is why ice floats and why pipes burst in winter. Most liquids do the "
    "opposite. The reason is the way the molecules arrange themselves in the crystal: each is held by four neighbors, "
    "and that leaves more room between them than there is in the liquid."
)
"""An ordinary passage, in which little is said twice."""

NOUNS = (
    "cat dog tree house book river car door window table chair stone bird horse street garden letter picture flower "
    "mountain ship road wall teacher student doctor king bridge forest village machine engine song story question "
    "answer number word game lake island farm field cloud star planet"
)


def occurrences(model: TransformerBridge, story: Story) -> tuple[Int[Tensor, "1 pos"], list[range]]:
    """The story's tokens, with BOS, and the positions of the tokens of its name at each occurrence."""
    tokens = model.to_tokens(story.text)
    name = model.tokenizer.encode(f" {story.name}", add_special_tokens=False)
    ids = tokens[0].tolist()
    starts = [i for i in range(len(ids)) if ids[i : i + len(name)] == name]
    return tokens, [range(start, start + len(name)) for start in starts]


def related_lists(
    model: TransformerBridge, change: Callable[[str], str], *, count: int = 20, batch: int = 4, seed: int = 0
) -> tuple[Int[Tensor, "batch pos"], Int[Tensor, "batch pos"]]:
    """BOS, `count` nouns, and the same nouns after `change`, in the same order; and the control, in another order."""
    generator = torch.Generator().manual_seed(seed)
    rows, controls = [], []
    for chosen in _chosen_pairs(model, change, count, batch, generator):
        start = [model.tokenizer.bos_token_id, *(first for first, _ in chosen)]
        order = torch.randperm(count, generator=generator).tolist()
        rows.append(start + [second for _, second in chosen])
        controls.append(start + [chosen[i][1] for i in order])
    return torch.tensor(rows), torch.tensor(controls)


def examples(
    model: TransformerBridge, change: Callable[[str], str], *, count: int = 10, batch: int = 2, seed: int = 0
) -> tuple[Int[Tensor, "batch pos"], list[int]]:
    """A list of examples, a noun and its color in each line, then the nouns after `change` in another order.

    Also returns the entries of `loss_per_token` that belong to the colors of the second half.
    """
    generator = torch.Generator().manual_seed(seed)
    colors, (line,) = [_token(model, f" {color}") for color in COLORS.split()], [_token(model, "\n")]
    rows = []
    for chosen in _chosen_pairs(model, change, count, batch, generator):
        labels = [colors[i] for i in torch.randperm(len(colors), generator=generator)[:count].tolist()]
        order = torch.randperm(count, generator=generator).tolist()
        first = [[noun, label, line] for (noun, _), label in zip(chosen, labels, strict=True)]
        second = [[chosen[i][1], labels[i], line] for i in order]
        rows.append([model.tokenizer.bos_token_id, *(token for entry in first + second for token in entry)])
    return torch.tensor(rows), [3 * i + 1 for i in range(count, 2 * count)]


def matching_scores(
    model: TransformerBridge, change: Callable[[str], str]
) -> tuple[Float[Tensor, "layer head"], Float[Tensor, "layer head"]]:
    """Induction scores on `related_lists`, and on their control in another order."""
    same_order, other_order = related_lists(model, change)
    period = same_order.shape[1] // 2
    return head_scores(model, same_order, period), head_scores(model, other_order, period)


def color_losses(
    model: TransformerBridge, change: Callable[[str], str], loss_without: LossWithout, silent: Mapping[str, Heads]
) -> dict[str, float]:
    """The loss of the colors in the second half of `examples`, in nats, for each list of silent heads."""
    tokens, entries = examples(model, change)
    return {name: float(loss_without(model, tokens, heads)[:, entries].mean()) for name, heads in silent.items()}


def _chosen_pairs(
    model: TransformerBridge, change: Callable[[str], str], count: int, batch: int, generator: torch.Generator
) -> list[list[tuple[int, int]]]:
    """For each row `count` nouns as (token, token after the change): those that are one token before and after.

    Raises ValueError if these are too few.
    """
    pairs = [(_token(model, f" {noun}"), _token(model, change(noun))) for noun in NOUNS.split()]
    known = [(before, after) for before, after in pairs if before is not None and after is not None]
    if len(known) < count:
        raise ValueError(f"{len(known)} nouns are one token before and after the change; {count} are needed.")
    return [[known[i] for i in torch.randperm(len(known), generator=generator)[:count].tolist()] for _ in range(batch)]


def _token(model: TransformerBridge, word: str) -> int | None:
    ids: list[int] = model.tokenizer.encode(word, add_special_tokens=False)
    return ids[0] if len(ids) == 1 else None


def heads_in_text(model: TransformerBridge, measure: Callable[[Tensor, Tensor], Tensor]) -> Float[Tensor, "layer head"]:
    """The mean of measure(pattern [head query key], tokens [pos]) over the stories, for every head."""

    def scores_in(tokens: Int[Tensor, "1 pos"]) -> Float[Tensor, "layer head"]:
        return score_heads(model, tokens, lambda pattern: measure(pattern, tokens[0]))

    return torch.stack([scores_in(occurrences(model, story)[0]) for story in STORIES]).mean(dim=0)


def name_losses(model: TransformerBridge, loss_without: LossWithout, heads: Heads) -> tuple[float, float, float]:
    """Loss without these heads, in nats, of the tokens that complete a name of the stories.

    loss_without(model, tokens, heads): `loss_without_heads`. Returns the means over the name's first time, over its
    later times, and over everything that belongs to no name.
    """
    once, again, rest = [], [], []
    for story in STORIES:
        tokens, places = occurrences(model, story)
        loss = loss_without(model, tokens, heads)[0]  # entry i is the loss of token i + 1
        first, *later = [loss[place.start : place.stop - 1] for place in places]
        once.append(first)
        again += later
        outside = torch.ones(len(loss), dtype=torch.bool)
        for place in places:
            outside[place.start - 1 : place.stop - 1] = False
        rest.append(loss[outside])
    return float(torch.cat(once).mean()), float(torch.cat(again).mean()), float(torch.cat(rest).mean())
