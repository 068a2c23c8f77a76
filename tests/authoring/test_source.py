"""Every fault of a source is refused, with file, line and what to do. One fixture for each, named for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mi_course.authoring.generate import learner_notebook
from mi_course.authoring.source import BuildError, read_source, regions
from mi_course.lessons import LessonInfo

FIXTURES = Path(__file__).parent / "fixtures"
INFO = LessonInfo(7, "tiny", "Tiny numbers", 3, "07_tiny", "tiny_lesson")

FAULTS = {
    "nested_region": (6, "BEGIN SOLUTION inside the region of line 4"),
    "unclosed_region": (4, "never closed"),
    "end_without_begin": (5, "without a BEGIN"),
    "region_outside_an_answer_cell": (2, "outside an answer cell"),
    "markers_indented_differently": (6, "not indented as its BEGIN"),
    "region_dedents": (4, "indented less"),
    "empty_region": (4, "empty"),
    "marker_misspelt": (4, "looks like a marker; write `# BEGIN SOLUTION`"),
    "no_id": (4, "has no id"),
    "id_is_no_slug": (1, "'Why it works' is no slug"),
    "id_twice": (4, "also that of the cell in line 1"),
    "unknown_tag": (1, "unknown tag 'nbval-skip'"),
    "unknown_option": (1, "unknown option 'slideshow'"),
    "text_before_the_first_cell": (3, "Every cell needs such a line, the first one too"),
    "unknown_exercise": (1, "has no exercise 'triple'"),
    "unknown_placeholder": (3, "has no exercise 'triple'"),
    "region_holds_the_whole_function": (2, "contains all of double"),
    "value_is_not_assigned": (2, "does not assign favorites"),
    "no_region": (1, "has no `# BEGIN SOLUTION`"),
    "stub_does_not_parse": (1, "does not parse"),
}


def test_every_fixture_is_expected_here():
    assert {path.stem for path in (FIXTURES / "faults").glob("*.py")} == set(FAULTS)


@pytest.mark.parametrize("fault", FAULTS)
def test_refused_with_file_and_line(fault, tiny):
    line, message = FAULTS[fault]
    with pytest.raises(BuildError) as caught:
        learner_notebook(INFO, tiny, read_source(FIXTURES / "faults" / f"{fault}.py", f"{fault}.py"))
    first = caught.value.findings[0]
    assert (first.file, first.line) == (f"{fault}.py", line), first
    assert message in first.message
    assert str(first).startswith(f"{fault}.py:{line}: ")


def test_all_findings_of_a_cell_are_listed(tiny):
    with pytest.raises(BuildError) as caught:
        learner_notebook(INFO, tiny, read_source(FIXTURES / "faults" / "unknown_placeholder.py"))
    assert [finding.line for finding in caught.value.findings] == [3, 4]


def test_a_missing_file_and_one_that_is_no_text(tmp_path):
    with pytest.raises(BuildError, match="is missing"):
        read_source(tmp_path / "none.py")
    (tmp_path / "binary.py").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BuildError, match="not UTF-8"):
        read_source(tmp_path / "binary.py")


def test_cells_know_their_lines_and_regions():
    cells = {cell.id: cell for cell in read_source(FIXTURES / "good.py")}
    text = (FIXTURES / "good.py").read_text().splitlines()
    for cell in cells.values():
        assert f'id="{cell.id}"' in text[cell.line - 1]
    (region,) = regions(cells["answer-double"])
    assert region.indent == "    "
    assert region.lines == ("    twice_the_number = x + x", "    return twice_the_number")
    assert cells["answer-double"].answers == "double"
    assert cells["setup"].is_setup
    assert cells["a-picture"].tags == ("not-compared",)
