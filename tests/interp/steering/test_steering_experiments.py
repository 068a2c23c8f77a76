"""The experiments of lesson 04 that need no large model; the others run when its solution is built."""

from __future__ import annotations

import doctest

import torch

from mi_course.interp.steering import WordOdds, experiments


def test_examples_in_the_docstrings():
    assert doctest.testmod(experiments, extraglobs={"torch": torch}).failed == 0


def test_half_of_the_pairs_is_turned_around_and_not_always_the_same_half():
    signs = experiments.half_turned(12, draws=20)
    assert signs.abs().eq(1).all()
    assert signs.sum(dim=1).eq(0).all()
    assert len({tuple(row) for row in signs.tolist()}) > 15


def test_the_contrast_is_happy_minus_unhappy():
    assert experiments.contrast(torch.tensor([3.0, 1.0, 0.0, -2.0])) == 3.0


def test_there_is_an_unhappy_story_for_each_happy_one():
    assert len(experiments.STORIES) == 40


def test_a_metric_of_logits_reads_each_prompt_at_its_end(llama):
    odds = WordOdds(llama, ["the cat sat on a mat", "a dog", "the dog ran"], [3, 4], [5])
    tokens, last, metric = experiments.at_the_end(
        odds, lambda logits, up, down: logits[:, up].logsumexp(1) - logits[:, down].logsumexp(1)
    )
    assert last.tolist() == [6, 2, 3]
    with torch.no_grad():
        assert abs(metric(llama(tokens)) - float(odds().mean())) < 1e-4


def test_controls_stand_side_by_side():
    bands = {"random": torch.zeros(2, 3), "matched": torch.ones(4, 3)}
    shown = experiments.draw_controls([-1.0, 1.0, 2.0], [-3.0, 3.0, 2.0], bands).text
    assert "21 points" in shown
    assert "matched: 12 points" in shown


def test_slopes_are_drawn_from_the_weakest():
    n = len(experiments.texts.HARD_PROMPTS)
    shown = experiments.draw_slopes(torch.arange(n, 0, -1.0), 3.0).text.splitlines()
    assert shown[3].strip().endswith(": 1.0")


def test_a_word_read_with_the_cache_is_one_read_with_its_prompt(llama):
    prompts = ["the cat sat on a mat", "a dog", "the dog ran"]
    odds = WordOdds(llama, prompts, [3, 4], [5])
    for word, got in experiments.one_word_on(odds, [" was", " was good"]).items():
        again = WordOdds(llama, [prompt + word for prompt in prompts], [3, 4], [5]).unsteered
        torch.testing.assert_close(got, again, rtol=1e-4, atol=1e-4)
