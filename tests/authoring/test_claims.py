"""Prose is held against outputs: claims that fail stop the build, numbers come from the run, learners see no claims."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mi_course.authoring import build as module
from mi_course.authoring import execute
from mi_course.authoring.build import build, check, claims_table
from mi_course.authoring.claims import _typed_numbers, review_claims
from mi_course.authoring.source import BuildError, read_source
from mi_course.course import ClaimFailed, Lesson, claim
from mi_course.lessons import LessonInfo


@pytest.fixture
def source(info) -> Path:
    return Path(info.folder, "solutions", "07_tiny.py")


def change(source: Path, old: str, new: str) -> None:
    text = source.read_text()
    assert old in text
    source.write_text(text.replace(old, new))


def cells(info: LessonInfo, folder: str) -> dict[str, dict]:
    notebook = json.loads(Path(info.folder, folder, "07_tiny.ipynb").read_text())
    return {cell["id"]: {**cell, "source": "".join(cell["source"])} for cell in notebook["cells"]}


def found(info: LessonInfo, source: Path) -> str:
    return "\n".join(map(str, review_claims(read_source(source))))


# -- In a notebook ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("truth", [True, torch.tensor(1.0) > 0, np.float32(1) > 0])
def test_a_claim_that_holds_is_printed(truth, capsys):
    claim("one is\nabove zero", truth)
    assert capsys.readouterr().out == "holds: one is above zero\n"


@pytest.mark.parametrize("falsehood", [False, torch.tensor(0.0) > 0, np.float32(0) > 0])
def test_a_claim_that_fails_raises_its_sentence(falsehood):
    with pytest.raises(ClaimFailed, match=r"^zero is above zero$"):
        claim("zero is above zero", falsehood)


@pytest.mark.parametrize("neither", [torch.ones(2) > 0, None, "yes", 1.0, [], torch.tensor(0.3)])
def test_what_is_no_truth_value_is_refused(neither):
    with pytest.raises(TypeError, match="needs True or False"):
        claim("all are above zero", neither)


@pytest.mark.parametrize(
    ("value", "fmt", "text"),
    [
        (0.637, ".2f", "0.64"),
        (torch.tensor(-1.26), ".1f", "−1.3"),
        (-0.001, ".2f", "0.00"),
        (np.float32(12.34), ".0f", "12"),
        (12_345, ",", "12,345"),
        ("17.3", "", "17.3"),
        ("a-b", "", "a-b"),
        (["17.3", "17.4", "18.6"], "", "17.3, 17.4 and 18.6"),
        (torch.tensor([0.25, -0.5]), ".1f", "0.2 and −0.5"),
        ([3], "", "3"),
        (0.637, ".0%", "64%"),
    ],
)
def test_what_was_seen_is_printed_as_prose_says_it(value, fmt, text, capsys):
    Lesson.seen("a-name", value, fmt)
    assert capsys.readouterr().out == f"seen a-name: {text}\n"


def test_a_name_with_spaces_is_refused():
    with pytest.raises(ValueError, match="no name for what was seen"):
        Lesson.seen("two words", 2)


# -- Building ---------------------------------------------------------------------------------------------------------


def test_numbers_are_filled_in_from_the_run_and_claims_are_for_authors_only(info, source, monkeypatch):
    report = build([info])
    prose = "You doubled numbers (by 2.00), and your largest favorite is 496.\n\nNext: [the syllabus](README.md)"
    assert cells(info, "notebooks")["recap"]["source"] == prose
    assert cells(info, "solutions")["recap"]["source"] == prose
    assert "claims-recap" not in cells(info, "notebooks")
    assert "claim" not in json.dumps(cells(info, "notebooks"))
    executed = cells(info, "solutions")["claims-recap"]
    assert executed["metadata"] == {"tags": ["claims"]}  # compared by nbval
    assert "".join(executed["outputs"][0]["text"]) == (
        "seen largest: 496\nseen ratio: 2.00\nholds: doubling gives an even number, for three numbers\n"
    )
    head, row = report.table.splitlines()
    assert " ".join(head.split()) == "lesson concluding cells with a claim claims numbers seen citations"
    assert row.split() == ["07", "tiny", "1", "1", "1", "2", "0"]

    # From here on nothing is executed.
    monkeypatch.setattr(module, "execute", lambda *arguments: pytest.fail("would be executed"))
    assert check([info]) == []
    assert claims_table([info]) == report.table
    change(source, "your largest favorite is {{seen:largest}}", "your favorite is {{ seen:largest }}")
    assert "notebooks/07_tiny.ipynb:1: is stale" in "\n".join(map(str, check([info])))
    build([info])
    assert "your favorite is 496" in cells(info, "notebooks")["recap"]["source"]
    assert check([info]) == []
    change(source, "{{ seen:largest }}", "{{seen:smallest}}")
    finding = next(one for one in check([info]) if "smallest" in str(one))
    assert "{{seen:smallest}}: no stored output of a claims cell has it; 2 other names are there" in str(finding)
    assert finding.line == source.read_text().splitlines().index('# %% [markdown] id="recap"') + 2
    with pytest.raises(BuildError, match="seen:smallest"):
        build([info])


def test_every_claim_that_fails_stops_the_build_and_names_its_prose(info, source):
    change(source, "all(double(n) % 2 == 0", "all(double(n) % 4 == 0")
    change(
        source, '# %% id="a-widget"', '# %% id="claims-double" tags=["claims"]\nprint(nothing)\n\n# %% id="a-widget"'
    )
    with pytest.raises(BuildError) as caught:
        build([info])
    other, prose = caught.value.findings
    assert "cell 'claims-double' failed" in other.message
    assert "NameError" in other.message
    assert prose.line == source.read_text().splitlines().index('# %% [markdown] id="recap"') + 1
    assert "cell 'recap' says what this run does not bear out: 'doubling gives an even number" in prose.message
    assert "the claim is in cell 'claims-recap'" in prose.message
    assert not Path(info.folder, "notebooks").exists()
    assert not Path(info.folder, "solutions", "07_tiny.ipynb").exists()


RUNS = {
    "a_loop_over_nothing": ("claim(", "for n in ():\n    claim(", "no claim in it was tested"),
    "seen_twice": ('lesson.seen("ratio"', 'lesson.seen("largest", 3)\nlesson.seen("ratio"', "'largest' is seen twice"),
    "standard_error": ("ratio = double", 'print("!", file=sys.stderr)\nratio = double', "writes to standard error"),
    "shown": ("for n in numbers))", "for n in numbers))\nratio", "or shows something"),
}


@pytest.mark.parametrize("fault", RUNS)
def test_what_a_run_brings_to_light(info, source, fault):
    old, new, message = RUNS[fault]
    change(source, old, new)
    with pytest.raises(BuildError, match=message):
        build([info])


def test_slow_claims_are_noted(info, monkeypatch):
    monkeypatch.setattr(execute, "CLAIMS_S", 0.0)
    assert any("the claims of tiny took 0 s, and may take 0" in note for note in build([info]).notes)


# -- What a source lacks ----------------------------------------------------------------------------------------------

LACKING = {
    "no_claim": ("claim(", "print(", "cell 'recap' concludes and no claim holds it: write `# %% id=\"claims-recap\""),
    "no_claims_cell": ('id="claims-recap"', 'id="claims-double"', "cell 'recap' concludes and no claim holds it"),
    "a_seen_cell": ('id="double"', 'id="double-seen"', "cell 'double-seen' concludes and no claim holds it"),
    "typed": ("largest favorite is {{seen:largest}}", "largest favorite is 496", "'496' is typed by hand"),
    "no_tag": (' tags=["claims"]', "", 'a claims cell is code and has tags=["claims"]'),
    "another_tag": ('tags=["claims"]', 'tags=["claims", "not-compared"]', "always compared"),
    "nobody": ('id="claims-recap"', 'id="claims-nobody"', "names the markdown cell that it belongs to"),
    "constant": ("all(double(n) % 2 == 0 for n in numbers)", "True", "its condition is a constant"),
    "no_sentence": ('claim("doubling gives an even number, for three numbers"', "claim(3", "begins with the sentence"),
    "malformed": ("{{seen:largest}}", "{{seen largest}}", "'{{seen largest}}' is no placeholder"),
    "entangled": (
        "ratio = double(21)",
        "double = len\nratio = double(21)",
        "sets double, which cell 'a-picture' reads",
    ),
}


@pytest.mark.parametrize("fault", LACKING)
def test_what_a_source_lacks(info, source, fault):
    assert found(info, source) == ""
    old, new, message = LACKING[fault]
    change(source, old, new)
    if fault == "entangled":
        change(source, "print(time.time())", "print(double(4), [ratio for ratio in (1, 2)])")
    assert message in found(info, source)
    with pytest.raises(BuildError):
        build([info])
    assert any(str(one) in found(info, source) for one in check([info]))


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("It falls from 14.0 to 3 nats.", ["14.0", "3"]),
        ("About thirty heads, +0.27 / −0.35, 39 %.", ["thirty", "+0.27", "−0.35", "39"]),
        ("Odds of two hundred to one, or 1,000 to 1; e⁻¹⁴.", ["hundred", "1,000", "1", "⁻¹⁴"]),
        ("Head 17.3 and layer 16.", ["17.3", "16"]),
        ("Two heads, one layer, ten prompts.", []),
        ("SmolLM2-135M, GPT-2, L1, x2 and tiny-induction-seed1.", []),
        ("It costs $\\log 63 = 4.1$ nats, or $$e^{-3}$$, in `head 16.0` and {{seen:loss}}.", []),
        ("```\n3.14\n```\n\n~~~\n3.14\n~~~", []),
        ("[39 %](https://example.org/39) and ![3](a.png), https://example.org/1.2", []),
        ("Olsson et al. 2022, Olsson et al. (2022), Elhage et al. 2021, section 4.2; Rushing & Nanda 2024.", []),
        ("Copying is common (39 %, McDougall et al. 2023).", []),
        ("Copying is common (39 %, we guess).", ["39"]),
        ("## 3. Why\n\n1. First.\n2. Second, see lesson 03, sections 2 and 3.", []),
        ("In 2022 there were 2022.", ["2022"]),
        ('<details open="1"><summary>See</summary>&#8321;</details>', []),
    ],
)
def test_numbers_typed_by_hand(text, numbers):
    assert [number for number, _ in _typed_numbers(text)] == numbers


def test_the_line_of_a_number():
    assert list(_typed_numbers("`1`\n\n```\n2\n```\nthe\n5 of them")) == [("5", 6)]
