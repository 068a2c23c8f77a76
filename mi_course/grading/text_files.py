"""The grader's text files: written atomically, safe for spreadsheets."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mi_course.interp.atomic_write import atomic_write

__all__ = ["escape_csv_cell", "write_csv", "write_text"]


def write_text(path: Path, text: str) -> None:
    """Atomically write `text` as UTF-8. Lone surrogates, which a submission may hold, become escapes."""
    atomic_write(path, text.encode("utf-8", "backslashreplace"))


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Atomically write a table that a spreadsheet shows as it is: no cell is a formula."""
    text = io.StringIO()
    table = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    table.writerow(header)
    table.writerows([escape_csv_cell(cell) for cell in row] for row in rows)
    write_text(path, text.getvalue())


def escape_csv_cell(cell: Any) -> Any:
    """A cell on one line that a spreadsheet does not take for a formula. Numbers stay as they are.

    What would be one gets an apostrophe in front: `=x` becomes `'=x`, and `'=x` becomes `''=x`. So printable texts that
    differ stay different.
    """
    if not isinstance(cell, str):
        return cell
    shown = _AFTER_SEMICOLON.sub(";'", "".join(c if c.isprintable() else repr(c)[1:-1] for c in cell))
    return f"'{shown}" if shown.lstrip(" \"'")[:1] in tuple(_FORMULA) or cell[:1] in ("\t", "\r") else shown


_FORMULA = "=+-@|%\uff1d\uff0b\uff0d\uff20"
"""What makes a cell a formula; in full width too."""
_AFTER_SEMICOLON = re.compile(rf";(?=[\s\"']*[{re.escape(_FORMULA)}])")
"""Where a spreadsheet that separates cells by semicolons would begin one with a formula."""
