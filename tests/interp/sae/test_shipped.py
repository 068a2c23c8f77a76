"""SAEs that are opened by name: in a folder of the test's own, so that it needs no weights that ship."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
import torch

from mi_course import cli
from mi_course.errors import UnknownName
from mi_course.interp import shipped_saes
from mi_course.interp.models.small import small_model
from mi_course.interp.sae import (
    SAEConfig,
    build_feature_index,
    load_shipped,
    save_sae,
    shipped_card,
    shipped_names,
)
from mi_course.interp.sae.base import SAE

HOOK = "blocks.1.hook_resid_post"
CARD = {
    "hook": HOOK,
    "target": None,
    "n_latents": 24,
    "explained_variance": 0.812,
    "loss": {"books": {"rise": 0.1, "tokens": 100}, "code": {"rise": 0.2, "tokens": 300}},
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """data/saes with two SAEs, the second with a feature index."""
    monkeypatch.setattr(shipped_saes, "data_dir", lambda: tmp_path)
    for seed, name in enumerate(("middle", "early")):
        sae = SAE.build(SAEConfig(d_in=12, n_latents=24, architecture="topk", k=3, seed=seed))
        save_sae(sae, tmp_path / "saes" / name, hook_name=HOOK, model_name="small", dtype=torch.float16)
        card = {**CARD, "l0": 3.0 + seed}
        (tmp_path / "saes" / name / "evaluation.json").write_text(json.dumps(card))
    (tmp_path / "saes" / "notes").mkdir()
    return tmp_path / "saes"


@pytest.fixture(scope="module")
def model():
    shape = {"n_layers": 2, "n_heads": 2, "d_model": 12, "d_head": 6, "d_mlp": 16, "d_vocab": 30, "n_ctx": 16}
    return small_model(shape, seed=0)


def test_names_weights_and_cards(folder):
    assert shipped_names() == ["early", "middle"]
    sae = load_shipped("early")
    assert sae.W_dec.dtype == torch.float32
    assert sae.about["hook_name"] == HOOK
    assert torch.equal(sae.W_dec, SAE.build(SAEConfig(d_in=12, n_latents=24, k=3, seed=1)).W_dec.half().float())
    assert shipped_card("middle")["l0"] == 3


def test_models_list_shows_them(folder, capsys):
    cli.app(["models", "list"], standalone_mode=False)
    lines = capsys.readouterr().out.splitlines()
    assert re.search(r"^middle +blocks\.1\.hook_resid_post +24 +3\.0 +81\.2% +0\.175 nats$", lines[-1])
    assert re.search(r"^early +blocks\.1\.hook_resid_post +24 +4\.0", lines[-2])


def test_they_are_listed_without_torch():
    """It takes a second to import, and the list needs none of it."""
    code = (
        "import sys; from mi_course import cli; cli.app(['models', 'list'], standalone_mode=False);"
        "print([m for m in ('torch', 'transformer_lens', 'numpy', 'transformers') if m in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.splitlines()[-1] == "[]"


def test_the_index_comes_with_the_model(folder, model):
    tokens = torch.randint(1, 30, (8, 12), generator=torch.Generator().manual_seed(0))
    sae = load_shipped("early")
    features = build_feature_index(sae, model, tokens, HOOK, progress=False)
    features.save(folder / "early", texts=folder / "texts.safetensors")
    assert not hasattr(load_shipped("early"), "feature_index")
    again = load_shipped("early", model=model)
    assert again.feature_index.n_latents == 24
    assert again.feature_index.page(again, 3)["latent"] == 3
    assert not hasattr(load_shipped("middle", model=model), "feature_index")


def test_an_unknown_name_gets_those_that_there_are(folder, monkeypatch, tmp_path):
    with pytest.raises(UnknownName, match="'late' is not an SAE of this course; there are early, mid"):
        load_shipped("late")
    with pytest.raises(UnknownName, match=r"'\.\./early'"):
        shipped_card("../early")
    monkeypatch.setattr(shipped_saes, "data_dir", lambda: tmp_path / "elsewhere")
    assert shipped_names() == []
    with pytest.raises(UnknownName, match="there are none in"):
        load_shipped("early")
