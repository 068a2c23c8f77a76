"""Makes wrong answers out of a right one, by one small change each to its syntax tree.

They are not the mistakes that an author thought of, but those that nobody did: do the cases refuse them too?
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["Mutant", "mutants"]


@dataclass(frozen=True)
class Mutant:
    """A changed source."""

    source: str
    change: str
    """The first line of the changed statement: how EQUIVALENT names mutants."""


_BINARY: dict[type[ast.operator], list[type[ast.operator]]] = {
    ast.Add: [ast.Sub],
    ast.Sub: [ast.Add],
    ast.Mult: [ast.Div, ast.Add],
    ast.Div: [ast.Mult],
    ast.FloorDiv: [ast.Mod],
    ast.Mod: [ast.FloorDiv],
    ast.MatMult: [ast.Mult],
    ast.Pow: [ast.Mult],
}
_COMPARE: dict[type[ast.cmpop], list[type[ast.cmpop]]] = {
    ast.Gt: [ast.GtE, ast.Lt],
    ast.GtE: [ast.Gt, ast.LtE],
    ast.Lt: [ast.LtE, ast.Gt],
    ast.LtE: [ast.Lt, ast.GtE],
    ast.Eq: [ast.NotEq],
    ast.NotEq: [ast.Eq],
    ast.Is: [ast.IsNot],
    ast.IsNot: [ast.Is],
    ast.In: [ast.NotIn],
    ast.NotIn: [ast.In],
}
_NAMES = {
    "mean": ["sum"],
    "sum": ["mean"],
    "max": ["min"],
    "min": ["max"],
    "topk": ["sort"],
    "softmax": ["log_softmax"],
    "log_softmax": ["softmax"],
    "argmax": ["argmin"],
    "any": ["all"],
    "all": ["any"],
    "zeros": ["ones"],
    "ones": ["zeros"],
    "zeros_like": ["ones_like"],
    "logsumexp": ["sum"],
    "exp": ["log"],
    "log": ["exp"],
    "relu": ["abs"],
    "backward": ["detach"],
}
_DROPPED_METHODS = {"T", "detach", "clone", "abs", "relu", "sqrt", "square", "float"}


def mutants(source: str, name: str) -> list[Mutant]:
    """Every mutant of the function `name` in this source; each parses, and no two are the same."""
    tree = ast.parse(source)
    function = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
    for node in ast.walk(function):  # annotations do nothing
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.FunctionDef):
            node.returns = None
    original = ast.unparse(tree)
    before = original.splitlines()
    made: dict[str, Mutant] = {}
    for i, node in enumerate(list(ast.walk(function))):
        for variant in _variants(node):
            changed = copy.deepcopy(tree)
            target = next(node for node in changed.body if isinstance(node, ast.FunctionDef) and node.name == name)
            _replace(target, i, copy.deepcopy(variant))
            source = ast.unparse(ast.fix_missing_locations(changed))
            if source != original and source not in made:
                new = [line.strip() for line in source.splitlines() if line not in before]
                made[source] = Mutant(source, new[0] if new else f"without {_missing_line(before, source)}")
    return list(made.values())


def _missing_line(before: list[str], source: str) -> str:
    after = source.splitlines()
    return next((line.strip() for line in before if before.count(line) > after.count(line)), "a line")


def _replace(root: ast.AST, i: int, new: ast.AST) -> None:
    """Replace the `i`-th node of `ast.walk(root)`."""
    old = list(ast.walk(root))[i]
    for parent in ast.walk(root):
        for field, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, field, new)
                return
            if isinstance(value, list) and any(item is old for item in value):
                value[[item is old for item in value].index(True)] = new
                return


def _with(node: ast.AST, **fields: object) -> Any:
    """A copy of the node with other fields."""
    changed = copy.deepcopy(node)
    for field, value in fields.items():
        setattr(changed, field, value)
    return changed


def _variants(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in place of a node."""
    match node:
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield ast.Constant(value + 1)
            yield ast.Constant(value - 1)
        case ast.Constant(value=float(value)):
            yield ast.Constant(value + 1.0)
            yield ast.Constant(value * 2 or -1.0)
        case ast.BinOp(left=left, op=op, right=right):
            for other in _BINARY.get(type(op), []):
                yield _with(node, op=other())
            yield copy.deepcopy(left)
            yield copy.deepcopy(right)
            if isinstance(op, ast.Div):  # a guard against zero that is too wide
                yield _with(node, right=ast.BinOp(copy.deepcopy(right), ast.Add(), ast.Constant(0.01)))
            if isinstance(op, (ast.Sub, ast.Div, ast.MatMult, ast.Mod, ast.FloorDiv)):
                yield _with(node, left=copy.deepcopy(right), right=copy.deepcopy(left))
        case ast.UnaryOp(op=ast.USub() | ast.Not(), operand=operand):
            yield copy.deepcopy(operand)
        case ast.Compare(ops=[ast.Is() | ast.IsNot() as op], left=left, comparators=[ast.Constant(value=None)]):
            # `if not head` in place of `if head is None`
            yield ast.UnaryOp(ast.Not(), copy.deepcopy(left)) if isinstance(op, ast.Is) else copy.deepcopy(left)
            yield _with(node, ops=[_COMPARE[type(op)][0]()])
        case ast.Compare(ops=[op], left=left, comparators=[right]):
            if isinstance(op, (ast.Gt, ast.GtE, ast.Lt, ast.LtE)):  # a threshold moved a little
                for by in (ast.Add(), ast.Sub()):
                    yield _with(node, comparators=[ast.BinOp(copy.deepcopy(right), by, ast.Constant(0.03))])
            for comparison in _COMPARE.get(type(op), []):
                yield _with(node, ops=[comparison()])
        case ast.BoolOp(op=op):
            yield _with(node, op=ast.Or() if isinstance(op, ast.And) else ast.And())
        case ast.IfExp(body=body, orelse=orelse):
            yield copy.deepcopy(body)
            yield copy.deepcopy(orelse)
        case ast.If():
            yield _with(node, test=ast.Constant(True))
            yield _with(node, test=ast.Constant(False))
        case ast.Slice(lower=lower, upper=upper):
            if lower is not None:
                yield _with(node, lower=None)
            if upper is not None:
                yield _with(node, upper=None)
            if lower is None and upper is None:
                yield ast.Slice(lower=ast.Constant(1), upper=None)
                yield ast.Slice(lower=None, upper=ast.Constant(-1))
        case ast.Tuple(elts=elts, ctx=ast.Load()) if len(elts) > 1:
            yield _with(node, elts=[elts[1], elts[0], *elts[2:]])
            yield _with(node, elts=elts[1:])
        case ast.Call(func=func, args=args, keywords=keywords):
            yield from _call_variants(node, func, args, keywords)
        case ast.Attribute(attr=attr, value=value) if attr in _DROPPED_METHODS:
            yield copy.deepcopy(value)
        case ast.comprehension(ifs=[_, *_]):
            yield _with(node, ifs=[])
        case ast.Expr(value=ast.Call()) | ast.Assign() | ast.AugAssign():
            yield ast.Pass()
        case ast.Break():
            yield ast.Continue()
        case ast.Return(value=value) if value is not None:
            yield ast.Return(ast.Constant(None))


def _call_variants(
    node: ast.Call, func: ast.AST, args: list[ast.expr], keywords: list[ast.keyword]
) -> Iterator[ast.AST]:
    name = func.attr if isinstance(func, ast.Attribute) else func.id if isinstance(func, ast.Name) else ""
    for other in _NAMES.get(name, []):
        field = "attr" if isinstance(func, ast.Attribute) else "id"
        yield _with(node, func=_with(func, **{field: other}))
    if isinstance(func, ast.Attribute) and name in _DROPPED_METHODS:
        yield copy.deepcopy(func.value)
    if len(args) > 1 and not any(isinstance(arg, ast.Starred) for arg in args):
        for i in range(len(args) - 1):
            swapped = list(args)
            swapped[i], swapped[i + 1] = swapped[i + 1], swapped[i]
            yield _with(node, args=swapped)
    for i in range(len(keywords)):
        yield _with(node, keywords=keywords[:i] + keywords[i + 1 :])
    if name == "manual_seed":
        yield _with(node, func=_with(func, attr="seed"), args=[])
    if name in ("all", "any") and isinstance(func, ast.Attribute):  # nearly all, or more than a few
        numbers = ast.Call(ast.Attribute(copy.deepcopy(func.value), "float", ast.Load()), [], [])
        share = ast.Call(ast.Attribute(numbers, "mean", ast.Load()), args, keywords)
        yield ast.Compare(share, [ast.Gt()], [ast.Constant(0.985 if name == "all" else 0.015)])
    if name == "reversed" and len(args) == 1:
        yield copy.deepcopy(args[0])
