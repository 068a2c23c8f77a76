"""The doctor: quick, complete, and right about what it sees."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from mi_course import content, doctor
from mi_course.grading.sandbox import diagnosis


def by_name() -> dict[str, doctor.Finding]:
    return {finding.what: finding for finding in doctor.examine(diagnosis.sandbox)}


def test_everything_is_looked_at_without_torch():
    probe = (
        "import sys; from mi_course.doctor import examine; "
        "from mi_course.grading.sandbox.diagnosis import sandbox; examine(sandbox); print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert result.stdout == "False\n", result.stderr
    assert set(by_name()) == {
        "Python",
        "torch",
        "GPU",
        "TransformerLens",
        "versions",
        "SmolLM2",
        "model cache",
        "progress",
        "JupyterLab",
        "kernel",
        "browser",
        "sandbox",
    }


def test_doctor_and_export_import_nothing_that_windows_lacks():
    probe = (
        "import sys; sys.modules['resource'] = sys.modules['fcntl'] = sys.modules['pwd'] = None; "
        "import mi_course.grading.sandbox.diagnosis; "
        "from mi_course.grading.exports import classroom, gradescope, nbgrader"
    )
    result = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_whatever_is_not_ok_says_what_to_do():
    for finding in doctor.examine(diagnosis.sandbox):
        assert finding.state in ("ok", "warn", "missing")
        assert finding.seen
        assert finding.state == "ok" or finding.todo, finding
        assert "could not be examined" not in finding.seen


def test_the_version_of_torch_is_reported():
    import torch

    assert torch.__version__ in by_name()["torch"].seen
    assert ("CUDA" in by_name()["torch"].seen) == (torch.version.cuda is not None)


def test_drift_from_the_tested_versions(tmp_path, monkeypatch):
    file = tmp_path / "constraints.txt"
    monkeypatch.setattr(content, "constraints_file", lambda: file)
    here = doctor._installed("rich")
    file.write_text(f"# tested\nrich=={here}\nnot-installed==1.0\ntorch==0.1 ; sys_platform == 'none'\n-c other.txt\n")
    assert by_name()["versions"].state == "ok"
    file.write_text(f"rich=={here}\nnumpy==0.0.1  # old\n")
    found = by_name()["versions"]
    assert found.state == "warn"
    assert f"numpy {doctor._installed('numpy')} (tested 0.0.1)" in found.seen
    file.unlink()
    assert by_name()["versions"].state == "warn"


def test_a_local_version_is_no_drift(monkeypatch):
    monkeypatch.setattr(doctor, "version", lambda name: "2.13.0+cpu")
    assert doctor._installed("torch") == "2.13.0"


def test_progress_that_cannot_be_stored(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MI_COURSE_HOME", str(tmp_path / "file"))
    assert by_name()["progress"].state == "warn"
    monkeypatch.setenv("MI_COURSE_HOME", str(tmp_path / "home"))
    assert by_name()["progress"].state == "ok"


def test_an_empty_model_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MI_COURSE_CACHE", str(tmp_path / "cache"))
    found = by_name()
    assert "mi-course models fetch smollm2" in found["SmolLM2"].todo
    assert f"{tmp_path / 'cache'}: 0 MB used" in found["model cache"].seen
    monkeypatch.setattr(doctor, "MODEL_MB", 10**9)
    assert by_name()["model cache"].state == "missing"


@pytest.mark.parametrize(
    ("script", "seen"),
    [
        ("echo 'bwrap: No permissions to create new namespace' >&2; exit 1", "No permissions to create new namespace"),
        ("sleep 20", "does not run"),
        (None, "not installed"),
        # A container that hides parts of /proc: bubblewrap itself runs, and the walls within it do not stand.
        (
            'case "$*" in */bin/true) exit 0;; esac; echo "proc: Operation not permitted"; exit 1',
            "no namespaces can be made within: proc",
        ),
        ('case "$*" in */bin/true) exit 0;; esac; echo "unshare: No space left" >&2; exit 1', "within: unshare"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="bubblewrap is Linux'")
def test_a_sandbox_that_does_not_run(monkeypatch, script, seen):
    with tempfile.TemporaryDirectory() as folder:  # as root, the user nobody must be able to read it
        _a_sandbox_that_does_not_run(Path(folder), monkeypatch, script, seen)


def _a_sandbox_that_does_not_run(folder, monkeypatch, script, seen):
    folder.chmod(0o755)
    if script is not None:
        (folder / "bwrap").write_text(f"#!/bin/sh\n{script}\n")
        (folder / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder) if script is None else f"{folder}{os.pathsep}{os.environ['PATH']}")
    if script == "sleep 20":
        monkeypatch.setattr(diagnosis, "PROBE_S", 0.5)
    problem = diagnosis.sandbox_problem()
    assert problem is not None
    assert seen in problem[0]
    assert problem[1]


@pytest.mark.skipif(platform.machine() != "x86_64" or not shutil.which("setarch"), reason="needs setarch on x86-64")
def test_a_missing_seccomp_filter_is_reported():
    if diagnosis.sandbox_problem() is not None:
        pytest.skip("there is no sandbox here")
    # The same machine under the name of an architecture whose system calls are not known.
    command = ["setarch", "i686", sys.executable, "-m", "mi_course", "doctor", "--json"]
    findings = json.loads(subprocess.run(command, capture_output=True, text=True).stdout)
    finding = next(finding for finding in findings if finding["what"] == "sandbox")
    assert finding["state"] == "warn"
    assert "no seccomp filter for i686" in finding["seen"]
    assert finding["todo"]
    assert "system calls are filtered" in by_name()["sandbox"].seen


def test_a_look_that_fails_does_not_hide_the_others(monkeypatch):
    monkeypatch.setattr(doctor, "version", lambda name: 1 / 0)
    found = doctor.examine()
    assert any("could not be examined: ZeroDivisionError" in finding.seen for finding in found)
    assert any(finding.what == "Python" and "could not" not in finding.seen for finding in found)


def test_offline_says_at_once_that_the_model_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("MI_COURSE_CACHE", str(tmp_path / "empty"))
    monkeypatch.setattr(doctor.subprocess, "run", lambda *args, **options: pytest.fail("nothing needs to be started"))
    found = doctor.offline()
    assert (found.state, found.seen) == ("missing", "SmolLM2 is not fetched yet")
    assert "models fetch smollm2" in found.todo


@pytest.mark.slow
@pytest.mark.real_model
def test_offline_proves_that_a_laptop_is_ready(monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    found = doctor.offline()
    assert (found.state, found.seen.partition(",")[0]) == ("ok", "a kernel started"), found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        ("urllib.request.urlopen('http://192.0.2.1', timeout=5)", "the network is off for this test"),
        ("urllib.request.urlopen('http://mi-course.invalid', timeout=5)", "the network is off for this test"),
        ("assert subprocess.call([sys.executable, '-m', 'pip', 'download', '-q', 'wheel'])", ""),
        ("raise SystemExit('line one\\nline two')", "SystemExit: line one"),
    ],
)
def test_the_network_is_off_in_the_kernel(monkeypatch, fault, seen):
    program = doctor.OFFLINE.partition("import mi_course\n")[0] + f"import subprocess, sys, urllib.request\n{fault}\n"
    monkeypatch.setattr(doctor, "IN_A_KERNEL", doctor.IN_A_KERNEL.replace(repr(doctor.OFFLINE), repr(program)))
    monkeypatch.setattr(doctor, "_model", lambda: doctor.Finding("SmolLM2", "ok", ""))
    found = doctor.offline()
    assert found.state == ("missing" if seen else "ok"), found
    assert seen in found.seen


def test_table_and_json():
    command = [sys.executable, "-m", "mi_course", "doctor"]
    findings = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True).stdout)
    assert {"what", "state", "seen", "todo"} == set(findings[0])
    plain = subprocess.run(command, capture_output=True, text=True)
    assert "TransformerLens" in plain.stdout
    assert plain.returncode == int(any(finding["state"] == "missing" for finding in findings))
