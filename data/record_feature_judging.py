"""Passages about six concepts, and a latent to be named: what lesson 07's `my_features` and `my_label` are judged by.

    python data/record_feature_judging.py --corpus ../shared/corpus [--sae data/saes/middle-4608] [--cache FOLDER]

writes feature-judging.safetensors. The text is from books-01/02 (public domain) and textbooks-earlier (OpenStax, CC BY
4.0), none of which the feature index quotes. Documents are parted into a training and a held-out split.

The concepts. A passage is 47 tokens; about a concept if it contains two different words of its list, not about it if it
contains none. Of every concept, kind of text and split there are PER_CELL passages, at most two of a document, and as
many again that contain no word of any list. The lists were fixed before any activation was seen.

The mystery. From POOL documents of each kind and split, 16 passages of 32 tokens each. Eligible are latents that are
active on 0.1 to 1 % of the tokens and on enough passages of both splits and kinds. On the training split a label is
fitted on one half of the documents and scored on the other: it must reach NAMEABLE, and exceed by APART both the best
single word and the word on which the latent peaks most often. No entry of the label may match more than COMMON of all
training passages, so that it is about something. Of these, the latent with the largest lead is taken. The held-out
split plays no part in the choice, except that it must have enough passages.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoTokenizer

from mi_course.interp.models import load_model, smollm2
from mi_course.interp.sae import load_sae
from mi_course.interp.sae.concepts import CONCEPTS, FILE, LEVELS, SPLITS, read_contexts
from mi_course.interp.sae.naming import detection_score
from mi_course.interp.sae.word_labels import fit_words, matches, words_of

DOC = "<|doc|>"
HOOK = "blocks.14.hook_resid_post"
KINDS = {
    "books": ("books-01.txt", "books-02.txt"),
    "textbooks": ("textbooks-earlier-00.txt", "textbooks-earlier-01.txt", "textbooks-earlier-02.txt"),
}
ATTRIBUTION = (
    "Books: public domain. Textbooks: OpenStax, Rice University (Psychology, U.S. History, Astronomy, Introduction to "
    "Philosophy, Anatomy and Physiology, World History, American Government, Microbiology, Introduction to Sociology, "
    "Chemistry, Introduction to Political Science, Introduction to Business), at revisions under CC BY 4.0, access for "
    "free at openstax.org; mark-up, figures and exercises taken out."
)
WORDS = {
    "the sea": "sea seas ship ships sail sails sailed sailing boat boats ocean wave waves shore captain crew harbor "
    "harbour deck island sailor sailors",
    "medicine": "doctor doctors physician physicians disease diseases patient patients hospital hospitals medicine "
    "medicines medical cure cured illness sick surgeon nurse treatment symptoms infection health",
    "law": "law laws court courts judge judges justice trial jury lawyer lawyers crime crimes legal attorney guilty "
    "constitution supreme prison",
    "war": "war wars army armies soldier soldiers battle battles enemy enemies troops military fight weapons navy "
    "attack defeated",
    "food": "food eat eating ate bread meat milk dinner cook cooked cooking meal meals fruit vegetables supper drink "
    "butter sugar corn wheat hungry",
    "the sky": "star stars sun moon planet planets sky earth orbit telescope galaxy galaxies solar astronomers comet",
}
PER_CELL, LENGTH = 20, 48
POOL, PER_DOCUMENT, SHORT = 70, 16, 33
DENSITY, ENOUGH, SCORED = (0.001, 0.01), 60, 120
NAMEABLE, APART, COMMON = 0.75, 0.08, 0.03
OTHERS = 100


@dataclass(frozen=True)
class Passage:
    kind: int
    split: int
    document: int
    ids: list[int]
    text: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, default=Path(__file__).parents[2] / "shared" / "corpus")
    parser.add_argument("--sae", type=Path, default=Path(__file__).parent / "saes" / "middle-4608")
    parser.add_argument("--cache", type=Path, help="keep the activations here, to record another SAE in seconds")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / FILE)
    arguments = parser.parse_args()
    concepts, pool, activations = prepare(arguments.corpus, HOOK, arguments.cache)
    sae = load_sae(arguments.sae)
    values, counts = activations["concepts"]
    peaks = peaks_of(sae, values, counts)
    scale = peaks.amax(0)
    labels = torch.tensor([[label(passage.text, words) for words in lists()] for passage in concepts])
    pool_values, pool_counts = activations["pool"]
    numbers, mystery = name_a_latent(sae, pool_values, pool_counts, pool)
    texts = {
        "concept_texts": [passage.text for passage in concepts],
        "mystery_texts": [pool[i].text for i in mystery["which"].tolist()],
        "other_labels": numbers["others"],
    }
    chosen = [pool[i] for i in mystery["which"].tolist()]
    arrays = {
        "concept_tokens": torch.tensor([passage.ids for passage in concepts]).to(torch.uint16),
        "concept_kind": torch.tensor([passage.kind for passage in concepts], dtype=torch.uint8),
        "concept_split": torch.tensor([passage.split for passage in concepts], dtype=torch.uint8),
        "concept_labels": labels.to(torch.int8),
        "concept_latents": packed(levels(peaks, scale).numpy().tobytes()),
        "concept_scale": scale.to(torch.float32),
        "concept_projections": projections(values, counts, concepts, labels).to(torch.float16),
        "mystery_tokens": torch.tensor([passage.ids for passage in chosen]).to(torch.uint16),
        "mystery_kind": torch.tensor([passage.kind for passage in chosen], dtype=torch.uint8),
        "mystery_split": torch.tensor([passage.split for passage in chosen], dtype=torch.uint8),
        "mystery_peaks": mystery["peaks"].to(torch.float16),
        "texts": packed(json.dumps(texts, ensure_ascii=False).encode()),
    }
    about = {
        "kinds": list(KINDS),
        "words": {name: words.split() for name, words in WORDS.items()},
        "mystery": numbers["latent"],
        "measured": numbers["measured"],
        "sae": "middle-4608",
        "decoder": fingerprint(sae.W_dec),
        "attribution": ATTRIBUTION,
    }
    save_file(arrays, arguments.out, {"mi_course": json.dumps(about)})
    print(f"{arguments.out.name}: {arguments.out.stat().st_size:,} bytes")


def packed(data: bytes) -> Tensor:
    """Compressed bytes as a tensor."""
    return torch.frombuffer(bytearray(zlib.compress(data, 9)), dtype=torch.uint8)


def levels(peaks: Tensor, scale: Tensor) -> Tensor:
    """In parts of each latent's largest value; what is active is at least one part."""
    parts = (peaks / scale.clamp(min=1e-9) * LEVELS).round().clamp(0, LEVELS)
    return parts.maximum((peaks > 0).float()).to(torch.uint8)


def fingerprint(W_dec: Tensor) -> str:
    return hashlib.sha256(W_dec.detach().to(torch.float16).numpy().tobytes()).hexdigest()[:16]


# -- text -------------------------------------------------------------------------------------------------------------


def lists() -> list[set[str]]:
    return [{*WORDS[name].split()} for name in CONCEPTS]


def label(text: str, words: set[str]) -> int:
    """1 about the concept, 0 not about it, -1 in between."""
    found = len({*words_of(text)} & words)
    return 1 if found >= 2 else 0 if found == 0 else -1


def passages(corpus: Path, tokenizer: object) -> tuple[list[Passage], list[Passage]]:
    """Those about concepts, and those for the mystery."""
    draw = random.Random(7)
    about: list[Passage] = []
    pool: list[Passage] = []
    bos = tokenizer.bos_token_id  # type: ignore[attr-defined]
    for kind, files in enumerate(KINDS.values()):
        documents = [
            text.strip() for file in files for text in (corpus / file).read_text("utf-8").split(DOC) if len(text) > 400
        ]
        order = list(range(len(documents)))
        draw.shuffle(order)
        ids = tokenizer([text[:60_000] for text in documents], add_special_tokens=False)["input_ids"]  # type: ignore[operator]
        for split in range(len(SPLITS)):
            mine = order[split::2]
            about += concept_passages(draw, tokenizer, bos, kind, split, mine, ids)
            long = [i for i in mine if len(ids[i]) >= 2 * PER_DOCUMENT * (SHORT - 1)][:POOL]
            for document in long:
                starts = draw.sample(range(len(ids[document]) // (SHORT - 1)), PER_DOCUMENT)
                for start in sorted(starts):
                    part = ids[document][start * (SHORT - 1) : (start + 1) * (SHORT - 1)]
                    pool.append(Passage(kind, split, document, [bos, *part], tokenizer.decode(part)))  # type: ignore[attr-defined]
    return about, pool


def concept_passages(draw, tokenizer, bos, kind, split, documents, ids) -> list[Passage]:  # type: ignore[no-untyped-def]
    """PER_CELL about each concept, and as many as that for three concepts that contain no word of any list."""
    size = LENGTH - 1
    cells: dict[str, list[Passage]] = {name: [] for name in [*CONCEPTS, ""]}
    wanted = {name: PER_CELL for name in CONCEPTS} | {"": 3 * PER_CELL}
    for document in documents:
        parts = [ids[document][i * size : (i + 1) * size] for i in range(len(ids[document]) // size)]
        draw.shuffle(parts)
        taken: Counter[str] = Counter()
        for part, text in zip(parts, tokenizer.batch_decode(parts), strict=True):
            found = [label(text, words) for words in lists()]
            names = [name for name, each in zip(CONCEPTS, found, strict=True) if each == 1]
            name = names[0] if len(names) == 1 else "" if not any(found) else None
            if name is None or len(cells[name]) >= wanted[name] or taken[name] >= (2 if name else 1):
                continue
            taken[name] += 1
            cells[name].append(Passage(kind, split, document, [bos, *part], text))
    print(list(KINDS)[kind], SPLITS[split], {name or "none": len(each) for name, each in cells.items()}, flush=True)
    return [passage for each in cells.values() for passage in each]


# -- activations ------------------------------------------------------------------------------------------------------


def prepare(corpus: Path, hook: str, cache: Path | None):  # type: ignore[no-untyped-def]
    """The passages, and for both sets the activations [context, pos, d] and which tokens count."""
    file = cache / "feature-judging.pt" if cache else None
    if file and file.exists():
        stored = torch.load(file)
        read = {name: [Passage(**fields) for fields in stored[name]] for name in ("concepts", "pool")}
        return read["concepts"], read["pool"], stored["activations"]
    model = load_model("smollm2", compatibility=False, device="cpu", dtype=torch.bfloat16)
    concepts, pool = passages(corpus, model.tokenizer)
    activations = {}
    for name, rows in (("concepts", concepts), ("pool", pool)):
        parts = []
        for values, counts in read_contexts(model, torch.tensor([passage.ids for passage in rows]), hook, 32):
            parts.append((values.to(torch.bfloat16), counts))
            print(f"{name}: {len(parts) * 32:,} of {len(rows):,}", flush=True)
        activations[name] = tuple(map(torch.cat, zip(*parts, strict=True)))
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)
        fields = {"concepts": [vars(row) for row in concepts], "pool": [vars(row) for row in pool]}
        torch.save(fields | {"activations": activations}, file)
    return concepts, pool, activations


def peaks_of(sae, values: Tensor, counts: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
    """[context, F]"""
    with torch.no_grad():
        parts = [
            (sae.encode(x.float()) * c[..., None]).amax(1)
            for x, c in zip(values.split(32), counts.split(32), strict=True)
        ]
    return torch.cat(parts)


def projections(values: Tensor, counts: Tensor, rows: list[Passage], labels: Tensor) -> Tensor:
    """[context, concept] the largest projection of a token on the difference of means of the training split.

    A passage's activation is the mean over its tokens; the difference is taken within each kind of text, then averaged.
    """
    weights = counts.float() / counts.sum(1, keepdim=True)
    means = torch.einsum("bpd,bp->bd", values.float(), weights)
    kind, split = (torch.tensor([getattr(row, name) for row in rows]) for name in ("kind", "split"))
    columns = []
    for concept in range(len(CONCEPTS)):
        differences = []
        for number in range(len(KINDS)):
            here = (kind == number) & (split == 0)
            yes, no = (means[here & (labels[:, concept] == sign)].mean(0) for sign in (1, 0))
            differences.append(yes - no)
        direction = torch.stack(differences).mean(0)
        direction /= direction.norm()
        along = torch.stack([x.float() @ direction for x in values])
        columns.append(along.masked_fill(~counts, -torch.inf).amax(1))
    return torch.stack(columns, 1)


# -- the mystery ------------------------------------------------------------------------------------------------------


def name_a_latent(sae, values: Tensor, counts: Tensor, pool: list[Passage]):  # type: ignore[no-untyped-def]
    """The latent by the procedure above, the labels of others, and its passages."""
    with torch.no_grad():
        peaks, active, places = [], torch.zeros(sae.W_dec.shape[0]), []
        for x, c in zip(values.split(32), counts.split(32), strict=True):
            f = sae.encode(x.float()) * c[..., None]
            active += (f > 0).sum((0, 1))
            largest = f.max(1)
            peaks.append(largest.values)
            places.append(largest.indices.to(torch.int16))
    peak, top = torch.cat(peaks), torch.cat(places)
    density = active / counts.sum()
    kind, split, document = (torch.tensor([getattr(p, name) for p in pool]) for name in ("kind", "split", "document"))
    fired = peak > 0
    eligible = (density >= DENSITY[0]) & (density <= DENSITY[1])
    for k in range(len(KINDS)):
        for s in range(len(SPLITS)):
            eligible &= fired[(kind == k) & (split == s)].sum(0) >= ENOUGH // 2
    numbers = eligible.nonzero()[:, 0].tolist()
    print(f"{len(numbers)} latents of density {DENSITY} are active on enough passages", flush=True)
    draw = torch.Generator().manual_seed(7)
    train, half = split == 0, document % 2 == 0
    tokenizer = AutoTokenizer.from_pretrained(smollm2.fetch())
    found = []
    for latent in numbers:
        fit = matched(fired[:, latent], document, kind, train & half, draw)
        check = matched(fired[:, latent], document, kind, train & ~half, draw)
        if len(fit) < ENOUGH or len(check) < ENOUGH:
            continue
        words = fit_words([pool[i].text for i in fit], fired[fit, latent])
        texts, truth = [pool[i].text for i in check], fired[check, latent]
        tops = Counter(peak_word(pool[i], int(top[i, latent]), tokenizer) for i in fit if fired[i, latent])
        common = tops.most_common(1)[0][0]
        scores = [detection_score(matches(texts, entries), truth) for entries in (words, words[:1], [common])]
        found.append((latent, words, common, *scores))
    print(f"{len(found)} were fitted", flush=True)
    good = [row for row in found if row[3] >= NAMEABLE and row[3] >= max(row[4:]) + APART]
    print(f"{len(good)} can be named, and not by one word", flush=True)
    training = [passage.text for passage in pool if passage.split == 0]
    rare = {entry: bool(matches(training, [entry]).double().mean() <= COMMON) for row in good for entry in row[1]}
    good = [row for row in good if all(rare[entry] for entry in row[1])]
    good.sort(key=lambda row: max(row[4:]) - row[3])
    print(f"{len(good)} of them by words that are not common:", flush=True)
    for row in good[:12]:
        print(
            row[0], f"{float(density[row[0]]):.3%}", row[1], row[2], [round(score, 3) for score in row[3:]], flush=True
        )
    latent, words, common, score, single, token = good[0]
    others = [row[1] for row in found if row[0] != latent and row[1]]
    random.Random(7).shuffle(others)
    which = torch.cat([matched(fired[:, latent], document, kind, split == s, draw, SCORED) for s in range(len(SPLITS))])
    measured = {
        "density": float(density[latent]),
        "choosing": {"label": words, "score": score, "best word": single, "top token": common, "its score": token},
        "eligible": len(numbers),
        "nameable": len(good),
    }
    return {"latent": latent, "others": others[:OTHERS], "measured": measured}, {
        "which": which,
        "peaks": peak[which, latent],
    }


def peak_word(passage: Passage, position: int, tokenizer: Any) -> str:
    """The word in which the token at this position ends, or the last one before it."""
    count = len(words_of(tokenizer.decode(passage.ids[1 : position + 1])))
    return words_of(passage.text)[count - 1] if count else ""


def matched(  # type: ignore[no-untyped-def]
    fired: Tensor, document: Tensor, kind: Tensor, here: Tensor, draw: torch.Generator, at_most: int = 10_000
) -> Tensor:
    """Passages in which it is active, and as many of the same documents in which it is not."""
    chosen = []
    for each in kind.unique().tolist():
        pairs = []
        for number in document[here & (kind == each)].unique().tolist():
            mine = here & (kind == each) & (document == number)
            yes, no = ((mine & (fired == sign)).nonzero()[:, 0] for sign in (True, False))
            n = min(len(yes), len(no))
            yes, no = (rows[torch.randperm(len(rows), generator=draw)[:n]] for rows in (yes, no))
            pairs += list(zip(yes.tolist(), no.tolist(), strict=True))
        order = torch.randperm(len(pairs), generator=draw)[: at_most // 2].tolist()
        chosen += [i for j in order for i in pairs[j]]
    return torch.tensor(sorted(chosen), dtype=torch.long)


if __name__ == "__main__":
    main()
