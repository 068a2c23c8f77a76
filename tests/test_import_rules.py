"""Who may import whom (design, section 1): what keeps the truth out of the sandbox, and `import mi_course` quick."""

from __future__ import annotations

import ast
import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mi_course
from mi_course import lessons

HERE = Path(__file__).parent
PACKAGE = Path(mi_course.__file__).parent
FILES = sorted(path for path in PACKAGE.rglob("*.py") if "_content" not in path.parts)


def module_of(path: Path) -> str:
    parts = ("mi_course", *path.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, ours: bool = True) -> Iterator[str]:
    """Modules that a file imports anywhere, inside functions too; not those under `if TYPE_CHECKING`."""
    todo: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            todo += node.orelse
            continue
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            todo += ast.iter_child_nodes(node)
            continue
        yield from (name for name in found if not ours or name.split(".")[0] == "mi_course")


def imported_by(*rooms: str) -> set[str]:
    """What the files of these rooms import, as names below `mi_course.`."""
    inside = tuple(f"mi_course.{room}" for room in rooms)
    paths = [p for p in FILES if module_of(p) in inside or module_of(p).startswith(tuple(f"{i}." for i in inside))]
    assert paths, rooms
    return {name.removeprefix("mi_course").lstrip(".") for path in paths for name in imports(path)}


def outside(names: set[str], *allowed: str) -> set[str]:
    return {name for name in names if not any(name == a or name.startswith(f"{a}.") for a in allowed)}


def test_the_contracts_hold():
    """Indirect imports too: what imports what imports what."""
    pytest.importorskip("importlinter")
    command = (
        "from importlinter.cli import lint_imports; import sys; sys.exit(lint_imports(sys.argv[1], no_cache=True))"
    )
    told = subprocess.run(
        [sys.executable, "-c", command, str(HERE / "importlinter.ini")], capture_output=True, text=True, timeout=120
    )
    assert told.returncode == 0, told.stdout + told.stderr


@pytest.mark.parametrize(
    ("room", "allowed"),
    [
        ("wire", ("wire",)),
        ("asking", ("wire", "asking", "interp.models", "interp.containers")),
        ("exercises", ("wire", "errors")),
        ("judging", ("wire", "exercises", "judging")),
        ("lessons", ("wire", "exercises", "interp", "lessons", "errors")),
        ("interp", ("interp", "show", "errors")),
        ("show", ("show",)),
        ("progress", ()),
    ],
)
def test_a_room_imports_no_more_than_it_may(room: str, allowed: tuple[str, ...]):
    assert not outside(imported_by(room), *allowed)


def test_no_lesson_imports_another():
    own = [info.module for info in lessons.OURS]
    for path in FILES:
        here = next((m for m in own if module_of(path) == m or module_of(path).startswith(f"{m}.")), None)
        if here:
            others = [i for i in imports(path) if i.startswith(tuple(m for m in own if m != here))]
            assert not others, f"{path} imports {others}"


TOPS = ("authoring", "grading", "workshop")


def test_what_stands_on_top_stands_apart():
    for one, other in itertools.permutations([top for top in TOPS if (PACKAGE / top).is_dir()], 2):
        assert not {i for i in imported_by(one) if i.split(".")[0] == other}, f"{one} imports {other}"


def test_only_the_command_line_imports_them_and_nothing_imports_it():
    for path in FILES:
        room = module_of(path).split(".")[1:2]
        for name in imports(path):
            target = name.split(".")[1:2]
            if room in (["cli"], ["__main__"], ["join"]) or target == room:
                continue
            assert target not in ([[top] for top in TOPS] + [["cli"]]), f"{path} imports {name}"


@pytest.mark.timing
def test_the_core_imports_quietly():
    """No torch, no transformer_lens, under 0.3 s: the least of several runs, since others use the machine too."""
    code = (
        "import time; t = time.perf_counter(); import mi_course; s = time.perf_counter() - t; import sys;"
        "print(s, [m for m in ('torch', 'transformer_lens', 'numpy', 'transformers') if m in sys.modules])"
    )
    seconds = []
    for _ in range(5):
        told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        took, _, loaded = told.strip().partition(" ")
        assert loaded == "[]"
        seconds.append(float(took))
    assert min(seconds) < 0.3


@pytest.mark.slow
def test_every_ask_is_answered_where_no_truth_is(tmp_path: Path):
    """In a sandbox only wire, asking, interp and show exist."""
    from mi_course import wire

    asks = []
    for info in lessons.OURS:
        for exercise in lessons.load(info.id).exercises:
            asks += [wire.encode(ask) for ask in exercise.plan(0, "small").asks]
    for i, frame in enumerate(asks):
        (tmp_path / f"{i:03d}").write_bytes(frame)
    code = """
import sys
from pathlib import Path
for absent in "lessons judging exercises course content grading progress submission checking authoring".split():
    sys.modules[f"mi_course.{absent}"] = None
from mi_course import wire
from mi_course.asking import observe
for path in sorted(Path(sys.argv[1]).iterdir()):
    seen = wire.decode(wire.encode(observe(lambda *args: 0.0, wire.decode(path.read_bytes()))))
    assert seen.replies, path
print("answered", len(list(Path(sys.argv[1]).iterdir())))
"""
    told = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=180)
    assert told.stdout.strip() == f"answered {len(asks)}", told.stderr[-2000:]


# ---------------------------------------------------------------------------------------------------------------------
# Nothing that runs what it reads

FORBIDDEN = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "runpy"}
MAY_EXEC = {
    "mi_course.course": "the solution's own code, for `lesson.use`",
    "mi_course.asking.cells": "a learner's own notebook on their own machine, or a submission inside the sandbox",
}


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_nothing_runs_what_it_reads(path: Path):
    assert not {name.split(".")[0] for name in imports(path, ours=False)} & FORBIDDEN
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if called in ("torch.load", "torch.jit.load"):
            assert options.get("weights_only") == "True", f"{path}:{node.lineno}"
        if called in ("np.load", "numpy.load"):
            assert options.get("allow_pickle", "False") == "False", f"{path}:{node.lineno}"
        if called.rpartition(".")[2] in ("eval", "exec") and called in (
            "eval",
            "exec",
            "builtins.eval",
            "builtins.exec",
        ):
            assert called == "exec", f"{path}:{node.lineno} calls {called}"
            assert module_of(path) in MAY_EXEC, f"{path}:{node.lineno} calls {called}"
        assert called not in ("__import__", "os.system"), f"{path}:{node.lineno} calls {called}"
