"""Several SAEs trained side by side on one forward pass, at one place of the model or at several.

    members = {"early": Member(early_config, 4), "middle": Member(config, 14), "mlp": Member(c, "blocks.14.mlp.hook_in",
               "blocks.14.hook_mlp_out")}
    source = ModelBatches(model, tokens, places(members), batch=4096)
    saes = train_group(members, source, folder="runs/all")

The model's forward pass is most of the work of streaming, so three SAEs take far less time than three runs. All get the
same batches, and one checkpoint holds them all; a run that was cut short goes on and ends with the same weights.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mi_course.interp.sae import checkpoints
from mi_course.interp.sae.activations import massive_at
from mi_course.interp.sae.host import HookSite
from mi_course.interp.sae.training import ROWS_FOR_SCALE, Log, Progress, Trainer

if TYPE_CHECKING:
    from mi_course.interp.sae.activations import Chunked
    from mi_course.interp.sae.base import SAE
    from mi_course.interp.sae.config import SAEConfig


@dataclass(frozen=True)
class Member:
    """One SAE of a group: how it is trained, and on which place. target: a transcoder's second place."""

    config: SAEConfig
    hook: str
    target: str | None = None
    exclude_massive: bool = True
    """Whether tokens that are massive at its own places are left out, where the source marks them."""

    def batch(self, columns: Mapping[str, Tensor]) -> Tensor | tuple[Tensor, Tensor]:
        """This SAE's part of a batch of all places."""
        own = [place for place in (self.hook, self.target) if place is not None]
        marks = [columns[massive_at(place)] for place in own if self.exclude_massive and massive_at(place) in columns]
        keep = slice(None) if not marks else ~torch.cat(marks, dim=1).bool().any(dim=1)
        x = columns[self.hook][keep]
        return x if self.target is None else (x, columns[self.target][keep])


def places(members: Mapping[str, Member]) -> list[str]:
    """The places of all members, each once: what to give `ModelBatches` as its hooks."""
    named = [name for member in members.values() for name in (member.hook, member.target) if name is not None]
    return list(dict.fromkeys(named))


def resolve(model: Any, members: Mapping[str, Member]) -> dict[str, Member]:
    """The members with the full names of their places: 14 becomes 'blocks.14.hook_resid_post', say."""
    full = {}
    for name, member in members.items():
        which = [place for place in (member.hook, member.target) if place is not None]
        hook, *target = HookSite.of(model, *which).names
        full[name] = replace(member, hook=hook, target=target[0] if target else None)
    return full


def train_group(
    members: Mapping[str, Member],
    source: Chunked,
    *,
    folder: str | Path | None = None,
    checkpoint_every: int = 500,
    log_every: int = 10,
    on_progress: Callable[[str, Progress], None] | None = None,
) -> dict[str, SAE]:
    """Train all members on the batches of a source that gives dicts by the names of their places.

    The source's batch size holds for all; a member with fewer steps stops earlier, and a source that can `narrow` then
    no longer computes what nobody needs. folder: for checkpoints, and a
    folder with log.jsonl for each member. Raises what `train` raises, and ValueError for a place that is not in the
    source's batches.
    """
    folder = None if folder is None else Path(folder)
    saved = None if folder is None else checkpoints.load_latest(folder / "checkpoints")
    feeds = {name: _Feed() for name in members}
    done = 0

    def feed() -> int:
        """Give each member its part of a batch; how many rows the smallest part has."""
        columns = source.next_batch()
        if not isinstance(columns, dict):
            raise ValueError(
                "The source gives the activations of one place; give it a list of places, `places(members)`."
            )
        smallest = len(next(iter(columns.values())))
        for name, member in members.items():
            if member.config.steps <= done:
                continue
            if missing := {member.hook, member.target or member.hook} - set(columns):
                raise ValueError(f"{name} wants {', '.join(missing)}; the source gives {', '.join(columns)}.")
            feeds[name].waiting.append(part := member.batch(columns))
            smallest = min(smallest, len(part[0] if isinstance(part, tuple) else part))
        return smallest

    parts: dict[str, Any] = dict.fromkeys(members)
    if saved is None:
        rows = 0
        while rows < ROWS_FOR_SCALE:
            rows += feed()
    else:
        done, tensors, values = saved
        if set(values["members"]) != set(members):
            raise checkpoints.CheckpointError(
                f"{folder} holds a run of {', '.join(values['members'])}, not of {', '.join(members)}. Give another "
                "folder."
            )
        _narrow(source, members, done)
        source.load_state_dict(values["source"])
        for name in members:
            own = {key.removeprefix(f"{name}/"): t for key, t in tensors.items() if key.startswith(f"{name}/")}
            parts[name] = (values["members"][name]["steps"], own, values["members"][name])
    trainers = {}
    for name, member in members.items():

        def report(progress: Progress, name: str = name) -> None:
            if logs:
                logs[name].write(progress)
            if on_progress is not None:
                on_progress(name, progress)

        trainers[name] = Trainer(member.config, feeds[name], on_progress=report, log_every=log_every, saved=parts[name])
        feeds[name].waiting.clear()
    logs = {} if folder is None else {name: Log(folder / name, t.steps_done, False) for name, t in trainers.items()}
    last = max(member.config.steps for member in members.values())
    try:
        while done < last:
            feed()
            for name, trainer in trainers.items():
                if trainer.steps_done < trainer.config.steps:
                    trainer.step()
                feeds[name].waiting.clear()
            done += 1
            _narrow(source, members, done)
            if folder is not None and (done == last or done % checkpoint_every == 0):
                _save(folder, done, trainers, source)
    finally:
        for log in logs.values():
            log.close()
    return {name: trainer.result() for name, trainer in trainers.items()}


def _narrow(source: Chunked, members: Mapping[str, Member], done: int) -> None:
    """Leave out the places that only members with no steps left have used."""
    wanted = places({name: member for name, member in members.items() if member.config.steps > done})
    given = [name for name in source.names or () if not name.endswith(massive_at(""))]
    if 0 < len(wanted) < len(given):
        source.narrow(wanted)


def _save(folder: Path, done: int, trainers: Mapping[str, Trainer], source: Chunked) -> None:
    tensors: dict[str, Tensor] = {}
    values: dict[str, dict[str, Any]] = {}
    for name, trainer in trainers.items():
        own, values[name] = trainer.state()
        values[name]["steps"] = trainer.steps_done
        tensors |= {f"{name}/{key}": tensor for key, tensor in own.items()}
    checkpoints.save(folder / "checkpoints", done, tensors, {"members": values, "source": source.state_dict()})


class _Feed:
    """The batches of one member, put here by the group."""

    def __init__(self) -> None:
        self.waiting: deque[Any] = deque()

    def next_batch(self) -> Any:
        return self.waiting.popleft()

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass
