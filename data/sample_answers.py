"""Asks SmolLM2 all questions of lesson 08 and stores what it answers: data/smollm2-answers.json.

    python data/sample_answers.py        about ten minutes on one core

For each question, in the order of facts.json and in the relation's first wording: the greedy answer with the
log-probability of each of its tokens, six samples at temperature 1 with their log-probabilities, and the log-odds of
" Yes" over " No" when the model is asked whether its greedy answer is true. An answer ends before a line break or a
stop (for books: after a word, not after an initial), or after seven tokens; the token that ends it is not counted.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import torch

OUT = Path(__file__).with_name("smollm2-answers.json")
SAMPLES, LENGTH, ROWS = 6, 7, 54


def ended(text: str, relation: str) -> bool:
    return re.search(r"\n|\w\w[.,;]" if relation == "books" else r"\n|[.,;]", text) is not None


@torch.no_grad()
def continuations(model, tokenizer, prompts, relations, seed: int):
    """For each prompt 1 + SAMPLES answers (text, log-probability of each token); the first one is greedy."""
    from mi_course.interp.prompts import pad

    generator = torch.Generator().manual_seed(seed)
    copies, found = 1 + SAMPLES, []
    for start in range(0, len(prompts), ROWS):
        tokens, mask = pad(
            [tokenizer.encode(p, add_special_tokens=False) for p in prompts[start : start + ROWS]], "left"
        )
        out = model(input_ids=tokens, attention_mask=mask, use_cache=True, logits_to_keep=1)
        cache = out.past_key_values
        cache.batch_repeat_interleave(copies)
        mask, logits = mask.repeat_interleave(copies, 0), out.logits[:, -1].repeat_interleave(copies, 0)
        drawn, each = [], []
        for step in range(LENGTH):
            logprobs = logits.float().log_softmax(-1)
            new = torch.multinomial(logprobs.exp(), 1, generator=generator)
            new[::copies, 0] = logprobs[::copies].argmax(-1)
            drawn.append(new)
            each.append(logprobs.gather(1, new))
            if step == LENGTH - 1:
                break
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
            out = model(input_ids=new, attention_mask=mask, past_key_values=cache, use_cache=True)
            logits = out.logits[:, -1]
        for i, (row, scores) in enumerate(zip(torch.cat(drawn, 1).tolist(), torch.cat(each, 1).tolist(), strict=True)):
            relation = relations[start + i // copies]
            stop = next((n for n in range(1, LENGTH + 1) if ended(tokenizer.decode(row[:n]), relation)), LENGTH)
            written = tokenizer.decode(row[:stop])
            text = re.split(r"\n|(?<=\w\w)[.,;]" if relation == "books" else r"\n|[.,;]", written)[0]
            over = ended(written, relation)  # the token that ends it is no part of the answer
            found.append((text, [round(s, 3) for s in scores[: stop - 1 if over and stop > 1 else stop]]))
        print(f"{min(start + ROWS, len(prompts))} of {len(prompts)}", flush=True)
    return [found[i : i + copies] for i in range(0, len(found), copies)]


@torch.no_grad()
def yes_over_no(model, tokenizer, statements):
    from mi_course.interp.prompts import pad

    yes, no = (tokenizer.encode(word)[0] for word in (" Yes", " No"))
    found = []
    for start in range(0, len(statements), ROWS):
        asked = [f"{s}.\nQ: Is that true, Yes or No?\nA:" for s in statements[start : start + ROWS]]
        tokens, mask = pad([tokenizer.encode(p, add_special_tokens=False) for p in asked], "left")
        logits = model(input_ids=tokens, attention_mask=mask, logits_to_keep=1).logits[:, -1]
        found += (logits[:, yes] - logits[:, no]).tolist()
    return [round(x, 3) for x in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()

    from transformers import AutoModelForCausalLM, AutoTokenizer

    from mi_course.interp.knowledge import questions
    from mi_course.interp.models import smollm2

    folder = smollm2.fetch()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    asked = questions()
    prompts, relations = ["<|im_start|>" + q.prompt() for q in asked], [q.relation for q in asked]
    found = continuations(model, tokenizer, prompts, relations, seed=0)
    claims = ["<|im_start|>" + q.prompt().split(". ")[-1] + row[0][0] for q, row in zip(asked, found, strict=True)]
    yes = yes_over_no(model, tokenizer, claims)
    rows = [
        {
            "answer": greedy[0].strip(),
            "logprobs": greedy[1],
            "samples": [text.strip() for text, _ in samples],
            "sample_logprobs": [round(sum(scores), 3) for _, scores in samples],
            "yes": odds,
        }
        for (greedy, *samples), odds in zip(found, yes, strict=True)
    ]
    body = ",\n".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows)
    OUT.write_text('{"format":1,"script":"data/sample_answers.py","answers":[\n' + body + "\n]}\n", encoding="utf-8")
    print(f"wrote {OUT.name}: {OUT.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
