"""Samples text from SmolLM2, as token ids: what lesson 06 trains its sparse autoencoder on.

    python data/sample_smollm2.py               about 10 minutes on 2 cores; writes data/smollm2-sampled.safetensors

784 rows of 256 tokens, BOS first: 208 from BOS alone, and 12 from each of 48 openings written for this course.
Temperature 1 over the whole vocabulary, in bfloat16, with a key/value cache. A row continues after <|im_end|>, as a
chat does. Openings are assigned to the rows in random order, so every slice is a fair sample. Rows are drawn in seven
parts with different seeds; a part that is already in --parts is not drawn again, and --at-most stops early, so that the
work can be done in pieces. The tokens depend on the last digits of the logits: with another number of threads, or on
another machine, the text is different, but of the same kind.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

ROWS, LENGTH, PARTS, FROM_BOS, EACH = 784, 256, 7, 208, 12
BOS = 1
OUT = Path(__file__).with_name("smollm2-sampled.safetensors")

OPENINGS = (
    "The harbour was quiet when the last boat came in, and",
    "Once upon a time, in a village between two rivers,",
    "Chapter 1\n\n",
    "The committee met on Thursday to discuss",
    "In the spring of 1848,",
    "Photosynthesis is",
    "To bake a loaf of rye bread, you will need",
    "Dear Ms. Alvarez,\n\n",
    "def count_words(text):\n",
    "import numpy as np\n\n",
    "<html>\n<head>\n",
    "SELECT name, price FROM",
    "Theorem. Let",
    "The rules of chess are",
    "Q: Why is the sky blue?\nA:",
    "Breaking news:",
    "Ladies and gentlemen,",
    "My grandmother used to say that",
    "The patient was a 54-year-old",
    "Step 1:",
    "Il était une fois",
    "Había una vez",
    "Im Jahr 1920",
    "A short history of glass:",
    "user\nWrite a short poem about the sea.",
    "user\nExplain how a bicycle stays upright.",
    "user\nWhat is the capital of Peru, and what is it known for?",
    "user\nWrite a Python function that reverses a list.",
    "user\nGive me five ideas for a rainy afternoon with children.",
    "user\nSummarise the causes of the First World War.",
    "user\nHow do vaccines work?",
    "user\nTranslate into French: I would like two tickets to Lyon.",
    "user\nWhat is the difference between weather and climate?",
    "user\nTell me a story about a clockmaker and a fox.",
    "user\nHow do I ask my manager for a day off?",
    "user\nSolve for x: 3x + 7 = 22.",
    "user\nWhich planets have rings?",
    "user\nWrite a review of a restaurant that you liked.",
    "user\nWhat should I know before I adopt a dog?",
    "user\nExplain inflation to a ten-year-old.",
    "user\nList the steps to change a tyre.",
    "user\nWho painted the ceiling of the Sistine Chapel?",
    "user\nWrite an e-mail that declines an invitation politely.",
    "user\nWhat are the arguments for and against nuclear power?",
    "user\nDescribe the life cycle of a butterfly.",
    "user\nHow does a compiler differ from an interpreter?",
    "user\nPlan three days in Lisbon for two people.",
    "user\nWhat makes a good password?",
)


def beginnings(tokenizer) -> list[list[int]]:
    """What each row begins with, BOS included, in an order that spreads the openings over the parts."""
    rows = [[BOS]] * FROM_BOS
    rows += [[BOS, *tokenizer(text, add_special_tokens=False)["input_ids"]] for text in OPENINGS for _ in range(EACH)]
    assert len(rows) == ROWS
    return [rows[i] for i in torch.randperm(ROWS, generator=torch.Generator().manual_seed(0)).tolist()]


@torch.no_grad()
def draw(model, begin: list[list[int]], seed: int) -> torch.Tensor:
    """Rows of LENGTH tokens. Every row starts at BOS, so none is padded; while its opening lasts, that is fed."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.full((len(begin), LENGTH), BOS)
    cache = None
    for position in range(1, LENGTH):
        out = model(tokens[:, position - 1 : position], past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        drawn = torch.multinomial(out.logits[:, -1].float().softmax(-1), 1, generator=generator)[:, 0]
        given = torch.tensor([row[position] if position < len(row) else -1 for row in begin])
        tokens[:, position] = torch.where(given >= 0, given, drawn)
    return tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=Path, default=Path(tempfile.gettempdir()) / "smollm2-sampled-parts")
    parser.add_argument("--at-most", type=int, default=PARTS, help="parts to draw now")
    args = parser.parse_args()

    from transformers import AutoModelForCausalLM, AutoTokenizer

    from mi_course.interp.models import smollm2

    folder = smollm2.fetch()
    begin = beginnings(AutoTokenizer.from_pretrained(folder))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    args.parts.mkdir(parents=True, exist_ok=True)
    each = ROWS // PARTS
    files = [args.parts / f"{part}.safetensors" for part in range(PARTS)]
    for part in [part for part, file in enumerate(files) if not file.exists()][: args.at_most]:
        start = time.perf_counter()
        rows = draw(model, begin[part * each : (part + 1) * each], seed=1000 + part)
        save_file({"tokens": rows}, files[part])
        print(f"part {part + 1} of {PARTS}: {rows.numel()} tokens in {time.perf_counter() - start:.0f} s", flush=True)
    if not all(file.exists() for file in files):
        return
    tokens = torch.cat([load_file(file)["tokens"] for file in files])
    meta = {"kind": "tokens", "format": 1, "model": "smollm2", "bos": BOS, "licence": "Apache-2.0"}
    meta |= {"temperature": 1, "dtype": "bfloat16", "script": "data/sample_smollm2.py"}
    save_file({"tokens": tokens.to(torch.uint16)}, OUT, metadata={"mi_course": json.dumps(meta)})
    OUT.chmod(0o644)
    print(f"wrote {OUT.name}: {tokens.numel():,} tokens, {OUT.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
