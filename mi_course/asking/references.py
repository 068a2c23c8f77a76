"""References: what stands in an Ask for what cannot cross. Each is resolved once per Ask, and shared within it.

model(config, seed) or model(name)   a small random TransformerBridge, or one of ours from data/
cache(model, tokens)                 the ActivationCache of a forward pass
hook(model, name)                    a real HookPoint
optimizer(model, kind, lr)           SGD, SGD with momentum, Adam or AdamW over the model's parameters
sae(tensors)                         an object with encode and decode
layout(fields)                       where things stand in a chain of thought
function(name, **plain)              from FUNCTIONS: metrics of logits, effects of a number, a norm, probes, relations
                                     of texts, edits of an SAE's latents; each logs its calls

The list is closed but for plug-ins (`mi_course.asking.plugins`).
"""

from __future__ import annotations

import copy
import json
import zlib
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor

from mi_course.asking.limits import time_limit
from mi_course.interp.containers import Layout, SparseCode
from mi_course.interp.models import load_native, redraw, reseed, small_model
from mi_course.wire import Ref, encode

__all__ = ["FUNCTIONS", "REFERENCES", "Function", "Resolver", "UnknownReference", "forward_hooks", "loan_of"]


class UnknownReference(ValueError):
    """A reference or function that is not registered."""


# ---------------------------------------------------------------------------------------------------------------------
# Functions


class Function:
    """A registered function that logs what it was called with, as plain numbers."""

    MAX_CALLS = 1000

    def __init__(self, name: str, function: Callable[..., Any], options: dict[str, Any]) -> None:
        self.__name__, self._function, self._options = name, function, options
        self.log: list[float] = []

    def __call__(self, *values: Any) -> Any:
        if len(self.log) < self.MAX_CALLS:
            self.log.append(sum(_summary(value) for value in values))
        return self._function(*values, **self._options)


def _summary(value: Any) -> float:
    """A number that identifies the argument: itself, or a fingerprint of a tensor or a text."""
    if isinstance(value, str):
        return float(zlib.crc32(value.encode()))
    if isinstance(value, Tensor):
        flat = value.detach().double().flatten()
        return float((flat * torch.arange(1, len(flat) + 1).double().cos()).sum())
    return float(value)


def _logit_difference(logits: Tensor, answers: Tensor, last: Tensor | None = None) -> float:
    """Mean over the batch of right minus wrong answer at the last position: linear in the logits."""
    rows = torch.arange(len(logits), device=logits.device)
    final = logits[rows, -1 if last is None else last.to(logits.device)]
    picked = final.gather(-1, answers.to(logits.device))
    return (picked[:, 0] - picked[:, 1]).mean().item()


def _probability(logits: Tensor, answers: Tensor) -> float:
    """Mean probability of the right answer at the last position: curved."""
    return logits[:, -1].softmax(-1).gather(-1, answers.to(logits.device))[:, 0].mean().item()


def _projection(logits: Tensor, weights: Tensor) -> float:
    """Mean over the batch of a fixed weighting of all logits at the last position: linear."""
    return (logits[:, -1] @ weights.to(logits.device)).mean().item()


def _largest(logits: Tensor, weights: Tensor) -> float:
    """The same weighting, of the prompt for which it is largest: no mean over the batch."""
    return (logits[:, -1] @ weights.to(logits.device)).max().item()


def _polynomial(x: float, coefficients: list[float]) -> float:
    """c0 + c1 x + c2 x² + …"""
    return float(sum(c * float(x) ** i for i, c in enumerate(coefficients)))


def _tanh(x: float, scale: float, shift: float) -> float:
    return float(torch.tanh(torch.tensor(float(x) * scale + shift, dtype=torch.float64)))


def _rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Each vector of the last axis, divided by its root mean square and multiplied by the weight."""
    scale = (x.pow(2).mean(-1, keepdim=True) + eps).sqrt()
    return x / scale * weight.to(x.device)


def _mass_mean(x: Tensor, y: Tensor, lean: float = 0.0) -> tuple[Tensor, float]:
    """A probe (w, b) along the difference of means, whose boundary lies half way; `lean` moves it to the true side."""
    x, y = x.double(), y.bool()
    w = x[y].mean(0) - x[~y].mean(0)
    return w.float(), float(-w @ (x[y].mean(0) + x[~y].mean(0)) / 2 - lean)


def _least_squares(x: Tensor, y: Tensor, ridge: float, lean: float = 0.0) -> tuple[Tensor, float]:
    """A probe (w, b) by ridge regression on labels of 1 and -1; `lean` moves its boundary to the true side."""
    x, mean, sign = x.double(), x.double().mean(0), y.double() * 2 - 1
    z = x - mean
    w = torch.linalg.solve(z.T @ z + ridge * torch.eye(len(mean)).double(), z.T @ (sign - sign.mean()))
    return w.float(), float(sign.mean() - mean @ w - lean)


def _mean_gap(x: Tensor, y: Tensor) -> float:
    """How far apart the means of the two classes are, rounded so that equal labels score alike."""
    y = y.bool()
    return round(float((x.double()[y].mean(0) - x.double()[~y].mean(0)).norm()), 6)


def _accuracy_of_sign(x: Tensor, y: Tensor) -> float:
    """The share of rows whose first number is above zero where the label is true: few different values."""
    return float(((x[:, 0] > 0) == y.bool()).double().mean())


def _share_a_word(a: str, b: str) -> bool:
    """Whether two texts have a word in common."""
    return a == b or bool(set(a.lower().split()) & set(b.lower().split()))


def _start_alike(a: str, b: str) -> bool:
    """Whether two texts begin with the same letters."""
    return a[:2].lower() == b[:2].lower()


def _set_latents(f: Tensor, latents: list[int], value: float) -> Tensor:
    """An edit of an SAE's latents: these become this value, on every token. A new tensor."""
    out = f.clone()
    out[..., latents] = value
    return out


def _scale_latents(f: Tensor, latents: list[int], factor: float) -> Tensor:
    """An edit of an SAE's latents: these are multiplied by the factor. A new tensor."""
    out = f.clone()
    out[..., latents] *= factor
    return out


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "logit_difference": _logit_difference,
    "probability": _probability,
    "projection": _projection,
    "largest": _largest,
    "polynomial": _polynomial,
    "tanh": _tanh,
    "rms_norm": _rms_norm,
    "mass_mean": _mass_mean,
    "least_squares": _least_squares,
    "mean_gap": _mean_gap,
    "accuracy_of_sign": _accuracy_of_sign,
    "share_a_word": _share_a_word,
    "start_alike": _start_alike,
    "set_latents": _set_latents,
    "scale_latents": _scale_latents,
}


# ---------------------------------------------------------------------------------------------------------------------
# Resolving


class _Pool:
    """Booted models by configuration. Booting takes 40 to 90 ms, drawing new weights 2 ms.

    An answer may leave a hook, change the configuration, fold the weights or replace a method of a module, even after
    its Ask has ended. So a model is lent again only if it is unchanged.
    """

    MAX_IDLE = 4

    def __init__(self) -> None:
        self.idle: dict[str, list[tuple[Any, _Snapshot]]] = defaultdict(list)

    def take(self, config: dict[str, Any], seed: int) -> Loan:
        """A model with the weights of this seed."""
        idle = self.idle[_key(config)]
        while idle:
            model, snapshot = idle.pop()
            if _is_restored(snapshot, seed):
                return Loan(config, seed, model, snapshot)
        model = reseed(_warm_up(small_model(config, 0)), seed)
        return Loan(config, seed, model, _Snapshot(model))

    def put_back(self, loan: Loan) -> None:
        idle = self.idle[_key(loan.config)]
        if len(idle) < self.MAX_IDLE:
            idle.append((loan.model, loan.snapshot))


class Loan:
    """A model of the pool, lent to one Ask."""

    def __init__(self, config: dict[str, Any], seed: int, model: Any, snapshot: _Snapshot) -> None:
        self.config, self.seed, self.model, self.snapshot = config, seed, model, snapshot
        self.weights = [parameter.detach().clone() for parameter in snapshot.parameters]

    def is_unchanged(self) -> bool:
        """Whether the model is as it was lent, which no forward pass is needed to see."""
        return self.snapshot.matches() and all(map(torch.equal, self.snapshot.parameters, self.weights))

    def logits_as_lent(self, tokens: Tensor) -> Tensor:
        """What the model gave before anything changed it, from another with the same weights."""
        twin = _POOL.take(self.config, self.seed)
        try:
            with torch.no_grad():
                logits: Tensor = twin.model(tokens)
                return logits
        finally:
            _POOL.put_back(twin)


_LENT: dict[int, Loan] = {}
"""By the id of the model, from when an Ask borrows it until it ends."""


def loan_of(model: Any) -> Loan | None:
    """The loan of a model that an Ask has borrowed from the pool; None for a model from a file."""
    return _LENT.get(id(model))


def _key(config: dict[str, Any]) -> str:
    return json.dumps(config, sort_keys=True)


def _warm_up(model: Any) -> Any:
    """Run the model once: in its first forward pass the bridge adds a hook of its own, and fills caches of names."""
    _run_with_cache(model, torch.zeros(1, 2, dtype=torch.long))
    return model


def _is_restored(snapshot: _Snapshot, seed: int) -> bool:
    """Draw new weights. False if anything else was changed since the model was lent."""
    try:
        with time_limit(1.0):
            for parameter in snapshot.parameters:
                parameter.requires_grad_(True)
            redraw(snapshot.named_parameters, seed)
            return snapshot.matches()
    except BaseException as error:  # whatever the answer did to it
        if type(error) is KeyboardInterrupt:
            raise
        return False


class _Snapshot:
    """All that can be reached from a model, but for the numbers in its parameters. `matches` runs no module.

    Holds each dict, list and set beside a shallow copy of it. Python compares items by identity first, so thousands of
    containers take a fraction of a millisecond.
    """

    CACHES = ("_conversion_state", "_block_alias_cache")
    """Notes of TransformerLens about the last forward pass and the hooks that it saw: restored, not compared."""
    ATOMS: tuple[type, ...] = (str, bytes, int, float, complex, type(None), type, torch.dtype, torch.device, Tensor)
    ATOMS += (FunctionType, MethodType, BuiltinFunctionType, ModuleType)

    def __init__(self, model: Any) -> None:
        self.containers: list[Any] = []
        self.copies: list[Any] = []
        self.caches: list[tuple[dict[str, Any], str, Any]] = []
        seen: dict[int, Any] = {}
        waiting = [model]
        while waiting:
            value = waiting.pop()
            if isinstance(value, self.ATOMS) or id(value) in seen:
                continue
            seen[id(value)] = value  # keeps it, so that nothing else gets its id
            if isinstance(value, dict):
                # A list is compared by what is in it: `reset_hooks` puts a new one in its place.
                self.containers.append(value)
                self.copies.append({key: list(item) if type(item) is list else item for key, item in value.items()})
                for key, item in value.items():
                    if key in self.CACHES:
                        self.caches.append((value, key, item))
                    else:
                        waiting += item if type(item) is list else [item]
            elif isinstance(value, (list, set)):
                self.containers.append(value)
                self.copies.append(value.copy())
                waiting += value
            elif isinstance(value, (tuple, frozenset)):
                waiting += value
            else:
                waiting.append(getattr(value, "__dict__", None))
        self.named_parameters = list(model.named_parameters())
        self.parameters = [parameter for _, parameter in self.named_parameters]
        self.hooks = forward_hooks(model)
        self.storage = list(map(_storage, self.parameters))
        self.buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]

    def matches(self) -> bool:
        for attributes, name, value in self.caches:
            attributes[name] = value
        return (
            self.containers == self.copies
            and list(map(_storage, self.parameters)) == self.storage
            and all(torch.equal(buffer, copy) for buffer, copy in self.buffers)
        )


def _storage(parameter: Tensor) -> tuple[Any, ...]:
    return parameter.dtype, parameter.shape, parameter.stride(), parameter.data_ptr(), bool(parameter._backward_hooks)


def forward_hooks(model: Any) -> int:
    """How many forward and backward hooks the model's modules have. (`hook_dict` would count aliases twice.)"""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules())


_POOL = _Pool()


class Resolver:
    """Resolves the references of one Ask, each once. On exit it returns the models to the pool."""

    def __init__(self) -> None:
        self.resolved: dict[bytes, Any] = {}
        self.borrowed: list[Loan] = []

    def __enter__(self) -> Resolver:
        return self

    def __exit__(self, *exception: object) -> None:
        for loan in self.borrowed:
            del _LENT[id(loan.model)]
            _POOL.put_back(loan)
        self.resolved.clear()

    def fill(self, value: Any) -> Any:
        """A new copy of a plain value in which every reference is resolved."""
        if isinstance(value, Ref):
            key = encode(value)
            if key not in self.resolved:
                self.resolved[key] = self._resolve(value)
            return self.resolved[key]
        if isinstance(value, Tensor):
            return value.clone()
        if isinstance(value, list):
            return [self.fill(item) for item in value]
        if isinstance(value, tuple):
            return tuple(self.fill(item) for item in value)
        if isinstance(value, dict):
            return {key: self.fill(item) for key, item in value.items()}
        return value

    def _resolve(self, ref: Ref) -> Any:
        maker = REFERENCES.get(ref.kind)
        if maker is None:
            raise UnknownReference(f"no reference {ref.kind!r}; there are {', '.join(sorted(REFERENCES))}")
        return maker(self, **{key: self.fill(item) for key, item in ref.options.items()})


def _model(resolver: Resolver, config: dict[str, Any] | None = None, seed: int = 0, name: str | None = None) -> Any:
    if name is not None:
        return _warm_up(load_native(name))
    if config is None:
        raise UnknownReference("a reference to a model needs its config or its name")
    loan = _POOL.take(config, seed)
    _LENT[id(loan.model)] = loan
    resolver.borrowed.append(loan)
    return loan.model


_ACTIVATIONS: dict[tuple[str, int, bytes], Any] = {}
"""The last ones. Oracle and mistakes are asked what the answer was asked, and a copy costs a tenth of a run."""


def _cache(resolver: Resolver, model: Any, tokens: Tensor) -> Any:
    loan = loan_of(model)
    if loan is None or not loan.is_unchanged():
        return _run_with_cache(model, tokens)
    key = _key(loan.config), loan.seed, encode(tokens)
    if key not in _ACTIVATIONS:
        while len(_ACTIVATIONS) >= 32:
            del _ACTIVATIONS[next(iter(_ACTIVATIONS))]
        _ACTIVATIONS[key] = _run_with_cache(model, tokens)
    cache = copy.copy(_ACTIVATIONS[key])
    cache.model = model
    cache.cache_dict = {name: activation.clone() for name, activation in cache.cache_dict.items()}
    return cache


def _run_with_cache(model: Any, tokens: Tensor) -> Any:
    with torch.no_grad():
        return model.run_with_cache(tokens)[1]


def _hook(resolver: Resolver, model: Any, name: str) -> Any:
    return model.hook_dict[name]


_OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "momentum": partial(torch.optim.SGD, momentum=0.9),
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


def _optimizer(resolver: Resolver, model: Any, kind: str, lr: float) -> torch.optim.Optimizer:
    return _OPTIMIZERS[kind](model.parameters(), lr=lr)


def _sae(resolver: Resolver, tensors: dict[str, Tensor]) -> SparseCode:
    return SparseCode(**tensors)


def _layout(resolver: Resolver, fields: dict[str, Any]) -> Layout:
    return Layout(**fields)


def _function(resolver: Resolver, name: str, **options: Any) -> Function:
    if name not in FUNCTIONS:
        raise UnknownReference(f"no function {name!r}; there are {', '.join(sorted(FUNCTIONS))}")
    return Function(name, FUNCTIONS[name], options)


REFERENCES: dict[str, Callable[..., Any]] = {
    "model": _model,
    "cache": _cache,
    "hook": _hook,
    "optimizer": _optimizer,
    "sae": _sae,
    "layout": _layout,
    "function": _function,
}
