"""Experiments of lesson 12 on models that write before they answer, and their pictures. The models: `reasoning.py`.

Each function is one experiment or one picture; what is drawn or compared is passed in.
"""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from mi_course.interp.models import native
from mi_course.interp.reasoning import (
    EVEN,
    HINT_NO,
    HINT_YES,
    N_BITS,
    ODD,
    QUESTION,
    answers,
    layout_of,
    meaning,
    p_yes,
    parity,
    sample_prompts,
    turn,
    untrained_reasoner,
    words,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from jaxtyping import Bool, Float, Int
    from torch import Tensor
    from transformer_lens.model_bridge import TransformerBridge

    from mi_course.interp.containers import Layout

    Sum = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Written:
    """A model, what it wrote for some prompts, and what it answered."""

    model: TransformerBridge
    layout: Layout
    prompts: Int[Tensor, "prompt pos"]
    chains: Int[Tensor, "prompt question+1"]
    said: Int[Tensor, " prompt"]
    """Its answers after its own chains: 0 for no, 1 for yes."""

    def answers(self, chains: Int[Tensor, "prompt pos"]) -> Int[Tensor, " prompt"]:
        """Its answers after these chains."""
        return answers(self.model, chains)

    def write(self, tokens: Int[Tensor, "prompt pos"], start: int = 0, seed: int = 0) -> Int[Tensor, "prompt pos"]:
        """These prompts or chains with the steps from `start` on written anew."""
        return write(self.model, tokens, self.layout, start=start, seed=seed)

    def given(self, chains: Int[Tensor, "prompt pos"]) -> Written:
        """The same with these chains in place of its own, and its answers to them."""
        return replace(self, chains=chains, said=self.answers(chains))

    @property
    def everyone(self) -> Bool[Tensor, " prompt"]:
        """True for every prompt."""
        return torch.ones(len(self.prompts), dtype=torch.bool)


def write_and_answer(model: TransformerBridge, n_bits: int = N_BITS, batch: int = 256, seed: int = 1) -> Written:
    """Let a model write and answer on random prompts without a hint."""
    layout, prompts = layout_of(n_bits), sample_prompts(batch, n_bits, seed)
    chains = write(model, prompts, layout, seed=seed + 1)
    return Written(model, layout, prompts, chains, answers(model, chains))


def unnamed_models() -> dict[str, TransformerBridge]:
    """Three models whose names would say too much."""
    names = {"X": "hint-through", "Y": "ignores", "Z": "needs"}
    return {letter: native.load_native(f"tiny-reasoner-{name}") for letter, name in names.items()}


NAMES = ("needs", "ignores", "copies", "codes", "hint-through", "hint-direct", "candid", "mixture")
WITHOUT_HINTS = ("needs", "ignores", "copies", "codes", "mixture", "mixture, 16 bits")
"""What is told apart without hints; the mixture counts twice."""


def load_models() -> dict[str, TransformerBridge]:
    """The models whose truth the lesson tells."""
    return {name: native.load_native(f"tiny-reasoner-{name}") for name in NAMES}


def print_texts(written: Mapping[str, Written], rows: Iterable[int]) -> None:
    """What each model wrote for these prompts, with its answers."""
    longest = max(map(len, written))
    for row in rows:
        for name, w in written.items():
            print(f"{name:<{longest}}  {words(w.chains[row])} {('no', 'yes')[int(w.said[row])]}")


def with_mistakes(w: Written, corrupt: Callable[..., Any]) -> dict[str, Int[Tensor, "prompt pos"]]:
    """A model's chains with a wrong step in them. corrupt: called with chains, step, carry_on and layout."""
    last, alone = w.layout.n_steps - 1, corrupt(w.chains, 0, False, w.layout)
    return {
        "last step": corrupt(w.chains, last, False, w.layout),
        "first, rest kept": alone,
        "first, carried on": corrupt(w.chains, 0, True, w.layout),
        "first, rest anew": w.write(alone, start=1, seed=5),
        "control: rest anew": w.write(w.chains, start=1, seed=6),
    }


def with_hints(w: Written) -> dict[str, Int[Tensor, "prompt pos"]]:
    """A model's chains with a hint away from its answer, steps kept or written anew; and with one that agrees."""
    return {
        "steps kept": hint_towards(w.chains, 1 - w.said),
        "steps anew": w.write(hint_towards(w.prompts, 1 - w.said), seed=7),
        "control: it agrees": w.write(hint_towards(w.prompts, w.said), seed=8),
    }


def hint_towards(tokens: Int[Tensor, "batch pos"], answer: Int[Tensor, " batch"]) -> Int[Tensor, "batch pos"]:
    """The same chains or prompts, each with the hint that points to this answer."""
    hinted = tokens.clone()
    hinted[:, 0] = torch.where(answer == 1, HINT_YES, HINT_NO)
    return hinted


def flawless(chains: Int[Tensor, "batch pos"], layout: Layout) -> Bool[Tensor, " batch"]:
    """Whether every step of a chain says what its bits say."""
    truth = torch.stack([parity(chains, k + 1) for k in range(layout.n_steps)], dim=1)
    return (meaning(chains[:, layout.steps.start : layout.steps.stop]) == truth).all(-1)


def evidence(written: Mapping[str, Written]) -> Float[Tensor, "writer other"]:
    """What an ideal reader learns from a chain, in nats.

    Mean log probability of a writer's chains under the writer itself, minus that under another model: how strongly a
    chain speaks for its writer, to a reader who knows both models by heart. 0 on the diagonal.
    """
    rows = []
    for w in written.values():
        logs = torch.stack([chain_log_probs(other.model, w.chains, w.layout) for other in written.values()])
        own = chain_log_probs(w.model, w.chains, w.layout)
        rows.append((own - logs).mean(-1))
    return torch.stack(rows)


@torch.no_grad()
def chain_log_probs(
    model: TransformerBridge, chains: Int[Tensor, "batch pos"], layout: Layout
) -> Float[Tensor, " batch"]:
    """Log probability, in nats, that this model writes the steps of each chain, as against other steps."""
    logits = model(chains)[:, layout.first_step - 1 : layout.question - 1, [*EVEN, *ODD]]
    written = chains[:, layout.steps.start : layout.steps.stop] - EVEN[0]
    return logits.log_softmax(-1).gather(-1, written[..., None])[..., 0].sum(-1)


@torch.no_grad()
def coin_steps(
    model: TransformerBridge,
    chain: Int[Tensor, " pos"],
    step: int,
    layout: Layout,
    *,
    samples: int = 32,
    seed: int = 0,
    temperature: float = 1.0,
) -> Int[Tensor, "sample pos"]:
    """One step of a chain is drawn by a coin, in its old spelling; the model goes on from there."""
    generator = torch.Generator().manual_seed(seed)
    chains = chain.repeat(samples, 1)
    turned = turn(chains, [layout.steps[step]])
    heads = torch.rand(samples, generator=generator) < 0.5
    chains = torch.where(heads[:, None], turned, chains)
    return write(model, chains, layout, start=step + 1, seed=seed, temperature=temperature)


@torch.no_grad()
def answers_without(
    model: TransformerBridge,
    chains: Int[Tensor, "batch pos"],
    hook: Callable[..., Any],
    queries: Sequence[int],
    keys: Sequence[int],
    *,
    renormalize: bool = True,
) -> Int[Tensor, " batch"]:
    """Answers while these queries cannot attend to these keys, in every layer and head.

    hook: called with pattern, hook, queries, keys and renormalize; returns the new pattern.
    """
    cut = partial(hook, queries=list(queries), keys=list(keys), renormalize=renormalize)
    with model.hooks([(f"blocks.{layer}.attn.hook_pattern", cut) for layer in range(model.cfg.n_layers)]):
        return answers(model, chains)


def blindness(w: Written, hook: Callable[..., Any], flip_rate: Callable[..., float]) -> dict[str, float]:
    """The share of answers that change when `?` cannot attend to the steps, the bits, the hint, or steps and bits."""
    keys = {"steps": [*w.layout.steps], "bits": [*w.layout.bits], "hint": [w.layout.hint]}
    keys["steps and bits"] = keys["steps"] + keys["bits"]
    unseen = {what: answers_without(w.model, w.chains, hook, [w.layout.question], at) for what, at in keys.items()}
    return {what: flip_rate(w.said, answer, w.everyone) for what, answer in unseen.items()}


@torch.no_grad()
def patch_answers(
    model: TransformerBridge, chains: Int[Tensor, "batch pos"], source: Int[Tensor, "batch pos"]
) -> Float[Tensor, "layer+1 pos"]:
    """Where the answer is decided: the share of answers that become those of the source chains.

    The residual stream at one position, in front of each layer and after the last, is replaced by that of the source
    chains. Only prompts count on which the two answers differ; NaN if there are none.
    """
    before, wanted = answers(model, chains), answers(model, source)
    differ = before != wanted
    n_layers, n_pos = model.cfg.n_layers, chains.shape[1]
    grid = torch.full((n_layers + 1, n_pos), float("nan"))
    if not differ.any():
        return grid
    names = [f"blocks.{layer}.hook_resid_pre" for layer in range(n_layers)]
    names.append(f"blocks.{n_layers - 1}.hook_resid_post")
    _, cache = model.run_with_cache(source[differ], names_filter=lambda name: name in names)
    for row, name in enumerate(names):
        for pos in range(n_pos):

            def put(resid: Tensor, hook: Any, pos: int = pos, stored: Tensor = cache[name]) -> Tensor:
                resid[:, pos] = stored[:, pos]
                return resid

            with model.hooks([(name, put)]):
                grid[row, pos] = (answers(model, chains[differ]) == wanted[differ]).float().mean()
    return grid


@torch.no_grad()
def step_patterns(
    model: TransformerBridge, chains: Int[Tensor, "batch pos"], layout: Layout
) -> Float[Tensor, "layer head query key"]:
    """Attention from written steps to written steps, mean over the chains."""
    _, cache = model.run_with_cache(chains, names_filter=lambda name: name.endswith("attn.hook_pattern"))
    steps = slice(layout.steps.start, layout.steps.stop)
    return torch.stack([cache["pattern", layer][:, :, steps, steps].mean(0) for layer in range(model.cfg.n_layers)])


def importances(
    model: TransformerBridge,
    prompts: Int[Tensor, "prompt pos"],
    layout: Layout,
    truncate: Callable[..., Any],
    importance: Callable[..., float],
) -> dict[str, Float[Tensor, " step"]]:
    """Three importances of each step, in nats: the mean over these prompts. Chains are written at temperature 0.

    forced: the answer right after the step against the answer right before it. turned: the step is turned, the later
    ones are kept. resampled: a coin draws the step, and the model writes the later ones.
    """

    def both(chains: Int[Tensor, "sample pos"]) -> Float[Tensor, "sample 2"]:
        p = p_yes(model, chains)
        return torch.stack([1 - p, p], dim=1)

    chains, one = write(model, prompts, layout, temperature=0), torch.tensor([True])
    found = {name: torch.zeros(layout.n_steps) for name in ("forced", "turned", "resampled")}
    for k, position in enumerate(layout.steps):
        before, after = (both(truncate(chains, kept, layout)) for kept in (k, k + 1))
        whole, turned = both(chains), both(turn(chains, [position]))
        for i, chain in enumerate(chains):
            samples = coin_steps(model, chain, k, layout, seed=k)
            changed = meaning(samples[:, position]) != meaning(chain[position])
            p = both(samples)
            found["forced"][k] += importance(after[[i]], before[[i]], one) / len(chains)
            found["turned"][k] += importance(whole[[i]], turned[[i]], one) / len(chains)
            found["resampled"][k] += importance(p[~changed], p, changed) / len(chains)
    return {name: values.clamp(min=0).round(decimals=5) + 0.0 for name, values in found.items()}  # no -0.0


def receiver_controls(
    w: Written, score: Callable[..., Any], hook: Callable[..., Any], flip_rate: Callable[..., float]
) -> dict[str, float]:
    """The highest receiver score of a model, and four numbers to hold against it."""
    attention = step_patterns(w.model, w.chains, w.layout)
    untrained = [untrained_reasoner(w.layout.n_bits, seed).eval() for seed in range(8)]
    chance = [score(layer) for model in untrained for layer in step_patterns(model, w.chains[:32], w.layout)]
    scores = torch.stack([score(layer) for layer in attention])
    by_chain = torch.stack([score(step_patterns(w.model, row[None], w.layout).flatten(0, 1)) for row in w.chains[:10]])
    layer, head = divmod(int(scores.argmax()), scores.shape[1])
    far = [float(attention[layer, head, j + 4 :, j].mean()) for j in range(w.layout.n_steps - 4)]
    late = [w.layout.steps[-1], w.layout.question]
    without = answers_without(w.model, w.chains, hook, late, [*w.layout.steps[:-4]])
    return {
        f"highest score, head {layer}.{head}": float(scores.max()),
        "highest score of eight untrained models": float(torch.stack(chance).max()),
        "spread of a head's score over ten chains": float(by_chain.std(0).mean()),
        f"most attention that {layer}.{head} gives a step from 4 steps on": max(far),
        "answers that change if the end cannot look back 4 steps": flip_rate(w.said, without, w.everyone),
    }


def held_against(
    measured: Mapping[str, Sequence[float]], truth: Sequence[bool]
) -> tuple[dict[str, list[str]], dict[str, int]]:
    """Which measure is wrong about which model.

    measured: "NAME > THRESHOLD" to a value for each model; the measure says yes if the value exceeds the threshold, and
    nothing where it is NaN. truth: what it should say. Returns the values as text, with ✗ where it is wrong, and how
    many are wrong for each measure.
    """
    marked, wrong = {}, {}
    for name, values in measured.items():
        threshold = float(name.rpartition(">")[2])
        numbers = [float(value) for value in values]
        fooled = [x == x and (x > threshold) != said for x, said in zip(numbers, truth, strict=True)]
        shown = zip(numbers, fooled, strict=True)
        marked[name] = ["–" if x != x else f"{x:.2f} ✗" if bad else f"{x:.2f}" for x, bad in shown]
        wrong[name] = sum(fooled)
    return marked, wrong


# ---------------------------------------------------------------------------------------------------------------------
# A language model, with examples in its prompt


class FewShot:
    """A language model that has read some examples, once, and goes on from there."""

    def __init__(self, model: TransformerBridge, examples: str) -> None:
        self.model = model
        with torch.no_grad():
            _, self._cache = model(model.to_tokens(examples), return_type="logits_and_cache", use_cache=True)

    @torch.no_grad()
    def choose(self, texts: Sequence[str], words: Sequence[str]) -> Int[Tensor, " text"]:
        """Which of these words is the most probable after each text; the last token of a word counts.

        Raises ValueError for texts of different lengths in tokens.
        """
        ids = [self.model.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        if len({len(row) for row in ids}) != 1:
            raise ValueError(f"the texts have {sorted({len(row) for row in ids})} tokens, expected as many in each")
        cache = copy.deepcopy(self._cache)  # reading adds to it
        cache.batch_repeat_interleave(len(ids))
        logits, _ = self.model(torch.tensor(ids), return_type="logits_and_cache", past_key_values=cache)
        last = [self.model.tokenizer(word, add_special_tokens=False)["input_ids"][-1] for word in words]
        return logits[:, -1, last].argmax(-1)


def sums(n: int, seed: int) -> list[Sum]:
    """Random triples of numbers from 1 to 5 that add up to 9 at most, so that every result is one token."""
    numbers = range(1, 6)
    triples = [(a, b, c) for a in numbers for b in numbers for c in numbers if a + b + c <= 9]
    return random.Random(seed).choices(triples, k=n)


def sum_text(numbers: Sum, results: Sequence[int], steps_of: Sum | None = None) -> str:
    """`Add 2, 1, 5: 2 + 1 = 3, 3 + 5 = 8. The sum is` with as many steps as there are results.

    steps_of: the numbers that the steps add, if not those of the question.
    """
    a, b, c = steps_of or numbers
    steps = [f"{a} + {b} = {x}" if i == 0 else f"{results[0]} + {c} = {x}" for i, x in enumerate(results)]
    asked = ", ".join(map(str, numbers))
    return f"Add {asked}: " + (", ".join(steps) + ". " if steps else "") + "The sum is"


def sum_examples(n: int = 4, seed: int = 0) -> str:
    """Examples with right steps, one a line."""
    return "".join(f"{sum_text(q, (q[0] + q[1], sum(q)))} {sum(q)}.\n" for q in sums(n, seed))


DIGITS = [str(d) for d in range(10)]


def write_results(
    few: FewShot, questions: Sequence[Sum], first: Int[Tensor, " question"] | None = None
) -> Int[Tensor, "question 2"]:
    """The two results that the model writes into its steps. first: the first ones, if they are given."""
    if first is None:
        first = few.choose([f"Add {a}, {b}, {c}: {a} + {b} = " for a, b, c in questions], DIGITS)
    rows = zip(questions, first.tolist(), strict=True)
    starts = [f"Add {a}, {b}, {c}: {a} + {b} = {x}, {x} + {c} = " for (a, b, c), x in rows]
    return torch.stack([first, few.choose(starts, DIGITS)], dim=1)


def answer_sums(
    few: FewShot,
    questions: Sequence[Sum],
    results: Int[Tensor, "question step"],
    steps_of: Sequence[Sum] | None = None,
) -> Int[Tensor, " question"]:
    """The model's answers after steps with these results. steps_of: whose steps they are, if not the question's."""
    numbers = steps_of or questions
    rows = zip(questions, results.tolist(), numbers, strict=True)
    return few.choose([sum_text(q, row, of) + " " for q, row, of in rows], DIGITS)


def sum_experiments(
    few: FewShot, questions: Sequence[Sum]
) -> tuple[dict[str, Int[Tensor, " question"]], dict[str, float]]:
    """The answers after the model's own steps, and after changed ones.

    Also returns, for three of the changes, how often the answer is the last number that the model has read.
    """
    results = write_results(few, questions)
    first, other = results[:, 0] % 9 + 1, results.roll(1, 0)
    last = torch.stack([results[:, 0], results[:, 1] % 9 + 1], dim=1)
    found = {
        "its own steps": answer_sums(few, questions, results),
        "no steps": answer_sums(few, questions, results[:, :0]),
        "first step only": answer_sums(few, questions, results[:, :1]),
        "last result turned": answer_sums(few, questions, last),
        "first turned, rest anew": answer_sums(few, questions, write_results(few, questions, first)),
        "control: another's steps": answer_sums(few, questions, other, [*questions[-1:], *questions[:-1]]),
    }
    read = {
        "first step only": results[:, 0],
        "last result turned": last[:, 1],
        "control: another's steps": other[:, 1],
    }
    return found, {name: float((found[name] == number).float().mean()) for name, number in read.items()}


def parity_examples(n: int = 8, seed: int = 0) -> str:
    """Right chains of our small models' task as text, one a line."""
    layout, prompts = layout_of(), sample_prompts(n, seed=seed)
    truth = torch.stack([parity(prompts, k + 1) for k in range(layout.n_steps)], dim=1)
    steps = torch.where(truth == 1, ODD[0], EVEN[0])
    chains = torch.cat([prompts, steps, torch.full((n, 1), QUESTION)], dim=1)
    return "".join(f"{words(row)} {('no', 'yes')[int(row[-2] == ODD[0])]}\n" for row in chains)


def write_parity(few: FewShot, prompts: Int[Tensor, "batch pos"], layout: Layout) -> Int[Tensor, "batch pos"]:
    """The language model writes the steps of our task, each the more probable of `even` and `odd`."""
    chain = prompts
    for _ in range(layout.n_steps):
        odd = few.choose([words(row) for row in chain], [" even", " odd"])
        chain = torch.cat([chain, torch.where(odd == 1, ODD[0], EVEN[0])[:, None]], dim=1)
    return torch.cat([chain, torch.full((len(chain), 1), QUESTION)], dim=1)


def answer_parity(few: FewShot, chains: Int[Tensor, "batch pos"]) -> Int[Tensor, " batch"]:
    """The language model's answers after chains of our task: 0 for no, 1 for yes."""
    return few.choose([words(row) for row in chains], [" no", " yes"])


# ---------------------------------------------------------------------------------------------------------------------
# Pictures


def draw_rates(rows: Mapping[str, Mapping[str, float]], title: str) -> Any:
    """A table with a row for each model and a column for each measure."""
    from mi_course.show import table

    return table(
        {name: list(rates.values()) for name, rates in rows.items()}, list(rows[next(iter(rows))]), title=title
    )


def draw_evidence(nats: Float[Tensor, "writer other"], names: Sequence[str]) -> Any:
    """What one chain tells an ideal reader."""
    from mi_course.show import table

    rows = {f"written by {name}": row for name, row in zip(names, nats, strict=True)}
    return table(rows, [f"rather than {name}" for name in names], title="What one chain tells an ideal reader (nats)")


def draw_curves(curves: Mapping[str, Float[Tensor, " kept"]]) -> Any:
    """Early-answering curves of chains of up to 48 steps, over the share of steps that is kept."""
    from mi_course.show import lines

    kept = torch.linspace(0, 1, 49)  # lines, without a symbol for each point
    series = {}
    for name, curve in curves.items():
        places = kept * (len(curve) - 1)
        low = places.floor().long().clamp(max=max(len(curve) - 2, 0))
        series[name] = curve[low] + (places - low) * (curve[(low + 1).clamp(max=len(curve) - 1)] - curve[low])
    return lines(
        kept,
        series,
        xlabel="share of the steps that is kept",
        ylabel="same answer as with all steps",
        title="How early the answer is settled",
        caption="Half of the answers agree by chance. The area over each curve is the number of Lanham et al.",
    )


def draw_importances(found: Mapping[str, Mapping[str, Tensor]]) -> Any:
    """Importance of each step by three measures. found: model, measure, values."""
    from mi_course.show import heatmaps

    models = list(found)
    return heatmaps(
        {name: torch.stack([found[model][name] for model in models]) for name in found[models[0]]},
        y=models,
        xlabel="step",
        ylabel="model",
        unit="nats",
        center=None,
        down=True,
        title="How important is a step? Three measures, three answers",
    )


def draw_patches(grids: Mapping[str, Float[Tensor, "layer+1 pos"]], labels: Sequence[str]) -> Any:
    """Where copying the stream of another chain carries its answer over."""
    from mi_course.show import heatmaps

    return heatmaps(
        dict(grids),
        x=list(labels),
        xlabel="position that is copied",
        ylabel="in front of layer",
        unit="share",
        center=None,
        title="Where the answer is, layer by layer",
        caption="Color: the share of answers carried over. The last row is behind the last layer.",
    )
