"""Makes wrong answers of some kinds out of a right one, without reading its code.

Each kind is a habit that is wrong on some inputs only: `.squeeze()` on an argument or on the result, a floor under
magnitudes, indices sorted or counted once, a cache that forgets one argument, a seed that is not used. The cases must
contain such an input, or show that the habit does no harm. `survivors` lists the kinds for which they do neither.
"""

from __future__ import annotations

import ast
import inspect
import random
import textwrap
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor

from mi_course import wire
from mi_course.asking import observe
from mi_course.judging import complaint_about, same
from mi_course.testing.checker import Checker
from mi_course.wire import Ask, Call, Observation, Ref, Reply

__all__ = ["ACCEPTED", "HARMLESS", "REFUSED", "UNSEEN", "Kind", "Tried", "listed", "try_kinds"]

REFUSED, HARMLESS, ACCEPTED, UNSEEN = "refused", "harmless", "accepted", "unseen"
"""What came of a kind: some case refuses it; it matters in a case, and gives what the reference gives; it matters in a
case, gives something else, and passes; or there is no case in which it matters."""

SHORT, LONG, SMALL = 0.1, 10.0, 0.01
"""Shorter vectors count as zero, larger entries are cut off, smaller results are zero."""


@dataclass(frozen=True)
class Kind:
    """A way of being wrong on some inputs."""

    name: str
    """How lists of equivalents name it: "squeeze(0) on `pattern`"."""
    attempt: Callable[[Checker, Any], str]
    """What comes of it, given the right answer."""
    keys: tuple[str, ...] = ()
    """Entries of `Exercise.fixed`, each of which says why no case can show it."""


@dataclass(frozen=True)
class Tried:
    """A kind, and what came of it."""

    name: str
    came_to: str
    reason: str | None = None
    """Why no case can show it, as the exercise says."""

    @property
    def survived(self) -> bool:
        return self.came_to in (ACCEPTED, UNSEEN)


def try_kinds(checker: Checker, answer: Any, source: str = "") -> list[Tried]:
    """Every kind that applies to the exercise. answer: a right one. source: its code, which says what may matter."""
    fixed = checker.exercise.fixed
    return [
        Tried(kind.name, kind.attempt(checker, answer), next((fixed[key] for key in kind.keys if key in fixed), None))
        for kind in _kinds(checker, answer, source)
    ]


def listed(name: str, known: Iterable[str]) -> str | None:
    """The entry of a list of equivalents that names this kind. Entries may hold `*`: "* on `pattern`"."""
    return next((entry for entry in known if name == entry or fnmatchcase(name, entry)), None)


# ---------------------------------------------------------------------------------------------------------------------
# Which kinds apply


def _kinds(checker: Checker, answer: Any, source: str) -> Iterator[Kind]:
    calls = [call for ask in checker.plan.asks for call in ask.calls]
    names = _parameters(answer, max(len(call.args) for call in calls))
    words = _words(source)
    if checker.exercise.outcome:  # judged by properties, so that rounding, say, is no fault; but its seed decides
        if "seed" in names:
            yield from _seed_kinds(names.index("seed"))
        return
    for i, name in enumerate(names):
        samples = [call.args[i] for call in calls if i < len(call.args)]
        yield from _argument_kinds(i, name, samples, words, checker.exercise.fixed)
        if {call.driver for call in calls} & {"call", "raising", "expects_error", "gradients"}:
            yield from _side_effects(i, name, samples)
        if not all(isinstance(sample, Ref) and sample.kind in ("hook", "optimizer") for sample in samples):
            yield Kind(f"a cache that forgets `{name}`", _cache(_all_but(i)), (name,))
    if any(isinstance(arg, Ref) or any(True for _ in _tensors(arg)) for call in calls for arg in call.args):
        yield Kind("a cache by shape alone", _cache(_by_shape))
    yield from _result_kinds(checker, answer)


def _parameters(answer: Any, count: int) -> list[str]:
    names = list(inspect.signature(answer).parameters)
    return [names[i] if i < len(names) else f"argument {i}" for i in range(count)]


def _words(source: str) -> set[str]:
    """Names and operators of the code."""
    if not source:
        return set()
    words: set[str] = set()
    for node in ast.walk(ast.parse(textwrap.dedent(source))):
        match node:
            case ast.Attribute(attr=word) | ast.Name(id=word):
                words.add(word)
            case ast.BinOp(op=ast.Div()):
                words.add("/")
    return words


_RANKING = {"topk", "sort", "sorted", "argsort", "argmax", "argmin", "max", "min", "kthvalue", "unique", "amax", "amin"}
_DIVIDING = {"/", "norm", "vector_norm", "normalize", "cosine_similarity", "mean", "std"}
_INDEX_NAMES = {
    *(
        "head",
        "layer",
        "pos",
        "position",
        "latent",
        "feature",
        "index",
        "i",
        "token",
        "answer",
        "target",
        "last",
        "bos",
    ),
    *("coefficient", "strength", "alpha", "threshold", "scale", "probability", "l1", "bandwidth"),
}
"""Arguments that may be 0, where `if not head` goes wrong."""


def _argument_kinds(
    i: int, name: str, samples: Sequence[Any], words: set[str], fixed: Collection[str]
) -> Iterator[Kind]:
    of = f"on `{name}`"
    if name == "seed":
        yield from _seed_kinds(i)
        return
    tensors = [t for sample in samples for t in _tensors(sample)]
    floats = [t for t in tensors if t.is_floating_point()]
    numbers = [s for s in samples if isinstance(s, (int, float)) and not isinstance(s, bool)]
    real = any(isinstance(n, float) for n in numbers)
    if tensors:
        axes = [f"{name}[{axis}]" for axis in range(max(t.ndim for t in tensors))]
        whole = tuple(axes[:1]) if all(axis in fixed for axis in axes) else ()
        yield _altered(i, f"squeeze() {of}", _on_tensors(Tensor.squeeze), *whole)
        for axis, key in enumerate(axes):
            yield _altered(i, f"squeeze({axis}) {of}", _on_tensors(_squeeze(axis)), key)
    if floats:
        yield _altered(i, f"abs {of}", _on_floats(torch.abs), name, f"{name}>=0")
        yield _altered(i, f"large entries of `{name}` cut off", _on_floats(lambda t: t.clamp(-LONG, LONG)), name)
        yield _altered(i, f"short vectors of `{name}` made zero", _on_floats(_without_short), name)
        yield _altered(i, f"`{name}` rounded", _on_floats(lambda t: t.round(decimals=1)), name)
        if words & _DIVIDING and any(t.ndim > 1 for t in floats):
            zero = f"{name}=0"
            yield _altered(i, f"rows of zeros left out of `{name}`", _on_floats(_without_zero_rows), name, zero)
        if words & _RANKING:
            yield _altered(i, f"equal entries of `{name}` counted once", _on_floats(_equal_once), name)
    if real:
        yield _altered(i, f"abs {of}", _on_numbers(abs), name, f"{name}>=0")
        yield _altered(i, f"`{name}` rounded", _on_numbers(round), name)
    if real or (numbers and name in _INDEX_NAMES):
        yield _altered(i, f"`{name}` of 0 taken for none given", _on_numbers(lambda n: n or type(n)(1)), f"{name}=0")
    if any(map(_is_listing, samples)):
        yield _altered(i, f"`{name}` sorted", lambda s: _sorted(s) if _is_listing(s) else s, name)
        once = f"repeated entries of `{name}` counted once"
        yield _altered(i, once, lambda s: _unique(s) if _is_listing(s) else s, name, f"{name}=twice")


def _is_listing(value: Any) -> bool:
    """A list of indices, names or numbers, or a vector of whole numbers."""
    if isinstance(value, Tensor):
        return value.ndim == 1 and not value.is_floating_point() and value.dtype != torch.bool
    flat = (int, float, str, tuple)
    return isinstance(value, list) and all(isinstance(v, flat) and not isinstance(v, bool) for v in value)


def _sorted(value: Any) -> Any:
    return value.sort().values if isinstance(value, Tensor) else type(value)(sorted(value))


def _unique(value: Any) -> Any:
    if isinstance(value, Tensor):
        return torch.tensor(list(dict.fromkeys(value.tolist())), dtype=value.dtype)
    return type(value)(dict.fromkeys(value))


def _seed_kinds(i: int) -> Iterator[Kind]:
    fresh = random.Random(0)
    yield _altered(i, "a fresh seed", _on_numbers(lambda n: fresh.randrange(2**31)))
    yield _altered(i, "the seed ignored", _on_numbers(lambda n: 12345))


# ---------------------------------------------------------------------------------------------------------------------
# Changes of a value


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


def _on_tensors(change: Callable[[Tensor], Tensor]) -> Callable[[Any], Any]:
    def changed(value: Any) -> Any:
        if isinstance(value, Tensor):
            return change(value)
        if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
            return type(value)(changed(item) for item in value)
        return value

    return changed


def _on_floats(change: Callable[[Tensor], Tensor]) -> Callable[[Any], Any]:
    return _on_tensors(lambda t: change(t) if t.is_floating_point() else t)


def _on_numbers(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda n: change(n) if isinstance(n, (int, float)) and not isinstance(n, bool) else n


def _everywhere(tensors: Callable[[Tensor], Tensor], numbers: Callable[[Any], Any] = lambda n: n) -> Callable[..., Any]:
    """On the tensors and the numbers that a result holds. Neither whole numbers nor truth values are changed."""

    def changed(value: Any) -> Any:
        if isinstance(value, Tensor):
            return tensors(value)
        if isinstance(value, float):
            return numbers(value)
        if isinstance(value, (list, tuple)):
            return type(value)(changed(item) for item in value)
        if isinstance(value, dict):
            return {key: changed(item) for key, item in value.items()}
        return value

    return changed


def _squeeze(axis: int) -> Callable[[Tensor], Tensor]:
    return lambda t: t.squeeze(axis) if t.ndim > axis else t


def _without_short(t: Tensor) -> Tensor:
    """Vectors along the last axis that are shorter than SHORT become zero."""
    if t.ndim == 0:
        return torch.where(t.abs() < SHORT, 0.0, t)
    return torch.where(t.norm(dim=-1, keepdim=True) < SHORT, 0.0, t)


def _without_zero_rows(t: Tensor) -> Tensor:
    if t.ndim < 2:
        return t
    kept = (t != 0).flatten(1).any(1)
    return t[kept] if kept.any() and not kept.all() else t


def _equal_once(t: Tensor) -> Tensor:
    """Of equal entries along the last axis, all but the first become the least of all."""
    if t.ndim == 0 or t.numel() > 20_000:
        return t
    rows = t.reshape(-1, t.shape[-1]).tolist()
    if all(len(set(row)) == len(row) for row in rows):
        return t
    least = float(t.min()) - 1
    once = [[x if x not in row[:j] else least for j, x in enumerate(row)] for row in rows]
    return torch.tensor(once, dtype=t.dtype).reshape(t.shape)


def _differ(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape != b.shape or not torch.equal(a.nan_to_num(7.25), b.nan_to_num(7.25))
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) != len(b) or any(map(_differ, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) != list(b) or any(_differ(a[key], b[key]) for key in a)
    return isinstance(a, (bool, int, float, str)) and bool(a != b)


# ---------------------------------------------------------------------------------------------------------------------
# Changed arguments, and what the call leaves behind: the answer is run


def _altered(i: int, name: str, change: Callable[[Any], Any], *keys: str) -> Kind:
    """The answer gets argument `i` changed."""
    return Kind(name, lambda checker, answer: _run(checker, answer, _with_argument(answer, i, change), i, change), keys)


class _Wrapped:
    """An answer that is called through a wrapper, which notes whether it made a difference."""

    def __init__(self, call: Callable[..., tuple[Any, bool]], name: str) -> None:
        self.call, self.mattered, self.__name__ = call, False, name

    def __call__(self, *args: Any) -> Any:
        returned, mattered = self.call(*args)
        self.mattered |= mattered
        return returned


def _with_argument(answer: Any, i: int, change: Callable[[Any], Any]) -> _Wrapped:
    def call(*args: Any) -> tuple[Any, bool]:
        args_ = list(args)
        if i < len(args):
            args_[i] = change(args[i])
        mattered = i < len(args) and _differ(args[i], args_[i])
        returned = answer(*args_)
        if returned is None and mattered and i == 0 and isinstance(args[0], Tensor):
            returned = args_[0]  # a hook that works in place
        return returned, mattered

    return _Wrapped(call, getattr(answer, "__name__", "answer"))


_PASSED_ON = {"call", "hook", "gradients", "raising", "expects_error"}
"""Drivers whose arguments an Ask shows, so that it is known beforehand where a change matters."""


def _run(checker: Checker, answer: Any, wrong: _Wrapped, i: int, change: Callable[[Any], Any]) -> str:
    came_to = UNSEEN
    for place, ask in enumerate(checker.plan.asks):
        if not any(_may_matter(call, i, change) for call in ask.calls):
            continue
        wrong.mattered = False
        observation = observe(wrong, ask)
        if complaint_about(observation, checker.truths, place):
            return REFUSED
        if wrong.mattered:
            right = checker.ask(answer, ask)
            came_to = HARMLESS if came_to != ACCEPTED and _equal_replies(observation, right) else ACCEPTED
    return came_to


def _may_matter(call: Call, i: int, change: Callable[[Any], Any]) -> bool:
    if i >= len(call.args):
        return call.driver == "train"
    return call.driver not in _PASSED_ON or (
        not isinstance(call.args[i], Ref) and _differ(call.args[i], change(call.args[i]))
    )


def _equal_replies(a: Observation, b: Observation) -> bool:
    """Much closer than a tolerance: what is tiny may be lost, and pass because it is tiny."""
    return all(same(x.value, y.value, rtol=1e-5, atol=1e-10) for x, y in zip(a.replies, b.replies, strict=True))


def _side_effects(i: int, name: str, samples: Sequence[Any]) -> Iterator[Kind]:
    """Policy for every exercise: a call leaves its arguments and its models as they were."""
    if any(isinstance(s, (Tensor, list)) for s in samples):
        yield Kind(f"`{name}` changed in place", _leaving(i, _spoil))
    if any(isinstance(s, Ref) and s.kind == "model" for s in samples):
        yield Kind(f"a hook left on `{name}`", _leaving(i, _leave_hook))


def _leaving(i: int, spoil: Callable[[Any], bool]) -> Callable[[Checker, Any], str]:
    def attempt(checker: Checker, answer: Any) -> str:
        def call(*args: Any) -> tuple[Any, bool]:
            returned = answer(*args)
            kept = wire.plain(returned) if isinstance(returned, Tensor) and not returned.requires_grad else returned
            return kept, spoil(args[i])

        wrong = _Wrapped(call, getattr(answer, "__name__", "answer"))
        came_to = UNSEEN
        for place, ask in enumerate(checker.plan.asks):
            if not all(
                call.driver in ("call", "raising", "expects_error") and i < len(call.args) for call in ask.calls
            ):
                continue
            wrong.mattered = False
            if complaint_about(observe(wrong, ask), checker.truths, place):
                return REFUSED
            came_to = ACCEPTED if wrong.mattered else came_to
        return came_to

    return attempt


def _spoil(value: Any) -> bool:
    if isinstance(value, Tensor) and value.numel():
        with torch.no_grad():
            value.copy_(~value if value.dtype == torch.bool else value + 1)
        return True
    if isinstance(value, list) and value:
        value.append(value[0])
        return True
    return False


def _leave_hook(model: Any) -> bool:
    model.unembed.register_forward_hook(lambda module, inputs, output: None)
    return True


# ---------------------------------------------------------------------------------------------------------------------
# Caches: the reply to one call is put in place of the reply to another


def _all_but(i: int) -> Callable[[Call], bytes]:
    return lambda call: wire.encode([_bare(call), [arg for j, arg in enumerate(call.args) if j != i]])


def _by_shape(call: Call) -> bytes:
    return wire.encode([_bare(call), [_shape(arg) for arg in call.args]])


def _bare(call: Call) -> list[Any]:
    return [call.driver, _shape(call.options)]


def _shape(value: Any) -> Any:
    if isinstance(value, Tensor):
        return list(value.shape)
    if isinstance(value, Ref):
        options = {key: _shape(item) for key, item in value.options.items() if key != "seed"}
        return {key: len(item) if isinstance(item, list) else item for key, item in options.items()}
    if isinstance(value, (list, tuple)):
        return [_shape(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _shape(item) for key, item in value.items()}
    return value


def _cache(key: Callable[[Call], bytes]) -> Callable[[Checker, Any], str]:
    def attempt(checker: Checker, answer: Any) -> str:
        came_to = UNSEEN
        known: dict[bytes, tuple[Ask, int]] = {}
        for place, ask in enumerate(checker.plan.asks):
            replies: dict[int, Reply] = {}
            for j, call in enumerate(ask.calls):
                first, at = known.setdefault(key(call), (ask, j))
                if not (first is ask and at == j) and wire.encode(list(first.calls[at].args)) != wire.encode(
                    list(call.args)
                ):
                    replies[j] = checker.ask(answer, first).replies[at]
            if not replies:
                continue
            right = checker.ask(answer, ask)
            wrong = replace(right, replies=tuple(replies.get(j, reply) for j, reply in enumerate(right.replies)))
            if complaint_about(wrong, checker.truths, place):
                return REFUSED
            came_to = HARMLESS if came_to != ACCEPTED and _equal_replies(wrong, right) else ACCEPTED
        return came_to

    return attempt


# ---------------------------------------------------------------------------------------------------------------------
# Changed results: nothing is run, the recorded reply is changed


def _result_kinds(checker: Checker, answer: Any) -> Iterator[Kind]:
    results = [_result(call, reply.value) for call, reply in _calls(checker, answer) if reply.returned]
    leaves = [leaf for result in results for leaf in _leaves(result)]
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    if any(t.ndim for t in tensors):
        axes = [f"result[{axis}]" for axis in range(max(t.ndim for t in tensors))]
        fixed = checker.exercise.fixed
        whole = tuple(axes[:1]) if all(axis in fixed for axis in axes) else ()
        yield _changed_result("squeeze() on the result", _everywhere(Tensor.squeeze), *whole)
        for axis, key in enumerate(axes):
            yield _changed_result(f"squeeze({axis}) on the result", _everywhere(_squeeze(axis)), key)
    if any(isinstance(leaf, float) or (isinstance(leaf, Tensor) and leaf.is_floating_point()) for leaf in leaves):
        yield _changed_result("abs on the result", _everywhere(_if_float(torch.abs), abs), "result>=0")
        cut = _everywhere(_if_float(lambda t: t.clamp(-LONG, LONG)), lambda n: max(-LONG, min(LONG, n)))
        yield _changed_result("large results cut off", cut, "result<=1")
        zeroed = _everywhere(
            _if_float(lambda t: torch.where(t.abs() < SMALL, 0.0, t)), lambda n: 0.0 if abs(n) < SMALL else n
        )
        if any(SMALL > abs(x) > SMALL / 10 for leaf in leaves for x in _floats(leaf)):
            yield _changed_result("small results made zero", zeroed)
        rounded = _everywhere(_if_float(lambda t: t.round(decimals=2)), lambda n: round(n, 2))
        yield _changed_result("the result rounded", rounded)


def _if_float(change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda t: change(t) if t.is_floating_point() else t


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, dict):
        yield from _leaves(list(value.values()))
    else:
        yield value


def _floats(leaf: Any) -> list[float]:
    if isinstance(leaf, Tensor) and leaf.is_floating_point():
        return leaf.flatten().tolist()
    return [leaf] if isinstance(leaf, float) else []


_RECORDS = {"gradients": "output", "train": "losses", "hook_factory": "activations", "expects_error": "returned"}
"""Where a driver's record holds what the answer returned."""


def _result(call: Call, value: Any) -> Any:
    return value[_RECORDS[call.driver]] if call.driver in _RECORDS else None if call.driver == "raising" else value


def _with_result(call: Call, value: Any, result: Any) -> Any:
    return {**value, _RECORDS[call.driver]: result} if call.driver in _RECORDS else result


def _calls(checker: Checker, answer: Any) -> Iterator[tuple[Call, Reply]]:
    for ask in checker.plan.asks:
        yield from zip(ask.calls, checker.ask(answer, ask).replies, strict=True)


def _changed_result(name: str, change: Callable[[Any], Any], *keys: str) -> Kind:
    def attempt(checker: Checker, answer: Any) -> str:
        mattered = False
        for place, ask in enumerate(checker.plan.asks):
            right = checker.ask(answer, ask)
            replies = []
            for call, reply in zip(ask.calls, right.replies, strict=True):
                result = _result(call, reply.value)
                wrong = change(result)
                if reply.returned and _differ(result, wrong):
                    reply = replace(reply, value=_with_result(call, reply.value, wrong))
                replies.append(reply)
            if all(new is old for new, old in zip(replies, right.replies, strict=True)):
                continue
            mattered = True
            if complaint_about(replace(right, replies=tuple(replies)), checker.truths, place):
                return REFUSED
        # Values that are too small to be told from 0 are no case for it.
        return ACCEPTED if mattered else UNSEEN

    return Kind(name, attempt, keys)
