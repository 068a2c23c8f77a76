"""A live plot of a training run, for the notebook.

    with live_training(config) as live:
        sae = train(config, activations, on_progress=live)

Four lines grow while it trains: the loss, as a share of the first one; L0, as a share of k, or of the first one;
explained variance, cut off at −1; and the share of dead latents. A notebook shows a static picture that is redrawn now
and then, and an interactive one at the end; a terminal shows a progress bar; elsewhere nothing is shown.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mi_course.interp.sae.config import SAEConfig
    from mi_course.interp.sae.training import Progress


class LiveTraining:
    """Called with each Progress of a training run; see `live_training`."""

    def __init__(self, config: SAEConfig, title: str, caption: str, every_s: float) -> None:
        from mi_course.show import live_lines  # here, so that training outside a notebook does not import it

        self._first: float | None = None
        self._l0_unit = float(config.k) if config.architecture in ("topk", "batch_topk") else None
        self.last: Progress | None = None
        """The latest Progress."""
        self._lines = live_lines(
            xlabel="step",
            ylabel="share",
            title=title,
            caption=caption,
            total=config.steps,
            every_s=every_s,
        )

    def __call__(self, progress: Progress) -> None:
        if self._first is None:
            self._first = abs(progress.loss) or 1.0
            self._l0_unit = self._l0_unit or progress.l0 or 1.0
        self.last = progress
        shares = {
            "loss / first loss": progress.loss / self._first,
            f"L0 / {self._l0_unit:,.0f}": progress.l0 / self._l0_unit,
            "explained variance": max(-1.0, progress.explained_variance),
            "dead latents": progress.dead_share,
        }
        # A run that has diverged is plotted up to there; the plot must not stop it.
        self._lines.update(progress.step, **{name: share for name, share in shares.items() if math.isfinite(share)})

    def __enter__(self) -> LiveTraining:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Replace the static picture by the interactive one."""
        self._lines.close()

    def picture(self) -> Any:
        """The plot so far. ValueError before the first Progress."""
        return self._lines.picture()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return self._lines._repr_mimebundle_(include, exclude)


def live_training(
    config: SAEConfig,
    *,
    title: str = "Training a sparse autoencoder",
    caption: str = "Explained variance should rise, the loss fall, and dead latents stay near 0.",
    every_s: float = 0.7,
) -> LiveTraining:
    """A plot to pass to `train` as `on_progress`, and to close (or leave as a context) when training is done.

    every_s: least seconds between two drawings, which together take at most a tenth of the time.
    """
    return LiveTraining(config, title, caption, every_s)
