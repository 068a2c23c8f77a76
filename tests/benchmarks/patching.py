"""Patching sweeps of `transformer_lens.patching` and ours, side by side, on the same prompts of SmolLM2.

    python tests/benchmarks/patching.py            the batch with a shared beginning, then the one without
    python tests/benchmarks/patching.py --sample 20   TransformerLens on 20 patches only, its time scaled up
    python tests/benchmarks/patching.py --repeat 3

Eight prompts of fifteen tokens, float32, two threads. It checks that the values agree to 1e-4 in normalized units, and
prints seconds and ratios with the load of the machine, and at the end the peak memory. In full it takes some ten
minutes on two cores.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import resource
import time
from collections.abc import Callable

import torch

THREADS = 2
TEMPLATE = "When {A} and {B} went to the store, {S} gave a drink to"
PAIRS = [("Mary", "John"), ("Tom", "James"), ("Dan", "Sid"), ("Martin", "Amy")]
TARGETS = {("shared", "residual"): 15.0, ("shared", "heads"): 6.0, ("none", "residual"): 3.0, ("none", "heads"): 2.5}
TOLERANCE = 1e-4


def prompts(model, beginning: str):
    """Tokens of clean and corrupted prompts, and answers. "none": the word after BOS differs too."""
    from mi_course.interp.ioi import ioi_prompts
    from mi_course.interp.prompts import answer_tokens

    clean_texts, corrupted_texts, names = ioi_prompts(PAIRS, TEMPLATE)
    clean, corrupted = model.to_tokens(clean_texts), model.to_tokens(corrupted_texts)
    if beginning == "none":
        corrupted = corrupted.clone()
        generator = torch.Generator().manual_seed(0)
        corrupted[:, 1] = torch.randint(1000, 40000, (len(corrupted),), generator=generator)
    return clean, corrupted, answer_tokens(model, names)


def measure(model, beginning: str, what: str, sample: int | None) -> tuple[float, float, float]:
    """Seconds of TransformerLens, seconds of ours, and the largest difference in normalized units."""
    import pandas as pd
    from transformer_lens import patching

    from mi_course.interp.patching import logit_difference, sweep_heads, sweep_residual

    clean, corrupted, answers = prompts(model, beginning)
    metric = logit_difference(answers)
    with torch.no_grad():
        _, cache = model.run_with_cache(clean)
    ours, setter, name, sizes = {
        "residual": (sweep_residual, patching.layer_pos_patch_setter, "resid_pre", (30, corrupted.shape[1])),
        "heads": (sweep_heads, patching.layer_head_vector_patch_setter, "z", (30, 9)),
    }[what]
    cells = [(layer, column) for layer in range(sizes[0]) for column in range(sizes[1])]
    chosen = cells if sample is None else sorted(random.Random(0).sample(cells, sample))
    columns = ["layer", "pos" if what == "residual" else "head"]

    def theirs() -> torch.Tensor:
        with torch.no_grad(), contextlib.redirect_stderr(io.StringIO()):  # no progress bar
            return patching.generic_activation_patch(
                model,
                corrupted,
                cache,
                lambda logits: metric(logits[:, -1]).mean(),
                setter,
                name,
                index_df=pd.DataFrame(chosen, columns=columns),
            )

    ours(model, clean, corrupted, metric, layers=[29], progress=False)  # warm up; theirs has run for the cache
    mine, sweep = timed(lambda: ours(model, clean, corrupted, metric, progress=False))
    other, values = timed(theirs)
    whole = (sweep.after - sweep.before).mean()
    expected = (values - sweep.before.mean()) / whole
    ours_chosen = torch.stack([sweep.values[cell] for cell in chosen])
    return other * len(cells) / len(chosen), mine, float((ours_chosen - expected).abs().max())


def timed(function: Callable) -> tuple[float, object]:
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sample", type=int, help="patches that TransformerLens does; all by default")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--beginning", choices=["shared", "none"], help="one batch only")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)

    from transformer_lens import utilities  # noqa: F401  (its import is no part of the measurement)

    from mi_course import load_model

    model = load_model("smollm2")
    with torch.no_grad():
        model(torch.ones(8, 15, dtype=torch.long))  # page the weights in
    missed = []
    for _ in range(arguments.repeat):
        for (beginning, what), target in TARGETS.items():
            if arguments.beginning not in (None, beginning):
                continue
            load = os.getloadavg()[0]
            other, mine, difference = measure(model, beginning, what, arguments.sample)
            print(
                f"{what:8} · beginning {beginning:6} · TransformerLens {other:6.1f} s · ours {mine:5.1f} s · "
                f"ratio {other / mine:5.1f} (target {target}) · largest difference {difference:.1e} · load {load:.1f}",
                flush=True,
            )
            if other / mine < target or difference > TOLERANCE:
                missed.append((what, beginning))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory of the process {peak:.1f} GiB, {THREADS} threads, torch {torch.__version__}")
    if missed:
        raise SystemExit(f"missed: {missed}")


if __name__ == "__main__":
    main()
