"""Arguments checked and turned into numpy arrays, numbers and labels."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

VISIBLE = {"\n": "↵", "\r": "␍", "\t": "→"}


def array(
    values: Any, name: str, axes: Sequence[str], *, limit: int | None = None, finite: bool = True
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """`values` as float64 with the named axes.

    values: nested lists, a numpy array, or anything with `.detach()` (a torch tensor on any device, of any dtype).
    axes: what each axis means, such as `["layer", "head"]`; used in errors.
    limit: largest number of entries accepted.
    Raises ValueError for text, ragged lists, another number of axes, an empty axis, NaN, infinity, or too many entries.
    """
    try:
        out = np.asarray(_plain(values), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} is {type(values).__name__}, which is not a table of numbers ({error}). "
            f"Expected [{', '.join(axes)}]: nested lists of equal length, a numpy array or a tensor."
        ) from None
    if out.ndim != len(axes):
        raise ValueError(
            f"{name} has shape {out.shape}, that is {out.ndim} axes; expected {len(axes)}: [{', '.join(axes)}]. "
            "Select or average over the other axes first."
        )
    if out.size == 0:
        raise ValueError(f"{name} has shape {out.shape}: nothing to draw. Expected at least one entry on each axis.")
    if limit is not None and out.size > limit:
        raise ValueError(
            f"{name} has shape {out.shape}, that is {out.size:,} entries; at most {limit:,} can be drawn. "
            "Take a part of it, or average over blocks."
        )
    if finite and not np.isfinite(out).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(out))[0])
        place = ", ".join(map(str, where))
        raise ValueError(
            f"{name}[{place}] is {out[where]}, expected a finite number. "
            "Look for a division by zero, a log of zero, or a mean over nothing."
        )
    return out


def _plain(values: Any) -> Any:
    """Tensors to numpy; lists of tensors too. bfloat16 has no numpy counterpart, so tensors go through float64."""
    if hasattr(values, "detach"):
        tensor = values.detach().cpu()
        return tensor.double().numpy() if hasattr(tensor, "double") else tensor.numpy()
    if isinstance(values, (list, tuple)):
        return [_plain(value) for value in values]
    if isinstance(values, range):
        return list(values)
    return values


def number(value: Any, name: str) -> float:
    """One finite number. Raises ValueError otherwise."""
    return float(array(value, name, []))


def labels(values: Iterable[Any], name: str, count: int | None = None, *, limit: int = 1000) -> list[str]:
    """A list of strings. Raises ValueError if it is one string, or not `count` long."""
    if isinstance(values, (str, bytes)):
        raise ValueError(f"{name} is the single string {str(values)[:40]!r}; expected a list of strings.")
    try:
        out = [value if isinstance(value, str) else str(value) for value in values]
    except TypeError:
        raise ValueError(f"{name} is {type(values).__name__}; expected a list of strings.") from None
    if count is not None and len(out) != count:
        raise ValueError(f"{name} has {len(out)} entries; expected {count}, one for each.")
    if not out:
        raise ValueError(f"{name} is empty; expected at least one entry.")
    if len(out) > limit:
        raise ValueError(f"{name} has {len(out):,} entries; at most {limit:,} can be drawn.")
    return out


def check_text(value: Any, name: str) -> str:
    """A string, for titles and labels. Raises ValueError for anything else, and for an empty title."""
    if not isinstance(value, str):
        raise ValueError(f"{name} is {type(value).__name__}; expected a string.")
    if name == "title" and not value.strip():
        raise ValueError("title is empty; expected a sentence that says what to see in the picture.")
    return value


def check_marks(marks: Iterable[tuple[Any, str]]) -> list[tuple[float, str]]:
    """(x, label) pairs."""
    return [(number(x, "marks"), check_text(label, "a label in marks")) for x, label in marks]


def visible(token: str, *, width: int | None = None) -> str:
    """A token as it can be read in a label: outer spaces as ·, newline as ↵, control codes as \\x07, long ones cut.

    >>> visible(" the"), visible("a\\nb"), visible("head 16.0"), visible("incomprehensible", width=6)
    ('·the', 'a↵b', 'head 16.0', 'incom…')
    """
    inner = token.strip(" ")
    start = len(token) - len(token.lstrip(" "))
    shown = "·" * start + "".join(map(_glyph, inner)) + "·" * (len(token) - start - len(inner))
    if width is not None and len(shown) > width:
        shown = shown[: width - 1] + "…"
    return shown or "∅"


def _glyph(char: str) -> str:
    if char in VISIBLE:
        return VISIBLE[char]
    return char if _printable(char) else _escape(char)


def _printable(char: str) -> bool:
    # Cc, Cf: control characters and the marks that turn text right to left; Zl, Zp: line separators; Cs: half a pair.
    return unicodedata.category(char) not in {"Cc", "Cf", "Zl", "Zp", "Cs"}


def _escape(char: str) -> str:
    return f"\\x{ord(char):02x}" if ord(char) < 256 else f"\\u{ord(char):04x}"


def rounded(values: np.ndarray[Any, Any], digits: int = 4) -> list[Any]:
    """Nested lists with `digits` significant digits, relative to the largest entry: small in JSON."""
    top = float(np.abs(values).max()) if values.size else 0.0
    if top == 0.0:
        return np.zeros_like(values).tolist()
    places = digits - 1 - int(np.floor(np.log10(top)))
    out = np.round(values, places) if abs(places) < 300 else values
    return (out + 0.0).tolist()  # + 0.0 turns −0.0 into 0.0


def short(value: float, digits: int = 2) -> str:
    """A number in few digits: `short(0.9041)` is '0.90', `short(14.03)` is '14', `short(25000)` is '25,000'."""
    if value == 0:
        return "0"
    size = int(np.floor(np.log10(abs(value))))
    if size >= 7 or size < -4:
        return f"{value:.{digits - 1}e}".replace("-", "−") if value < 0 else f"{value:.{digits - 1}e}"
    places = max(0, digits - 1 - size)
    text = f"{abs(round(value, places)):,.{places}f}"
    return f"−{text}" if value < 0 else text


def place(value: float) -> str:
    """A position on an axis: `place(450.0)` is '450', `place(-1)` is '−1'."""
    return f"{value:.4g}".replace("-", "−")


def with_unit(label: str, unit: str) -> str:
    """`with_unit("loss", "nats")` is 'loss (nats)'."""
    return f"{label} ({unit})" if unit and label else label or unit
