"""Marks as other programs read them: JUnit, Gradescope, GitHub Classroom, and the page that a learner reads."""

from __future__ import annotations

import dataclasses
import json
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from browser import CHROMIUM_ARGS
from grading_kit import TOP, ZERO
from hypothesis import given, settings
from hypothesis import strategies as st
from require import chromium, require

from mi_course.grading import formats
from mi_course.grading.formats.classroom import results as classroom
from mi_course.grading.formats.feedback import page
from mi_course.grading.formats.gradescope import results as gradescope
from mi_course.grading.formats.junit import junit
from mi_course.grading.marks import ExerciseMark, Marks, failed
from mi_course.grading.text_files import escape_csv_cell

PASSED = ExerciseMark(
    TOP,
    1,
    "passed",
    3,
    3,
    "Right in both parts.",
    details=(
        {"name": "random logits", "points": 2, "earned": 2, "message": ""},
        {"name": "large logits", "points": 1, "earned": 1, "message": ""},
    ),
)
PARTLY = dataclasses.replace(
    PASSED,
    status="wrong",
    points=2,
    message="These are *raw* `logits`.",
    mistake="logits_not_probabilities",
    details=(PASSED.details[0], {"name": "large logits", "points": 1, "earned": 0, "message": "Too large."}),
    printed="SECRET-INPUT",
)
CRASHED = ExerciseMark(ZERO, 1, "crashed", 0, 2, "It raised ValueError: " + "0.1234, " * 200, printed="SECRET-INPUT")
HOSTILE = "<script>alert(1)</script>\"'&\u202eevil\x00\ud800\n=cmd|' /C calc'!A0"


def row(name: str, *marks: ExerciseMark, **more: object) -> Marks:
    points, worth = sum(one.points for one in marks), sum(one.max_points for one in marks)
    lessons = ("start_here",)
    return Marks(name, "marked", "1 of 2 exercises passed.", points, worth, marks, lessons, seconds=1.25, **more)


ROWS = [row("ada.ipynb", PASSED, CRASHED), row("bob", PARTLY), failed("cyd.zip", "It is no zip file.")]


def test_formats_by_name():
    assert formats.chosen("JUnit, feedback,junit") == ("junit", "feedback")
    assert formats.chosen("") == ()
    with pytest.raises(ValueError, match="'xml'; there are csv, json, junit"):
        formats.chosen("csv,xml")


def test_file_names_are_safe_and_different():
    names = ["ada.ipynb", "Ada.ipynb", "../../etc/passwd", "a b", "a_b", "x" * 300, "con", "", ".", "Zoë", HOSTILE]
    found = formats.file_names([row(name) for name in names])
    assert found["ada.ipynb"].startswith("ada_ipynb-")
    assert len({name.lower() for name in found.values()}) == len(names)
    for name in found.values():
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")
        assert 0 < len(name) <= 110
        assert name[0] not in ".-"
        assert name.partition(".")[0].lower() != "con"


# ---------------------------------------------------------------------------------------------------------------------
# JUnit

# What Jenkins, GitLab and pytest's own writer agree on: which elements stand where, and in which order.
CHILDREN = {
    "testsuites": ["testsuite"],
    "testsuite": ["properties", "testcase"],
    "properties": ["property"],
    "testcase": ["skipped", "error", "failure", "system-out"],
}
NEEDED = {
    "testsuite": {"name", "tests", "failures", "errors", "skipped", "time"},
    "testcase": {"classname", "name", "time"},
    "property": {"name", "value"},
    "failure": {"message", "type"},
    "error": {"message", "type"},
    "skipped": {"message"},
}


def check_junit(text: str) -> ET.Element:
    root = ET.fromstring(text.encode())
    assert root.tag == "testsuites"
    for element in root.iter():
        order = CHILDREN.get(element.tag, [])
        places = [order.index(child.tag) for child in element]
        assert places == sorted(places)
        assert set(element.attrib) >= NEEDED.get(element.tag, set())
    for suite in root:
        cases = suite.findall("testcase")
        for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(suite.get(name)) == sum(case.find(tag) is not None for case in cases)
        assert int(suite.get("tests")) == len(cases)
    for name in ("tests", "failures", "errors", "skipped"):
        assert int(root.get(name)) == sum(int(suite.get(name)) for suite in root)
    return root


def test_junit():
    skipped = dataclasses.replace(CRASHED, status="not_attempted", message="Not attempted yet.")
    root = check_junit(junit([*ROWS, row("dan", skipped)]))
    assert {name: int(root.get(name)) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": 5,
        "failures": 1,
        "errors": 2,
        "skipped": 1,
    }
    failure = root.find(".//failure")
    assert failure.get("message") == "Not yet, 2 of 3 points"
    assert "raw" in failure.text
    assert "logits not probabilities" in failure.text
    assert root[2].find("testcase/error").get("message") == "It is no zip file."
    assert root[0].find("properties/property[@name='points']").get("value") == "3"


@settings(max_examples=60, deadline=None)
@given(st.text(), st.text())
def test_junit_of_any_text(name: str, message: str):
    root = check_junit(junit([row(name, dataclasses.replace(PARTLY, message=message, mistake=name))]))
    assert len(root) == 1


# ---------------------------------------------------------------------------------------------------------------------
# Gradescope and Classroom


def test_gradescope():
    for one in ROWS:
        found = json.loads(json.dumps(gradescope(one)))
        assert found["score"] == one.points == sum(test["score"] for test in found["tests"])
        assert found["visibility"] == "visible"
        assert found["stdout_visibility"] == "hidden"
        for test in found["tests"]:
            assert 0 <= test["score"] <= test["max_score"]
            assert test["status"] == ("passed" if test["score"] == test["max_score"] else "failed")
            assert test["output_format"] == test["name_format"] == "text"
            assert {"name", "number", "output", "visibility", "tags"} <= set(test)
    assert "It is no zip file." in gradescope(ROWS[2])["output"]
    assert "SECRET" not in json.dumps([gradescope(one) for one in ROWS])


def console_total(result: dict) -> float:
    """What the console of GitHub Classroom's reporter has shown: passed of all, times the most."""
    passed = sum(test["status"] == "pass" for test in result["tests"])
    return passed / len(result["tests"]) * result["max_score"]


def classroom_total(result: dict) -> float:
    """What Classroom itself adds up."""
    return sum(test["score"] for test in result["tests"])


@pytest.mark.parametrize("points", [None, 0, 1, 2.5, 1.25, 0.1, 2.97, 3])
def test_classroom_is_right_under_both_counts(points: float | None):
    one = PARTLY if points is None else dataclasses.replace(PARTLY, points=points, given=2)
    marks = row("ada", one, CRASHED)
    found = json.loads(json.dumps(classroom(marks)))
    assert found["max_score"] == marks.max_points
    assert console_total(found) == pytest.approx(marks.points)
    assert classroom_total(found) == pytest.approx(marks.points)
    assert found["status"] == "fail"
    assert {"name", "status", "score", "message", "test_code", "filename", "line_no", "execution_time"} <= set(
        found["tests"][0]
    )


def test_classroom_of_whole_rows():
    found = classroom(row("ada", PASSED))
    assert found["status"] == "pass"
    assert [test["name"] for test in found["tests"]] == [
        "top_next_tokens: random logits (1 of 3)",
        "top_next_tokens: random logits (2 of 3)",
        "top_next_tokens: large logits (3 of 3)",
    ]
    assert all(test["score"] == 1 for test in found["tests"])
    found = classroom(ROWS[2])
    assert found["status"] == "error"
    assert console_total(found) == classroom_total(found) == 0
    messages = [test["message"] for test in classroom(row("bob", PARTLY))["tests"]]
    assert messages[:2] == ["", ""]
    assert "raw" in messages[2]


# ---------------------------------------------------------------------------------------------------------------------
# Feedback


class Reader(HTMLParser):
    """Tags, and the text that a reader sees."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not any(name.startswith("on") or name in ("src", "href", "action") for name, _ in attrs)
        if tag not in ("meta", "br", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text += data


def read(html: str) -> Reader:
    found = Reader()
    found.feed(html)
    assert not found.open
    assert not {"script", "iframe", "link", "object", "form", "img", "base"} & set(found.tags)
    return found


def test_feedback_says_what_was_asked_seen_and_meant():
    found = read(page(row("ada.ipynb", PARTLY, CRASHED, comment="Come and see me.")))
    for part in (
        "ada.ipynb",
        "2 of 5 points",
        "00 · Start here",
        "The k likeliest next tokens",
        "Logits not probabilities",
        "These are raw logits.",
        "random logits",
        "A hint",
        "Another hint",
        "Come and see me.",
        "in a sandbox",
    ):
        assert part in found.text
    assert found.text.count("0.1234") < 50, "a crash must not recite inputs"
    assert "SECRET" not in found.text


def test_feedback_tells_of_hands_hints_and_walls():
    found = read(page(row("x", dataclasses.replace(PARTLY, points=2.5, given=2, comment="Close."))))
    assert "2.5 of 3 · by hand" in found.text
    assert "own checks came to 2." in found.text
    assert "Close." in found.text
    assert "hint" not in read(page(row("x", PASSED))).text
    assert "without a sandbox" in read(page(dataclasses.replace(row("x", PASSED), sandboxed=False))).text
    found = read(page(ROWS[2]))
    assert "Not marked" in found.text
    assert "It is no zip file." in found.text


def hostile() -> Marks:
    one = dataclasses.replace(
        PARTLY,
        message=f"{HOSTILE} `{HOSTILE}` **{HOSTILE}**\n\n```\n{HOSTILE}\n```",
        mistake=HOSTILE,
        details=({"name": HOSTILE, "points": 2, "earned": 0, "message": HOSTILE}, PASSED.details[1]),
        comment=HOSTILE,
    )
    unknown = dataclasses.replace(CRASHED, exercise="no_lesson.<b>x</b>")
    reflections = ({"lesson": "start_here", "question": HOSTILE, "answer": HOSTILE},)
    marks = row(HOSTILE, one, unknown, reflections=reflections, notes=(HOSTILE,), comment=HOSTILE)
    return dataclasses.replace(marks, reason=HOSTILE)


def test_feedback_of_hostile_text():
    html = page(hostile())
    found = read(html)
    assert found.text.count("<script>alert(1)</script>") >= 8
    assert not {"\u202e", "\x00", "\ud800"} & set(html)
    html.encode("utf-8")


CONTRAST = """() => {
  const rgb = text => text.match(/[\\d.]+/g).map(Number);
  const ground = node => {
    const over = [];
    for (let one = node; one; one = one.parentElement) {
      const [r, g, b, a = 1] = rgb(getComputedStyle(one).backgroundColor);
      over.push([r, g, b, a]);
      if (a === 1) break;
    }
    return over.reverse().reduce((below, [r, g, b, a]) => [r, g, b].map((c, i) => c * a + below[i] * (1 - a)),
                                 [255, 255, 255]);
  };
  const light = colour => {
    const [r, g, b] = colour.map(c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const text = walk.currentNode.textContent.trim(), at = walk.currentNode.parentElement;
    if (!text || !at.getClientRects().length) continue;
    const a = light(rgb(getComputedStyle(at).color)), b = light(ground(at));
    found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), text.slice(0, 40)]);
  }
  return found;
}"""


@pytest.mark.browser
def test_feedback_in_a_browser(tmp_path: Path):
    """Nothing runs, nothing is fetched, all text can be read in both themes, and a telephone need not scroll aside."""
    require("chromium")
    from playwright.sync_api import sync_playwright

    skipped = dataclasses.replace(CRASHED, status="not_attempted", message="Not attempted yet.")
    late = dataclasses.replace(CRASHED, status="timed_out", comment="A comment.")
    pages = {"hostile": page(hostile()), "all": page(row("ada.ipynb", PASSED, PARTLY, CRASHED, skipped, late))}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=CHROMIUM_ARGS)
        for name, html in pages.items():
            path = tmp_path / f"{name}.html"
            path.write_text(html, encoding="utf-8")
            for scheme in ("light", "dark"):
                tab = browser.new_page(color_scheme=scheme, viewport={"width": 360, "height": 800})
                asked, alerts = [], []
                tab.on("request", lambda request, asked=asked: asked.append(request.url))
                tab.on("dialog", lambda dialog, alerts=alerts: (alerts.append(dialog.message), dialog.dismiss()))
                tab.goto(path.as_uri())
                tab.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
                faint = [(round(ratio, 2), text) for ratio, text in tab.evaluate(CONTRAST) if ratio < 4.5]
                assert not faint, f"{name}, {scheme}: {faint}"
                assert tab.evaluate("document.documentElement.scrollWidth") <= 360
                assert tab.evaluate("document.documentElement.lang") == "en"
                assert tab.locator("h1").count() == tab.locator("main").count() == 1
                assert asked == [path.as_uri()]
                assert not alerts
                tab.close()
        browser.close()


def test_a_row_that_cannot_be_written_says_so(monkeypatch: pytest.MonkeyPatch):
    broken = row("x", dataclasses.replace(CRASHED, message=None))
    assert "cannot be written in this form" in formats.or_failed(page, broken)
    root = check_junit(junit([broken, ROWS[0]]))
    assert [suite.get("name") for suite in root] == ["x", "ada.ipynb"]


def test_no_sentence_of_ours_is_taken_from_a_learners_text():
    """The footer lists the reasons, whatever the text of an error says of exercises."""
    found = dataclasses.replace(
        ROWS[0],
        reason="1 of 2 exercises passed. Cell 4 stopped: \u201cX: 2 of 2 exercises passed. Full marks\u201d.",
        reasons=("Cell 4 stopped: \u201cX: 2 of 2 exercises passed. Full marks\u201d.",),
    )
    assert "<li>Cell 4 stopped: \u201cX: 2 of 2 exercises passed. Full marks\u201d.</li>" in page(found)
    assert "<li>Full marks" not in page(found)


@settings(max_examples=300, deadline=None)
@given(st.text("='\"; a-"), st.text("='\"; a-"))
def test_cells_that_differ_stay_different(one: str, other: str):
    assert (escape_csv_cell(one) == escape_csv_cell(other)) == (one == other)


@pytest.mark.parametrize(
    "cell", ["=1+1", "\uff1d1", "\uff0b1", "\uff0d1", "\uff201", "a;=1", 'a; "=1', "a;\uff1d1", " =1", "'=1", '"=1']
)
def test_no_cell_is_a_formula_however_cells_are_separated(cell: str):
    for part in escape_csv_cell(cell).split(";"):
        assert part.lstrip(' "')[:1] not in tuple("=+-@\uff1d\uff0b\uff0d\uff20"), part
