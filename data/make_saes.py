"""Prepares the training of the SAEs that ship with the course: text, samples of the model's own, and the run's file.

    python data/make_saes.py text WORK --corpus DIR        code and samples as text, and WORK/saes.toml and sweep.toml
    python data/make_saes.py samples WORK --at-most 2      draws more samples: a part is 112 rows of 256, about 90 s
    mi-course sae harvest WORK/saes.toml                   tokens on disk, once: WORK/tokens
    mi-course sae train WORK/sweep.toml                    which architecture and k
    mi-course sae train WORK/saes.toml                     hours on a CPU; goes on where it was cut short
    python data/make_saes.py floors WORK                   what the cards compare with; meanwhile, it needs no SAE
    python data/make_saes.py record WORK                   what the index is made from; meanwhile too
    python data/make_saes.py export WORK                   data/saes: float16, what ships
    python data/make_saes.py cards WORK                    evaluation.json beside each, and docs/saes.md
    python data/make_saes.py index WORK                    data/saes/texts.safetensors, and each SAE's feature index

All SAEs are trained on bfloat16 forward passes over rows of 128 tokens. What ships was trained on a GPU, in four
processes side by side (the sweep was one), on the Hugging Face model (`library = "transformers"`); a run from one file,
on one forward pass, does the same work. Only the cards, the index and the float16 were made on a CPU.

DIR is a folder of text files in which a line `<|doc|>` ends each document. Code is Python's own standard library
(licence: PSF-2.0), a tenth of its files held out. Of the samples, the last 32 rows of `smollm2-sampled.safetensors` are
held out: lesson 06 judges on them.
"""

from __future__ import annotations

import argparse
import hashlib
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from mi_course.interp.sae.cards import Floors
    from mi_course.interp.sae.run_file import RunFile

Tables = dict[str, dict[str, object]]
DOC = "<|doc|>"
LEFT_OUT = ("site-packages", "test", "tests", "idlelib", "turtledemo", "__pycache__", "lib2to3", "pydoc_data")
CODE_CHARACTERS, CODE_HELD_OUT = 9_000_000, 0.1
HELD_OUT_SAMPLES = 32
EARLY, MIDDLE, LATE = 5, 14, 22  # data/choose_sae_layers.py
BATCH, MIDDLE_STEPS, SIDE_STEPS, SWEEP_STEPS = 4096, 4917, 5980, 2000  # 20.1, 24.5 and 8.2 million tokens
K, LR, LR_NARROW = 60, 2e-3, 3e-3  # docs/saes.md, "How they were chosen"
TOKENS = {"row": 128, "between": "<|endoftext|>", "rows_at_once": 16, "exclude_massive": True, "folder": "tokens"}
SHIPPED = Path(__file__).parent / "saes"
PAGE, BEGIN = Path(__file__).parents[1] / "docs" / "saes.md", "<!-- made by data/make_saes.py -->"
LISTED = "<!-- made by make_saes.py -->", "<!-- until here -->"
ABOUT = ("hook_name", "hook_name_out", "model_name", "seed", "training_tokens")
JUDGED_ROWS, SAMPLE_ROWS = 32, 2  # of each group; a row has 128 tokens
SAMPLED = {  # the held-out rows that ship: group, first row. Textbooks: Principles of Economics 3e; docs: PEP 427
    "textbooks": 45,
    "books": 0,
    "docs": 114,
    "reviews": 0,
    "speeches": 0,
    "code": 0,
    "samples": 0,
}
QUOTED = {  # what feature pages quote: files, rows of 128 tokens, attribution. Nothing here is share-alike.
    "books: public-domain books": (("books-00.txt",), 450, "Books: public domain."),
    "textbooks: OpenStax": (
        ("textbooks-current-*.txt",),
        350,
        "Textbooks: OpenStax, Rice University (Anthropology, Economics, College Success, Physics: CC BY 4.0; Biology: "
        "CC BY 3.0), access for free at openstax.org; mark-up, figures and exercises taken out.",
    ),
    "docs: Python Enhancement Proposals": (("docs-peps-00.txt",), 250, "Python Enhancement Proposals: public domain."),
    "government: Digital.gov": (("articles-digitalgov-00.txt",), 200, "Digital.gov, U.S. GSA: CC0 1.0."),
    "reviews: film reviews": (
        ("movie_reviews_*.txt",),
        200,
        "Film reviews: Bo Pang and Lillian Lee, polarity dataset v2.0 (2004), CC BY 4.0.",
    ),
    "arithmetic: school problems": (
        ("qa-gsm8k-00.txt",),
        150,
        "Arithmetic: Copyright (c) 2021 OpenAI, MIT licence; Cobbe et al. 2021.",
    ),
    "samples: written by SmolLM2": (("samples.txt",), 200, "Samples: written by SmolLM2; what they say is invented."),
    "code: Python's standard library": (
        ("code/*.py",),
        250,
        "Code: Python's standard library, Copyright (c) 2001 Python Software Foundation, PSF-2.0.",
    ),
}
FILES = {  # group: files, held-out files, share of documents held out, licence (its README has the attributions)
    "textbooks": ("textbooks-*.txt", "heldout-textbooks.txt", 0, "CC BY 4.0, CC BY 3.0"),
    "books": ("books-*.txt", "heldout-books.txt", 0, "public domain"),
    "articles": ("articles-*.txt", "heldout-articles.txt", 0, "CC BY-SA 3.0, CC BY, CC0"),
    "docs": ("docs-*.txt", "heldout-docs.txt", 0, "CC BY 4.0, MIT, Apache-2.0, CC0"),
    "dialogues": (("dialogues-*.txt", "qa-*.txt"), "heldout-dialogues.txt", 0, "CC BY 4.0, MIT, CC BY-SA 4.0"),
    "reviews": ("movie_reviews_*.txt", None, 0.05, "CC BY 4.0"),
    "speeches": (("inaugural.txt", "state_union.txt"), None, 0.05, "public domain"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("text", "samples", "floors", "record", "export", "cards", "index"))
    parser.add_argument("work", type=Path, metavar="WORK")
    parser.add_argument("--corpus", type=Path, default=Path(__file__).parents[2] / "shared" / "corpus")
    parser.add_argument("--at-most", type=int, default=1, help="parts of samples to draw now")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    corpus = arguments.corpus.resolve()
    match arguments.what:
        case "text":
            write_text(work, corpus)
        case "samples":
            draw_samples(work / "samples", arguments.at_most)
        case "floors":
            write_floors(work)
        case "record":
            record_quoted(work, corpus)
        case "export":
            export(work)
        case "cards":
            write_cards(work)
        case "index":
            write_index(work, corpus)


# -- text -------------------------------------------------------------------------------------------------------------


def write_text(work: Path, corpus: Path) -> None:
    """Code and samples as text, and the files of both runs."""
    write_code(work / "text" / "code")
    write_samples(work)
    groups = text_tables(corpus)
    (work / "saes.toml").write_text(run_file("saes", groups, saes()))
    (work / "sweep.toml").write_text(run_file("sweep", groups, sweep(), steps=SWEEP_STEPS, rows=48))
    print(f"wrote {work / 'saes.toml'} and {work / 'sweep.toml'}")


def write_code(folder: Path) -> None:
    """Files of the standard library, in an order that a hash decides, up to CODE_CHARACTERS."""
    folder.mkdir(parents=True, exist_ok=True)
    root, written, count = Path(sysconfig.get_path("stdlib")), 0, 0
    paths = [path for path in root.rglob("*.py") if not set(path.relative_to(root).parts) & set(LEFT_OUT)]
    for path in sorted(paths, key=lambda path: hashlib.sha256(str(path.relative_to(root)).encode()).digest()):
        text = path.read_text(encoding="utf-8", errors="replace")
        if len(text) < 200 or len(text) > 400_000 or written + len(text) > CODE_CHARACTERS:
            continue
        (folder / ".".join(path.relative_to(root).parts)).write_text(text, encoding="utf-8")
        written, count = written + len(text), count + 1
    print(f"code: {count} files, {written:,} characters")


def write_samples(work: Path) -> None:
    """What the model wrote, as text: the rows of lesson 06, and the parts drawn by `samples`."""
    from safetensors.torch import load_file
    from transformers import AutoTokenizer

    from mi_course.interp.models import smollm2
    from mi_course.interp.sae import sampled_tokens

    tokenizer = AutoTokenizer.from_pretrained(smollm2.fetch())
    ours = sampled_tokens()
    parts = {
        "samples.txt": [*ours[:-HELD_OUT_SAMPLES]],
        "heldout-samples.txt": [*ours[-HELD_OUT_SAMPLES:]],
    }
    for file in sorted((work / "samples").glob("*.safetensors")):
        parts["samples.txt"] += [*load_file(file)["tokens"]]
    for name, rows in parts.items():
        texts = [tokenizer.decode(row[1:].tolist()) for row in rows]
        (work / "text" / name).write_text("".join(f"{text}\n{DOC}\n" for text in texts), encoding="utf-8")
        print(f"{name}: {len(rows)} rows")


def draw_samples(folder: Path, at_most: int) -> None:
    """More rows like those of sample_smollm2.py, chat and plain, with other seeds; a part is whole or not there."""
    import torch
    from safetensors.torch import save_file
    from sample_smollm2 import PARTS, ROWS, beginnings, draw
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from mi_course.interp.models import smollm2

    folder.mkdir(parents=True, exist_ok=True)
    where, each = smollm2.fetch(), ROWS // PARTS
    begin = beginnings(AutoTokenizer.from_pretrained(where))
    model = AutoModelForCausalLM.from_pretrained(where, dtype=torch.bfloat16).eval()
    part, drawn = 0, 0
    while drawn < at_most:
        if not (file := folder / f"{part:04d}.safetensors").exists():
            first = part % PARTS * each
            rows = draw(model, begin[first : first + each], seed=50_000 + part)
            save_file({"tokens": rows}, file.with_suffix(".part"))
            file.with_suffix(".part").rename(file)
            drawn += 1
            print(f"{file.name}: {rows.numel():,} tokens", flush=True)
        part += 1


def text_tables(corpus: Path) -> str:
    tables = []
    for group, (files, held_out, share, licence) in FILES.items():
        patterns = [str(corpus / name) for name in ((files,) if isinstance(files, str) else files)]
        lines = [f"[text.{group}]", f"files = {patterns}", f'separator = "{DOC}"', f'licence = "{licence}"']
        lines += [f"held_out_files = ['{corpus / held_out}']"] if held_out else [f"held_out = {share}"]
        tables.append("\n".join(lines))
    tables.append(f"[text.code]\nfiles = ['text/code/*.py']\nheld_out = {CODE_HELD_OUT}\nlicence = \"PSF-2.0\"")
    tables.append(
        "[text.samples]\nfiles = ['text/samples.txt']\nheld_out_files = ['text/heldout-samples.txt']\n"
        f'separator = "{DOC}"\nlicence = "Apache-2.0"'
    )
    return "\n\n".join(tables)


# -- what ships -------------------------------------------------------------------------------------------------------


def export(work: Path) -> None:
    """The run's SAEs in float16, which is exact to a twentieth of a percent; bfloat16, as large, to four tenths."""
    import torch

    from mi_course.interp.sae import load_sae, save_sae

    for name in saes():
        sae = load_sae(work / "saes" / name)
        about = {key: value for key, value in sae.about.items() if key in ABOUT}
        folder = save_sae(sae, SHIPPED / name, dtype=torch.float16, **about)
        size = sum(file.stat().st_size for file in folder.iterdir())
        print(f"{name}: {size / 1e6:.1f} MB")


def judged(work: Path) -> RunFile:
    """The run, but of what ships: on so many held-out rows of each group."""
    from dataclasses import replace

    from mi_course.interp.sae import run_file

    run = replace(run_file.RunFile.read(work / "saes.toml"), folder=SHIPPED)
    return replace(run, evaluate=run_file.EvaluateTable(rows=JUDGED_ROWS, nameability=100))


def write_floors(work: Path) -> None:
    import json

    from mi_course.interp.sae import run_file

    floors = run_file.evaluate_floors(judged(work))
    values = [[*key, loss._asdict()] for key, loss in floors.items()]
    (work / "floors.json").write_text(json.dumps({"rows": JUDGED_ROWS, "floors": values}), encoding="utf-8")


def read_floors(work: Path) -> Floors:
    """What `write_floors` wrote. Empty where it did not, or for other rows: then `write_cards` measures them."""
    import json

    from mi_course.interp.sae import SpliceLoss

    file = work / "floors.json"
    about = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"rows": None}
    if about["rows"] != JUDGED_ROWS:
        return {}
    return {(tuple(names), group, massive): SpliceLoss(**loss) for names, group, massive, loss in about["floors"]}


def write_cards(work: Path) -> None:
    """Judges what ships, not what was trained, and writes the page.

    A small sample of the held-out rows ships too, with what was measured on it: the tests measure that again.
    """
    import json

    import torch
    from safetensors.torch import save_file

    from mi_course.interp.sae import TokenRows, load_shipped, run_file
    from mi_course.interp.sae.cards import measure, page

    run = judged(work)
    cards = run_file.evaluate(run, lambda line: print(line, flush=True), read_floors(work))
    sample = {}
    for group, first in SAMPLED.items():
        rows = TokenRows(run.rows, "held_out", group).rows(slice(first, first + SAMPLE_ROWS))
        sample[group] = rows.tokens
    save_file({group: rows.to(torch.uint16) for group, rows in sample.items()}, SHIPPED / "held-out.safetensors")
    model, _ = run_file.load(run)
    floors, recorded = {}, {}
    for name, card in cards.items():
        options = {"exclude_massive": card["exclude_massive"], "floors": floors, "recorded": recorded}
        seen = measure(model, load_shipped(name), sample, card["hook"], card["target"], **options)
        card["sample"] = {key: seen[key] for key in ("tokens", "l0", "explained_variance", "shrinkage", "loss")}
        (SHIPPED / name / "evaluation.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(text[: text.index(BEGIN) + len(BEGIN)] + "\n\n" + page(cards), encoding="utf-8")
    list_files()


def quoted_rows(work: Path, corpus: Path) -> tuple[Tensor, list[str]]:
    """The rows that feature pages quote, [n 128], and where each is from. None of them is held out anywhere."""
    import torch
    from transformers import AutoTokenizer

    from mi_course.interp.models import smollm2
    from mi_course.interp.sae import TextGroup, TokenRows, write_rows

    folder, groups = work / "index-tokens", {}
    for name, (files, *_) in QUOTED.items():
        kind = name.partition(":")[0]
        inside = work / "text" if kind in ("code", "samples") else corpus
        held_out = CODE_HELD_OUT if kind == "code" else FILES[kind][2] if kind in FILES else 0  # as in the training
        patterns = tuple(str(inside / file) for file in files)
        groups[name] = TextGroup(patterns, held_out=held_out, separator=None if kind == "code" else DOC)
    if not (folder / "manifest.json").exists():
        tokenizer = AutoTokenizer.from_pretrained(smollm2.fetch())
        write_rows(tokenizer, groups, folder, pos=128, between="<|endoftext|>", say=print)
    rows, sources = [], []
    for name, (_, count, _) in QUOTED.items():
        own = TokenRows(folder, "train", name)
        chosen = torch.randperm(len(own), generator=torch.Generator().manual_seed(7))[:count].sort().values
        rows.append(own.rows(chosen).tokens)
        sources += [name] * len(chosen)
    return torch.cat(rows), sources


def record_quoted(work: Path, corpus: Path) -> dict[str, Path]:
    """The activations of the quoted rows at every SAE's place, by one pass of the model. Returns files by place."""
    import numpy as np
    import torch

    from mi_course.interp.models import load_model
    from mi_course.interp.sae.host import HookSite, record

    tokens, _ = quoted_rows(work, corpus)
    places = [table["hook"] for table in saes().values()]
    names = [f"blocks.{place}.hook_resid_post" if isinstance(place, int) else str(place) for place in places]
    files = {name: work / "index-activations" / f"{name}.npy" for name in dict.fromkeys(names)}
    if all(file.exists() for file in files.values()):
        return files
    model = load_model("smollm2", compatibility=False, device="cpu", dtype=torch.bfloat16)
    site, shape = HookSite.of(model, *files), (tokens.numel(), model.cfg.d_model)
    (work / "index-activations").mkdir(exist_ok=True)
    parts = {name: file.with_suffix(".part") for name, file in files.items()}
    maps = [np.lib.format.open_memmap(part, "w+", np.int16, shape) for part in parts.values()]
    for first in range(0, len(tokens), 8):
        for array, values in zip(maps, record(model, site, tokens[first : first + 8]), strict=True):
            flat = values.flatten(0, 1)
            array[first * 128 : first * 128 + len(flat)] = flat.to(torch.bfloat16).view(torch.int16).numpy()
    for name, part in parts.items():
        part.rename(files[name])
    return files


def write_index(work: Path, corpus: Path) -> None:
    """The texts that feature pages quote, and for every SAE what its latents do on them."""
    import numpy as np
    import torch

    from mi_course.interp.models import load_model
    from mi_course.interp.sae import build_feature_index, load_shipped, shipped_names

    files = record_quoted(work, corpus)
    tokens, sources = quoted_rows(work, corpus)
    model = load_model("smollm2", compatibility=False, device="cpu", dtype=torch.bfloat16)
    attribution = " ".join(dict.fromkeys(line for *_, line in QUOTED.values()))
    for name in shipped_names():
        sae = load_shipped(name)
        stored = np.load(files[sae.about["hook_name"]], mmap_mode="c", allow_pickle=False)
        features = build_feature_index(
            sae,
            model,
            tokens,
            sae.about["hook_name"],
            target=sae.about.get("hook_name_out"),
            activations=torch.from_numpy(stored).view(torch.bfloat16),
            sources=sources,
            attribution=attribution,
            exclude_massive=True,
            top=8,
            per_band=2,
        )
        features.save(SHIPPED / name, texts=SHIPPED / "texts.safetensors")
        print(f"{name}: {(SHIPPED / name / 'features.safetensors').stat().st_size / 1e6:.1f} MB of index", flush=True)
    list_files()


def list_files() -> None:
    """The sizes and hashes of what ships, in README.md."""
    readme = SHIPPED.parent / "README.md"
    text = readme.read_text(encoding="utf-8")
    first, last = (text.index(mark) for mark in LISTED)
    rows = ["| file | bytes | SHA-256 |", "|---|---|---|"]
    for file in sorted(SHIPPED.rglob("*.safetensors")):
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        rows.append(f"| `{file.relative_to(SHIPPED.parent).as_posix()}` | {file.stat().st_size:,} | `{digest}` |")
    table = "\n".join(rows)
    readme.write_text(f"{text[:first]}{LISTED[0]}\n\n{table}\n\n{text[last:]}", encoding="utf-8")


# -- runs -------------------------------------------------------------------------------------------------------------


def run_file(folder: str, groups: str, tables: Tables, steps: int | None = None, rows: int = 64) -> str:
    """A run."""
    steps = steps or MIDDLE_STEPS
    shared = {"steps": steps, "batch": BATCH, "lr": LR, "warmup": min(200, steps // 10), "decay": decay(steps)}
    shared |= {"dead_window": 500_000, "dtype": "bfloat16", "checkpoint_every": 150, "log_every": 25}
    parts = [
        f'folder = "{folder}"',
        _table("model", {"name": "smollm2", "device": "auto", "dtype": "bfloat16"}),
        _table("tokens", TOKENS),
        groups,
        _table("training", shared),
        *(_table(f"sae.{name}", table) for name, table in tables.items()),
        _table("evaluate", {"rows": rows}),
    ]
    return "\n\n".join(parts) + "\n"


def saes() -> Tables:
    """What ships. Middle: three widths, a second seed of the smallest, a transcoder of the MLP. Early and late: one."""
    shared = {"architecture": "batch_topk", "k": K}
    side = {**shared, "n_latents": 2304, "lr": LR_NARROW, "steps": SIDE_STEPS, "decay": decay(SIDE_STEPS)}
    middle = {"hook": MIDDLE, **shared}
    narrow = {**middle, "n_latents": 1152, "lr": LR_NARROW}
    return {
        "early": {"hook": EARLY, **side},
        "middle-1152": narrow,
        "middle-1152-seed1": {**narrow, "seed": 1},
        "middle-4608": {**middle, "n_latents": 4608},
        "middle-9216": {**middle, "n_latents": 9216},
        "mlp-4608": {
            **middle,
            "hook": f"blocks.{MIDDLE}.mlp.hook_in",
            "target": f"blocks.{MIDDLE}.hook_mlp_out",
            "n_latents": 4608,
        },
        "late": {"hook": LATE, **side},
    }


def sweep() -> Tables:
    """Architectures, k and learning rates at the middle layer, side by side on the same batches."""
    wide = {"hook": MIDDLE, "n_latents": 4608}
    tables: Tables = {
        f"{kind}-{k}": {**wide, "architecture": kind, "k": k}
        for kind, k in (("topk", 64), ("batch_topk", 64), ("batch_topk", 60), ("batch_topk", 48), ("matryoshka", 64))
    }
    tables["batch_topk-64-slow"] = {**tables["batch_topk-64"], "lr": 1e-3}
    tables["batch_topk-64-fast"] = {**tables["batch_topk-64"], "lr": 4e-3}
    tables["jumprelu-64"] = {**wide, "architecture": "jumprelu", "target_l0": 64.0, "bandwidth": 0.1, "lr": 1e-3}
    return tables


def decay(steps: int) -> int:
    """The last steps, in which the learning rate falls."""
    return steps * 2 // 5


def _table(name: str, values: dict[str, object]) -> str:
    def text(value: object) -> str:
        return f'"{value}"' if isinstance(value, str) else repr(value).lower()

    return "\n".join([f"[{name}]", *(f"{key} = {text(value)}" for key, value in values.items())])


if __name__ == "__main__":
    main()
