"""Turns a right answer into many wrong ones, by one small change each to its syntax tree.

Not the mistakes that we thought of, but those that nobody did: how robust are the checkers to them?
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    source: str
    change: str
    """The statement as it is now, its first line: how equivalent mutants are named."""


_BINARY = {
    ast.Add: [ast.Sub],
    ast.Sub: [ast.Add],
    ast.Mult: [ast.Div, ast.Add],
    ast.Div: [ast.Mult],
    ast.FloorDiv: [ast.Mod],
    ast.Mod: [ast.FloorDiv],
    ast.MatMult: [ast.Mult],
    ast.Pow: [ast.Mult],
}
_COMPARE = {
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
    seen, found = {ast.unparse(tree)}, []
    count = sum(1 for _ in ast.walk(function))
    for i in range(count):
        for new in _variants(_nth(function, i)):
            made = copy.deepcopy(tree)
            target = next(node for node in made.body if isinstance(node, ast.FunctionDef) and node.name == name)
            _replace(target, i, copy.deepcopy(new))
            text = ast.unparse(ast.fix_missing_locations(made))
            if text not in seen:
                seen.add(text)
                was = ast.unparse(tree).splitlines()
                now = [line.strip() for line in text.splitlines() if line not in was]
                found.append(Mutant(text, now[0] if now else f"without {_missing(was, text)}"))
    return found


def _missing(was: list[str], text: str) -> str:
    left = text.splitlines()
    return next((line.strip() for line in was if was.count(line) > left.count(line)), "a line")


def _nth(root: ast.AST, i: int) -> ast.AST:
    return list(ast.walk(root))[i]


def _replace(root: ast.AST, i: int, new: ast.AST) -> None:
    old = _nth(root, i)
    for parent in ast.walk(root):
        for field, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, field, new)
                return
            if isinstance(value, list) and any(item is old for item in value):
                value[[item is old for item in value].index(True)] = new
                return


def _with(node: ast.AST, **fields: object) -> ast.AST:
    made = copy.deepcopy(node)
    for field, value in fields.items():
        setattr(made, field, value)
    return made


def _variants(node: ast.AST) -> Iterator[ast.AST]:
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
            if isinstance(op, (ast.Sub, ast.Div, ast.MatMult, ast.Mod, ast.FloorDiv)):
                yield _with(node, left=copy.deepcopy(right), right=copy.deepcopy(left))
        case ast.UnaryOp(op=ast.USub() | ast.Not(), operand=operand):
            yield copy.deepcopy(operand)
        case ast.Compare(ops=[op], left=left):
            for other in _COMPARE.get(type(op), []):
                yield _with(node, ops=[other()])
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


def _call_variants(node: ast.Call, func: ast.AST, args: list, keywords: list) -> Iterator[ast.AST]:
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
    if name == "reversed" and len(args) == 1:
        yield copy.deepcopy(args[0])
