"""Who may import whom: what keeps the truth out of the sandbox, and `import mi_course` quick."""

from __future__ import annotations

import ast
import subprocess
import sys
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


def test_the_contracts_hold():
    """Those of importlinter.ini."""
    pytest.importorskip("importlinter")
    command = (
        "from importlinter.cli import lint_imports; import sys; sys.exit(lint_imports(sys.argv[1], no_cache=True))"
    )
    result = subprocess.run(
        [sys.executable, "-c", command, str(HERE / "importlinter.ini")], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_no_module_imports_a_package_that_imports_it():
    """Circles between a package's `__init__` and the modules in it, which import-linter does not look for."""
    grimp = pytest.importorskip("grimp")
    graph = grimp.build_graph("mi_course", exclude_type_checking_imports=True, cache_dir=None)
    circles = []
    for package in graph.modules:
        for module in graph.find_descendants(package):
            if graph.direct_import_exists(importer=module, imported=package):
                circles.append((module, *(graph.find_shortest_chain(importer=package, imported=module) or ())))
    assert not [" -> ".join(circle) for circle in circles if len(circle) > 1]


@pytest.mark.timing
def test_the_core_imports_quietly():
    """No torch, no transformer_lens, under 0.3 s: the least of several runs, since others use the machine too."""
    code = (
        "import time; t = time.perf_counter(); import mi_course; s = time.perf_counter() - t; import sys;"
        "print(s, [m for m in ('torch', 'transformer_lens', 'numpy', 'transformers') if m in sys.modules])"
    )
    seconds = []
    for _ in range(5):
        output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        elapsed, _, loaded = output.strip().partition(" ")
        assert loaded == "[]"
        seconds.append(float(elapsed))
    assert min(seconds) < 0.3


def test_naming_models_imports_no_torch():
    """`mi_course.interp.models` can be imported, and list the models, without torch."""
    code = (
        "import sys; from mi_course.interp.models import load_model, native; native.native_names();"
        "print([m for m in ('torch', 'transformer_lens', 'numpy', 'transformers') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


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
for absent in "lessons judging exercises course content grading progress submission checking authoring testing".split():
    sys.modules[f"mi_course.{absent}"] = None
from mi_course import wire
from mi_course.asking import observe
for path in sorted(Path(sys.argv[1]).iterdir()):
    seen = wire.decode(wire.encode(observe(lambda *args: 0.0, wire.decode(path.read_bytes()))))
    assert seen.replies, path
print("answered", len(list(Path(sys.argv[1]).iterdir())))
"""
    result = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=180)
    assert result.stdout.strip() == f"answered {len(asks)}", result.stderr[-2000:]


# ---------------------------------------------------------------------------------------------------------------------
# Nothing that runs what it reads

MAY_EXEC = {
    "mi_course.course": "the solution's own code, for `lesson.use`",
    "mi_course.asking.cells": "a learner's own notebook on their own machine, or a submission inside the sandbox",
    "mi_course.testing.answers": "a lesson's own solution and its mutants, in tests",
}
MAY_EVAL = ("mi_course.asking.cells",)
"""Of these: only `eval` returns the coroutine of a cell with `await`."""


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_nothing_runs_what_it_reads(path: Path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if called in ("torch.load", "torch.jit.load"):
            assert options.get("weights_only") == "True", f"{path}:{node.lineno}"
        if called in ("np.load", "numpy.load"):
            assert options.get("allow_pickle", "False") == "False", f"{path}:{node.lineno}"
        if called in ("eval", "exec", "builtins.eval", "builtins.exec"):
            assert called == "exec" or module_of(path) in MAY_EVAL, f"{path}:{node.lineno} calls {called}"
            assert module_of(path) in MAY_EXEC, f"{path}:{node.lineno} calls {called}"
        assert called not in ("__import__", "os.system"), f"{path}:{node.lineno} calls {called}"
