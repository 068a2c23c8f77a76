"""The course as a learner meets it: `mi-course lab`, a browser, the real model, and no network.

Both notebooks run from top to bottom with nothing filled in. In lesson 02, first a wrong answer is checked, then the
right one.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import browser
import pytest
from require import require

pytestmark = [pytest.mark.browser, pytest.mark.real_model, pytest.mark.slow]

ANSWER = """def induction_score(pattern, period):
    stripe = pattern.diagonal(offset={offset}, dim1=-2, dim2=-1)
    return stripe[..., -period:].mean(dim=-1)


lesson.check(induction_score)"""
SAME_TOKEN = ANSWER.format(offset="-period")  # looks at the first occurrence itself: one position too early
RIGHT = ANSWER.format(offset="-(period - 1)")

# The size of a canvas, and how many colors are on it: one color means that nothing was drawn.
CANVAS = """(canvas) => {
    const { width, height } = canvas;
    const pixels = new Uint32Array(canvas.getContext("2d").getImageData(0, 0, width, height).data.buffer);
    const box = canvas.getBoundingClientRect();
    return { width: box.width, height: box.height, colors: new Set(pixels).size };
}"""


@contextmanager
def refusing_proxy() -> Iterator[tuple[int, list[str]]]:
    """A proxy that lets nothing through: its port, and the first line of every request."""
    requests: list[str] = []
    server = socket.create_server(("127.0.0.1", 0))

    def listen() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(2)
                try:
                    requests.append(connection.recv(500).decode(errors="replace").partition("\r\n")[0])
                except OSError:
                    requests.append("an empty connection")

    threading.Thread(target=listen, daemon=True).start()
    try:
        yield server.getsockname()[1], requests
    finally:
        server.close()


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Lab]:
    """`mi-course lab` in a fresh home, and a browser on the address that it prints."""
    require("chromium")
    from mi_course.interp.models import smollm2

    smollm2.fetch()  # what `mi-course models fetch` does; from here on there is no network
    learner = tmp_path_factory.mktemp("learner")
    folders = ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR", "LAB_SETTINGS_DIR", "LAB_WORKSPACES_DIR")
    home = {f"JUPYTER{'' if name.startswith('LAB') else '_'}{name}": str(learner / name.lower()) for name in folders}
    home |= {"MI_COURSE_HOME": str(learner / "home"), "IPYTHONDIR": str(learner / "ipython")}
    # Lets a test ask the page what JupyterLab is doing. The rest is as a learner has it.
    settings = learner / "config_dir" / "jupyter_lab_config.json"
    settings.parent.mkdir()
    settings.write_text(json.dumps({"LabApp": {"expose_app_in_browser": True}}))
    with refusing_proxy() as (port, requests):
        proxies = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), f"http://127.0.0.1:{port}")
        proxies |= {name.upper(): value for name, value in proxies.items()}
        proxies |= dict.fromkeys(("no_proxy", "NO_PROXY"), "127.0.0.1,localhost")
        with started(learner, os.environ | home | proxies) as address:
            url, _, token = address.partition("/lab/tree/00_start_here.ipynb?token=")
            with browser.browse(url, token) as lab:
                yield lab
                assert lab.outside == [], "the page asked for addresses beyond this machine"
                assert lab.errors == []
                assert [line for line in lab.console if not harmless(line)] == []
        assert requests == [], "the server or a kernel asked for addresses beyond this machine"


@contextmanager
def started(folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """Run `mi-course lab` in `folder`, and yield the address that it prints."""
    log = folder / "log"
    command = [sys.executable, "-u", "-m", "mi_course", "lab", "--no-browser", "--dir", str(folder / "course")]
    with log.open("w") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
    address = None
    try:
        deadline = time.monotonic() + 90
        while not (address := re.search(r"^  (http://\S+)$", log.read_text(), re.MULTILINE)):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, f"mi-course lab printed no address:\n{log.read_text()}"
            time.sleep(0.1)
        yield address[1]
    finally:
        if address:
            base, _, token = address[1].partition("/lab/tree/00_start_here.ipynb?token=")
            browser.stop(process, base, token)
        elif process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)


def harmless(line: str) -> bool:
    """Whether a console error of JupyterLab concerns nothing of ours."""
    return not re.search(r"mi[_-]course|mi-attention|anywidget|circuitsvis|plotly|widget", line, re.IGNORECASE)


def opened(course: browser.Lab, name: str) -> Any:
    page = course.page()
    browser.open_notebook(page, f"{name}.ipynb")
    # Keeps cells in the page that are scrolled out of view, so that a test can look at them.
    page.evaluate("""() => {
        const notebook = window.jupyterapp.shell.currentWidget.content;
        notebook.notebookConfig = { ...notebook.notebookConfig, windowingMode: "none" };
    }""")
    return page


def code_cells(page: Any) -> dict[str, dict[str, Any]]:
    """For each code cell, by id: its execution count, and the errors among its outputs."""
    return page.evaluate("""() => Object.fromEntries(
        window.jupyterapp.shell.currentWidget.content.widgets
            .filter((cell) => cell.model.type === "code")
            .map((cell) => [cell.model.id, {
                run: cell.model.executionCount,
                errors: cell.model.outputs.toJSON()
                    .filter((out) => out.output_type === "error").map((out) => out.evalue),
            }]))""")


def run_to_the_end(page: Any) -> None:
    """Run All with nothing filled in: no cell raises, and every answer is "not attempted"."""
    browser.run_all(page, timeout_s=600)
    cells = code_cells(page)
    assert {name: cell["errors"] for name, cell in cells.items() if cell["errors"]} == {}
    assert [name for name, cell in cells.items() if not cell["run"]] == []
    answers = [name for name in cells if name.startswith("answer-")]
    assert answers
    for name in answers:
        assert "Not attempted" in browser.cell_output_text(page, name), name


def assert_attention_is_drawn(page: Any, name: str, heads: int) -> None:
    """CircuitsVis' view has drawn on its canvases, and has replaced the static picture."""
    output = browser.cell_output(page, name)
    output.scroll_into_view_if_needed()
    canvases = output.locator(".mi-live canvas")
    canvases.first.wait_for(state="visible", timeout=120_000)
    drawn = [canvas.evaluate(CANVAS) for canvas in canvases.all()]
    assert len(drawn) == heads + 1, drawn  # a thumbnail for each head, and the selected one, large
    assert all(canvas["colors"] > 3 for canvas in drawn), drawn
    assert max(canvas["width"] for canvas in drawn) > 200, drawn
    assert not output.locator(".mi-static").is_visible()


def test_lesson_02_names_a_mistake_and_draws_attention(course: browser.Lab) -> None:
    page = opened(course, "02_induction_heads")
    answer = "answer-induction_score"
    stub = browser.source_of(page, answer)
    assert "NotImplementedError" in stub
    browser.run_cell(page, "setup")

    browser.set_source(page, answer, SAME_TOKEN)
    browser.run_cell(page, answer)
    card = browser.cell_output_text(page, answer)
    assert "Not yet" in card
    assert "duplicate-token score" in card  # the name of the mistake
    assert 'lesson.hint("induction_score")' in card
    assert browser.cell_output(page, answer).locator(".mi-card").bounding_box()["height"] > 60

    browser.set_source(page, answer, RIGHT)
    browser.run_cell(page, answer)
    card = browser.cell_output_text(page, answer)
    assert "Passed" in card
    assert "3 of 3" in card

    browser.set_source(page, answer, stub)
    run_to_the_end(page)
    assert "uses the solution's" in browser.cell_output_text(page, "use-loss")
    assert_attention_is_drawn(page, "attention-picture", heads=1)
    for name in ("loss-picture", "score-picture", "train"):
        assert browser.cell_output(page, name).locator(".main-svg").first.bounding_box()["height"] > 200, name
    status = browser.cell_output_text(page, "status")
    assert re.search(r"induction_score\s+✓ Passed\s+3 of 3", status), (
        status
    )  # checking a stub later does not take it back
    page.close()


def test_lesson_00_runs_to_its_end_with_nothing_filled_in(course: browser.Lab) -> None:
    page = opened(course, "00_start_here")
    run_to_the_end(page)
    assert "Paris" in browser.cell_output_text(page, "continue-a-text")
    assert_attention_is_drawn(page, "attention-picture", heads=3)
    assert "23.3" in browser.cell_output(page, "zero-head-picture").locator(".main-svg").first.text_content()
    page.close()
