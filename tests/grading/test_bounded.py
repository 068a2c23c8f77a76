"""Work on a submission outside the sandbox: bounded, and linear in its size up to the limits."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import resource
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from grading_kit import notebook

from mi_course import lessons, submission, wire
from mi_course.content import ANSWER_MIME
from mi_course.grading.bounded import run_each
from mi_course.grading.formats import feedback
from mi_course.grading.formats.junit import junit
from mi_course.grading.marks import ExerciseMark, Marks
from mi_course.grading.reaching import reaches
from mi_course.grading.reflections import reflections_in
from mi_course.grading.sandboxed_asking import capped
from mi_course.grading.similar import answers_in
from mi_course.grading.text_files import escape_csv_cell
from mi_course.judging import compare
from mi_course.recorded_values import recorded_values
from mi_course.submission import SubmissionError, parse, records_in, select_cells
from mi_course.wire import WireError

INFO = lessons.find("start_here")


def frame(text: bytes, tensors: dict[str, torch.Tensor] | None = None) -> bytes:
    from safetensors.torch import save

    return wire.MAGIC + len(text).to_bytes(8, "little") + text + save(tensors or {})


def decoded(data: bytes) -> None:
    with contextlib.suppress(WireError):
        wire.decode(data)


def in_cells(text: str) -> Callable[[], None]:
    raw = json.dumps({"cells": [{"cell_type": "code", "source": text}], "metadata": {}}).encode()

    def read() -> None:
        try:
            found = parse(raw, "00_start_here.ipynb")
            taken = select_cells(found, "00_start_here.ipynb")
        except SubmissionError:
            return
        reflections_in(found, INFO)
        recorded_values(taken.records)
        list(reaches(taken.cells))
        answers_in("x", taken.exercises, [cell.source for cell in taken.cells])

    return read


def recorded(value: bytes) -> Callable[[], None]:
    record = {"format": 1, "exercise": "a.b", "value": base64.b64encode(value).decode()}
    return lambda: recorded_values(records_in({"cells": [{"outputs": [{"data": {ANSWER_MIME: record}}]}]}))


def colliding(n: int) -> bytes:
    """Keys of one hash: -1 and -2 share theirs, and so do all tuples of them."""
    keys = itertools.islice(itertools.product((-1, -2), repeat=17), n)
    pairs = [[{"~": "tuple", "v": list(key)}, 0] for key in keys]
    return frame(json.dumps({"~": "dict", "v": pairs}).encode())


def many_tensors(n: int) -> bytes:
    tree = [{"~": "tensor", "n": i, "dtype": "float32", "shape": [0]} for i in range(n)]
    return frame(json.dumps(tree).encode(), {str(i): torch.zeros(0) for i in range(n)})


def page_of(text: str) -> None:
    mark = ExerciseMark("start_here.zero_head", 1, "crashed", 0, 2, text[:4000], printed=text[:4000])
    row = Marks("x", "marked", text, 0, 2, (mark,), notes=(text,), reasons=tuple(capped([text] * 50)))
    feedback.page(row), junit([row]), escape_csv_cell(text)


GROWING: dict[str, tuple[int, Callable[[int], Callable[[], Any]]]] = {
    "string never closed": (500_000, lambda n: partial(decoded, frame(b'"' + b'\\"' * n))),
    "escapes": (500_000, lambda n: partial(decoded, frame(b'["' + b"\\\\" * n))),
    "empty lists": (300_000, lambda n: partial(decoded, frame(b"[" + b"[]," * n + b"0]"))),
    "a float of many digits": (1_000_000, lambda n: partial(decoded, frame(b"0." + b"1" * n))),
    "a name of many letters": (1_000_000, lambda n: partial(decoded, frame(b'{"~": "' + b"x" * n + b'"}'))),
    "colliding keys": (4_000, lambda n: partial(decoded, colliding(n))),
    "colliding keys recorded": (4_000, lambda n: recorded(colliding(n))),
    "empty tensors": (5_000, lambda n: partial(decoded, many_tensors(n))),
    "source in one cell": (200_000, lambda n: in_cells("x = 1\n" * (n // 6))),
    "quotes in a cell": (200_000, lambda n: in_cells("'\"" * (n // 2))),
    "lines of magic": (200_000, lambda n: in_cells("%x\n" * (n // 3))),
    "definitions in a long cell": (200_000, lambda n: in_cells("def zero_head(:\n" * (n // 16))),
    "blanks": (200_000, lambda n: in_cells(" " * n + "x")),
    "words": (200_000, lambda n: in_cells("a." * (n // 2) + "?")),
    "a tensor where a list is asked": (
        500_000,
        lambda n: partial(compare, torch.zeros(n, *[1] * 60, dtype=torch.int8), [0.0, 1.0]),
    ),
    "a long list where a tensor is asked": (100_000, lambda n: partial(compare, [0.5] * n, torch.zeros(3))),
    "a long text": (500_000, lambda n: partial(compare, "\u202e" * n, "x")),
    "a dict of long keys": (1_000, lambda n: partial(compare, {f"{i}" * 500: 0 for i in range(n)}, {"a": 1})),
    "a page": (100_000, lambda n: partial(page_of, "=`*_\u202e" * (n // 5))),
}


@pytest.mark.parametrize("name", GROWING)
def test_time_and_memory_grow_linearly(name: str):
    """Four times the input may take ten times as long, and a second more. Memory is measured for the large one."""
    size, make = GROWING[name]
    small, large = make(size // 4), make(size)
    small()
    took = [min(_seconds(work) for _ in range(2)) for work in (small, large)]
    assert took[1] < 10 * took[0] + 1.0, took
    assert took[1] < 10, took
    tracemalloc.start()
    try:
        large()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 300 * 2**20, f"{peak / 2**20:.0f} MB"


def _seconds(work: Callable[[], Any]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def test_a_tensor_is_not_made_into_lists():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    shape = (2**20, *[1] * 60)
    assert "2 " in compare(torch.zeros(shape, dtype=torch.int8), [1, 2]).message
    assert "shape" in compare(torch.zeros(2, *[1] * 60), [1, 2]).message
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024


def test_a_tensor_of_many_dimensions_does_not_cross():
    with pytest.raises(WireError, match="60 dimensions"):
        wire.plain(torch.zeros([1] * 60))
    tree = {"~": "tensor", "n": 0, "dtype": "float32", "shape": [1] * 60}
    with pytest.raises(WireError, match="60 dimensions"):
        wire.decode(frame(json.dumps(tree).encode(), {"0": torch.zeros([1] * 60)}))


def test_colliding_keys_are_refused():
    with pytest.raises(WireError, match="collide"):
        wire.decode(colliding(1000))
    heads = {(layer, head): 0.5 for layer in range(-2, 30) for head in range(-2, 30)}
    assert wire.decode(wire.encode(heads)) == heads


def test_a_cell_of_more_than_a_megabyte_is_not_run():
    found = parse(json.dumps(notebook(before="x = 1\n" * 200_000)).encode(), "00_start_here.ipynb")
    taken = select_cells(found, "00_start_here.ipynb")
    assert [cell.position for cell in taken.cells if len(cell.source) > 10**6] == []
    assert any("is not run" in note for note in taken.notes)


def test_a_long_cell_is_searched_for_definitions():
    text = "def zero_head(z):\n    return z\n\nother: int = 3\n" + "x = 1\n" * 30_000
    assert len(text) > submission.PARSED_CHARACTERS
    assert submission.defined(text, {"zero_head", "other", "absent"}) == {"zero_head", "other"}
    assert submission.defined("zero_head(1)\n" + text[40:], {"zero_head"}) == frozenset()


def test_a_notebook_of_millions_of_values_is_refused():
    raw = b'{"cells": [' + b"[]," * 9_000_000 + b"0]}"
    with pytest.raises(SubmissionError, match="million values"):
        parse(raw, "a.ipynb")


def test_work_in_a_bounded_process_costs_only_itself():
    def work(i: int) -> Any:
        if i == 1:
            os._exit(3)
        if i == 2:
            raise ValueError("no")
        if i == 3:
            return len(bytearray(64 * 2**30))
        while i == 4:
            pass
        return i

    results = list(run_each(work, 6, seconds=1.0))
    assert [i for i, _, _ in results] == list(range(6))
    assert [value for _, value, _ in results] == [0, None, None, None, None, 5]
    assert "exit status 3" in results[1][2]
    assert "MemoryError" in results[3][2]
