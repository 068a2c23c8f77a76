"""Prompts with three names, and the task on which the circuits of lesson 03 are judged."""

from __future__ import annotations

from collections import Counter
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from mi_course.interp.heads import all_heads
from mi_course.interp.ioi import (
    HELD_OUT,
    STRONGEST,
    abc_prompts,
    chance,
    head_profile,
    ioi_prompts,
    ioi_task,
    random_scores,
    smollm2_circuit,
)
from mi_course.interp.ioi_study import by_place, three_names
from mi_course.interp.models.loading import load_model
from mi_course.interp.patching import head_means, logit_difference, mean_ablations, sweep_residual
from mi_course.testing.answers import reference


def test_each_pair_of_names_is_used_in_both_orders():
    assert ioi_prompts([("a", "b")], "{A} {B}: {S}") == (
        ["a b: b", "a b: a"],
        ["a b: a", "a b: b"],
        [("a", "b"), ("b", "a")],
    )


@pytest.mark.parametrize("n", [3, 4, 5, 8])
def test_every_name_comes_in_each_place_equally_often(n):
    names = [f"n{i}" for i in range(n)]
    rows = [prompt.split() for prompt in abc_prompts(names, "{A} {B} {S}")]
    assert all(len(set(row)) == 3 for row in rows)
    assert len({tuple(row) for row in rows}) == len(rows)
    for place in zip(*rows, strict=True):
        assert set(Counter(place).values()) == {len(rows) // n}


@pytest.mark.parametrize("names", [["a", "b"], ["a", "b", "a", "c"]])
def test_too_few_names_or_doubled_ones(names):
    with pytest.raises(ValueError, match="different"):
        abc_prompts(names, "{A} {B} {S}")


def test_a_head_profile_names_places_and_compares_with_absent_names():
    """By hand: one head of a model with two dimensions."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.tensor([[0, 1, 2, 9, 1, 8], [0, 3, 4, 9, 3, 8]])  # BOS, names, filler
    roles = {"IO": torch.tensor([2, 4]), "S": torch.tensor([1, 3])}
    pattern = torch.rand(2, 1, 6, 6, generator=generator)
    z, scale = torch.randn(2, 6, 1, 3, generator=generator), torch.full((2, 6, 1), 2.0)
    W_O, W_U = torch.randn(1, 3, 5, generator=generator), torch.randn(5, 10, generator=generator)
    model = SimpleNamespace(blocks=[SimpleNamespace(attn=SimpleNamespace(W_O=W_O))], W_U=W_U)
    cache = {("pattern", 0): pattern, ("z", 0): z, "ln_final.hook_scale": scale}
    profile = head_profile(model, cache, tokens, roles, (0, 0))
    row = pattern[:, 0, -1]
    assert profile.looks["S2"] == pytest.approx(row[:, 4].mean().item())
    assert list(profile.looks) == ["IO", "S1", "S2", "BOS", "end"]
    logits = (z[:, -1, 0] @ W_O[0] / 2) @ W_U
    expected = [(logits[0, 2] - logits[0, [3, 4]].mean()), (logits[1, 4] - logits[1, [1, 2]].mean())]
    assert profile.writes["IO"] == pytest.approx(sum(expected).item() / 2, abs=1e-5)
    with pytest.raises(ValueError, match="equally often"):
        head_profile(model, cache, tokens, {"S": torch.tensor([1, 4])}, (0, 0))


def test_chance_weighs_sets_with_and_without_the_strongest_head():
    for n, (without, including) in random_scores().items():
        assert without == sorted(without)
        assert including == sorted(including)
        assert min(without) <= chance(n) <= max(including + without)
    assert chance(15) == pytest.approx((chance(10) + chance(20)) / 2)
    assert chance(2) == pytest.approx((chance(1) + chance(3)) / 2)


@pytest.mark.real_model
@pytest.mark.measured
def test_the_task_is_mean_ablation_of_all_but_the_circuit():
    """Compared with one hook per layer."""
    mean_ablate = reference("activation_patching.mean_ablate")
    model, template, pairs = load_model(), "Then {A} met {B}, and {S} gave a book to", HELD_OUT[0][1][:2]
    task = ioi_task(model, [template], pairs)
    tokens, metric, means = task.sets[0]
    names = [name for pair in pairs for name in pair]
    torch.testing.assert_close(means, head_means(model, abc_prompts(names, template)))

    def left(circuit):
        hooks = [
            (
                f"blocks.{la}.attn.hook_z",
                partial(
                    mean_ablate,
                    mean=means[la],
                    keep=[h for x, h in circuit if x == la],
                ),
            )
            for la in range(30)
        ]
        with torch.no_grad():
            return float(metric(model.run_with_hooks(tokens, fwd_hooks=hooks)[:, -1]).mean())

    every = [(layer, head) for layer in range(30) for head in range(9)]
    circuit = smollm2_circuit()
    full, empty = left(every), left([])
    assert task.score(circuit) == pytest.approx((left(circuit) - empty) / (full - empty), abs=1e-3)
    assert task.completeness(every) == pytest.approx(0, abs=1e-3)
    assert task.score(every) == pytest.approx(1, abs=1e-3)


TEN = [(23, 3), (29, 1), (29, 0), (20, 0), (17, 4), (8, 1), (19, 2), (24, 4), (23, 1), (24, 7)]
"""The first ten by the absolute first order, as lesson 03 ranks them."""
OTHER_FORMS = (
    "After {A} and {B} had talked about {X}'s work, {C} handed a letter to",
    "{A} saw {B} in the park, and {X} waved. Then {C} gave a book to",
    "{A} and {B} had lunch, {X} was hungry, and {C} passed the bread to",
    "While {A} and {B} worked in {X}'s garden, {C} brought a present for",
)


@pytest.mark.real_model
@pytest.mark.measured
def test_a_repeated_name_is_above_the_latest_but_not_always_first():
    """What lesson 03, section 6, says of eight other sentences."""
    model, first = load_model(), 0
    for form in OTHER_FORMS:
        for repeated in "AB":
            logits, _ = three_names(model, form.replace("{X}", "{" + repeated + "}"), STRONGEST)
            mean = {role: float(values.mean()) for role, values in logits.items()}
            assert mean[repeated] > mean["C"] + 0.2, (form, repeated, mean)
            first += mean[repeated] == max(mean.values())
    assert first == 6


@pytest.mark.real_model
@pytest.mark.measured
@pytest.mark.parametrize("held_out", HELD_OUT)
def test_what_lesson_03_says_of_other_names_and_templates(held_out):
    """A third place has up to a seventh (section 4), and the order of the three means is the same (section 10)."""
    model, (template, pairs) = load_model(), held_out
    clean, corrupted, names = ioi_prompts(pairs, template)
    metric = logit_difference(names, model)
    tokens, others = model.to_tokens(clean), model.to_tokens(corrupted)
    subject_at, end = int((tokens != others).any(0).nonzero()), tokens.shape[1] - 1
    places = by_place(sweep_residual(model, clean, corrupted, metric, progress=False).values, subject_at, end)
    assert places[:, 2].max() < 0.18
    assert (places[:18, 0] > 0.9).all()
    assert places[28, 1] > 0.7

    abc = head_means(model, abc_prompts([name for pair in pairs for name in pair], template))
    kept = []
    for means in (head_means(model, clean), abc, torch.zeros_like(abc)):
        some, nothing, whole = mean_ablations(model, clean, metric, [TEN, [], all_heads(30, 9)], means=means).mean(1)
        kept.append(float((some - nothing) / (whole - nothing)))
    assert kept[0] > kept[1] + 0.05 > kept[2] + 0.3, kept


@pytest.mark.real_model
@pytest.mark.measured
def test_our_circuit_passes():
    from mi_course import lessons
    from mi_course.course import check_exercise

    exercise = lessons.load("activation_patching").exercise("my_circuit")
    verdict = check_exercise(exercise, smollm2_circuit())
    assert verdict.passed, verdict.message
    # As many heads from the middle of the model are no circuit.
    assert check_exercise(exercise, [(layer, head) for layer in (3, 9, 13) for head in range(9)]).mistake == "too_weak"
