"""Training sparse autoencoders side by side: ours, SAELens and dictionary_learning.

    python tests/benchmarks/sae.py                          every architecture, at 512/4096 and at 576/4608
    python tests/benchmarks/sae.py --only topk --shape 512  one architecture, one shape (about two minutes)
    python tests/benchmarks/sae.py --envs DIR               where the two environments are made and kept
    python tests/benchmarks/sae.py --device cuda --here     on a GPU, against SAELens in this Python (two minutes)
    python tests/benchmarks/sae.py --quick --here           the GPU's comparison at a tiny size, to see that it runs

Each library runs in a process and an environment of its own, made here on first use. All see the same batches of 4096
activations of a planted dictionary (mean norm √d, float32), in the same order, with the same learning rate and
coefficients, for the same number of steps, on two threads. They take turns of a few steps, so that other load on the
machine affects all alike; a turn's first step is not counted. Printed are activations per second (the median over
turns), the loss of the trained weights on held-out activations, computed here by one formula for all, and the memory
that training took beside the data.

On a GPU, 576 and 2,048 dimensions have 16,384 latents each. The activations lie on the GPU, where every worker makes
the same ones, and each library has one process for all comparisons. SAELens runs TopK as it comes, with dense
activations, and with sparse ones; these it can train only without weighing latents by their decoder norms. Matrices are
multiplied in float32, and then in TF32. The memory is the most that tensors took at once, those of the data apart. No
targets are set.
"""

from __future__ import annotations

import argparse
import functools
import gc
import importlib
import importlib.metadata
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

THREADS, BATCH, K = 2, 4096, 32
SHAPES = {512: 4096, 576: 4608}
L1, GATED_L1, L0, TARGET_L0, TARGET_WEIGHT, BANDWIDTH = 1.0, 3.0, 0.5, 64.0, 1.0, 0.05
THRESHOLD = 0.1  # where JumpReLU's thresholds start; dictionary_learning has its own
STEPS_A_TURN, BATCHES_IN_MEMORY = 5, 16
MEMORY_TARGET = 1.5  # GB beside the data
LOSS_TOLERANCE = 1.005  # what counts as equal


@dataclass(frozen=True)
class Size:
    """How much work there is on a GPU."""

    shapes: dict[int, int]
    """d_in, and the number of latents."""
    batch: int
    batches: int
    """Batches that the GPU holds; they are used again after the last."""
    turns: int
    steps_a_turn: int


GPU = Size(shapes={576: 16384, 2048: 16384}, batch=BATCH, batches=64, turns=6, steps_a_turn=30)
QUICK = Size(shapes={64: 2048, 96: 1024}, batch=256, batches=8, turns=3, steps_a_turn=4)  # one with grouped top-k
PRECISIONS = {"float32": "highest", "TF32": "high"}  # torch.set_float32_matmul_precision
GPU_PEERS = {"topk": ("saelens", "saelens_sparse"), "jumprelu": ("saelens",)}

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
    parser.add_argument(
        "--shape", type=int, help=f"one width of activations: {_or(SHAPES)}; on a GPU {_or(GPU.shapes)}"
    )
    parser.add_argument("--turns", type=int, help=f"turns of {STEPS_A_TURN} steps; fewer than usual for a quick look")
    parser.add_argument("--envs", type=Path, default=_cache() / "benchmark-envs", help="folder of the environments")
    parser.add_argument("--device", default="cpu", help="'cuda' for the comparison on a GPU; default: cpu")
    parser.add_argument("--here", action="store_true", help="this Python has SAELens: make no environment for it")
    parser.add_argument("--quick", action="store_true", help="the GPU's comparison at a tiny size, on any device")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return work()
    on_gpu = arguments.device != "cpu" or arguments.quick
    size = QUICK if arguments.quick else GPU
    known = size.shapes if on_gpu else SHAPES
    if arguments.shape not in (None, *known):
        parser.error(f"--shape {arguments.shape}: expected {_or(known)}")
    if arguments.only and on_gpu and arguments.only not in GPU_PEERS:
        parser.error(f"--only {arguments.only}: on a GPU, {_or(GPU_PEERS)}")
    peers = ["saelens"] if on_gpu else list(PACKAGES)
    here = Path(sys.executable)
    pythons = {"ours": here, **{name: here if arguments.here else environment(arguments.envs, name) for name in peers}}
    if on_gpu:
        shapes = [arguments.shape] if arguments.shape else list(size.shapes)
        return compare_on_gpu(arguments.device, size, shapes, arguments.only, arguments.turns or size.turns, pythons)
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
    workers = {library: Worker(pythons[library], library) for library in libraries}
    job = {"name": name, "d": d, "latents": SHAPES[d], "batch": BATCH, "device": "cpu", "data": str(data)}
    results = take_turns(workers, job | {"turns": turns, "steps_a_turn": STEPS_A_TURN}, data.parent)
    for worker in workers.values():
        worker.end()
    x = _load(data)["held_out"]
    losses = {library: held_out(name, _load(result["weights"]), x) for library, result in results.items()}
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


def compare_on_gpu(
    device: str, size: Size, shapes: list[int], only: str | None, turns: int, pythons: dict[str, Path]
) -> None:
    """Every comparison on a GPU, with a line for each library. All of a GPU's peers are SAELens."""
    import torch

    names = [only] if only else list(GPU_PEERS)
    libraries = dict.fromkeys(["ours", *(peer for name in names for peer in GPU_PEERS[name])])
    workers = {library: Worker(pythons[library.split("_")[0]], library) for library in libraries}
    folder = Path(tempfile.mkdtemp(prefix="sae-benchmark-"))
    chip = torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else "no GPU: a trial run"
    print(f"{chip} · torch {torch.__version__} · SAELens {workers['saelens'].version}", flush=True)
    for d in shapes:
        x = planted_batches(d, 1, size.batch, device)[0]  # the first batch is held out
        x *= _factor(x)
        for name in names:
            for precision in PRECISIONS:
                job = {"name": name, "d": d, "latents": size.shapes[d], "batch": size.batch, "batches": size.batches}
                job |= {"device": device, "precision": precision, "turns": turns, "steps_a_turn": size.steps_a_turn}
                taking = {library: workers[library] for library in ("ours", *GPU_PEERS[name])}
                results = take_turns(taking, job, folder)
                print(
                    f"\n{name} · d_in {d} · {size.shapes[d]} latents · batch {size.batch} · "
                    f"{turns * size.steps_a_turn} steps · products in {precision}"
                )
                for library, result in results.items():
                    loss, parts = held_out(name, _load(result["weights"], device), x, library != "saelens_sparse")
                    ratio = results["ours"]["rate"] / result["rate"]
                    print(
                        f"  {library:20} {result['rate']:11,.0f} activations/s · {result['rate'] / size.batch:7.1f} "
                        f"steps/s · loss {loss:9.3f} ({parts}) · memory {result['memory']:.2f} GB"
                        + ("" if library == "ours" else f" · ours {ratio:5.2f} times as fast"),
                        flush=True,
                    )
                if len({result["data"] for result in results.values()}) > 1:
                    print(f"  not the same data: {[result['data'] for result in results.values()]}", flush=True)
    for worker in workers.values():
        worker.end()
    shutil.rmtree(folder)


def take_turns(workers: dict[str, Worker], job: dict, folder: Path) -> dict[str, dict]:
    """One job in every library, a turn at a time. Returns rate, memory and the file of weights of each."""
    for library, worker in workers.items():
        worker.start(job | {"weights": str(folder / f"weights-{library}.safetensors")})
    for _ in range(job["turns"]):
        for worker in workers.values():
            worker.turn()
    return {library: worker.finish() for library, worker in workers.items()}


class Worker:
    """A library in its own process, which waits during the turns of the others."""

    def __init__(self, python: Path, library: str) -> None:
        self.library = library
        environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS), "MKL_NUM_THREADS": str(THREADS)}
        environment |= {"WANDB_MODE": "disabled", "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
        self.process = subprocess.Popen(
            [python, __file__, "--worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        self._say({"word": "open", "library": library})

    @functools.cached_property
    def version(self) -> str:
        """That of the library. Waits until it has been imported."""
        return self._answer()["version"]

    def start(self, job: dict) -> None:
        assert self.version
        self.job, self.seconds = job, []
        self.data = self._ask({"word": "start", **job})["data"]

    def turn(self) -> None:
        self.seconds.append(self._ask({"word": "turn"})["seconds"])

    def finish(self) -> dict:
        memory = self._ask({"word": "finish"})["memory"]
        counted = (self.job["steps_a_turn"] - 1) * self.job["batch"]
        rate = counted / statistics.median(self.seconds)
        return {"rate": rate, "memory": memory, "weights": self.job["weights"], "data": self.data}

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait()

    def _ask(self, message: dict) -> dict:
        self._say(message)
        return self._answer()

    def _say(self, message: dict) -> None:
        print(json.dumps(message), file=self.process.stdin, flush=True)

    def _answer(self) -> dict:
        for line in self.process.stdout:
            if line.startswith("{"):  # libraries print too
                return json.loads(line)
        raise SystemExit(f"The worker of {self.library} ended with {self.process.wait()}; its message is above.")


def held_out(name: str, w: dict, x, weighed: bool = True) -> tuple[float, str]:
    """The objective on held-out activations, and its parts as text; free decoder norms are folded into the latents.

    weighed: TopK keeps the largest after that, not before.
    """
    import torch

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
        where = (pre * norms if weighed else pre).topk(K).indices
        f = torch.zeros_like(pre).scatter(1, where, (pre * norms).gather(1, where).relu())
    else:
        values, where = (pre * norms).flatten().topk(K * len(x))
        f = torch.zeros_like(pre).flatten().scatter(0, where, values.relu()).view_as(pre)
    error = float((f @ W_dec + w["b_dec"] - x).square().sum(dim=1).mean())
    variance = float((x - x.mean(dim=0)).square().sum(dim=1).mean())
    words = f"error {error:.2f}, explained {1 - error / variance:.4f}, L0 {float((f != 0).sum() / len(x)):.1f}"
    return error + penalty, words


def planted(folder: Path, d: int) -> Path:
    """A file of planted activations, for training and held out."""
    import torch
    from safetensors.torch import save_file

    path = folder / f"planted-{d}.safetensors"
    if path.exists():
        return path
    x = torch.cat(planted_batches(d, BATCHES_IN_MEMORY + 1, BATCH, "cpu"))
    x *= _factor(x)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"train": x[:-BATCH].contiguous(), "held_out": x[-BATCH:].contiguous()}, path)
    return path


def planted_batches(d: int, count: int, batch: int, device: str) -> list:
    """Sparse sums of 4 d unit vectors, noise, an offset. The same on every call; other numbers on other devices."""
    import torch

    generator = torch.Generator(device).manual_seed(d)
    common = {"generator": generator, "device": device}
    dictionary = torch.nn.functional.normalize(torch.randn(4 * d, d, **common), dim=1)
    offset = torch.randn(d, **common) / d**0.5
    frequency = torch.logspace(-1.0, -3.0, 4 * d, device=device)  # of each: one row in ten to one in a thousand
    rows = []
    for _ in range(count):
        present = torch.rand(batch, 4 * d, **common) < frequency
        strength = torch.rand(batch, 4 * d, **common) + 0.5
        noise = 0.3 / d**0.5 * torch.randn(batch, d, **common)
        rows.append((present * strength) @ dictionary + noise + offset)
    return rows


def _factor(x) -> float:
    """What makes the mean norm √d."""
    return float(x.shape[1] ** 0.5 / x.norm(dim=1).mean())


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


def _load(path: str | Path, device: str = "cpu") -> dict:
    from safetensors.torch import load_file

    return load_file(path, device=device)


def _or(names) -> str:
    return " or ".join(map(str, names))


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mi-course"


# ---------------------------------------------------------------------------------------------------------------------
# A worker: one library. Nothing of ours is imported unless it is ours.


def work() -> None:
    """Take messages, a line each: "open" a library, "start" a job; a "turn" of steps; "finish" saves the weights."""
    import torch

    torch.set_num_threads(THREADS)
    library = json.loads(sys.stdin.readline())["library"]
    prepare = {
        "ours": ours,
        "saelens": saelens,
        "saelens_sparse": saelens,
        "dictionary_learning": dictionary_learning,
    }[library]
    _say({"version": _version(library)})
    for line in sys.stdin:
        job = json.loads(line)
        if job["device"] != "cpu" or "data" not in job:
            torch.set_float32_matmul_precision(PRECISIONS[job["precision"]])
        run_job(job | {"sparse": library == "saelens_sparse"}, prepare)
        gc.collect()


def run_job(job: dict, prepare) -> None:
    """From "start" to "finish"."""
    import torch
    from safetensors.torch import save_file

    if "data" in job:
        batches = list(_load(job["data"])["train"].clone().split(job["batch"]))
    else:
        first, *batches = planted_batches(job["d"], job["batches"] + 1, job["batch"], job["device"])
        factor = _factor(first)
        batches = [x.mul_(factor) for x in batches]
    cuda = torch.device(job["device"]).type == "cuda"
    if cuda:
        before = memory_on_gpu(reset=True)
    step, weights = prepare(job | {"steps": job["turns"] * job["steps_a_turn"]}, batches)
    if not cuda:
        before = memory_now()
    done = 0
    _say({"data": round(sum(float(x.double().abs().mean()) for x in batches), 6)})
    for line in sys.stdin:
        if json.loads(line)["word"] == "finish":
            break
        for index in range(job["steps_a_turn"]):
            if index == 1:
                start = _now(cuda)
            step(batches[done % len(batches)])
            done += 1
        _say({"seconds": _now(cuda) - start})
    memory = ((memory_on_gpu() if cuda else memory_peak()) - before) / 1e9
    save_file({name: tensor.detach().float().contiguous() for name, tensor in weights().items()}, job["weights"])
    _say({"memory": memory})


def _now(cuda: bool) -> float:
    """Seconds, when all work so far is done."""
    if cuda:
        import torch

        torch.cuda.synchronize()
    return time.perf_counter()


def _say(message: dict) -> None:
    print(json.dumps(message), flush=True)


def _version(library: str) -> str:
    """Imports the library. Returns its version."""
    if library == "ours":
        import mi_course.interp.sae

        return mi_course.__version__
    module = "dictionary_learning" if library == "dictionary_learning" else "sae_lens"
    importlib.import_module(module)
    return importlib.metadata.version(module.replace("_", "-"))


def memory_on_gpu(reset: bool = False) -> int:
    """The most bytes that tensors took on the GPU at once, since the last reset."""
    import torch

    torch.cuda.synchronize()
    if reset:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return torch.cuda.max_memory_allocated()


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
        n_latents=job["latents"],
        steps=job["steps"],
        lr=ARCHITECTURES[job["name"]]["lr"],
        normalize=False,
        clip=1.0,
        dead_window=1000 * job["batch"],
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

    common = {"d_in": job["d"], "d_sae": job["latents"], "dtype": "float32", "device": job["device"]}
    common |= {"normalize_activations": "none", "apply_b_dec_to_input": True}
    sae = {
        "relu": lambda: saes.StandardTrainingSAE(saes.StandardTrainingSAEConfig(l1_coefficient=L1, **common)),
        "topk": lambda: saes.TopKTrainingSAE(
            saes.TopKTrainingSAEConfig(
                k=K,
                use_sparse_activations=job["sparse"],
                rescale_acts_by_decoder_norm=not job["sparse"],  # together they have no gradient
                **common,
            )
        ),
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
    samples = {"total_training_samples": job["steps"] * job["batch"], "train_batch_size_samples": job["batch"]}
    config = SAETrainerConfig(**samples, lr=lr, lr_end=lr, device=job["device"])
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

    common = {"steps": job["steps"], "activation_dim": job["d"], "dict_size": job["latents"], "layer": 0}
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
