"""Feature pages: the static page, its words, the widget's messages, and both in JupyterLab."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import browser
import feature_examples as examples
import nbformat
import pytest
from require import require
from test_in_browser import FAINT, METADATA
from test_show import Tags

from mi_course import show

SETUP = f"""import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import feature_examples
from mi_course import show
sae, model, features = feature_examples.make()"""
FEATURE = 'show.feature(sae, 3, caption="An SAE of random weights.")'
BROWSER = "show.feature_browser(sae)"


@pytest.fixture(scope="module")
def made() -> Any:
    return examples.make()


class Asked:
    """A widget whose messages are kept instead of sent."""

    def __init__(self, shown: Any) -> None:
        self.widget, self.sent = shown.widget(), []
        self.widget.send = lambda content, buffers=None: self.sent.append(content)

    def __call__(self, **ask: Any) -> dict[str, Any]:
        self.widget._handle_custom_msg({"id": 1, **ask}, [])
        return self.sent.pop()


@pytest.mark.parametrize("browse", [False, True])
def test_the_static_page_is_deterministic_small_and_has_words(made: Any, browse: bool) -> None:
    sae, _, features = made
    draw = show.feature_browser if browse else (lambda sae: show.feature(sae, 3))
    shown, again = draw(sae), draw(sae)
    bundle = shown._repr_mimebundle_()
    assert bundle == again._repr_mimebundle_()
    assert len(str(bundle)) < 60_000
    assert str(shown) == bundle["text/plain"]
    latent = 0 if browse else 3
    assert f"Latent {latent} is active on" in shown.alt
    page = features.page(sae, latent)
    for words in ("Strongest contexts", "nearest latents (cosine)", "promoted: ", "Not counted: the first token"):
        assert words in shown.text
    image = next(attributes for tag, attributes in Tags(shown.html()).found if tag == "img")
    assert f"latent {latent}" in str(image["alt"])
    assert f"{page['count']:,}" in shown.html()


def test_hostile_tokens_are_text(made: Any) -> None:
    """No tag comes from a token; control characters, direction marks and $ are made harmless."""
    sae, _, _features = made
    parts = [show.feature(sae, latent).html() for latent in range(40)]
    asked = Asked(show.feature_browser(sae))
    parts += [asked(ask="start")["html"], asked(ask="list", order="densest")["html"]]
    parts += [asked(ask="search", text=word)["html"] for word in ("<script>", "onerror", "$x$", "\u202eright", '"')]
    sentence = " ".join(examples.HOSTILE) + " w12"
    parts += [asked(ask="read", text=sentence, latent=latent)["html"] for latent in range(40)]
    everything = "".join(parts)
    tags = Tags(everything).found
    assert not {"script", "b", "iframe", "bos"} & {tag for tag, _ in tags}
    for tag, attributes in tags:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        if tag == "img":
            assert str(attributes["src"]).startswith("data:image/svg+xml;base64,")
    visible = html.unescape(everything)
    assert examples.SCRIPT in visible
    assert "\x07" not in everything
    assert "\u202e" not in everything
    assert "\\u202e" in everything
    assert "\\xe2\\x82" in everything
    assert not re.search(r"\$x\$", re.sub(r'(title|aria-label)="[^"]*"', "", everything))
    assert "text 3 <b>" in visible


def test_words_name_the_token_the_value_and_the_text(made: Any) -> None:
    sae, _, features = made
    example = features.page(sae, 3)["groups"][0]["examples"][0]
    labels = [str(a["aria-label"]) for _, a in Tags(show.feature(sae, 3).html()).found if a.get("role") == "img"]
    assert labels[0].startswith(f"{example['values'][example['at']]:.2f}"[:3])
    assert example["tokens"][example["at"]].strip() in labels[0] or "\\" in labels[0]


def test_a_dead_latent_has_a_page(made: Any) -> None:
    sae, _, _ = made
    shown = show.feature(sae, examples.DEAD)
    assert "never active on these 300 tokens" in shown.alt
    assert "Strongest contexts" not in shown.html()
    assert "Nearest latents" in shown.html()


def test_the_widget_answers_what_the_page_asks(made: Any) -> None:
    sae, _, features = made
    asked = Asked(show.feature_browser(sae, index=3))
    start = asked(ask="start")
    assert (start["latent"], start["last"], start["browse"], start["can_read"]) == (3, 39, True, True)
    assert start["list"].count("data-latent") == 20
    opened = asked(ask="page", latent=11)
    assert opened["latent"] == 11
    assert "Latent 11 is active on" in opened["say"]
    assert set(re.findall(r'data-latent="(\d+)"', opened["html"])) == {
        str(latent) for latent, _ in features.page(sae, 11)["nearest"]
    }
    assert asked(ask="list", order="rarest", first=20)["more"] is True
    assert asked(ask="list", order="rarest", first=40)["more"] is False
    assert "latents active on it" in asked(ask="search", text="w12")["say"]
    reading = asked(ask="read", text="w12 w20 w13", latent=3)
    assert "Latent 3" in reading["say"]
    assert "data-latent" in reading["html"]
    assert features.summary(asked(ask="random")["latent"])["example"] is not None


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        ({"ask": "page", "latent": 400}, "There is no latent 400; this SAE has 0 … 39"),
        ({"ask": "page", "latent": "x"}, "expected a whole number"),
        ({"ask": "page", "latent": None}, "expected a whole number"),
        ({"ask": "search", "text": "  "}, "Nothing to search for"),
        ({"ask": "read", "text": "", "latent": 3}, "type a sentence"),
        ({"ask": "read", "text": "w12 " * 40, "latent": 3}, "the model's context holds 24"),
        ({"ask": "list", "order": "best"}, "expected one of"),
        ({"ask": "files"}, "cannot have"),
        ({"ask": "list", "order": "number", "first": []}, "expected a whole number"),
    ],
)
def test_errors_reach_the_page(made: Any, ask: dict[str, Any], words: str) -> None:
    assert words in Asked(show.feature_browser(made[0]))(**ask)["error"]


def test_what_is_no_question_is_ignored(made: Any) -> None:
    asked = Asked(show.feature(made[0], 3))
    for content in (None, [], "start", {"ask": "start"}):
        asked.widget._handle_custom_msg(content, [])
    assert asked.sent == []


def test_without_a_model_there_is_no_box(made: Any, tmp_path: Path) -> None:
    from mi_course.interp.sae import load_feature_index

    made[2].save(tmp_path)
    sae = examples.make_sae()
    asked = Asked(show.feature(sae, 3, load_feature_index(tmp_path)))
    assert asked(ask="start")["can_read"] is False


def test_it_is_saved_as_a_page(made: Any, tmp_path: Path) -> None:
    page = show.feature(made[0], 3).save(tmp_path / "latent.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "Strongest contexts" in page


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda sae: show.feature(examples.make_sae(), 3), "no feature index yet. Build one, build_feature_index"),
        (lambda sae: show.feature_browser(examples.make_sae()), "no feature index yet"),
        (lambda sae: show.feature(sae, 99), "There is no latent 99"),
        (lambda sae: show.feature(sae, 1.5), "expected a whole number"),
        (lambda sae: show.feature(sae, 3, {"a": 1}), "features is dict, expected a feature index"),
        (lambda sae: show.feature(examples.make_sae(n_latents=24), 3, sae.feature_index), "24 latents, the index 40"),
        (lambda sae: show.feature_browser(sae, title=" "), "title is empty"),
    ],
)
def test_wrong_arguments_are_refused(made: Any, draw: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        draw(made[0])


# -- in JupyterLab ----------------------------------------------------------------------------------------------------


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_pages_live_and_static(theme: str, tmp_path: Path, made: Any) -> None:
    require("chromium")
    cells = {"setup": SETUP, "feature": FEATURE, "browser": BROWSER}
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source, id=name) for name, source in cells.items()], metadata=METADATA
    )
    nbformat.write(notebook, tmp_path / "features.ipynb")
    output = nbformat.v4.new_output("display_data", show.feature(made[0], 3)._repr_mimebundle_())
    unsigned = nbformat.v4.new_code_cell("old", id="old", outputs=[output], execution_count=1)
    nbformat.write(nbformat.v4.new_notebook(cells=[unsigned], metadata=METADATA), tmp_path / "untrusted.ipynb")
    with browser.jupyterlab(tmp_path, theme, viewport=(1360, 1500)) as lab:
        page = lab.page()
        browser.open_notebook(page, "features.ipynb")
        browser.run_all(page, timeout_s=300)
        one, all_ = browser.cell_output(page, "feature"), browser.cell_output(page, "browser")
        for shown in (one, all_):
            shown.locator(".mi-live .mi-page").wait_for(timeout=90_000)
            assert not shown.locator(".mi-static").is_visible()
            assert shown.locator("img").last.evaluate("(img) => img.naturalWidth") > 0
        assert one.get_by_role("search").count() == 0

        # With the keyboard alone: search, open what is found, walk, read a sentence.
        all_.get_by_role("searchbox").focus()
        page.keyboard.type("w12")
        page.keyboard.press("Enter")
        all_.get_by_text("Active on “w12”").wait_for()
        all_.locator(".mi-results [data-latent]").first.focus()
        wanted = all_.locator(".mi-results [data-latent]").first.get_attribute("data-latent")
        page.keyboard.press("Enter")
        region = all_.get_by_role("region", name="Feature page")
        region.get_by_role("heading", name=f"Latent {wanted}", exact=True).wait_for()
        assert region.get_by_role("heading", name=f"Latent {wanted}", exact=True).evaluate(
            "(node) => node === document.activeElement"
        ), "the screen reader goes to what was opened"
        page.keyboard.press("ArrowRight")
        region.get_by_role("heading", name=f"Latent {int(wanted) + 1}", exact=True).wait_for()
        assert f"Latent {int(wanted) + 1} is" in all_.get_by_role("status").inner_text()
        page.keyboard.press("x")  # would cut a cell if it reached JupyterLab
        assert page.evaluate("() => window.jupyterapp.shell.currentWidget.content.widgets.length") == 3
        page.keyboard.press("/")
        assert all_.get_by_role("searchbox").evaluate("(node) => node === document.activeElement")
        all_.get_by_label("A sentence for the model").focus()
        page.keyboard.type(f"w12 {examples.SCRIPT} {examples.IMAGE} w20")
        page.keyboard.press("Enter")
        all_.locator(".mi-read table").wait_for()
        number = all_.get_by_label("Latent, 0 to 39")
        number.fill("400")
        number.press("Enter")
        all_.get_by_text("There is no latent 400").wait_for()
        number.fill(str(examples.DEAD))
        number.press("Enter")
        region.get_by_role("heading", name=f"Latent {examples.DEAD}", exact=True).wait_for()
        number.fill("3")
        number.press("Enter")
        region.get_by_role("heading", name="Latent 3", exact=True).wait_for()
        all_.get_by_label("Order of the list").select_option("densest")
        all_.get_by_text("20 latents").wait_for()
        for name in ("feature", "browser"):
            assert browser.cell_output(page, name).evaluate(FAINT) == [], f"{name} in the {theme} theme"
            browser.cell_output(page, name).screenshot(path=str(tmp_path / f"{name}-{theme}.png"))
        browser.save(page)
        page.evaluate("async () => { await window.jupyterapp.shell.currentWidget.sessionContext.shutdown(); }")
        page.close()

        again = lab.page()
        browser.open_notebook(again, "features.ipynb")
        for name in ("feature", "browser"):
            static = browser.cell_output(again, name)
            static.locator(".mi-static").wait_for(state="visible", timeout=90_000)
            assert static.evaluate(FAINT) == []
            static.screenshot(path=str(tmp_path / f"{name}-static-{theme}.png"))

        untrusted = lab.page()
        browser.open_notebook(untrusted, "untrusted.ipynb", kernel=False)
        old = browser.cell_output(untrusted, "old")
        old.get_by_text("Strongest contexts").wait_for()
        assert old.locator("img").first.evaluate("(img) => img.naturalWidth") > 0
        assert old.evaluate(FAINT) == []
        old.screenshot(path=str(tmp_path / f"untrusted-{theme}.png"))

        for opened in (again, untrusted):
            assert opened.evaluate("() => window.attacked") is None
        saved = nbformat.read(tmp_path / "features.ipynb", as_version=4)
        assert len(str(saved.cells[2].outputs)) < 60_000
        assert lab.outside == []
        assert lab.errors == []
