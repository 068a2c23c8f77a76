"""An SAE in the model's own forward pass: what the model loses by it, and what an edit of its latents does.

loss_with_sae(model, sae, tokens, 14)                         nats, with controls
hook = partial(splice, sae=sae, edit=clamp({812: 6.0}), keep_error=True)
with model.hooks(fwd_hooks=[("blocks.14.hook_resid_post", hook)]): ...
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mi_course.interp.sae.activations import ordinary_tokens
from mi_course.interp.sae.host import HookSite, hooked, logits, never_runs, read_tokens, stream_before
from mi_course.interp.sae.metrics import loss_recovered

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from mi_course.interp.sae.host import Model, Tokens


def splice(
    value: Float[Tensor, "batch pos *d"],
    hook: Any = None,
    *,
    sae: Any,
    edit: Callable[[Tensor], Tensor] | None = None,
    keep_error: bool = False,
    where: Bool[Tensor, "batch pos"] | None = None,
) -> Float[Tensor, "batch pos *d"]:
    """A hook: the activations with the SAE's reconstruction in their place, its latents edited or not. A new tensor.

    sae: anything with `encode` and `decode`. edit: gets the latents [rows F], returns the new ones.
    keep_error: add what the SAE does not reconstruct, so that the model sees the edit and nothing else; without an edit
      nothing changes, bit for bit. where: the tokens to change; by default all but the first of each row.
    """
    if where is None:
        where = torch.ones(value.shape[:2], dtype=torch.bool, device=value.device)
        where[:, 0] = False
    out = value.clone()
    chosen = out[where]
    f = sae.encode(chosen.flatten(1).float())
    rebuilt = sae.decode(f if edit is None else edit(f.clone()))
    if keep_error:
        rebuilt = chosen.flatten(1).float() + (rebuilt - sae.decode(f))
    if rebuilt.shape[-1] != (width := value[0, 0].numel()):
        raise ValueError(f"The SAE gives rows of {rebuilt.shape[-1]} numbers, the activations have {width}.")
    out[where] = rebuilt.reshape(chosen.shape).to(out.dtype)
    return out


def clamp(values: Mapping[int, float]) -> Callable[[Tensor], Tensor]:
    """An edit for `splice`: sets these latents to these values on every token, in the SAE's own units.

    >>> clamp({1: 5.0})(torch.tensor([[0.0, 2.0, 1.0]])).tolist()
    [[0.0, 5.0, 1.0]]
    """

    def edit(f: Tensor) -> Tensor:
        for latent, value in values.items():
            f[..., latent] = value
        return f

    return edit


class SpliceLoss(NamedTuple):
    """The model's mean next-token loss in nats: unchanged, with the reconstruction, and with zeros."""

    clean: float
    spliced: float
    """With the reconstruction of every token that counts. NaN if no SAE was given."""
    zero: float
    """With zeros instead."""
    replaced: float
    """Share of tokens (padding apart) that were replaced; first ones pass unchanged in all."""
    exclude_massive: bool = False
    """Whether massive tokens pass unchanged too."""
    mean: float | None = None
    """With the mean activation instead, if one was given."""

    @property
    def recovered(self) -> float:
        """`loss_recovered`: 1 if nothing is lost, 0 if zeros would have done as well."""
        return loss_recovered(self.clean, self.spliced, self.zero)

    @property
    def rise(self) -> float:
        """What the reconstruction costs, in nats."""
        return self.spliced - self.clean

    def __str__(self) -> str:
        controls = f"zeros {self.zero - self.clean:+.3f}"
        if self.mean is not None:
            controls += f", the mean {self.mean - self.clean:+.3f}"
        return (
            f"loss {self.clean:.3f} nats; the reconstruction {self.rise:+.3f}, {controls} "
            f"({self.recovered:.1%} of zeros' loss recovered; {self.replaced:.1%} of the tokens replaced, massive ones "
            f"{'not ' if self.exclude_massive else ''}among them)"
        )


def loss_with_sae(
    model: Model,
    sae: Any | None,
    tokens: Tokens,
    hook: str | int,
    *,
    target: str | int | None = None,
    mask: Bool[Tensor, "n pos"] | None = None,
    rows_at_once: int = 4,
    exclude_massive: bool = False,
    mean: Float[Tensor, " d_out"] | None = None,
    controls: SpliceLoss | None = None,
    stream: tuple[Float[Tensor, "n pos d"], int] | None = None,
) -> SpliceLoss:
    """The model's loss unchanged, with the SAE's reconstruction at a place, and with zeros there.

    sae: anything with `encode` and `decode`; None for the other losses alone. hook, tokens, mask: as in `ModelBatches`.
    target: where a transcoder's output goes; its input is read at `hook`. mean: an activation that is put in everywhere
      as a further control.
    controls: what this gave for another SAE or for None, at the same place and on the same tokens; its losses without
      an SAE are taken over, which saves most of the work.
    stream: a bridge's residual stream on these tokens before a layer that is not after the places, and that layer: the
      model is run from there.
    First tokens of rows and padding are never replaced, nor are massive tokens with exclude_massive: do as the training
    did, since replacing what the SAE never saw would measure something else. The mean runs over every token that has a
    next one. Hooks are removed afterwards, also after an error.
    """
    batch = read_tokens(model, tokens, mask)
    site = HookSite.of(model, hook, hook if target is None else target)
    if rows_at_once < 1:
        raise ValueError(f"rows_at_once is {rows_at_once}, expected at least 1.")
    if sae is None and controls is not None:
        raise ValueError("controls are what the losses without an SAE are taken from; without an SAE nothing is left.")
    kinds = ["zero", "clean", *(["mean"] if mean is not None else [])] if controls is None else []
    kinds += ["spliced"] if sae is not None else []
    sums, scored, replaced = dict.fromkeys(kinds, 0.0), 0, 0
    for start in range(0, len(batch), rows_at_once):
        part = batch.rows(slice(start, start + rows_at_once))
        if stream is not None:
            before: tuple[Tensor, int] | None = (stream[0][start : start + rows_at_once], stream[1])
        else:
            before = stream_before(model, site, part.tokens) if len(kinds) > 1 else None
        for kind in kinds:
            stand_in = _StandIn(kind, sae, site, part.mask, exclude_massive, mean)
            sums[kind] += stand_in.loss(model, part.tokens, before)
            replaced += stand_in.replaced if kind == kinds[0] else 0
        scored += int(part.mask[:, 1:].sum())
    if scored == 0:
        raise ValueError("No row has a second token, so there is no next token to predict.")
    means = {kind: total / scored for kind, total in sums.items()}
    share = replaced / int(batch.mask.sum())
    if controls is not None:
        return controls._replace(spliced=means["spliced"], replaced=share, exclude_massive=exclude_massive)
    return SpliceLoss(**{"spliced": float("nan"), **means}, replaced=share, exclude_massive=exclude_massive)


class _StandIn:
    """One forward pass of one batch, with activations unchanged, reconstructed, zeroed, or at their mean."""

    def __init__(
        self, kind: str, sae: Any, site: HookSite, real: Tensor, exclude_massive: bool, mean: Tensor | None
    ) -> None:
        self.kind, self.sae, self.real, self.exclude_massive, self.mean = kind, sae, real, exclude_massive, mean
        self.hook, self.target = site.names
        self.read: Tensor | None = None
        self.replaced, self.visited = 0, False

    def loss(self, model: Model, tokens: Tensor, before: tuple[Tensor, int] | None) -> float:
        """Summed over the tokens that have a next one."""
        functions: dict[str, Callable[[Tensor], Tensor | None]] = {}
        if self.kind != "clean":
            functions = {self.hook: self.on_input} if self.hook != self.target else {}
            functions[self.target] = self.on_output
        with hooked(model, functions):
            rows = logits(model, tokens, before)
        if self.kind != "clean" and not self.visited:
            raise ValueError(never_runs(self.target))
        total = 0.0
        # Row by row, so that only one row's log-softmax is in memory.
        for row, following, counts in zip(rows, tokens, self.real, strict=True):
            losses = F.cross_entropy(row[:-1].float(), following[1:], reduction="none")
            total += float(losses[counts[1:]].double().sum())
        return total

    def on_input(self, value: Tensor) -> None:
        self.read = value.detach()

    def on_output(self, value: Tensor) -> Float[Tensor, "batch pos *d"]:
        if self.read is None and self.hook != self.target:
            raise ValueError(
                f"{self.hook} was not visited before {self.target}: a transcoder reads first, then writes."
            )
        read = value if self.read is None else self.read
        self.visited = True
        where = self.real.clone()
        where[:, 0] = False
        if self.exclude_massive:
            where &= ordinary_tokens(read, self.real)[0] & ordinary_tokens(value, self.real)[0]
        self.replaced = int(where.sum())
        if self.kind == "spliced" and self.read is None:
            return splice(value, sae=self.sae, where=where)
        out = value.clone()
        chosen = out[where]
        if self.kind == "spliced":
            new = self.sae.decode(self.sae.encode(read[where].flatten(1).float()))
            if new.shape[-1] != (width := out[0, 0].numel()):
                raise ValueError(f"The SAE gives rows of {new.shape[-1]} numbers, {self.target} has {width}.")
        elif self.kind == "mean" and self.mean is not None:
            new = self.mean.to(out).expand_as(chosen.flatten(1))
        else:
            new = torch.zeros_like(chosen)
        out[where] = new.reshape(chosen.shape).to(out.dtype)
        return out
