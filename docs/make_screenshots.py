"""Makes the README's picture: JupyterLab on lesson 02, a wrong answer's diagnosis, and the heat map of all heads.

    python docs/make_screenshots.py

Needs the test tools (the extra `test`), Chromium, and SmolLM2 in the cache. Takes about a minute.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent / "tests"))

import browser  # noqa: E402

from mi_course.workspace import Workspace  # noqa: E402

PICTURE = DOCS / "lesson-02.png"
MAX_BYTES = 250_000
WRONG = """def induction_score(pattern, period):
    stripe = pattern.diagonal(offset=-period, dim1=-2, dim2=-1)
    return stripe[..., -period:].mean(dim=-1)


lesson.check(induction_score)"""
CELLS = ["setup", "use-loss", "use-score-hook", "score-picture", "answer-induction_score"]

# A second view of the notebook, beside the first: what "New View for Notebook" does, dragged to the right.
SIDE_BY_SIDE = """async () => {
    const { shell, commands } = window.jupyterapp;
    await commands.execute("application:toggle-left-area");
    window.left = shell.currentWidget;
    await commands.execute("docmanager:clone");
    window.right = [...shell.widgets("main")].find((widget) => widget !== window.left);
    shell.add(window.right, "main", { mode: "split-right", ref: window.left.id });
    await new Promise((resolve) => setTimeout(resolve, 3000));
}"""
BRING_UP = """([side, id]) => {
    const notebook = window[side].content;
    notebook.activeCellIndex = notebook.widgets.findIndex((cell) => cell.model.id === id);
    const node = notebook.activeCell.node;
    node.scrollIntoView({ block: "start" });
    // In a second view plotly shows a still picture until the pointer comes.
    node.querySelectorAll(".plot-img").forEach((image) => image.dispatchEvent(new MouseEvent("mouseenter")));
}"""


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        Workspace(Path(scratch, "course")).update()
        home = {"MI_COURSE_HOME": str(Path(scratch, "home"))}
        with browser.jupyterlab(Path(scratch, "course"), "light", env=home, viewport=(1480, 960)) as lab:
            page = lab.page()
            browser.open_notebook(page, "02_induction_heads.ipynb")
            browser.set_source(page, "answer-induction_score", WRONG)
            for name in CELLS:
                browser.run_cell(page, name)
            page.evaluate(SIDE_BY_SIDE)
            for side, name in (("left", "answer-induction_score"), ("right", "score-picture")):
                page.evaluate(BRING_UP, [side, name])
            page.wait_for_timeout(1500)
            browser.screenshot(page, PICTURE)
    size = PICTURE.stat().st_size
    print(f"{PICTURE}: {size:,} bytes")
    if size > MAX_BYTES:
        raise SystemExit(f"{PICTURE.name} has {size:,} bytes, expected at most {MAX_BYTES:,}: make the window smaller.")


if __name__ == "__main__":
    main()
