"""Two hooks: an autoencoder spliced into the model with its latents edited, and one latent clamped to a value."""

from __future__ import annotations

from collections.abc import Callable
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
    case,
    function_ref,
    hook_ref,
    model_ref,
    sae_ref,
)
from mi_course.interp.containers import SparseCode

Edit = Callable[[Tensor], Tensor]

_SMALL = {"n_layers": 2, "n_heads": 2, "d_model": 8, "d_head": 4, "d_vocab": 11, "n_ctx": 8, "attn_only": True}
_WIDTH = {"resid[2]": "the autoencoder has this width; another case has width 1"}


def _hook(draw: RandomInputs) -> object:
    return hook_ref(model_ref(_SMALL, 1), f"blocks.{draw.integer(0, 2)}.hook_resid_post")


def _weights(draw: RandomInputs, d: int, F: int) -> dict[str, Tensor]:
    """Rows of the decoder have norms of their own, so that scaling them to 1 shows."""
    return {
        "W_enc": draw.normal(d, F, std=0.6),
        "b_enc": draw.normal(F, std=0.3),
        "W_dec": draw.normal(F, d, std=0.6) * draw.uniform(F, 1, low=0.5, high=2.0),
        "b_dec": draw.normal(d, std=0.7),
    }


def _kept(hook: Callable[..., Tensor]) -> Callable[..., None]:
    """A wrong hook: the work is done on a copy, which is not returned."""

    def forgotten(resid: Tensor, *rest: Any) -> None:
        hook(resid.clone(), *rest)

    return forgotten


def _only(where: tuple[Any, ...], hook: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A wrong hook: what another gives, at these places only."""

    def partly(resid: Tensor, *rest: Any) -> Tensor:
        out = resid.clone()
        out[where] = hook(resid, *rest)[where]
        return out

    return partly


# ---------------------------------------------------------------------------------------------------------------------
# splice


def _rebuilt(sae: SparseCode, f: Tensor) -> Tensor:
    """One token's reconstruction from its latents [F], in double precision."""
    x_hat = sae.b_dec.double().clone()
    for latent, active in enumerate(f.tolist()):
        x_hat += active * sae.W_dec[latent].double()
    return x_hat


def _splice(resid: Tensor, hook: object, sae: SparseCode, edit: Edit | None, keep_error: bool) -> Tensor:
    """Oracle: token by token, and latent by latent."""
    out = resid.clone()
    for row in range(resid.shape[0]):
        for position in range(1, resid.shape[1]):
            x = resid[row, position]
            f = sae.encode(x)
            edited = f if edit is None else edit(f.clone())
            new = _rebuilt(sae, edited)
            if keep_error:
                new = new + x.double() - _rebuilt(sae, f)
            out[row, position] = new.to(x.dtype)
    return out


def _edits(draw: RandomInputs, d: int, F: int) -> list[Any]:
    """None and the two kinds of edits, of latents whose numbers are also dimensions."""
    low = min(d, F)
    return [
        function_ref("set_latents", latents=[draw.integer(0, low)], value=draw.number(2.0, 4.0)),
        function_ref("scale_latents", latents=sorted(draw.permutation(low)[:2]), factor=draw.number(-2.0, -0.5)),
        None,
    ]


def _splice_case(
    draw: RandomInputs, sizes: tuple[int, int, int, int], edit: Any, keep_error: bool, about: str, size: float = 1.0
) -> Case:
    batch, pos, d, F = sizes
    resid = size * draw.normal(batch, pos, d, mean=0.4)
    args = (resid, _hook(draw), sae_ref(**_weights(draw, d, F)), edit, keep_error)
    kept = "with the error" if keep_error else "without the error"
    # Two numbers as long as the reconstruction are subtracted: their rounding grows with the activations.
    return case(*args, driver="hook", about=f"{about}, {kept}", atol=1e-5 * max(1.0, size))


def _edited_cases(draw: RandomInputs, size: str) -> list[Case]:
    cases = []
    for batch, pos, d, F in ((3, 5, 4, 7), (2, 6, 5, 3), (4, 3, 6, 9)):
        edits = _edits(draw, d, F)
        for edit, words in zip(edits, ("latents set", "latents scaled", "no edit"), strict=True):
            for keep_error in (True, False):
                about = f"batch {batch}, {pos} positions, {F} latents, {words}"
                cases.append(_splice_case(draw, (batch, pos, d, F), edit, keep_error, about))
    return cases


def _splice_edges(draw: RandomInputs, size: str) -> list[Case]:
    cases = []
    for sizes, about in (
        ((1, 5, 4, 6), "a batch of one"),
        ((4, 1, 5, 6), "position 0 only"),
        ((3, 2, 4, 1), "a single latent"),
        ((3, 4, 1, 5), "a single dimension"),
        ((1, 2, 1, 1), "one token, one latent, one dimension"),
    ):
        edit = function_ref("set_latents", latents=[sizes[3] - 1], value=draw.number(1.0, 2.0))
        cases += [_splice_case(draw, sizes, edit, keep, about) for keep in (True, False)]
    for factor, about in ((40.0, "activations of a large norm"), (0.01, "activations of a small norm")):
        edits = _edits(draw, 5, 6)[:2]
        cases += [_splice_case(draw, (3, 4, 5, 6), edit, True, about, factor) for edit in edits]
    nothing = function_ref("scale_latents", latents=[0, 1, 2, 3, 4, 5], factor=0.0)
    cases += [_splice_case(draw, (2, 3, 4, 6), nothing, keep, "every latent set to zero") for keep in (True, False)]
    # What was kept of one call must not serve another: the same activations, and other arguments.
    resid, hook, sae = draw.normal(3, 4, 5, mean=0.4), _hook(draw), sae_ref(**_weights(draw, 5, 6))
    other, edits = sae_ref(**_weights(draw, 5, 6)), _edits(draw, 5, 6)
    same = ((sae, edits[0], True), (sae, edits[1], True), (other, edits[1], True), (other, edits[1], False))
    calls = tuple(Call((resid, hook, *rest), "hook", watch=("arguments",)) for rest in same)
    return [*cases, Case(calls=calls, about="the same activations, with other edits and by another autoencoder")]


def _with_error(error: float) -> Callable[..., Tensor]:
    """A wrong splice: the error comes in so many times where it should be kept."""

    def splice(resid: Tensor, hook: object, sae: SparseCode, edit: Edit | None, keep_error: bool) -> Tensor:
        out, f = resid.clone(), sae.encode(resid)
        new = sae.decode(f if edit is None else edit(f))
        if keep_error:
            new = new + error * (resid - sae.decode(f))
        out[:, 1:] = new[:, 1:]
        return out

    return splice


def _with_keep(kept: Callable[[bool], bool]) -> Callable[..., Tensor]:
    right = _with_error(1.0)
    return lambda resid, hook, sae, edit, keep_error: right(resid, hook, sae, edit, kept(keep_error))


def _error_after_edit(resid: Tensor, hook: object, sae: SparseCode, edit: Edit | None, keep_error: bool) -> Tensor:
    out, f = resid.clone(), sae.encode(resid)
    new = sae.decode(f if edit is None else edit(f))
    out[:, 1:] = (new + (resid - new) if keep_error else new)[:, 1:]
    return out


def _position_0_too(resid: Tensor, hook: object, sae: SparseCode, edit: Edit | None, keep_error: bool) -> Tensor:
    f = sae.encode(resid)
    new = sae.decode(f if edit is None else edit(f))
    return new + (resid - sae.decode(f)) if keep_error else new


def _difference_decoded(resid: Tensor, hook: object, sae: SparseCode, edit: Edit | None, keep_error: bool) -> Tensor:
    out, f = resid.clone(), sae.encode(resid)
    edited = f if edit is None else edit(f)
    out[:, 1:] = (resid + sae.decode(edited - f) if keep_error else sae.decode(edited))[:, 1:]
    return out


def _resid_edited(resid: Tensor, hook: object, sae: SparseCode, edit: Edit | None, keep_error: bool) -> Tensor:
    out = resid.clone()
    new = sae.decode(sae.encode(resid if edit is None else edit(resid)))
    if keep_error:
        new = new + (resid - sae.decode(sae.encode(resid)))
    out[:, 1:] = new[:, 1:]
    return out


def _added(resid: Tensor, hook: object, sae: SparseCode, edit: Edit | None, keep_error: bool) -> Tensor:
    out, f = resid.clone(), sae.encode(resid)
    out[:, 1:] = (resid + sae.decode(f if edit is None else edit(f)))[:, 1:]
    return out


def _unedited(resid: Tensor, hook: object, sae: SparseCode, edit: Edit | None, keep_error: bool) -> Tensor:
    return _with_error(1.0)(resid, hook, sae, None, keep_error)


def _bias_taken_off(resid: Tensor, hook: object, sae: SparseCode, edit: Edit | None, keep_error: bool) -> Tensor:
    out, f = resid.clone(), sae.encode(resid - sae.b_dec)
    new = sae.decode(f if edit is None else edit(f))
    if keep_error:
        new = new + (resid - sae.decode(f))
    out[:, 1:] = new[:, 1:]
    return out


SPLICE = Exercise(
    id="feature_steering.splice",
    task="A hook that replaces activations by the autoencoder's reconstruction from *edited* latents, with the reconstruction error added back or not.",
    minutes=10,
    difficulty=2,
    oracle=_splice,
    fixed=_WIDTH,
    parts=(
        Part("latents set and scaled, and no edit; error kept and left out", 2, _edited_cases),
        Part("axes of size one; large and small activations; other edits of the same activations", 1, _splice_edges),
    ),
    mistakes=(
        Mistake(
            "error_dropped",
            "The error is missing where `keep_error` asks for it. What the autoencoder does not reconstruct, x − x̂, is added back, so that the model sees the edit and nothing else.",
            _with_error(0.0),
        ),
        Mistake(
            "error_always_kept",
            "The error comes back even where `keep_error` is False. There the reconstruction alone is asked for.",
            _with_keep(lambda keep: True),
        ),
        Mistake(
            "keep_error_inverted",
            "`keep_error` is the wrong way around: you add the error where it is False, and leave it out where it is True.",
            _with_keep(lambda keep: not keep),
        ),
        Mistake(
            "error_twice",
            "The error is added twice. It is the difference between the activations and the *unedited* reconstruction, and it is added once.",
            _with_error(2.0),
        ),
        Mistake(
            "error_subtracted",
            "You subtracted the error. It is x − x̂, and it is added.",
            _with_error(-1.0),
        ),
        Mistake(
            "error_after_the_edit",
            "With the error kept, your edit has no effect: the error was computed from the *edited* reconstruction, so it takes the edit out again. It is what the unedited latents do not explain.",
            _error_after_edit,
        ),
        Mistake(
            "position_0_changed",
            "Position 0 was changed. It is the attention sink, of a norm that no autoencoder here was trained on; it passes unchanged.",
            _position_0_too,
        ),
        Mistake(
            "bias_added_again",
            "`decode` adds `b_dec`, so decoding a *difference* of latents adds it once too often. Subtract two reconstructions instead, or multiply the difference with `W_dec`.",
            _difference_decoded,
        ),
        Mistake(
            "bias_subtracted_again",
            "You subtracted `b_dec` before encoding. `sae.encode` does that itself.",
            _bias_taken_off,
        ),
        Mistake(
            "edit_of_activations",
            "`edit` was given the activations. It is a function of the latents: encode first.",
            _resid_edited,
        ),
        Mistake(
            "edit_ignored",
            "The latents were not edited. `edit(f)` returns new latents: decode those.",
            _unedited,
        ),
        Mistake(
            "reconstruction_added",
            "You added the reconstruction to what was there. It takes its place; only the error, x − x̂, is added to it.",
            _added,
        ),
        Mistake(
            "last_position_only",
            "Only the last position was changed. Every position from 1 on is.",
            _only((slice(None), -1), _with_error(1.0)),
        ),
        Mistake(
            "first_row_only",
            "Only the first row of the batch was changed.",
            _only((0,), _with_error(1.0)),
        ),
        Mistake(
            "nothing_comes_back",
            "The activations came out as they went in. A hook's change counts if it is made in `resid` itself or if the new tensor is *returned*.",
            _kept(_with_error(1.0)),
        ),
    ),
    hints=(
        "Three things to compute: the latents f, the reconstruction from f, and the reconstruction from `edit(f)`. The error is the activations minus the first of the two.",
        "`new = sae.decode(f if edit is None else edit(f))`; with `keep_error`, add `resid - sae.decode(f)`. Which positions of `new` go into the result?",
        "Put `new[:, 1:]` into a copy of `resid`, and return that.",
    ),
    reveal="The error term is what makes an edit an experiment. An autoencoder that explains four fifths of the variance throws a fifth away, and a model that runs on its reconstruction has been changed everywhere, whatever you edit. With the error added back, the unedited splice is the identity, and every difference that you "
    "measure comes from the edit. Templeton et al. (2024) steer in this way. Leave the error out to ask the other question: how much of the model's work does the autoencoder carry?",
)


# ---------------------------------------------------------------------------------------------------------------------
# clamp_feature


def _clamp_feature(resid: Tensor, hook: object, sae: SparseCode, index: int, value: float) -> Tensor:
    """Oracle: the latent's activation by hand, token by token."""
    out = resid.clone()
    for row in range(resid.shape[0]):
        for position in range(1, resid.shape[1]):
            x = resid[row, position].double()
            pre = float((x - sae.b_dec.double()) @ sae.W_enc[:, index].double()) + float(sae.b_enc[index])
            out[row, position] = (x + (value - max(pre, 0.0)) * sae.W_dec[index].double()).to(resid.dtype)
    return out


def _clamp_cases(draw: RandomInputs, size: str) -> list[Case]:
    cases = []
    for batch, pos, d, F in ((3, 5, 4, 7), (2, 6, 5, 3), (4, 3, 6, 9)):
        for value in (draw.number(3.0, 6.0), draw.number(0.1, 0.4), 0.0, -draw.number(0.5, 2.0)):
            index = draw.integer(1, F - 1)
            resid = draw.normal(batch, pos, d, mean=0.4)
            about = f"batch {batch}, {pos} positions, latent {index} of {F} at {value:.2f}"
            args = (resid, _hook(draw), sae_ref(**_weights(draw, d, F)), index, value)
            cases.append(case(*args, driver="hook", about=about))
    return cases


def _clamp_edges(draw: RandomInputs, size: str) -> list[Case]:
    cases = []
    for (batch, pos, d, F), about in (
        ((1, 5, 4, 6), "a batch of one"),
        ((4, 1, 5, 6), "position 0 only"),
        ((3, 2, 4, 1), "a single latent"),
        ((3, 4, 1, 5), "a single dimension"),
        ((1, 2, 1, 1), "one token, one latent, one dimension"),
    ):
        for index in sorted({0, F - 1}):
            args = (draw.normal(batch, pos, d, mean=0.4), _hook(draw), sae_ref(**_weights(draw, d, F)), index, 1.5)
            cases.append(case(*args, driver="hook", about=f"{about}, latent {index}"))
    for factor, about in ((40.0, "activations of a large norm"), (0.01, "activations of a small norm")):
        resid = factor * draw.normal(3, 4, 5)
        args = (resid, _hook(draw), sae_ref(**_weights(draw, 5, 6)), 2, 2.0)
        cases.append(case(*args, driver="hook", about=about, atol=1e-5 * max(1.0, factor)))
    args = (draw.normal(3, 4, 5), _hook(draw), sae_ref(**_weights(draw, 5, 6)), 3, 300.0)
    cases.append(case(*args, driver="hook", about="a very large value"))
    # One token after position 0, and the latent clamped to what it is there already.
    weights, resid = _weights(draw, 5, 6), draw.normal(1, 2, 5, mean=0.4)
    weights["b_enc"][4] = 2.0 - (resid[0, 1] - weights["b_dec"]) @ weights["W_enc"][:, 4]
    args = (resid, _hook(draw), sae_ref(**weights), 4, 2.0)
    cases.append(case(*args, driver="hook", about="a latent clamped to its own value"))
    resid, hook, sae = draw.normal(3, 4, 5, mean=0.4), _hook(draw), sae_ref(**_weights(draw, 5, 6))
    other = sae_ref(**_weights(draw, 5, 6))
    same = ((sae, 1, 2.0), (sae, 2, 2.0), (sae, 2, 3.0), (other, 2, 3.0))
    calls = tuple(Call((resid, hook, *rest), "hook", watch=("arguments",)) for rest in same)
    return [*cases, Case(calls=calls, about="the same activations: other latents, values and autoencoders")]


def _moving(step: Callable[[Tensor, SparseCode, int, float], Tensor]) -> Callable[..., Tensor]:
    """A wrong clamp: something else is added at every position from 1 on."""

    def clamp(resid: Tensor, hook: object, sae: SparseCode, index: int, value: float) -> Tensor:
        out = resid.clone()
        out[:, 1:] += step(resid[:, 1:], sae, index, value)
        return out

    return clamp


def _missing(x: Tensor, sae: SparseCode, index: int, value: float) -> Tensor:
    """value − f_i, [batch pos 1]."""
    return value - sae.encode(x)[..., index : index + 1]


def _clamped_latents(x: Tensor, sae: SparseCode, index: int, value: float) -> Tensor:
    f = sae.encode(x)
    f[..., index] = value
    return f


def _only_active(x: Tensor, sae: SparseCode, index: int, value: float) -> Tensor:
    missing = _missing(x, sae, index, value)
    return torch.where(missing < value, missing, torch.zeros_like(missing)) * sae.W_dec[index]


def _before_relu(x: Tensor, sae: SparseCode, index: int, value: float) -> Tensor:
    pre = (x - sae.b_dec) @ sae.W_enc[:, index] + sae.b_enc[index]
    return (value - pre)[..., None] * sae.W_dec[index]


def _everywhere(resid: Tensor, hook: object, sae: SparseCode, index: int, value: float) -> Tensor:
    return resid + _missing(resid, sae, index, value) * sae.W_dec[index]


_right = _moving(lambda x, sae, index, value: _missing(x, sae, index, value) * sae.W_dec[index])


CLAMP_FEATURE = Exercise(
    id="feature_steering.clamp_feature",
    task="A hook that sets one latent to a value at every position but the first, and leaves everything else in the activations as it is.",
    minutes=8,
    difficulty=2,
    oracle=_clamp_feature,
    fixed=_WIDTH,
    parts=(
        Part("one latent up, down, to zero and below it", 2, _clamp_cases),
        Part("axes of size one; large and small activations; a latent clamped to its own value", 1, _clamp_edges),
    ),
    mistakes=(
        Mistake(
            "added",
            "The value was *added*: resid + value · W_dec[index]. A clamp sets: what the latent has already, f, counts, so the step is value − f. Where the latent is active you went too far.",
            _moving(lambda x, sae, index, value: value * sae.W_dec[index]),
        ),
        Mistake(
            "position_0_changed",
            "Position 0 was changed. It is the attention sink, of a norm that no autoencoder here was trained on; it passes unchanged.",
            _everywhere,
        ),
        Mistake(
            "error_dropped",
            "You put in the reconstruction from the clamped latents, so everything that the autoencoder does not reconstruct is gone. Move the activations themselves, by (value − f) · W_dec[index].",
            _moving(lambda x, sae, index, value: sae.decode(_clamped_latents(x, sae, index, value)) - x),
        ),
        Mistake(
            "reconstruction_added",
            "You added the whole reconstruction to the activations. Only the change of the one latent is added.",
            _moving(lambda x, sae, index, value: sae.decode(_clamped_latents(x, sae, index, value))),
        ),
        Mistake(
            "bias_added",
            "`decode` adds `b_dec`, so decoding the *change* of the latents adds it, too. Multiply the change with `W_dec[index]`, or subtract two reconstructions.",
            _moving(
                lambda x, sae, index, value: sae.decode(_clamped_latents(x, sae, index, value) - sae.encode(x)),
            ),
        ),
        Mistake(
            "encoder_column",
            "You moved along a column of the *encoder*. It says when the latent is active; what it writes is the row `W_dec[index]`.",
            _moving(lambda x, sae, index, value: _missing(x, sae, index, value) * sae.W_enc[:, index]),
        ),
        Mistake(
            "unit_length",
            "You scaled the decoder's row to length 1. The value is in the autoencoder's own units, so the row counts as it is stored.",
            _moving(
                lambda x, sae, index, value: (
                    _missing(x, sae, index, value) * sae.W_dec[index] / sae.W_dec[index].norm()
                ),
            ),
        ),
        Mistake(
            "only_where_active",
            "The latent was clamped only where it is active already. It is set at *every* position from 1 on: where it was 0, too.",
            _moving(_only_active),
        ),
        Mistake(
            "at_least",
            "The latent was only raised: where it was above the value, it stayed. `clamp(min=…)` sets a lower bound; in steering, to clamp a latent is to *set* it.",
            _moving(lambda x, sae, index, value: _missing(x, sae, index, value).clamp(min=0) * sae.W_dec[index]),
        ),
        Mistake(
            "at_most",
            "The latent was only lowered: where it was below the value, it stayed. To clamp a latent is to *set* it.",
            _moving(lambda x, sae, index, value: _missing(x, sae, index, value).clamp(max=0) * sae.W_dec[index]),
        ),
        Mistake(
            "before_the_relu",
            "You subtracted the latent's pre-activation. Where that is negative the latent is 0, not negative: take f from `sae.encode`.",
            _moving(_before_relu),
        ),
        Mistake(
            "all_latents",
            "*Every* latent was set to the value. Only `index` is.",
            _moving(lambda x, sae, index, value: (value - sae.encode(x)) @ sae.W_dec),
        ),
        Mistake(
            "value_ignored",
            "The latent was taken out, whatever the value: that is a clamp to 0.",
            _moving(lambda x, sae, index, value: _missing(x, sae, index, 0.0) * sae.W_dec[index]),
        ),
        Mistake(
            "sign_flipped",
            "You moved the wrong way: by f − value instead of value − f.",
            _moving(lambda x, sae, index, value: -_missing(x, sae, index, value) * sae.W_dec[index]),
        ),
        Mistake(
            "replaced",
            "The activations were replaced by value · W_dec[index]. All else in them should stay.",
            _moving(lambda x, sae, index, value: value * sae.W_dec[index] - x),
        ),
        Mistake(
            "next_latent",
            "That is the latent after `index`. Latents count from 0.",
            _moving(
                lambda x, sae, index, value: (
                    _missing(x, sae, (index + 1) % len(sae.W_dec), value) * sae.W_dec[(index + 1) % len(sae.W_dec)]
                ),
            ),
        ),
        Mistake(
            "last_position_only",
            "Only the last position was changed. Every position from 1 on is.",
            _only((slice(None), -1), _right),
        ),
        Mistake(
            "first_row_only",
            "Only the first row of the batch was changed.",
            _only((0,), _right),
        ),
        Mistake(
            "nothing_comes_back",
            "The activations came out as they went in. A hook's change counts if it is made in `resid` itself or if the new tensor is *returned*.",
            _kept(_right),
        ),
    ),
    hints=(
        "How far is the latent from the value at each position? `sae.encode(resid)[..., index]` says what it is now, [batch, pos].",
        "One unit of latent `index` is the vector `sae.W_dec[index]`. Add the missing units, at every position but the first.",
        "`missing = value - sae.encode(resid[:, 1:])[..., index]`, then `resid[:, 1:] += missing[..., None] * sae.W_dec[index]`, and return `resid`.",
    ),
    reveal="resid + (value − f) · W_dec[index]: the same as `splice` with an edit of one latent and the error kept, without decoding anything. `b_dec` and all other latents cancel in the difference. That is also what makes clamping close to adding a vector: where the latent is inactive, which is nearly everywhere, it adds value · W_dec[index]. So "
    "the fair rival of a clamped feature is any other vector of that norm, and the difference of means is the first one to try.",
)
