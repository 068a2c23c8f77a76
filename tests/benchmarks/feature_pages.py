"""How fast a feature page opens, with an SAE as large as the largest that ships: 9,216 latents on 576 dimensions.

    python tests/benchmarks/feature_pages.py [--tokens 50000] [--latents 9216]

Weights, activations and texts are random, so contexts are full of active tokens: the worst case for time and size. The
bound is 0.3 s for the slowest of 50 pages (from the index to HTML, live and static), in processor time, so that a busy
machine changes little. Exits with 1 above it. Loading, searching and the size of the files are printed too.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

BOUND_S = 0.3
WIDTH, WORDS, LENGTH = 576, 49_152, 128


class Letters:
    """A tokenizer whose tokens are numbers, as long as words are."""

    all_special_tokens = ()

    def __len__(self) -> int:
        return WORDS

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [f"Ġw{i}" for i in ids]


class Model(torch.nn.Module):
    """Looks its activations up, so that the benchmark does not measure a model."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = torch.nn.Embedding(WORDS, WIDTH), torch.nn.Linear(WIDTH, WORDS, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.embed(tokens))

    def get_input_embeddings(self) -> torch.nn.Module:
        return self.embed

    def get_output_embeddings(self) -> torch.nn.Module:
        return self.head


def seconds(run: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    out = run()
    return time.process_time() - start, out


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tokens", type=int, default=50_000)
    parser.add_argument("--latents", type=int, default=9216)
    arguments = parser.parse_args()

    from mi_course import show
    from mi_course.interp.sae import SAE, SAEConfig, build_feature_index, load_feature_index
    from mi_course.show._features import _page_html

    torch.manual_seed(0)
    model = Model()
    sae = SAE.build(SAEConfig(d_in=WIDTH, n_latents=arguments.latents, k=64)).requires_grad_(False)
    tokens = torch.randint(0, WORDS, (arguments.tokens // LENGTH, LENGTH))
    built, features = seconds(
        lambda: build_feature_index(sae, model, tokens, "embed", tokenizer=Letters(), progress=False)
    )
    with tempfile.TemporaryDirectory() as folder:
        features.save(folder)
        sizes = {path.name: path.stat().st_size for path in Path(folder).iterdir()}
        loaded, features = seconds(lambda: load_feature_index(folder, sae, model, tokenizer=Letters()))
    pages = []
    for latent in torch.randint(0, arguments.latents, (50,)).tolist():
        taken, page = seconds(lambda latent=latent: features.page(sae, latent))
        drawn, _ = seconds(lambda page=page: (_page_html(page, live=True), _page_html(page, live=False)))
        pages.append(taken + drawn)
    first, _ = seconds(lambda: features.search("w12"))
    again, _ = seconds(lambda: features.search("w13"))
    opened, _ = seconds(lambda: show.feature_browser(sae).html())
    print(f"{arguments.latents:,} latents, {arguments.tokens:,} tokens, {len(features.arrays['value']):,} values")
    print(f"build      {built:7.2f} s   (encoding, sorting, promoted tokens)")
    print(f"load       {loaded:7.2f} s   " + ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in sizes.items()))
    print(f"page       {statistics.median(pages):7.3f} s   median of 50; slowest {max(pages):.3f} s, bound {BOUND_S} s")
    print(f"search     {first:7.2f} s   the first time; then {again:.3f} s")
    print(f"browser    {opened:7.2f} s   its static page")
    return 0 if max(pages) <= BOUND_S else 1


if __name__ == "__main__":
    sys.exit(main())
