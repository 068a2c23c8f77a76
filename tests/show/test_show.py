from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from show_examples import EVERYTHING, PICTURES, make

from mi_course import show
from mi_course.show._picture import PLOTLY

EVIL = '<script>alert(1)</script><img src=x onerror="alert(2)">'
PATTERN = np.tril(np.ones((2, 4, 4))) / np.arange(1, 5)[:, None]


class Tags(HTMLParser):
    """Collects tags with their attributes; complains of nothing, as a browser would."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize("name", EVERYTHING)
def test_every_output_is_deterministic_small_and_has_words(name: str) -> None:
    thing, again = make(name), make(name)
    bundle = thing._repr_mimebundle_()
    assert bundle == again._repr_mimebundle_()
    assert str(thing) == repr(thing) == thing.text == bundle["text/plain"]
    assert thing.alt
    assert len(json.dumps(bundle)) < 60_000
    assert "image/png" not in bundle, "JupyterLab's plotly view would hide behind it"
    assert "<script" not in bundle["text/html"]


@pytest.mark.parametrize("name", [*PICTURES, "attention"])
def test_pictures_leave_an_image_with_caption_and_alternative_text(name: str) -> None:
    from PIL import Image

    picture = make(name)
    tags = Tags(picture.html()).found
    image = next(attrs for tag, attrs in tags if tag == "img")
    assert image["alt"] == picture.alt
    assert picture.title in picture.alt
    assert any(tag == "figcaption" for tag, _ in tags)
    data = base64.b64decode(str(image["src"]).partition(",")[2])
    assert data == picture.png()
    drawn = Image.open(io.BytesIO(data))
    assert set(drawn.info) == {"transparency"}, "no time, no version in the file"
    assert len(drawn.convert("RGBA").getcolors(1 << 24)) > 4


@pytest.mark.parametrize("name", PICTURES)
def test_plotly_accepts_the_interactive_form(name: str) -> None:
    import plotly.graph_objects

    picture = make(name)
    view = picture._repr_mimebundle_()[PLOTLY]
    plotly.graph_objects.Figure({"data": view["data"], "layout": view["layout"]})
    for axis in ("xaxis", "yaxis"):
        assert view["layout"][axis].get("visible") is False or view["layout"][axis]["title"]["text"]
    assert picture.caption in " ".join(note["text"] for note in view["layout"]["annotations"])


@pytest.mark.parametrize("kind", ["list", "numpy", "float32", "bfloat16", "gradient"])
def test_all_kinds_of_numbers_are_taken(kind: str) -> None:
    import torch

    plain = [[0.5, -0.25], [0.0, 1.0]]
    values = {
        "list": plain,
        "numpy": np.array(plain),
        "float32": torch.tensor(plain),
        "bfloat16": torch.tensor(plain, dtype=torch.bfloat16),
        "gradient": torch.tensor(plain, requires_grad=True),
    }[kind]
    assert show.head_heatmap(values, title="t").plotly()["data"][0]["z"] == plain
    rows = list(values) if kind != "numpy" else values
    assert show.head_heatmap(rows, title="t").text == show.head_heatmap(plain, title="t").text


def test_a_diverging_scale_is_symmetric_about_its_center() -> None:
    colors = show.head_heatmap([[0.1, 0.9], [-0.2, 0.0]], title="t", center=0.0).plotly()["layout"]["coloraxis"]
    assert colors["cmin"] == -colors["cmax"] == -0.9
    places = [place for place, _ in colors["colorscale"]]
    assert places == [round(1 - place, 4) for place in reversed(places)]
    sequential = show.head_heatmap([[0.1, 0.9]], title="t", center=None).plotly()["layout"]["coloraxis"]
    assert (sequential["cmin"], sequential["cmax"]) == (0.1, 0.9)


def test_heads_are_named_on_hover() -> None:
    assert "head %{y:d}.%{x:d}" in show.head_heatmap([[1.0, 2.0]], title="t").plotly()["data"][0]["hovertemplate"]


@pytest.mark.parametrize(
    ("make_it", "words"),
    [
        (lambda: show.head_heatmap([1, 2], title="t"), r"shape \(2,\).*\[layer, head\]"),
        (lambda: show.head_heatmap([[1, float("nan")]], title="t"), r"values\[0, 1\] is nan"),
        (lambda: show.head_heatmap([[]], title="t"), "nothing to draw"),
        (lambda: show.head_heatmap([[1], [1, 2]], title="t"), "not a table of numbers"),
        (lambda: show.head_heatmap([["a"]], title="t"), "not a table of numbers"),
        (lambda: show.head_heatmap(np.zeros((500, 500)), title="t"), "at most 40,000"),
        (lambda: show.head_heatmap([[1]], title="t", highlight=[(1, 0)]), "head 1.0"),
        (lambda: show.head_heatmap([[1]], title=" "), "title is empty"),
        (lambda: show.heatmap([[1, 2]], x=["a"], xlabel="x", ylabel="y", title="t"), "x has 1 entries; expected 2"),
        (lambda: show.heatmap([[1, 2]], x="ab", xlabel="x", ylabel="y", title="t"), "single string"),
        (lambda: show.attention(PATTERN[0], list("abcd"), title="t"), r"\[head, query, key\]"),
        (lambda: show.attention(PATTERN[:, :3], list("abcd"), title="t"), "3 queries and 4 keys"),
        (lambda: show.attention(PATTERN, list("abc"), title="t"), "expected 4"),
        (lambda: show.attention(np.zeros((13, 4, 4)), list("abcd"), title="t"), "at most 12 heads"),
        (lambda: show.tokens(["a"], [1, 2], title="t"), "2 entries, but there are 1"),
        (lambda: show.tokens(["a"], [1], title="t", vmin=2, vmax=1), "vmin below vmax"),
        (lambda: show.lines([1, 2], {}, xlabel="x", ylabel="y", title="t"), "series is empty"),
        (lambda: show.lines([1, 2], {"a": [1]}, xlabel="x", ylabel="y", title="t"), "1 points, but x has 2"),
        (lambda: show.lines([0, 2], {"a": [1, 2]}, xlabel="x", ylabel="y", title="t", log_x=True), "positive x"),
        (lambda: show.lines([1], {"a": ([2], [3], [4])}, xlabel="x", ylabel="y", title="t"), "low ≤ middle"),
        (lambda: show.bars(["a"], [1, 2], xlabel="x", ylabel="y", title="t"), "2 entries, but there are 1"),
        (lambda: show.bars(["a"], [1], errors=[-1], xlabel="x", ylabel="y", title="t"), "at least 0"),
        (lambda: show.scatter([1], [1, 2], xlabel="x", ylabel="y", title="t"), "expected as many"),
        (lambda: show.histogram({}, xlabel="x", title="t"), "values is empty"),
        (lambda: show.vectors({}, title="t"), "panels is empty"),
        (lambda: show.vectors({"a": np.zeros((4, 2))}, title="t"), "two or three dimensions"),
        (lambda: show.vectors({"a": [[1], [float("nan")]]}, title="t"), "nan"),
        (lambda: show.vectors({"a": [[1], [1]]}, notes=["x", "y"], title="t"), "2 entries; expected 1"),
        (lambda: show.heatmaps({"a": [[1]], "b": [[1, 2]]}, xlabel="x", ylabel="y", title="t"), "all alike"),
        (lambda: show.graph([{"id": 1, "layer": 0}], [(1, 2)], title="t"), "node 2"),
        (lambda: show.graph([{"id": 1, "layer": 0}, {"id": 2, "layer": 0}], [(1, 2)], title="t"), "upwards"),
        (lambda: show.verdict_card({"status": "wrong"}), "lacks exercise"),
        (
            lambda: show.verdict_card({"status": "fine", "exercise": "a", "points": 0, "max_points": 1}),
            "expected one of passed",
        ),
        (lambda: show.note_card("t", "b", kind="joke"), "expected one of hint"),
        (lambda: show.progress_overview([{"lesson": "a"}]), r"rows\[0\] lacks"),
    ],
)
def test_bad_input_is_named(make_it: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make_it()  # type: ignore[operator]


def test_nothing_handed_in_becomes_markup() -> None:
    verdict = {"status": "crashed", "exercise": EVIL, "points": 0, "max_points": 1, "message": f"`{EVIL}` {EVIL}"}
    row = {"lesson": EVIL, "exercise": EVIL, "status": "wrong", "points": 0, "max_points": 1}
    things = [
        show.tokens([EVIL, '" onmouseover="x'], [1, 2], title=EVIL, caption=EVIL, unit=EVIL),
        show.attention(PATTERN, [EVIL] * 4, title=EVIL, caption=EVIL, heads=[EVIL, EVIL]),
        show.heatmap([[1.0]], x=[EVIL], y=[EVIL], xlabel=EVIL, ylabel=EVIL, title=EVIL, caption=EVIL, unit=EVIL),
        show.verdict_card(verdict | {"details": [{"name": EVIL, "message": EVIL}] * 2, "next": EVIL}),
        show.note_card(EVIL, f"{EVIL}\n\n```python\n{EVIL}\n```"),
        show.progress_overview([row], title=EVIL),
    ]
    for thing in things:
        for tag, attrs in Tags(thing.html()).found:
            assert tag != "script"
            assert not any(name.startswith("on") for name in attrs)
            assert tag != "img" or str(attrs["src"]).startswith("data:image/png;base64,")
        bundle = thing._repr_mimebundle_()
        assert "<script" not in json.dumps(bundle.get(PLOTLY, ""))


def test_invisible_signs_become_visible() -> None:
    html = show.tokens([" a", "\n", "\u202eb", ""], [0, 1, 2, 3], title="t").html()
    assert "·" in html
    assert "↵" in html
    assert "\u202e" not in html
    assert "\\u202e" in html
    assert "position 1): 1 " in html or "(position 1): 1" in html


def test_a_verdict_reads_as_a_diagnosis() -> None:
    card = make("verdict_card")
    assert card.text.startswith("Not yet · induction_score · 1 of 3\nYour scores match")
    assert "  ✓ shape (1 of 1)\n  · planted (0 of 2): `score[2]` is 0.03" in card.text
    html = card.html()
    assert 'role="status"' in html
    assert "<em>same</em>" in html
    words = set()
    for status in ("passed", "wrong", "not_attempted", "crashed", "timed_out"):
        text = show.verdict_card({"status": status, "exercise": "a.b", "points": 0, "max_points": 1}).text
        words.add(text.partition(" · ")[0])
    assert words == {"Passed", "Not yet", "Not attempted", "Crashed", "Out of time"}


def test_a_widget_stores_neither_script_nor_data(monkeypatch: pytest.MonkeyPatch) -> None:
    widget = make("attention").widget()
    assert len(json.dumps(widget.get_state(), default=str)) < 8_000
    sent = []
    monkeypatch.setattr(widget, "send", lambda content, buffers=None: sent.append((content, buffers)))
    for question in ("script", "patterns", "anything"):
        widget._handle_custom_msg({"ask": question}, [])
    assert [content["kind"] for content, _ in sent] == ["script", "patterns"]
    assert b"CircuitsVis" in sent[0][1][0]
    assert len(sent[1][1][0]) == 3 * 8 * 8 * 4


def test_live_lines_outside_a_notebook_only_collect() -> None:
    with show.live_lines(xlabel="step", ylabel="loss", title="It falls", total=50) as live:
        for step in range(50):
            live.update(step, loss=1 / (step + 1))
    assert "0.020 at the end" in live.text
    with pytest.raises(ValueError, match="after close"):
        live.update(51, loss=0.0)


def test_long_lines_are_thinned_and_keep_their_spikes() -> None:
    values = np.zeros(10_000)
    values[4321] = 7.0
    trace = show.lines(range(10_000), {"a": values}, xlabel="x", ylabel="y", title="t").plotly()["data"][0]
    assert len(trace["x"]) <= 602
    assert max(trace["y"]) == 7.0


def test_large_pictures_stay_small() -> None:
    big = show.attention(np.tril(np.random.default_rng(0).random((12, 100, 100))), ["tok"] * 100, title="t")
    assert len(json.dumps(big._repr_mimebundle_())) < 150_000
    table = np.random.default_rng(0).normal(size=(30, 30))
    many = show.heatmap(table, x=[f" token{i}" for i in range(30)], xlabel="x", ylabel="y", title="t")
    assert len(json.dumps(many._repr_mimebundle_())) < 90_000


def test_save(tmp_path: object) -> None:
    picture = make("lines")
    png = picture.save(tmp_path / "a.png")  # type: ignore[operator]
    assert png.read_bytes().startswith(b"\x89PNG")
    page = picture.save(tmp_path / "a.html").read_text(encoding="utf-8")  # type: ignore[operator]
    assert not re.search(r'<(script|link)[^>]*(src|href)="http', page)
    with pytest.raises(ValueError, match=r"\.pdf"):
        picture.save(tmp_path / "a.pdf")  # type: ignore[operator]


def test_import_brings_nothing_heavy() -> None:
    code = (
        "import sys; import mi_course.show; "
        "heavy = {'torch', 'numpy', 'matplotlib', 'plotly', 'ipywidgets', 'anywidget'} & set(sys.modules); "
        "print(sorted(heavy))"
    )
    reply = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert reply.strip() == "[]"


def test_a_long_title_stays_inside_the_static_picture() -> None:
    from mi_course.show._chart import Chart
    from mi_course.show._static import draw

    title = "In the second copy, 18.6 looks at the token that came next the first time"
    figure = draw(Chart((360, 200), []), title)
    heading = figure._suptitle
    assert heading.get_text().replace("\n", " ") == title
    assert heading.get_window_extent().width < figure.bbox.width


def test_a_heat_map_can_be_read_downwards() -> None:
    table = [[1.0, 0.0], [0.0, 2.0]]
    down = show.heatmap(table, x=["a", "b"], y=["c", "d"], xlabel="key", ylabel="query", title="t", down=True)
    up = show.heatmap(table, x=["a", "b"], y=["c", "d"], xlabel="key", ylabel="query", title="t")
    assert down.plotly()["layout"]["yaxis"]["range"] == [1.5, -0.5]
    assert up.plotly()["layout"]["yaxis"]["range"] == [-0.5, 1.5]
    assert "from c down to d" in down.text
    assert "from c up to d" in up.text
    assert down.png() != up.png()


def test_a_message_shared_by_all_parts_appears_once() -> None:
    parts = [{"name": name, "earned": 0, "points": 1, "message": "It still ran."} for name in "ab"]
    verdict = {"status": "timed_out", "exercise": "l.e", "points": 0, "max_points": 2, "message": "It still ran."}
    assert str(show.verdict_card({**verdict, "details": parts})).count("It still ran.") == 1
    parts[1]["message"] = "Another."
    assert "Another." in str(show.verdict_card({**verdict, "details": parts}))


def test_a_note_says_its_kind_once() -> None:
    assert str(show.note_card("Hint 1 of 3 · zero_head", "Look.")).startswith("Hint 1 of 3 · zero_head\n")
    assert str(show.note_card("zero_head", "Look.")).startswith("Hint · zero_head\n")


def test_live_lines_are_named_in_words() -> None:
    with show.live_lines(xlabel="step", ylabel="loss", title="t") as live:
        live.update(1, second_copy=2.0)
    assert "second copy: 2" in live.text


def test_vectors_are_described_in_words() -> None:
    picture = show.vectors({"pair": [[0, 0, 0.1], [1, -1, 0]]}, title="A pair", notes=["D 0.5"])
    assert (
        "pair: 3 vectors of length 0.10 to 1.0; between the 2 long ones angles of 180° to 180° (D 0.5)" in picture.text
    )
    assert "A pair" in picture.alt
    annotations = picture.plotly()["layout"]["annotations"]
    written = [re.sub("<[^>]*>", "", note["text"]) for note in annotations]
    assert sorted(written) == ["0", "1", "D 0.5", "pair"], "a short one stays unnamed"


def test_live_vectors_outside_a_notebook_keep_the_last_state() -> None:
    with show.live_vectors(title="They turn", caption="A circle.") as live:
        assert "no vectors yet" in live.text
        for step in range(3):
            live.update(step, {"one": [[1.0], [float(step)]]}, [f"at {step}"])
    assert "Step 2. A circle." in live.text
    assert "at 2" in live.text
    with pytest.raises(ValueError, match="after close"):
        live.update(3, {"one": [[1.0], [1.0]]})
    with pytest.raises(ValueError, match="two or three dimensions"), show.live_vectors(title="t") as live:
        live.update(0, {"one": [[1.0]]})


def test_logarithmic_axes_carry_plain_numbers() -> None:
    from mi_course.show._static import draw

    picture = show.lines([1, 10, 100], {"a": [0.1, 1, 10]}, xlabel="x", ylabel="y", title="t", log_x=True, log_y=True)
    axes = draw(picture.chart, "t").axes[0]
    texts = {label.get_text() for axis in (axes.xaxis, axes.yaxis) for label in axis.get_ticklabels()}
    assert {"1", "10", "0.1"} <= texts
    assert not any("$" in text for text in texts)


@pytest.mark.parametrize("name", [*PICTURES, "attention"])
def test_no_picture_brings_a_ground_of_its_own(name: str) -> None:
    from PIL import Image

    picture = make(name)
    drawn = Image.open(io.BytesIO(picture.png())).convert("RGBA")
    corners = [drawn.getpixel((x, y)) for x in (0, drawn.width - 1) for y in (0, drawn.height - 1)]
    assert {corner[3] for corner in corners} == {0}
    assert "background" not in picture.html()
    if name in PICTURES:
        layout = picture.plotly()["layout"]
        assert layout["paper_bgcolor"] == layout["plot_bgcolor"] == "rgba(0,0,0,0)"


def test_the_static_text_reads_on_any_page() -> None:
    """The best that one gray can do: no gray has 4.5 on both white and #111111."""
    from mi_course.show import _colors

    def luminance(color: str) -> float:
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    ink = luminance(_colors.INK)
    assert 1.05 / (ink + 0.05) > 4.5
    assert (ink + 0.05) / (luminance("#111111") + 0.05) > 4


def test_tokens_with_dollars_are_not_read_as_math() -> None:
    assert "<span>$</span>a<span>$</span>" in show.tokens(["$a$"], [1], title="t").html()


def test_a_table_is_aligned_and_has_no_negative_zero():
    shown = show.table({"a": [1234.5, "x"], "<b>": [-0.001, "y"]}, ["nats", "word"], title="T & U", digits=(1, 0))
    assert shown.text.splitlines() == ["T & U", "        nats  word", "a    1,234.5     x", "<b>      0.0     y"]
    assert "<b>" not in shown.html().replace("&lt;b&gt;", "")
    assert 'scope="row"' in shown.html()
    assert shown.alt == "T & U"
    assert show.table({"one": np.float64(0.5)}, ["share"], sign=True).text.endswith("+0.50")
    unmeasured = show.table({"one": [0.5, np.nan]}, ["share", "cost"])
    assert unmeasured.text.splitlines()[1] == "one   0.50     –"
    assert "nan" not in unmeasured.html().lower()
    for rows, columns, words in (({}, ["a"], "rows is empty"), ({"a": [1, 2]}, ["b"], "2 cells, expected 1")):
        with pytest.raises(ValueError, match=words):
            show.table(rows, columns)
