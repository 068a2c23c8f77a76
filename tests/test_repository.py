"""The repository as a whole: generated files are fresh, code is tidy, and what is written down is true."""

from __future__ import annotations

import hashlib
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
    listed = run("git", "ls-files", "-z")
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def test_generated_files_are_fresh():
    done = run(sys.executable, "-m", "mi_course", "build", "--check")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("verb", [["check"], ["format", "--check"]], ids=["lint", "format"])
def test_ruff(verb):
    done = run(sys.executable, "-m", "ruff", *verb, ".")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readme_gives_both_commands_for_both_shells():
    readme = (ROOT / "README.md").read_text()
    for mark, ending in (("start", "mi-course lab"), ("test", "python -m pytest")):
        block = re.search(rf"<!-- {mark} -->\n```sh\n(.*?)\n```", readme, re.DOTALL)[1]
        assert "\n" not in block, "one line"
        assert block.endswith(ending)
        assert "-c constraints.txt" in block
    assert len(re.findall(r"```powershell", readme)) == 2


def test_ci_runs_the_readmes_test_command():
    script = (ROOT / ".ci" / "run").read_text()
    awk = re.search(r"command=\$\((awk .*?)\)\n", script)[1]
    taken = run("bash", "-c", awk).stdout.strip()
    assert taken == re.search(r"<!-- test -->\n```sh\n(.*?)\n```", (ROOT / "README.md").read_text(), re.DOTALL)[1]


def test_links_in_the_documents_lead_somewhere():
    for path in [path for path in tracked() if path.suffix == ".md"]:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text()):
            if not target.startswith(("http:", "https:")):
                assert (path.parent / target).exists(), f"{path.name} links to {target}"


def test_no_package_index_is_named():
    hosts = re.compile(r"(pypi|pythonhosted|download\.pytorch|registry\.npmjs|deb\.debian)\.(org|com)", re.IGNORECASE)
    for path in tracked():
        if path.suffix in {".py", ".md", ".txt", ".toml", ".json", ".ipynb", ".cfg", ".ini", ""} and path.is_file():
            found = hosts.search(path.read_text(errors="ignore"))
            assert not found or path == Path(__file__), f"{path.relative_to(ROOT)} names {found and found[0]}"


def test_the_version_is_written_once_and_the_same():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == __version__


def test_every_dependency_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = {
        re.split(r"==", line)[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    missing = [name for name in wanted if re.split(r"[<>=!~ ;\[]", name)[0].lower().replace("_", "-") not in pins]
    assert missing == ["pip>=23"]  # any pip can fetch the model; a pin would replace the one that is running
    assert "+cpu" not in (ROOT / "constraints.txt").read_text()


def test_small_data_stays_small_and_is_accounted_for():
    files = [path for path in tracked() if path.parent.name == "data" and path.suffix in {".safetensors", ".json"}]
    assert sum(path.stat().st_size for path in files) < 20_000_000
    listed = (ROOT / "data" / "README.md").read_text()
    for path in files:
        row = next((line for line in listed.splitlines() if line.startswith(f"| `{path.name}`")), "")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert digest in row, f"data/README.md does not give the SHA-256 of {path.name}, {digest}"
        assert f"| {path.stat().st_size:,} |" in row


def test_every_lesson_has_its_files():
    for info in lessons.OURS:
        for path in (
            f"solutions/{info.notebook}.py",
            f"solutions/{info.notebook}.ipynb",
            f"notebooks/{info.notebook}.ipynb",
        ):
            assert (ROOT / path).is_file()
