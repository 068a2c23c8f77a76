"""`mi-course new`: writes every file that a new lesson or exercise needs, to be filled in.

Whatever an author has to write says "not written yet": `mi-course build --check` lists each such line, and the proof of
the exercise fails.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from string import Template

from mi_course import lessons
from mi_course.content import root, solutions_dir
from mi_course.errors import CourseError
from mi_course.interp.atomic_write import atomic_write
from mi_course.lessons import LessonInfo, catalogue, find

__all__ = ["new_exercise", "new_lesson"]

LESSON_SOURCE = """\
# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] id="title"
# # {{lesson}}
#
# (not written yet) What the learner can do afterwards, in one sentence.
#
# About {{minutes}} minutes · {{points}} points · after lesson 00.

# %% id="setup"
import torch
import mi_course
from mi_course import show

lesson, model = mi_course.lesson("$id"), mi_course.load_model()

# %% id="claims-recap" tags=["claims"]
from mi_course import claim

claim("(not written yet) What the recap says, with its margin.", ...)

# %% [markdown] id="recap"
# ## What you have done
#
# (not written yet) What was found, and what was not.

# %% id="status" tags=["not-compared"]
lesson.status()

# %% [markdown] id="next"
# **Next:** {{next}}
"""

EXERCISE_CELLS = '''\
# %% [markdown] id="ask-$name"
# {{exercise $name}}
#
# (not written yet) One sentence that says what is asked.


# %% id="answer-$name"
from jaxtyping import Float
from torch import Tensor


def $name(x: Float[Tensor, "batch d"]) -> Float[Tensor, "batch"]:
    """(not written yet) What goes in and comes out: shapes, units."""
    # BEGIN SOLUTION
    raise NotImplementedError("not written yet")
    # END SOLUTION


lesson.check($name)

'''

EXERCISE_MODULE = '''\
"""The exercise `$name`."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mi_course.exercises import Case, Exercise, Mistake, Part, RandomInputs, case


def _oracle(x: Tensor) -> Tensor:
    """The truth by an independent route: a loop, a closed form, PyTorch; never the reference solution."""
    raise NotImplementedError("not written yet")


def _cases(draw: RandomInputs, size: str) -> Sequence[Case]:
    """Several shapes, batches above one, nothing symmetric, and an answer that cannot be guessed."""
    # The inputs are an example; the right ones are not written yet.
    return [case(draw.normal(batch, 5), about=f"batch {batch}, d 5") for batch in (2, 3)]


def _first_mistake(x: Tensor) -> Tensor:
    """A wrong answer that learners really give."""
    raise NotImplementedError("not written yet")


$constant = Exercise(
    id="$lesson.$name",
    task="(not written yet) What is asked, in one sentence.",
    parts=(Part("(not written yet) what these cases show", 2, _cases),),
    mistakes=(Mistake("first_mistake", "(not written yet) What was seen, expected, where to look.", _first_mistake),),
    hints=("(not written yet) A nudge.", "(not written yet) Nearly the answer."),
    reveal="(not written yet) Why the answer is right.",
    minutes=5,
    difficulty=1,
    oracle=_oracle,
)
'''

ALTERNATIVES = """\
def ${name}_another_way(x):
    raise NotImplementedError("not written yet")


def ${name}_by_a_loop(x):
    raise NotImplementedError("not written yet")


"""


def new_lesson(id: str, number: int | None = None, title: str = "", minutes: int = 60) -> list[Path]:
    """Write the files of a lesson without exercises, and add it to the catalogue. Returns the paths written.

    number: the next free one unless given. Raises CourseError, and writes nothing, if the id or number is taken.
    """
    _in_a_clone()
    if not re.fullmatch(r"[a-z][a-z0-9_]*", id):
        raise CourseError(f"{id!r} is not a lesson id: use a-z, 0-9 and _, such as my_lesson.")
    number = max(info.number for info in lessons.OURS) + 1 if number is None else number
    for info in catalogue():
        if info.id == id or info.number == number:
            raise CourseError(f"Lesson {info.number} is {info.id}: choose another id, or --number.")
    title = title or id.replace("_", " ").capitalize()
    info = LessonInfo(number, id, title, minutes, f"{number:02d}_{id}", f"mi_course.lessons.{id}")
    init = Path(lessons.__file__)
    quoted = json.dumps(title, ensure_ascii=False)
    entry = f'LessonInfo({number}, "{id}", {quoted}, {minutes}, "{info.notebook}", "{info.module}")'
    return _write(
        {
            init: _append(init, "OURS", entry),
            init.parent / id / "__init__.py": f'"""Lesson {number:02d}: {title}."""\n\nEXERCISES = ()\n',
            solutions_dir(info) / f"{info.notebook}.py": Template(LESSON_SOURCE).substitute(id=id),
            _alternatives(info): f'"""Other right answers to lesson {number:02d}."""\n\n\nANSWERS = {{}}\n',
        }
    )


def new_exercise(id: str) -> list[Path]:
    """Write all that the exercise `<lesson>.<name>` needs, and register it. Returns the paths written.

    Raises UnknownName for an unknown lesson, CourseError for a name that is taken or is not an identifier.
    """
    _in_a_clone()
    lesson, _, name = id.partition(".")
    info = find(lesson)
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise CourseError(f"{name!r} is not an exercise name: use a-z, 0-9 and _. Write it as LESSON.NAME.")
    init = Path(lessons.__file__).parent / info.id / "__init__.py"
    if info.folder or not init.is_file():
        raise CourseError(f"{info.module} is not a package of ours, mi_course/lessons/{info.id}/: write it by hand.")
    module, source = init.with_name(f"{name}.py"), solutions_dir(info) / f"{info.notebook}.py"
    if module.exists() or f'id="answer-{name}"' in source.read_text(encoding="utf-8"):
        raise CourseError(f"{info.id} has a module or an answer cell {name} already.")
    names = {"lesson": info.id, "name": name, "constant": name.upper()}
    alternatives = _alternatives(info)
    answers = _append(alternatives, "ANSWERS", f'"{name}": [{name}_another_way, {name}_by_a_loop]')
    line = f"from {info.module}.{name} import {name.upper()}\n"
    return _write(
        {
            module: Template(EXERCISE_MODULE).substitute(names),
            init: _with_import(_append(init, "EXERCISES", name.upper()), line),
            source: _before_recap(source.read_text(encoding="utf-8"), Template(EXERCISE_CELLS).substitute(names)),
            alternatives: re.sub(r"(?m)^ANSWERS\b", Template(ALTERNATIVES).substitute(names) + "ANSWERS", answers),
        }
    )


def _in_a_clone() -> None:
    if root().name == "_content":
        raise CourseError("This is an installed course. Lessons are written in a clone of its repository.")


def _alternatives(info: LessonInfo) -> Path:
    return root() / "tests" / "alternatives" / f"{info.id}.py"


def _write(texts: dict[Path, str]) -> list[Path]:
    for path, text in texts.items():
        path.parent.mkdir(exist_ok=True)
        atomic_write(path, text)
    return list(texts)


def _append(path: Path, name: str, element: str) -> str:
    """The file's text with an element added to the tuple or dictionary that is assigned to `name`."""
    text = path.read_text(encoding="utf-8")
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == name:
            lines = text.splitlines(keepends=True)
            end = sum(map(len, lines[: node.value.end_lineno - 1])) + len(
                lines[node.value.end_lineno - 1].encode()[: node.value.end_col_offset].decode()
            )
            before = text[: end - 1].rstrip()
            comma = "" if before.endswith((",", "(", "{")) else ","
            return f"{before}{comma}\n    {element},\n{text[end - 1 :]}"
    raise CourseError(f"{path} assigns no {name}.")


def _with_import(text: str, line: str) -> str:
    """The text with an import among the others, in order."""
    imports = [node for node in ast.parse(text).body if isinstance(node, ast.ImportFrom)]
    lines = text.splitlines(keepends=True)
    later = [node.lineno - 1 for node in imports if lines[node.lineno - 1] > line]
    at = later[0] if later else imports[-1].end_lineno if imports else 1
    return "".join([*lines[:at], *([] if imports else ["\n"]), line, *lines[at:]])


def _before_recap(text: str, cells: str) -> str:
    """The lesson's source with more cells before its recap, or at its end."""
    recap = re.search(r'(?m)^# %%.* id="(claims-recap|recap|status)"', text)
    return f"{text[: recap.start()]}{cells}{text[recap.start() :]}" if recap else f"{text.rstrip()}\n\n{cells}"
