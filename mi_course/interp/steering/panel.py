"""The panel that opens lesson 04: a slider for the coefficient of a steering vector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mi_course.interp.steering._checks import check_layers, check_size, check_vector
from mi_course.interp.steering.effects import prompt_log_odds
from mi_course.interp.steering.generating import generate
from mi_course.interp.steering.interventions import Steer

if TYPE_CHECKING:
    from jaxtyping import Float
    from transformer_lens.model_bridge import TransformerBridge

TABLE = (-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)


def steering_panel(
    model: TransformerBridge,
    vectors: Float[Tensor, "layer d_model"],
    positive_ids: list[int],
    negative_ids: list[int],
    *,
    text: str,
    layer: int,
    coherent: tuple[float, float],
    max_new_tokens: int = 18,
) -> Any:
    """Controls for a text, a layer and a coefficient from −2 to 2, with the steered completion and its log-odds.

    vectors: one for each layer, added after that layer. coherent: the range of coefficients to mark. Without widgets it
    shows a table of nine coefficients. ValueError for an unknown layer or vectors of another size.
    """
    from mi_course import show  # here, so that importing steering does not import the plotting code

    check_vector(vectors, "vectors")
    check_size(vectors, model, "vectors")
    if vectors.ndim != 2 or len(vectors) != model.cfg.n_layers:
        raise ValueError(f"vectors has shape {tuple(vectors.shape)}, expected ({model.cfg.n_layers}, d_model).")
    check_layers(layer, model.cfg.n_layers)

    def respond_all(prompt: str, at: int, coefficients: tuple[float, ...]) -> list[tuple[str, float]]:
        # One row per coefficient: one batch instead of nine.
        steer = [Steer(torch.stack([c * vectors[at] for c in coefficients]), at)]
        rows = [prompt] * len(coefficients)
        odds = prompt_log_odds(model, rows, positive_ids, negative_ids, steer)
        return list(zip(generate(model, rows, steer, max_new_tokens=max_new_tokens), odds.tolist(), strict=True))

    def respond(prompt: str, at: int, coefficient: float) -> tuple[str, float]:
        return respond_all(prompt, at, (coefficient,))[0]

    completions = respond_all(text, layer, TABLE)
    return show.slider_panel(
        respond,
        [(c, written, value) for c, (written, value) in zip(TABLE, completions, strict=True)],
        text=text,
        layer=layer,
        n_layers=model.cfg.n_layers,
        low=TABLE[0],
        high=TABLE[-1],
        coherent=coherent,
        title="One sentence, one vector, nine coefficients",
        caption="Coefficient times vector is added to the residual stream after the layer, at every position but BOS.",
    )
