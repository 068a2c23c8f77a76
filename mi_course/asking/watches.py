"""Watches: what else is observed around a call. An answer that forges them can only hide that it is untidy.

arguments      which arguments have changed; the entries of a cache are compared one by one
random_state   whether the global random state is as we set it
model          each model's number of hooks before and after; its logits too, unless hooks were left or nothing changed
hooks          only the number of hooks, before and after (for training, which changes the logits)
calls          what the functions among the arguments were called with
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mi_course.asking.references import Function, forward_hooks, loan_of

__all__ = ["WATCHES"]

Watch = Callable[[list[Any]], Callable[[], Any]]
"""Takes the arguments before the call; returns a function that returns what it observes after the call."""


def _copy(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, (list, tuple)):
        return [_copy(item) for item in value]
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if hasattr(value, "cache_dict"):
        return _copy(value.cache_dict)
    return value if isinstance(value, (bool, int, float, str)) else None


def _differences(before: Any, now: Any, path: str) -> list[str]:
    if isinstance(before, Tensor):
        same = (
            isinstance(now, Tensor)
            and before.shape == now.shape
            and torch.equal(before.nan_to_num(), now.detach().nan_to_num())
        )
        return [] if same else [path]
    if isinstance(before, list):
        if not isinstance(now, (list, tuple)) or len(now) != len(before):
            return [path]
        return [d for i, (b, n) in enumerate(zip(before, now, strict=True)) for d in _differences(b, n, f"{path}[{i}]")]
    if isinstance(before, dict):
        now = getattr(now, "cache_dict", now)
        if not isinstance(now, dict) or set(now) != set(before):
            return [path]
        return [d for key, b in before.items() for d in _differences(b, now[key], f"{path}[{key!r}]")]
    return [] if before is None or before == now else [path]


def arguments(args: list[Any]) -> Callable[[], Any]:
    before = [_copy(arg) for arg in args]

    def after() -> list[str]:
        changed = [
            d for i, (b, arg) in enumerate(zip(before, args, strict=True)) for d in _differences(b, arg, f"[{i}]")
        ]
        return changed[:20]

    return after


def random_state(args: list[Any]) -> Callable[[], Any]:
    seed = torch.initial_seed() % 2**31

    def numbers() -> list[float]:
        return [random.random(), float(np.random.random()), float(torch.rand(()))]

    def reset() -> None:
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)

    reset()
    expected = numbers()
    reset()

    def after() -> dict[str, bool]:
        pairs = zip(("random", "numpy", "torch"), numbers(), expected, strict=True)
        return {name: now == before for name, now, before in pairs}

    return after


def _models(args: list[Any]) -> list[Any]:
    return [arg for arg in args if isinstance(arg, torch.nn.Module)]


def model(args: list[Any]) -> Callable[[], Any]:
    models = _models(args)
    generator = torch.Generator().manual_seed(7)
    tokens = [torch.randint(0, m.cfg.d_vocab, (2, min(6, m.cfg.n_ctx)), generator=generator) for m in models]
    looks = [_look(m, t) for m, t in zip(models, tokens, strict=True)]
    return lambda: [look() for look in looks]


def _look(model: Any, tokens: Tensor) -> Callable[[], dict[str, Any]]:
    # A forward pass costs more than all else in most Asks, so there is none while the model is visibly as it was lent.
    loan = loan_of(model)
    as_lent = loan is not None and loan.is_unchanged()
    hooks_before = loan.snapshot.hooks if loan and as_lent else forward_hooks(model)
    before = None if as_lent else _logits(model, tokens)

    def after() -> dict[str, Any]:
        if as_lent and loan and loan.is_unchanged():
            return {"hooks": [hooks_before, hooks_before]}
        hooks = [hooks_before, forward_hooks(model)]
        if hooks[1] > hooks[0]:
            return {"hooks": hooks}  # told first: the logits would add nothing, and booting a twin takes time
        old = loan.logits_as_lent(tokens) if as_lent and loan else before
        return {"hooks": hooks, "logits": [old, _logits(model, tokens)]}

    return after


def _logits(model: Any, tokens: Tensor) -> Tensor | None:
    """None from a model with a leftover hook that fails, or one that was taken apart."""
    try:
        with torch.no_grad():
            logits: Tensor = model(tokens)
            return logits
    except Exception:
        return None


def hooks(args: list[Any]) -> Callable[[], Any]:
    models = _models(args)
    before = [forward_hooks(m) for m in models]
    return lambda: [{"hooks": [b, forward_hooks(m)]} for b, m in zip(before, models, strict=True)]


def calls(args: list[Any]) -> Callable[[], Any]:
    functions = [arg for arg in args if isinstance(arg, Function)]
    return lambda: [list(function.log) for function in functions]


WATCHES: dict[str, Watch] = {watch.__name__: watch for watch in (arguments, random_state, model, hooks, calls)}
