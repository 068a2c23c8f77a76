"""What the package says of itself: dependencies, links, versions, type errors."""

from __future__ import annotations

import ast
import json
import os
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
REPOSITORY = PYPROJECT["tool"]["hatch"]["metadata"]["hooks"]["custom"]["repository"]

EXTRAS = {
    "mi_course/authoring/": "author",
    "mi_course/testing/": "author",
    "mi_course/grading/cluster": "cluster",
    "mi_course/workshop/": "workshop",
}
"""What only an extra needs is imported below these paths, and nowhere else."""

USED_WITHOUT_IMPORT = {
    "circuitsvis": "mi_course/show/_attention.py",  # its bundled script is read from its folder
    "httptools": "mi_course/workshop/connection.py",  # through uvicorn's protocol
    "ipykernel": "mi_course/doctor.py",  # the kernel of every notebook
    "jupyterlab": "mi_course/lab.py",  # started as a process
    "nbval": "tests/test_solutions.py",  # pytest's plug-in that runs the solutions again
    "pip": "mi_course/interp/models/pip_download.py",  # fetches the model's weights
}


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in requirements}


def imported(path: Path) -> Iterator[str]:
    """Top-level packages that a file imports, except our own and those of the standard library."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules = [node.module]
        for module in modules:
            top = module.partition(".")[0]
            if top not in sys.stdlib_module_names and top != "mi_course":
                yield top


def test_what_is_imported_is_declared_and_what_is_declared_is_used():
    distributions = packages_distributions()
    used: dict[str, set[str]] = {"": set(), **{extra: set() for extra in EXTRAS.values()}}
    beside = {path.stem for path in (ROOT / "mi_course/grading/sandbox/inside").glob("*.py")} | {"mi_sandbox"}
    for path in (ROOT / "mi_course").rglob("*.py"):
        relative = path.relative_to(ROOT).as_posix()
        extra = next((name for prefix, name in EXTRAS.items() if relative.startswith(prefix)), "")
        for module in set(imported(path)) - beside:  # those run from a folder of their own
            candidates = {canonicalize_name(name) for name in distributions.get(module, [module])}
            for room in ("", extra):
                declared = names(PROJECT["optional-dependencies"][room] if room else PROJECT["dependencies"])
                if candidates & declared:
                    used[room] |= candidates & declared
                    break
            else:
                pytest.fail(f"{relative} imports {module}, which pyproject.toml does not declare")
    for name, file in USED_WITHOUT_IMPORT.items():
        assert name in (ROOT / file).read_text(encoding="utf-8"), f"{file} no longer uses {name}"
    rooms = {"": PROJECT["dependencies"]} | {
        extra: PROJECT["optional-dependencies"][extra] for extra in EXTRAS.values()
    }
    for room, declared in rooms.items():
        assert used[room] | (USED_WITHOUT_IMPORT.keys() & names(declared)) == names(declared)
    assert set().union(*map(names, rooms.values())) >= USED_WITHOUT_IMPORT.keys()


def test_the_tests_import_what_they_declare():
    declared = everything_declared()
    optional = {"dictionary_learning", "sae_lens", "nbgrader"}  # peers, each in an environment of its own
    distributions = packages_distributions()
    for path in (ROOT / "tests").rglob("*.py"):
        local = {file.stem for file in (*path.parent.rglob("*.py"), *(ROOT / "tests").rglob("*.py"))}
        local |= {folder.name for folder in (ROOT / "tests").rglob("*") if folder.is_dir()}
        for module in set(imported(path)) - local - optional:
            candidates = {canonicalize_name(name) for name in distributions.get(module, [module])}
            assert candidates & declared, f"{path.relative_to(ROOT)} imports {module}"


def everything_declared() -> set[str]:
    return names([*PROJECT["dependencies"], *chain(*PROJECT["optional-dependencies"].values())])


def constraints() -> list[Requirement]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def test_constraints_hold_on_every_platform_and_pip_accepts_them():
    pins: dict[str, list[Requirement]] = {}
    for pin in constraints():
        assert not pin.extras
        assert not pin.url
        assert [clause.operator for clause in pin.specifier] == ["=="]
        pins.setdefault(canonicalize_name(pin.name), []).append(pin)
    assert [str(pin) for pin in pins["torch"]] == ["torch==2.13.0"]  # no +cpu, no marker: any build will do
    wanted = everything_declared()
    assert wanted - pins.keys() == {"mi-course", "pip"}  # a pin would replace the pip that is running
    for version in ("3.11.0", "3.11.7", "3.12.1", "3.13.0", "3.14.0"):
        for system, machine in (("linux", "x86_64"), ("darwin", "arm64"), ("win32", "AMD64")):
            environment = {
                "python_version": version.rpartition(".")[0],
                "python_full_version": version,
                "sys_platform": system,
                "os_name": "nt" if system == "win32" else "posix",
                "platform_machine": machine,
            }
            for name, choices in pins.items():
                valid = [pin for pin in choices if pin.marker is None or pin.marker.evaluate(environment)]
                assert len(valid) <= 1, f"{name} on {system}, Python {version}"
                assert valid or name not in wanted, f"{name} on {system}, Python {version}"


def test_the_package_index_shows_whole_links():
    """The metadata as it is built: PyPI renders the README without the repository around it."""
    command = [sys.executable, "-m", "hatchling", "metadata"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    metadata = json.loads(done.stdout)
    readme = metadata["readme"]["text"]
    targets = re.findall(r"\]\(([^)\s]+)", readme) + re.findall(r"(?:href|src)=\"([^\"]+)", readme)
    assert len(targets) > 5
    assert [target for target in targets if not target.startswith(("https://", "#"))] == []
    tag = f"v{metadata['version']}"
    for target in targets + list(metadata["urls"].values()):
        match = re.fullmatch(rf"{re.escape(REPOSITORY)}/(?:blob|raw|tree)/{re.escape(tag)}/(\S+)", target)
        assert not match or (ROOT / match[1]).exists(), target
    assert set(metadata["urls"]) == {"Repository", "Documentation", "Issues", "Changelog"}


def test_one_place_names_the_repository():
    listed = subprocess.run(["git", "grep", "-l", "-F", REPOSITORY], capture_output=True, text=True, cwd=ROOT)
    if listed.returncode > 1:
        pytest.skip("not a git checkout")
    assert listed.stdout.split() == ["pyproject.toml"]


def test_the_version_is_written_the_same_everywhere():
    version = PROJECT["version"]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\n## {version}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_supported_pythons_are_the_same_everywhere():
    minors = [line.rpartition(".")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)]
    assert PROJECT["requires-python"] == f">=3.{minors[0]},<3.{int(minors[-1]) + 1}"
    quick = (ROOT / ".github" / "workflows" / "quick.yml").read_text(encoding="utf-8")
    assert all(f'"3.{minor}"' in quick for minor in minors)


def test_workflows_call_scripts_that_exist():
    for path in (ROOT / ".github").rglob("*.yml"):
        text = path.read_text(encoding="utf-8")
        assert yaml.safe_load(text), path.name
        if path.parent.name != "workflows":
            continue
        called = re.findall(r"(?:scripts|tests|\.ci)/[\w.-]+", text)
        assert called, path.name
        for script in called:
            assert (ROOT / script).exists(), f"{path.name} calls {script}"


def test_type_errors_do_not_grow():
    """Runs mypy once; its cache lies in the user's cache folder."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "check_types.py")], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_package_registry_is_named():
    registry = re.compile(
        r"(pypi|pythonhosted|download\.pytorch|registry\.npmjs|deb\.debian|conda\.anaconda)\.(org|com)", re.IGNORECASE
    )
    listed = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, cwd=ROOT)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.is_file() and path.suffix not in {".png", ".safetensors", ".pt", ".npz"} and path != Path(__file__):
            match = registry.search(path.read_text(encoding="utf-8", errors="ignore"))
            assert not match, f"{name} names {match and match[0]}"


def test_the_architecture_names_what_exists():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    for name in set(re.findall(r"`((?:course|exercises|asking|judging|progress|submission|grading)\.[\w.]+)`", prose)):
        if not name.endswith(".py"):
            pkgutil.resolve_name(f"mi_course.{name}")
    for path in re.findall(r"`((?:asking|grading|tests)/[\w./]+)`", prose):
        assert (ROOT / path).exists() or (ROOT / "mi_course" / path).exists(), path


def test_building_without_the_extra_says_what_to_install(tmp_path):
    (tmp_path / "jupytext.py").write_text("raise ModuleNotFoundError('jupytext')")
    command = [sys.executable, "-m", "mi_course", "build", "--check"]
    path = os.pathsep.join(map(str, (tmp_path, ROOT)))
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": path})
    assert done.returncode != 0
    assert 'pip install "mi-course[author]"' in " ".join(done.stderr.split())
