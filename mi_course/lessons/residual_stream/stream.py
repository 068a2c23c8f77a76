"""The residual stream as a sum: its parts, the norm before every reader, what each part says, and what an ablation says."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mi_course.exercises import (
    Call,
    Case,
    Exercise,
    Mistake,
    Part,
    RandomInputs,
    cache_ref,
    case,
    left_hooks_by,
    model_ref,
)
from mi_course.interp.heads import all_heads
from mi_course.interp.models import record_bare, run_bare
from mi_course.wire import Observation

_GROUPED = {
    "n_layers": 3,
    "n_heads": 4,
    "n_key_value_heads": 2,
    "d_model": 16,
    "d_head": 4,
    "d_mlp": 24,
    "d_vocab": 17,
    "n_ctx": 16,
    "positional_embedding_type": "rotary",
    "normalization_type": "RMS",
}
_LEARNED_POSITIONS = {
    "n_layers": 2,
    "n_heads": 3,
    "d_model": 12,
    "d_head": 4,
    "d_mlp": 20,
    "d_vocab": 13,
    "n_ctx": 12,
}
"""Here the embedding alone is not what enters layer 0."""


# ---------------------------------------------------------------------------------------------------------------------
# residual_parts


def _residual_parts(cache: Any, n_layers: int, pos: int) -> Tensor:
    """Oracle: differences of the stream before and after each step."""
    parts = [cache["blocks.0.hook_resid_pre"][0, pos].double()]
    for layer in range(n_layers):
        pre, mid, post = (
            cache[f"blocks.{layer}.hook_resid_{name}"][0, pos].double() for name in ("pre", "mid", "post")
        )
        parts += [mid - pre, post - mid]
    return torch.stack(parts).float()


def _step(cache: Any, layer: int, pos: int, names: Sequence[str] = ("attn_out", "mlp_out")) -> list[Tensor]:
    return [cache[name, layer][0, pos] for name in names]


def _parts_of(cache: Any, n_layers: int, pos: int, *names: str) -> Tensor:
    steps = [part for layer in range(n_layers) for part in _step(cache, layer, pos, names)]
    return torch.stack([cache["resid_pre", 0][0, pos], *steps])


def _attention_first(cache: Any, n_layers: int, pos: int) -> Tensor:
    steps = [cache[name, layer][0, pos] for name in ("attn_out", "mlp_out") for layer in range(n_layers)]
    return torch.stack([cache["resid_pre", 0][0, pos], *steps])


def _embedding_last(cache: Any, n_layers: int, pos: int) -> Tensor:
    parts = _residual_parts(cache, n_layers, pos)
    return torch.cat([parts[1:], parts[:1]])


def _without_positions(cache: Any, n_layers: int, pos: int) -> Tensor:
    return torch.cat([cache["embed"][0, pos][None], _residual_parts(cache, n_layers, pos)[1:]])


def _one_layer_too_few(cache: Any, n_layers: int, pos: int) -> Tensor:
    return _residual_parts(cache, n_layers - 1, pos) if n_layers > 1 else _residual_parts(cache, n_layers, pos)[:1]


def _at_last(cache: Any, n_layers: int, pos: int) -> Tensor:
    return _residual_parts(cache, n_layers, -1)


def _at_next(cache: Any, n_layers: int, pos: int) -> Tensor:
    length = cache["resid_pre", 0].shape[1]
    return _residual_parts(cache, n_layers, (pos + 1) % length)


def _parts_cases(
    config: dict[str, Any], asked: tuple[tuple[int, int, int], ...]
) -> Callable[[RandomInputs, str], list[Case]]:
    def cases(draw: RandomInputs, size: str) -> list[Case]:
        made = []
        for length, n_layers, pos in asked:
            cache = cache_ref(model_ref(config, draw.seed()), draw.integers(0, config["d_vocab"], 1, length))
            about = f"{length} positions, {n_layers} layers, position {pos}"
            made.append(case(cache, n_layers, pos, about=about, atol=1e-4, rtol=1e-3))
        return made

    return cases


RESIDUAL_PARTS = Exercise(
    id="residual_stream.residual_parts",
    task="The vectors whose sum is the residual stream at one position: embedding, then attention and MLP of each layer, in order.",
    minutes=8,
    difficulty=1,
    oracle=_residual_parts,
    parts=(
        Part("grouped heads, rotary positions", 2, _parts_cases(_GROUPED, ((9, 3, 5), (7, 3, 2), (6, 2, 4)))),
        Part("learned positions", 1, _parts_cases(_LEARNED_POSITIONS, ((8, 2, 3), (5, 1, 2)))),
        Part(
            "the first position, counted from the end, no layer",
            1,
            _parts_cases(_GROUPED, ((6, 3, 0), (7, 3, -1), (8, 3, -3), (1, 3, 0), (5, 0, 2))),
        ),
    ),
    mistakes=(
        Mistake(
            "mlp_before_attention",
            "Attention and MLP of each layer are swapped. Attention comes first, and the MLP reads what it wrote.",
            lambda cache, n_layers, pos: _parts_of(cache, n_layers, pos, "mlp_out", "attn_out"),
        ),
        Mistake(
            "all_attention_first",
            "You list all attention outputs, and then all MLPs. In the order of computation they alternate: attention and MLP of layer 0, attention and MLP of layer 1, …",
            _attention_first,
        ),
        Mistake(
            "embedding_missing",
            'The embedding is missing. It is the first part, row 0: `cache["resid_pre", 0]`.',
            lambda cache, n_layers, pos: _residual_parts(cache, n_layers, pos)[1:],
        ),
        Mistake(
            "embedding_last",
            "The embedding comes last. It is the first thing in the stream: row 0.",
            _embedding_last,
        ),
        Mistake(
            "positions_missing",
            'Row 0 is the token\'s embedding alone. In this model positions have an embedding too, which is added to it. What enters layer 0 is `cache["resid_pre", 0]`.',
            _without_positions,
        ),
        Mistake(
            "streams_instead_of_parts",
            "These are the streams *after* each step: sums of all that came before. What the step itself added is asked for: `attn_out` and `mlp_out`.",
            lambda cache, n_layers, pos: _parts_of(cache, n_layers, pos, "resid_mid", "resid_post"),
        ),
        Mistake(
            "layers_input_added",
            "You list the stream before each layer as well, which is the sum of all earlier parts: everything is there many times. Only the first is a part, the embedding.",
            lambda cache, n_layers, pos: _parts_of(cache, n_layers, pos, "resid_pre", "attn_out", "mlp_out")[1:],
        ),
        Mistake(
            "without_mlps",
            "The MLPs are missing. Each layer adds two parts, `attn_out` and `mlp_out`.",
            lambda cache, n_layers, pos: _parts_of(cache, n_layers, pos, "attn_out"),
        ),
        Mistake(
            "without_attention",
            "Attention is missing. Each layer adds two parts, `attn_out` and `mlp_out`.",
            lambda cache, n_layers, pos: _parts_of(cache, n_layers, pos, "mlp_out"),
        ),
        Mistake(
            "last_layer_missing",
            "The last layer is missing. Layers count from 0 to n_layers − 1: `range(n_layers)`.",
            _one_layer_too_few,
        ),
        Mistake(
            "position_ignored",
            'These are the parts at the last position. The position that is asked for is `pos`: `cache["attn_out", layer][0, pos]`.',
            _at_last,
        ),
        Mistake(
            "position_off_by_one",
            "These are the parts one position further. BOS counts: it is position 0.",
            _at_next,
        ),
        Mistake(
            "all_positions",
            'You kept all positions. Those of `pos` are asked for, [1 + 2 · layers, d_model]: `cache["attn_out", layer][0, pos]`.',
            lambda cache, n_layers, pos: torch.stack(
                [
                    cache["resid_pre", 0][0],
                    *(cache[name, layer][0] for layer in range(n_layers) for name in ("attn_out", "mlp_out")),
                ]
            ),
        ),
        Mistake(
            "summed",
            "You added them up. Their sum is the stream; each part is asked for, in a row of its own.",
            lambda cache, n_layers, pos: _residual_parts(cache, n_layers, pos).sum(0),
        ),
    ),
    hints=(
        'A list that begins with `cache["resid_pre", 0][0, pos]`, the embedding; then two entries for each layer. `torch.stack` makes a tensor of it.',
        '`for layer in range(n_layers): parts += [cache["attn_out", layer][0, pos], cache["mlp_out", layer][0, pos]]`',
    ),
    reveal="Nothing is ever overwritten in the stream: each component reads it (through a norm) and adds to it. So the last stream is an ordinary sum, and everything linear that is asked of it can be asked of each part. "
    'That is what makes logit lens and direct attribution possible (Elhage et al. 2021, "the residual stream").',
)


# ---------------------------------------------------------------------------------------------------------------------
# rms_norm


def _rms_norm(x: Tensor, w: Tensor, eps: float) -> Tensor:
    """Oracle: one vector after the other, in Python."""
    rows = []
    for row in x.reshape(-1, x.shape[-1]).tolist():
        scale = math.sqrt(sum(a * a for a in row) / len(row) + eps) or 1.0
        rows.append([a / scale * float(b) for a, b in zip(row, w, strict=True)])
    return torch.tensor(rows).reshape(x.shape)


def _normed(
    mean_square: Callable[[Tensor], Tensor], root: Callable[[Tensor, float], Tensor]
) -> Callable[[Tensor, Tensor, float], Tensor]:
    return lambda x, w, eps: x / root(mean_square(x), eps) * w


def _mean_square(x: Tensor) -> Tensor:
    return x.pow(2).mean(-1, keepdim=True)


def _under_root(mean_square: Tensor, eps: float) -> Tensor:
    return (mean_square + eps).sqrt()


def _centered(x: Tensor) -> Tensor:
    return x - x.mean(-1, keepdim=True)


def _first_axis(x: Tensor, w: Tensor, eps: float) -> Tensor:
    return x / (x.pow(2).mean(0, keepdim=True) + eps).sqrt() * w


def _is_without_eps(case: Case, observation: Observation) -> bool:
    """Right but for eps where vectors are not zero."""
    x, w, _ = case.calls[0].args
    value = observation.replies[0].value
    there = x.any(-1)
    if not isinstance(value, Tensor) or value.shape != x.shape or not bool(there.any()):
        return False
    return torch.allclose(value[there].double(), _rms_norm(x, w, 0.0)[there].double(), rtol=1e-4, atol=1e-6)


def _norm_cases(
    shapes: tuple[tuple[int, ...], ...], eps: float, std: float = 1.5
) -> Callable[[RandomInputs, str], list[Case]]:
    def cases(draw: RandomInputs, size: str) -> list[Case]:
        return [
            case(
                draw.normal(*shape, mean=0.7, std=std),
                draw.normal(shape[-1], mean=1.0, std=0.6),
                eps,
                about=f"shape {shape}, eps {eps:g}",
                atol=1e-6,
            )
            for shape in shapes
        ]

    return cases


def _zero_cases(draw: RandomInputs, size: str) -> list[Case]:
    x = draw.normal(4, 5, mean=0.5)
    x[2] = 0.0
    tiny = draw.normal(3, 6, std=1e-4)
    return [
        case(x, draw.normal(5, mean=1.0), 1e-5, about="a vector of zeros among others"),
        case(tiny, draw.normal(6, mean=1.0), 1e-5, about="vectors so short that eps decides", atol=1e-7),
        case(torch.zeros(3), draw.normal(3, mean=1.0), 1e-6, about="a vector of zeros alone"),
    ]


RMS_NORM = Exercise(
    id="residual_stream.rms_norm",
    task="Divide each vector by the root of the mean of its squares, plus `eps` under the root, and multiply by the weight.",
    minutes=5,
    difficulty=1,
    fixed={"eps=0": "always positive", "eps>=0": "always positive"},
    oracle=_rms_norm,
    parts=(
        Part("one to four axes", 2, _norm_cases(((4, 6), (7,), (3, 4, 5), (2, 3, 5, 4)), 1e-5)),
        Part(
            "a large eps, an axis of size one",
            1,
            _norm_cases(((3, 5), (1, 4), (6, 1), (1,), (2, 3, 1), (2, 3, 1, 4), (3, 2, 4, 1)), 0.5),
        ),
        Part("zeros and tiny vectors", 1, _zero_cases),
    ),
    mistakes=(
        Mistake(
            "eps_outside_root",
            "You added eps to the root. It stands under the root: √(mean of x² + eps). For short vectors that is another number.",
            _normed(_mean_square, lambda m, eps: m.sqrt() + eps),
        ),
        Mistake(
            "mean_subtracted",
            "You subtracted the mean. That is LayerNorm; RMSNorm leaves the mean where it is.",
            lambda x, w, eps: _centered(x) / _under_root(_mean_square(_centered(x)), eps) * w,
        ),
        Mistake(
            "standard_deviation",
            "You divided by the standard deviation, which measures from the mean. The root mean square measures from zero: `x.pow(2).mean(-1, keepdim=True)`.",
            lambda x, w, eps: x / _under_root(_mean_square(_centered(x)), eps) * w,
        ),
        Mistake(
            "sum_for_mean",
            "You took the *sum* of the squares, so that every vector has length 1. With the mean its length is √d.",
            _normed(lambda x: x.pow(2).sum(-1, keepdim=True), _under_root),
        ),
        Mistake(
            "weight_missing",
            "The weight is missing: every dimension has its own factor `w`.",
            lambda x, w, eps: _rms_norm(x, torch.ones_like(w), eps),
        ),
        Mistake(
            "weight_plus_one",
            "You multiplied by 1 + w. Some models store their weight that way (Gemma); here `w` is the factor itself.",
            lambda x, w, eps: _rms_norm(x, w + 1, eps),
        ),
        Mistake(
            "weight_inside",
            "The weight is applied before the root mean square is taken. First normalize, then multiply.",
            lambda x, w, eps: _rms_norm(x * w, torch.ones_like(w), eps),
        ),
        Mistake(
            "weight_twice",
            "The weight is in it twice.",
            lambda x, w, eps: _rms_norm(x, w * w, eps),
        ),
        Mistake(
            "eps_fixed",
            "Your eps is 1e-5, whatever is passed. Use the argument.",
            lambda x, w, eps: _rms_norm(x, w, 1e-5),
        ),
        Mistake(
            "eps_as_floor",
            "You used eps as a floor (`clamp`, `max`). It is added: √(mean of x² + eps).",
            _normed(_mean_square, lambda m, eps: m.clamp(min=eps).sqrt()),
        ),
        Mistake(
            "eps_missing",
            "This is the norm without eps, but for zeros. Add `eps`, as it is passed, to the mean square under the root: a number of your own, or eps as a floor, is not the same.",
            _normed(_mean_square, lambda m, eps: m.sqrt()),
            _is_without_eps,
        ),
        Mistake(
            "root_missing",
            "The root is missing: you divided by the mean square itself.",
            _normed(_mean_square, lambda m, eps: m + eps),
        ),
        Mistake(
            "wrong_axis",
            "You took the mean over the first axis. Each vector lies along the *last* one: `mean(dim=-1, keepdim=True)`.",
            _first_axis,
        ),
        Mistake(
            "one_scale_for_all",
            "You took the mean over everything, so that all vectors are divided by the same number. Each has its own: `mean(dim=-1, keepdim=True)`.",
            lambda x, w, eps: x / (x.pow(2).mean() + eps).sqrt() * w,
        ),
        Mistake(
            "mean_absolute",
            "You divided by the mean of the absolute values. It is the root of the mean of the squares.",
            lambda x, w, eps: x / (x.abs().mean(-1, keepdim=True) + eps) * w,
        ),
    ),
    hints=(
        "`x.pow(2).mean(dim=-1, keepdim=True)` is the mean square of each vector; `keepdim` lets it be divided by, whatever the number of axes.",
        "Add `eps` to the mean square, *then* take the root. `x / root * w`.",
    ),
    reveal="RMSNorm (Zhang and Sennrich 2019) sets the length of every vector to about √d, and then stretches each dimension by its weight. It is not linear, because the scale depends on the vector; with the scale held fixed it is. "
    "Compatibility mode folds `w` into the matrices that read the stream, so that only the division is left.",
)


# ---------------------------------------------------------------------------------------------------------------------
# logit_attribution


def _logit_attribution(parts: Tensor, scale: float, direction: Tensor) -> Tensor:
    """Oracle: one product at a time."""
    rows = [sum(float(a) / scale * float(b) for a, b in zip(part, direction, strict=True)) for part in parts]
    return torch.tensor(rows)


def _rms(x: Tensor) -> Tensor:
    return x.pow(2).mean(-1, keepdim=True).sqrt()


def _attribution_cases(
    shapes: tuple[tuple[int, int], ...], scale: float, zero: bool = False
) -> Callable[[RandomInputs, str], list[Case]]:
    def cases(draw: RandomInputs, size: str) -> list[Case]:
        made = []
        for n, d in shapes:
            parts, direction = draw.normal(n, d, mean=0.3), draw.normal(d, mean=-0.2)
            # Of very different length, as the components of a model are.
            parts *= draw.uniform(n, 1, low=0.2, high=3.0)
            if zero:
                parts[n // 2] = 0.0
            factor = scale * draw.number(0.9, 1.1)
            made.append(case(parts, factor, direction, about=f"{n} parts of {d} dimensions, scale {factor:.3g}"))
        return made

    return cases


LOGIT_ATTRIBUTION = Exercise(
    id="residual_stream.logit_attribution",
    task="What each part of the stream adds to a logit: divide it by the final norm's scale, the same for all, and project it on the direction.",
    minutes=5,
    difficulty=1,
    fixed={"scale=0": "always positive", "scale>=0": "always positive"},
    oracle=_logit_attribution,
    parts=(
        Part("random parts, a scale above 1", 2, _attribution_cases(((7, 5), (4, 9)), 2.6)),
        Part(
            "a small scale, and a large one",
            1,
            lambda draw, size: [
                *_attribution_cases(((5, 6),), 0.3)(draw, size),
                *_attribution_cases(((6, 4),), 40.0)(draw, size),
            ],
        ),
        Part(
            "a part that is zero, a single part, a single dimension",
            1,
            _attribution_cases(((5, 4), (2, 3), (6, 1)), 1.7, zero=True),
        ),
    ),
    mistakes=(
        Mistake(
            "scale_missing",
            "The scale is missing. The unembedding reads the stream *after* the final norm, which divided it by `scale`.",
            lambda parts, scale, direction: parts @ direction,
        ),
        Mistake(
            "multiplied_by_scale",
            "You multiplied by the scale. The norm divides by it.",
            lambda parts, scale, direction: parts @ direction * scale,
        ),
        Mistake(
            "scale_of_each_part",
            "Each part is divided by a scale of its own. Then they no longer add up to the logit: the norm divided the *whole* stream, all parts by one number, `scale`.",
            lambda parts, scale, direction: (parts / _rms(parts)).nan_to_num(0.0) @ direction,
        ),
        Mistake(
            "scale_of_the_sum",
            "You computed the scale from these parts. It is given: if only some parts of the stream are passed, their sum has another.",
            lambda parts, scale, direction: parts / _rms(parts.sum(0)) @ direction,
        ),
        Mistake(
            "scaled_twice",
            "You divided by the scale twice.",
            lambda parts, scale, direction: parts @ direction / scale**2,
        ),
        Mistake(
            "root_of_scale",
            "You divided by the root of the scale. `scale` is the root mean square itself.",
            lambda parts, scale, direction: parts @ direction / math.sqrt(scale),
        ),
        Mistake(
            "unit_direction",
            "You made the direction a unit vector. The length of W_U's column is part of the logit: use it as it is.",
            lambda parts, scale, direction: parts @ (direction / direction.norm()) / scale,
        ),
        Mistake(
            "cosine",
            "These are cosines. A part that is twice as long adds twice as much to the logit: do not normalize it.",
            lambda parts, scale, direction: torch.cosine_similarity(parts, direction, dim=-1),
        ),
        Mistake(
            "centered",
            "You subtracted the mean of each part. RMSNorm does not, and neither does this.",
            lambda parts, scale, direction: _centered(parts) @ direction / scale,
        ),
        Mistake(
            "absolute",
            "You took absolute values. The sign says whether a part speaks for the right token or against it.",
            lambda parts, scale, direction: (parts @ direction / scale).abs(),
        ),
        Mistake(
            "shares",
            "You divided by the total, so that they sum to 1. What each part adds, in logits, is asked for.",
            lambda parts, scale, direction: (a := parts @ direction) / a.sum(),
        ),
        Mistake(
            "accumulated",
            "You added up the parts as they come. That is the logit so far; what each part adds is asked for.",
            lambda parts, scale, direction: (parts @ direction / scale).cumsum(0),
        ),
        Mistake(
            "summed",
            "You added all parts. One number for each part is asked for.",
            lambda parts, scale, direction: (parts @ direction / scale).sum(),
        ),
        Mistake(
            "elementwise",
            "`*` multiplies dimension by dimension. The sum over dimensions is missing: `parts @ direction`.",
            lambda parts, scale, direction: parts * direction / scale,
        ),
    ),
    hints=(
        "A logit is the dot product of the normed stream with a column of W_U. The normed stream is the sum of all parts, divided by `scale`.",
        "`parts @ direction` is one dot product for each part. What is left to do?",
    ),
    reveal="logit = (Σ parts / scale) · direction = Σ (part · direction / scale). The scale itself depends on all parts; holding it fixed asks what each part adds *given* the others, and makes the attributions add up exactly.",
)


# ---------------------------------------------------------------------------------------------------------------------
# ablated_difference

_Heads = list[tuple[int, int]]


def _differences(logits: Tensor, answers: Tensor) -> Tensor:
    picked = logits[:, -1].gather(1, answers)
    return picked[:, 0] - picked[:, 1]


def _clean_z(model: Any, tokens: Tensor) -> dict[int, Tensor]:
    """z of every layer."""
    names = [f"blocks.{layer}.attn.hook_z" for layer in range(model.cfg.n_layers)]
    return dict(enumerate(record_bare(model, tokens, names).values()))


def _with_replaced(model: Any, tokens: Tensor, replacements: dict[tuple[int, int], Tensor]) -> Tensor:
    """Logits when heads write from this z, [batch or 1, pos, d_head]: their rows of W_O are zero, and it is added after."""
    kept, hooks = [], []
    d_head = model.cfg.d_head
    with torch.no_grad():
        for (layer, head), z in replacements.items():
            weight = model.blocks[layer].attn.o.weight  # [d_model, n_heads · d_head]
            own = slice(head * d_head, (head + 1) * d_head)
            kept.append((weight, own, weight[:, own].clone()))
            written = z @ weight[:, own].T
            hooks.append((f"blocks.{layer}.hook_attn_out", lambda out, hook, written=written: out + written))
        try:
            for weight, own, _ in kept:
                weight[:, own] = 0.0
            return run_bare(model, tokens, hooks)
        finally:
            for weight, own, values in kept:
                weight[:, own] = values


def _replacing(
    value: Callable[[Tensor], Tensor], choose: Callable[[Any, _Heads], _Heads] = lambda model, heads: heads
) -> Callable[..., Tensor]:
    """An ablated_difference whose heads write value(clean z of the head, [prompt, pos, d_head])."""

    def ablated_difference(model: Any, tokens: Tensor, heads: _Heads, answers: Tensor) -> Tensor:
        z = _clean_z(model, tokens)
        chosen = [tuple(head) for head in choose(model, heads)]
        replaced = {(layer, head): value(z[layer][:, :, head]) for layer, head in chosen}
        return _differences(_with_replaced(model, tokens, replaced), answers)

    return ablated_difference


def _mean(z: Tensor) -> Tensor:
    return z.mean(0, keepdim=True)


def _last_only(z: Tensor) -> Tensor:
    z = z.clone()
    z[:, -1] = z[:, -1].mean(0)
    return z


def _all_but_last(z: Tensor) -> Tensor:
    kept = z[:, -1].clone()
    z = z.mean(0, keepdim=True).repeat(len(z), 1, 1)
    z[:, -1] = kept
    return z


_ablated_difference = _replacing(_mean)
"""Oracle: without a hook on z."""


def _oracle(model: Any, tokens: Tensor, heads: _Heads, answers: Tensor) -> Tensor:
    return _ablated_difference(model, tokens, heads, answers)


def _every(model: Any) -> _Heads:
    return all_heads(model.cfg.n_layers, model.cfg.n_heads)


def _last_of_each_layer(model: Any, heads: _Heads) -> _Heads:
    return list(dict(heads).items())


def _whole_layers(model: Any, heads: _Heads) -> _Heads:
    return [(layer, head) for layer in dict(heads) for head in range(model.cfg.n_heads)]


def _all_but(model: Any, heads: _Heads) -> _Heads:
    return [head for head in _every(model) if head not in set(map(tuple, heads))]


def _swapped(model: Any, heads: _Heads) -> _Heads:
    return [(head, layer) for layer, head in heads]


def _by_hooks(heads: _Heads, clean: dict[int, Tensor] | None = None) -> list[tuple[str, Any]]:
    """Hooks that put each head at its mean over the prompts: in `clean`, z by layer, or else in the run itself."""

    def put(z: Tensor, hook: Any, head: int) -> Tensor:
        of = z if clean is None else clean[hook.layer()]
        z = z.clone()
        z[:, :, head] = of[:, :, head].mean(0)
        return z

    return [(f"blocks.{layer}.attn.hook_z", lambda z, hook, head=head: put(z, hook, head)) for layer, head in heads]


def _mean_of_this_run(model: Any, tokens: Tensor, heads: _Heads, answers: Tensor) -> Tensor:
    return _differences(run_bare(model, tokens, _by_hooks(heads)), answers)


def _one_at_a_time(model: Any, tokens: Tensor, heads: _Heads, answers: Tensor) -> Tensor:
    """The sum of what each head takes alone."""
    clean = _ablated_difference(model, tokens, [], answers)
    return clean + sum((_ablated_difference(model, tokens, [head], answers) - clean for head in set(heads)), clean * 0)


def _after(change: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """An ablated_difference whose last step is change(logits, answers)."""

    def ablated_difference(model: Any, tokens: Tensor, heads: _Heads, answers: Tensor) -> Tensor:
        z = _clean_z(model, tokens)
        replaced = {(layer, head): _mean(z[layer][:, :, head]) for layer, head in heads}
        return change(_with_replaced(model, tokens, replaced), answers)

    return ablated_difference


def _hooks_stay(model: Any, tokens: Tensor, heads: _Heads, answers: Tensor) -> Tensor:
    for name, hook in _by_hooks(heads, _clean_z(model, tokens)):
        model.add_hook(name, hook)
    with torch.no_grad():
        return _differences(model(tokens), answers)


def _hooks_stay_after_error(model: Any, tokens: Tensor, heads: _Heads, answers: Tensor) -> Tensor:
    kept: dict[int, Tensor] = {}

    def keep(z: Tensor, hook: Any) -> None:
        kept[hook.layer()] = z.clone()

    for layer in {layer for layer, _ in heads}:
        model.add_hook(f"blocks.{layer}.attn.hook_z", keep)
    with torch.no_grad():
        model(tokens)
    model.reset_hooks()
    with torch.no_grad():
        return _differences(model.run_with_hooks(tokens, fwd_hooks=_by_hooks(heads, kept)), answers)


def _ablation_cases(
    config: dict[str, Any], asked: tuple[tuple[int, int, _Heads], ...]
) -> Callable[[RandomInputs, str], list[Case]]:
    def cases(draw: RandomInputs, size: str) -> list[Case]:
        made = []
        for prompts, length, heads in asked:
            names = ", ".join(f"{layer}.{head}" for layer, head in heads) or "no head"
            vocab = config["d_vocab"]
            right = draw.integers(0, vocab, prompts)
            wrong = (right + draw.integers(1, vocab, prompts)) % vocab
            made.append(
                case(
                    model_ref(config, draw.seed()),
                    draw.integers(0, vocab, prompts, length),
                    heads,
                    torch.stack([right, wrong], dim=1),
                    watch=("model", "arguments"),
                    about=f"{prompts} prompts of {length} tokens, {names} ablated",
                    rtol=1e-3,
                    atol=1e-4,
                )
            )
        return made

    return cases


def _interrupted_cases(draw: RandomInputs, size: str) -> list[Case]:
    vocab = _LEARNED_POSITIONS["d_vocab"]
    args = (
        model_ref(_LEARNED_POSITIONS, draw.seed()),
        draw.integers(0, vocab, 3, 6),
        [(1, 2), (0, 1)],
        torch.stack([draw.integers(0, 6, 3), draw.integers(6, vocab, 3)], dim=1),
    )
    calls = (Call(args, driver="raising", watch=("model",)), Call(args, watch=("model",)))
    return [Case(calls, "an error in the middle of the forward pass, then an ordinary call", rtol=1e-3, atol=1e-4)]


ABLATED_DIFFERENCE = Exercise(
    id="residual_stream.ablated_difference",
    task="The logit difference of each prompt when some heads' outputs are at their mean over the prompts, leaving no hook behind.",
    minutes=12,
    difficulty=3,
    fixed={
        "answers[1]": "always two, right and wrong",
        "tokens[0]": "answers has as many; varied by hand",
        "answers[0]": "as many as prompts; varied by hand",
    },
    oracle=_oracle,
    parts=(
        Part(
            "several layers, grouped key/value heads",
            2,
            _ablation_cases(
                _GROUPED, ((5, 7, [(2, 3), (0, 1), (2, 0), (1, 2)]), (4, 6, [(1, 1)]), (3, 5, [(0, 0), (2, 2)]))
            ),
        ),
        Part(
            "another model, a head named twice",
            1,
            _ablation_cases(_LEARNED_POSITIONS, ((4, 5, [(0, 2), (1, 0), (0, 2)]), (6, 4, [(0, 1)]))),
        ),
        Part(
            "no heads, a single prompt, a single position",
            1,
            _ablation_cases(_GROUPED, ((3, 6, []), (1, 5, [(1, 0)]), (4, 1, [(0, 3), (1, 3)]))),
        ),
        Part("no hook stays, also after an error", 1, _interrupted_cases),
    ),
    mistakes=(
        Mistake(
            "zero_for_mean",
            "The heads are set to zero. Their mean over the prompts is asked for: zero is something that later layers have never seen.",
            _replacing(torch.zeros_like),
        ),
        Mistake(
            "mean_over_positions",
            "You averaged over positions as well. Each position has its own mean over the prompts, `z[:, :, head].mean(0)`.",
            _replacing(lambda z: z.mean((0, 1), keepdim=True)),
        ),
        Mistake(
            "mean_over_positions_of_each",
            "You averaged over the positions of each prompt. The mean is over the *prompts*, at each position: `z[:, :, head].mean(0)`.",
            _replacing(lambda z: z.mean(1, keepdim=True)),
        ),
        Mistake(
            "mean_of_this_run",
            "In the later layers your means come from the ablated run: the heads before them are at their mean already. Take all means from a run in which nothing is ablated, and then ablate.",
            _mean_of_this_run,
        ),
        Mistake(
            "last_position_only",
            "The heads are at their mean at the last position only. Replace them at every position.",
            _replacing(_last_only),
        ),
        Mistake(
            "last_position_spared",
            "The last position still has its own z. Replace the heads at every position.",
            _replacing(_all_but_last),
        ),
        Mistake(
            "nothing_ablated",
            "This is the logit difference of the whole model: nothing that your hooks do reaches it. Return the changed z, or change it in place.",
            _replacing(_mean, lambda model, heads: []),
        ),
        Mistake(
            "whole_layer",
            "Every head of the layers concerned is at its mean. Only those in the list should be: `z[:, :, head]`.",
            _replacing(_mean, _whole_layers),
        ),
        Mistake(
            "all_but",
            "You ablated every head that is *not* in the list.",
            _replacing(_mean, _all_but),
        ),
        Mistake(
            "head_and_layer_swapped",
            "Layer and head are swapped. The pairs in `heads` are (layer, head).",
            _replacing(_mean, _swapped),
        ),
        Mistake(
            "first_head_only",
            "Only the first head of the list is ablated. All of them are asked for, in the same forward pass.",
            _replacing(_mean, lambda model, heads: heads[:1]),
        ),
        Mistake(
            "last_head_only",
            "Only the last head of the list is ablated. If you make hooks in a loop, each lambda looks `head` up when it *runs*, and by then the loop is over: bind it with `head=head` or `functools.partial`.",
            _replacing(_mean, lambda model, heads: heads[-1:]),
        ),
        Mistake(
            "one_head_per_layer",
            "Only one head of each layer is ablated. A dict keyed by layer (or by hook name) keeps the last of several heads.",
            _replacing(_mean, _last_of_each_layer),
        ),
        Mistake(
            "one_at_a_time",
            "You ablated one head at a time and added up what each takes. Together they take something else: ablate all of them in the same forward pass.",
            _one_at_a_time,
        ),
        Mistake(
            "wrong_minus_right",
            "The sign is turned: this is wrong minus right. Column 0 of `answers` is the right token.",
            _after(lambda logits, answers: -_differences(logits, answers)),
        ),
        Mistake(
            "right_alone",
            "This is the right token's logit alone. Subtract the wrong one's: what raises all logits alike changes no prediction.",
            _after(lambda logits, answers: logits[:, -1].gather(1, answers)[:, 0]),
        ),
        Mistake(
            "probabilities",
            "This is a difference of probabilities. The logits themselves are asked for.",
            _after(lambda logits, answers: _differences(logits.softmax(-1), answers)),
        ),
        Mistake(
            "first_position_read",
            "You read the logits at the first position. What comes after the prompt is in the last row, `logits[:, -1]`.",
            _after(lambda logits, answers: _differences(logits[:, :1], answers)),
        ),
        Mistake(
            "averaged",
            "You returned the mean over the prompts. One number for each prompt is asked for.",
            _after(lambda logits, answers: _differences(logits, answers).mean()),
        ),
        Mistake(
            "first_answers_for_all",
            "You used the first prompt's answers for every prompt. Prompt p belongs with row p: `logits[:, -1].gather(1, answers)`.",
            _after(lambda logits, answers: _differences(logits, answers[:1].expand(len(logits), -1))),
        ),
        Mistake(
            "effect_of_ablation",
            "This is what the ablation takes away. The difference that is left is asked for; subtract nothing.",
            lambda model, tokens, heads, answers: (
                _ablated_difference(model, tokens, [], answers) - _ablated_difference(model, tokens, heads, answers)
            ),
        ),
        Mistake(
            "hooks_left",
            "Your hooks are still on the model after the call, so every later forward pass is ablated as well. `model.run_with_hooks(...)` and `with model.hooks(...)` remove them.",
            _hooks_stay,
            left_hooks_by("call"),
        ),
        Mistake(
            "hooks_left_after_error",
            "When the forward pass fails halfway, your hooks stay on the model, and every later result is quietly wrong. `model.run_with_hooks(...)` and `with model.hooks(...)` remove them in that case too.",
            _hooks_stay_after_error,
            left_hooks_by("raising"),
        ),
    ),
    hints=(
        "Two forward passes: one in which nothing is changed, to take every head's mean over the prompts (`run_with_cache`), and one with hooks on `blocks.{layer}.attn.hook_z` that put the means in.",
        '`cache["z", layer][:, :, head].mean(0)` is [pos, d_head], and fits `z[:, :, head]` of every prompt. In a loop bind layer and head to the hook: `functools.partial`, or `lambda z, hook, head=head: ...`.',
        "`logits[:, -1].gather(1, answers)` is [prompt, 2]: right and wrong.",
    ),
    reveal="The mean keeps what the head does for every prompt alike and takes away what it says about this one (lesson 03 asks what should replace a head). Means are taken before anything is ablated, so that they are the same whatever else is in the list. "
    "`run_with_hooks` removes the hooks again, whatever happens.",
)
