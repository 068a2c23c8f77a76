"""Nameability on planted activations, of which it is known what names them."""

from __future__ import annotations

import pytest
import torch

from mi_course.interp.sae.nameability import KINDS, Rules, compare, live_latents, part_rows

ROWS, POS, WORDS = 160, 65, 16


@pytest.fixture(scope="module")
def tokens():
    rows = torch.randint(1, WORDS, (ROWS, POS), generator=torch.Generator().manual_seed(0))
    rows[:, 0] = 0
    return rows


@pytest.fixture(scope="module")
def parts():
    return part_rows([ROWS // 2, ROWS // 2])


def planted(tokens):
    """By name, where something is active, on all tokens but the first of each row."""
    now, before = tokens[:, 1:], tokens[:, :-1]
    noise = torch.rand(now.shape, generator=torch.Generator().manual_seed(1)) < 0.05
    return {
        "current token": now == 5,
        "previous token": before == 7,
        "pair": ((before == 2) | (before == 4)) & ((now == 3) | (now == 8)),
        "noise": noise,
    }


@pytest.mark.parametrize("unit", ["token", "context"])
def test_what_a_rule_can_say_is_named_and_noise_is_not(tokens, parts, unit):
    rules, active = Rules(tokens, parts, unit), planted(tokens)
    found = {name: rules.best(where) for name, where in active.items()}
    for kind in KINDS[:3]:
        assert found[kind].score > 0.97, (kind, found)
        assert found[kind].kind == kind
    assert abs(found["noise"].score - 0.5) < 0.06


def test_a_score_is_the_balanced_accuracy_of_the_rule_on_other_rows(tokens, parts):
    """Half of the tokens 5 are active, and nothing else: the best rule is token 5, which finds all and errs on half."""
    five = tokens[:, 1:] == 5
    active = five & (torch.rand(five.shape, generator=torch.Generator().manual_seed(3)) < 0.5)
    score, kind = Rules(tokens, parts).best(active)
    test = parts == 2
    false = (five & ~active)[test].sum() / (~active)[test].sum()
    assert kind == "current token"
    assert score == pytest.approx(float(1 - false / 2), abs=1e-6)


def test_what_is_fitted_by_chance_does_not_count(tokens, parts):
    """A rule of pairs and triples can fit noise; on rows that it has not seen it is worth nothing."""
    scores = [
        Rules(tokens, parts).best(torch.rand(ROWS, POS - 1, generator=torch.Generator().manual_seed(s)) < 0.05).score
        for s in range(8)
    ]
    assert abs(sum(scores) / len(scores) - 0.5) < 0.03


def test_only_the_fitting_rows_teach(tokens, parts):
    """A word that means something else in the rows for testing: the score falls below chance."""
    active = tokens[:, 1:] == 5
    turned = torch.where((parts == 2)[:, None], tokens[:, 1:] == 6, active)
    assert Rules(tokens, parts).best(active).score == 1
    assert Rules(tokens, parts).best(turned).score < 0.5


def test_tokens_to_skip_do_not_count(tokens, parts):
    """Active on word 5, but on every word 6 that is skipped as well: only the first is judged."""
    skip = tokens == 6
    active = (tokens[:, 1:] == 5) | (tokens[:, 1:] == 6)
    assert Rules(tokens, parts, skip=skip).best(active) == (1.0, "current token")


def test_controls_have_the_density_of_their_latent(tokens, parts):
    """Neurons that rise with the latents are as nameable; directions that are noise are not. Scale is no matter."""
    active = planted(tokens)
    where = torch.stack([active["current token"], active["previous token"], active["pair"]], dim=-1)
    latents = torch.zeros(ROWS, POS, 3)
    latents[:, 1:] = where * (1 + torch.rand(where.shape, generator=torch.Generator().manual_seed(4)))
    noise = torch.randn(ROWS, POS, 3, generator=torch.Generator().manual_seed(5))
    found = compare(tokens, latents, noise, 1000 * latents - 3, parts)
    for unit in ("token", "context"):
        assert found[unit].latents == found[unit].neurons
        assert found[unit].over_neurons == (0.0, 0.0)
        assert found[unit].over_directions[0] > 0.3
        assert sum(found[unit].kinds.values()) == 3
    assert found["token"].directions[0] == pytest.approx(0.5, abs=0.05)
    silent = latents.clone()
    silent[:, :, 1] = 0
    with pytest.raises(ValueError, match="Latent 1 is active on 0 of 10240 tokens"):
        compare(tokens, silent, noise, noise, parts)


def test_controls_are_matched_in_the_unit_that_is_scored(tokens, parts):
    """Both are active where word 5 is near, but the control in runs of 16: by tokens it would fill fewer contexts."""
    rules = Rules(tokens, parts, "context")
    active = tokens[:, 1:] == 5
    inside = torch.arange(POS - 1) // 16
    contexts = {(row, int(inside[at])) for row, at in active.nonzero().tolist()}
    assert rules.n_active(active) == len(contexts)
    assert Rules(tokens, parts).n_active(active) == int(active.sum())
    spread = torch.zeros(ROWS, POS - 1)
    for strength, (row, context) in enumerate(sorted(contexts), start=1):
        spread[row, inside == context] = float(strength)
    assert rules.best_largest(spread, len(contexts)) == rules.best(active)
    by_tokens = torch.zeros_like(active).flatten()
    by_tokens[spread.flatten().topk(int(active.sum())).indices] = True
    assert rules.n_active(by_tokens.view_as(active)) < len(contexts)


def test_largest_units_leave_out_what_does_not_count(tokens, parts):
    """Values of skipped tokens are never the largest of their unit, and equal values go by position."""
    skip = tokens == 6
    values = torch.where(tokens == 6, 9.0, torch.where(tokens == 5, 1.0, 0.0))[:, 1:]
    rules = Rules(tokens, parts, skip=skip)
    number = int((tokens[:, 1:] == 5).sum())
    assert rules.best_largest(values, number) == (1.0, "current token")
    assert rules.best_largest(-values, 0).score == 0.5
    with pytest.raises(ValueError, match="n is 99999; there are"):
        rules.best_largest(values, 99_999)
    with pytest.raises(ValueError, match=r"values has shape \(160, 3\); expected \(160, 64\)"):
        rules.best_largest(torch.zeros(160, 3), 1)


def test_live_latents_are_active_in_each_part(parts):
    active = torch.full((30, ROWS), 1)
    active[3] = 0
    active[4, parts == 2] = 0
    chosen = live_latents(active, parts, 28, seed=0)
    assert chosen.tolist() == [i for i in range(30) if i not in (3, 4)]
    assert live_latents(active, parts, 5, seed=0).tolist() == live_latents(active, parts, 5, seed=0).tolist()
    with pytest.raises(ValueError, match="28 latents are active 10 times in each part of the text; 29 are needed"):
        live_latents(active, parts, 29, seed=0)


def test_rows_are_parted_within_each_group():
    assert part_rows([4, 8]).tolist() == [0, 0, 1, 2, 0, 0, 0, 0, 1, 1, 2, 2]
    with pytest.raises(ValueError, match=r"\[3\] rows; each needs at least 4"):
        part_rows([3])


def test_what_does_not_fit_is_refused(tokens, parts):
    with pytest.raises(ValueError, match="unit is 'word'; expected token or context"):
        Rules(tokens, parts, "word")
    with pytest.raises(ValueError, match="expected 0, 1 or 2 for 160 rows"):
        Rules(tokens, parts[:5])
    with pytest.raises(ValueError, match=r"active has shape \(160, 65\); expected \(160, 64\)"):
        Rules(tokens, parts).best(torch.ones(ROWS, POS, dtype=torch.bool))
