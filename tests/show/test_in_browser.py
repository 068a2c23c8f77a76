"""Every picture in a real JupyterLab, in both themes; opened again without a kernel; nothing leaves the machine."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import browser
import nbformat
import pytest
from require import require
from show_examples import ATTENTION, EVERYTHING, OTHERS, PICTURES, SETUP, make

LIVE = """import time
with show.live_lines(xlabel="step", ylabel="loss (nats)", title="It falls", every_s=0.1) as live:
    for step in range(30):
        live.update(step, loss=1 / (1 + step)); time.sleep(0.02)"""

METADATA = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
GROUND = {"light": (255, 255, 255), "dark": (17, 17, 17)}

# Texts whose contrast with what lies behind them is under 4.5 (WCAG 2, level AA), as "ratio: text". The headers of an
# Accordion have colors of ipywidgets' own.
FAINT = """(output) => {
    const parse = (css) => {
        const [r, g, b, a = 1] = (css.match(/[\\d.]+/g) ?? [0, 0, 0, 0]).map(Number);
        return [r, g, b, a];
    };
    const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
    const light = (color) => color.slice(0, 3)
        .map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = (node) => {
        if (!node) return [255, 255, 255, 1];
        const own = parse(getComputedStyle(node).backgroundColor);
        return own[3] === 1 ? own : over(own, ground(node.parentElement));
    };
    const faint = [];
    for (const node of output.querySelectorAll("*")) {
        const text = [...node.childNodes].filter((n) => n.nodeType === 3).map((n) => n.data).join("").trim();
        const style = getComputedStyle(node);
        const hidden = !node.getClientRects().length || node.closest("style, [aria-hidden], [class*=Collapse-header]");
        if (!text || hidden || style.opacity < 1) continue;
        const behind = ground(node instanceof SVGElement ? node.closest("div") : node);
        const ink = over(parse(node instanceof SVGElement ? style.fill : style.color), behind);
        const [low, high] = [light(ink), light(behind)].sort((a, b) => a - b);
        const ratio = (high + 0.05) / (low + 0.05);
        if (ratio < 4.5) faint.push(`${ratio.toFixed(2)}: ${text}`);
    }
    return faint;
}"""


def colors_of(locator: Any) -> list[tuple[int, tuple[int, int, int]]]:
    """(count, color) of the pixels on the screen, the commonest first."""
    from PIL import Image

    pixels = Image.open(io.BytesIO(locator.screenshot())).convert("RGB")
    return sorted(pixels.getcolors(1 << 24), reverse=True)


def unsigned(*names: str) -> Any:
    """A notebook with outputs that this JupyterLab has not signed."""
    cells = []
    for name in names:
        output = nbformat.v4.new_output("display_data", make(name)._repr_mimebundle_())
        cells.append(nbformat.v4.new_code_cell(name, id=name, outputs=[output], execution_count=1))
    return nbformat.v4.new_notebook(cells=cells, metadata=METADATA)


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_everything_is_drawn(theme: str, tmp_path: Path) -> None:
    require("chromium")
    cells = {"setup": SETUP, **EVERYTHING, "live": LIVE}
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source, id=name) for name, source in cells.items()],
        metadata=METADATA,
    )
    nbformat.write(notebook, tmp_path / "all.ipynb")
    nbformat.write(unsigned("lines", "attention", "tokens"), tmp_path / "untrusted.ipynb")
    with browser.jupyterlab(tmp_path, theme) as lab:
        page = lab.page()
        browser.open_notebook(page, "all.ipynb")
        browser.run_all(page, timeout_s=300)
        for name in [*PICTURES, "live"]:
            browser.cell_output(page, name).locator(".plot-container .main-svg").first.wait_for(timeout=90_000)
        heads = browser.cell_output(page, "attention")
        heads.locator(".mi-live canvas").first.wait_for(timeout=90_000)
        assert heads.locator(".mi-live canvas").count() == 4  # three to choose from, one large
        assert not heads.locator(".mi-static").is_visible()
        assert "Mary" in browser.cell_output(page, "tokens").inner_text()
        assert "Not yet" in browser.cell_output_text(page, "verdict_card")
        assert "Look at period" in browser.cell_output_text(page, "note_card")
        assert browser.cell_output(page, "progress_overview").locator(".widget-hprogress").count() == 2
        for name in cells:
            assert "Traceback" not in browser.cell_output_text(page, name)
        for name in [*PICTURES, *OTHERS, "live"]:
            assert browser.cell_output(page, name).evaluate(FAINT) == [], f"{name} in the {theme} theme"
        for name in [*PICTURES, "live"]:
            _, ground = colors_of(browser.cell_output(page, name).locator(".js-plotly-plot"))[0]
            assert ground == GROUND[theme], name
        browser.save(page)
        page.evaluate("async () => { await window.jupyterapp.shell.currentWidget.sessionContext.shutdown(); }")
        page.close()

        again = lab.page()  # no kernel knows the widgets now: the pictures must be there instead
        browser.open_notebook(again, "all.ipynb")
        for name in ("attention", "progress_overview"):
            browser.cell_output(again, name).locator(".mi-static").wait_for(state="visible", timeout=90_000)
        assert browser.cell_output(again, "attention").locator("img").evaluate("(img) => img.naturalWidth") > 300
        pixels = colors_of(browser.cell_output(again, "attention").locator("img"))
        assert pixels[0][1] == GROUND[theme]
        ink = max(sum(abs(a - b) for a, b in zip(color, GROUND[theme], strict=True)) for _, color in pixels)
        assert ink > 3 * 130, "the letters stand out"
        error = browser.cell_output(again, "attention").get_by_text("model not found")
        assert error.count() == 0 or error.bounding_box()["width"] <= 1

        # Without a signature JupyterLab takes styles and scripts out: the picture must not need them.
        untrusted = lab.page()
        browser.open_notebook(untrusted, "untrusted.ipynb", kernel=False)
        browser.cell_output(untrusted, "lines").locator(".main-svg").first.wait_for(timeout=90_000)
        assert browser.cell_output(untrusted, "lines").evaluate(FAINT) == []
        image = browser.cell_output(untrusted, "attention").locator("img")
        image.wait_for(state="visible")
        assert colors_of(image)[0][1] == GROUND[theme]
        assert browser.cell_output(untrusted, "tokens").evaluate(FAINT) == []

        saved = nbformat.read(tmp_path / "all.ipynb", as_version=4)
        stored = next(cell for cell in saved.cells if cell.source == ATTENTION)
        assert len(str(stored.outputs)) < 60_000
        assert lab.outside == []
        assert lab.errors == []


@pytest.mark.browser
def test_a_title_of_any_length_lies_above_the_plot_and_inside_the_picture(tmp_path: Path) -> None:
    require("chromium")
    from playwright.sync_api import sync_playwright

    from mi_course import show

    titles = ["One line", "An ideal induction head: a stripe below the diagonal " * 2, "What a head looks at " * 8]
    with sync_playwright() as playwright:
        chrome = playwright.chromium.launch(
            executable_path=browser.chromium(), args=[*browser.CHROMIUM_ARGS, "--allow-file-access-from-files"]
        )
        try:
            for title in titles:
                picture = show.heatmap([[1, 0], [0, 1]], xlabel="key", ylabel="query", title=title)
                page = chrome.new_page()
                page.goto(picture.save(tmp_path / "picture.html").as_uri())
                page.wait_for_selector(".gtitle")
                picture_box, heading, plot = (
                    page.locator(name).first.bounding_box() for name in (".main-svg", ".gtitle", ".nsewdrag")
                )
                assert picture_box["y"] <= heading["y"], title
                assert heading["y"] + heading["height"] <= plot["y"], title
                page.close()
        finally:
            chrome.close()
