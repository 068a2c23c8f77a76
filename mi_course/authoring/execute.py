"""Executes a solution in a kernel, and keeps the outputs that are small and reproducible.

Stored: printed text, HTML, pictures and Plotly figures, in order. Not stored: standard error (progress bars, warnings),
widgets and their state, execution times.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

from mi_course.authoring.claims import CLAIMS_S
from mi_course.authoring.generate import KERNEL, NOT_COMPARED
from mi_course.authoring.source import BuildError, Finding, SourceCell
from mi_course.content import ANSWER_MIME
from mi_course.course import ClaimFailed
from mi_course.lessons import LessonInfo
from mi_course.progress import Progress

__all__ = ["Executed", "execute", "outputs_hash", "reuse"]

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
CELL_S = 600
"""Seconds that one cell may take."""
RAISES = "raises-exception"
"""nbclient's own tag: execution goes on after an error in this cell."""
_COLOR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Executed:
    notebook: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    """Cells whose output is not compared, and why."""


def execute(info: LessonInfo, notebook: dict[str, Any], cells: Sequence[SourceCell], cell_s: int = CELL_S) -> Executed:
    """Run a solution in a fresh kernel, offline, with a fresh `MI_COURSE_HOME`, in an empty folder.

    Raises BuildError with file, line, cell id and traceback if a cell fails or takes longer than `cell_s` seconds, and
    if a claim does not hold.
    """
    running = nbformat.from_dict(copy.deepcopy(notebook))
    for source, cell in zip(cells, running["cells"], strict=True):
        if source.is_claims:  # execution goes on, so that one build lists all the claims that fail
            cell["metadata"]["tags"] = [*source.tags, RAISES]
    started = [0]
    began, claims_s = [0.0], [0.0]

    def before(cell: Any, cell_index: int) -> None:
        started.append(cell_index)
        began.append(time.monotonic())

    def after(cell: Any, cell_index: int, execute_reply: Any) -> None:
        claims_s.append(time.monotonic() - began[-1] if cells[cell_index].is_claims else 0.0)

    with tempfile.TemporaryDirectory(prefix="mi-course-build-") as scratch:
        home, work = Path(scratch, "home"), Path(scratch, "work")
        for folder in (home, work):
            folder.mkdir()
        client = NotebookClient(
            running,
            timeout=cell_s,
            kernel_name="python3",
            record_timing=False,
            coalesce_streams=True,
            store_widget_state=False,
            on_cell_execute=before,
            on_cell_executed=after,
            resources={"metadata": {"path": str(work)}},
        )
        try:
            client.execute(env=environment(home))
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            cell, text = cells[started[-1]], _COLOR.sub("", str(error)).strip()
            raise BuildError([cell.finding(f"{info.id}, cell {cell.id!r} failed: {text}")]) from None
        verdicts = {row.exercise: row.status for row in Progress(home).rows(info.id)}
    executed = json.loads(json.dumps(running))
    findings = [
        finding
        for source, cell in zip(cells, executed["cells"], strict=True)
        if source.is_claims
        for finding in _claims_findings(source, cell, cells)
    ]
    if findings:
        raise BuildError(findings)
    notes = [
        f"{info.notebook}, cell {cell['id']!r}: {note}, so its output is not compared"
        for cell in executed["cells"]
        if cell["cell_type"] == "code"
        for note in _clean(cell)
    ]
    if sum(claims_s) > CLAIMS_S:
        notes.append(
            f"the claims of {info.id} took {sum(claims_s):.0f} s, and may take {CLAIMS_S:.0f}: let them reuse what "
            "other cells computed, or make a test marked slow of what costs more"
        )
    executed["metadata"] = {**KERNEL, "mi_course": dict(notebook["metadata"]["mi_course"])}
    executed["metadata"]["mi_course"] |= {"verdicts": verdicts, "outputs_hash": outputs_hash(executed)}
    return Executed(executed, notes)


def _claims_findings(source: SourceCell, cell: dict[str, Any], cells: Sequence[SourceCell]) -> Iterator[Finding]:
    """What went wrong in a claims cell. A claim that failed is found at the markdown cell that it belongs to."""
    cell["metadata"]["tags"] = list(source.tags)
    prose = next((other for other in cells if other.id == source.belongs_to), source)
    for output in cell["outputs"]:
        if output["output_type"] == "error" and output["ename"] == ClaimFailed.__name__:
            yield prose.finding(
                f"cell {prose.id!r} says what this run does not bear out: {output['evalue']!r} (the claim is in cell "
                f"{source.id!r}, line {source.line}). Mend the prose, not the number"
            )
        elif output["output_type"] == "error":
            text = _COLOR.sub("", "\n".join(output["traceback"])).strip()
            yield source.finding(f"cell {source.id!r} failed: {text}")
        elif output["output_type"] != "stream" or output["name"] != "stdout":
            yield source.finding(f"cell {source.id!r} writes to standard error or shows something: only print there")


def environment(home: Path) -> dict[str, str]:
    """The kernel's environment: offline, with its own progress, without the user's start-up files."""
    return {
        **os.environ,
        "MI_COURSE_HOME": str(home),
        "IPYTHONDIR": str(home / "ipython"),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "JUPYTER_PREFER_ENV_PATH": "1",
        "PYTHONHASHSEED": "0",
    }


def _clean(cell: dict[str, Any]) -> list[str]:
    """Drop outputs that are not stored; tag the cell if the rest cannot be compared. Returns the reasons."""
    reasons, kept = [], []
    cell["metadata"].pop("execution", None)
    for output in cell["outputs"]:
        if output["output_type"] == "stream" and output["name"] == "stderr":
            reasons.append("it writes to standard error")
            continue
        if "data" in output:
            output.pop("transient", None)
            if output["data"].pop(WIDGET_VIEW, None) is not None:
                reasons.append("it shows a widget")
                if set(output["data"]) <= {"text/plain"}:
                    continue
            if ANSWER_MIME in output["data"]:
                reasons.append("it records a value that is judged")
        kept.append(output)
    cell["outputs"] = _merged(kept)
    tags = set(cell["metadata"].get("tags", ()))
    if not reasons or NOT_COMPARED in tags:
        return []
    cell["metadata"]["tags"] = sorted({*tags, NOT_COMPARED})
    return sorted(set(reasons))


def _merged(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The outputs with adjacent pieces of standard output joined."""
    merged: list[dict[str, Any]] = []
    for output in outputs:
        if output["output_type"] == "stream" and merged and merged[-1]["output_type"] == "stream":
            merged[-1]["text"] += output["text"]
        else:
            merged.append(output)
    return merged


def outputs_hash(notebook: dict[str, Any]) -> str:
    """A hash of all outputs, by which a solution that was executed by hand is noticed."""
    outputs = [_joined(cell["outputs"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return hashlib.sha256(json.dumps(outputs, sort_keys=True).encode()).hexdigest()[:32]


def _joined(value: Any) -> Any:
    """The value with lists of lines joined; nbformat writes either form."""
    if isinstance(value, dict):
        return {key: _joined(item) for key, item in value.items()}
    if isinstance(value, list):
        if value and all(isinstance(item, str) for item in value):
            return "".join(value)
        return [_joined(item) for item in value]
    return value


def reuse(fresh: dict[str, Any], old: dict[str, Any]) -> dict[str, Any] | None:
    """The fresh solution with the outputs of the executed one; None if the code has changed since."""
    try:
        before = old["metadata"]["mi_course"]
        now = fresh["metadata"]["mi_course"]
        old_code = [cell for cell in old["cells"] if cell["cell_type"] == "code"]
        new_code = [cell for cell in fresh["cells"] if cell["cell_type"] == "code"]
        if before["source_hash"] != now["source_hash"] or before["outputs_hash"] != outputs_hash(old):
            return None
        notebook = copy.deepcopy(fresh)
        by_id = {cell["id"]: cell for cell in old_code}
        if list(by_id) != [cell["id"] for cell in new_code]:
            return None
        for cell in notebook["cells"]:
            if cell["cell_type"] != "code":
                continue
            ran = by_id[cell["id"]]
            if _joined(ran["source"]) != cell["source"] and (ran["source"] or cell["source"]):
                return None
            cell |= {"outputs": ran["outputs"], "execution_count": ran["execution_count"]}
            tags = set(cell["metadata"].get("tags", ()))
            if NOT_COMPARED in ran["metadata"].get("tags", ()):
                tags.add(NOT_COMPARED)
            if tags:
                cell["metadata"]["tags"] = sorted(tags)
        notebook["metadata"]["mi_course"] |= {"verdicts": before["verdicts"], "outputs_hash": before["outputs_hash"]}
    except (KeyError, TypeError, AttributeError):
        return None
    return notebook
