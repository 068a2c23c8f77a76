"""One example of everything `show` can draw, as source: the plain tests and the browser test run the same ones."""

from __future__ import annotations

from typing import Any

SETUP = """
import numpy as np
from mi_course import show
rng = np.random.default_rng(0)
tokens = ["<|im_start|>", "When", " Mary", " and", " John", "\\n", "<b>x</b>", " $a$"]
def patterns(heads, size):
    logits = 2 * rng.normal(size=(heads, size, size))
    logits[:, np.triu(np.ones((size, size)), 1) > 0] = -1e9
    weights = np.exp(logits)
    return weights / weights.sum(-1, keepdims=True)
"""

PICTURES = {
    "head_heatmap": """show.head_heatmap(rng.random((30, 9)) - 0.4, title="Heads of the last third stand out",
        caption="Random values.", unit="nats", highlight=[(18, 6), (17, 3)])""",
    "heatmap": """show.heatmap(rng.random((30, 8)) - 0.3, x=tokens, xlabel="position", ylabel="layer", unit="share",
        title="The subject moves to the end", caption="Patched.")""",
    "heatmap_with_words": """show.heatmap(rng.random((6, 4)), x=tokens[:4],
        text=[[tokens[(i + j) % 8] for j in range(4)] for i in range(6)], xlabel="position",
        ylabel="layer", center=None, unit="probability", title="The top token of each layer", caption="Lens.")""",
    "lines": """show.lines(range(100), {"one": 4 / np.arange(1, 101), "control": [4] * 100,
        "runs": 4 + rng.normal(size=(4, 100)).cumsum(1) / 9},
        xlabel="step", ylabel="loss (nats)", title="The loss falls", caption="Band.", marks=[(40, "here")])""",
    "bars": """show.bars(["a", "b"], [1, -2], errors=[0.1, 0.2], control=[0.1, 0.1], xlabel="head",
        ylabel="nats", title="Only a",
        caption="Five seeds.")""",
    "scatter": """show.scatter(rng.random(20), rng.random(20), [f"{i}.0" for i in range(20)], xlabel="exact (nats)",
        ylabel="estimate (nats)", title="They agree", caption="Heads.", diagonal=True, write=[3])""",
    "histogram": """show.histogram({"yes": rng.normal(2, 1, 99), "no": rng.normal(0, 1, 99)}, xlabel="projection",
        title="Two heaps", caption="All prompts.", marks=[(1, "threshold")])""",
    "vectors": """show.vectors({"flat": [[1, -0.5, -0.5], [0, 0.9, -0.9]], "deep": [[1, 0, 0], [0, 1, 0], [0, 0, 1]]},
        title="Two bases", caption="Circle: radius 1.", notes=["a triangle", "three axes"])""",
    "heatmaps": """show.heatmaps({"dense": rng.normal(size=(6, 6)), "sparse": np.eye(6)}, xlabel="feature",
        ylabel="feature", unit="product", title="Who disturbs whom", caption="Products.")""",
    "graph": """show.graph([{"id": "in", "layer": -1}, {"id": "1.0", "layer": 1, "role": "mover"},
        {"id": "out", "layer": 3}],
        [("in", "1.0", 1), ("in", "out", 0.2), ("1.0", "out", -0.5)], title="A circuit", caption="Weights.")""",
}
ATTENTION = """show.attention(patterns(3, 8), tokens, heads=["18.6", "17.3", "23.0"], title="Three heads",
    caption="One prompt.")"""
OTHERS = {
    "tokens": """show.tokens(tokens, rng.normal(size=8), unit="nats", title="Loss per token", caption="Hover.")""",
    "verdict_card": """show.verdict_card({"status": "wrong", "exercise": "induction_heads.induction_score", "points": 1,
        "max_points": 3, "message": "Your scores match the *same* token. Compare `pattern[0, 45]`.",
        "details": [{"name": "shape", "earned": 1, "points": 1, "message": ""},
                    {"name": "planted", "earned": 0, "points": 2, "message": "`score[2]` is 0.03"}],
        "next": "`lesson.hint()` shows a hint."})""",
    "layer_map": """show.layer_map([
        {"name": "hook_resid_pre", "shape": "b p 8", "part": "stream", "means": "the stream", "stream": "is"},
        {"name": "attn.hook_q", "shape": "b p 2 4", "part": "attention", "means": "<b>q</b>", "stream": "reads"},
        {"name": "hook_attn_out", "shape": "b p 8", "part": "attention", "means": "sum", "stream": "adds"}],
        title="A small layer", caption="b: batch.")""",
    "note_card": """show.note_card("hint 1 of 2", "Look at `period`.\\n\\n```python\\nx = 1  # one\\n```",
        kind="hint")""",
    "progress_overview": """show.progress_overview([
        {"lesson": "00", "exercise": "zero_head", "status": "passed", "points": 2, "max_points": 2, "minutes": 5},
        {"lesson": "02", "exercise": "top_heads", "status": "wrong", "points": 0, "max_points": 2, "attempts": 3}])""",
}
EVERYTHING = {**PICTURES, "attention": ATTENTION, **OTHERS}


def make(name: str) -> Any:
    """The example of this name, made afresh: always the same data."""
    space: dict[str, Any] = {}
    exec(SETUP, space)
    return eval(EVERYTHING[name], space)
