"""The model's loss when an SAE's reconstruction replaces the activations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mi_course.interp.sae.activations import HookSite, never_runs, ordinary_tokens, read_tokens
from mi_course.interp.sae.metrics import loss_recovered

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from transformer_lens.model_bridge import TransformerBridge

    from mi_course.interp.sae.activations import Tokens


class SpliceLoss(NamedTuple):
    """The model's mean next-token loss in nats: unchanged, with the reconstruction, and with zeros."""

    clean: float
    spliced: float
    """With the reconstruction of every ordinary token."""
    zero: float
    """With zeros instead."""
    replaced: float
    """Share of tokens (padding apart) that were replaced; first and massive ones pass unchanged in both."""

    @property
    def recovered(self) -> float:
        """`loss_recovered`: 1 if nothing is lost, 0 if zeros would have done as well."""
        return loss_recovered(self.clean, self.spliced, self.zero)


def loss_with_sae(
    model: TransformerBridge,
    sae: Any,
    tokens: Tokens,
    hook: str | int,
    *,
    target: str | int | None = None,
    mask: Bool[Tensor, "n pos"] | None = None,
    rows_at_once: int = 4,
) -> SpliceLoss:
    """The model's loss unchanged, with the SAE's reconstruction at a hook point, and with zeros there.

    sae: anything with `encode` and `decode`. hook, tokens, mask: as in `ModelBatches`. target: where a transcoder's
      output goes; its input is read at `hook`.
    First tokens of rows, padding and massive tokens are never replaced, since training leaves them out: replacing them
    would measure what the SAE never saw. The mean runs over every token that has a next one. Hooks are removed
    afterwards, also after an error.
    """
    batch = read_tokens(model, tokens, mask)
    site = HookSite.of(model, hook, target)
    if site.target is None:
        site = HookSite(site.hook, site.hook, None)
    if rows_at_once < 1:
        raise ValueError(f"rows_at_once is {rows_at_once}, expected at least 1.")
    sums, scored, replaced = dict.fromkeys(("clean", "spliced", "zero"), 0.0), 0, 0
    for start in range(0, len(batch), rows_at_once):
        part = batch.rows(slice(start, start + rows_at_once))
        for kind in sums:
            splice = _Splice(kind, sae, site, part.mask)
            sums[kind] += splice.loss(model, part.tokens)
            replaced += splice.replaced
        scored += int(part.mask[:, 1:].sum())
    if scored == 0:
        raise ValueError("No row has a second token, so there is no next token to predict.")
    means = {kind: total / scored for kind, total in sums.items()}
    return SpliceLoss(**means, replaced=replaced / 2 / int(batch.mask.sum()))


class _Splice:
    """One forward pass of one batch, with the ordinary tokens' activations unchanged, reconstructed or zeroed."""

    def __init__(self, kind: str, sae: Any, site: HookSite, real: Tensor) -> None:
        self.kind, self.sae, self.site, self.real = kind, sae, site, real
        self.read: Tensor | None = None
        self.replaced, self.visited = 0, False

    def loss(self, model: TransformerBridge, tokens: Tensor) -> float:
        """Summed over the tokens that have a next one."""
        hooks = [(self.site.hook, self.on_input)] if self.site.hook != self.site.target else []
        hooks += [(self.site.target, self.on_output)] if self.kind != "clean" else []
        with torch.no_grad(), model.hooks(fwd_hooks=hooks):
            logits = model(tokens, return_type="logits")
        if self.kind != "clean" and not self.visited:
            raise ValueError(never_runs(self.site.target))
        total = 0.0
        # Row by row, so that only one row's log-softmax is in memory.
        for row, following, counts in zip(logits, tokens, self.real, strict=True):
            losses = F.cross_entropy(row[:-1].float(), following[1:], reduction="none")
            total += float(losses[counts[1:]].double().sum())
        return total

    def on_input(self, value: Tensor, hook: Any) -> None:
        self.read = value.detach()

    def on_output(self, value: Tensor, hook: Any) -> Float[Tensor, "batch pos *d"]:
        if self.read is None and self.site.hook != self.site.target:
            raise ValueError(
                f"{self.site.hook} was not visited before {self.site.target}: a transcoder reads first, then writes."
            )
        read = value if self.read is None else self.read
        self.visited = True
        ordinary = ordinary_tokens(read, self.real)[0] & ordinary_tokens(value, self.real)[0]
        self.replaced = int(ordinary.sum())
        out = value.clone()
        chosen = out[ordinary]
        if self.kind == "zero":
            out[ordinary] = torch.zeros_like(chosen)
        else:
            rows = read[ordinary].flatten(1).float()
            rebuilt = self.sae.decode(self.sae.encode(rows))
            if rebuilt.shape[-1] != (width := out[0, 0].numel()):
                raise ValueError(f"The SAE gives rows of {rebuilt.shape[-1]} numbers, {self.site.target} has {width}.")
            out[ordinary] = rebuilt.reshape(chosen.shape).to(out.dtype)
        return out
