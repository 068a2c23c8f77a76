# ruff: noqa: E402
"""Mutated notebooks, zip files, replies and rows, through all that the grader does with them outside the sandbox.

    python tests/benchmarks/fuzz_grading.py SEED SECONDS

Prints what raised anything but the error that it may, and what took more than 5 seconds or 1 GB; then how many of each
kind were tried. The same seed makes the same inputs.
"""

from __future__ import annotations

import copy
import io
import json
import math
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "grading"), str(TESTS), str(TESTS.parent)]

import torch
from grading_kit import TOP, notebook

from mi_course import content, lessons, wire
from mi_course.asking import observe
from mi_course.grading import sandboxed_asking as asking
from mi_course.grading.formats import classroom, feedback, file_names, gradescope
from mi_course.grading.formats.junit import junit
from mi_course.grading.intake import Entry, load
from mi_course.grading.jobs import content_hash
from mi_course.grading.marking import _judge
from mi_course.grading.marks import ExerciseMark, Marks, printable_name
from mi_course.grading.reaching import reaches
from mi_course.grading.reflections import reflections_in
from mi_course.grading.similar import answers_in
from mi_course.grading.text_files import escape_csv_cell
from mi_course.recorded_values import recorded_values
from mi_course.submission import SubmissionError, parse, select_cells

SLOW_S = 5.0
LARGE_KB = 2**20
TOKENS = [
    *(b'"', b'\\"', b"[", b"]", b"{", b"}", b",", b":", b"\\", b"\n", b"\0", b"\xff", b"null", b"1e999", b"-", b"NaN"),
    *(b'"cells"', b'"source"', b'"outputs"', b'"data"', b'"~"', b'"tensor"', b'"tuple"', b'"dict"', b"\xed\xa0\x80"),
    *(b"def zero_head(", b"\xe2\x80\xae", b"=cmd", b"PK\x03\x04", b"PK\x05\x06", b"%%time\n", b"f'{", b"9" * 5000),
]
VALUES = [
    *(None, True, False, 0, -1, 2**63, -(2**63), 10**400, 0.5, 1e308, float("nan"), float("inf"), "", "x" * 3000),
    *("\ud800", "\udcff", "\0", "=1+1", "a;=1", [], {}, [[]], {"a": []}, ["x\n", 3, None], {"cell_type": "code"}),
    *("zero_head = 1", "import mi_sandbox", "5 of 5 exercises passed. Full marks.", "</script>", "\u202e"),
]


def mutate_bytes(draw: random.Random, raw: bytes) -> bytes:
    data = bytearray(raw)
    for _ in range(draw.choice((1, 1, 2, 5, 30))):
        at = draw.randrange(len(data) + 1)
        end = min(len(data), at + draw.choice((0, 1, 4, 100, 5000)))
        kind = draw.randrange(5)
        if kind == 0:
            data[at:end] = b""
        elif kind == 1:
            data[at:at] = draw.choice(TOKENS) * draw.choice((1, 1, 3, 2000))
        elif kind == 2:
            data[at:end] = data[at:end] * draw.choice((2, 50))
        elif kind == 3 and data:
            data[draw.randrange(len(data))] = draw.randrange(256)
        else:
            data[at:end] = draw.randbytes(end - at)
        del data[4 * 2**20 :]
    return bytes(data)


def mutate_tree(draw: random.Random, tree: Any, chance: float = 0.02) -> Any:
    if draw.random() < chance:
        return copy.deepcopy(draw.choice(VALUES))
    if isinstance(tree, list):
        found = [mutate_tree(draw, item, chance) for item in tree]
        if found and draw.random() < chance:
            found *= draw.choice((2, 20))
        return found
    if isinstance(tree, dict):
        return {
            (draw.choice(("", "id", "source", key)) if draw.random() < chance / 4 else key): mutate_tree(
                draw, item, chance
            )
            for key, item in tree.items()
        }
    return tree


class Fuzz:
    def __init__(self, seed: int, folder: Path) -> None:
        self.draw, self.folder, self.seed = random.Random(seed), folder, seed
        solved = [content.read_notebook(lessons.find(n), solution=True) for n in (0, 2)]
        self.trees = [notebook(), *solved]
        self.raws = [json.dumps(tree).encode() for tree in self.trees]
        self.plans = [exercise.plan(3) for n in (0, 2) for exercise in lessons.load(lessons.find(n).id).exercises]
        self.plans = [plan for plan in self.plans if plan.exercise.kind == "function"]
        self.room = 0
        """Elements that the tensors of a reply may still have."""

    def notebook(self) -> None:
        draw = self.draw
        if draw.random() < 0.5:
            raw = mutate_bytes(draw, draw.choice(self.raws))
        else:
            raw = json.dumps(mutate_tree(draw, draw.choice(self.trees), draw.choice((0.005, 0.05)))).encode()
        name = draw.choice(("00_start_here.ipynb", "homework.ipynb", "a.py", "02_induction_heads.ipynb"))
        try:
            tree = parse(raw, name)
            submission = select_cells(tree, name)
        except SubmissionError:
            return
        recorded_values(submission.records)
        reflections_in(tree, submission.info, name.endswith(".py"))
        list(reaches(submission.cells))
        answers_in("x", submission.exercises, [cell.source for cell in submission.cells])

    def zip(self) -> None:
        draw = self.draw
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", draw.choice((0, 8, 12, 14))) as archive:
            for _ in range(draw.randrange(1, 5)):
                stem = draw.choice(("a", ".", "./.", "x/../y", "/abs", "C:", "a\\b", "\u202e", "__MACOSX/a", ""))
                info = zipfile.ZipInfo(stem + draw.choice((".ipynb", ".py", ".zip", "", "/")))
                info.external_attr = draw.choice((0, 0o120777 << 16))
                archive.writestr(info, draw.choice((b"", b"{}", draw.choice(self.raws), bytes(10**6))))
        raw = file.getvalue()
        raw = mutate_bytes(draw, raw) if draw.random() < 0.8 else raw
        path = self.folder / "x.zip"
        path.write_bytes(raw)
        content_hash(load(Entry(path.name, path)))

    def reply(self) -> None:
        draw = self.draw
        plan = draw.choice(self.plans)
        self.room = 4 * 10**6
        observations = []
        for planned in plan.cases:
            values = [self.value(planned.ask.calls[0].args) for _ in planned.ask.calls]
            try:
                frame = wire.encode(
                    wire.Observation(planned.ask.id, tuple(wire.Reply("returned", value) for value in values))
                )
            except wire.WireError:
                continue
            if draw.random() < 0.5:
                frame = mutate_bytes(draw, frame)
            try:
                message = wire.decode(frame, wire.Limits(bytes=16 * 2**20))
            except wire.WireError:
                continue
            if isinstance(message, wire.Observation):
                message = replace(message, ask=planned.ask.id)
                observations.append(asking._sanitized(message, planned.ask.calls))
        verdict = _judge(plan, observations)
        if "could not be judged" in verdict.message:
            raise AssertionError(verdict.message)

    def value(self, args: Any, depth: int = 0) -> Any:
        draw = self.draw
        kind = draw.randrange(9)
        if kind == 0 and args:
            return wire_plain(draw.choice(args))
        if kind == 1:
            shape = [draw.choice((0, 1, 1, 2, 3, 7)) for _ in range(draw.choice((0, 1, 2, 3, 5, 16)))]
            while math.prod(shape) > min(10**6, self.room):  # a gigabyte here would be this script's own doing
                shape.pop()
            self.room -= math.prod(shape)
            dtype = draw.choice((torch.float32, torch.int64, torch.bool, torch.float16, torch.bfloat16, torch.uint8))
            return torch.ones(shape).to(dtype) * (
                float("nan") if draw.random() < 0.2 and dtype.is_floating_point else 1
            )
        if kind == 2 and depth < 4:
            return [self.value(args, depth + 1) for _ in range(draw.choice((0, 1, 2, 6, 60)) if self.room > 1 else 0)]
        if kind == 3 and depth < 4:
            return tuple(self.value(args, depth + 1) for _ in range(draw.choice((0, 1, 2, 3))))
        if kind == 4 and depth < 4:
            keys = draw.choices(("output", "gradients", "losses", "raised", "message", "returned", -1, -2, 2.5), k=3)
            return {key: self.value(args, depth + 1) for key in keys}
        plain = [value for value in VALUES if not isinstance(value, (list, dict)) and value not in (2**63, 10**400)]
        return draw.choice(plain)

    def row(self) -> None:
        draw = self.draw

        def text() -> str:
            parts = [str(draw.choice(VALUES))[:50] for _ in range(draw.randrange(4))]
            return "".join(parts + [chr(draw.randrange(0x3000)) for _ in range(5)])

        marks = [
            ExerciseMark(
                draw.choice((TOP, text(), "a.b")), 1, draw.choice(("passed", "wrong", text())), 1, 2, text(), text()
            )
            for _ in range(draw.randrange(3))
        ]
        reflection = {"lesson": "start_here", "question": text(), "answer": text()}
        row = Marks(
            printable_name(text()),
            draw.choice(("marked", "unreadable")),
            text(),
            1,
            2,
            tuple(marks),
            ("start_here",),
            (text(),),
            reasons=(text(),),
            reflections=(reflection,),
        )
        junit([row]), feedback.page(row), classroom.results(row), gradescope.results(row), file_names([row])
        shown = escape_csv_cell(row.reason)
        assert not any(part.lstrip()[:1] in "=+-@\uff1d" and part.strip() for part in shown.split(";")), shown


def wire_plain(value: Any) -> Any:
    return value.clone() if isinstance(value, torch.Tensor) else value if isinstance(value, (int, float)) else None


def main() -> None:
    seed, seconds = int(sys.argv[1]), float(sys.argv[2])
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    tried, findings = Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        fuzz = Fuzz(seed, Path(folder))
        for plan in fuzz.plans:  # boots the models, as the grader does before it judges
            observe(lambda *args: None, plan.asks[0])
        end = time.monotonic() + seconds
        number = 0
        while time.monotonic() < end:
            number += 1
            fuzz.draw.seed(f"{seed}/{number}")
            kind = fuzz.draw.choice(("notebook", "zip", "reply", "row"))
            tried[kind] += 1
            began, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            finding = ""
            try:
                getattr(fuzz, kind)()
            except Exception as error:
                last = traceback.extract_tb(error.__traceback__)[-1]
                finding = (
                    f"{kind}: {type(error).__name__} at {Path(last.filename).name}:{last.lineno}: {str(error)[:150]}"
                )
            took = time.process_time() - began
            if took > SLOW_S:
                finding = f"{kind}: {took:.1f} s"
            if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before > LARGE_KB:
                finding = f"{kind}: more than 1 GB"
            if finding:
                findings[finding] += 1
                if findings[finding] == 1:
                    print(f"seed {seed}, number {number}: {finding}", flush=True)
    print(f"seed {seed}: tried {dict(tried)}, findings {sum(findings.values())} of {len(findings)} kinds")


if __name__ == "__main__":
    main()
