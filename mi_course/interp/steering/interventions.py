"""Interventions on the residual stream while the model runs: adding a vector, removing a direction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mi_course.interp.steering._checks import check_coefficient, check_layers, check_size, check_vector

if TYPE_CHECKING:
    from jaxtyping import Float
    from transformer_lens.model_bridge import TransformerBridge


def add_vector(
    resid: Float[Tensor, "batch pos d"], hook: Any, vector: Float[Tensor, " d"], coefficient: float, start: int
) -> Float[Tensor, "batch pos d"]:
    """A hook that adds coefficient · vector at every position from `start` ≥ 0 on; the tensor passed in is unchanged.

    A start past the end changes nothing. Positions are those of this tensor: when generation with a key/value cache
    passes one new token at a time, that token is position 0. `steering` counts positions through the cache.
    """
    if start < 0:
        raise ValueError(f"start is {start}, expected 0 or more: positions are counted from the beginning.")
    out = resid.clone()
    out[:, start:] += coefficient * vector
    return out


def ablate_direction(
    resid: Float[Tensor, "batch pos d"], hook: Any, direction: Float[Tensor, " d"]
) -> Float[Tensor, "batch pos d"]:
    """A hook that removes each position's component along the direction, which may have any norm.

    A zero direction changes nothing. Arditi et al. 2024, "Refusal in Language Models Is Mediated by a Single
    Direction", section 2.4.
    """
    return orthogonalize(resid, direction)


def orthogonalize(W: Float[Tensor, "*in d"], direction: Float[Tensor, " d"]) -> Float[Tensor, "*in d"]:
    """W without its rows' components along the direction: W − (W u) uᵀ with u = direction / ‖direction‖.

    Row vectors, x @ W: the *output* axis is the last. A zero direction changes nothing.

    >>> orthogonalize(torch.tensor([[3.0, 4.0]]), torch.tensor([0.0, 2.0])).tolist()
    [[3.0, 0.0]]
    """
    norm = direction.norm()
    if float(norm) == 0:
        return W.clone()
    unit = direction / norm
    return W - (W @ unit)[..., None] * unit


@dataclass(frozen=True, eq=False)
class Steer:
    """Add coefficient · vector to `hook_resid_post` of these layers, at positions start ≤ p < stop.

    vector: (d_model,), or (prompt, d_model) for one of its own per row of the batch.
    layers: one number, or several (then the vector is added at each).
    start, stop: counted in each prompt's own tokens, BOS is 0, padding is not counted; without a stop, everything that
        is generated is steered too. start may be one number per row: the prompts' lengths steer only what is generated.
    ValueError on construction for an impossible vector, layer, position or coefficient.
    """

    vector: Float[Tensor, " d_model"]
    layers: int | Sequence[int]
    coefficient: float = 1.0
    start: int | Sequence[int] = 1
    stop: int | None = None

    def __post_init__(self) -> None:
        vector = check_vector(self.vector)
        check_layers(self.layers)
        check_coefficient(self.coefficient, vector, torch.float32)
        starts = [self.start] if isinstance(self.start, int) else list(self.start)
        if not starts or any(isinstance(s, bool) or not isinstance(s, int) or s < 0 for s in starts):
            raise ValueError(f"start is {self.start!r}, expected whole numbers from 0 on (BOS is 0).")
        if self.stop is not None and (not isinstance(self.stop, int) or self.stop < 0):
            raise ValueError(f"stop is {self.stop!r}, expected a whole number from 0 on, or None.")


@dataclass(frozen=True, eq=False)
class Ablate:
    """Remove the component along the direction, at every position from `start` on; 0, the default, includes BOS.

    layers: None removes it from everything that is written into the stream (embeddings, each attention's and each MLP's
        output), so that the stream never holds it; this equals `orthogonalized` weights. With layer numbers it is
        removed from `hook_resid_post` of these only, and later layers may write it again.
    start: 1 leaves BOS alone, an attention sink of huge norm: removing a direction from it can do harm that has nothing
        to do with the concept, so look at the loss on neutral text. Weights know no positions: only start 0 equals
        `orthogonalized`. Better still, remove the sink from the direction, `orthogonalize(direction, bos)` with BOS's
        residual: SmolLM2's direction of opinion then costs 0.1 nats everywhere instead of 2.9.
    """

    direction: Float[Tensor, " d_model"]
    layers: int | Sequence[int] | None = None
    start: int = 0

    def __post_init__(self) -> None:
        if check_vector(self.direction, "direction").ndim != 1:
            raise ValueError(f"direction has shape {tuple(self.direction.shape)}, expected (d_model,).")
        if self.layers is not None:
            check_layers(self.layers)
        if isinstance(self.start, bool) or not isinstance(self.start, int) or self.start < 0:
            raise ValueError(f"start is {self.start!r}, expected a whole number from 0 on (BOS is 0).")


class _Positions:
    """The positions, in each prompt, of the tokens of the current forward pass, with a key/value cache or without."""

    def __init__(self) -> None:
        self.past = 0
        self.first: Tensor | None = None

    def read(self, module: Any, args: tuple, kwargs: dict[str, Any]) -> None:
        """A forward pre-hook of the wrapped model, the only place that sees the cache and the mask of every pass."""
        cache, mask = kwargs.get("past_key_values"), kwargs.get("attention_mask")
        self.past = 0 if cache is None else int(cache.get_seq_length())
        padded = mask is not None and mask.ndim == 2 and not bool(mask[:, 0].all())
        self.first = mask.ne(0).int().argmax(dim=1, keepdim=True) if padded else None

    def of(self, resid: Tensor) -> Tensor:
        """Position of each token in its own prompt, (batch or 1, pos); negative for left padding."""
        columns = self.past + torch.arange(resid.shape[1], device=resid.device)[None]
        return columns if self.first is None else columns - self.first.to(resid.device)


@contextmanager
def steering(model: TransformerBridge, *interventions: Steer | Ablate) -> Iterator[TransformerBridge]:
    """A context in which every forward pass of the model is steered. It leaves no hook behind, also after an error.

    Works for `model(tokens)`, `run_with_cache` and any generation. Positions come from the key/value cache and the
    attention mask of each pass: a cached step steers only its new token, and left-padded rows count their own tokens.
    Interventions at one hook act in the order given. ValueError for an unknown layer, a vector of another size, or a
    product that overflows the model's dtype.
    """
    positions = _Positions()
    hooks = [pair for intervention in interventions for pair in _hooks(model, intervention, positions)]
    if not hooks:
        yield model
        return
    handle = model.original_model.register_forward_pre_hook(positions.read, with_kwargs=True)
    try:
        with model.hooks(fwd_hooks=hooks):
            yield model
    finally:
        handle.remove()


def _hooks(
    model: TransformerBridge, intervention: Steer | Ablate, positions: _Positions
) -> list[tuple[str, Callable[[Tensor, Any], Tensor]]]:
    n_layers = model.cfg.n_layers
    if isinstance(intervention, Ablate):
        check_size(intervention.direction, model, "direction")
        direction = intervention.direction.detach().to(model.cfg.device)
        if intervention.layers is None:
            names = _written(model)
        else:
            names = [f"blocks.{layer}.hook_resid_post" for layer in check_layers(intervention.layers, n_layers)]

        def ablate(resid: Tensor, hook: Any) -> Tensor:
            # In float32: in bfloat16 the remainder would be 0.4 % of what was there.
            out = ablate_direction(resid.float(), hook, direction.float()).to(resid.dtype)
            if intervention.start == 0:
                return out
            return torch.where((positions.of(resid) >= intervention.start)[..., None], out, resid)

        return [(name, ablate) for name in names]
    if not isinstance(intervention, Steer):
        raise ValueError(f"An intervention is a {type(intervention).__name__}, expected Steer(...) or Ablate(...).")
    check_size(intervention.vector, model)
    layers = check_layers(intervention.layers, n_layers)
    coefficient = check_coefficient(intervention.coefficient, intervention.vector, model.cfg.dtype)
    if coefficient == 0:
        return []
    device = model.cfg.device
    push = coefficient * intervention.vector.detach().to(device)
    push = push[:, None] if push.ndim == 2 else push
    start = torch.as_tensor(intervention.start, device=device).reshape(-1, 1)

    def add(resid: Tensor, hook: Any) -> Tensor:
        for what, size in (("vectors", push.shape[0] if push.ndim == 3 else 1), ("starts", len(start))):
            if size not in (1, resid.shape[0]):
                raise ValueError(f"Steer has {size} {what}, but the batch has {resid.shape[0]} prompts.")
        position = positions.of(resid)
        steered = position >= start
        if intervention.stop is not None:
            steered &= position < intervention.stop
        if bool(steered.all()):  # as in every cached step: one addition
            return resid + push.to(resid.dtype)
        return resid + steered[..., None] * push.to(resid.dtype)

    return [(f"blocks.{layer}.hook_resid_post", add) for layer in layers]


def _written(model: TransformerBridge) -> list[str]:
    """Hook names of everything that is added to the residual stream.

    Not `hook_resid_mid`: in the bridge it is on the MLP's branch, so a change there does not reach the stream.
    """
    blocks = [
        f"blocks.{layer}.{part}" for layer in range(model.cfg.n_layers) for part in ("hook_attn_out", "hook_mlp_out")
    ]
    embeddings = ["hook_embed", "hook_pos_embed"] if _adds_positions(model) else ["hook_embed"]
    return [name for name in (*embeddings, *blocks) if name in model.hook_dict]


@contextmanager
def orthogonalized(model: TransformerBridge, direction: Float[Tensor, " d_model"]) -> Iterator[TransformerBridge]:
    """A context in which no weight of the model can write the direction: as `Ablate(direction)`, without hooks.

    Changes W_E, W_pos, every W_O and W_out and their biases in place, and restores them afterwards (a copy is in memory
    meanwhile: 375 MB for SmolLM2). Arditi et al. 2024, section 4.1.

    The model must be in compatibility mode (or have an unembedding of its own). Raw SmolLM2 uses one matrix as W_E and
    W_U: removing the direction from what is *written* would also blind the unembedding to it, which ablation does not
    do. Compatibility mode folds the final norm into W_U, which makes it a matrix of its own. It also folds the norms
    before each block, which act where the stream is read, so they change nothing here. ValueError if the two are tied.
    """
    Ablate(direction)  # its checks
    check_size(direction, model, "direction")
    if _storage(model.W_E) == _storage(model.W_U):
        raise ValueError(
            "W_E and W_U are one matrix in this model, so taking the direction out of the embedding would also change "
            "how logits are read. Load it with compatibility=True, which gives W_U weights of its own."
        )
    parameters = {_storage(parameter) for parameter in model.parameters()}
    weights = []
    for name, weight in _writers(model):
        if _storage(weight) in parameters:
            weights.append(weight)
        elif bool((weight != 0).any()):  # a zero tensor in place of an absent bias is not a parameter
            raise ValueError(f"{name} of this model is not a view of its parameters, so it cannot be changed in place.")
    saved = [weight.detach().clone() for weight in weights]
    try:
        with torch.no_grad():
            for weight in weights:
                weight.copy_(orthogonalize(weight.float(), direction.detach().to(weight.device).float()))
        yield model
    finally:
        with torch.no_grad():
            for weight, old in zip(weights, saved, strict=True):
                weight.copy_(old)


def _writers(model: TransformerBridge) -> Iterator[tuple[str, Tensor]]:
    """Name and weight of everything that writes to the residual stream."""
    yield "W_E", model.W_E
    if _adds_positions(model):
        yield "W_pos", model.W_pos
    for layer in range(model.cfg.n_layers):
        block = model.blocks[layer]
        parts = [(block.attn, "W_O"), (block.attn, "b_O")]
        if not model.cfg.attn_only:
            parts += [(block.mlp, "W_out"), (block.mlp, "b_out")]
        for owner, name in parts:
            weight = getattr(owner, name, None)
            if weight is not None:
                yield f"layer {layer}'s {name}", weight


def _adds_positions(model: TransformerBridge) -> bool:
    # Rotary models have a `hook_pos_embed` too, which adds nothing to the stream.
    return model.cfg.positional_embedding_type == "standard"


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
