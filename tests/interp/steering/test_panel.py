"""The slider of lesson 04: its table in words, and the widget in a real JupyterLab."""

from __future__ import annotations

import pytest
import torch
from steering_models import save_llama

from mi_course.interp.steering import steering_panel


def _vectors(model):
    return torch.randn(model.cfg.n_layers, model.cfg.d_model, generator=torch.Generator().manual_seed(1))


def _panel(model, **changes):
    options = {"text": "the cat sat", "layer": 1, "coherent": (-1.0, 1.0), "max_new_tokens": 5}
    return steering_panel(model, _vectors(model), [12], [13], **{**options, **changes})


def test_the_table_holds_what_the_model_writes(llama):
    panel = _panel(llama)
    html = panel.html()
    assert html.count("<tr>") == 10  # a heading and nine coefficients
    assert "-2.00" in html
    assert "+2.00" in html
    assert html.count(">coherent<") == 5
    assert html.count(">outside<") == 4
    assert "script" not in html
    assert "the cat sat" in panel.text
    assert panel.alt


def test_each_row_is_what_steering_by_itself_gives(llama):
    from mi_course.interp.steering import Steer, generate, prompt_log_odds

    panel, vectors = _panel(llama), _vectors(llama)
    for coefficient, written, value in panel._rows:
        alone = [Steer(vectors[1], 1, coefficient)]
        assert generate(llama, ["the cat sat"], alone, max_new_tokens=5) == [written]
        assert float(prompt_log_odds(llama, ["the cat sat"], [12], [13], alone)) == pytest.approx(value, abs=1e-4)


def test_the_widget_answers_to_its_controls(llama):
    panel = _panel(llama)
    box = panel.widget()
    text, layer, slider, shown = box.children[1], box.children[2], box.children[3], box.children[5]
    first = shown.value
    slider.value = 2.0
    assert shown.value != first
    assert "outside" in shown.value
    layer.value = 0
    text.value = "a dog ran"
    assert "a dog ran" in shown.value


def test_an_error_is_shown_where_the_completion_would_be(llama):
    box = _panel(llama).widget()
    box.children[1].value = "the " * 80  # more than the context holds
    assert "ValueError" in box.children[5].value


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"layer": 9}, "no layer 9"), ({"coherent": (-3.0, 1.0)}, "coherent")],
)
def test_what_cannot_be_meant_is_refused(llama, changes, words):
    with pytest.raises(ValueError, match=words):
        _panel(llama, **changes)


def test_vectors_must_be_one_for_each_layer(llama):
    with pytest.raises(ValueError, match="vectors"):
        steering_panel(llama, _vectors(llama)[:1], [12], [13], text="the cat", layer=0, coherent=(-1, 1))


CELL = """
from mi_course.interp.models import load_model
from mi_course.interp.steering import steering_panel
import torch
model = load_model({folder!r})
vectors = 3 * torch.randn(model.cfg.n_layers, model.cfg.d_model, generator=torch.Generator().manual_seed(1))
steering_panel(model, vectors, [12], [13], text="the cat sat", layer=1, coherent=(-1.0, 1.0), max_new_tokens=5)
"""


@pytest.mark.browser
@pytest.mark.slow
def test_moving_the_slider_changes_the_text(tmp_path):
    import browser
    import nbformat
    from require import require

    require("chromium")
    save_llama(tmp_path / "llama")
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(CELL.format(folder=str(tmp_path / "llama")), id="panel")],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    nbformat.write(notebook, tmp_path / "panel.ipynb")
    with browser.jupyterlab(tmp_path) as lab:
        page = lab.page()
        browser.open_notebook(page, "panel.ipynb")
        browser.run_cell(page, "panel", timeout_s=120)
        output = browser.cell_output(page, "panel")
        assert "Traceback" not in output.inner_text(), output.inner_text()
        live = output.locator(".mi-live")
        live.wait_for(timeout=20_000)
        assert not output.locator(".mi-static").is_visible()  # the table waits until no kernel is there
        completion = live.locator("strong").first
        seen = [completion.inner_text()]
        handle = live.locator(".widget-slider").nth(1).locator(".noUi-handle")
        handle.focus()
        for key in ("ArrowRight", "ArrowLeft"):
            before = live.inner_text()
            for _ in range(8):  # steps of 0.25: from 0 to 2, and back
                page.keyboard.press(key)
            page.wait_for_function(
                "([node, before]) => node.innerText !== before && !node.innerText.includes('writing')",
                arg=[live.element_handle(), before],
                timeout=20_000,
            )
            page.wait_for_timeout(500)
            seen.append(completion.inner_text())
        assert seen[1] != seen[0]
        assert seen[2] == seen[0]
        browser.save(page)
        page.evaluate("async () => { await window.jupyterapp.shell.currentWidget.sessionContext.shutdown(); }")
        page.close()

        again = lab.page()
        browser.open_notebook(again, "panel.ipynb")
        table = browser.cell_output(again, "panel").locator(".mi-static table")
        table.wait_for(state="visible", timeout=20_000)
        assert table.locator("tr").count() == 10
        assert lab.outside == []
        assert lab.errors == []
