"""Files of SAELens and dictionary_learning: what the real libraries wrote is read, and anything else refused by name.

`fixtures/` was written by the libraries themselves, with `tests/benchmarks/sae_files.py --fixtures`; each holds an
input and what the library computed from it.
"""

from __future__ import annotations

import json
import pickle
import random
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mi_course.interp.sae import SAE, FileError, SAEConfig, load_sae, save_sae

FIXTURES = Path(__file__).parent / "fixtures"
SAELENS = sorted(path.name for path in (FIXTURES / "saelens").iterdir())
DICTIONARY_LEARNING = sorted(path.name for path in (FIXTURES / "dictionary_learning").iterdir())
ARCHITECTURES = {
    "standard": "relu",
    "standard_plain_input": "relu",
    "topk": "topk",
    "topk_rescaled": "topk",
    "jumprelu": "jumprelu",
    "gated": "gated",
    "batchtopk": "jumprelu",
    "transcoder": "relu",
    "jumprelu_transcoder": "jumprelu",
}


def check(sae: SAE, folder: Path, rescaled: bool = False) -> None:
    """The same activations and outputs as the library's own, which fire and differ from zero."""
    expected = load_file(folder / "expected.safetensors")
    f = sae.encode(expected["x"])
    assert (f - expected["f"]).abs().max() < 1e-5
    assert (sae.decode(f) - expected["x_hat"]).abs().max() < 1e-5
    share = float((expected["f"] > 0).double().mean())
    assert 0.05 < share < 0.8
    assert not any(parameter.requires_grad for parameter in sae.parameters())


def test_every_architecture_has_its_fixture():
    assert set(SAELENS) == set(ARCHITECTURES)
    assert DICTIONARY_LEARNING == ["batch_topk", "gated", "jumprelu", "relu", "topk"]


@pytest.mark.parametrize("name", SAELENS)
def test_what_saelens_wrote_is_read(name):
    sae = load_sae(FIXTURES / "saelens" / name)
    check(sae, FIXTURES / "saelens" / name)
    assert sae.config.architecture == ARCHITECTURES[name]
    assert (sae.config.d_in, sae.config.n_latents) == (8, 16)
    assert sae.config.transcoder == ("transcoder" in name)
    assert sae.about["hook_name"] == "blocks.1.hook_resid_post"
    assert sae.about["model_name"] == "smollm2"


@pytest.mark.parametrize("name", DICTIONARY_LEARNING)
def test_what_dictionary_learning_wrote_is_read(name):
    folder = FIXTURES / "dictionary_learning" / name
    sae = load_sae(folder / "ae.pt")
    check(sae, folder)
    assert sae.config.architecture == name
    assert sae.about == {"lm_name": "smollm2", "layer": 1}


def drawn(architecture: str, d_out: int | None = None, dtype: torch.dtype = torch.float32) -> SAE:
    """One of ours with no weight at zero."""
    config = SAEConfig(d_in=8, n_latents=16, architecture=architecture, k=3, d_out=d_out)
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: (0.3 * torch.randn(tensor.shape, generator=generator)).to(dtype)
        for name, tensor in SAE.build(config).tensors().items()
    }
    if "threshold" in tensors:
        tensors["threshold"] = tensors["threshold"].abs()
    return SAE.from_tensors(config, tensors).requires_grad_(False)


@pytest.mark.parametrize("architecture", ["relu", "topk", "batch_topk", "matryoshka", "jumprelu", "gated"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_we_write_we_read(architecture, dtype, tmp_path):
    sae = drawn(architecture, dtype=dtype)
    again = load_sae(save_sae(sae, tmp_path / "sae", hook_name="blocks.3.hook_mlp_out", seen_tokens=10))
    x = torch.randn(40, 8, generator=torch.Generator().manual_seed(1)).to(dtype)
    assert torch.equal(sae.encode(x), again.encode(x))
    assert torch.equal(sae(x), again(x))
    assert again.config.architecture == ("jumprelu" if architecture in ("batch_topk", "matryoshka") else architecture)
    assert again.about["hook_name"] == "blocks.3.hook_mlp_out"
    assert again.about["seen_tokens"] == 10


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_files_may_be_half_as_large(dtype, tmp_path):
    """What is read back is what was rounded, in float32. SAELens reads the name of the dtype in cfg.json."""
    sae = SAE.build(SAEConfig(d_in=16, n_latents=256, architecture="batch_topk", k=3))
    again = load_sae(save_sae(sae, tmp_path / "half", dtype=dtype))
    save_sae(sae, tmp_path / "whole")
    sizes = [(tmp_path / name / "sae_weights.safetensors").stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.7 * sizes[1]
    assert json.loads((tmp_path / "half" / "cfg.json").read_text())["dtype"] == str(dtype).removeprefix("torch.")
    for name in ("W_enc", "W_dec", "b_enc", "b_dec"):
        assert torch.equal(getattr(again, name), getattr(sae, name).to(dtype).float())
        assert getattr(again, name).dtype == torch.float32
    with torch.no_grad():
        sae.b_dec[0] = 1e5
    with pytest.raises(OverflowError, match=r"b_dec has numbers up to 1e\+05, too large for torch\.float16"):
        save_sae(sae, tmp_path / "large", dtype=torch.float16)
    assert not (tmp_path / "large").exists()


@pytest.mark.parametrize("architecture", ["relu", "batch_topk", "jumprelu"])
def test_transcoders_cross_too(architecture, tmp_path):
    sae = drawn(architecture, d_out=5)
    again = load_sae(save_sae(sae, tmp_path))
    x = torch.randn(40, 8, generator=torch.Generator().manual_seed(1))
    assert again(x).shape == (40, 5)
    assert torch.equal(sae(x), again(x))


def test_what_saelens_has_no_form_for_is_refused(tmp_path):
    for architecture in ("topk", "gated"):
        with pytest.raises(ValueError, match=f"no transcoder of architecture '{architecture}'"):
            save_sae(drawn(architecture, d_out=5), tmp_path / "none")
    with pytest.raises(TypeError):
        save_sae(drawn("relu"), tmp_path / "none", about=object())
    assert not (tmp_path / "none").exists()


def test_a_configuration_from_before_saelens_6(tmp_path):
    """GPT-2's first public SAEs: everything side by side, and a scaling factor that says nothing."""
    folder = shutil.copytree(FIXTURES / "saelens" / "standard", tmp_path / "old")
    old = {"d_in": 8, "d_sae": 16, "hook_point": "blocks.8.hook_resid_pre", "activation_fn_str": "relu"}
    (folder / "cfg.json").write_text(json.dumps(old | {"model_name": "gpt2-small"}))
    tensors = load_file(folder / "sae_weights.safetensors")
    save_file(tensors | {"scaling_factor": torch.ones(16)}, folder / "sae_weights.safetensors")
    sae = load_sae(folder)
    check(sae, folder)
    assert sae.about == {"hook_name": "blocks.8.hook_resid_pre", "model_name": "gpt2-small"}
    (folder / "cfg.json").write_text(json.dumps(old | {"activation_fn_str": "tanh-relu"}))
    with pytest.raises(FileError, match="activation_fn 'tanh-relu', expected 'relu' or 'topk'"):
        load_sae(folder)


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(FIXTURES / "saelens" / "topk", tmp_path / "sae")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "temporal"}, "architecture 'temporal', expected one of standard, topk"),
        ({"architecture": ["topk"]}, r"architecture .*'topk'.*, expected one of"),
        ({"architecture": "gated"}, "expected W_dec, W_enc, b_dec, b_gate, b_mag, r_mag"),
        ({"d_sae": 32}, r"W_enc of shape \(8, 16\), expected \(8, 32\)"),
        ({"d_sae": 10**9}, r"expected \(8, 1000000000\)"),
        ({"d_in": "8"}, "d_in '8', expected a whole number"),
        ({"d_in": True}, "d_in 'True', expected a whole number"),
        ({"d_in": -8}, "d_in '-8'"),
        ({"d_sae": 10**400}, "expected a whole number"),
        ({"k": None}, "k 'None', expected a whole number"),
        ({"k": 17}, "k is 17"),
        ({"normalize_activations": "layer_norm"}, "normalize_activations 'layer_norm', expected 'none'"),
        ({"metadata": "none"}, "metadata 'none', expected an object"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(folder, change, message):
    cfg = json.loads((folder / "cfg.json").read_text())
    (folder / "cfg.json").write_text(json.dumps(cfg | change))
    with pytest.raises(FileError, match=message):
        load_sae(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not JSON"),
        ('{"d_in": 8,', "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[1]", "holds a list, expected an object"),
        ('{"x": "' + "y" * 1_100_000 + '"}', "1,100,009 bytes"),
    ],
    ids=["empty", "cut", "deep", "list", "long"],
)
def test_a_configuration_that_is_none_is_refused(folder, text, message):
    (folder / "cfg.json").write_text(text)
    with pytest.raises(FileError, match=message):
        load_sae(folder)


def test_weights_that_are_damaged_are_refused(folder, tmp_path):
    file = folder / "sae_weights.safetensors"
    whole = file.read_bytes()
    # Cut short, its header only, nothing, a header of 2⁶⁴ bytes, a pickle.
    for content in (whole[:-100], whole[:40], b"", b"\xff" * 8 + whole[8:], pickle.dumps({"W_enc": 1})):
        file.write_bytes(content)
        with pytest.raises(FileError, match="cannot be read as safetensors"):
            load_sae(folder)
    file.unlink()
    with pytest.raises(FileError, match=r"sae_weights\.safetensors is missing"):
        load_sae(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileError, match=r"cfg\.json cannot be read"):
        load_sae(tmp_path / "empty")
    with pytest.raises(FileError, match="is not a folder"):
        load_sae(tmp_path / "nothing")


def test_weights_that_are_no_numbers_are_refused(folder):
    file = folder / "sae_weights.safetensors"
    tensors = load_file(file)
    save_file(tensors | {"b_enc": torch.full((16,), torch.nan)}, file)
    with pytest.raises(FileError, match=r"b_enc of .* holds NaN or infinity"):
        load_sae(folder)
    save_file(tensors | {"b_enc": torch.ones(16, dtype=torch.int64)}, file)
    with pytest.raises(FileError, match=r"b_enc of .* holds torch\.int64, expected floats"):
        load_sae(folder)
    save_file(tensors | {"extra": torch.ones(3)}, file)
    with pytest.raises(FileError, match="extra"):
        load_sae(folder)
    save_file({name: tensor.bfloat16() for name, tensor in tensors.items()}, file)
    assert load_sae(folder).W_dec.dtype == torch.float32


@pytest.fixture
def ae(tmp_path):
    return shutil.copytree(FIXTURES / "dictionary_learning" / "topk", tmp_path / "topk") / "ae.pt"


def test_look_alikes_need_their_configuration(ae):
    config = ae.with_name("config.json")
    config.write_text('{"trainer": {"dict_class": "AutoEncoder"}}')
    with pytest.raises(FileError, match=r"tensors of AutoEncoderTopK, BatchTopKSAE; config\.json says 'AutoEncoder'"):
        load_sae(ae)
    config.write_text('{"trainer": 3}')
    with pytest.raises(FileError, match="trainer '3'"):
        load_sae(ae)
    config.unlink()
    with pytest.raises(FileError, match="may be one of AutoEncoderTopK, BatchTopKSAE"):
        load_sae(ae)
    relu = FIXTURES / "dictionary_learning" / "relu" / "ae.pt"
    shutil.copy(relu, ae)
    assert load_sae(ae).config.architecture == "relu", "the others are recognized by their tensors"


class Boom:
    """What a hostile pickle would run."""

    def __reduce__(self):
        return (open, ("/tmp/mi-course-was-here", "w"))


def test_hostile_and_damaged_pt_files_are_refused(ae):
    whole = ae.read_bytes()
    state = torch.load(ae, weights_only=True)
    ae.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileError, match=r"not an archive that torch\.save writes"):
        load_sae(ae)
    ae.write_bytes(pickle.dumps(Boom()))
    with pytest.raises(FileError, match=r"not an archive that torch\.save writes"):
        load_sae(ae)
    torch.save({"encoder.weight": Boom()}, ae)
    with pytest.raises(FileError, match=r"torch\.load\(weights_only=True\) refuses"):
        load_sae(ae)
    assert not Path("/tmp/mi-course-was-here").exists()

    with zipfile.ZipFile(ae, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 1_000_000)
    with pytest.raises(FileError, match="compressed entries"):
        load_sae(ae)

    huge = torch.zeros(1).expand(10**6, 10**6)
    torch.save(state | {"encoder.weight": huge}, ae)
    with pytest.raises(FileError, match="claims 1,000,000,000,000 numbers"):
        load_sae(ae)
    torch.save([1, 2], ae)
    with pytest.raises(FileError, match="holds a list"):
        load_sae(ae)
    torch.save({"encoder.weight": "text"}, ae)
    with pytest.raises(FileError, match="is a str, expected a plain tensor"):
        load_sae(ae)
    torch.save(state | {"encoder.weight": torch.zeros(16, 9)}, ae)
    with pytest.raises(FileError, match=r"W_enc of shape \(9, 16\), expected \(8, 16\)"):
        load_sae(ae)
    torch.save(state | {"k": torch.tensor(99)}, ae)
    with pytest.raises(FileError, match="k 99, more than its 16 latents"):
        load_sae(ae)
    torch.save({"weight": torch.zeros(3)}, ae)
    with pytest.raises(FileError, match="the tensors of none of AutoEncoder"):
        load_sae(ae)
    ae.unlink()
    with pytest.raises(FileError, match=r"ae\.pt is missing"):
        load_sae(ae)


@pytest.mark.parametrize("file", ["sae_weights.safetensors", "cfg.json", "ae.pt", "config.json"])
def test_whatever_happens_to_a_file_it_is_read_or_refused(file, tmp_path):
    """Bytes changed, cut off or put in between, by lot: no other error comes out."""
    lot = random.Random(0)
    library = "saelens" if file in ("sae_weights.safetensors", "cfg.json") else "dictionary_learning"
    folder = shutil.copytree(FIXTURES / library / "topk", tmp_path / "sae")
    whole = (folder / file).read_bytes()
    refused = []
    for _ in range(60):
        damaged, site = bytearray(whole), lot.randrange(len(whole))
        match lot.randrange(3):
            case 0:
                damaged[site] = lot.randrange(256)
            case 1:
                del damaged[site:]
            case 2:
                damaged[site:site] = lot.randbytes(lot.randrange(1, 20))
        (folder / file).write_bytes(damaged)
        try:
            load_sae(folder if library == "saelens" else folder / "ae.pt")
        except FileError as error:
            refused.append(str(error))
    assert len(refused) > 20
    assert all(str(folder) in message for message in refused)


@pytest.mark.parametrize("more", [{}, {"k": torch.tensor(4)}])
def test_a_topk_file_from_before_thresholds(tmp_path, more):
    state = {"encoder.weight": torch.randn(40, 16), "encoder.bias": torch.zeros(40)}
    state |= {"decoder.weight": torch.randn(16, 40), "b_dec": torch.zeros(16)}
    torch.save(state | more, tmp_path / "ae.pt")
    (tmp_path / "config.json").write_text(json.dumps({"trainer": {"dict_class": "AutoEncoderTopK", "k": 4}}))
    sae = load_sae(tmp_path / "ae.pt")
    assert (sae.config.architecture, sae.config.k) == ("topk", 4)
