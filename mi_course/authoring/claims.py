"""Holds a lesson's prose against its outputs: claims that can fail, and numbers that come from the run.

A cell tagged `claims` with the id `claims-<id>` belongs to the markdown cell `<id>`. Build and nbval execute it; the
learner's notebook does not have it. Markdown says `{{seen:name}}` where `lesson.seen("name", ...)` saw a number.
"""

from __future__ import annotations

import ast
import difflib
import re
import symtable
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mi_course.authoring.source import CLAIMS, BuildError, Finding, SourceCell
from mi_course.content import python_only, source, top_level_names
from mi_course.course import CLAIM_LINE, SEEN_LINE
from mi_course.lessons import LessonInfo

__all__ = ["CLAIMS_S", "Held", "fill", "held", "review_claims", "review_held", "table"]

CLAIMS_S = 10.0
"""Seconds that all claims of a lesson may take. What costs more (many seeds) is a test marked `slow`."""

RECAP = "recap"
SEEN = "-seen"
_PLACEHOLDER = re.compile(r"\{\{\s*seen:\s*([\w-]+)\s*\}\}")
_MALFORMED = re.compile(r"\{\{\s*seen\b[^}]*\}?\}?")


# ---------------------------------------------------------------------------------------------------------------------
# What a run saw


@dataclass(frozen=True)
class Held:
    """What the claims cells of an executed solution have printed."""

    seen: Mapping[str, str] = field(default_factory=dict)
    """The name of each number -> its text."""
    claims: Mapping[str, int] = field(default_factory=dict)
    """The id of each claims cell -> how many claims it has found to hold."""
    twice: Mapping[str, str] = field(default_factory=dict)
    """Names seen with two different texts -> the cell that saw the second."""


def held(notebook: Mapping[str, Any] | None) -> Held:
    """Read the stored outputs of an executed solution. Executes nothing; None and hand-made notebooks give nothing."""
    seen: dict[str, str] = {}
    claims: dict[str, int] = {}
    twice: dict[str, str] = {}
    for cell in (notebook or {}).get("cells", ()):
        if CLAIMS not in cell.get("metadata", {}).get("tags", ()):
            continue
        lines = [line for output in cell.get("outputs", ()) for line in _text(output).splitlines()]
        claims[cell["id"]] = sum(1 for line in lines if CLAIM_LINE.fullmatch(line))
        for match in filter(None, map(SEEN_LINE.fullmatch, lines)):
            if seen.setdefault(match["name"], match["text"]) != match["text"]:
                twice[match["name"]] = cell["id"]
    return Held(seen, claims, twice)


def _text(output: Mapping[str, Any]) -> str:
    text = output.get("text", "") if output.get("output_type") == "stream" else ""
    return "".join(text) if isinstance(text, list) else text


def fill(notebook: dict[str, Any], cells: Sequence[SourceCell], seen: Mapping[str, str]) -> dict[str, Any]:
    """The notebook with `{{seen:name}}` filled in. Raises BuildError, with every name that no claims cell has seen."""
    by_id, findings, filled = {cell.id: cell for cell in cells}, [], []
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            text = source(cell)
            for match in _PLACEHOLDER.finditer(text):
                if match[1] not in seen:
                    near = difflib.get_close_matches(match[1], seen, n=3)
                    known = f"the nearest: {', '.join(near)}" if near else f"{len(seen)} other names are there"
                    line = next(n for n, line in enumerate(by_id[cell["id"]].text.splitlines()) if match[0] in line)
                    findings.append(
                        by_id[cell["id"]].finding(
                            f"{match[0]}: no stored output of a claims cell has it; {known}", line
                        )
                    )
            cell = {**cell, "source": _PLACEHOLDER.sub(lambda match: seen.get(match[1], match[0]), text)}
        filled.append(cell)
    if findings:
        raise BuildError(findings)
    return {**notebook, "cells": filled}


def review_held(held: Held, cells: Sequence[SourceCell]) -> Iterator[Finding]:
    """Names seen twice with different values, and claims cells that have tested nothing, as a loop over nothing."""
    by_id = {cell.id: cell for cell in cells}
    for name, id in held.twice.items():
        if id in by_id:
            yield by_id[id].finding(f"{name!r} is seen twice, with different values; give each its own name")
    for id, count in held.claims.items():
        if id in by_id and not count and any(_claim_calls(by_id[id])):
            yield by_id[id].finding(f"cell {id!r} ran, and no claim in it was tested: does a loop have nothing to do?")


# ---------------------------------------------------------------------------------------------------------------------
# What a source lacks


def concludes(cell: SourceCell) -> bool:
    """Whether a cell draws conclusions, and so needs a claim: its id ends in `-seen`, or is `recap`."""
    return cell.kind == "markdown" and (cell.id.endswith(SEEN) or cell.id == RECAP)


def review_claims(cells: Sequence[SourceCell]) -> Iterator[Finding]:
    """What is wrong with a lesson's claims cells, and with cells that conclude."""
    prose = {cell.id: cell for cell in cells if cell.kind == "markdown"}
    for cell in cells:
        if cell.is_claims or cell.id.startswith(f"{CLAIMS}-"):
            yield from _claims_cell(cell, prose)
        if cell.kind == "markdown":
            yield from _malformed(cell)
    yield from _entangled(cells)
    for cell in filter(concludes, cells):
        own = [other for other in cells if other.is_claims and other.belongs_to == cell.id]
        if not any(call for other in own for call in _claim_calls(other)):
            yield cell.finding(
                f"cell {cell.id!r} concludes and no claim holds it: write "
                f'`# %% id="{CLAIMS}-{cell.id}" tags=["{CLAIMS}"]` before it, with claim("...", condition)'
            )
        for number, line in _typed_numbers(cell.text):
            yield cell.finding(
                f"{number!r} is typed by hand in a cell that concludes; see it in a claims cell, "
                f'lesson.seen("name", value, ".1f"), and write {{{{seen:name}}}}',
                line,
            )


def _claims_cell(cell: SourceCell, prose: Mapping[str, SourceCell]) -> Iterator[Finding]:
    if cell.kind != "code" or not cell.is_claims:
        yield cell.finding(f'a claims cell is code and has tags=["{CLAIMS}"]')
        return
    if set(cell.tags) != {CLAIMS}:
        yield cell.finding("the outputs of a claims cell are always compared: it has no other tag")
    if cell.belongs_to not in prose:
        example = next((id for id in prose if id.endswith(SEEN)), RECAP)
        yield cell.finding(
            f'a claims cell names the markdown cell that it belongs to: id="{CLAIMS}-{example}" for {example!r}'
        )
    for call in _claim_calls(cell):
        words, condition = (call.args + [word.value for word in call.keywords])[:2]
        if isinstance(condition, ast.Constant):
            yield cell.finding("this claim cannot fail: its condition is a constant", call.lineno - 1)
        if isinstance(words, ast.Constant) and not (isinstance(words.value, str) and words.value.strip()):
            yield cell.finding("a claim begins with the sentence that it holds", call.lineno - 1)


def _claim_calls(cell: SourceCell) -> Iterator[ast.Call]:
    """The calls of `claim` with two arguments."""
    for node in ast.walk(_parsed(cell.text)):
        if not isinstance(node, ast.Call) or ast.unparse(node.func) not in ("claim", "mi_course.claim"):
            continue
        if len(node.args) + len(node.keywords) >= 2:
            yield node


def _malformed(cell: SourceCell) -> Iterator[Finding]:
    for match in _MALFORMED.finditer(cell.text):
        if not _PLACEHOLDER.fullmatch(match[0]):
            line = cell.text.count("\n", 0, match.start())
            yield cell.finding(f"{match[0]!r} is no placeholder; write {{{{seen:name}}}}", line)


def _entangled(cells: Sequence[SourceCell]) -> Iterator[Finding]:
    """Names that a claims cell binds and another cell reads: the learner's notebook has no claims cells."""
    readers: dict[str, str] = {}
    for cell in cells:
        if cell.kind == "code" and not cell.is_claims:
            for name in _read_from_outside(cell.text):
                readers.setdefault(name, cell.id)
    for cell in cells:
        if cell.is_claims:
            for name in sorted(top_level_names(cell.text) & set(readers)):
                yield cell.finding(
                    f"a claims cell sets {name}, which cell {readers[name]!r} reads; use another name, "
                    "for the learner's notebook has no claims cells"
                )


def _read_from_outside(text: str) -> set[str]:
    """Names that a cell, or a function defined in it, reads and does not itself define."""
    try:
        top = symtable.symtable(python_only(text), "<cell>", "exec")
    except SyntaxError:
        return set()
    names, todo = set(), [top]
    while todo:
        scope = todo.pop()
        todo += scope.get_children()
        for symbol in scope.get_symbols():
            if symbol.is_referenced() and (scope is top or symbol.is_global()):
                names.add(symbol.get_name())
    return names - top_level_names(text)


def _parsed(text: str) -> ast.Module:
    try:
        return ast.parse(python_only(text))
    except SyntaxError:  # executing it will say so
        return ast.Module([], [])


# ---------------------------------------------------------------------------------------------------------------------
# Numbers typed by hand

_YEAR = r"(?:19|20)\d\d[a-z]?"
_CITATION = re.compile(
    rf"(?:et al\.|[A-ZÀ-Þ][\w’'-]+)[,;]?\s+\(?{_YEAR}\b(?:,\s+(?:section|appendix|figure|table)\s+[\w.]+)?"
)
_EXEMPT = (
    re.compile(r"```.*?```|~~~.*?~~~", re.DOTALL),  # code
    re.compile(r"(`+).+?\1", re.DOTALL),
    re.compile(r"\$\$.+?\$\$|\$[^$\n]+\$", re.DOTALL),  # maths
    re.compile(r"!?\[[^\]]*\]\([^)]*\)|<?https?://\S+"),  # links
    re.compile(r"<[^<>]+>|&\w+;|&#\w+;"),  # HTML
    re.compile(r"\{\{.*?\}\}"),  # placeholders
    re.compile(rf"\((?:[^()]*\s)?{_CITATION.pattern}[^()]*\)"),  # all of a parenthesis that cites
    _CITATION,
    re.compile(r"(?m)^\s*(?:#+\s+)?\d+\.\s"),  # numbered headings and lists
    re.compile(  # what is numbered by name
        r"(?i)\b(?:lessons?|sections?|parts?|steps?|figures?|tables?|appendix|exercises?)\s+[\d.]*\d"
        r"(?:(?:,| and| to| or)\s+\d+)*"
    ),
    re.compile(r"\b[A-Za-zÀ-ÿ_]+-?\d[\w.-]*"),  # names: SmolLM2-135M, GPT-2, L1
)
_WORDS = (
    "eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|eighteen|nineteen|twenty|thirty|forty|fifty|sixty|"
    "seventy|eighty|ninety|hundreds?|thousands?|millions?|dozens?"
)
_NUMBER = re.compile(rf"[−+-]?\d[\d,.]*(?<![,.])|⁻[⁰¹²³⁴-⁹]+|\b(?:{_WORDS})\b", re.IGNORECASE)


def _typed_numbers(text: str) -> Iterator[tuple[str, int]]:
    """Numbers typed by hand, with their line from 0: digits, and words from eleven on.

    Exempt are numbers in names, maths, code spans, links and citations.
    """
    for pattern in _EXEMPT:
        text = pattern.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    for match in _NUMBER.finditer(text):
        yield match[0], text.count("\n", 0, match.start())


# ---------------------------------------------------------------------------------------------------------------------
# The table


def table(lessons: Sequence[tuple[LessonInfo, Sequence[SourceCell], Held]]) -> str:
    """Per lesson: cells that conclude, how many of them have a claim, claims, numbers filled in, citations."""
    rows: list[tuple[str, ...]] = [
        ("lesson", "concluding cells", "with a claim", "claims", "numbers seen", "citations")
    ]
    for info, cells, run in lessons:
        prose = [cell for cell in cells if concludes(cell)]
        ids = {cell.belongs_to for cell in cells if cell.is_claims and any(_claim_calls(cell))}
        filled = sum(len(_PLACEHOLDER.findall(cell.text)) for cell in cells if cell.kind == "markdown")
        cited = sum(len(_CITATION.findall(cell.text)) for cell in cells if cell.kind == "markdown")
        counts = (len(prose), sum(cell.id in ids for cell in prose), sum(run.claims.values()), filled, cited)
        rows.append((f"{info.number:02d} {info.id}", *map(str, counts)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        aligned = [word.rjust(width) for word, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *aligned]))
    return "\n".join(lines)
