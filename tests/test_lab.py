"""The learner's folder: what they wrote is never overwritten, whatever state it is in. And JupyterLab, started."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tiny_plugin import cell, code

from mi_course import content, lab, lessons, workspace
from mi_course.workspace import LabError, Workspace

NAME = "90_tiny.ipynb"
MINE = "def double(x):\n    return x + x  # mine\n\n\nlesson.check(double)"


@pytest.fixture
def space(plugin, tmp_path, monkeypatch) -> Workspace:
    """A folder with the notebooks of version 0.1.0 in it."""
    release(plugin, "0.1.0", monkeypatch)
    made = Workspace(tmp_path / "mine")
    assert ("new", NAME) in did(made.update())
    return made


def release(info, version: str, patch: pytest.MonkeyPatch, change=None) -> None:
    """The course as it is from now on: `change` edits its notebook."""
    path = content.notebook_path(info)
    notebook = json.loads(path.read_text())
    if change:
        change(notebook)
    notebook["metadata"]["mi_course"]["course_version"] = version
    path.write_text(json.dumps(notebook))
    releases = Path(info.folder, "releases")
    for stale in releases.glob("*.json"):
        if not re.fullmatch(r"0\.[123]\.0", stale.stem):
            stale.unlink()
    (releases / f"{version}.json").write_text(json.dumps({"90_tiny": content.cell_hashes(notebook)}))
    content._read_release.cache_clear()
    patch.setattr(workspace, "__version__", version)


@pytest.fixture
def newer(plugin, monkeypatch):
    """Makes the course's version 0.2.0: a demonstration is other, a cell is new, another is gone."""

    def change(notebook):
        cell(notebook, "surprise")["source"] = "offset = 3\nprint(offset)"
        notebook["cells"].insert(3, code("print('new')", id="new-picture"))
        notebook["cells"].remove(cell(notebook, "use-it"))
        cell(notebook, "answer-double")["metadata"]["mi_course"]["revision"] = 2

    return lambda: release(plugin, "0.2.0", monkeypatch, change)


def did(changes) -> list[tuple[str, str]]:
    return [
        (change.what, change.path.name)
        for change in changes
        if change.path.suffix == ".ipynb" and "tiny" in change.path.name
    ]


def load(space: Workspace, name: str = NAME) -> dict:
    return json.loads((space.folder / name).read_text())


def edit(space: Workspace, change, name: str = NAME) -> bytes:
    notebook = load(space, name)
    change(notebook)
    (space.folder / name).write_text(json.dumps(notebook))
    return (space.folder / name).read_bytes()


def answer(notebook: dict) -> None:
    cell(notebook, "answer-double")["source"] = MINE


def text(notebook: dict, id: str) -> str:
    return content.source(cell(notebook, id))


# -- Delivering -------------------------------------------------------------------------------------------------------


def test_a_new_folder_gets_everything_and_a_manifest(space, plugin):
    manifest = json.loads((space.folder / ".mi-course.json").read_text())
    assert manifest["course_version"] == "0.1.0"
    assert manifest["notebooks"]["90_tiny"] == content.cell_hashes(content.read_notebook(plugin))
    assert load(space) == content.read_notebook(plugin)


def test_the_same_version_again_changes_nothing(space):
    answered = edit(space, answer)
    assert did(space.update()) == []
    assert (space.folder / NAME).read_bytes() == answered
    assert not list(space.folder.glob("*.v0*.ipynb"))


def test_an_untouched_notebook_is_replaced_even_if_it_was_executed_and_saved(space, newer):
    def executed(notebook):
        cell(notebook, "surprise").update(outputs=[{"output_type": "stream", "name": "stdout", "text": "4"}])
        notebook["metadata"]["kernelspec"]["display_name"] = "Other"
        for one in notebook["cells"]:
            one["source"] = content.source(one).splitlines(keepends=True)

    edit(space, executed)
    newer()
    assert did(space.update()) == [("replaced", NAME)]
    assert text(load(space), "surprise") == "offset = 3\nprint(offset)"


CHANGED = {
    "an_answer": answer,
    "an_added_cell": lambda n: n["cells"].append(code("x = 1", id="mine")),
    "an_added_note": lambda n: n["cells"].append(
        {"cell_type": "markdown", "source": "note", "metadata": {}, "id": "n"}
    ),
    "a_deleted_cell": lambda n: n["cells"].remove(cell(n, "surprise")),
    "a_changed_demonstration": lambda n: cell(n, "surprise").update(source="offset = 99"),
    "a_copied_cell": lambda n: n["cells"].append(dict(cell(n, "surprise"))),
    "ids_that_were_lost": lambda n: [one.update(id=f"x{i}") for i, one in enumerate(n["cells"])],
}


@pytest.mark.parametrize("fault", CHANGED)
def test_a_changed_notebook_stays_and_the_new_one_is_put_beside(space, newer, fault):
    before = edit(space, CHANGED[fault])
    newer()
    assert did(space.update()) == [("beside", "90_tiny.v0.2.0.ipynb")]
    assert (space.folder / NAME).read_bytes() == before
    assert text(load(space, "90_tiny.v0.2.0.ipynb"), "new-picture") == "print('new')"
    written = edit(space, answer, "90_tiny.v0.2.0.ipynb")
    assert did(space.update()) == []
    assert (space.folder / "90_tiny.v0.2.0.ipynb").read_bytes() == written


@pytest.mark.parametrize("manifest", [None, "", "{", "[]", '{"course_version": 1, "notebooks": []}', "\x00"])
@pytest.mark.parametrize("changed", [False, True])
def test_a_manifest_that_is_lost_or_damaged(space, newer, manifest, changed):
    path = space.folder / ".mi-course.json"
    path.unlink() if manifest is None else path.write_text(manifest)
    before = edit(space, answer) if changed else b""
    newer()
    expected = ("beside", "90_tiny.v0.2.0.ipynb") if changed else ("replaced", NAME)
    assert did(space.update()) == [expected]
    assert not changed or (space.folder / NAME).read_bytes() == before


def test_a_notebook_of_a_version_that_nobody_knows_is_taken_for_changed(space, newer):
    (space.folder / ".mi-course.json").unlink()
    before = edit(space, lambda n: n["metadata"]["mi_course"].update(course_version="9.9"))
    newer()
    assert did(space.update()) == [("beside", "90_tiny.v0.2.0.ipynb")]
    assert (space.folder / NAME).read_bytes() == before


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff\xfe", b'{"cells": 3}', b"<<<<<<< HEAD\n{}"])
def test_a_notebook_that_cannot_be_read_is_left_alone(space, newer, raw):
    (space.folder / NAME).write_bytes(raw)
    newer()
    for upgrade in (False, True):
        changes = space.update(upgrade)
        assert ("left", NAME) in did(changes)
        assert (space.folder / NAME).read_bytes() == raw
    assert (space.folder / "90_tiny.v0.2.0.ipynb").is_file()


def test_a_deleted_notebook_comes_back(space):
    (space.folder / NAME).unlink()
    assert did(space.update()) == [("new", NAME)]


def test_other_files_of_the_learners_stay(space, newer):
    (space.folder / "thesis.ipynb").write_text("mine")
    (space.folder / "README.md").write_text("mine")
    newer()
    space.update(upgrade=True)
    assert (space.folder / "thesis.ipynb").read_text() == "mine"
    assert (space.folder / "README.md").read_text() == "mine"


# -- Carrying answers over --------------------------------------------------------------------------------------------


def test_upgrade_carries_answers_and_added_cells_over(space, newer):
    def work(notebook):
        answer(notebook)
        cell(notebook, "setup")["source"] = text(notebook, "setup") + "\nimport random"
        notebook["cells"].insert(3, code("helper = 1", id="mine"))
        notebook["cells"].insert(0, code("first = 1", id="not a valid id!"))
        cell(notebook, "surprise")["source"] = "offset = 99"

    before = edit(space, work)
    newer()
    assert did(space.update()) == [("beside", "90_tiny.v0.2.0.ipynb")]
    (change,) = [change for change in space.update(upgrade=True) if change.path.name == NAME]
    assert change.what == "carried"
    assert change.message.endswith("not carried over, because the course changed them too: surprise")
    made = load(space)
    assert text(made, "answer-double") == MINE
    assert cell(made, "answer-double")["metadata"]["mi_course"]["revision"] == 2
    assert text(made, "setup").endswith("import random")
    assert text(made, "surprise") == "offset = 3\nprint(offset)"
    order = [one["id"] for one in made["cells"]]
    assert order[order.index("surprise") + 1] == "mine"
    assert order[0] == "added"
    assert "use-it" not in order
    (kept,) = (space.folder / "backups").iterdir()
    assert kept.read_bytes() == before
    assert not (space.folder / "90_tiny.v0.2.0.ipynb").exists()
    assert did(space.update(upgrade=True)) == []
    import nbformat

    nbformat.validate(nbformat.read(space.folder / NAME, as_version=4))


def test_upgrade_finds_answers_whose_ids_were_lost(space, newer):
    def work(notebook):
        answer(notebook)
        for number, one in enumerate(notebook["cells"]):
            one["id"] = f"x{number}"
            one["metadata"] = {}

    edit(space, work)
    newer()
    space.update(upgrade=True)
    made = load(space)
    assert text(made, "answer-double") == MINE
    assert text(made, "answer-favorites").startswith("favorites = ...")
    assert len(made["cells"]) == len(content.read_notebook(lessons.find("tiny"))["cells"])


def test_upgrade_keeps_a_beside_notebook_in_which_the_learner_worked(space, newer):
    edit(space, answer)
    newer()
    space.update()
    written = edit(space, answer, "90_tiny.v0.2.0.ipynb")
    space.update(upgrade=True)
    assert (space.folder / "90_tiny.v0.2.0.ipynb").read_bytes() == written


# -- Reset ------------------------------------------------------------------------------------------------------------


def test_reset_of_a_notebook_keeps_the_present_one(space, plugin):
    before = edit(space, answer)
    space.reset(90)
    assert load(space) == content.read_notebook(plugin)
    (kept,) = (space.folder / "backups").iterdir()
    assert kept.read_bytes() == before


def test_reset_of_one_exercise_leaves_the_rest(space):
    def work(notebook):
        answer(notebook)
        cell(notebook, "answer-favorites")["source"] = "favorites = [6]"

    edit(space, work)
    space.reset("tiny", "double")
    assert "NotImplementedError" in text(load(space), "answer-double")
    assert text(load(space), "answer-favorites") == "favorites = [6]"
    space.reset("tiny", "tiny.favorites")
    assert text(load(space), "answer-favorites").startswith("favorites = ...")
    assert len(list((space.folder / "backups").iterdir())) == 2


def test_reset_without_a_cell_to_reset_says_what_to_do(space):
    edit(space, lambda n: n["cells"].remove(cell(n, "answer-double")))
    with pytest.raises(LabError, match="no cell that answers double any more"):
        space.reset(90, "double")
    with pytest.raises(LabError, match="has no exercise 'triple'; it has double, favorites"):
        space.reset(90, "triple")
    (space.folder / NAME).write_text("{")
    with pytest.raises(LabError, match="`mi-course reset 90` replaces it, and keeps a copy"):
        space.reset(90, "double")
    space.reset(90)
    assert [path.read_text() for path in (space.folder / "backups").iterdir()] == ["{"]


def test_many_resets_in_one_second_keep_every_copy(space):
    for number in range(5):
        edit(space, lambda n, number=number: cell(n, "surprise").update(source=f"offset = {number}"))
        space.reset(90)
    assert len(list((space.folder / "backups").iterdir())) == 5


# -- A machine that does not help -------------------------------------------------------------------------------------

LIMITED = """
import resource, signal, sys
from pathlib import Path
from mi_course import workspace
from mi_course.workspace import LabError, Workspace
workspace.__version__ = "0.2.0"
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
space = Workspace(Path(sys.argv[1]))
for work in (lambda: space.update(True), lambda: space.reset(90), lambda: space.reset(90, "double")):
    try:
        work()
    except LabError as error:
        assert "cannot be written" in str(error), error
    else:
        raise SystemExit("no error")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits on file size are Unix'")
def test_a_full_disk_loses_nothing(space, newer):
    """A limit on file size stops a write where a full disk would."""
    before = edit(space, answer)
    newer()
    files = sorted(space.folder.rglob("*.ipynb*"))
    done = subprocess.run([sys.executable, "-c", LIMITED, str(space.folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (space.folder / NAME).read_bytes() == before
    assert sorted(space.folder.rglob("*.ipynb*")) == files


def test_a_folder_that_is_a_file(plugin, tmp_path):
    (tmp_path / "mine").write_text("in the way")
    with pytest.raises(LabError, match="choose another folder with --dir"):
        Workspace(tmp_path / "mine").update()


def test_two_at_once_write_every_notebook_once(plugin, tmp_path):
    script = (
        "import sys; from pathlib import Path; from mi_course.workspace import Workspace;"
        "print(sum(c.what == 'new' and c.path.name == '90_tiny.ipynb' for c in Workspace(Path(sys.argv[1])).update()))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "mine")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert sorted(process.communicate(timeout=60)[0] for process in running) == ["0\n", "0\n", "0\n", "1\n"]
    assert json.loads((tmp_path / "mine" / ".mi-course.json").read_text())["notebooks"]["90_tiny"]


# -- JupyterLab -------------------------------------------------------------------------------------------------------


def test_the_command_names_page_and_folder_and_hides_the_token(tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "/users/own")
    words = lab.command(tmp_path, "/lab/tree/x.ipynb", browser=False)
    assert f"--ServerApp.root_dir={tmp_path}" in words
    assert "--no-browser" in words
    assert "secret" not in " ".join(words)
    there = lab.environment("secret")
    assert there["JUPYTER_TOKEN"] == "secret"
    first, second = there["JUPYTER_CONFIG_PATH"].split(os.pathsep)
    assert Path(first, "labconfig", "default_setting_overrides.json").is_file()
    assert second == "/users/own"


@pytest.fixture
def server(space, tmp_path, monkeypatch):
    """`mi-course lab --no-browser`, started; gives its address."""
    for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    command = [
        sys.executable,
        "-u",
        "-m",
        "mi_course",
        "lab",
        "--dir",
        str(space.folder),
        "--no-browser",
        "--lesson",
        "90",
    ]
    with open(tmp_path / "log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
    address = None
    began = time.monotonic()
    while address is None and time.monotonic() - began < 60 and process.poll() is None:
        time.sleep(0.2)
        found = re.search(r"^  (http://\S+)$", (tmp_path / "log").read_text(), re.MULTILINE)
        address = found[1] if found else None
    try:
        assert address, (tmp_path / "log").read_text()
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


@pytest.mark.slow
def test_jupyterlab_opens_on_the_lesson_and_asks_nobody_for_news(server, space):
    base, _, token = server.partition("/lab/tree/90_tiny.ipynb?token=")
    assert re.fullmatch(r"[0-9a-f]{48}", token)

    def get(path):
        asked = urllib.request.Request(f"{base}{path}", headers={"Authorization": f"token {token}"})
        with urllib.request.urlopen(asked, timeout=20) as reply:
            return json.loads(reply.read())

    notebook = get("/api/contents/90_tiny.ipynb?content=1")
    assert notebook["path"] == NAME
    assert all(one["metadata"].get("trusted") for one in notebook["content"]["cells"] if one["cell_type"] == "code")
    settings = get("/lab/api/settings/@jupyterlab/apputils-extension:notification")["schema"]["properties"]
    assert settings["fetchNews"]["default"] == "false"
    assert settings["checkForUpdates"]["default"] is False
    with urllib.request.urlopen(f"{base}/lab?token={token}", timeout=20) as page:
        assert '"news": {"disabled": true}' in page.read().decode()
    assert get("/lab/api/update") == {"notification": None}
    assert get("/api/kernelspecs")["default"] == "python3"
    # A second `lab` on the same folder shows the first one's address.
    again = subprocess.run(
        [sys.executable, "-m", "mi_course", "lab", "--dir", str(space.folder), "--no-browser"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert again.returncode == 0, again.stderr
    assert "is open on this folder already" in again.stdout
    assert base in again.stdout


@pytest.mark.parametrize("token", ["", "dead0000"])
def test_a_record_of_a_server_that_is_gone_is_not_believed(tmp_path, monkeypatch, token):
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        port = other.server_address[1]
        record = {"root_dir": str(tmp_path), "port": port, "token": token, "url": f"http://localhost:{port}/"}
        (tmp_path / "jpserver-999999.json").write_text(json.dumps(record))
        monkeypatch.setattr(lab, "jupyter_runtime_dir", lambda: str(tmp_path))
        assert lab.running_server(tmp_path) is None
        other.shutdown()
    assert lab.running_server(tmp_path) is None
