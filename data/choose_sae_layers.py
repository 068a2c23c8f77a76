"""At which layers of SmolLM2 do agreement, induction and steering live? What the layers of its SAEs are chosen by.

    python data/choose_sae_layers.py            about three minutes on one core; prints a table

For each layer L, after which the residual stream is read or changed:

- agreement: in "The author near the doctors", the stream at the last token is replaced by that of the sentence with the
  other subject. Printed is how much of the difference between the two verbs' logits it carries over: 0 where the number
  of the subject has not yet arrived at the verb's place, 1 where all of it has.
- induction: in the second copy of a random sequence, the stream comes from a run whose first copy was another one.
  Printed is the share of the loss that this costs: 0 where the copy is not yet in the stream, 1 where all of it is.
- steering: the difference of the means of praise and complaint after this layer, added there at a fixed share of the
  stream's norm: by how many nats the odds of words of praise rise, and how much of that is the direct path.
"""

from __future__ import annotations

import torch

import mi_course
from mi_course.interp.agreement import NOUNS, TEMPLATES, agreement_prompts
from mi_course.interp.induction import loss_per_token, repeated_tokens
from mi_course.interp.prompts import word_ids
from mi_course.interp.sae.host import HookSite, hooked, logits, record
from mi_course.interp.steering import WordOdds, texts

STEP, PERIOD, ROWS, SHARE = 2, 20, 8, 0.5


def agreement(model, layers: list[int]) -> list[float]:
    """Mean over templates of the share of the logit difference that the last token's stream carries over."""
    shares = torch.zeros(len(TEMPLATES), len(layers))
    for t, template in enumerate(TEMPLATES):
        prompts, verbs = agreement_prompts(template, NOUNS[:4])
        tokens = model.to_tokens(prompts)
        right = torch.tensor([word_ids(model, pair) for pair in verbs])
        # Subjects come as (singular, singular), (singular, plural), (plural, …): the other number is two rows away.
        other = torch.arange(len(tokens)) ^ 2

        def difference(out, right=right):
            last = out[:, -1]
            return (last.gather(1, right[:, :1]) - last.gather(1, right[:, 1:]))[:, 0]

        clean = difference(logits(model, tokens)).mean()
        for i, layer in enumerate(layers):
            site = HookSite.of(model, layer)
            stream = record(model, site, tokens)[0]

            def exchange(value, stream=stream, other=other):
                new = value.clone()
                new[:, -1] = stream[other, -1]
                return new

            with hooked(model, {site.hook: exchange}):
                shares[t, i] = (clean - difference(logits(model, tokens)).mean()) / (2 * clean)
    return shares.mean(dim=0).tolist()


def induction(model, layers: list[int]) -> list[float]:
    """Share of the loss, between a copy and no copy, that comes with the second half's stream of a run without one."""
    tokens = repeated_tokens(ROWS, PERIOD, 1000, 40_000, bos=1, seed=7)
    without = tokens.clone()
    without[:, 1 : 1 + PERIOD] = repeated_tokens(ROWS, PERIOD, 1000, 40_000, bos=1, seed=8)[:, 1 : 1 + PERIOD]

    def second(out):
        return float(loss_per_token(out, tokens)[:, PERIOD + 1 :].mean())

    low, high = second(logits(model, tokens)), second(logits(model, without))
    shares = []
    for layer in layers:
        site = HookSite.of(model, layer)
        stream = record(model, site, without)[0]

        def replace(value, stream=stream):
            new = value.clone()
            new[:, PERIOD + 1 :] = stream[:, PERIOD + 1 :]
            return new

        with hooked(model, {site.hook: replace}):
            shares.append((second(logits(model, tokens)) - low) / (high - low))
    return shares


def steering(model, layers: list[int]) -> list[tuple[float, float]]:
    """(change of the log-odds, share of it by the direct path) of a vector as long as SHARE of the stream's norm."""
    words = [word_ids(model, each) for each in (texts.POSITIVE_WORDS, texts.NEGATIVE_WORDS)]
    odds, last = WordOdds(model, texts.PROMPTS, *words), model.cfg.n_layers - 1
    found = []
    for layer in layers:
        site, means, norms = HookSite.of(model, layer), [], []
        for sentences in (texts.POSITIVE, texts.NEGATIVE):
            streams = [record(model, site, model.to_tokens([text]))[0][0, -1] for text in sentences]
            means.append(torch.stack(streams).mean(dim=0))
            norms += [float(stream.norm()) for stream in streams]
        vector = means[0] - means[1]
        vector *= SHARE * sum(norms) / len(norms) / vector.norm()
        change = float(odds.changes(vector[None], layer))
        found.append((change, float(odds.changes(vector[None], last)) / change))
    return found


def main() -> None:
    model = mi_course.load_model("smollm2")
    layers = list(range(1, model.cfg.n_layers - 1, STEP))
    with torch.no_grad():
        columns = agreement(model, layers), induction(model, layers), steering(model, layers)
    print("layer  agreement  induction  steering (nats)  of it direct")
    for layer, agree, copy, (change, direct) in zip(layers, *columns, strict=True):
        print(f"{layer:5}  {agree:9.2f}  {copy:9.2f}  {change:15.2f}  {direct:12.0%}", flush=True)


if __name__ == "__main__":
    main()
