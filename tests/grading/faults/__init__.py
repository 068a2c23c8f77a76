"""Faults as submissions: one list, which the tests run and `tests/benchmarks/grading_faults.py` shows to other graders.

A fault is a whole class of one: right answers to lesson 00 but for what it does to one of them, to a cell, to the file.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grading_kit import WORTH, ZERO, notebook

from faults.answers import AT_TOP_LEVEL, IN_AN_ANSWER, body
from faults.files import MALFORMED
from faults.forgeries import FORGERIES, HEAD, PATCHES, WRONG

__all__ = [
    "AT_TOP_LEVEL",
    "FORGERIES",
    "HEAD",
    "IN_AN_ANSWER",
    "MALFORMED",
    "PATCHES",
    "WRONG",
    "Fault",
    "body",
    "every_fault",
    "found",
    "write",
]

ALL = sum(WORTH.values())
WRITES = """import pathlib
for folder in ("..", "../..", "../../..", "/submissions"):
    for path in pathlib.Path(folder).glob("**/canary.txt"):
        try: path.write_text("changed")
        except OSError: pass
"""


@dataclass(frozen=True)
class Fault:
    """One submission, and the points that it deserves."""

    name: str
    kind: str
    """answer, cell, forgery or file."""
    deserves: int
    zero_head: str = ""
    """The answer cell of zero_head, where it is not the right one."""
    before: str = ""
    """A cell before the answers."""
    raw: bytes | None = None
    """The file, where it is no notebook."""
    tags: tuple[str, ...] = ()
    """On every cell."""
    twice: bool = False
    """The cell of zero_head is there a second time, with the same id."""


def every_fault() -> Iterator[Fault]:
    """All of them. What deserves marks for one exercise and not for the other has those of top_next_tokens, 3."""
    for name, (text, status, _) in IN_AN_ANSWER.items():
        worth = ALL if status == "passed" else ALL - WORTH[ZERO]
        yield Fault(name, "answer", worth, zero_head="import torch\n" + body(text))
    for name, (text, _) in AT_TOP_LEVEL.items():
        yield Fault(name, "cell", ALL, before=text)
    for name, text in PATCHES.items():
        yield Fault(name, "forgery", ALL - WORTH[ZERO], zero_head=f"{text}\n{WRONG}")
    for name, text in FORGERIES.items():
        yield Fault(name, "forgery", ALL - WORTH[ZERO], zero_head=HEAD + text)
    for name, raw in MALFORMED.items():
        yield Fault(name, "file", 0, raw=raw)
    yield Fault("bomb", "file", 0, raw=b"")
    skipped = ("skip-execution", "raises-exception", "remove-cell")
    yield Fault("skip_execution", "notebook", ALL - WORTH[ZERO], zero_head=WRONG, tags=skipped)
    yield Fault("a_cell_twice", "notebook", ALL, twice=True)
    # A neighbor's folder holds a canary; what counts is whether it still sings.
    yield Fault("writes_to_a_neighbor", "cell", ALL, before=WRITES)


def write(fault: Fault, folder: Path) -> Path:
    """Writes the submission, and returns its path."""
    if fault.name == "bomb":
        path = folder / "bomb.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.ipynb", "w") as member:
            for _ in range(200):
                member.write(bytes(2**20))
        return path
    path = folder / f"{fault.kind}_{fault.name}.ipynb"
    if fault.raw is not None:
        path.write_bytes(fault.raw)
        return path
    path.write_text(json.dumps(found(fault)), encoding="utf-8")
    return path


def found(fault: Fault) -> dict[str, Any]:
    """The notebook of lesson 00 with this fault."""
    made = notebook({ZERO: fault.zero_head} if fault.zero_head else None, before=fault.before)
    for cell in made["cells"]:
        cell["metadata"]["tags"] = [*cell["metadata"].get("tags", []), *fault.tags]
    if fault.twice:
        made["cells"].append(next(cell for cell in made["cells"] if cell["id"] == "answer-zero_head"))
    return made
