"""A live plot of a training, for the notebook.

    with live_training(config) as live:
        sae = train(config, activations, on_progress=live)

Four lines grow while it trains: the loss, as a share of the first one told; L0, as a share of k, or of the first one
told; explained variance, cut off at −1; and the share of dead latents. In a notebook a still picture is replaced now
and then and stays behind, interactive, at the end; in a terminal there is a progress bar; elsewhere nothing is shown.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mi_course.interp.sae.config import SAEConfig
    from mi_course.interp.sae.training import Progress


class LiveTraining:
    """Called with each Progress of a training; see `live_training`."""

    def __init__(self, config: SAEConfig, title: str, caption: str, every_s: float) -> None:
        from mi_course.show import live_lines  # here, so that training outside a notebook never pays for it

        self._first: float | None = None
        self._most = float(config.k) if config.architecture in ("topk", "batch_topk") else None
        self.last: Progress | None = None
        """What was told last."""
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
            self._most = self._most or progress.l0 or 1.0
        self.last = progress
        shares = {
            "loss / first loss": progress.loss / self._first,
            f"L0 / {self._most:,.0f}": progress.l0 / self._most,
            "explained variance": max(-1.0, progress.explained_variance),
            "dead latents": progress.dead_share,
        }
        # A run that has diverged is shown up to there; the plot is not what should stop it.
        self._lines.update(progress.step, **{name: share for name, share in shares.items() if math.isfinite(share)})

    def __enter__(self) -> LiveTraining:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Put the finished, interactive picture in place."""
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
    """A plot to be given to `train` as `on_progress`, and closed, or left, when that is done.

    every_s: least seconds between two drawings, which together take at most a tenth of the time.
    """
    return LiveTraining(config, title, caption, every_s)
