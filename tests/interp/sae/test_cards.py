"""The card of an SAE: each number against a computation by hand, and the page made of cards."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch

from mi_course.interp.models.small import small_model
from mi_course.interp.sae import SAEConfig, collect_activations, explained_variance, loss_with_sae, train
from mi_course.interp.sae.cards import SAME, measure, measure_floors, nearest_cosines, page, shared_latents
from mi_course.interp.shipped_saes import mean_rise

HOOK = "blocks.1.hook_resid_post"


@pytest.fixture(scope="module")
def setting():
    """A model in which token 5 is massive, two groups of texts, and an SAE trained on them."""
    shape = {"n_layers": 2, "n_heads": 2, "d_model": 12, "d_head": 6, "d_mlp": 16, "d_vocab": 30, "n_ctx": 16}
    model = small_model(shape, seed=0)
    with torch.no_grad():
        next(parameter for parameter in model.parameters() if parameter.shape == (30, 12))[5] *= 100
    generator = torch.Generator().manual_seed(0)
    groups = {name: torch.randint(1, 30, (rows, 16), generator=generator) for name, rows in (("a", 24), ("b", 16))}
    x, _ = collect_activations(model, torch.cat(list(groups.values())), HOOK, exclude_massive=True)
    config = SAEConfig(d_in=12, n_latents=24, architecture="batch_topk", k=3, steps=60, batch=256, lr=1e-2)
    return model, groups, train(config, x), train(replace(config, seed=1), x)


def test_numbers_are_those_of_the_parts_that_make_them(setting):
    model, groups, sae, _ = setting
    card = measure(model, sae, groups, 1, exclude_massive=True, rows_at_once=5)
    x, left_out = collect_activations(model, torch.cat(list(groups.values())), HOOK, exclude_massive=True)
    f = sae.encode(x)
    assert card["hook"] == HOOK
    assert card["tokens"] == len(x)
    assert card["massive_share"] == pytest.approx(left_out.massive_share)
    assert left_out.massive > 0
    assert card["l0"] == pytest.approx(float((f > 0).float().sum(dim=1).mean()), rel=1e-3)
    assert card["explained_variance"] == pytest.approx(explained_variance(x, sae(x)), abs=1e-4)
    assert card["dead_share"] == float((f <= 0).all(dim=0).double().mean())
    live = sum(card["density_log10"]["counts"])
    assert live == 24 - round(24 * card["dead_share"])
    for name, tokens in groups.items():
        seen = loss_with_sae(model, sae, tokens, HOOK, exclude_massive=True, mean=x.mean(dim=0))
        expected = {"clean": seen.clean, "rise": seen.rise, "mean": seen.mean - seen.clean, "replaced": seen.replaced}
        assert {key: card["loss"][name][key] for key in expected} == pytest.approx(expected, abs=1e-4)
        assert card["loss"][name]["tokens"] == tokens.shape[0] * 15
    rises = [card["loss"][name]["rise"] for name in "ab"]
    assert mean_rise(card) == pytest.approx((24 * rises[0] + 16 * rises[1]) / 40)
    assert "massive ones" in card["positions"]
    assert "massive" not in measure(model, sae, groups, HOOK)["positions"]


def test_what_was_measured_without_an_sae_is_not_measured_again(setting, monkeypatch):
    model, groups, sae, other = setting
    floors, runs = {}, []
    whole = measure(model, other, groups, HOOK)
    measure(model, sae, groups, HOOK, floors=floors)
    from mi_course.interp.sae import splicing

    logits = splicing.logits
    monkeypatch.setattr(splicing, "logits", lambda *options: runs.append(1) or logits(*options))
    saved = measure(model, other, groups, HOOK, floors=floors)
    assert len(runs) == 3 + 2  # batches of eight rows, once
    assert saved == whole


def test_what_needs_no_sae_can_be_measured_beforehand(setting):
    """Losses, before there is an SAE; activations, by the card before."""
    model, groups, sae, other = setting
    options = {"exclude_massive": True, "nameability": 4}
    whole = measure(model, sae, groups, HOOK, **options)
    floors, recorded = measure_floors(model, groups, HOOK, exclude_massive=True), {}
    before = {key: loss._replace(spliced=0.0) for key, loss in floors.items()}
    assert measure(model, sae, groups, HOOK, **options, floors=floors, recorded=recorded) == whole
    assert {key: loss._replace(spliced=0.0) for key, loss in floors.items()} == before
    assert [*recorded] == [("blocks.0.hook_resid_post", HOOK, "blocks.1.mlp.hook_post")]
    again = measure(model, other, groups, HOOK, **options, floors=floors, recorded=recorded)
    assert again == measure(model, other, groups, HOOK, **options)
    measure(model, other, groups, 0, recorded=recorded)
    assert [*recorded] == [("blocks.0.hook_resid_post",)]


def test_shared_latents_are_matched_one_to_one(setting):
    *_, sae, other = setting
    assert shared_latents(sae, sae) == 1
    assert 0 <= shared_latents(sae, other) < 1
    twin = type(sae)(sae.config)
    with torch.no_grad():
        twin.W_dec.copy_(sae.W_dec.flip(0))
        twin.W_dec[:6] = sae.W_dec[0]  # six copies of one latent can stand for one latent only
    assert shared_latents(sae, twin) <= 19 / 24
    assert 0 < SAME < 1


def test_nearest_cosines_leave_the_latent_itself_out():
    rows = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0]])
    assert nearest_cosines(rows).tolist() == pytest.approx([1.0, 1.0, 0.0])


def test_nameability_is_measured_in_the_layer_of_the_hook(setting):
    model, groups, sae, _ = setting
    card = measure(model, sae, groups, HOOK, exclude_massive=True, nameability=6)
    found = card["nameability"]
    assert found["neurons"] == "blocks.1.mlp.hook_post"
    for unit in ("token", "context"):
        for key in ("latents", "directions", "neurons"):
            assert 0 < found[unit][key][0] < 1
        assert found[unit]["over_directions"][0] == pytest.approx(
            found[unit]["latents"][0] - found[unit]["directions"][0], abs=1e-9
        )
        assert sum(found[unit]["kinds"].values()) == 6
    assert card == measure(model, sae, groups, HOOK, exclude_massive=True, nameability=6)
    with pytest.raises(ValueError, match="latents are active 10 times in each part of the text; 24 are needed"):
        measure(model, sae, groups, HOOK, nameability=24)
    with pytest.raises(ValueError, match=r"Cannot tell which MLP belongs to 'embed\.hook_out'"):
        measure(model, sae, groups, "embed.hook_out", nameability=2)


def test_a_card_is_plain_and_becomes_a_page(setting):
    model, groups, sae, other = setting
    card = measure(model, sae, groups, HOOK, exclude_massive=True, nameability=4)
    card |= {"training_tokens": 15_360_000, "mix": {"a": 0.6, "b": 0.4}, "shared": {"second": 0.25}}
    card = json.loads(json.dumps(card))
    text = page({"first": card, "second": measure(model, other, groups, HOOK)})
    assert f"| `first` | `{HOOK}` | 24 | 15.4 million | {card['l0']:.1f} |" in text
    again = page({"first": card | {"different_tokens": 2_600_000}})
    assert "| 15.4 million, 2.6 million different |" in again
    assert "Trained on: a 60%, b 40% (shares of the tokens)." in text
    assert "has too (cosine above 0.7): 25.0%" in text
    assert "| 16 tokens | " in text
    assert text.count("\n## ") == 2
    for line in text.splitlines():
        assert "nan" not in line
    counted = sum(int(part.split(":")[1].strip(" .").replace(",", "")) for part in _cells(text) if ":" in part)
    assert counted == 24 - round(24 * card["dead_share"])
    assert not math.isnan(mean_rise(card))


def _cells(text):
    line = next(line for line in text.splitlines() if line.startswith("Latents by the share"))
    return line.split(": ", 1)[1].split("; ")
