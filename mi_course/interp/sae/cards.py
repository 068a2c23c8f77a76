"""The card of an SAE: what it does on held-out text, as `evaluation.json`, and cards as a page to read.

card = measure(model, sae, {"books": tokens}, "blocks.14.hook_resid_post")
print(page({"middle": card}))
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from mi_course.interp.sae.activations import ordinary_tokens
from mi_course.interp.sae.host import HookSite, device_of, first_layer, is_bridge, record
from mi_course.interp.sae.metrics import (
    density_histogram,
    explained_variance,
    match_dictionary,
    shrinkage,
)
from mi_course.interp.sae.nameability import compare, live_latents, part_rows
from mi_course.interp.sae.splicing import SpliceLoss, loss_with_sae
from mi_course.interp.shipped_saes import mean_rise

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int
    from torch import Tensor

    from mi_course.interp.sae.base import SAE
    from mi_course.interp.sae.host import Model

SAME = 0.7  # cosine of two decoder rows above which two SAEs share a latent (Paulo and Belrose 2025)
POSITIONS = (
    "L0, variance, shrinkage and density: all tokens but the first of each row{massive}. Loss: the mean over every "
    "token that has a predecessor; replaced are all tokens but the first of each row{massive}."
)
Floors = dict[tuple[tuple[str, ...], str, bool], SpliceLoss]
"""By places, group and whether massive tokens stay, the losses that do not depend on the SAE."""
Recorded = dict[tuple[str, ...], list[tuple["Tensor", ...]]]
"""By places, their values in each batch of rows, in the model's precision."""


def measure(
    model: Model,
    sae: SAE,
    groups: Mapping[str, Int[Tensor, "row pos"]],
    hook: str | int,
    target: str | int | None = None,
    *,
    exclude_massive: bool = False,
    rows_at_once: int = 8,
    nameability: int = 0,
    neurons: str | None = None,
    seed: int = 0,
    floors: Floors | None = None,
    recorded: Recorded | None = None,
) -> dict[str, Any]:
    """The numbers of a card, as plain values.

    groups: held-out rows of token ids by the kind of text, BOS first, without padding. nameability: how many random
    latents are compared with random directions and neurons (nameability.py); 0: none. neurons: where the neurons are;
    None: in the MLP of the layer that the hook's name holds. floors: a dict in which the losses that do not depend on
    the SAE are kept for the next one on the same rows (`measure_floors` fills it beforehand). recorded: a dict in which
    the activations at its places are kept, for one set of places at a time. ValueError where there are fewer live
    latents than asked for.
    """
    names = HookSite.of(model, *((hook,) if target is None else (hook, target))).names
    sae = sae.to(device_of(model))
    place = neurons or _neurons(model, names[0]) if nameability else None
    reading = _Reading(model, groups, names, place, exclude_massive, rows_at_once, recorded)
    reading.read(sae)
    share, y, y_hat = reading.density(), torch.cat(reading.y), torch.cat(reading.y_hat)
    histogram, mean, nearest = density_histogram(share), y.mean(dim=0), nearest_cosines(sae.W_dec)
    massive = " and massive ones" if exclude_massive else ""
    card: dict[str, Any] = {
        "hook": names[0],
        "target": names[1] if target is not None else None,
        "n_latents": len(share),
        "tokens": len(y),
        "positions": POSITIONS.format(massive=massive),
        "exclude_massive": exclude_massive,
        "massive_share": reading.massive / (reading.massive + len(y)),
        "l0": float(share.sum()),
        "explained_variance": explained_variance(y, y_hat),
        "shrinkage": shrinkage(y - mean, y_hat - mean),
        "dead_share": float((share == 0).double().mean()),
        "density_log10": {"edges": histogram.edges.tolist(), "counts": histogram.counts.tolist()},
        "nearest_cosine": {str(q): float(nearest.quantile(q)) for q in (0.5, 0.9, 0.99, 1.0)},
        "loss": {},
    }
    floors = {} if floors is None else floors
    for (group, tokens), stream in zip(groups.items(), reading.streams(), strict=True):
        seen = loss_with_sae(
            model,
            sae,
            tokens,
            hook,
            target=target,
            rows_at_once=rows_at_once,
            exclude_massive=exclude_massive,
            mean=mean,
            controls=floors.get((names, group, exclude_massive)),
            stream=stream,
        )
        floors[names, group, exclude_massive] = seen
        assert seen.mean is not None
        card["loss"][group] = {
            "clean": seen.clean,
            "rise": seen.rise,
            "mean": seen.mean - seen.clean,
            "zero": seen.zero - seen.clean,
            "replaced": seen.replaced,
            "tokens": tokens.shape[0] * (tokens.shape[1] - 1),
        }
    if nameability:
        card["nameability"] = _nameability(reading, sae, nameability, seed)
    return card


def measure_floors(
    model: Model,
    groups: Mapping[str, Int[Tensor, "row pos"]],
    hook: str | int,
    target: str | int | None = None,
    *,
    exclude_massive: bool = False,
    rows_at_once: int = 8,
) -> Floors:
    """What `measure` asks of a place without an SAE: the losses unchanged, with the mean activation and with zeros.

    Arguments as there. It takes most of a card's time, and can be done while the SAE is being trained.
    """
    names = HookSite.of(model, *((hook,) if target is None else (hook, target))).names
    reading = _Reading(model, groups, names, None, exclude_massive, rows_at_once, None)
    mean = torch.cat([values[-1].float()[keep].cpu() for values, keep, _ in reading.parts()]).mean(dim=0)
    options: dict[str, Any] = {"rows_at_once": rows_at_once, "exclude_massive": exclude_massive, "mean": mean}
    return {
        (names, group, exclude_massive): loss_with_sae(model, None, tokens, hook, target=target, **options)
        for group, tokens in groups.items()
    }


def shared_latents(a: SAE, b: SAE) -> float:
    """The share of a's latents that b has too: matched one to one, with a cosine of the decoder's rows above SAME."""
    return match_dictionary(b.W_dec, a.W_dec).recovered(SAME)


def nearest_cosines(W_dec: Float[Tensor, "F d"]) -> Float[Tensor, " F"]:
    """The largest cosine of each latent's decoder row with another's."""
    rows = torch.nn.functional.normalize(W_dec.float(), dim=1)
    found = []
    for start in range(0, len(rows), 1024):
        cosines = rows[start : start + 1024] @ rows.T
        cosines[torch.arange(len(cosines)), torch.arange(start, start + len(cosines))] = -1.0
        found.append(cosines.max(dim=1).values)
    return torch.cat(found)


class _Reading:
    """The rows at an SAE's places: inputs, targets and reconstructions of the tokens that count, and who was active."""

    def __init__(
        self,
        model: Model,
        groups: Mapping[str, Int[Tensor, "row pos"]],
        names: tuple[str, ...],
        neurons: str | None,
        exclude_massive: bool,
        rows_at_once: int,
        recorded: Recorded | None,
    ) -> None:
        self.model, self.names, self.neurons = model, names, neurons
        self.exclude_massive, self.rows_at_once = exclude_massive, rows_at_once
        self.recorded: Recorded = {} if recorded is None else recorded
        self.rows_of_group = [len(tokens) for tokens in groups.values()]
        self.tokens = torch.cat(list(groups.values()))
        self.y: list[Tensor] = []
        self.y_hat: list[Tensor] = []
        self.massive = 0
        self.begin = first_layer(model, HookSite.of(model, *names))
        """The layer from which the model can be run to see what the SAE does, if there is one."""

    def read(self, sae: SAE) -> None:
        active, counts = [], []
        for values, keep, massive in self.parts():
            x, y = values[0].float(), values[len(self.names) - 1].float()
            f = sae.encode(x)
            self.y.append(y[keep].cpu())
            self.y_hat.append(sae.decode(f[keep]).cpu())
            active.append(((f > 0) & keep[:, :, None]).sum(dim=1).cpu())
            counts.append(keep.cpu())
            self.massive += int(massive.sum())
        self.active: Int[Tensor, "F row"] = torch.cat(active).T
        self.counts: Bool[Tensor, "row pos"] = torch.cat(counts)

    def parts(self) -> Iterator[tuple[tuple[Tensor, ...], Tensor, Tensor]]:
        """The values at the places, and of the neurons, [rows pos d] each; the tokens that count; the massive ones."""
        device = device_of(self.model)
        for tokens, stored in zip(self.tokens.split(self.rows_at_once), self._recorded(), strict=True):
            keep = torch.ones(tokens.shape, dtype=torch.bool, device=device)
            here = stored if self.begin is None else stored[1:]
            values, massive = tuple(value.to(device) for value in here), torch.zeros_like(keep)
            keep[:, 0] = False
            if self.exclude_massive:  # at the SAE's own places
                for value in values[: len(self.names)]:
                    massive |= ordinary_tokens(value, torch.ones_like(keep))[1]
                keep &= ~massive
            yield values, keep, massive

    def _recorded(self) -> Iterator[tuple[Tensor, ...]]:
        """Batch by batch, from memory where these places were read before."""
        names = self.names if self.neurons is None else (*self.names, self.neurons)
        if self.begin is not None:
            names = (f"blocks.{self.begin - 1}.hook_resid_post", *names)
        if names in self.recorded:
            yield from self.recorded[names]
            return
        site, batches = HookSite.of(self.model, *names), []
        for tokens in self.tokens.split(self.rows_at_once):
            batches.append(tuple(value.cpu() for value in record(self.model, site, tokens)))
            yield batches[-1]
        self.recorded.clear()
        self.recorded[names] = batches

    def streams(self) -> Iterator[tuple[Tensor, int] | None]:
        """Group by group, the residual stream before the SAE's layer."""
        if self.begin is None:
            yield from [None] * len(self.rows_of_group)
            return
        stream = torch.cat([stored[0] for stored in self._recorded()])
        for rows in stream.split(self.rows_of_group):
            yield rows.to(device_of(self.model)), self.begin

    def density(self) -> Float[Tensor, " F"]:
        return self.active.sum(dim=1).double() / int(self.counts.sum())


def _nameability(reading: _Reading, sae: SAE, n: int, seed: int) -> dict[str, Any]:
    """`compare` for n live latents, and as many random directions of the input and neurons of the layer."""
    parts = part_rows(reading.rows_of_group)
    chosen = live_latents(reading.active, parts, n, seed)
    generator = torch.Generator().manual_seed(seed)
    found: list[list[Tensor]] = [[], [], []]
    directions = which = None
    for values, _, _ in reading.parts():
        x = values[0].float()
        if directions is None:
            directions = torch.randn(x.shape[-1], n, generator=generator)
            directions = (directions / directions.norm(dim=0)).to(x.device)
            which = torch.randperm(values[-1].shape[-1], generator=generator)[:n]
        for column, value in zip(
            found, (sae.encode(x)[..., chosen], x @ directions, values[-1][..., which].float()), strict=True
        ):
            column.append(value.cpu())
    latents, projections, activations = (torch.cat(column) for column in found)
    compared = compare(reading.tokens, latents, projections, activations, parts, skip=~reading.counts)
    numbers = {unit: asdict(comparison) for unit, comparison in compared.items()}
    return {"latents": n, "neurons": reading.neurons, "seed": seed, **numbers}


def _neurons(model: Model, hook: str) -> str:
    """The neurons of the MLP in the layer that a place belongs to."""
    pattern, rest = (r"blocks\.\d+", "mlp.hook_post") if is_bridge(model) else (r".*?\.\d+", "mlp.down_proj@in")
    if match := re.match(pattern, hook):
        return HookSite.of(model, f"{match[0]}.{rest}").hook
    raise ValueError(f"Cannot tell which MLP belongs to {hook!r}. Name its neurons: `neurons`.")


# ---------------------------------------------------------------------------------------------------------------------
# As a page


def page(cards: Mapping[str, Mapping[str, Any]]) -> str:
    """The cards in Markdown: an overview, the losses by group, and what each number means."""
    parts = [
        "| SAE | place | latents | tokens | L0 | explained variance | shrinkage | dead | rise of the loss (nats) |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, card in cards.items():
        place = f"`{card['hook']}`" + (f" → `{card['target']}`" if card["target"] else "")
        parts.append(
            f"| `{name}` | {place} | {card['n_latents']:,} | {_tokens(card)} | "
            f"{card['l0']:.1f} | {card['explained_variance']:.3f} | {card['shrinkage']:.3f} | "
            f"{card['dead_share']:.1%} | {mean_rise(card):+.3f} |"
        )
    return "\n".join([*parts, "", *(line for name, card in cards.items() for line in _section(name, card))]) + "\n"


def _tokens(card: Mapping[str, Any]) -> str:
    """How many tokens it was trained on, and how many of them are different where some came more than once."""
    seen = card.get("training_tokens", 0)
    different = card.get("different_tokens", seen)
    again = f", {different / 1e6:.1f} million different" if different < seen else ""
    return f"{seen / 1e6:.1f} million{again}"


def _section(name: str, card: Mapping[str, Any]) -> list[str]:
    massive = f" Massive tokens, {card['massive_share']:.2%} of all, are left out." if card["exclude_massive"] else ""
    lines = [f"## {name}", "", f"Judged on {card['tokens']:,} held-out tokens. {card['positions']}{massive}", ""]
    if card.get("mix"):
        mix = ", ".join(f"{group} {share:.0%}" for group, share in card["mix"].items())
        lines += [f"Trained on: {mix} (shares of the tokens).", ""]
    lines += ["| held-out text | loss | with the SAE | with the mean | with zeros |", "|---|---|---|---|---|"]
    lines += [
        f"| {group} | {nats['clean']:.3f} | {nats['rise']:+.3f} | {nats['mean']:+.3f} | {nats['zero']:+.3f} |"
        for group, nats in card["loss"].items()
    ]
    quantiles = ", ".join(f"{float(q):.0%}: {value:.2f}" for q, value in card["nearest_cosine"].items())
    lines += ["", f"Largest cosine of a decoder row with another's, by quantile of the latents: {quantiles}.", ""]
    lines += _histogram(card)
    for other, share in card.get("shared", {}).items():
        lines += [
            f"Latents that `{other}`, the same with another seed, has too (cosine above {SAME}): {share:.1%}.",
            "",
        ]
    if "nameability" in card:
        lines += _naming(card["nameability"])
    return lines


def _histogram(card: Mapping[str, Any]) -> list[str]:
    """The densities by powers of ten: the 40 bins of the file are too many to read."""
    edges, counts = card["density_log10"]["edges"], card["density_log10"]["counts"]
    by_power: dict[int, int] = {}
    for edge, count in zip(edges, counts, strict=False):
        by_power[int(edge // 1)] = by_power.get(int(edge // 1), 0) + count
    dead = round(card["dead_share"] * card["n_latents"])
    cells = [f"never {dead:,}", *(f"10^{p} to 10^{p + 1}: {n:,}" for p, n in sorted(by_power.items()) if n)]
    return [f"Latents by the share of tokens on which they are active: {'; '.join(cells)}.", ""]


def _naming(found: Mapping[str, Any]) -> list[str]:
    lines = [
        f"Nameability of {found['latents']} random live latents, beside random directions and neurons "
        f"(`{found['neurons']}`), each active in as many units as its latent: mean detection score of the best rule, ± "
        "standard error.",
        "",
        "| unit | latents | random directions | neurons | latents − directions | latents − neurons |",
        "|---|---|---|---|---|---|",
    ]
    for unit in ("token", "context"):
        one = found[unit]
        cells = [one[key] for key in ("latents", "directions", "neurons", "over_directions", "over_neurons")]
        words = [f"{mean:{'+' if i > 2 else ''}.3f} ± {error:.3f}" for i, (mean, error) in enumerate(cells)]
        lines.append(f"| {'a token' if unit == 'token' else '16 tokens'} | {' | '.join(words)} |")
    return [*lines, ""]
