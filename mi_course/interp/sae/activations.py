"""Activations for training: streamed from a model while it trains, or written to disk once and read from there.

    tokens = sampled_tokens()                                          200,704 tokens of SmolLM2's own text
    source = ModelBatches(model, tokens, "blocks.14.hook_resid_post", batch=1024)
    sae = train(config, source)
    write_shards(source, "acts", rows=1_000_000); sae = train(config, ShardBatches("acts", batch=4096))

Each source gives batches without end (`Batches` in batches.py), in an order that its seed decides, and holds no more
than one buffer of them. Activations that fit into memory need none of this: `collect_activations` returns a tensor.

The model is a TransformerBridge or any torch module that takes token ids, such as a Hugging Face model (host.py).
Rows stay on the model's device. With a list of hooks, several SAEs are trained on one forward pass (group.py).

Left out are padding and the first token of each row, the attention sink. Massive tokens (`ordinary_tokens`) are left
out on request: an SAE trained on them spends latents on a few directions, and they dominate every mean and variance.
Others' numbers include them. Which tokens are massive differs from layer to layer, so with a list of hooks none is left
out; each place comes with a column, named by `massive_at`, that is 1 where it is massive there.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from mi_course.interp.massive import massive_tokens
from mi_course.interp.models.where import data_dir
from mi_course.interp.sae.corpus import TokenRows
from mi_course.interp.sae.host import HookSite, device_of, read_tokens, record, vocabulary
from mi_course.interp.sae.host import never_runs as never_runs  # for those that look for it here

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    from mi_course.interp.prompts import TokenBatch
    from mi_course.interp.sae.host import Model, Tokens

    Batch = (
        Float[Tensor, "batch d"]
        | tuple[Float[Tensor, "batch d"], Float[Tensor, "batch d_out"]]
        | dict[str, Float[Tensor, "batch d"]]
    )


def sampled_tokens() -> Int[Tensor, "n pos"]:
    """784 rows of 256 token ids that SmolLM2 wrote, BOS first, in random order, so that every slice is a fair sample.

    From `data/smollm2-sampled.safetensors`, made by `data/sample_smollm2.py`: texts of many kinds, chats and code.
    """
    return load_file(data_dir() / "smollm2-sampled.safetensors")["tokens"].long()


def ordinary_tokens(
    resid: Float[Tensor, "batch pos d"], real: Bool[Tensor, "batch pos"]
) -> tuple[Bool[Tensor, "batch pos"], Bool[Tensor, "batch pos"]]:
    """(ordinary, massive): which tokens remain, and which are left out for their norm alone.

    A row's first token is always left out: it is the attention sink. Massive is a norm above three times the median of
    the row's other tokens (Sun et al. 2024, "Massive Activations in Large Language Models").
    real: False at padding, which is at the end of rows.
    """
    real = real.clone()
    real[:, 0] = False
    massive = massive_tokens(resid.flatten(2).norm(dim=-1), real)
    return real & ~massive, massive


def massive_at(place: str) -> str:
    """The name of the column [rows, 1] that says which tokens are massive at this place."""
    return f"{place}@massive"


@dataclass
class LeftOut:
    """How many tokens a source has kept and left out so far."""

    padding: int = 0
    first: int = 0
    massive: int = 0
    kept: int = 0
    exclude_massive: bool = False
    """With a list of hooks: whether massive tokens are marked. `massive` then counts those at any place."""

    @property
    def massive_share(self) -> float:
        """Massive tokens, as a share of all but padding and first ones."""
        return self.massive / max(1, self.massive + self.kept)

    def __str__(self) -> str:
        massive = f"{self.massive:,} massive ({self.massive_share:.1%} of the rest), " if self.exclude_massive else ""
        return (
            f"{self.kept:,} tokens kept{'' if self.exclude_massive else ', massive ones included'}; left out: {massive}"
            f"{self.first:,} first ones (BOS), {self.padding:,} of padding"
        )


def run_to(
    model: Model, site: HookSite, tokens: Tensor, real: Tensor, exclude_massive: bool = False
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Run the model up to the site. Returns values, the tokens that remain, and the massive ones left out.

    values: at each place, [batch pos d]. Without exclude_massive all real tokens but the first remain. With it a token
    remains if it is ordinary at every place, and is massive if it is so at any.
    """
    values = record(model, site, tokens)
    real = real.to(values[0].device)
    if not exclude_massive:
        later = real.clone()
        later[:, 0] = False
        return values, later, torch.zeros_like(later)
    ordinary, massive = zip(*(ordinary_tokens(value, real) for value in values), strict=True)
    return values, torch.stack(ordinary).all(dim=0), torch.stack(massive).any(dim=0)


def collect_activations(
    model: Model,
    tokens: Tokens,
    hook: str | int,
    *,
    target: str | int | None = None,
    mask: Bool[Tensor, "n pos"] | None = None,
    rows_at_once: int = 8,
    exclude_massive: bool = False,
    device: Any = "cpu",
    dtype: torch.dtype = torch.float32,
) -> tuple[Batch, LeftOut]:
    """The activations of all tokens that remain, in order, and what was left out.

    hook, target, mask, exclude_massive as in `ModelBatches`. 200,704 tokens of SmolLM2 are 450 MB and, to layer 14, 4
    CPU minutes.
    """
    batch = read_tokens(model, tokens, mask)
    left_out = LeftOut(exclude_massive=exclude_massive)
    site = HookSite.of(model, *((hook,) if target is None else (hook, target)))
    parts = _remaining(model, site, batch, rows_at_once, left_out, device, dtype)
    columns = _gather(parts, int(batch.mask[:, 1:].sum()))
    return (columns[0] if target is None else (columns[0], columns[1])), left_out


def _remaining(
    model: Model,
    site: HookSite,
    batch: TokenBatch,
    rows_at_once: int,
    left_out: LeftOut,
    device: Any,
    dtype: torch.dtype,
    mark: bool = False,
) -> Iterator[list[Tensor]]:
    """The values of the tokens that remain, some rows at a time; counts in `left_out` what is left out.

    mark: massive tokens stay, and after the values come columns [n, 1] that say which they are at each place.
    """
    if rows_at_once < 1:
        raise ValueError(f"rows_at_once is {rows_at_once}, expected at least 1.")
    for start in range(0, len(batch), rows_at_once):
        part = batch.rows(slice(start, start + rows_at_once))
        values, remain, massive = run_to(model, site, part.tokens, part.mask, left_out.exclude_massive and not mark)
        if mark and left_out.exclude_massive:
            each = [ordinary_tokens(value, remain)[1] for value in values]
            massive = torch.stack(each).any(dim=0)
            values += [at_place[:, :, None] for at_place in each]
        left_out.padding += int((~part.mask).sum())
        left_out.first += len(part)
        left_out.massive += int(massive.sum())
        left_out.kept += int((remain & ~massive).sum())
        yield [value[remain].to(device, dtype) for value in values]


def _gather(parts: Iterator[list[Tensor]], max_rows: int) -> list[Tensor]:
    """Each column's parts, concatenated in memory that is allocated once: `torch.cat` would need twice as much."""
    columns: list[Tensor] = []
    rows = 0
    for part in parts:
        columns = columns or [value.new_empty(max_rows, value.shape[1]) for value in part]
        for column, value in zip(columns, part, strict=True):
            column[rows : rows + len(value)] = value
        rows += len(part[0])
    return [column[:rows] for column in columns]


# ---------------------------------------------------------------------------------------------------------------------
# Sources


class Chunked(ABC):
    """Batches from chunks: one chunk is loaded and served in random order, then the next; each pass in a new order.

    Rows that do not fill a batch wait for the next chunk. The state of a source is therefore a few numbers and less
    than a batch of rows: on resuming, the chunk is loaded again.
    """

    def __init__(self, n_chunks: int, batch: int, seed: int) -> None:
        if batch < 1:
            raise ValueError(f"batch is {batch}, expected at least 1.")
        self.n_chunks, self.batch, self.seed = n_chunks, batch, seed
        self._pass, self._turn, self._position = 0, -1, 0
        self._rows: list[Tensor] = []  # of the current chunk; empty if none is loaded, or all of it has been served
        self._order = torch.empty(0, dtype=torch.long)
        self._waiting: list[Tensor] = []
        self.names: list[str] | None = None
        """Of the columns; batches are then dicts by these names."""

    @abstractmethod
    def _load(self, chunk: int) -> list[Tensor]:
        """The rows of one chunk, the same on every call of one pass: x, or x and target."""

    def next_batch(self) -> Batch:
        """The next `batch` rows: x, or (x, target)."""
        parts, have = [self._waiting] if self._waiting else [], len(self._waiting[0]) if self._waiting else 0
        while have < self.batch:
            if not self._rows:
                self._advance()
            parts.append(self._take(self.batch - have))
            have += len(parts[-1][0])
        self._waiting = []
        if self._rows and len(self._order) - self._position < self.batch:
            self._waiting = self._take(self.batch)
        columns = [torch.cat(column) for column in zip(*parts, strict=True)]
        if self.names is not None:
            return dict(zip(self.names, columns, strict=True))
        return columns[0] if len(columns) == 1 else (columns[0], columns[1])

    def state_dict(self) -> dict[str, Any]:
        """The position: plain numbers, and the rows that wait."""
        return {
            "seed": self.seed,
            "batch": self.batch,
            "pass": self._pass,
            "turn": self._turn,
            "position": self._position,
            "loaded": bool(self._rows),
            "waiting": [column.clone() for column in self._waiting],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a state. ValueError if it belongs to another batch size or seed."""
        for name in ("batch", "seed"):
            if state[name] != getattr(self, name):
                raise ValueError(f"This state has {name} {state[name]}, this source {getattr(self, name)}.")
        self._pass, self._turn, self._rows = state["pass"], state["turn"], []
        if state["loaded"]:
            self._load_turn()
        self._position = state["position"]
        device = self._rows[0].device if self._rows else None
        self._waiting = [column.clone().to(device) for column in state["waiting"]]

    def narrow(self, places: Sequence[str]) -> None:
        """From now on give only these of several places: the others' work is no longer done. The order stays."""
        assert self.names is not None
        wanted = {*places, *map(massive_at, places)}
        keep = [index for index, name in enumerate(self.names) if name in wanted]
        self._rows, self._waiting = ([rows[i] for i in keep] if rows else [] for rows in (self._rows, self._waiting))
        self.names = [self.names[i] for i in keep]

    def _take(self, max_rows: int) -> list[Tensor]:
        """The next rows of the chunk, which is dropped after its last."""
        which = self._order[self._position : self._position + max_rows]
        self._position += len(which)
        taken = [column[which.to(column.device)] for column in self._rows]
        if self._position == len(self._order):
            self._rows = []
        return taken

    def _advance(self) -> None:
        """Load the next chunk that has a row. ValueError if none has."""
        for _ in range(self.n_chunks):
            self._turn += 1
            if self._turn == self.n_chunks:
                self._turn, self._pass = 0, self._pass + 1
            self._load_turn()
            if self._rows:
                return
        raise ValueError("No token of all these texts remains, so there is nothing to train on.")

    def _load_turn(self) -> None:
        chunk = int(torch.randperm(self.n_chunks, generator=generator_of(self.seed, self._pass))[self._turn])
        rows = self._load(chunk)
        self._rows = rows if len(rows[0]) else []
        self._position = 0
        self._order = torch.randperm(len(rows[0]), generator=generator_of(self.seed, self._pass, chunk))


class ModelBatches(Chunked):
    """Activations of a model's tokens, computed when they are needed.

    On each pass the rows of `tokens` are shuffled into chunks whose activations fill a buffer, so that a batch mixes
    tokens of many texts. Resuming is exact on the same machine with the same number of threads.
    """

    def __init__(
        self,
        model: Model,
        tokens: Tokens | TokenRows,
        hook: str | int | Sequence[str | int],
        *,
        batch: int = 4096,
        target: str | int | None = None,
        mask: Bool[Tensor, "n pos"] | None = None,
        buffer: int = 65_536,
        rows_at_once: int = 8,
        seed: int = 0,
        exclude_massive: bool = False,
        device: Any = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """hook: a place of the model, such as "blocks.14.hook_mlp_out" or "model.layers.14" (host.py); a number L means
        the residual stream after layer L. A list: batches are dicts by the places' names.

        tokens: ids with BOS first, in a tensor, in rows of any lengths, or on disk (`TokenRows`).
        target: a second hook point, for a transcoder: batches are then pairs.
        mask: False at a tensor's padding, which is at the end of rows.
        buffer: about how many activations to hold at a time (65,536 of SmolLM2 are 150 MB).
        rows_at_once: texts in one forward pass.
        exclude_massive: leave out massive tokens (`ordinary_tokens`); with a list of hooks, mark them (`massive_at`).
        device, dtype: of the buffer; by default the model's device, and float32.
        """
        self.model, self.rows_at_once = model, rows_at_once
        self.device, self.dtype = device_of(model) if device is None else device, dtype
        self.texts = tokens if isinstance(tokens, TokenRows) else read_tokens(model, tokens, mask)
        if isinstance(tokens, TokenRows) and tokens.largest >= vocabulary(model):
            raise ValueError(f"{tokens.folder} holds token {tokens.largest}, outside 0 … {vocabulary(model) - 1}.")
        several = not isinstance(hook, str | int)
        if several and target is not None:
            raise ValueError("With a list of hooks there is no target: name it in the list.")
        hooks = [hook] if isinstance(hook, str | int) else list(hook)
        hooks += [] if target is None else [target]
        self.site = HookSite.of(model, *hooks)
        self._per_chunk = max(1, min(len(self.texts), buffer // self.texts.tokens.shape[1]))
        super().__init__(-(-len(self.texts) // self._per_chunk), batch, seed)
        self.names = list(self.site.names) if several else None
        if several and exclude_massive:
            self.names = [*self.site.names, *map(massive_at, self.site.names)]
        self.left_out = LeftOut(exclude_massive=exclude_massive)

    def narrow(self, places: Sequence[str]) -> None:
        super().narrow(places)
        self.site = HookSite.of(self.model, *places)

    def _load(self, chunk: int) -> list[Tensor]:
        order = torch.randperm(len(self.texts), generator=generator_of(self.seed, self._pass, -1))
        texts = self.texts.rows(order[chunk * self._per_chunk : (chunk + 1) * self._per_chunk])
        parts = _remaining(
            self.model,
            self.site,
            texts,
            self.rows_at_once,
            self.left_out,
            self.device,
            self.dtype,
            mark=self.names is not None,
        )
        return _gather(parts, int(texts.mask[:, 1:].sum()))

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"left_out": asdict(self.left_out), "texts": len(self.texts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["texts"] != len(self.texts):
            raise ValueError(f"This state is of {state['texts']} texts, this source has {len(self.texts)}.")
        super().load_state_dict(state)
        self.left_out = LeftOut(**state["left_out"])  # loading the chunk has counted it again


def generator_of(seed: int, *numbers: int) -> torch.Generator:
    """A generator for each pass and chunk, independent of those before it."""
    digest = hashlib.sha256(json.dumps([seed, *numbers]).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
