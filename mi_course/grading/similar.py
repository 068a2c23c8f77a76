"""Lists similar answers, as information for a reader. Never a verdict: short answers to one question often agree.

What is compared is the form of an answer: the symbols of its syntax tree, without docstrings, comments and annotations,
and with variables named by the order in which they come. Attributes and functions that are called keep their names. The
similarity of two answers is the share of runs of six symbols that both have (Sørensen-Dice). Stubs are left out, and so
are answers too short to mean anything, and forms that many submissions share, since the question alone explains these.

The course's own answer takes part as `OWN`, and calling it counts as having it.
"""

from __future__ import annotations

import ast
import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mi_course import content, lessons
from mi_course.grading.bounded import run_each
from mi_course.grading.intake import Entry, load
from mi_course.grading.library import library_functions
from mi_course.grading.marks import Marks
from mi_course.grading.reaching import fold
from mi_course.grading.text_files import write_csv
from mi_course.submission import PARSED_CHARACTERS

__all__ = ["OWN", "Answer", "Pair", "answers_in", "compare", "references", "similar", "write"]

OWN = "(the course's own answer)"
RUN = 6
SHORTEST = 40
"""Symbols of an answer, about three or four lines. In shorter ones similarity means nothing."""
ALIKE = 0.8
"""The similarity from which on a pair is listed."""
COMMON = 0.2
"""A share of the submissions with an answer. A form that more than these have, and more than `FEW`, is common."""
FEW = 4
LONGEST = 5_000
"""Symbols of an answer that are compared."""
ENTRY_S = 30.0
"""Processor time for reading and parsing one submission."""


@dataclass(frozen=True)
class Answer:
    """One answer's code, of one submission."""

    submission: str
    exercise: str
    symbols: tuple[str, ...]
    """Its form: its tree, in order."""
    literal: str
    """Its code without comments and in standard layout, names as they are."""
    calls_own: bool = False
    """It calls the course's implementation, whose code then stands here instead."""


@dataclass(frozen=True)
class Pair:
    first: str
    second: str
    exercise: str
    similarity: float
    same_names: bool
    """The names of variables agree too: the very same code."""
    symbols: int
    """Of the shorter answer."""
    shared_by: int
    """Submissions whose answer has the first one's form."""


def similar(entries: Sequence[Entry], lesson: str | int | None, rows: Sequence[Marks]) -> list[Pair]:
    """Pairs of similar answers, the course's own included. rows: the marks of these entries.

    Submissions are read and parsed in processes with limits; one that exceeds them has no answers. What an answer did
    when it was marked counts too: it may have called the course's own in a way that no text shows.
    """
    answers: list[Answer] = []
    for i, records, _ in run_each(lambda i: _answers_of(entries[i], lesson), len(entries), ENTRY_S):
        name = rows[i].submission
        own = [
            Answer(name, exercise, tuple(symbols), literal, calls_own)
            for exercise, symbols, literal, calls_own in records or ()
        ]
        by_text = {answer.exercise for answer in own if answer.calls_own}
        answers += own
        answers += [Answer(name, id, (), "", calls_own=True) for id in rows[i].own if id not in by_text]
    lesson_ids = dict.fromkeys(answer.exercise.partition(".")[0] for answer in answers)
    return compare(answers, [answer for id in lesson_ids for answer in references(id)])


def _answers_of(entry: Entry, lesson: str | int | None) -> list[list[Any]]:
    """The answers of one submission, as JSON."""
    from mi_course.grading.marking import choose  # imports torch

    answers: list[Answer] = []
    chosen, _, _ = choose(load(entry).files, lesson)  # a row says what is wrong with a file that is left out
    for _, submission, _ in chosen.values():
        answers += answers_in("", submission.exercises, [cell.source for cell in submission.cells])
    return [[answer.exercise, answer.symbols, answer.literal, answer.calls_own] for answer in answers]


def answers_in(submission: str, exercises: Iterable[str], sources: Sequence[str]) -> list[Answer]:
    """The last definition of each exercise in these cells. A cell that cannot be parsed holds none."""
    nodes: dict[str, ast.stmt] = {}
    aliases: dict[str, str] = {}
    texts: set[str] = set()
    for text in sources:
        if len(text) > PARSED_CHARACTERS:
            continue
        try:
            tree = ast.parse(content.python_only(text))
            texts.update(_texts(tree))
            aliases.update(_from_the_course(tree))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        for statement in tree.body:
            for name in _bound(statement):
                nodes[name] = statement
    answers = []
    for id in exercises:
        name = id.partition(".")[2]
        node = nodes.get(name)
        if node is None:
            continue
        try:
            library = library_functions().get(name, {})
            own = _calls_own(node, name, aliases) or bool(library and name in texts and INDIRECT & texts)
            library = library if own else {}
            answer = replace(_answer(submission, id, next(iter(library.values()), node)), calls_own=own)
        except (RecursionError, MemoryError, ValueError):
            continue
        answers.append(answer)
    return answers


def references(lesson: str) -> list[Answer]:
    """The course's own answers: the solution's, and the library's functions of the same name."""
    answers = []
    for exercise in lessons.load(lesson).exercises:
        with contextlib.suppress(KeyError, FileNotFoundError):
            answers += answers_in(OWN, [exercise.id], [content.solution_answer(exercise.id)])
        answers += [_answer(OWN, exercise.id, node) for node in library_functions().get(exercise.name, {}).values()]
    return answers


def compare(answers: Sequence[Answer], own: Sequence[Answer] = ()) -> list[Pair]:
    """Pairs of answers of different submissions, most similar first. own: the course's answers.

    Common forms are left out. Answers of the course's own form are paired with the course, not with each other.
    """
    pairs = [
        Pair(one.submission, OWN, one.exercise, 1.0, True, len(one.symbols), 1)
        for one in answers
        if one.calls_own and one.submission != OWN
    ]
    stubs = {one for one in answers if _is_stub(one)}
    by_exercise: dict[str, list[Answer]] = defaultdict(list)
    for one in answers:
        if one not in stubs and len(one.symbols) >= SHORTEST:
            by_exercise[one.exercise].append(one)
    attempts = Counter(exercise for exercise, _ in {(one.exercise, one.submission) for one in answers})
    for exercise, attempted in by_exercise.items():
        forms: dict[tuple[str, ...], list[Answer]] = defaultdict(list)
        for one in attempted:
            forms[one.symbols].append(one)
        most = max(FEW, COMMON * attempts[exercise])
        common = {form for form, who in forms.items() if len({one.submission for one in who}) > most}
        runs = {form: _runs(form) for form in forms}
        ours = [one for one in own if one.exercise == exercise]
        for reference in ours:
            theirs = _runs(reference.symbols)
            for form, who in forms.items():
                share = 1.0 if form == reference.symbols else _dice(runs[form], theirs)
                if share >= ALIKE:
                    pairs += [_pair(one, reference, share, len(who)) for one in who]
        explained = common | {reference.symbols for reference in ours}
        rare = [form for form in forms if form not in explained]
        for i, form in enumerate(rare):
            who = forms[form]
            pairs += [_pair(a, b, 1.0, len(who)) for j, a in enumerate(who) for b in who[j + 1 :]]
            for other in rare[i + 1 :]:
                if not 0.6 < len(form) / len(other) < 1.7:
                    continue
                share = _dice(runs[form], runs[other])
                if share >= ALIKE:
                    pairs += [_pair(a, b, share, len(who)) for a in who for b in forms[other]]
    best: dict[tuple[str, str, str], Pair] = {}
    for pair in pairs:
        key = (pair.first, pair.second, pair.exercise)
        if pair.first != pair.second and (key not in best or _rank(pair) < _rank(best[key])):
            best[key] = pair
    return sorted(best.values(), key=_rank)


def write(path: Path, pairs: Sequence[Pair]) -> None:
    """similar.csv: one row for each pair of answers."""
    header = ["first", "second", "exercise", "similarity", "same_names", "symbols", "shared_by"]
    rows = [
        (
            *(pair.first, pair.second, pair.exercise, f"{pair.similarity:.2f}"),
            *("yes" if pair.same_names else "no", pair.symbols, pair.shared_by),
        )
        for pair in pairs
    ]
    write_csv(path, header, rows)


def _pair(a: Answer, b: Answer, share: float, shared_by: int) -> Pair:
    first, second = (a, b) if b.submission == OWN else sorted((a, b), key=lambda one: one.submission)
    size = min(len(a.symbols), len(b.symbols))
    return Pair(first.submission, second.submission, a.exercise, share, a.literal == b.literal, size, shared_by)


def _rank(pair: Pair) -> tuple[object, ...]:
    return -round(pair.similarity, 4), not pair.same_names, -pair.symbols, pair.exercise, pair.first, pair.second


def _dice(a: Counter[tuple[str, ...]], b: Counter[tuple[str, ...]]) -> float:
    both = sum(min(count, b[run]) for run, count in a.items() if run in b)
    return 2 * both / max(1, a.total() + b.total())


def _runs(symbols: tuple[str, ...]) -> Counter[tuple[str, ...]]:
    return Counter(symbols[i : i + RUN] for i in range(max(1, len(symbols) - RUN + 1)))


# ---------------------------------------------------------------------------------------------------------------------
# From code to symbols


def _bound(node: ast.stmt) -> Iterable[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return [one.id for one in targets if isinstance(one, ast.Name)]
    return []


def _answer(submission: str, exercise: str, node: ast.stmt) -> Answer:
    node = _Bare().visit(ast.fix_missing_locations(ast.parse(ast.unparse(node)))).body[0]
    # Of a function the body counts, of a value the whole assignment.
    body: list[ast.AST] = list(node.body) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else [node]
    own = {
        one.id if isinstance(one, ast.Name) else one.arg
        for one in ast.walk(node)
        if isinstance(one, ast.arg) or (isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store))
    }
    symbols: list[str] = []
    order: dict[str, str] = {}
    todo = body[::-1]
    while todo and len(symbols) < LONGEST:
        one = todo.pop()
        if isinstance(one, ast.Name):
            symbols.append(order.setdefault(one.id, f"v{len(order)}") if one.id in own else one.id)
        elif isinstance(one, ast.arg):
            symbols.append(order.setdefault(one.arg, f"v{len(order)}"))
        elif isinstance(one, ast.Constant):
            symbols.append("text" if isinstance(one.value, str | bytes) else repr(one.value)[:40])
        elif not isinstance(one, ast.expr_context):
            symbols.append(type(one).__name__ + (f".{one.attr}" if isinstance(one, ast.Attribute) else ""))
            todo += list(ast.iter_child_nodes(one))[::-1]
    return Answer(submission, exercise, tuple(symbols), "\n".join(ast.unparse(one) for one in body))


class _Bare(ast.NodeTransformer):
    """Removes docstrings, annotations and decorators."""

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        self.generic_visit(node)
        if ast.get_docstring(node, clean=False) is not None and len(node.body) > 1:
            node.body = node.body[1:]
        node.returns, node.decorator_list = None, []
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = _function

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        self.generic_visit(node)
        return ast.Assign([node.target], node.value, lineno=0) if node.value else node


def _is_stub(one: Answer) -> bool:
    return "NotImplementedError" in one.symbols[:6] or one.literal.strip() in ("...", "pass")


def _from_the_course(tree: ast.Module) -> dict[str, str]:
    """Name that a cell imports from mi_course -> its full name."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mi_course":
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "mi_course":
                    names[alias.asname or "mi_course"] = alias.name if alias.asname else "mi_course"
    return names


def _texts(tree: ast.Module) -> Iterator[str]:
    """Names and constant strings, except arguments of the lesson's methods: `lesson.use("name")` names no function."""
    ignored = {
        id(argument)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LESSON_METHODS
        for argument in [*node.args, *(keyword.value for keyword in node.keywords)]
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.expr) and id(node) not in ignored and (text := fold(node)):
            yield text.rpartition(":")[2]
        elif isinstance(node, ast.Name | ast.Attribute):
            yield node.id if isinstance(node, ast.Name) else f".{node.attr}"


LESSON_METHODS = ("use", "check", "hint", "solution", "exercise")
INDIRECT = {"getattr", "vars", "eval", "exec", "__import__", ".import_module", ".__dict__", ".attrgetter", ".modules"}
"""What turns a string with a function's name into the function."""


def _calls_own(node: ast.stmt, own: str, aliases: dict[str, str]) -> bool:
    """Whether an answer names a function of the course with its exercise's name, `own`."""
    aliases = {**aliases, **_from_the_course(ast.Module([node], []))}
    for one in ast.walk(node):
        if isinstance(one, ast.Name) and aliases.get(one.id, "").rpartition(".")[2] == own:
            return True
        if isinstance(one, ast.Attribute) and one.attr == own:
            root = one.value
            while isinstance(root, ast.Attribute):
                root = root.value
            if isinstance(root, ast.Name) and root.id in aliases:
                return True
    return False
