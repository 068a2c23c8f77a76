"""Small models of our own, and their files in `data/`.

A model is one safetensors file, `data/<name>.safetensors`. Its tensors are the parameters under TransformerLens's names
(`embed.weight`, `blocks.0.attn.q.weight`, `unembed.weight`, …: those of `TransformerBridge.state_dict()`), and its
metadata has one entry, `mi_course`, a JSON object:

    {"format": 1, "kind": "native", "config": {fields of TransformerBridgeConfig}, "licence": …, "script": …, …}

Checkpoints of its training share one file, `data/<name>-checkpoints.safetensors`: the same tensors, each with
its step before the name (`step_00300/blocks.0.attn.q.weight`), with `"kind": "checkpoints"` and `"steps": [0, 100, …]`.
They may be stored as float16; `load_checkpoints` gives float32 back.

    save_native(model, "data/tiny.safetensors", licence="Apache-2.0", script="data/train_tiny.py", seed=0)
    model = load_native("tiny")
    for step, state in load_checkpoints("tiny").items():
        load_state(model, state)
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mi_course.interp.atomic_write import atomic_write
from mi_course.interp.models.errors import ModelError
from mi_course.interp.models.where import data_dir

if TYPE_CHECKING:
    import torch
    from transformer_lens.model_bridge import TransformerBridge

    State = dict[str, torch.Tensor]

FORMAT = 1
# What `boot_native` reads to build and run the modules, without how weights are drawn (seed, init_mode).
CONFIG_FIELDS = (
    "d_model",
    "d_head",
    "n_layers",
    "n_ctx",
    "n_heads",
    "n_key_value_heads",
    "d_vocab",
    "d_vocab_out",
    "d_mlp",
    "act_fn",
    "attn_only",
    "gated_mlp",
    "normalization_type",
    "final_rms",
    "eps",
    "positional_embedding_type",
    "rotary_dim",
    "rotary_base",
    "rope_scaling",
    "use_attn_scale",
    "attn_scale",
    "attn_scores_soft_cap",
    "output_logits_soft_cap",
    "attention_dir",
    "default_prepend_bos",
)


def save_native(model: TransformerBridge, path: str | Path, *, dtype: torch.dtype | None = None, **extra: Any) -> Path:
    """Write a model made by `TransformerBridge.boot_native` to one safetensors file; the parent folder is created.

    dtype: float16 halves the file; by default the parameters' own. `load_native` gives float32 back.
    extra: plain JSON values kept in the metadata; give at least `licence` and `script` for a file in `data/`.
    Raises ModelError for a model of another kind, or one in compatibility mode, whose weights are folded.
    """
    _require_raw_native(model)
    meta = {"format": FORMAT, "kind": "native", "config": config_of(model), **extra}
    return _write({name: t.to(dtype) for name, t in state_of(model).items()}, meta, path)


def save_checkpoints(
    model: TransformerBridge,
    states: Mapping[int, State],
    path: str | Path,
    *,
    dtype: torch.dtype | None = None,
    **extra: Any,
) -> Path:
    """Write several states of one model, keyed by training step, to one safetensors file.

    states: what `state_of(model)` returned at each step. dtype: float16 by default, which halves the file.
    """
    import torch

    _require_raw_native(model)
    dtype = torch.float16 if dtype is None else dtype
    steps = sorted(states)
    if not steps:
        raise ModelError("There are no checkpoints to save: `states` is empty.")
    tensors = {f"{_prefix(step)}{name}": t.to(dtype) for step in steps for name, t in states[step].items()}
    meta = {"format": FORMAT, "kind": "checkpoints", "steps": steps, "config": config_of(model), **extra}
    return _write(tensors, meta, path)


def load_native(which: str | Path, *, device: Any = None, dtype: torch.dtype | None = None) -> TransformerBridge:
    """The model in `data/<which>.safetensors`, or in the file at this path; in eval mode, float32 by default.

    The caller's random state is left alone. Raises ModelError if the file is missing, damaged or of another kind.
    """
    path = find(which)
    meta = read_meta(path)
    if meta["kind"] != "native":
        raise ModelError(f"{path} holds {meta['kind']}, not one model. Read it with load_checkpoints({str(which)!r}).")
    model = boot(meta["config"], name=path.stem)
    load_state(model, _read(path))
    if device is not None or dtype is not None:  # only then, since the bridge prints every move
        model.to(device=device or "cpu", dtype=dtype)
    model.eval()
    return model


def load_checkpoints(which: str | Path) -> Checkpoints:
    """The checkpoints in `data/<which>-checkpoints.safetensors` or at this path, read one step at a time."""
    path = find(which, suffix="-checkpoints")
    meta = read_meta(path)
    if meta["kind"] != "checkpoints":
        raise ModelError(f"{path} holds one model, not checkpoints. Read it with load_native({str(which)!r}).")
    return Checkpoints(path, meta)


class Checkpoints(Mapping[int, "State"]):
    """Training step → state (float32, on the CPU). `boot()` gives a model of the right shape for `load_state`."""

    def __init__(self, path: Path, meta: dict[str, Any]) -> None:
        self.path, self.meta = path, meta

    def __getitem__(self, step: int) -> State:
        if step not in self.meta["steps"]:
            raise KeyError(f"no checkpoint of step {step} in {self.path.name}; there are {self.meta['steps']}")
        return _read(self.path, _prefix(step))

    def __iter__(self) -> Iterator[int]:
        return iter(self.meta["steps"])

    def __len__(self) -> int:
        return len(self.meta["steps"])

    def boot(self) -> TransformerBridge:
        """A model of this shape in eval mode, holding the last step's weights."""
        model = boot(self.meta["config"], name=self.path.stem)
        load_state(model, self[self.meta["steps"][-1]])
        model.eval()
        return model


def boot(config: Mapping[str, Any], *, name: str = "native") -> TransformerBridge:
    """An untrained model of this shape (fields of TransformerBridgeConfig). The global random state is left alone."""
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.model_bridge import TransformerBridge

    fields = dict(config)
    # Set after construction: the constructor silently drops fields that it does not know, such as these.
    late = {key: fields.pop(key) for key in ("default_prepend_bos", "rope_scaling") if key in fields}
    cfg = TransformerBridgeConfig(**{"seed": 0, **fields})  # a seed makes boot_native fork the random state
    for key, value in late.items():
        setattr(cfg, key, value)
    return TransformerBridge.boot_native(cfg, model_name=name)


def config_of(model: TransformerBridge) -> dict[str, Any]:
    """The model's shape as JSON values, enough for `boot`."""
    config = {}
    for field in CONFIG_FIELDS:
        value = getattr(model.cfg, field, None)
        if value is not None or field == "normalization_type":  # None is a value here: no normalization
            config[field] = value.item() if hasattr(value, "item") else value
    return config


def state_of(model: TransformerBridge) -> State:
    """A copy of all parameters on the CPU, detached, under TransformerLens's names."""
    # The state dict also has an all-zero `unembed.bias`, a buffer that TransformerLens adds.
    buffers = {id(b) for b in model.buffers()}
    state = {name: t for name, t in model.state_dict(keep_vars=True).items() if id(t) not in buffers}
    return {name: t.detach().cpu().clone().contiguous() for name, t in state.items()}


def load_state(model: TransformerBridge, state: Mapping[str, torch.Tensor]) -> None:
    """Copy a state into the model's own parameters, in place: hooks and optimizers that hold them stay valid.

    Raises ModelError if a name or a shape differs; the model is then unchanged.
    """
    want = {name: tuple(t.shape) for name, t in state_of(model).items()}
    have = {name: tuple(t.shape) for name, t in state.items()}
    if want != have:
        different = sorted(name for name in want.keys() | have.keys() if want.get(name) != have.get(name))
        first = different[0]
        raise ModelError(
            f"This state does not fit the model: {len(different)} parameters differ, the first is {first}, which has "
            f"shape {have.get(first, 'none (absent)')} in the state and {want.get(first, 'none (absent)')} in the "
            "model."
        )
    model.load_state_dict(dict(state), strict=False)


def read_meta(path: str | Path) -> dict[str, Any]:
    """The `mi_course` entry of a file's metadata (only the header is read). Raises ModelError if it is not ours."""
    # Parsed here since safetensors' own reader imports torch, and listing models must not. The layout: eight bytes with
    # the length of the JSON header, then that header.
    try:
        with Path(path).open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > 100_000_000:  # safetensors' own limit
                raise ValueError(f"a header of {length} bytes")
            header = json.loads(file.read(length))
        meta = json.loads(header.get("__metadata__", {}).get("mi_course", "null"))
    except (OSError, ValueError, AttributeError) as error:
        raise _unreadable(Path(path), error) from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        seen = "no mi_course entry" if meta is None else f"format {meta.get('format')!r}"
        raise ModelError(f"{path} has {seen} in its metadata, expected format {FORMAT}. Was it written by save_native?")
    return meta


def find(which: str | Path, *, suffix: str = "") -> Path:
    """The file of this name in `data/`, or the file at this path. Raises ModelError if there is neither."""
    path = Path(which)
    if path.suffix != ".safetensors":
        path = data_dir() / f"{which}{suffix}.safetensors"
    if not path.is_file():
        names = ", ".join(native_names()) or "none"
        raise ModelError(f"There is no file {path}. Models in {data_dir()}: {names}.")
    return path


def native_names() -> list[str]:
    """Sorted names of the models in `data/`, without files of other kinds (checkpoints, data)."""
    names = []
    for path in sorted(data_dir().glob("*.safetensors")):
        try:
            if read_meta(path)["kind"] == "native":
                names.append(path.stem)
        except ModelError:
            continue
    return names


def _require_raw_native(model: TransformerBridge) -> None:
    if model.cfg.architecture != "TransformerLensNative":
        raise ModelError(
            f"This model is a {model.cfg.architecture}, and this file format holds models of "
            "TransformerBridge.boot_native only. Save the Hugging Face model itself with save_pretrained."
        )
    if getattr(model, "_weights_processed", False):
        raise ModelError(
            "This model has been through enable_compatibility_mode, so its weights are folded and centred. "
            "Save it before that, or load it with compatibility=False."
        )


def _prefix(step: int) -> str:
    return f"step_{step:05d}/"


def _write(tensors: State, meta: dict[str, Any], path: str | Path) -> Path:
    from safetensors.torch import save_file

    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, lambda part: save_file(tensors, part, metadata={"mi_course": json.dumps(meta)}))
    return path


def _unreadable(path: Path, error: Exception) -> ModelError:
    return ModelError(f"{path} cannot be read as safetensors ({error}). Put the course's own file back.")


def _read(path: Path, prefix: str = "") -> State:
    """Tensors whose name starts with the prefix, without it, as float32."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
            return {name.removeprefix(prefix): file.get_tensor(name).float() for name in names}
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error
