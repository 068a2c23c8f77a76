"""Answers that are alike, as information for a reader. Never a verdict: short answers to one question often agree.

Two answers are compared as the shapes of their syntax trees: docstrings, comments and annotations are left out, the
names of variables replaced by the order in which they come; names of attributes and of functions that are called stay.
A similarity is the share of runs of six symbols that both have (Sørensen and Dice). Left out are the stub, answers too
short to tell anything, and forms that many submissions share, which only the question explains.

The course's own answer takes part under a name of its own, and calling it counts as having it.
"""

from __future__ import annotations

import ast
import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from mi_course import content, interp, lessons
from mi_course.grading.intake import Entry, load
from mi_course.grading.text_files import write_csv
from mi_course.submission import SubmissionError, parse, select_cells

__all__ = ["OWN", "Answer", "Pair", "answers_in", "compare", "references", "similar", "write"]

OWN = "(the course's own answer)"
RUN = 6
SHORTEST = 40
"""Symbols of an answer below which agreement says nothing: three or four lines."""
ALIKE = 0.8
COMMON = 0.2
"""Of the submissions of a lesson. What more than these share, and more than `FEW`, is common."""
FEW = 4
LONGEST = 20_000
"""Symbols of an answer that are looked at."""


@dataclass(frozen=True)
class Answer:
    """One answer's code, of one submission."""

    submission: str
    exercise: str
    symbols: tuple[str, ...]
    """Its tree, in order."""
    literal: str
    """Its code without layout and comments, names as they are."""
    calls_own: bool = False
    """It calls the course's implementation, whose code stands here in its place."""


@dataclass(frozen=True)
class Pair:
    first: str
    second: str
    exercise: str
    similarity: float
    same_names: bool
    """Also the names of variables agree: the very same code."""
    symbols: int
    """Of the shorter answer."""
    shared_by: int
    """Submissions whose answer has the first one's form."""


def similar(entries: Iterable[Entry], lesson: str | int | None, names: Iterable[str]) -> list[Pair]:
    """The alike answers among submissions, and with the course's own. names: as they stand in the marks."""
    found: list[Answer] = []
    for entry, name in zip(entries, names, strict=True):
        for file, raw in load(entry).files:
            try:
                base = file.rpartition("/")[2]
                submission = select_cells(parse(raw, base), base, lesson)
            except (SubmissionError, ValueError, TypeError, AttributeError, RecursionError, MemoryError):
                continue
            sources = [cell.source for cell in submission.cells]
            found += answers_in(name, submission.exercises, sources)
    lessons_met = dict.fromkeys(one.exercise.partition(".")[0] for one in found)
    return compare(found, [one for id in lessons_met for one in references(id)])


def answers_in(submission: str, exercises: Iterable[str], sources: Sequence[str]) -> list[Answer]:
    """The last definition of each exercise in these cells. What cannot be parsed holds none."""
    nodes: dict[str, ast.stmt] = {}
    aliases: dict[str, str] = {}
    for text in sources:
        try:
            tree = ast.parse(content.python_only(text))
            aliases.update(_from_the_course(tree))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        for statement in tree.body:
            for name in _bound(statement):
                nodes[name] = statement
    found = []
    for id in exercises:
        node = nodes.get(id.partition(".")[2])
        if node is None:
            continue
        try:
            own = _calls_own(node, id.partition(".")[2], aliases)
            library = _library_functions().get(id.partition(".")[2], [node]) if own else [node]
            answer = replace(_answer(submission, id, library[0]), calls_own=own)
        except (RecursionError, MemoryError, ValueError):
            continue
        found.append(answer)
    return found


def references(lesson: str) -> list[Answer]:
    """The course's own answers: the solution's, and the library's functions of the same name."""
    found = []
    for exercise in lessons.load(lesson).exercises:
        with contextlib.suppress(KeyError, FileNotFoundError):
            found += answers_in(OWN, [exercise.id], [content.solution_answer(exercise.id)])
        found += [_answer(OWN, exercise.id, node) for node in _library_functions().get(exercise.name, ())]
    return found


def compare(answers: Sequence[Answer], own: Sequence[Answer] = ()) -> list[Pair]:
    """Pairs of different submissions, most alike first.

    A form that many share is left out. One that is the course's own is listed beside that, and not in pairs.
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
    takers = Counter(exercise for exercise, _ in {(one.exercise, one.submission) for one in answers})
    for exercise, found in by_exercise.items():
        forms: dict[tuple[str, ...], list[Answer]] = defaultdict(list)
        for one in found:
            forms[one.symbols].append(one)
        most = max(FEW, COMMON * takers[exercise])
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
    # A function is told by what it does, a value by how it is made.
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
    """Without docstrings, annotations and decorators."""

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


@cache
def _library_functions() -> dict[str, list[ast.stmt]]:
    """Name -> the functions of this name in `mi_course.interp`."""
    functions: dict[str, list[ast.stmt]] = defaultdict(list)
    for path in sorted(Path(interp.__file__).parent.rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                functions[node.name].append(node)
    return dict(functions)


def _from_the_course(tree: ast.Module) -> dict[str, str]:
    """Names that a cell imports from mi_course -> where they are from."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mi_course":
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "mi_course":
                    found[alias.asname or "mi_course"] = alias.name if alias.asname else "mi_course"
    return found


def _calls_own(node: ast.stmt, own: str, aliases: dict[str, str]) -> bool:
    """Whether an answer names a function of the course that is called as its exercise is."""
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
