"""A run of SAEs from a TOML file: `mi-course sae harvest`, `train` and `evaluate`.

docs/train-an-sae.md explains the file. Everything is written to its `folder`: tokens/, activations/ (if asked for),
training/, and for each SAE a folder in SAELens's format with its card, evaluation.json.
"""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from mi_course.errors import CourseError
from mi_course.interp.sae.activations import ModelBatches
from mi_course.interp.sae.cards import Floors, Recorded, measure, measure_floors, shared_latents
from mi_course.interp.sae.config import SAEConfig
from mi_course.interp.sae.corpus import MANIFEST, TextGroup, TokenRows, write_rows
from mi_course.interp.sae.files import load_sae, save_sae
from mi_course.interp.sae.group import Member, places, resolve, train_group
from mi_course.interp.sae.host import HookSite, device_of, record
from mi_course.interp.sae.shards import LIST, ShardBatches, write_shards
from mi_course.interp.sae.training import Progress, find_device

if TYPE_CHECKING:
    from mi_course.interp.sae.base import SAE

Say = Callable[[str], None]


class RunFileError(CourseError, ValueError):
    """A TOML file that does not describe a run. Names the table and the key."""


@dataclass(frozen=True)
class ModelTable:
    """[model]"""

    name: str
    """One of the course's, such as "smollm2"; a folder in Hugging Face format; or a name in Hugging Face's cache."""
    library: str = "transformer_lens"
    """"transformer_lens": hooks are hook points, "blocks.14.hook_mlp_out". "transformers": they are modules,
    "model.layers.14.mlp", and any Hugging Face language model will do."""
    device: str = "auto"
    dtype: str = "float32"


@dataclass(frozen=True)
class TokensTable:
    """[tokens]"""

    row: int = 128
    """Tokens in a row, with BOS."""
    between: str | None = None
    """The token after each document; by default BOS."""
    rows_at_once: int = 8
    """Rows in one forward pass."""
    buffer: int = 65_536
    """Activations from which batches are drawn at random."""
    exclude_massive: bool = False
    """Whether each SAE leaves out the tokens that are massive at its place, in training and in every number. An SAE may
    say otherwise in its own table."""
    folder: str | None = None
    """Where the rows are, relative to the file; by default tokens/ in the run's folder. Several runs may share them."""


@dataclass(frozen=True)
class ActivationsTable:
    """[activations]: written to disk before training. Without it they are streamed from the model."""

    rows: int
    rows_per_shard: int = 65_536
    dtype: str = "bfloat16"


@dataclass(frozen=True)
class EvaluateTable:
    """[evaluate]"""

    rows: int = 64
    """Held-out rows of each group."""
    nameability: int = 0
    """Random latents whose best rules are compared with those of random directions and neurons; 0: none."""
    neurons: str | None = None
    """Where the neurons are, if not in the MLP of the SAE's layer."""


@dataclass(frozen=True)
class RunFile:
    """What a TOML file says."""

    path: Path
    folder: Path
    seed: int
    model: ModelTable
    tokens: TokensTable
    text: Mapping[str, TextGroup]
    activations: ActivationsTable | None
    training: Mapping[str, Any] = field(default_factory=dict)
    """Checkpoint and log intervals, batch size, and fields of SAEConfig that hold for all SAEs."""
    saes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """For each: hook, target, exclude_massive, and fields of SAEConfig."""
    evaluate: EvaluateTable = field(default_factory=EvaluateTable)

    @classmethod
    def read(cls, path: str | Path) -> RunFile:
        """RunFileError, naming table and key, for anything unknown, missing or of a wrong type."""
        path = Path(path)
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunFileError(f"There is no file {path}.") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise RunFileError(f"{path} is not TOML: {error}.") from None
        known = {"folder", "seed", "model", "tokens", "text", "activations", "training", "sae", "evaluate"}
        if unknown := sorted(set(values) - known):
            raise RunFileError(f"{path} has {', '.join(unknown)}; expected {', '.join(sorted(known))}.")
        if missing := [name for name in ("folder", "model", "text", "sae") if not values.get(name)]:
            raise RunFileError(f"{path} lacks {', '.join(missing)}.")
        text = {name: _text_group(path, name, table) for name, table in values["text"].items()}
        run = cls(
            path=path,
            folder=path.parent / values["folder"],
            seed=values.get("seed", 0),
            model=_table(path, "model", values["model"], ModelTable),
            tokens=_table(path, "tokens", values.get("tokens", {}), TokensTable),
            text=text,
            activations=_table(path, "activations", values["activations"], ActivationsTable)
            if "activations" in values
            else None,
            training=values.get("training", {}),
            saes=values["sae"],
            evaluate=_table(path, "evaluate", values.get("evaluate", {}), EvaluateTable),
        )
        run.members(d_in=1 << 20, widths=lambda place: 1)  # so that a wrong field is refused before any work
        return run

    @property
    def rows(self) -> Path:
        """The folder of the tokens."""
        return self.folder / "tokens" if self.tokens.folder is None else self.path.parent / self.tokens.folder

    def members(self, d_in: int | None = None, widths: Callable[[str | int], int] | None = None) -> dict[str, Member]:
        """The SAEs. widths: tells how wide a place is, where the file does not say."""
        found = {}
        shared = {key: value for key, value in self.training.items() if key not in ("checkpoint_every", "log_every")}
        for name, table in self.saes.items():
            options = {"seed": self.seed, **shared, **table}
            hook, target = options.pop("hook", None), options.pop("target", None)
            exclude = options.pop("exclude_massive", self.tokens.exclude_massive)
            if exclude and not self.tokens.exclude_massive:
                raise RunFileError(
                    f"{self.path}: [sae.{name}] exclude_massive is true; write it under [tokens] too, so that massive "
                    "tokens are marked."
                )
            if hook is None:
                raise RunFileError(f"{self.path}: [sae.{name}] lacks hook.")
            if widths is not None:
                options.setdefault("d_in", d_in or widths(hook))
                if target is not None:
                    options.setdefault("d_out", widths(target))
            try:
                found[name] = Member(SAEConfig(**options), hook, target, exclude)
            except (TypeError, ValueError) as error:
                reason = str(error).replace("SAEConfig.__init__() ", "")
                raise RunFileError(f"{self.path}: [sae.{name}] {reason}") from None
            if target is not None and found[name].config.architecture in ("topk", "gated"):
                raise RunFileError(
                    f"{self.path}: [sae.{name}] is a transcoder of architecture {found[name].config.architecture!r}, "
                    "which SAELens's files cannot hold. Take 'batch_topk', 'matryoshka', 'jumprelu' or 'relu'."
                )
        return found


def load(run: RunFile) -> tuple[Any, Any]:
    """The model, in eval mode, and its tokenizer."""
    device, dtype = find_device(run.model.device), getattr(torch, run.model.dtype)
    if run.model.library == "transformer_lens":
        from mi_course.interp.models import load_model

        model = load_model(run.model.name, compatibility=False, device=device, dtype=dtype)
        tokenizer = model.tokenizer
    elif run.model.library == "transformers":
        from mi_course.interp.models import hub, smollm2

        if run.model.name == smollm2.NAME:
            model, tokenizer = smollm2.load_hf(smollm2.fetch(), dtype)
        else:
            model, tokenizer = hub.load_hf(hub.locate(run.model.name), run.model.name, dtype)
        model.to(device).eval()
    else:
        raise RunFileError(
            f"{run.path}: model.library is {run.model.library!r}; expected 'transformer_lens' or 'transformers'."
        )
    if tokenizer is None:
        raise RunFileError(f"{run.path}: {run.model.name} has no tokenizer, so text cannot be read.")
    return model, tokenizer


def harvest(run: RunFile, say: Say, bar: Callable[[int, int], None] = lambda done, total: None) -> None:
    """Tokenize the text; with an [activations] table, write activations too. Goes on where it was cut short."""
    model, tokenizer = load(run)
    if not (run.rows / MANIFEST).exists():
        write_rows(
            tokenizer,
            run.text,
            run.rows,
            run.tokens.row,
            base=run.path.parent,
            between=run.tokens.between,
            say=say,
        )
    rows = TokenRows(run.rows)
    say(f"{len(rows):,} rows of {run.tokens.row} tokens to train on, in {run.rows}")
    if run.activations is None or (run.folder / "activations" / LIST).exists():
        return
    source, total = _stream(run, model, rows, batch=4096), run.activations.rows
    write_shards(
        source,
        run.folder / "activations",
        total,
        rows_per_shard=run.activations.rows_per_shard,
        dtype=getattr(torch, run.activations.dtype),
        about={"model": run.model.name, "exclude_massive": run.tokens.exclude_massive},
        on_progress=lambda done: bar(done, total),
    )
    say(f"{total:,} activations in {run.folder / 'activations'}; of the text read, {source.left_out}")


def train(run: RunFile, say: Say, on_progress: Callable[[str, Progress], None] | None = None) -> dict[str, SAE]:
    """Train all SAEs, and save each in SAELens's format. Goes on from the last checkpoint."""
    model, _ = load(run)
    members = _members(run, model)
    batch = run.training.get("batch", SAEConfig.batch)
    if run.activations is not None:
        source: Any = ShardBatches(run.folder / "activations", batch=batch, seed=run.seed)
    else:
        source = _stream(run, model, TokenRows(run.rows), batch)
    saes = train_group(
        members,
        source,
        folder=run.folder / "training",
        checkpoint_every=run.training.get("checkpoint_every", 500),
        log_every=run.training.get("log_every", 10),
        on_progress=on_progress,
    )
    for name, sae in saes.items():
        member = members[name]
        about = {"seed": member.config.seed, "training_tokens": member.config.steps * batch}
        if member.target is not None:
            about["hook_name_out"] = member.target
        save_sae(sae, run.folder / name, hook_name=member.hook, model_name=run.model.name, **about)
        shutil.copyfile(run.folder / "training" / name / "log.jsonl", run.folder / name / "log.jsonl")
        say(f"{name}: {run.folder / name}")
    return saes


def evaluate(run: RunFile, say: Say, floors: Floors | None = None) -> dict[str, Any]:
    """Judge each SAE on held-out text, group by group; written to evaluation.json beside it.

    floors: what `evaluate_floors` gave for the same rows.
    """
    model, _ = load(run)
    cards: dict[str, Any] = {}
    groups, members = _held_out(run), _members(run, model)
    floors, recorded = {} if floors is None else floors, Recorded()
    rows = TokenRows(run.rows)
    there_are = run.activations.rows if run.activations else len(rows) * (rows.about["pos"] - 1)
    for name, member in members.items():
        sae = load_sae(run.folder / name)
        card = {
            "model": run.model.name,
            "architecture": member.config.architecture,
            "training_tokens": (tokens := member.config.steps * run.training.get("batch", SAEConfig.batch)),
            "different_tokens": min(tokens, there_are),
            "mix": _mix(run),
            **measure(
                model,
                sae,
                groups,
                member.hook,
                member.target,
                exclude_massive=member.exclude_massive,
                rows_at_once=run.tokens.rows_at_once,
                nameability=run.evaluate.nameability,
                neurons=run.evaluate.neurons,
                seed=run.seed,
                floors=floors,
                recorded=recorded,
            ),
            "shared": {
                other: shared_latents(sae, load_sae(run.folder / other).to(sae.W_dec.device))
                for other in _twins(members, name)
            },
        }
        (run.folder / name / "evaluation.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
        cards[name] = card
        massive = "without massive tokens" if card["exclude_massive"] else "massive tokens counted"
        say(f"{name} ({card['tokens']:,} held-out tokens, {massive}; no first tokens)")
        say(
            f"  L0 {card['l0']:.1f}, explained variance {card['explained_variance']:.3f}, shrinkage "
            f"{card['shrinkage']:.3f}, dead {card['dead_share']:.1%} of {card['n_latents']:,}"
        )
        for group, nats in card["loss"].items():
            say(
                f"  {group}: loss {nats['clean']:.3f}, with the SAE {nats['rise']:+.3f} nats; controls: the mean "
                f"{nats['mean']:+.3f}, zeros {nats['zero']:+.3f}"
            )
    return cards


def evaluate_floors(run: RunFile) -> Floors:
    """The losses that `evaluate` compares with, at every place of the run. No SAE is needed: they may still train."""
    model, _ = load(run)
    groups, floors = _held_out(run), Floors()
    for member in _members(run, model).values():
        names = HookSite.of(model, *filter(None, (member.hook, member.target))).names
        if all((names, group, member.exclude_massive) in floors for group in groups):
            continue
        options: dict[str, Any] = {"exclude_massive": member.exclude_massive, "rows_at_once": run.tokens.rows_at_once}
        floors |= measure_floors(model, groups, member.hook, member.target, **options)
    return floors


def _held_out(run: RunFile) -> dict[str, torch.Tensor]:
    """Held-out rows by group. RunFileError if there are none."""
    groups = {}
    for group in run.text:
        rows = TokenRows(run.rows, "held_out", group)
        if len(rows):
            groups[group] = rows.rows(slice(0, run.evaluate.rows)).tokens
    if not groups:
        raise RunFileError(f"{run.path}: no group has held-out text. Give `held_out` or `held_out_files` in [text].")
    return groups


def _mix(run: RunFile) -> dict[str, float]:
    """Each group's share of the tokens to train on."""
    counts = {name: about["train"]["tokens"] for name, about in TokenRows(run.rows).about["groups"].items()}
    return {name: count / sum(counts.values()) for name, count in counts.items()}


def _twins(members: Mapping[str, Member], name: str) -> list[str]:
    """The SAEs that differ from this one in nothing but the seed."""

    def but_seed(member: Member) -> Member:
        return replace(member, config=replace(member.config, seed=0))

    return [other for other in members if other != name and but_seed(members[other]) == but_seed(members[name])]


def _stream(run: RunFile, model: Any, rows: TokenRows, batch: int) -> ModelBatches:
    dtype = next(model.parameters()).dtype
    return ModelBatches(
        model,
        rows,
        places(_members(run, model)),
        batch=batch,
        buffer=run.tokens.buffer,
        rows_at_once=run.tokens.rows_at_once,
        seed=run.seed,
        exclude_massive=run.tokens.exclude_massive,
        dtype=dtype,
    )


def _members(run: RunFile, model: Any) -> dict[str, Member]:
    """The SAEs, with the full names of their places, and widths measured on one token where the file does not say."""

    def width(place: str | int) -> int:
        token = torch.zeros(1, 2, dtype=torch.long, device=device_of(model))
        return record(model, HookSite.of(model, place), token)[0].shape[-1]

    return resolve(model, run.members(widths=width))


def _text_group(path: Path, name: str, table: Any) -> TextGroup:
    _check(path, f"text.{name}", table, TextGroup)
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    if isinstance(values.get("files"), str) or not values.get("files"):
        raise RunFileError(f'{path}: [text.{name}] files is {values.get("files")!r}; expected a list, ["books/*.txt"].')
    return TextGroup(**values)


def _check(path: Path, name: str, table: Any, kind: type) -> None:
    if not isinstance(table, dict):
        raise RunFileError(f"{path}: {name} is {table!r}; expected a table, [{name}].")
    known = {field.name for field in fields(kind)}
    if unknown := sorted(set(table) - known):
        raise RunFileError(f"{path}: [{name}] has {', '.join(unknown)}; expected {', '.join(sorted(known))}.")


def _table(path: Path, name: str, table: Any, kind: type) -> Any:
    _check(path, name, table, kind)
    try:
        return kind(**table)
    except TypeError as error:
        raise RunFileError(f"{path}: [{name}] {str(error).replace(f'{kind.__name__}.__init__() ', '')}.") from None
