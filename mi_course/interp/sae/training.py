"""Training: one trainer for all architectures.

    from mi_course.interp.sae import SAEConfig, train

    config = SAEConfig(d_in=512, n_latents=4096, architecture="topk", k=32, steps=2000)
    sae = train(config, activations)                          # a tensor (n, d), or a source of batches
    sae = train(config, x, target=y)                          # a transcoder, with d_out in the config
    sae = train(config, activations, folder="runs/first")     # with checkpoints and log.jsonl; resumes when run again

A source of batches is anything with `next_batch`, `state_dict` and `load_state_dict` (`Batches` in batches.py).
Training runs on the config's device, by default that of the activations. Weights are float32, whatever the activations
are; float64 for float64.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mi_course.interp.sae import checkpoints
from mi_course.interp.sae.base import SAE, Losses
from mi_course.interp.sae.batches import Batches, TensorBatches
from mi_course.interp.sae.config import SAEConfig

if TYPE_CHECKING:
    from jaxtyping import Float

ROWS_FOR_SCALE = 4096  # activations from which the mean and the mean norm are estimated
MAX_BATCHES_FOR_SCALE = 64


@dataclass(frozen=True)
class Progress:
    """The progress of a run, measured on the batch of this step before its update."""

    step: int
    """Steps done, from 1."""
    steps: int
    loss: float
    """The sum of the three parts that follow, in units of the normalized activations squared."""
    reconstruction: float
    sparsity: float
    auxiliary: float
    l0: float
    """Active latents, mean over rows."""
    explained_variance: float
    """1 − Σ‖y − ŷ‖² / Σ‖y − ȳ‖² on the batch."""
    dead_share: float
    """Share of latents that have not been active for `dead_window` activations."""
    lr: float
    activations: int
    """Activations used so far."""
    seconds: float
    """Since this process started or resumed the run."""


def train(
    config: SAEConfig,
    activations: Tensor | Batches,
    target: Tensor | None = None,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    log_every: int = 10,
    folder: str | Path | None = None,
    checkpoint_every: int = 500,
    tensorboard: bool = False,
) -> SAE:
    """Train an SAE, or a transcoder where `target` is given (or batches are pairs).

    on_progress: called with a Progress every log_every steps and after the last.
    folder: for log.jsonl and checkpoints, every checkpoint_every steps. A run with the same folder, config and
        activations resumes from the last checkpoint, and ends with exactly the same weights.
    tensorboard: also write TensorBoard's files, to folder/tensorboard.
    Returns the SAE for activations as they are, normalization folded in, gradients off. Raises ValueError for
    activations that do not fit the config, CheckpointError for a folder of another run or a damaged checkpoint.
    """
    trainer = Trainer(
        config,
        activations,
        target,
        on_progress=on_progress,
        log_every=log_every,
        folder=folder,
        checkpoint_every=checkpoint_every,
        tensorboard=tensorboard,
    )
    return trainer.run()


class Trainer:
    """A training run. `run()` trains to the end, `step()` does one step, `result()` returns the SAE as it is now."""

    def __init__(
        self,
        config: SAEConfig,
        activations: Tensor | Batches,
        target: Tensor | None = None,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        log_every: int = 10,
        folder: str | Path | None = None,
        checkpoint_every: int = 500,
        tensorboard: bool = False,
        saved: tuple[int, dict[str, Tensor], dict[str, Any]] | None = None,
    ) -> None:
        """As `train`. saved: a `state()` to go on from, with its step, instead of the folder's."""
        self.config, self.on_progress, self.log_every = config, on_progress, log_every
        self.batches = _source(config, activations, target, resumable=folder is not None)
        self.folder = None if folder is None else Path(folder)
        self.checkpoint_every = checkpoint_every
        self.device = None if config.device is None else find_device(config.device)
        self.steps_done, self.seen, self._start = 0, 0, time.perf_counter()
        if saved is None and self.folder is not None:
            saved = checkpoints.load_latest(self.folder / "checkpoints")
        if saved is None:
            self._begin()
        else:
            self._resume(*saved)
        self._log = None if self.folder is None else Log(self.folder, self.steps_done, tensorboard)
        if tensorboard and self.folder is None:
            raise ValueError("tensorboard=True without a folder. Give `folder`, which its files go to.")

    def run(self) -> SAE:
        """Train to the last step. Returns `result()`."""
        while self.steps_done < self.config.steps:
            self.step()
            last = self.steps_done == self.config.steps
            if self.folder is not None and (last or self.steps_done % self.checkpoint_every == 0):
                checkpoints.save(self.folder / "checkpoints", self.steps_done, *self.state())
        if self._log is not None:
            self._log.close()
        return self.result()

    def result(self) -> SAE:
        """A copy of the SAE for activations as they are: normalization folded in, gradients off."""
        copy = SAE.from_tensors(self.config, {name: tensor.cpu() for name, tensor in self.sae.tensors().items()})
        copy.fold(self.input_scale, self.output_scale)
        return copy.to(self.sae.b_dec.device).requires_grad_(False)

    def step(self) -> Losses:
        """One training step. Returns its losses, measured before the update."""
        config, sae = self.config, self.sae
        x, target = self._next()
        dead = self._inactive_for >= config.dead_window
        scale = min(1.0, (self.steps_done + 1) / config.sparsity_warmup) if config.sparsity_warmup else 1.0
        losses = sae.gradients(x, target, dead if dead.any() else None, scale)
        if config.decoder_norm == "unit":
            sae.project_decoder_gradient()
        self._update(lr := self._lr())
        if config.decoder_norm == "unit":
            sae.normalize_decoder()
        sae.after_step(losses, late=self.steps_done - int(config.threshold_from * config.steps) + 1)
        self._inactive_for += len(x)
        self._inactive_for[losses.fired > 0] = 0
        self.steps_done += 1
        self.seen += len(x)
        if self.steps_done % self.log_every == 0 or self.steps_done == config.steps:
            self._report(losses, x if target is None else target, lr)
        if config.resample_every and self.steps_done % config.resample_every == 0:
            self._resample(x, target)
        return losses

    # -- starting and resuming ----------------------------------------------------------------------------------------

    def _begin(self) -> None:
        x, target = self._first_rows()
        output = x if target is None else target
        self.input_scale = self.output_scale = 1.0
        if self.config.normalize:
            self.input_scale, self.output_scale = _scale(x), _scale(output)
        sae = SAE.build(self.config, dtype=torch.float64 if x.dtype == torch.float64 else torch.float32)
        with torch.no_grad():
            sae.b_dec.copy_(output.mean(dim=0, dtype=sae.b_dec.dtype).cpu() * self.output_scale)
        sae.to(x.device)
        sae.scale_start(x * self.input_scale, output * self.output_scale)
        self._prepare(sae)

    def _first_rows(self) -> tuple[Tensor, Tensor | None]:
        """Some activations to measure. A tensor in memory is rewound; a stream has then used them up."""
        xs, targets, before = [], [], self.batches.state_dict() if isinstance(self.batches, TensorBatches) else None
        while sum(map(len, xs)) < ROWS_FOR_SCALE and len(xs) < MAX_BATCHES_FOR_SCALE:
            x, target = self._raw()
            xs.append(x)
            targets.append(target)
        if before is not None:
            self.batches.load_state_dict(before)
        return torch.cat(xs), None if targets[0] is None else torch.cat(targets)

    def _prepare(self, sae: SAE) -> None:
        self.sae = sae
        self._inactive_for = torch.zeros(self.config.n_latents, dtype=torch.int64, device=sae.b_dec.device)
        # Adam runs over contiguous memory; the encoder's is laid out by latent.
        self._flat = {
            name: (parameter.detach().t() if name == "W_enc" else parameter.detach())
            for name, parameter in sae.named_parameters()
        }
        self._adam = torch.optim.Adam(
            [tensor.requires_grad_() for tensor in self._flat.values()],
            lr=self.config.lr,
            betas=self.config.betas,
            fused=True,
        )

    def _resume(self, step: int, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        _need_same(self.config, values["config"], self.folder)
        if values.get("data", data := _fingerprint(self.batches)) != data:
            raise checkpoints.CheckpointError(
                f"{self.folder} holds a run on other activations than these. Give another folder."
            )
        self.steps_done, self.seen = step, values["seen"]
        self.input_scale, self.output_scale = values["scales"]
        self.batches.load_state_dict(values["batches"])
        weights = {name.removeprefix("sae."): t for name, t in tensors.items() if name.startswith("sae.")}
        here = self.batches.x.device if isinstance(self.batches, TensorBatches) else values["device"]
        device = self.device or here
        self._prepare(SAE.from_tensors(self.config, weights).to(device))
        self._inactive_for.copy_(tensors["silent"])
        for name, tensor in self._flat.items():
            self._adam.state[tensor] = {
                key: tensors[f"adam.{name}.{key}"].to(tensor.device if key != "step" else "cpu")
                for key in ("step", "exp_avg", "exp_avg_sq")
            }

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that a run needs to go on: tensors, and plain values."""
        tensors = {f"sae.{name}": tensor for name, tensor in self.sae.tensors().items()}
        tensors["silent"] = self._inactive_for
        for name, tensor in self._flat.items():
            for key, value in self._adam.state[tensor].items():
                tensors[f"adam.{name}.{key}"] = value
        values = {
            "config": self.config.to_json(),
            "seen": self.seen,
            "scales": [self.input_scale, self.output_scale],
            "device": str(self.sae.b_dec.device),
            "batches": self.batches.state_dict(),
            "data": _fingerprint(self.batches),
        }
        return tensors, values

    # -- parts of a step ----------------------------------------------------------------------------------------------

    def _raw(self) -> tuple[Tensor, Tensor | None]:
        batch = self.batches.next_batch()
        x, target = batch if isinstance(batch, tuple) else (batch, None)
        if (target is not None) != self.config.transcoder:
            raise ValueError(
                f"The config has d_out={self.config.d_out}, and there is {'a' if target is not None else 'no'} target. "
                "A transcoder needs both, an autoencoder neither."
            )
        for name, width, tensor in (("d_in", self.config.d_in, x), ("d_out", self.config.d_out, target)):
            if tensor is not None and (tensor.ndim != 2 or tensor.shape[1] != width):
                raise ValueError(f"A batch has shape {tuple(tensor.shape)}; expected (rows, {width}), for {name}.")
        for what, tensor in (("activations", x), ("targets", target)):
            if tensor is not None and not tensor.sum().isfinite():
                _need_finite(f"A batch of {what}", tensor)
        dtype = x.dtype if x.dtype == torch.float64 else getattr(torch, self.config.dtype)
        device = self.device or x.device
        return x.to(device, dtype), None if target is None else target.to(device, dtype)

    def _next(self) -> tuple[Tensor, Tensor | None]:
        x, target = self._raw()
        if self.config.normalize:
            x = x * self.input_scale
            target = None if target is None else target * self.output_scale
        return x, target

    def _lr(self) -> float:
        config, lr = self.config, self.config.lr
        if config.warmup:
            lr *= min(1.0, (self.steps_done + 1) / config.warmup)
        if config.decay:
            lr *= min(1.0, (config.steps - self.steps_done) / config.decay)
        return lr

    def _update(self, lr: float) -> None:
        gradients = {name: parameter.grad for name, parameter in self.sae.named_parameters()}
        gradients["W_enc"] = gradients["W_enc"].t()
        for name, tensor in self._flat.items():
            tensor.grad = gradients[name]
        if self.config.clip:
            torch.nn.utils.clip_grad_norm_(self._flat.values(), self.config.clip)
        self._adam.param_groups[0]["lr"] = lr
        self._adam.step()

    def _resample(self, x: Tensor, target: Tensor | None) -> None:
        """Reset dead latents to inputs drawn in proportion to their squared loss (Bricken et al. 2023)."""
        dead = self._inactive_for >= self.config.dead_window
        if not dead.any():
            return
        x = x.to(self.sae.W_dec.dtype)
        with torch.no_grad():
            error = (x if target is None else target) - self.sae(x)
        generator = torch.Generator().manual_seed(self.config.seed + 7_919 * self.steps_done)
        weights = error.square().sum(dim=1).square().cpu()
        chosen = torch.multinomial(weights / weights.sum(), int(dead.sum()), replacement=True, generator=generator)
        chosen = chosen.to(x.device)
        center = self.sae.b_dec if self.config.subtract_decoder_bias else 0.0
        self.sae.revive(
            dead, _unit(x[chosen] - center), _unit(error[chosen] if target is not None else x[chosen] - center)
        )
        for name, tensor in self._flat.items():
            if name != "b_dec":
                for key in ("exp_avg", "exp_avg_sq"):
                    self._adam.state[tensor][key][dead] = 0.0
        self._inactive_for[dead] = 0

    def _report(self, losses: Losses, target: Tensor, lr: float) -> None:
        target = target.to(self.sae.b_dec.dtype)
        variance = float((target - target.mean(dim=0)).square().sum()) / len(target)
        progress = Progress(
            step=self.steps_done,
            steps=self.config.steps,
            loss=losses.total,
            reconstruction=losses.reconstruction,
            sparsity=losses.sparsity,
            auxiliary=losses.auxiliary,
            l0=losses.l0,
            explained_variance=1 - losses.error / variance if variance else 0.0,
            dead_share=float((self._inactive_for >= self.config.dead_window).float().mean()),
            lr=lr,
            activations=self.seen,
            seconds=time.perf_counter() - self._start,
        )
        if self._log is not None:
            self._log.write(progress)
        if self.on_progress is not None:
            self.on_progress(progress)


class Log:
    """log.jsonl, with one line for each Progress, and TensorBoard's files on request."""

    def __init__(self, folder: Path, steps_done: int, tensorboard: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "log.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= steps_done]
        path.write_text("".join(f"{line}\n" for line in kept))  # steps after the checkpoint are repeated
        self._file = open(path, "a")  # noqa: SIM115  (stays open during the run)
        self._board = _tensorboard(folder / "tensorboard", steps_done) if tensorboard else None

    def write(self, progress: Progress) -> None:
        self._file.write(json.dumps(asdict(progress)) + "\n")
        self._file.flush()
        if self._board is not None:
            for field in fields(progress):
                if field.name not in ("step", "steps"):
                    self._board.add_scalar(field.name, getattr(progress, field.name), progress.step)

    def close(self) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()


def _tensorboard(folder: Path, steps_done: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ImportError(
            "tensorboard=True, but TensorBoard is not installed. Run `pip install tensorboard`, or leave it off: "
            "log.jsonl holds the same numbers."
        ) from None
    return SummaryWriter(str(folder), purge_step=steps_done + 1)


def _source(config: SAEConfig, activations: Tensor | Batches, target: Tensor | None, resumable: bool) -> Batches:
    if isinstance(activations, torch.Tensor):
        batches = TensorBatches(activations, config.batch, config.seed, target)
        _need_finite("The tensor of activations", activations)
        if target is not None:
            _need_finite("The target", target)
        return batches
    if target is not None:
        raise ValueError("A target goes with a tensor of activations; a source of batches gives pairs (x, target).")
    if not hasattr(activations, "next_batch"):
        raise TypeError(
            f"activations is a {type(activations).__name__}; expected a tensor (n, d), or a source with `next_batch()`."
        )
    if resumable and not isinstance(activations, Batches):
        raise TypeError(
            f"{type(activations).__name__} has no state_dict and load_state_dict, so a run on it cannot resume. "
            "Add them, or train without `folder`."
        )
    return activations


def _need_same(config: SAEConfig, saved: dict[str, Any], folder: Path | None) -> None:
    new_config = {name: value for name, value in config.to_json().items() if name != "device"}
    if differing := {n: (saved.get(n), value) for n, value in new_config.items() if saved.get(n) != value}:
        changes = ", ".join(f"{name} was {old!r} and is {new!r}" for name, (old, new) in differing.items())
        raise checkpoints.CheckpointError(f"{folder} holds a run of another config: {changes}. Give another folder.")


def _need_finite(what: str, x: Tensor) -> None:
    """Raises ValueError for NaN or infinity."""
    rows = x.reshape(len(x), -1)
    bad = (~rows.isfinite().all(dim=1)).nonzero()
    if len(bad):
        row = int(bad[0])
        kind = "NaN" if rows[row].isnan().any() else "infinity"
        others = f", and in {len(bad) - 1} more" if len(bad) > 1 else ""
        raise ValueError(
            f"{what} holds {kind} in row {row}{others}. Leave such rows out; in float16, "
            "large activations overflow: collect them in float32."
        )


def _fingerprint(batches: Batches) -> str | None:
    """A hash of a tensor's shape and of some of its rows. None for a stream, whose rows nobody can look at."""
    if not isinstance(batches, TensorBatches):
        return None
    digest = hashlib.sha256()
    for tensor in (batches.x, batches.target):
        if tensor is not None:
            some = tensor[:: max(1, len(tensor) // 1000)].detach().cpu().double().contiguous()
            digest.update(repr(tuple(tensor.shape)).encode() + some.numpy().tobytes())
    return digest.hexdigest()


def _scale(x: Float[Tensor, "n d"]) -> float:
    """The factor that makes the mean norm of x √d."""
    norm = float(x.float().norm(dim=1).mean()) if x.dtype == torch.bfloat16 else float(x.norm(dim=1).mean())
    return x.shape[1] ** 0.5 / norm if norm > 0 else 1.0


def find_device(name: str) -> torch.device:
    """The device of this name; "auto": CUDA, else Apple's MPS, else the CPU. ValueError for one that is not here."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device is {name!r}; expected 'auto', 'cpu', 'cuda', 'cuda:1' or 'mps'.") from None
    if (device.type == "cuda" and not torch.cuda.is_available()) or (
        device.type == "mps" and not torch.backends.mps.is_available()
    ):
        raise ValueError(f"device is {name!r}, which this machine, or this build of PyTorch, does not have.")
    return device


def _unit(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-30)
