"""The configuration of a sparse autoencoder: how it is built and trained."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any

ARCHITECTURES = ("relu", "topk", "batch_topk", "matryoshka", "jumprelu", "gated")
FREE_BY_DEFAULT = ("relu",)  # architectures whose penalty weighs each latent by its decoder norm
AUXILIARY_BY_DEFAULT = ("topk", "batch_topk", "matryoshka")  # whose papers have an auxiliary loss for dead latents
CLIPPED_BY_DEFAULT = ("relu",)  # whose paper (Conerly et al. 2024) clips gradients for every size
PREFIXES = (1 / 32, 3 / 32, 7 / 32, 15 / 32, 1)  # of the latents (Bussmann et al. 2025: 2,048 of 65,536, and so on)
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class SAEConfig:
    """How an SAE is built and trained. A wrong value raises a ValueError that names the field.

    Losses are in units of the (normalized) activations: squared error summed over dimensions, mean over the batch.

    >>> SAEConfig(d_in=512, n_latents=4096, architecture="topk", k=32).decoder_norm
    'unit'
    >>> SAEConfig(d_in=512, n_latents=4096, architecture="lasso")
    Traceback (most recent call last):
    ...
    ValueError: architecture is 'lasso'; expected one of relu, topk, batch_topk, matryoshka, jumprelu, gated.
    """

    # -- what is built ------------------------------------------------------------------------------------------------

    d_in: int
    """Width of the activations that go in."""

    n_latents: int
    """Number of latents F, the width of the sparse code."""

    architecture: str = "topk"
    """"relu" (Bricken et al. 2023), "topk" (Gao et al. 2024), "batch_topk" (Bussmann et al. 2024), "matryoshka"
    (BatchTopK with nested dictionaries: Bussmann et al. 2025), "jumprelu" (Rajamanoharan et al. 2024b) or "gated"
    (Rajamanoharan et al. 2024a)."""

    d_out: int | None = None
    """Width of the target. None: an autoencoder, whose target is its input. A number: a transcoder, trained with
    `train(config, x, target=y)`; give d_in itself where both are equally wide."""

    k: int = 32
    """Active latents per row (TopK), or per row on average over the batch (BatchTopK, Matryoshka); at most."""

    prefixes: tuple[int, ...] | None = None
    """Matryoshka's nested dictionaries: the first so many latents have to reconstruct on their own. Rising, and the
    last is n_latents. None: 1/32, 3/32, 7/32, 15/32 and all of the latents (Bussmann et al. 2025)."""

    decoder_norm: str | None = None
    """"unit": decoder rows are kept at norm one, with their gradients projected. "free": they are not, and an L1 or
    tanh penalty weighs each latent by its row's norm (Conerly et al. 2024). None: "free" for relu, else "unit"."""

    decoder_init_norm: float | None = None
    """Norm of the decoder's rows at the start, before scaling. None: 1 for unit decoders, 0.1 for free ones. The
    encoder starts as the decoder's transpose (as a random matrix in a transcoder), and both are then scaled so that
    the first reconstruction is of the right size."""

    subtract_decoder_bias: bool | None = None
    """Whether the encoder sees x − b_dec. None: yes in an autoencoder, no in a transcoder, where it cannot."""

    # -- what is minimized --------------------------------------------------------------------------------------------

    l1: float = 1.0
    """Coefficient of the L1 penalty (relu: on the latents; gated: on the gate)."""

    l0: float = 1.0
    """Coefficient of JumpReLU's sparsity penalty."""

    sparsity: str = "step"
    """JumpReLU's penalty on a row. "step": the number of active latents, with a straight-through gradient for the
    thresholds. "tanh": Σ tanh(tanh_scale · f · decoder norm), smooth (Anthropic, January 2025)."""

    target_l0: float | None = None
    """With the step penalty: l0 · (L0 / target_l0 − 1)² instead of l0 · L0, which keeps L0 near this value."""

    tanh_scale: float = 4.0
    """How fast the tanh penalty saturates."""

    bandwidth: float = 0.05
    """Width of the rectangle kernel through which JumpReLU's thresholds get a gradient, in units of the normalized
    pre-activations."""

    threshold_init: float = 0.1
    """JumpReLU's thresholds at the start, in units of the normalized pre-activations."""

    auxiliary: float | None = None
    """Coefficient of the auxiliary loss, in which dead latents reconstruct the residual. None: 1/32 for topk,
    batch_topk and matryoshka, whose papers have it (Gao et al. 2024, Appendix A), and 0, never, for the others."""

    k_aux: int | None = None
    """Dead latents, per row, that take part in the auxiliary loss. None: half of d_in."""

    dead_window: int = 200_000
    """A latent is dead when it has not been active for this many activations."""

    resample_every: int | None = None
    """Steps between two resamplings, in which dead latents are reset to badly reconstructed inputs (Bricken et al.
    2023). None: never."""

    # -- how it is trained --------------------------------------------------------------------------------------------

    steps: int = 1000
    """Training steps."""

    batch: int = 4096
    """Activations per step, from a tensor; other sources have their own batch size."""

    lr: float = 1e-3
    """Adam's learning rate after warm-up."""

    warmup: int = 0
    """Steps over which the learning rate rises linearly from near 0."""

    decay: int = 0
    """Steps at the end over which the learning rate falls linearly to near 0."""

    sparsity_warmup: int = 0
    """Steps over which the coefficient of the sparsity penalty rises linearly from near 0."""

    betas: tuple[float, float] = (0.9, 0.999)
    """Adam's decay rates for the mean gradient and the mean squared gradient. The papers of gated and jumprelu train
    with (0, 0.999)."""

    clip: float | None = None
    """Gradients are scaled down where their overall norm exceeds this. None: 1 for relu (Conerly et al. 2024). The
    other papers do not clip (Gao et al. 2024 only on GPT-4), so 0, never, for the others."""

    normalize: bool = True
    """Whether activations are scaled by one number so that their mean norm is √d (targets likewise) during training.
    The number is folded in at the end: the SAE that `train` returns takes activations as they are."""

    threshold_from: float = 0.8
    """BatchTopK's evaluation threshold is the mean, over the batches after this share of the steps, of the smallest
    activation kept. Before, it follows the latest batch."""

    device: str | None = None
    """Where training runs: "cpu", "cuda", "cuda:1", "mps", or "auto" for the best there is. None: where the activations
    are."""

    dtype: str = "float32"
    """"bfloat16": activations are kept and multiplied in bfloat16, which GPUs do several times as fast. Weights, their
    gradients and Adam's moments are float32 in any case (float64 for float64 activations)."""

    seed: int = 0
    """Seed of the first weights, of the order of activations in memory, and of resampling."""

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise ValueError(f"architecture is {self.architecture!r}; expected one of {', '.join(ARCHITECTURES)}.")
        for name in ("d_in", "n_latents", "k", "steps", "batch", "dead_window"):
            _need(self, name, _whole(value := getattr(self, name)) and value >= 1, "a whole number, at least 1")
        for name in ("d_out", "k_aux", "resample_every"):
            value = getattr(self, name)
            _need(
                self,
                name,
                value is None or (_whole(value) and value >= 1),
                "None or a whole number, at least 1",
            )
        for name in ("warmup", "decay", "sparsity_warmup"):
            _need(self, name, _whole(value := getattr(self, name)) and value >= 0, "a whole number, at least 0")
        for name in ("l1", "l0"):
            _need(self, name, _finite(value := getattr(self, name)) and value >= 0, "a number, at least 0")
        for name in ("lr", "bandwidth", "threshold_init", "tanh_scale"):
            _need(self, name, _finite(value := getattr(self, name)) and value > 0, "a number above 0")
        for name in ("target_l0", "decoder_init_norm"):
            value = getattr(self, name)
            _need(self, name, value is None or (_finite(value) and value > 0), "None or a number above 0")
        for name in ("clip", "auxiliary"):
            value = getattr(self, name)
            _need(self, name, value is None or (_finite(value) and value >= 0), "None or a number, at least 0")
        share = self.threshold_from
        _need(self, "threshold_from", _finite(share) and 0 <= share < 1, "a share of the steps, in [0, 1)")
        _need(self, "dtype", self.dtype in DTYPES, " or ".join(DTYPES))
        _need(self, "device", self.device is None or isinstance(self.device, str), "None or a name such as 'cuda'")
        _need(self, "sparsity", self.sparsity in ("step", "tanh"), "'step' or 'tanh'")
        _need(self, "decoder_norm", self.decoder_norm in (None, "unit", "free"), "'unit', 'free' or None")
        _need(self, "k", self.k <= self.n_latents, f"at most n_latents, {self.n_latents}")
        _need(self, "warmup", self.warmup + self.decay <= self.steps, f"warmup + decay at most steps, {self.steps}")
        if self.target_l0 is not None and self.sparsity != "step":
            raise ValueError(f"target_l0 is {self.target_l0} with sparsity='tanh'; it belongs to sparsity='step'.")
        if self.transcoder and self.subtract_decoder_bias:
            raise ValueError(
                "subtract_decoder_bias is True in a transcoder: b_dec is as wide as the target, not as the input. "
                "Leave it None."
            )
        pair = isinstance(self.betas, list | tuple) and len(self.betas) == 2
        _need(
            self,
            "betas",
            pair and all(_finite(beta) and 0 <= beta < 1 for beta in self.betas),
            "two numbers in [0, 1)",
        )
        self._fill_in()

    def _fill_in(self) -> None:
        """Replace None where the default depends on other fields, so that every reader sees the same value."""
        unit = self.architecture not in FREE_BY_DEFAULT if self.decoder_norm is None else self.decoder_norm == "unit"
        filled = {
            "decoder_norm": "unit" if unit else "free",
            "decoder_init_norm": self.decoder_init_norm or (1.0 if unit else 0.1),
            "subtract_decoder_bias": not self.transcoder
            if self.subtract_decoder_bias is None
            else bool(self.subtract_decoder_bias),
            "k_aux": self.k_aux or max(1, self.d_in // 2),
            "betas": tuple(self.betas),
            "prefixes": self._prefixes(),
            "auxiliary": (1 / 32 if self.architecture in AUXILIARY_BY_DEFAULT else 0.0)
            if self.auxiliary is None
            else self.auxiliary,
            "clip": float(self.architecture in CLIPPED_BY_DEFAULT) if self.clip is None else self.clip,
        }
        if self.architecture == "gated" and not unit:
            raise ValueError(
                "decoder_norm is 'free' with architecture='gated', whose penalty has no norms; expected 'unit'."
            )
        if unit and filled["decoder_init_norm"] != 1.0:
            raise ValueError(f"decoder_init_norm is {self.decoder_init_norm} with a unit decoder; expected 1 or None.")
        for name, value in filled.items():
            object.__setattr__(self, name, value)

    def _prefixes(self) -> tuple[int, ...] | None:
        if self.architecture != "matryoshka":
            _need(self, "prefixes", self.prefixes is None, "None: only matryoshka has nested dictionaries")
            return None
        if self.prefixes is None:
            return tuple(sorted({max(1, round(share * self.n_latents)) for share in PREFIXES}))
        rising = isinstance(self.prefixes, list | tuple) and len(self.prefixes) > 0 and all(map(_whole, self.prefixes))
        rising = rising and list(self.prefixes) == sorted(set(self.prefixes)) and self.prefixes[0] >= 1
        _need(
            self,
            "prefixes",
            rising and self.prefixes[-1] == self.n_latents,
            f"whole numbers that rise to n_latents, {self.n_latents}",
        )
        return tuple(self.prefixes)

    @property
    def transcoder(self) -> bool:
        """Whether the target is something other than the input."""
        return self.d_out is not None

    @property
    def width_out(self) -> int:
        """Width of the target: d_out, or d_in in an autoencoder."""
        return self.d_in if self.d_out is None else self.d_out

    def to_json(self) -> dict[str, Any]:
        """Plain values, for a file; `from_json` reverses it."""
        return {**asdict(self), "betas": list(self.betas), "prefixes": self.prefixes and list(self.prefixes)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> SAEConfig:
        """The config of these values. ValueError, naming the field, for one that does not exist."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ValueError(f"Unknown fields {unknown}; this version of SAEConfig knows {sorted(known)}.")
        return cls(**json.loads(json.dumps(values)))


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _need(config: SAEConfig, name: str, right: bool, expected: str) -> None:
    if not right:
        raise ValueError(f"{name} is {getattr(config, name)!r}; expected {expected}.")
