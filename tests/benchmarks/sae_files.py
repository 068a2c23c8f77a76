"""Our SAE files tested with the libraries that they are for: SAELens and dictionary_learning.

    python tests/benchmarks/sae_files.py                 write SAEs of every kind, load them in SAELens, compare
    python tests/benchmarks/sae_files.py --fixtures      let both libraries write the fixtures of tests/interp/sae/
    python tests/benchmarks/sae_files.py --envs DIR      where the two environments are (those of sae.py)

Neither library can be installed beside TransformerLens 4, so each runs in its own environment, created on first use.
A fixture is what the library saved (d_in 8, 16 latents, weights trained on nothing, biases and thresholds drawn at
random), with `expected.safetensors`: an input, and the activations and outputs that the library itself computes.
Exits non-zero when an output differs by more than 1e-5.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

BOUND = 1e-5
FIXTURES = Path(__file__).parents[1] / "interp" / "sae" / "fixtures"
D, F, D_OUT, ROWS = 8, 16, 6, 32


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--fixtures", action="store_true", help="write the fixtures again")
    parser.add_argument("--envs", type=Path, help="folder of the environments; by default that of sae.py")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        name, folder = arguments.worker.split(":", 1)
        WORKERS[name](Path(folder))
        return 0
    if arguments.fixtures:
        run("saelens", "saelens_fixtures", FIXTURES / "saelens", arguments.envs)
        run("dictionary_learning", "dictionary_learning_fixtures", FIXTURES / "dictionary_learning", arguments.envs)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        write_ours(Path(folder))
        run("saelens", "compare", Path(folder), arguments.envs)
        worst = json.loads((Path(folder) / "differences.json").read_text())
    for name, difference in worst.items():
        print(f"{name:24} largest difference in activations and outputs: {difference:.1e}")
    return 0 if max(worst.values()) <= BOUND else 1


def run(library: str, worker: str, folder: Path, envs: Path | None) -> None:
    """A worker of this file, in the library's own environment."""
    import sae

    python = sae.environment(envs or sae._cache() / "benchmark-envs", library)
    subprocess.run([python, __file__, "--worker", f"{worker}:{folder}"], check=True, env=_environment())


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "WANDB_MODE": "disabled", "HF_HUB_OFFLINE": "1"}


# ---------------------------------------------------------------------------------------------------------------------
# Ours


def write_ours(folder: Path) -> None:
    """One folder for each kind, with our own outputs beside."""
    import torch
    from safetensors.torch import save_file

    from mi_course.interp.sae import SAE, SAEConfig, save_sae

    kinds = {name: (name, None) for name in ("relu", "topk", "batch_topk", "jumprelu", "gated")}
    kinds |= {f"{name}_transcoder": (name, D_OUT) for name in ("relu", "jumprelu", "batch_topk")}
    for seed, (name, (architecture, d_out)) in enumerate(kinds.items()):
        sae = SAE.build(SAEConfig(d_in=D, n_latents=F, architecture=architecture, k=3, d_out=d_out, seed=seed))
        generator = torch.Generator().manual_seed(seed)
        tensors = sae.tensors()
        for key, tensor in tensors.items():
            drawn = 0.3 * torch.randn(tensor.shape, generator=generator)
            tensors[key] = drawn.abs() if key == "threshold" else drawn
        sae = SAE.from_tensors(sae.config, tensors)
        save_sae(sae, folder / name, hook_name="blocks.1.hook_resid_post", model_name="smollm2")
        x = torch.randn(ROWS, D, generator=generator)
        with torch.no_grad():
            f = sae.encode(x)
            save_file({"x": x, "f": f, "x_hat": sae.decode(f)}, folder / name / "expected.safetensors")


def compare(folder: Path) -> None:
    """In SAELens's environment: load each folder, and compare its activations and outputs with ours."""
    import torch
    from sae_lens import SAE
    from safetensors.torch import load_file

    worst = {}
    for path in sorted(path for path in folder.iterdir() if path.is_dir()):
        sae, ours = SAE.load_from_disk(path), load_file(path / "expected.safetensors")
        with torch.no_grad():
            f = sae.encode(ours["x"])
            x_hat = sae.decode(f)
        worst[path.name] = max(float((f - ours["f"]).abs().max()), float((x_hat - ours["x_hat"]).abs().max()))
    (folder / "differences.json").write_text(json.dumps(worst))


# ---------------------------------------------------------------------------------------------------------------------
# Theirs


def saelens_fixtures(folder: Path) -> None:
    """In SAELens' environment. TopK with and without rescaling; BatchTopK by way of its training class."""
    import sae_lens as lens
    import torch

    common = {"d_in": D, "d_sae": F, "apply_b_dec_to_input": True}
    made = {
        "standard": lens.StandardSAE(lens.StandardSAEConfig(**common)),
        "standard_plain_input": lens.StandardSAE(lens.StandardSAEConfig(**common | {"apply_b_dec_to_input": False})),
        "topk": lens.TopKSAE(lens.TopKSAEConfig(k=3, **common)),
        "topk_rescaled": lens.TopKSAE(lens.TopKSAEConfig(k=3, rescale_acts_by_decoder_norm=True, **common)),
        "jumprelu": lens.JumpReLUSAE(lens.JumpReLUSAEConfig(**common)),
        "gated": lens.GatedSAE(lens.GatedSAEConfig(**common)),
        "batchtopk": lens.BatchTopKTrainingSAE(lens.BatchTopKTrainingSAEConfig(k=3, **common)),
    }
    other = common | {"d_out": D_OUT, "apply_b_dec_to_input": False}
    made["transcoder"] = lens.Transcoder(lens.TranscoderConfig(**other))
    made["jumprelu_transcoder"] = lens.JumpReLUTranscoder(lens.JumpReLUTranscoderConfig(**other))
    for seed, (name, sae) in enumerate(made.items()):
        generator = torch.Generator().manual_seed(seed)
        _draw(sae, generator)
        sae.cfg.metadata.model_name = "smollm2"
        sae.cfg.metadata.hook_name = "blocks.1.hook_resid_post"
        path = folder / name
        if name == "batchtopk":
            sae.topk_threshold = torch.tensor(0.4, dtype=torch.double)
            sae.save_inference_model(path)
        else:
            sae.save_model(path)
        loaded = lens.SAE.load_from_disk(path)
        _expected(path, loaded, torch.randn(ROWS, D, generator=generator))


def dictionary_learning_fixtures(folder: Path) -> None:
    """In dictionary_learning's environment: ae.pt as its trainer saves it, and the config.json beside it."""
    import torch
    from dictionary_learning import dictionary
    from dictionary_learning.trainers import batch_top_k, top_k

    made = {
        "relu": dictionary.AutoEncoder(D, F),
        "gated": dictionary.GatedAutoEncoder(D, F),
        "jumprelu": dictionary.JumpReluAutoEncoder(D, F),
        "topk": top_k.AutoEncoderTopK(D, F, 3),
        "batch_topk": batch_top_k.BatchTopKSAE(D, F, 3),
    }
    for seed, (name, sae) in enumerate(made.items()):
        generator = torch.Generator().manual_seed(seed)
        _draw(sae, generator)
        if name in ("topk", "batch_topk"):
            sae.threshold.fill_(0.4)
        path = folder / name
        path.mkdir(parents=True, exist_ok=True)
        torch.save(sae.state_dict(), path / "ae.pt")  # as training.py does
        trainer = {"dict_class": type(sae).__name__, "lm_name": "smollm2", "layer": 1}
        (path / "config.json").write_text(json.dumps({"trainer": trainer}))
        _expected(path, sae, torch.randn(ROWS, D, generator=generator))


def _draw(sae, generator) -> None:
    import torch

    with torch.no_grad():
        for name, parameter in sae.named_parameters():
            drawn = 0.4 * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(drawn.abs() if "threshold" in name else drawn)


def _expected(path: Path, sae, x) -> None:
    import torch
    from safetensors.torch import save_file

    with torch.no_grad():
        f = sae.encode(x)
        tensors = {"x": x, "f": f, "x_hat": sae.decode(f)}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path / "expected.safetensors")
    for file in path.iterdir():
        file.chmod(0o644)


WORKERS = {
    "compare": compare,
    "saelens_fixtures": saelens_fixtures,
    "dictionary_learning_fixtures": dictionary_learning_fixtures,
}


if __name__ == "__main__":
    sys.exit(main())
