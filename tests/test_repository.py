"""The repository as a whole: generated files are fresh, code is tidy, and what is written down is true."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mi_course import __version__, lessons

ROOT = Path(__file__).parents[1]


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)


def tracked() -> list[Path]:
    result = run("git", "ls-files", "-z")
    if result.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in result.stdout.split("\0") if name]


def readme_command(mark: str) -> str:
    """The code block after the line <!-- mark -->."""
    return re.search(rf"<!-- {mark} -->\n```sh\n(.*?)\n```", (ROOT / "README.md").read_text(), re.DOTALL)[1]


def test_generated_files_are_fresh():
    result = run(sys.executable, "-m", "mi_course", "build", "--check")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("verb", [["check"], ["format", "--check"]], ids=["lint", "format"])
def test_ruff(verb):
    result = run(sys.executable, "-m", "ruff", *verb, ".")
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_readme_gives_both_commands_for_both_shells():
    for mark, ending in (("start", "mi-course lab"), ("test", "python tests/run.py")):
        command = readme_command(mark)
        assert "\n" not in command, "one line"
        assert command.endswith(ending)
        assert "-c constraints.txt" in command
    assert len(re.findall(r"```powershell", (ROOT / "README.md").read_text())) == 2


def test_ci_runs_the_readmes_test_command():
    script = (ROOT / ".ci" / "run").read_text()
    awk = re.search(r"command=\$\((awk .*?)\)\n", script)[1]
    assert run("bash", "-c", awk).stdout.strip() == readme_command("test")


SOME_TESTS = """
import os, sys, pytest

WORKER = os.environ.get("PYTEST_XDIST_WORKER")

def test_that_shares_the_machine(): assert WORKER

@pytest.mark.timing
def test_that_measures_seconds(): assert not WORKER

def test_that_is_skipped(): pytest.skip("no reason")

def test_for_which_a_key_vouches(record_property):
    record_property("verified", 20)
    pytest.skip("verified")

def test_for_which_another_vouches(record_property):
    record_property("verified", 3)
    pytest.skip("verified")
"""
FAILING_TESTS = """
def test_that_fails(): assert 0
def test_with_an_error(no_such_fixture): pass
def test_that_kills_its_worker(): os._exit(1)
"""


@pytest.mark.parametrize(
    ("more", "options", "status", "verified", "last"),
    [
        ("", ["-k", "measures"], 0, 0, "1 passed, 0 failed, 0 skipped"),
        ("", ["-k", "vouches"], 0, 23, "0 passed, 0 failed, 2 skipped"),
        (FAILING_TESTS, [], 1, 23, "2 passed, 3 failed, 3 skipped"),
        ("", ["--no-such-option"], 4, 0, "0 passed, 0 failed, 0 skipped"),
    ],
    ids=["passes", "keys", "fails", "usage"],
)
def test_the_test_script_sums_both_parts(
    tmp_path: Path, more: str, options: list[str], status: int, verified: int, last: str
):
    (tmp_path / "test_some.py").write_text(SOME_TESTS + more)
    command = [sys.executable, str(ROOT / "tests" / "run.py"), "-c", os.devnull]
    command += [f"-pno:{plugin}" for plugin in ("cacheprovider", "nbval", "jaxtyping", "hypothesispytest")]
    env = {name: value for name, value in os.environ.items() if "XDIST" not in name}
    result = subprocess.run([*command, str(tmp_path), *options], capture_output=True, text=True, timeout=300, env=env)
    summary = [f"{verified} tests were not run: nothing that they depend on has changed since they passed", last]
    assert result.stdout.splitlines()[-2:] == summary, result.stdout + result.stderr
    assert result.returncode == status


def test_links_in_the_documents_lead_somewhere():
    for path in [path for path in tracked() if path.suffix == ".md"]:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text()):
            if not target.startswith(("http:", "https:", "../../")):  # "../../": the repository's own pages on GitHub
                assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_the_version_is_written_once_and_the_same():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == __version__


def test_small_data_stays_small_and_is_accounted_for():
    files = [path for path in tracked() if path.parent.name == "data" and path.suffix in {".safetensors", ".json"}]
    assert sum(path.stat().st_size for path in files) < 20_000_000
    listed = (ROOT / "data" / "README.md").read_text()
    for path in files:
        row = next((line for line in listed.splitlines() if line.startswith(f"| `{path.name}`")), "")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert digest in row, f"data/README.md does not give the SHA-256 of {path.name}, {digest}"
        assert f"| {path.stat().st_size:,} |" in row


def test_the_saes_are_accounted_for():
    listed = (ROOT / "data" / "README.md").read_text()
    for path in [path for path in tracked() if path.match("data/saes/**/*.safetensors")]:
        name, digest = path.relative_to(ROOT / "data").as_posix(), hashlib.sha256(path.read_bytes()).hexdigest()
        row = f"| `{name}` | {path.stat().st_size:,} | `{digest}` |"
        assert row in listed, f"data/README.md lacks {row}"


def test_shipped_saes_and_the_wheel_stay_within_their_bounds():
    """In bytes; weights do not compress, so the wheel is counted as it lies on disk."""

    def size(*folders: str, name: str = "*") -> int:
        inside = [path for path in tracked() if path.relative_to(ROOT).as_posix().startswith(folders)]
        return sum(path.stat().st_size for path in inside if path.match(name))

    assert size("data/saes/", name="sae_weights.safetensors") < 64_000_000
    assert size("data/saes/", name="features.safetensors") < 12_000_000
    assert size("data/saes/", name="texts.safetensors") < 2_000_000
    assert 1_000_000 < size("data/", "notebooks/", "solutions/", "mi_course/") < 95_000_000


def test_every_lesson_has_its_files():
    for info in lessons.OURS:
        for path in (
            f"solutions/{info.notebook}.py",
            f"solutions/{info.notebook}.ipynb",
            f"notebooks/{info.notebook}.ipynb",
        ):
            assert (ROOT / path).is_file()
