"""Prompts with three names, and the task on which the circuits of lesson 03 are judged."""

from __future__ import annotations

from collections import Counter
from functools import partial

import pytest
import torch

from mi_course.interp.ioi import HELD_OUT, abc_prompts, ioi_prompts, ioi_task, smollm2_circuit
from mi_course.interp.models.loading import load_model
from mi_course.interp.patching import head_means
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


@pytest.mark.real_model
@pytest.mark.slow
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


@pytest.mark.real_model
@pytest.mark.slow
def test_our_circuit_passes():
    from mi_course import lessons
    from mi_course.course import check_exercise

    exercise = lessons.load("activation_patching").exercise("my_circuit")
    verdict = check_exercise(exercise, smollm2_circuit())
    assert verdict.passed, verdict.message
    # As many heads from the middle of the model are no circuit.
    assert check_exercise(exercise, [(layer, head) for layer in (3, 9, 13) for head in range(9)]).mistake == "too_weak"
