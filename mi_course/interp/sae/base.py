"""What all sparse autoencoders share: weights, encode and decode, folding, and the hand-written gradients.

An architecture defines which latents may be active (`_active`), how an activation follows from its pre-activation
(`_activate`), and how the loss's gradient passes back through that (`_backward`). Everything else is here.

Gradients are written by hand because autograd wastes work. Of the six dense products of a plain training step, one is
for the gradient of the input, needed only since b_dec is subtracted from it; folding b_dec into b_enc saves it. The
others need not be dense where few latents are active. `simple.py` is the readable version with autograd; the tests
compare every gradient with autograd's in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torch.nn import Parameter

from mi_course.interp.sae.active_latents import DenseActive, SparseActive, compress, only_where, sparse_below
from mi_course.interp.sae.config import SAEConfig
from mi_course.interp.sae.matmul import blocks, linear

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

Active = DenseActive | SparseActive


@dataclass
class Losses:
    """The losses of one step. Sums run over a row's dimensions or latents, means over the batch."""

    rows: int
    """Rows of the batch."""
    fired: Float[Tensor, " F"]
    """Rows on which each latent was active."""
    scale: float = 1.0
    """Warm-up of the sparsity penalty, from 0 to 1."""
    norms: Float[Tensor, " F"] | None = None
    """Norms of the decoder's rows, where they are free."""
    reconstruction: float = 0.0
    """Mean squared error, summed over dimensions; Matryoshka: the mean of those of its nested dictionaries."""
    error: float = 0.0
    """Mean squared error of the whole dictionary, summed over dimensions."""
    sparsity: float = 0.0
    """The sparsity penalty, with its coefficient."""
    auxiliary: float = 0.0
    """Auxiliary losses, with their coefficients: dead latents', and the gate's (Gated)."""
    sums: dict[str, Any] = field(default_factory=dict)
    """What an architecture accumulates over the parts of the batch."""

    @property
    def total(self) -> float:
        return self.reconstruction + self.sparsity + self.auxiliary

    @property
    def l0(self) -> float:
        """Mean number of active latents in a row."""
        return float(self.fired.sum()) / self.rows


class SAE(torch.nn.Module):
    """A sparse autoencoder or transcoder: x ↦ f = encode(x) ↦ decode(f). F latents, d = d_in inputs, d_out outputs.

    Weights: W_enc [d F], b_enc [F], W_dec [F d_out], b_dec [d_out], and those of the architecture. W_enc's memory is
    laid out by latent, as W_dec's is. Build one with `SAE.build(config)` or `SAE.from_tensors(config, tensors)`.
    """

    start_share = 0.2  # of the best-fitting scale, at which training starts; measured on planted data
    revived_norm = 0.2  # of a resampled latent's encoder, relative to the mean of the others (Bricken et al. 2023)
    _architectures: ClassVar[dict[str, type[SAE]]] = {}

    def __init_subclass__(cls, architecture: str, **kwargs: Any) -> None:
        """Register the class that `build` makes for this architecture."""
        super().__init_subclass__(**kwargs)
        SAE._architectures[architecture] = cls

    def __init__(self, config: SAEConfig, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.config = config
        generator = torch.Generator().manual_seed(config.seed)
        rows = torch.randn(config.n_latents, config.width_out, generator=generator, dtype=dtype)
        rows *= config.decoder_init_norm / rows.norm(dim=1, keepdim=True)
        inputs = rows.clone()
        if config.transcoder:
            inputs = torch.randn(config.n_latents, config.d_in, generator=generator, dtype=dtype)
            inputs *= config.decoder_init_norm / inputs.norm(dim=1, keepdim=True)
        self.W_enc = Parameter(inputs.t())
        self.W_dec = Parameter(rows)
        self.b_dec = Parameter(torch.zeros(config.width_out, dtype=dtype))
        self._add_latent_parameters(dtype)

    def _add_latent_parameters(self, dtype: torch.dtype) -> None:
        self.b_enc = Parameter(torch.zeros(self.config.n_latents, dtype=dtype))

    # -- use ----------------------------------------------------------------------------------------------------------

    def encode(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch F"]:
        """The latents' activations. Each row depends on that row alone."""
        raise NotImplementedError

    def decode(self, f: Float[Tensor, "*batch F"]) -> Float[Tensor, "*batch d_out"]:
        """f W_dec + b_dec."""
        return f @ self.W_dec + self.b_dec

    def forward(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch d_out"]:
        """The reconstruction, decode(encode(x))."""
        return self.decode(self.encode(x))

    def pre_activations(self, x: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch F"]:
        """(x − b_dec) W_enc + b_enc; x W_enc + b_enc in a transcoder."""
        self._need_width(x)
        return x.to(self.W_enc.dtype) @ self.W_enc + self._folded_bias()

    def tensors(self) -> dict[str, Tensor]:
        """All weights by name, contiguous and detached; `from_tensors` reverses it."""
        named = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        return {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in named.items()}

    @staticmethod
    def build(config: SAEConfig, dtype: torch.dtype = torch.float32) -> SAE:
        """An untrained SAE of the config's architecture, its weights set by the config's seed."""
        return SAE._architectures[config.architecture](config, dtype)

    @staticmethod
    def from_tensors(config: SAEConfig, tensors: dict[str, Tensor]) -> SAE:
        """An SAE with these weights. Missing, unknown or misshapen ones are refused by name, with a ValueError."""
        dtypes = {tensor.dtype for tensor in tensors.values()}
        sae = SAE.build(config, dtype=dtypes.pop() if len(dtypes) == 1 else torch.float32)
        own = {**dict(sae.named_parameters()), **dict(sae.named_buffers())}
        if set(own) != set(tensors):
            raise ValueError(
                f"The weights are {sorted(tensors)}; a {config.architecture!r} SAE has {sorted(own)}. "
                f"Missing: {sorted(set(own) - set(tensors))}; unknown: {sorted(set(tensors) - set(own))}."
            )
        with torch.no_grad():
            for name, tensor in tensors.items():
                if own[name].shape != tensor.shape:
                    raise ValueError(
                        f"{name} has shape {tuple(tensor.shape)}; expected {tuple(own[name].shape)} "
                        f"for d_in={config.d_in}, n_latents={config.n_latents}, d_out={config.d_out}."
                    )
                own[name].copy_(tensor)
        return sae

    # -- changing weights outside of gradient steps -------------------------------------------------------------------

    @torch.no_grad()
    def normalize_decoder(self) -> None:
        """Scale each decoder row to norm one; a zero row stays zero."""
        self.W_dec /= self.W_dec.norm(dim=1, keepdim=True).clamp_min(1e-30)

    @torch.no_grad()
    def scale_start(self, x: Float[Tensor, "batch d"], target: Float[Tensor, "batch d_out"]) -> None:
        """Scale random weights so that their reconstruction of some rows has the least error that scaling can reach.

        With F much larger than d_in, unit rows on both sides overshoot F / (2 d_in) times, which training would first
        have to undo. Where a sparsity penalty pulls activations down as well, `start_share` of that scale learns
        faster. The factor goes to the encoder if the decoder is unit, and its root to each if the decoder is free.
        """
        along = square = 0.0
        for active, part in self._active(x):
            x_hat = active.decode(self._activate(active), self.W_dec)
            along += float((x_hat * (target[part] - self.b_dec)).sum())
            square += float(x_hat.square().sum())
        if along <= 0:  # a transcoder's random encoder may point the wrong way
            return
        factor = self.start_share * along / square
        if self.config.decoder_norm == "free":
            self.W_dec *= factor**0.5
            self.W_enc *= factor**0.5
        else:
            self.W_enc *= factor

    @torch.no_grad()
    def project_decoder_gradient(self) -> None:
        """Remove the part of each decoder row's gradient along the row, which would only change the norm."""
        along = torch.linalg.vecdot(self.W_dec.grad, self.W_dec)
        self.W_dec.grad.addcmul_(self.W_dec, along[:, None], value=-1)

    @torch.no_grad()
    def fold(self, input_scale: float, output_scale: float) -> None:
        """Turn an SAE of scaled activations, input_scale · x ↦ output_scale · y, into one of x ↦ y.

        Decoder rows keep their norm. Latents are divided by output_scale, so that they are in units of y, and so are
        all biases and thresholds.
        """
        self.W_enc *= input_scale / output_scale
        self.b_dec /= output_scale
        for tensor in self._scaled_like_latents():
            tensor /= output_scale

    def _scaled_like_latents(self) -> list[Tensor]:
        return [self.b_enc]

    @torch.no_grad()
    def revive(self, dead: Bool[Tensor, " F"], directions: Float[Tensor, "dead d"], outputs: Tensor) -> None:
        """Reset dead latents: encoder along `directions`, decoder along `outputs` (both of unit rows).

        The encoder's norm becomes `revived_norm` times the mean of the others.
        """
        alive = ~dead
        norm = self.W_enc.t()[alive].norm(dim=1).mean() if alive.any() else self.W_enc.new_tensor(1.0)
        self.W_enc.t()[dead] = self.revived_norm * norm * directions
        scale = (
            1.0 if self.config.decoder_norm == "unit" else self.W_dec[alive].norm(dim=1).mean() if alive.any() else 1.0
        )
        self.W_dec[dead] = scale * outputs
        self._reset_latents(dead)

    def _reset_latents(self, dead: Bool[Tensor, " F"]) -> None:
        self.b_enc[dead] = 0.0

    # -- gradients ----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def gradients(
        self,
        x: Float[Tensor, "batch d"],
        target: Float[Tensor, "batch d_out"] | None = None,
        dead: Bool[Tensor, " F"] | None = None,
        scale: float = 1.0,
    ) -> Losses:
        """Write the loss's gradients into `.grad` of every parameter; return the losses.

        target: None for an autoencoder. dead: latents for the auxiliary loss. scale: warm-up of the sparsity penalty.
        ValueError for x or a target of another width.
        """
        self._need_width(x)
        target = x if target is None else target
        if target.shape != (len(x), self.config.width_out):
            raise ValueError(f"The target has shape {tuple(target.shape)}; expected {(len(x), self.config.width_out)}.")
        for parameter in self.parameters():
            parameter.grad = None
        step = Losses(rows=len(x), fired=self.W_dec.new_zeros(self.config.n_latents), scale=scale)
        if self.config.decoder_norm == "free":
            step.norms = self.W_dec.norm(dim=1)
        dead_latents = dead.nonzero()[:, 0] if dead is not None and self.config.auxiliary else ()
        for active, part in self._active(x):
            error = self._step(active, x[part], target[part], step)
            if len(dead_latents):
                self._auxiliary(x[part], error, dead_latents, step)
        if self.config.subtract_decoder_bias:
            d_bias = self._gate_bias().grad
            self.b_dec.grad -= self.W_enc @ d_bias
            self.W_enc.grad.t().addr_(d_bias, self.b_dec, alpha=-1)
        self._finish(step)
        return step

    def after_step(self, step: Losses, late: int = 0) -> None:
        """Update what is learned without a gradient. late: steps since `threshold_from`, this one included."""

    def _step(self, active: Active, x: Tensor, target: Tensor, step: Losses) -> Float[Tensor, "part d_out"]:
        """Add the gradients of one part of the batch; return its error, x_hat − target."""
        f = self._activate(active)
        self._count(active, f, step)
        error = active.decode(f, self.W_dec).add_(self.b_dec).sub_(target)
        step.error += float(torch.linalg.vector_norm(error)) ** 2 / step.rows
        step.reconstruction = step.error
        down = error * (2 / step.rows)
        d_f = active.dots(down, self.W_dec)
        d_pre = self._backward(active, f, d_f, step)
        add_gradient(self.W_dec, active.outer(f, down))
        add_gradient(self.b_dec, down.sum(dim=0))
        self._add_encoder(active.outer(d_pre, x), active.by_latent(d_pre))
        return error

    def _active(self, x: Float[Tensor, "batch d"]) -> Iterator[tuple[Active, slice]]:
        """Yield (active entries, row slice).

        Dense blocks if over 8 % of the first block is active, else one sparse batch.
        """
        rows, bias = self.W_enc.t().to(x.dtype), self._folded_bias()
        sparse = []
        for part in blocks(x, len(rows)):
            pre = linear(x[part], rows, bias)
            if part.start == 0:
                dense = int(self._may_be_active(pre).count_nonzero()) > sparse_below(pre.device) * pre.numel()
            if dense:
                yield DenseActive(pre, x.dtype), part
            else:
                sparse.append(compress(self._may_be_active(pre), pre))
        if sparse:
            yield SparseActive.join(sparse, len(rows)), slice(0, len(x))

    def _may_be_active(self, pre: Float[Tensor, "rows F"]) -> Bool[Tensor, "rows F"]:
        """Where an activation or a gradient may differ from zero."""
        return pre > 0

    def _activate(self, active: Active) -> Tensor:
        """Activations at the active entries."""
        raise NotImplementedError

    def _backward(self, active: Active, f: Tensor, d_f: Tensor, step: Losses) -> Tensor:
        """The whole loss's gradient with respect to the pre-activations; adds those of the architecture's parameters.

        d_f: gradient of the reconstruction with respect to f; may be overwritten.
        """
        raise NotImplementedError

    def _finish(self, step: Losses) -> None:
        """Add gradients that need the whole batch."""

    def _count(self, active: Active, f: Tensor, step: Losses) -> None:
        step.fired += active.by_latent(f > 0)

    def _auxiliary(self, x: Tensor, error: Tensor, dead: Tensor, step: Losses) -> None:
        """Dead latents, the k_aux largest per row, reconstruct the residual −error (Gao et al. 2024, Appendix A)."""
        W_dec, rows = self.W_dec[dead], self.W_enc.t()[dead]
        pre = linear(x, rows, self._folded_bias()[dead])
        k = self.config.k_aux
        sparse = k < sparse_below(pre.device) * len(dead)
        active = _largest(pre, k) if sparse else DenseActive(_only_largest(pre, k), x.dtype)
        f = active.pre.relu()
        wrong = active.decode(f, W_dec).add_(error)
        coefficient = self.config.auxiliary
        step.auxiliary += coefficient * float(torch.linalg.vector_norm(wrong)) ** 2 / step.rows
        down = wrong * (2 * coefficient / step.rows)
        d_pre = only_where(active.dots(down, W_dec), f)
        self.W_dec.grad.index_add_(0, dead, active.outer(f, down))
        self.W_enc.grad.t().index_add_(0, dead, active.outer(d_pre, x))
        self._gate_bias().grad.index_add_(0, dead, active.by_latent(d_pre))

    def _gate_bias(self) -> Parameter:
        """The bias of the pre-activations that decide which latents are active."""
        return self.b_enc

    def _folded_bias(self) -> Float[Tensor, " F"]:
        """b_enc − b_dec W_enc, which saves subtracting b_dec from every row, and that gradient."""
        bias = self._gate_bias()
        return bias - self.b_dec @ self.W_enc if self.config.subtract_decoder_bias else bias

    def _add_encoder(self, rows: Float[Tensor, "F d"], bias: Float[Tensor, " F"]) -> None:
        if self.W_enc.grad is None:
            self.W_enc.grad = rows.t()
        else:
            self.W_enc.grad.t().add_(rows)
        add_gradient(self._gate_bias(), bias)

    def _need_width(self, x: Tensor) -> None:
        if x.shape[-1] != self.config.d_in:
            raise ValueError(f"x has shape {tuple(x.shape)}; expected d_in = {self.config.d_in} in the last axis.")


def add_gradient(parameter: Parameter, gradient: Tensor) -> None:
    if parameter.grad is None:
        parameter.grad = gradient
    else:
        parameter.grad += gradient


def _largest(pre: Float[Tensor, "rows n"], k: int) -> SparseActive:
    values, latents = pre.topk(k, sorted=False)
    return SparseActive.fixed(latents, values, pre.shape[1])


def _only_largest(pre: Float[Tensor, "rows n"], k: int) -> Float[Tensor, "rows n"]:
    if k >= pre.shape[1]:
        return pre
    values, latents = pre.topk(k, sorted=False)
    return torch.zeros_like(pre).scatter_(1, latents, values)
