"""An instructor's hand: overrides and comments, reflections, similar answers."""

from __future__ import annotations

import copy
import csv
import json
from pathlib import Path

import pytest
from grading_kit import TOP, ZERO, notebook, right
from test_formats import CRASHED, PARTLY, PASSED, row

from mi_course import content, lessons
from mi_course.grading import overrides, similar
from mi_course.grading.intake import Entry
from mi_course.grading.marks import failed
from mi_course.grading.outputs import finish, reflections_page
from mi_course.grading.reflections import questions, reflections_in
from mi_course.submission import parse

ROWS = (row("ada.ipynb", PASSED, CRASHED), row("=b,\nc", PARTLY), failed("cyd.zip", "It is no zip file."))


def applied(tmp_path: Path, text: str):
    (tmp_path / overrides.FILE).write_text(text, encoding="utf-8")
    rows, problems = overrides.apply(ROWS, tmp_path)
    return {one.submission: one for one in rows}, problems


def test_points_and_comments(tmp_path: Path):
    rows, problems = applied(
        tmp_path,
        f"""
        ["ada.ipynb"]
        comment = "Well done."
        ["ada.ipynb"."{ZERO}"]
        points = 1.5
        comment = "Right idea."
        ["'=b,\\\\nc".top_next_tokens]  # as the spreadsheet shows it, the exercise by its name alone
        comment = "Look again."
        ["cyd.zip".start_here.zero_head]
        points = 2
        """,
    )
    assert problems == []
    ada = rows["ada.ipynb"]
    assert (ada.points, ada.max_points, ada.comment) == (4.5, 5, "Well done.")
    assert ada.exercises[0] == PASSED
    assert (ada.exercises[1].points, ada.exercises[1].given, ada.exercises[1].comment) == (1.5, 0, "Right idea.")
    assert rows["=b,\nc"].exercises[0].comment == "Look again."
    assert rows["=b,\nc"].points == 2
    assert (rows["cyd.zip"].points, rows["cyd.zip"].max_points) == (2, 2)


def test_names_are_those_of_the_table(tmp_path: Path):
    """`'=x` is how marks.csv writes `=x`, and `''=x` how it writes `'=x`. No hand-in can take another's comment."""
    (tmp_path / overrides.FILE).write_text("""["'=x"]\ncomment = "one"\n["''=x"]\ncomment = "two"\n""")
    rows, problems = overrides.apply((row("=x", PASSED), row("'=x", PASSED)), tmp_path)
    assert ([one.comment for one in rows], problems) == (["one", "two"], [])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('["adda.ipynb"]\ncomment = "x"', "no submission 'adda.ipynb'. Did you mean 'ada.ipynb'?"),
        ("[ada.ipynb]\ncomment = 'x'", "no submission 'ada'. Put a name with a dot in quotes."),
        ('["ada.ipynb".zero_haed]\npoints = 1', "no exercise 'zero_haed'. Did you mean 'zero_head'?"),
        ('["ada.ipynb"."start_here.nothing"]\npoints = 1', "no exercise 'start_here.nothing'"),
        ('["ada.ipynb"]\npoints = 3', "points belong to an exercise"),
        ('["ada.ipynb".zero_head]\npoints = 3', "points are 3; expected a number from 0 to 2"),
        ('["ada.ipynb".zero_head]\npoints = -1', "points are -1"),
        ('["ada.ipynb".zero_head]\npoints = nan', "points are nan"),
        ('["ada.ipynb".zero_head]\npoints = true', "points are True"),
        ('["ada.ipynb".zero_head]\npoints = "2"', "points are '2'"),
        ('["ada.ipynb".zero_head]\ngrade = 2', "no setting 'grade'"),
        ('["ada.ipynb".zero_head]\ncomment = 2', "the comment is 2"),
        ('"ada.ipynb" = 3', "expected a table"),
        ("[ada", "NONE of it was applied"),
        ("a = " + "[" * 5000, "NONE of it was applied"),
    ],
)
def test_what_cannot_be_applied_is_told_by_name(tmp_path: Path, text: str, told: str):
    rows, problems = applied(tmp_path, text)
    assert any(told in problem for problem in problems), problems
    assert rows["ada.ipynb"].points == 3
    assert rows["=b,\nc"] == ROWS[1]


def test_the_rest_is_applied(tmp_path: Path):
    rows, problems = applied(tmp_path, '[nobody]\ncomment="x"\n["ada.ipynb".zero_head]\npoints = 2\n')
    assert len(problems) == 1
    assert rows["ada.ipynb"].points == 5


def test_overrides_in_the_tables_and_never_overwritten(tmp_path: Path):
    finish(ROWS, tmp_path, ())
    path = tmp_path / overrides.FILE
    assert overrides.read(tmp_path) == ({}, []), "the example is all comments"
    path.write_text('["ada.ipynb".zero_head]\npoints = 1\ncomment = "=1+1"\n')
    for _ in range(2):
        rows, problems, files = finish(ROWS, tmp_path, ("junit", "gradescope", "classroom", "feedback"))
        assert problems == []
        assert rows[0].points == 4
        assert path.read_text() == '["ada.ipynb".zero_head]\npoints = 1\ncomment = "=1+1"\n'
    with open(tmp_path / "marks.csv", newline="", encoding="utf-8") as file:
        ada = next(csv.DictReader(file))
    assert (ada["points"], ada[ZERO], ada["by_hand"]) == ("4", "1", ZERO)
    assert ada["comment"] == f"{ZERO}: =1+1"
    kept = json.loads((tmp_path / "marks.json").read_text())["submissions"][0]["exercises"][1]
    assert (kept["points"], kept["given"], kept["comment"]) == (1, 0, "=1+1")
    assert sorted(one.name for one in files) == ["classroom", "feedback", "gradescope", "junit.xml"]
    assert "=1+1" in next((tmp_path / "feedback").glob("ada_ipynb-*.html")).read_text()
    assert len(list((tmp_path / "gradescope").iterdir())) == len(list((tmp_path / "classroom").iterdir())) == 3


# ---------------------------------------------------------------------------------------------------------------------
# Reflections

INFO = lessons.find("start_here")
ASKED = "Which result would have told you that single heads do not matter for this sentence?"


def reflected(change, name: str = "x.ipynb") -> list[str]:
    found = copy.deepcopy(content.read_notebook(INFO))
    found = change(found) or found
    text = found if isinstance(found, str) else json.dumps(found)
    read = reflections_in(parse(text.encode(), name), INFO, name.endswith(".py"))
    assert all(one["lesson"] == "start_here" and one["question"] == ASKED for one in read)
    return [one["answer"] for one in read]


def at_reflect(found) -> int:
    return next(i for i, cell in enumerate(found["cells"]) if cell["id"] == "zero-head-reflect")


def cell(text: str, kind: str = "markdown") -> dict:
    return {"cell_type": kind, "id": "mine", "metadata": {}, "source": text}


def test_every_lesson_asks_and_every_question_is_found():
    for info in lessons.catalogue():
        text = "".join(content.source(cell) for cell in content.read_notebook(info)["cells"])
        assert len(questions(content.read_notebook(info))) == text.count("*Reflect.*")
    assert questions(content.read_notebook(INFO)) == {"zero-head-reflect": ASKED}


def test_reflections_are_found_where_they_were_written():
    assert reflected(lambda found: None) == []

    def within(found):
        found["cells"][at_reflect(found)]["source"] += "\n\nNone moves it."

    assert reflected(within) == ["None moves it."]

    def below(found):
        found["cells"].insert(at_reflect(found) + 1, cell("First.\n\n- a"))
        found["cells"].insert(at_reflect(found) + 2, cell("Second."))

    assert reflected(below) == ["First.\n\n- a\n\nSecond."]

    def both_without_ids(found):
        within(found)
        below(found)
        for i, one in enumerate(found["cells"]):
            one["id"] = f"c{i}"

    assert reflected(both_without_ids) == ["None moves it.\n\nFirst.\n\n- a\n\nSecond."]

    def elsewhere(found):
        found["cells"].insert(2, cell("A note."))
        found["cells"].insert(at_reflect(found) + 1, cell("x = 1", "code"))

    assert reflected(elsewhere) == []

    def untouched(found):
        found["cells"].insert(at_reflect(found) + 1, cell("YOUR ANSWER HERE"))

    assert reflected(untouched) == []

    def endless(found):
        found["cells"].insert(at_reflect(found) + 1, cell("x" * 10**6))

    assert len(reflected(endless)[0]) == 20_000


def test_reflections_of_a_python_file():
    def as_python(found):
        return f'# %% [markdown] id="zero-head-reflect"\n# *Reflect.* {ASKED}\n#\n# None moves it.\n# %%\nx = 1\n'

    assert reflected(as_python, "x.py") == ["None moves it."]


def test_the_page_of_reflections():
    wrote = {"lesson": "start_here", "question": ASKED}
    page = reflections_page(
        [row("ada", reflections=({**wrote, "answer": "<b>1"},)), row("bob", reflections=({**wrote, "answer": "2"},))]
    )
    assert page.count(ASKED) == 1
    assert "&lt;b&gt;1" in page
    assert "<b>1" not in page
    assert page.index("ada") < page.index("bob")


# ---------------------------------------------------------------------------------------------------------------------
# Similar answers

ID = "induction_heads.induction_score"
ONE = '''
def induction_score(pattern, period):
    """Mine."""
    total = 0.0
    # from the second copy on
    for query in range(period + 1, pattern.shape[-1]):
        total = total + pattern[:, query, query - period + 1]
    return total / (pattern.shape[-1] - period - 1)
'''
RENAMED = ONE.replace("total", "acc").replace("query", "q").replace("Mine", "Not his").replace("second", "2nd")
OTHER = """
def induction_score(pattern, period):
    rows = torch.arange(period + 1, pattern.shape[1])
    picked = pattern.gather(2, (rows - period + 1).expand(len(pattern), -1).unsqueeze(-1)).squeeze(-1)
    kept = picked[:, rows - rows[0]].float()
    return kept.sum(dim=1).div(max(1, kept.shape[1]))
"""
STUB = 'def induction_score(pattern, period):\n    """Doc."""\n    raise NotImplementedError("your turn")\n'
CALLS = """
from mi_course.interp import induction as i
def induction_score(pattern, period):
    return i.induction_score(pattern, period)
"""


def alike(own=(), **sources: str) -> dict[tuple[str, str], similar.Pair]:
    answers = [one for name, text in sources.items() for one in similar.answers_in(name, [ID], [text])]
    return {(one.first, one.second): one for one in similar.compare(answers, own)}


def test_renamed_copies_are_alike_and_others_are_not():
    found = alike(ada=ONE, bob=RENAMED, cyd=OTHER, dan=STUB, eve=STUB, fay="def broken(:", gus="x = 1")
    assert set(found) == {("ada", "bob")}
    pair = found["ada", "bob"]
    assert pair.similarity == 1.0
    assert not pair.same_names
    assert pair.shared_by == 2
    assert alike(ada=ONE, bob=f"# mine\n{ONE}")["ada", "bob"].same_names
    nearly = alike(ada=ONE, bob=RENAMED.replace("total / (", "total / max(1, "))
    assert 0.8 <= nearly["ada", "bob"].similarity <= 1.0


def test_short_and_common_answers_are_left_out():
    assert (
        alike(ada="def induction_score(p, n):\n    return p[0]", bob="def induction_score(p, n):\n    return p[0]")
        == {}
    )
    assert alike(**{f"s{i}": ONE for i in range(6)}) == {}
    assert len(alike(**{f"s{i}": ONE for i in range(4)})) == 6


def test_the_course_own_answer_takes_part():
    reference = content.solution_answer(ID)
    own = [one for one in similar.references("induction_heads") if one.exercise == ID]
    assert len(own) == 2, "the solution's, and the library's"
    found = alike(own, ada=reference, bob=CALLS, cyd=OTHER)
    assert ("bob", similar.OWN) in found, "calling it is having it"
    assert not any("cyd" in pair for pair in found)
    longer = [one for one in similar.answers_in(similar.OWN, [ID], [ONE])]
    found = alike(longer, ada=ONE, bob=RENAMED)
    assert set(found) == {("ada", similar.OWN), ("bob", similar.OWN)}, "not in pairs: the course's own explains it"


def test_similar_reads_submissions_and_writes_a_table(tmp_path: Path):
    for name, answer in (("=ada", right(TOP)), ("bob", right(TOP).replace("probabilities", "chances")), ("bad", None)):
        text = json.dumps(notebook({TOP: answer})) if answer else "{"
        (tmp_path / f"{name}.ipynb").write_text(text)
    entries = [Entry(path.name, path) for path in sorted(tmp_path.glob("*.ipynb"))]
    pairs = similar.similar(entries, None, [failed(one.name, "") for one in entries])
    assert {(one.first, one.second, one.same_names) for one in pairs} == {
        ("=ada.ipynb", similar.OWN, True),
        ("bob.ipynb", similar.OWN, False),
    }
    similar.write(tmp_path / "similar.csv", pairs)
    with open(tmp_path / "similar.csv", newline="") as file:
        first = next(csv.DictReader(file))
    assert first["first"] == "'=ada.ipynb"
    assert first["similarity"] == "1.00"


@pytest.mark.parametrize(
    "text", ["(" * 2000 + ")" * 2000, "x=" + "-" * 5000 + "1", "def induction_score(a" * 500, "\x00"]
)
def test_hostile_sources_hold_no_answer(text: str):
    assert alike(ada=text, bob=f"{text}\n{ONE}") == {}
