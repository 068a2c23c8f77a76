"""What learners wrote below the reflect questions. It is collected for reading; nothing judges it."""

from __future__ import annotations

import re
from typing import Any

from mi_course.content import known_hashes, read_notebook, source, source_hash
from mi_course.lessons import LessonInfo

__all__ = ["QUESTION", "questions", "reflections_in"]

QUESTION = re.compile(r"^\*Reflect\.\*\s*(.+?)(?:\n\s*\n|\Z)", re.MULTILINE | re.DOTALL)
LONGEST = 20_000
"""Characters of an answer that are kept."""
MAX_TEXT = 32 * 2**20
"""Characters of all text cells, above which nobody wrote them by hand."""
UNTOUCHED = ("YOUR ANSWER HERE", "*Your answer:*")


def questions(notebook: dict[str, Any]) -> dict[str, str]:
    """Cell id -> the question that it ends in, of a notebook of ours."""
    found = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown" and (asked := QUESTION.search(source(cell))):
            found[cell["id"]] = " ".join(asked[1].split())
    return found


def reflections_in(notebook: dict[str, Any], info: LessonInfo, python: bool = False) -> list[dict[str, str]]:
    """The answers of a parsed submission (`submission.parse`): lesson, question, answer.

    An answer is what the learner added to the question's cell, and the text cells of theirs that follow it. The cell
    is found by its id or, where ids were lost, by the question. python: it was a `.py` file, whose text is comments.
    """
    ours = read_notebook(info)
    asked = questions(ours)
    if sum(len(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] != "code") > MAX_TEXT:
        return []
    texts = {cell["id"]: source(cell) for cell in ours["cells"]}
    delivered = {value for values in known_hashes(info).values() for value in values}
    cells = [
        {**cell, "source": _uncommented(cell["source"]) if python and cell["cell_type"] != "code" else cell["source"]}
        for cell in notebook["cells"]
    ]
    found: list[dict[str, str]] = []
    flat: list[str] = []
    for id, question in asked.items():
        at = next((i for i, cell in enumerate(cells) if cell["id"] == id and cell["cell_type"] != "code"), None)
        if at is None:
            flat = flat or [" ".join(cell["source"].split()) for cell in cells]
            at = next((i for i, text in enumerate(flat) if question in text), None)
        if at is None:
            continue
        written = []
        if source_hash(cells[at]["source"]) not in delivered:
            lines = {line.strip() for line in texts[id].splitlines()}
            written.append("\n".join(line for line in cells[at]["source"].splitlines() if line.strip() not in lines))
        for cell in cells[at + 1 :]:
            theirs = cell["cell_type"] in ("markdown", "raw") and source_hash(cell["source"]) not in delivered
            if not theirs or cell["id"] in texts:
                break
            written.append(cell["source"])
        answer = "\n\n".join(text.strip() for text in written if text.strip() and text.strip() not in UNTOUCHED)
        if answer:
            found.append({"lesson": info.id, "question": question, "answer": answer[:LONGEST]})
    return found


def _uncommented(text: str) -> str:
    return "\n".join(re.sub(r"^\s*# ?", "", line) for line in text.splitlines())
