"""The pages in Chromium: what they show, and whether all can use them."""

from __future__ import annotations

import time
from importlib.resources import files

import pytest
import workshop_kit as kit
from browser import browse
from require import require
from workshop_kit import eventually, hint, open_board, verdict

pytestmark = pytest.mark.browser

SIZES = {"phone": (390, 844), "laptop": (1440, 900), "projector": (1920, 1080)}


@pytest.fixture(scope="module")
def chromium():
    require("chromium")
    with browse("http://127.0.0.1", "") as lab:
        yield lab.context.browser


@pytest.fixture
def page(chromium):
    """A page whose errors fail the test, those of the Content-Security-Policy included."""
    context = chromium.new_context(viewport={"width": 1440, "height": 900})
    made, errors = context.new_page(), []
    made.on("pageerror", lambda error: errors.append(str(error)))
    made.on("console", lambda message: errors.append(message.text) if "Content Security" in message.text else None)
    yield made
    context.close()
    assert errors == []


def fill(board) -> dict:
    people = {
        name: board.learner(name, table) for name, table in (("brave-fox", "1"), ("calm-hen", "2"), ("wise-owl", ""))
    }
    for person in board.room.present():
        person.progress_at -= 600
    people["brave-fox"].send(verdict(), hint("lab.double", 1))
    people["calm-hen"].send(verdict(), verdict("lab.shift", "crashed"))
    people["wise-owl"].send(verdict(status="passed"))
    people["calm-hen"].send(
        {"key": kit.key_of("u"), "kind": "hand", "at": kit.now(), "up": True, "exercise": "lab.shift"}
    )
    return people


def test_the_board_shows_the_room_and_changes_by_itself(board, page):
    people = fill(board)
    open_board(page, board)
    page.wait_for_selector("#grid td.s-wrong")
    assert page.locator("#grid tbody tr").count() == 3
    assert "brave-fox" in page.locator("#stuck li").first.inner_text()
    assert "That is the square, not the double." in page.locator("#mistakes").inner_text()
    assert "calm-hen" in page.locator("#hands").inner_text()
    page.click("#hands >> text=I go")
    page.wait_for_selector("#hands >> text=Ana is going")
    page.select_option("#table-filter", "1")
    eventually(lambda: page.locator("#grid tbody tr").count() == 1)
    page.select_option("#table-filter", "")
    people["brave-fox"].send(verdict(status="passed", attempt=2))
    eventually(lambda: page.locator("#grid td.s-passed").count() == 2)
    page.fill("#f-message [name=text]", "Look here <b>now</b>")
    page.click("#f-message button")
    page.wait_for_selector("#messages >> text=Look here <b>now</b>")
    assert people["brave-fox"]("api/me").json["messages"][0]["text"] == "Look here <b>now</b>"
    page.fill("#f-timer [name=minutes]", "5")
    page.click("#f-timer button >> nth=0")
    page.wait_for_selector("#timer:not([hidden])")
    page.select_option("#f-close [name=what]", "reveals:lab")
    page.fill("#f-close [name=until]", "15:30")
    page.click("#f-close button >> nth=0")
    page.wait_for_selector("#closed >> text=until 15:30")
    page.click("#grid .who >> text=wise-owl")
    page.fill("#f-rename [name=name]", "wiser-owl")
    page.click("#f-rename button")
    page.wait_for_selector("#grid .who >> text=wiser-owl")
    page.on("dialog", lambda dialog: dialog.accept())
    code = board.room.code
    page.click("#rotate")
    eventually(lambda: page.locator("#code").inner_text().replace("-", "") not in ("", code))
    assert page.url.endswith("/board")


def test_names_and_mistakes_from_learners_are_text(board, page):
    evil = "<img src=x onerror=document.title=1>"
    board.learner(evil, "<b>t</b>").send(verdict(mistake=evil), verdict("lab.shift", mistake="<i>x</i>"))
    open_board(page, board)
    page.wait_for_selector("#grid td.s-wrong")
    time.sleep(1.2)
    assert page.locator("img:not(#qr)").count() == 0
    assert page.title() != "1"
    assert evil in page.locator("#grid").inner_text()


def test_viewers_come_back_by_themselves(tmp_path, chromium):
    port, file = kit.free_port(), tmp_path / "b.sqlite3"
    context = chromium.new_context()
    page = context.new_page()
    with kit.board(file, port=port) as board:
        fox = board.learner("fox")
        open_board(page, board)
    page.wait_for_selector("#state.off")
    with kit.board(file, port=port):
        fox.send(verdict())
        page.wait_for_selector("#state.on", timeout=15_000)
        page.wait_for_selector("#grid td.s-wrong")
    context.close()


def test_fifty_cells_of_a_large_board_block_the_page_under_50_ms(tmp_path, page):
    exercise = {"minutes": 5, "task": "", "hints": 2, "mistakes": {}}
    catalogue = [
        {"id": f"l{i}", "number": i, "title": f"Lesson {i}", "minutes": 9}
        | {"exercises": [exercise | {"id": f"l{i}.e{j}", "name": f"e{j}"} for j in range(10)]}
        for i in range(14)
    ]
    with kit.board(tmp_path / "b.sqlite3", catalogue=catalogue) as board:
        from mi_course.workshop.store import Entry

        now = time.time()
        tried = {"revision": 1, "status": "wrong", "attempt": 1, "mistake": None}
        entries = [Entry("joined", f"p{i}", now, {"name": f"learner-{i:03d}", "table": ""}) for i in range(200)]
        entries += [
            Entry("verdict", f"p{i}", now, {"exercise": f"l{j // 10}.e{j % 10}"} | tried)
            for i in range(200)
            for j in range(140)
        ]
        board.store.append(board.session.id, entries)
        open_board(page, board)
        eventually(lambda: page.locator("#grid td[aria-label]").count() == 28_000, 60)
        parts = page.evaluate("""async () => {
            const took = [];
            for (let turn = 0; turn < 7; turn++) {
                const cells = Array.from({length: 50}, (_, i) => [`p${(i * 37 + turn) % 200}`, `l${i % 14}.e${turn}`,
                    [turn % 2 ? "passed" : "crashed", turn + 2, 1, 0, Date.now() / 1000, null]]);
                const rows = cells.map(([id, exercise]) => ({...people.get(id), exercise, seen: Date.now() / 1000}));
                await new Promise(requestAnimationFrame);
                take({now: Date.now() / 1000, cells, people: rows, exercises: {...exercises}, class: numbers}, false);
                listsAt = 0;  // so that the lists are drawn each time
                const parts = [];
                for (let more = true; more;) {
                    const start = performance.now();
                    more = render();
                    document.getElementById("grid").offsetHeight;
                    parts.push(performance.now() - start);
                }
                took.push(parts);
                await new Promise((done) => setTimeout(done, 100));
            }
            return took;
        }""")  # fmt: skip
        print("parts of an update of 50 cells, ms:", [[round(ms, 1) for ms in turn] for turn in parts])
        assert min(map(len, parts)) == 3, "cells, exercises, lists"
        assert sorted(max(turn) for turn in parts)[3] < 50


@pytest.fixture(scope="module")
def axe():
    """The source of axe-core."""
    return files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_serious_violation(board, chromium, axe, theme):
    fill(board)
    lead = board.lead()
    lead("api/lead/message", {"text": "Hello"})
    lead("api/lead/close", {"what": "reveals:*"})
    context = chromium.new_context(viewport={"width": 1440, "height": 900}, color_scheme=theme, bypass_csp=True)
    page = context.new_page()
    open_board(page, board)
    page.wait_for_selector("#grid td.s-wrong")
    found = {}
    for path in ("board", "", "summary.html", "projector"):
        for width, height in SIZES.values():
            page.set_viewport_size({"width": width, "height": height})
            if width == SIZES["phone"][0]:
                page.goto(f"{board.url}/{path}")
                page.wait_for_load_state("load")
                time.sleep(0.8)
            page.evaluate(axe)
            result = page.evaluate("axe.run()")
            for violation in result["violations"]:
                if violation["impact"] in {"serious", "critical"}:
                    nodes = [node["html"][:150] for node in violation["nodes"][:3]]
                    found[f"{path} {width} {violation['id']}"] = nodes
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth + 1"), f"{path} scrolls sideways"
    context.close()
    assert found == {}
