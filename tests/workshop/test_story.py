"""The whole story once, in a real browser: a notebook in JupyterLab, and the board."""

from __future__ import annotations

import os
import time

import nbformat
import pytest
from browser import cell_output_text, jupyterlab, open_notebook, run_cell, save
from require import require
from workshop_kit import open_board

STORY = """
import mi_course
from mi_course import course
from mi_course.exercises import Exercise, LessonSpec, Mistake, Part, case

SPEC = LessonSpec("lab", 77, "Laboratory", 5, (Exercise(
    "lab.double", "Double it.",
    (Part("small", 1, lambda draw, size: [case(draw.number(1, 2)) for _ in range(3)]),),
    (Mistake("square", "That is the square.", lambda x: x * x),), ("first hint", "second hint"), "Twice.", 1, 1,
    oracle=lambda x: 2 * x,
),), "77_lab")
lesson = course.Lesson(SPEC)
"""


@pytest.mark.slow
@pytest.mark.browser
def test_the_whole_story(board, tmp_path):
    """A notebook joins and makes a known mistake; the board names it; the lead's message comes with the next card."""
    require("chromium")
    code = f"{board.room.code}@{board.url}"
    cells = {
        "setup": STORY,
        "join": f'mi_course.join("{code}", name="brave-fox")',
        "wrong": 'lesson.check(lambda x: x * x, name="double")',
        "again": 'lesson.check(lambda x: x * x, name="double")',
        "hint": 'lesson.hint("double")',
        "closed": 'lesson.solution("double")',
        "hand": "mi_course.raise_hand()",
        "status": "mi_course.workshop_status()",
    }
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source, id=id) for id, source in cells.items()]
    )
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    (tmp_path / "lab").mkdir()
    nbformat.write(notebook, tmp_path / "lab" / "story.ipynb")
    environment = {"MI_COURSE_HOME": str(tmp_path / "home"), "PYTEST_CURRENT_TEST": ""}  # nothing reports from pytest
    pictures = os.environ.get("MI_COURSE_PICTURES")
    with jupyterlab(tmp_path / "lab", env=environment) as lab:
        wall = lab.context.browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
        open_board(wall, board)
        page = lab.page()
        open_notebook(page, "story.ipynb")
        run_cell(page, "setup")
        run_cell(page, "join")
        assert "You have joined as brave-fox" in cell_output_text(page, "join")
        run_cell(page, "wrong")
        assert "That is the square." in cell_output_text(page, "wrong")
        wall.wait_for_selector("#mistakes >> text=square", timeout=15_000)
        assert "brave-fox" in wall.locator("#grid").inner_text()
        wall.fill("#f-message [name=text]", "Two <b>times</b>, not squared")
        wall.click("#f-message button")
        wall.select_option("#f-close [name=what]", "reveals:*")
        wall.click("#f-close button >> nth=0")
        wall.wait_for_selector("#closed li")
        deadline = time.monotonic() + 30
        while "Two <b>times</b>, not squared" not in cell_output_text(page, "again"):
            assert time.monotonic() < deadline, cell_output_text(page, "again")
            run_cell(page, "again")  # the message comes with the notebook's next question, within ten seconds
            time.sleep(1)
        assert "From the leads of A day" in cell_output_text(page, "again")
        if pictures:
            page.screenshot(path=f"{pictures}/story-notebook.png")
            wall.screenshot(path=f"{pictures}/story-board.png")
        run_cell(page, "closed")
        assert "Solutions open when your workshop's leads open them" in cell_output_text(page, "closed")
        run_cell(page, "hint")
        run_cell(page, "hand")
        wall.wait_for_selector("#hands >> text=brave-fox", timeout=15_000)
        run_cell(page, "status")
        assert '"mistake": "square"' in cell_output_text(page, "status")
        save(page)
        text = (tmp_path / "lab" / "story.ipynb").read_text()
        assert "not squared" not in text, "the message is not saved in the notebook"
        assert "A message from the workshop was shown here." in text
        page.reload()
        open_notebook(page, "story.ipynb", kernel=False)
        assert "model not found" not in cell_output_text(page, "again").lower()
