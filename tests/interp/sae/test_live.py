"""The live plot: four lines that grow, nothing outside a notebook, and a still picture left behind in one."""

from __future__ import annotations

import subprocess
import sys

import torch

from mi_course.interp.sae import SAEConfig, live_training, planted_activations, planted_dictionary, train
from mi_course.interp.sae.training import Progress

CONFIG = SAEConfig(d_in=8, n_latents=16, architecture="topk", k=2, steps=30, batch=64, lr=1e-2)


def data() -> torch.Tensor:
    return planted_activations(planted_dictionary(12, 8, seed=0), 500, 0.1, seed=0).x


def progress(**changes) -> Progress:
    values = {"step": 1, "steps": 30, "loss": 8.0, "reconstruction": 8.0, "sparsity": 0.0, "auxiliary": 0.0}
    values |= {"l0": 3.0, "explained_variance": 0.25, "dead_share": 0.5, "lr": 1e-3, "activations": 64, "seconds": 0.1}
    return Progress(**values | changes)


def test_a_training_is_drawn(capsys):
    with live_training(CONFIG) as live:
        train(CONFIG, data(), on_progress=live, log_every=5)
    picture = live.picture()
    for name in ("loss / first loss", "L0 / 2", "explained variance", "dead latents"):
        assert name in picture.text
    assert "step from 5 to 30" in picture.text
    assert live.last.step == 30
    assert capsys.readouterr() == ("", ""), "nothing is shown outside a notebook"


def test_lines_are_shares():
    live = live_training(SAEConfig(d_in=8, n_latents=16, architecture="relu", k=1))
    live(progress())
    live(progress(step=2, loss=2.0, l0=6.0, explained_variance=-50.0, dead_share=0.0))
    text = live.picture().text
    assert "loss / first loss: 1.0 at the start, 0.25 at the end" in text
    assert "L0 / 3: 1.0 at the start, 2.0 at the end" in text
    assert "explained variance: 0.25 at the start, −1.0 at the end" in text.replace("-", "−")


def test_a_run_that_diverges_is_drawn_up_to_there():
    live = live_training(CONFIG)
    live(progress())
    live(progress(step=2, loss=float("nan"), explained_variance=float("-inf")))
    live(progress(step=3, loss=float("inf")))
    live.close()
    assert "loss / first loss: 1.0 at the start" in live.picture().text


def test_a_notebook_keeps_a_still_picture(monkeypatch):
    """In a kernel the output is replaced while it trains, and holds a picture and the interactive plot at the end."""
    shown = []

    class Handle:
        def update(self, bundle, raw):
            shown.append(bundle)

    def display(bundle, raw, display_id):
        shown.append(bundle)
        return Handle()

    monkeypatch.setattr("mi_course.show._live.in_notebook", lambda: True)
    monkeypatch.setattr("IPython.display.display", display)
    with live_training(CONFIG, every_s=0.0) as live:
        train(CONFIG, data(), on_progress=live, log_every=1)
    assert len(shown) >= 2
    assert all("image/png" in bundle or "text/html" in bundle for bundle in shown)
    assert "application/vnd.plotly.v1+json" in shown[-1]
    assert "application/vnd.plotly.v1+json" not in shown[0]
    assert live._repr_mimebundle_() == {"text/plain": ""}, "it is on the page already"


def test_training_does_not_import_pictures():
    """What a sandbox or a script pays for: no plotly, no matplotlib, no widgets."""
    code = (
        "import sys; from mi_course.interp.sae import SAEConfig, train, live_training; "
        "print([name for name in ('plotly', 'matplotlib', 'ipywidgets', 'IPython') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"
