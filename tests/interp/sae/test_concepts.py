"""Passages about concepts: AUROCs within a kind of text, what chance reaches, and peaks for any SAE."""

from __future__ import annotations

import pytest
import torch

from mi_course.errors import UnknownName
from mi_course.interp.sae import concepts
from mi_course.interp.sae.concepts import ConceptContexts, chance, context_activations, context_peaks, live


def _contexts(values, labels, kinds):
    n = len(kinds)
    return ConceptContexts(torch.zeros(n, 2), ("",) * n, tuple(kinds), {"it": torch.tensor(labels)}, values, {})


def test_the_area_is_taken_within_kinds():
    """The kind decides everything here; within a kind there are one right pair, and one tie."""
    values = torch.tensor([[9.0], [8.0], [8.0], [1.0], [1.0], [5.0]])
    contexts = _contexts(values, [1, 0, 0, 1, 0, -1], ["books"] * 3 + ["code"] * 3)
    assert contexts.areas("it").tolist() == [0.75]
    about, other = contexts.split("it", "code")
    assert about.tolist() == [[1.0]]
    assert other.tolist() == [[1.0]]
    assert len(contexts.split("it")[1]) == 3


def test_the_area_agrees_with_scikit_learn():
    from sklearn.metrics import roc_auc_score

    generator = torch.Generator().manual_seed(0)
    values = torch.randint(0, 5, (80, 6), generator=generator).float()
    labels = torch.randint(-1, 2, (80,), generator=generator).tolist()
    kinds = ["books", "code"] * 40
    areas = _contexts(values, labels, kinds).areas("it")
    for latent in range(6):
        each = []
        for kind in ("books", "code"):
            rows = [i for i in range(80) if kinds[i] == kind and labels[i] >= 0]
            each.append(roc_auc_score([labels[i] for i in rows], values[rows, latent]))
        assert float(areas[latent]) == pytest.approx(sum(each) / 2)


def test_unknown_names_are_named():
    contexts = _contexts(torch.zeros(2, 1), [1, 0], ["books"] * 2)
    with pytest.raises(UnknownName, match="there are it"):
        contexts.areas("that")
    with pytest.raises(UnknownName, match="no kind"):
        contexts.split("it", "verse")
    with pytest.raises(UnknownName, match="held out"):
        concepts.concept_contexts("test")


def test_chance_chooses_on_the_training_passages():
    train, held_out = torch.linspace(0, 1, 500), torch.linspace(1, 0, 500)
    controls = chance(train, held_out, torch.arange(500))
    assert len(controls) == concepts.CONTROLS
    assert float(controls.max()) < 0.5  # the best of twenty on the training passages is the worst elsewhere
    assert torch.equal(controls, chance(train, held_out, torch.arange(500)))


def test_only_live_latents_are_drawn():
    latents = torch.zeros(20, 3)
    latents[:5, 1] = 1.0
    latents[:4, 2] = 1.0
    assert live(latents).tolist() == [1]


def test_peaks_leave_out_the_first_token():
    from mi_course.interp.models.small import small_model
    from mi_course.interp.sae import SAEConfig, train

    model = small_model({"n_layers": 2, "d_model": 16, "n_heads": 2, "d_head": 8, "n_ctx": 12, "d_vocab": 30}, seed=0)
    tokens = torch.randint(1, 30, (3, 9), generator=torch.Generator().manual_seed(0))
    rows = torch.randn(200, 16, generator=torch.Generator().manual_seed(1))
    sae = train(SAEConfig(d_in=16, n_latents=24, k=4, steps=3, batch=32), rows)
    f = context_activations(model, sae, tokens, hook=1)
    assert f.shape == (3, 9, 24)
    assert not f[:, 0].any()
    assert torch.equal(context_peaks(model, sae, tokens, hook=1), f.amax(1))
    assert torch.equal(context_activations(model, sae, tokens, [3, 5], hook=1), f[..., [3, 5]])
    with pytest.raises(ValueError, match="hook=14"):
        context_peaks(model, sae, tokens)
