"""The cards of the SAEs that ship, against their weights: figures measured again on a small sample that ships too.

By a second road: one forward pass in which a hook reads the activations, replaces them, and sums up what the card says.
Bounds leave room for another machine's bfloat16, and are far below what a wrong SAE would do: with the latents of
another one, or with a tenth of the units, every number is outside them.
"""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from mi_course.interp.models import smollm2
from mi_course.interp.models.loading import load_model
from mi_course.interp.sae import load_shipped, shipped_card, shipped_names
from mi_course.interp.shipped_saes import mean_rise, shipped_folder

pytestmark = [pytest.mark.real_model, pytest.mark.measured]
NAMES = ["early", "late", "middle-1152", "middle-1152-seed1", "middle-4608", "middle-9216", "mlp-4608"]
BOUNDS = {"l0": 0.6, "explained_variance": 0.005, "shrinkage": 0.005, "clean": 0.01, "rise": 0.02}
"""l0: latents; clean, rise: nats, of each group."""


@pytest.fixture(scope="module")
def model():
    if not smollm2.is_present():
        pytest.skip("SmolLM2 is not in the cache: run `mi-course models fetch smollm2`")
    return load_model("smollm2", compatibility=False, device="cpu", dtype=torch.bfloat16)


@pytest.fixture(scope="module")
def sample():
    """By group, rows of held-out token ids, BOS first."""
    return {group: rows.long() for group, rows in load_file(shipped_folder() / "held-out.safetensors").items()}


@pytest.fixture(scope="module")
def clean(model, sample):
    """The model's own losses, in nats."""
    return {group: next_token_loss(model, rows) for group, rows in sample.items()}


def next_token_loss(model, rows):
    with torch.no_grad():
        logp = model(rows, return_type="logits")[:, :-1].float().log_softmax(-1)
    return float(-logp.gather(-1, rows[:, 1:, None]).mean())


class Splice:
    """Hooks that put the reconstruction in the place of every token that counts, and remember what they saw."""

    def __init__(self, sae, hook, target):
        self.sae, self.hooks = sae, [(hook, self.read), (target or hook, self.write)]
        self.seen = []

    def read(self, value, hook):
        self.x = value.clone()

    def write(self, value, hook):
        counts = self.ordinary(self.x) & self.ordinary(value)
        f = self.sae.encode(self.x[counts].float())
        y, y_hat = value[counts].float(), self.sae.decode(f)
        self.seen.append((f.detach() > 0, y, y_hat.detach()))
        out = value.clone()
        out[counts] = y_hat.to(out.dtype)
        return out

    @staticmethod
    def ordinary(value):
        norms = value.float().norm(dim=-1)
        ordinary = norms <= 3 * norms[:, 1:].median(dim=1, keepdim=True).values
        ordinary[:, 0] = False
        return ordinary

    def numbers(self):
        active, y, y_hat = (torch.cat(parts) for parts in zip(*self.seen, strict=True))
        from_mean, recovered = (value - y.mean(dim=0) for value in (y, y_hat))
        return {
            "tokens": len(y),
            "l0": float(active.sum(dim=1).float().mean()),
            "explained_variance": 1 - float((y - y_hat).square().sum() / from_mean.square().sum()),
            "shrinkage": float(recovered.square().sum() / (recovered * from_mean).sum()),
        }


def test_these_ship():
    assert shipped_names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_card_says_what_the_weights_do(name, model, sample, clean):
    card = shipped_card(name)
    written = card["sample"]
    splice = Splice(load_shipped(name), card["hook"], card["target"])
    with model.hooks(fwd_hooks=splice.hooks), torch.no_grad():
        losses = {group: next_token_loss(model, rows) for group, rows in sample.items()}
    numbers = splice.numbers()
    assert abs(numbers["tokens"] - written["tokens"]) <= 3  # a token may be massive on one machine only
    for key in ("l0", "explained_variance", "shrinkage"):
        assert abs(numbers[key] - written[key]) < BOUNDS[key], (key, numbers[key], written[key])
    assert written["loss"].keys() == sample.keys()
    for group, nats in written["loss"].items():
        assert abs(clean[group] - nats["clean"]) < BOUNDS["clean"], (group, clean[group], nats["clean"])
        rise = losses[group] - clean[group]
        assert abs(rise - nats["rise"]) < BOUNDS["rise"], (group, rise, nats["rise"])


@pytest.mark.parametrize("name", ["middle-4608", "middle-9216"])
def test_the_goal_that_the_page_says_is_reached(name):
    card = shipped_card(name)
    assert card["l0"] <= 64
    assert mean_rise(card) <= 0.15


@pytest.mark.parametrize("name", NAMES)
def test_the_card_says_what_the_weights_are(name):
    """What needs no model: sizes, cosines, shares and counts that have to agree with each other."""
    card, sae = shipped_card(name), load_shipped(name)
    assert tuple(sae.W_dec.shape) == (card["n_latents"], 576)
    assert (sae.about["hook_name"], sae.about["training_tokens"]) == (card["hook"], card["training_tokens"])
    assert card["exclude_massive"]
    assert sum(card["mix"].values()) == pytest.approx(1)
    assert sum(card["density_log10"]["counts"]) == card["n_latents"] - round(card["dead_share"] * card["n_latents"])
    rows = torch.nn.functional.normalize(sae.W_dec.detach(), dim=1)
    cosines = rows[:50] @ rows.T
    cosines[torch.arange(50), torch.arange(50)] = -1
    assert float(cosines.max()) <= card["nearest_cosine"]["1.0"] + 1e-4
    assert abs(float(cosines.max(dim=1).values.median()) - card["nearest_cosine"]["0.5"]) < 0.1
    assert (card["shared"].keys() == set()) == (not name.startswith("middle-1152"))
