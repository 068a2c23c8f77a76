"""The splice: a hook that puts an autoencoder's reconstruction into a running model."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mi_course.exercises import Call, Case, Exercise, Mistake, Part, RandomInputs, case, hook_ref, model_ref, sae_ref
from mi_course.interp.containers import SparseCode

_SMALL = {"n_layers": 2, "n_heads": 2, "d_model": 8, "d_head": 4, "d_vocab": 11, "n_ctx": 8, "attn_only": True}


def _splice(resid: Tensor, hook: object, sae: SparseCode, ordinary: Tensor) -> Tensor:
    """Oracle: token by token."""
    out = resid.clone()
    for row in range(resid.shape[0]):
        for position in range(resid.shape[1]):
            if bool(ordinary[row, position]):
                out[row, position] = sae.decode(sae.encode(resid[row, position]))
    return out


def _sae(draw: RandomInputs, d: int, F: int) -> object:
    return sae_ref(
        W_enc=draw.normal(d, F, std=0.6),
        b_enc=draw.normal(F, std=0.3),
        W_dec=draw.normal(F, d, std=0.6),
        b_dec=draw.normal(d, std=0.7),
    )


def _arguments(draw: RandomInputs, batch: int, pos: int, d: int, F: int, share: float, size: float = 1.0) -> tuple:
    ordinary = draw.uniform(batch, pos) < share
    if 0 < share < 1:
        ordinary.view(-1)[0] = False
        ordinary.view(-1)[-1] = True
    point = hook_ref(model_ref(_SMALL, 1), f"blocks.{draw.integer(0, 2)}.hook_resid_post")
    return size * draw.normal(batch, pos, d, mean=0.4), point, _sae(draw, d, F), ordinary


def _cases(draw: RandomInputs, size: str) -> list[Case]:
    return [
        case(
            *_arguments(draw, batch, pos, d, F, share),
            driver="hook",
            about=f"batch {batch}, {pos} positions, {F} latents",
        )
        for batch, pos, d, F, share in ((3, 5, 4, 7, 0.6), (2, 6, 5, 3, 0.4), (4, 3, 3, 9, 0.8))
    ]


def _edges(draw: RandomInputs, size: str) -> list[Case]:
    settings = (
        ((1, 5, 4, 6, 0.5), "a batch of one"),
        ((4, 1, 4, 6, 0.5), "a single position"),
        ((1, 1, 4, 1, 1.0), "one token, one latent"),
        ((3, 4, 1, 5, 0.6), "a single dimension"),
        ((3, 4, 5, 6, 1.0), "every token is ordinary"),
    )
    cases = [case(*_arguments(draw, *setting), driver="hook", about=about) for setting, about in settings]
    cases += [
        case(*_arguments(draw, 3, 4, 5, 6, 0.5, size=factor), driver="hook", about=about)
        for factor, about in ((200.0, "activations of a large norm"), (0.01, "activations of a small norm"))
    ]
    resid, point, sae, ordinary = _arguments(draw, 3, 4, 5, 6, 0.5)
    same = ((resid, point, sae, ordinary), (resid, point, sae, ~ordinary), (resid, point, _sae(draw, 5, 6), ordinary))
    calls = tuple(Call(args, "hook", watch=("arguments",)) for args in same)
    cases.append(Case(calls=calls, about="the same activations with other tokens replaced, and by another autoencoder"))
    return [
        *cases,
        case(
            resid, point, sae, torch.zeros_like(ordinary), driver="hook", about="no ordinary token: nothing is replaced"
        ),
    ]


def _replacing(rebuilt: Callable[[Tensor, SparseCode], Tensor]) -> Callable[..., Tensor]:
    """A wrong splice that puts something else in the place of ordinary tokens."""

    def splice(resid: Tensor, hook: object, sae: SparseCode, ordinary: Tensor) -> Tensor:
        return torch.where(ordinary[..., None], rebuilt(resid, sae), resid)

    return splice


def _everywhere(resid: Tensor, hook: object, sae: SparseCode, ordinary: Tensor) -> Tensor:
    return sae.decode(sae.encode(resid))


def _inverted(resid: Tensor, hook: object, sae: SparseCode, ordinary: Tensor) -> Tensor:
    return torch.where(ordinary[..., None], resid, sae.decode(sae.encode(resid)))


def _others_zero(resid: Tensor, hook: object, sae: SparseCode, ordinary: Tensor) -> Tensor:
    return sae.decode(sae.encode(resid)) * ordinary[..., None]


def _whole_rows(resid: Tensor, hook: object, sae: SparseCode, ordinary: Tensor) -> Tensor:
    return torch.where(ordinary.any(dim=1)[:, None, None], sae.decode(sae.encode(resid)), resid)


def _first_only(resid: Tensor, hook: object, sae: SparseCode, ordinary: Tensor) -> Tensor:
    return torch.cat([resid[:, :1], sae.decode(sae.encode(resid[:, 1:]))], dim=1)


def _first_mask(resid: Tensor, hook: object, sae: SparseCode, ordinary: Tensor) -> Tensor:
    return torch.where(ordinary[:1, :, None], sae.decode(sae.encode(resid)), resid)


def _unchanged(resid: Tensor, hook: object, sae: SparseCode, ordinary: Tensor) -> None:
    resid[ordinary].copy_(sae.decode(sae.encode(resid[ordinary])))


SPLICE = Exercise(
    id="sae_training.splice",
    task="A hook that replaces the activations of ordinary tokens by the autoencoder's reconstruction, and leaves all others as they are.",
    minutes=6,
    difficulty=2,
    oracle=_splice,
    fixed={
        "resid[2]": "the autoencoder has this width; another case has width 1",
    },
    parts=(
        Part("some tokens of each batch", 2, _cases),
        Part("axes of size one; all ordinary, and none; large and small norms", 1, _edges),
    ),
    mistakes=(
        Mistake(
            "mask_ignored",
            "Every token was replaced. First tokens and massive ones, where `ordinary` is False, pass unchanged: the autoencoder was not trained on them, and what it makes of them would swamp the measurement.",
            _everywhere,
        ),
        Mistake(
            "mask_inverted",
            "You replaced the tokens where `ordinary` is False, and left the ordinary ones.",
            _inverted,
        ),
        Mistake(
            "others_set_to_zero",
            "Ordinary tokens are rebuilt, but the others became zero. They keep the activations that came in.",
            _others_zero,
        ),
        Mistake(
            "nothing_replaced",
            "The activations came out as they went in. `resid[ordinary]` is a copy: changing it changes nothing. Assign to it, `out[ordinary] = ...`, and return `out`.",
            _unchanged,
        ),
        Mistake(
            "whole_rows",
            "You replaced whole rows of the batch. `ordinary` has an entry for each token: `ordinary[..., None]` lines it up with the activations.",
            _whole_rows,
        ),
        Mistake(
            "only_the_first_spared",
            "Only the first position of each row was left out. Which tokens are left out stands in `ordinary`; massive ones may be anywhere.",
            _first_only,
        ),
        Mistake(
            "first_row_s_mask",
            "You used the first row's mask for all rows. Each row has its own.",
            _first_mask,
        ),
        Mistake(
            "error_instead",
            "You put in the *error*, x − x̂. The reconstruction itself is asked for.",
            _replacing(lambda x, sae: x - sae.decode(sae.encode(x))),
        ),
        Mistake(
            "reconstruction_added",
            "You added the reconstruction to what was there. It should take its place.",
            _replacing(lambda x, sae: x + sae.decode(sae.encode(x))),
        ),
        Mistake(
            "twice",
            "The autoencoder was applied twice. Encode and decode once.",
            _replacing(lambda x, sae: sae.decode(sae.encode(sae.decode(sae.encode(x))))),
        ),
        Mistake(
            "bias_subtracted_again",
            "You subtracted `b_dec` before encoding. `sae.encode` does that itself.",
            _replacing(lambda x, sae: sae.decode(sae.encode(x - sae.b_dec))),
        ),
    ),
    hints=(
        "`sae.decode(sae.encode(...))` works on rows of any leading shape. Which rows of `resid` should go through it?",
        "`resid[ordinary]` has shape (ordinary tokens, d). Put the reconstruction back in the same places of a copy; or use `torch.where` with `ordinary[..., None]`.",
        "`out = resid.clone()`, `out[ordinary] = sae.decode(sae.encode(resid[ordinary]))`, `return out`.",
    ),
    reveal="A hook gets the activations and may return others; the model goes on with those. The mask matters as much as the reconstruction: the first token of a row is an attention sink of five times the usual norm, no autoencoder here was trained on it, and breaking it breaks every later token. Say of any spliced loss what was replaced.",
)
