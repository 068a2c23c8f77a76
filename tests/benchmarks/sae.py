"""Training sparse autoencoders side by side: ours, SAELens and dictionary_learning.

    python tests/benchmarks/sae.py                          every architecture, at 512/4096 and at 576/4608
    python tests/benchmarks/sae.py --only topk --shape 512  one architecture, one shape (about two minutes)
    python tests/benchmarks/sae.py --envs DIR               where the two environments are made and kept

Each library runs in a process and an environment of its own, made here on first use. All see the same batches of 4096
activations of a planted dictionary (mean norm √d, float32), in the same order, with the same learning rate and
coefficients, for the same number of steps, on two threads. They take turns of a few steps, so that other load on the
machine affects all alike; a turn's first step is not counted. Printed are activations per second (the median over
turns), the loss of the trained weights on held-out activations, computed here by one formula for all, and the memory
that training took beside the data.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

THREADS, BATCH, K = 2, 4096, 32
SHAPES = {512: 4096, 576: 4608}
L1, GATED_L1, L0, TARGET_L0, TARGET_WEIGHT, BANDWIDTH = 1.0, 3.0, 0.5, 64.0, 1.0, 0.05
THRESHOLD = 0.1  # where JumpReLU's thresholds start; dictionary_learning has its own
STEPS_A_TURN, BATCHES_IN_MEMORY = 5, 16
MEMORY_TARGET = 1.5  # GB beside the data
LOSS_TOLERANCE = 1.005  # what counts as equal

# What is compared with what: our settings, and each other library's name for the same objective.
ARCHITECTURES = {
    "relu": {
        "turns": 6,
        "lr": 4e-3,
        "ours": {"architecture": "relu", "l1": L1},
        "peers": ("saelens", "dictionary_learning"),
    },
    "topk": {
        "turns": 8,
        "lr": 1e-3,
        "ours": {"architecture": "topk", "k": K},
        "peers": ("saelens", "dictionary_learning"),
    },
    "batch_topk": {
        "turns": 6,
        "lr": 1e-3,
        "ours": {"architecture": "batch_topk", "k": K},
        "peers": ("saelens", "dictionary_learning"),
    },
    "jumprelu": {  # the step penalty of the paper
        "turns": 6,
        "lr": 4e-3,
        "ours": {"architecture": "jumprelu", "l0": L0, "bandwidth": BANDWIDTH, "threshold_init": THRESHOLD},
        "peers": ("saelens",),
    },
    "jumprelu_target": {  # dictionary_learning's penalty, (L0 / target − 1)²
        "turns": 6,
        "lr": 4e-3,
        "ours": {
            "architecture": "jumprelu",
            "l0": TARGET_WEIGHT,
            "target_l0": TARGET_L0,
            "bandwidth": BANDWIDTH,
            "threshold_init": THRESHOLD,
            "subtract_decoder_bias": False,
            "betas": (0.0, 0.999),  # as dictionary_learning has them
        },
        "peers": ("dictionary_learning",),
    },
    "gated": {
        "turns": 5,
        "lr": 1e-3,
        "ours": {"architecture": "gated", "l1": GATED_L1},
        "peers": ("saelens", "dictionary_learning"),
    },
}
TARGETS = {"topk": {"saelens": 3.0, "dictionary_learning": 2.2}}  # elsewhere 1.2 times the faster of the two
PACKAGES = {"saelens": "sae-lens>=6.54.12,<6.55", "dictionary_learning": "dictionary-learning==0.1.0"}


# ---------------------------------------------------------------------------------------------------------------------
# The parent: data, environments, turns, tables


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", choices=list(ARCHITECTURES), help="one architecture")
    parser.add_argument("--shape", type=int, choices=list(SHAPES), help="one width of activations")
    parser.add_argument("--turns", type=int, help=f"turns of {STEPS_A_TURN} steps; fewer than usual for a quick look")
    parser.add_argument("--envs", type=Path, default=_cache() / "benchmark-envs", help="folder of the environments")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return work(json.loads(arguments.worker))
    pythons = {"ours": Path(sys.executable), **{name: environment(arguments.envs, name) for name in PACKAGES}}
    missed = []
    for d in [arguments.shape] if arguments.shape else SHAPES:
        data = planted(arguments.envs, d)
        for name in [arguments.only] if arguments.only else ARCHITECTURES:
            missed += compare(name, d, data, pythons, arguments.turns or ARCHITECTURES[name]["turns"])
    if missed:
        raise SystemExit("missed: " + "; ".join(missed))
    print("all targets met")


def compare(name: str, d: int, data: Path, pythons: dict[str, Path], turns: int) -> list[str]:
    """One architecture at one shape. Prints a line for each library, returns the targets that were missed."""
    libraries = ("ours", *ARCHITECTURES[name]["peers"])
    load = os.getloadavg()[0]
    workers = {library: Worker(pythons[library], library, name, d, data, turns) for library in libraries}
    for _ in range(turns):
        for worker in workers.values():
            worker.turn()
    results = {library: worker.finish() for library, worker in workers.items()}
    losses = {library: held_out(name, result["weights"], data) for library, result in results.items()}
    mine = results["ours"]["rate"]
    print(f"\n{name} · d_in {d} · {SHAPES[d]} latents · batch {BATCH} · {turns * STEPS_A_TURN} steps · load {load:.1f}")
    for library in libraries:
        loss, parts = losses[library]
        ratio = "" if library == "ours" else f" · ours {mine / results[library]['rate']:5.2f} times as fast"
        print(
            f"  {library:20} {results[library]['rate']:9,.0f} activations/s · loss {loss:9.3f} ({parts}) · "
            f"memory {results[library]['memory']:.2f} GB{ratio}",
            flush=True,
        )
    missed = []
    for library in libraries[1:]:
        least = TARGETS.get(name, {}).get(library, 1.2)
        if mine < least * results[library]["rate"]:
            missed.append(f"{name} at {d}: {mine / results[library]['rate']:.2f} times {library}, target {least}")
        if losses["ours"][0] > LOSS_TOLERANCE * losses[library][0]:
            missed.append(f"{name} at {d}: loss {losses['ours'][0]:.3f}, {library} {losses[library][0]:.3f}")
    if results["ours"]["memory"] > MEMORY_TARGET:
        missed.append(f"{name} at {d}: {results['ours']['memory']:.2f} GB, target {MEMORY_TARGET}")
    print("  " + ("missed: " + "; ".join(missed) if missed else "targets met"), flush=True)
    return missed


class Worker:
    """A library in its own process, which waits during the turns of the others."""

    def __init__(self, python: Path, library: str, name: str, d: int, data: Path, turns: int) -> None:
        self.weights = data.parent / f"weights-{library}.safetensors"
        job = {"library": library, "name": name, "d": d, "data": str(data), "weights": str(self.weights)}
        job["steps"] = turns * STEPS_A_TURN
        environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS), "MKL_NUM_THREADS": str(THREADS)}
        environment |= {"WANDB_MODE": "disabled", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
        self.process = subprocess.Popen(
            [python, __file__, "--worker", json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        self.seconds: list[float] = []
        self._answer()

    def turn(self) -> None:
        self.seconds.append(self._ask("turn")["seconds"])

    def finish(self) -> dict:
        memory = self._ask("finish")["memory"]
        self.process.stdin.close()
        self.process.wait()
        counted = (STEPS_A_TURN - 1) * BATCH
        return {"rate": counted / statistics.median(self.seconds), "memory": memory, "weights": self.weights}

    def _ask(self, word: str) -> dict:
        print(word, file=self.process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict:
        for line in self.process.stdout:
            if line.startswith("{"):  # libraries print too
                return json.loads(line)
        raise SystemExit(f"{self.process.args[0]} ended with {self.process.wait()}; its message is above.")


def held_out(name: str, weights: Path, data: Path) -> tuple[float, str]:
    """The objective on held-out activations, and its parts as text; free decoder norms are folded into the latents."""
    import torch
    from safetensors.torch import load_file

    x, w = load_file(data)["held_out"], load_file(weights)
    norms = w["W_dec"].norm(dim=1)
    W_dec = w["W_dec"] / norms[:, None]
    pre = (x - w["b_in"]) @ w["W_enc"] + w["b_enc"]
    penalty, words = 0.0, ""
    if name == "relu":
        f = pre.relu() * norms
        penalty = L1 * float(f.sum(dim=1).mean())
    elif name == "gated":
        gate = pre.relu() * norms
        f = (pre > 0) * ((pre - w["b_enc"]) * w["r_mag"].exp() + w["b_mag"]).relu() * norms
        auxiliary = float((gate @ W_dec + w["b_dec"] - x).square().sum(dim=1).mean())
        penalty = GATED_L1 * float(gate.sum(dim=1).mean()) + auxiliary
    elif name.startswith("jumprelu"):
        f = pre * (pre > w["threshold"]) * norms
        l0 = float((f != 0).sum(dim=1).float().mean())
        penalty = TARGET_WEIGHT * (l0 / TARGET_L0 - 1) ** 2 if name.endswith("target") else L0 * l0
    elif name == "topk":
        values, where = (pre * norms).topk(K)
        f = torch.zeros_like(pre).scatter(1, where, values.relu())
    else:
        values, where = (pre * norms).flatten().topk(K * len(x))
        f = torch.zeros(pre.numel()).scatter(0, where, values.relu()).view_as(pre)
    error = float((f @ W_dec + w["b_dec"] - x).square().sum(dim=1).mean())
    variance = float((x - x.mean(dim=0)).square().sum(dim=1).mean())
    words = f"error {error:.2f}, explained {1 - error / variance:.4f}, L0 {float((f != 0).sum() / len(x)):.1f}"
    return error + penalty, words


def planted(folder: Path, d: int) -> Path:
    """A file of activations: sparse sums of 2 d unit vectors, noise, an offset; scaled to mean norm √d."""
    import torch
    from safetensors.torch import save_file

    path = folder / f"planted-{d}.safetensors"
    if path.exists():
        return path
    generator = torch.Generator().manual_seed(d)
    dictionary = torch.nn.functional.normalize(torch.randn(4 * d, d, generator=generator), dim=1)
    offset = torch.randn(d, generator=generator) / d**0.5
    frequency = torch.logspace(-1.0, -3.0, 4 * d)  # how often each is present: one in ten to one in a thousand
    rows = []
    for _ in range(BATCHES_IN_MEMORY + 1):
        present = torch.rand(BATCH, 4 * d, generator=generator) < frequency
        strength = torch.rand(BATCH, 4 * d, generator=generator) + 0.5
        noise = 0.3 / d**0.5 * torch.randn(BATCH, d, generator=generator)
        rows.append((present * strength) @ dictionary + noise + offset)
    x = torch.cat(rows)
    x *= d**0.5 / x.norm(dim=1).mean()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"train": x[:-BATCH].contiguous(), "held_out": x[-BATCH:].contiguous()}, path)
    return path


def environment(folder: Path, name: str) -> Path:
    """The Python of a library's environment, which is created on first use."""
    python = folder / name / "bin" / "python"
    done = folder / name / "complete"
    if not done.exists():
        print(f"creating the environment of {name} in {folder / name} …", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder / name], check=True)
        pins = folder / name / "pins.txt"
        pins.write_text("torch==2.13.0\n")
        for packages in (["torch==2.13.0"], ["-c", str(pins), PACKAGES[name]]):
            subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        # It comes with nnsight and may not fit a CPU build of torch; nothing here needs it.
        subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "--yes", "torchvision"], check=True)
        done.touch()
    return python


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mi-course"


# ---------------------------------------------------------------------------------------------------------------------
# A worker: one library. Nothing of ours is imported unless it is ours.


def work(job: dict) -> None:
    """Answer "turn" with the seconds of some steps, "finish" with weights and memory."""
    import torch
    from safetensors.torch import load_file, save_file

    torch.set_num_threads(THREADS)
    data = load_file(job["data"])["train"].clone()
    batches = list(data.split(BATCH))
    step, weights = {"ours": ours, "saelens": saelens, "dictionary_learning": dictionary_learning}[job["library"]](
        job, batches
    )
    before = memory_now()
    done = 0
    print(json.dumps({"ready": True}), flush=True)
    for word in sys.stdin:
        if word.strip() == "finish":
            break
        for index in range(STEPS_A_TURN):
            if index == 1:
                start = time.perf_counter()
            step(batches[done % len(batches)])
            done += 1
        print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)
    memory = (memory_peak() - before) / 1e9
    save_file({name: tensor.detach().float().contiguous() for name, tensor in weights().items()}, job["weights"])
    print(json.dumps({"memory": memory}), flush=True)


def memory_now() -> int:
    """Resident bytes. Resets the peak where the system allows it (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _status("VmRSS")
    except OSError:
        return memory_peak()


def memory_peak() -> int:
    try:
        return _status("VmHWM")
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def ours(job: dict, batches: list):
    from mi_course.interp.sae import SAEConfig, Trainer

    class Given:
        """The batches in order, as the others get them."""

        def __init__(self) -> None:
            self.index = -1  # the first batch also initializes b_dec, as in dictionary_learning

        def next_batch(self):
            self.index += 1
            return batches[max(0, self.index - 1) % len(batches)]

    config = SAEConfig(
        d_in=job["d"],
        n_latents=SHAPES[job["d"]],
        steps=job["steps"],
        lr=ARCHITECTURES[job["name"]]["lr"],
        normalize=False,
        clip=1.0,
        dead_window=1000 * BATCH,
        **ARCHITECTURES[job["name"]]["ours"],
    )
    trainer = Trainer(config, Given(), log_every=10**9)

    def weights() -> dict:
        named = trainer.sae.tensors()
        if job["name"] == "gated":
            named["b_enc"] = named.pop("b_gate")
        return named | {"b_in": named["b_dec"] * config.subtract_decoder_bias}

    return lambda _: trainer.step(), weights


def saelens(job: dict, batches: list):
    import sae_lens.saes as saes
    from sae_lens.config import SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    common = {"d_in": job["d"], "d_sae": SHAPES[job["d"]], "dtype": "float32", "device": "cpu"}
    common |= {"normalize_activations": "none", "apply_b_dec_to_input": True}
    sae = {
        "relu": lambda: saes.StandardTrainingSAE(saes.StandardTrainingSAEConfig(l1_coefficient=L1, **common)),
        "topk": lambda: saes.TopKTrainingSAE(saes.TopKTrainingSAEConfig(k=K, **common)),
        "batch_topk": lambda: saes.BatchTopKTrainingSAE(saes.BatchTopKTrainingSAEConfig(k=K, **common)),
        "jumprelu": lambda: saes.JumpReLUTrainingSAE(
            saes.JumpReLUTrainingSAEConfig(
                l0_coefficient=L0,
                jumprelu_bandwidth=BANDWIDTH,
                jumprelu_init_threshold=THRESHOLD,
                **common,
            )
        ),
        "gated": lambda: saes.GatedTrainingSAE(saes.GatedTrainingSAEConfig(l1_coefficient=GATED_L1, **common)),
    }[job["name"]]()
    lr = ARCHITECTURES[job["name"]]["lr"]
    config = SAETrainerConfig(
        total_training_samples=job["steps"] * BATCH, train_batch_size_samples=BATCH, lr=lr, lr_end=lr
    )
    trainer = SAETrainer(config, sae, iter(()))

    def step(x) -> None:
        trainer.step(x)
        trainer.n_training_steps += 1

    def weights() -> dict:
        named = dict(sae.state_dict())
        if job["name"] == "gated":
            named["b_enc"] = named.pop("b_gate")
        return {name: named[name] for name in named if name != "topk_threshold"} | {"b_in": named["b_dec"].clone()}

    return step, weights


def dictionary_learning(job: dict, batches: list):
    from dictionary_learning.trainers import batch_top_k, gdm, jumprelu, standard, top_k

    common = {"steps": job["steps"], "activation_dim": job["d"], "dict_size": SHAPES[job["d"]], "layer": 0}
    common |= {"lm_name": "none", "lr": ARCHITECTURES[job["name"]]["lr"], "warmup_steps": 0, "seed": 0, "device": "cpu"}
    penalized = common | {"sparsity_warmup_steps": None}
    trainer = {
        "relu": lambda: standard.StandardTrainerAprilUpdate(l1_penalty=L1, **penalized),
        "topk": lambda: top_k.TopKTrainer(k=K, **common),
        "batch_topk": lambda: batch_top_k.BatchTopKTrainer(k=K, **common),
        "jumprelu_target": lambda: jumprelu.JumpReluTrainer(
            bandwidth=BANDWIDTH, sparsity_penalty=TARGET_WEIGHT, target_l0=TARGET_L0, **penalized
        ),
        "gated": lambda: gdm.GatedSAETrainer(l1_penalty=GATED_L1, **penalized),
    }[job["name"]]()
    done = [0]

    def step(x) -> None:
        trainer.update(done[0], x)
        done[0] += 1

    def weights() -> dict:
        named = dict(trainer.ae.state_dict())
        if job["name"] == "jumprelu_target":
            return named | {"b_in": 0 * named["b_dec"]}
        encoder = {"W_enc": named["encoder.weight"].t(), "W_dec": named["decoder.weight"].t()}
        if job["name"] == "gated":
            bias = named["decoder_bias"]
            own = {"b_enc": named["gate_bias"], "r_mag": named["r_mag"], "b_mag": named["mag_bias"]}
            return encoder | own | {"b_dec": bias, "b_in": bias.clone()}
        bias = named["bias"] if job["name"] == "relu" else named["b_dec"]
        return encoder | {"b_enc": named["encoder.bias"], "b_dec": bias, "b_in": bias.clone()}

    return step, weights


if __name__ == "__main__":
    main()
