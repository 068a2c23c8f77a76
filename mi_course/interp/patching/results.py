"""The result of a sweep: labeled values with bootstrap intervals, a table and a heat map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from jaxtyping import Float


@dataclass(frozen=True)
class Sweep:
    """Effects of many patches.

    values: 0 where a patch changes nothing, 1 where it does as much as exchanging the whole prompt, in both directions.
      A ratio of means over prompts: mean(patched − before) / mean(after − before), where denoising goes from
      corrupted (before) to clean (after), and noising the other way.
    per_prompt: the raw metric of every patched run.
    before, after: the raw metric of the run patched into, and of the run patched from, per prompt.
    axes, names: the axes of values ("layer", then "position" and "head" where there are any), and their labels.
    """

    values: Float[Tensor, "*axes"]
    per_prompt: Float[Tensor, "*axes batch"]
    before: Float[Tensor, " batch"]
    after: Float[Tensor, " batch"]
    axes: tuple[str, ...]
    names: tuple[tuple[str, ...], ...]
    title: str
    direction: str
    prompts: tuple[str, ...]

    def interval(
        self, level: float = 0.95, *, groups: Sequence[int] | None = None, samples: int = 1000, seed: int = 0
    ) -> tuple[Float[Tensor, "*axes"], Float[Tensor, "*axes"]]:
        """Lower and upper end of the percentile bootstrap interval of every value, prompts drawn with replacement.

        groups: a label for each prompt; prompts with one label are drawn together. Prompts that share their names, say,
          are not independent, and drawing them one by one gives an interval that is too narrow.
        Numerator and denominator are drawn together: this is the interval of the ratio. With few prompts (or groups) it
        is too narrow. Raises ValueError unless there is one label for each prompt.
        """
        labels = list(range(len(self.before))) if groups is None else list(groups)
        if len(labels) != len(self.before):
            raise ValueError(f"groups has {len(labels)} labels, expected one for each of {len(self.before)} prompts.")
        distinct = sorted(set(labels))
        n = len(distinct)
        together = torch.zeros(len(labels), n)
        together[torch.arange(len(labels)), torch.tensor([distinct.index(label) for label in labels])] = 1.0
        generator = torch.Generator().manual_seed(seed)
        counts = torch.zeros(samples, n)
        draws = torch.randint(n, (samples, n), generator=generator)
        counts.scatter_add_(1, draws, torch.ones(samples, n))
        changes = (self.per_prompt - self.before).float().cpu().reshape(-1, len(labels)) @ together
        total = (counts @ ((self.after - self.before).float().cpu() @ together))[:, None]
        ends = torch.tensor([(1 - level) / 2, (1 + level) / 2])
        # torch.quantile takes at most 16 million numbers.
        parts = changes.split(max(1, 10**7 // samples))
        low, high = torch.cat([torch.quantile(counts @ part.T / total, ends, dim=0) for part in parts], dim=1)
        return low.reshape(self.values.shape), high.reshape(self.values.shape)

    def top(self, n: int = 10) -> list[tuple[tuple[int, ...], float]]:
        """The n largest values by absolute value, largest first: (index, value), such as ((23, 3), 0.49)."""
        order = self.values.abs().flatten().argsort(descending=True)[:n].tolist()
        index = [tuple(int(i) for i in torch.unravel_index(torch.tensor(o), self.values.shape)) for o in order]
        return [(i, float(self.values[i])) for i in index]

    def to_frame(self) -> pd.DataFrame:
        """One row per patch: the number and the name on each axis, the value, and its 95 % bootstrap interval."""
        import pandas as pd

        low, high = self.interval()
        grid = torch.cartesian_prod(*(torch.arange(s) for s in self.values.shape)).reshape(-1, len(self.axes))
        columns: dict[str, Any] = {}
        for axis, names, numbers in zip(self.axes, self.names, grid.T.tolist(), strict=True):
            columns[axis] = numbers
            columns[f"{axis}_name"] = [names[i] for i in numbers]
        columns |= {"value": self.values.flatten().tolist()}
        columns |= {"low": low.flatten().tolist(), "high": high.flatten().tolist()}
        return pd.DataFrame(columns)

    def show(self, **options: Any) -> Any:
        """A heat map; hover text gives the interval. Needs two axes; of three, choose with `at`.

        at: for a sweep of heads by position, the layer to show (position × head); by default that of the largest value.
        """
        from mi_course.show import heatmap

        low, high = self.interval()
        values, axes, names = self.values, self.axes, self.names
        title = options.pop("title", self.title)
        at = options.pop("at", None)
        if values.ndim == 3:
            at = self.top(1)[0][0][0] if at is None else at
            values, low, high, axes, names = values[at], low[at], high[at], axes[1:], names[1:]
            title = f"{title}, layer {at}"
        hover = [
            [f"95 % interval {low[i, j]:+.3f} to {high[i, j]:+.3f}" for j in range(values.shape[1])]
            for i in range(values.shape[0])
        ]
        meaning = "0: the patch changes nothing; 1: as much as exchanging the whole prompt"
        settings = {"caption": meaning, "unit": "share of the effect", "center": 0.0, "hover": hover, **options}
        return heatmap(
            values, x=list(names[1]), y=list(names[0]), xlabel=axes[1], ylabel=axes[0], title=title, **settings
        )

    def __repr__(self) -> str:
        best = ", ".join(f"{'.'.join(map(str, i))}: {v:+.2f}" for i, v in self.top(5))
        shape = " × ".join(f"{len(n)} {a}s" for a, n in zip(self.axes, self.names, strict=True))
        return f"<Sweep {self.title} ({self.direction}), {shape}, {len(self.before)} prompts; largest {best}>"


def make_sweep(
    per_prompt: Float[Tensor, "*axes batch"],
    before: Float[Tensor, " batch"],
    after: Float[Tensor, " batch"],
    **labels: Any,
) -> Sweep:
    """A Sweep of raw metric values, normalized. Raises ValueError if the two unpatched runs have the same mean."""
    total = (after - before).mean()
    if float(total) == 0:
        raise ValueError(
            f"The metric's mean is {float(before.mean()):.4g} on the clean and on the corrupted prompts alike, so no "
            f"effect can be a share of their difference. Is the metric about what differs in prompt 0 "
            f"({labels['prompts'][0]!r})?"
        )
    values = (per_prompt - before).mean(-1) / total
    return Sweep(values=values, per_prompt=per_prompt, before=before, after=after, **labels)
