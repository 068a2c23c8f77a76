"""Reads `solutions/*.py`: jupytext's percent format, with an id on every cell and regions that hold the answers.

    # %% id="answer-induction_score"
    def induction_score(pattern, period):
        \"\"\"Docstring: it stays.\"\"\"
        # BEGIN SOLUTION
        return pattern...
        # END SOLUTION

    lesson.check(induction_score)

jupytext splits the cells, so that authors can open the same file in JupyterLab. The first line of each cell is found
here, because every finding names file and line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mi_course.content import ANSWER, BEGIN, END, SETUP
from mi_course.errors import CourseError

try:
    import jupytext
except ModuleNotFoundError as error:
    raise CourseError('Authors need more packages: pip install "mi-course[author]" -c constraints.txt') from error

__all__ = ["CLAIMS", "BuildError", "Finding", "Region", "SourceCell", "is_slug", "read_source", "regions"]

CLAIMS = "claims"
"""The tag of a claims cell. Its id is this, a hyphen, and the id of the markdown cell that it belongs to."""
TAGS = {CLAIMS, "not-compared", "online", SETUP}
SLUG = re.compile(r"[a-z0-9_-]{1,64}")
_HEADER = re.compile(r"^# %%")


@dataclass(frozen=True, order=True)
class Finding:
    """Something that an author has to fix, and where."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


class BuildError(CourseError):
    """A lesson cannot be built. Contains every finding."""

    def __init__(self, findings: list[Finding]) -> None:
        super().__init__("\n".join(map(str, findings)))
        self.findings = findings


@dataclass(frozen=True)
class Region:
    """The lines between two markers. begin, end: the markers' lines in the cell, from 0."""

    begin: int
    end: int
    indent: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class SourceCell:
    id: str
    kind: str
    """code, markdown or raw."""
    text: str
    tags: tuple[str, ...]
    file: str
    line: int
    """The line of its `# %%` in the file, from 1."""

    @property
    def answers(self) -> str | None:
        """The name of the exercise, if this is an answer cell."""
        return self.id.removeprefix(ANSWER) if self.kind == "code" and self.id.startswith(ANSWER) else None

    @property
    def is_setup(self) -> bool:
        return self.kind == "code" and (self.id == SETUP or SETUP in self.tags)

    @property
    def is_claims(self) -> bool:
        """Whether this cell is executed by build and nbval, and left out of the learner's notebook."""
        return CLAIMS in self.tags

    @property
    def belongs_to(self) -> str:
        """The id of the markdown cell that a claims cell belongs to."""
        return self.id.removeprefix(f"{CLAIMS}-")

    def finding(self, message: str, offset: int = -1) -> Finding:
        """A finding in line `offset` of the cell's text, from 0 (-1: in its header)."""
        return Finding(self.file, self.line + 1 + offset, message)


def is_slug(id: str) -> bool:
    """Whether this is a valid cell id."""
    return SLUG.fullmatch(id) is not None


def read_source(path: Path, name: str | None = None) -> list[SourceCell]:
    """The cells of a lesson. name: the file's name in findings.

    Raises BuildError if the file is missing or no percent script, and with all ids and tags that are missing,
    duplicate or malformed.
    """
    name = name or str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BuildError([Finding(name, 1, "is missing; a lesson is written there")]) from None
    except UnicodeDecodeError as error:
        raise BuildError([Finding(name, 1, f"is not UTF-8 ({error.reason} at byte {error.start})")]) from None
    notebook = jupytext.reads(text, fmt="py:percent")
    starts = [number for number, line in enumerate(text.splitlines(), 1) if _HEADER.match(line)]
    if len(starts) != len(notebook.cells) or not starts:
        raise BuildError(
            [
                Finding(
                    name,
                    starts[0] if starts else 1,
                    f"jupytext sees {len(notebook.cells)} cells, and {len(starts)} lines begin with `# %%`. "
                    "Every cell needs such a line, the first one too, and no string may contain one.",
                )
            ]
        )
    cells, findings = [], []
    for start, cell in zip(starts, notebook.cells, strict=True):
        parsed = SourceCell(
            id=str(cell.metadata.get("id", "")),
            kind=cell.cell_type,
            text=cell.source,
            tags=tuple(cell.metadata.get("tags", ())),
            file=name,
            line=start,
        )
        unknown = set(cell.metadata) - {"id", "tags", "lines_to_next_cell", "lines_to_end_of_cell_marker"}
        findings += _header_findings(parsed, {earlier.id: earlier for earlier in cells}, unknown)
        cells.append(parsed)
    for cell in cells:
        try:
            list(regions(cell))
        except BuildError as error:
            findings += error.findings
    if findings:
        raise BuildError(findings)
    return cells


def _header_findings(cell: SourceCell, earlier: dict[str, SourceCell], unknown: set[str]) -> Iterator[Finding]:
    if not cell.id:
        yield cell.finding('the cell has no id; write `# %% id="a-slug"`, and never change it later')
    elif not is_slug(cell.id):
        yield cell.finding(f"the id {cell.id!r} is no slug; use up to 64 of a-z, 0-9, _ and -")
    elif cell.id in earlier:
        yield cell.finding(f"the id {cell.id!r} is also that of the cell in line {earlier[cell.id].line}")
    if tags := sorted(set(cell.tags) - TAGS):
        yield cell.finding(f"unknown tag {tags[0]!r}; there are {', '.join(sorted(TAGS))}")
    if unknown:
        yield cell.finding(f"unknown option {sorted(unknown)[0]!r} in the cell's header; there are id and tags")


def regions(cell: SourceCell) -> Iterator[Region]:
    """The answer regions of a cell. Raises BuildError for nested, unclosed, misplaced and empty ones."""
    lines = cell.text.splitlines()
    begin: int | None = None
    for number, line in enumerate(lines):
        bare = line.strip()
        marker = re.sub(r"\W+", " ", bare).strip().upper()
        if marker in ("BEGIN SOLUTION", "END SOLUTION") and bare not in (BEGIN, END):
            raise BuildError([cell.finding(f"{bare!r} looks like a marker; write `# {marker}`", number)])
        if bare == BEGIN:
            if begin is not None:
                raise BuildError(
                    [cell.finding(f"BEGIN SOLUTION inside the region of line {cell.line + 1 + begin}", number)]
                )
            if cell.answers is None:
                raise BuildError(
                    [cell.finding(f'a solution outside an answer cell, whose id is "{ANSWER}<exercise>"', number)]
                )
            begin = number
        elif bare == END:
            if begin is None:
                raise BuildError([cell.finding("END SOLUTION without a BEGIN", number)])
            indent = lines[begin][: -len(BEGIN)]
            inside = tuple(lines[begin + 1 : number])
            if line != indent + END:
                raise BuildError([cell.finding("END SOLUTION is not indented as its BEGIN is", number)])
            if any(line.strip() and not line.startswith(indent) for line in inside):
                raise BuildError([cell.finding("the region has lines that are indented less than its BEGIN", begin)])
            if not any(line.strip() for line in inside):
                raise BuildError([cell.finding("the region is empty", begin)])
            yield Region(begin, number, indent, inside)
            begin = None
    if begin is not None:
        raise BuildError([cell.finding("BEGIN SOLUTION is never closed in this cell", begin)])
