"""What stands for what cannot cross. A closed list; each is resolved once for an Ask and shared within it.

model(config, seed) or model(name)   a small random TransformerBridge, or one of ours from data/
cache(model, tokens)                 the ActivationCache of a forward pass
hook(model, name)                    a real HookPoint
optimizer(model, kind, lr)           SGD, Adam or AdamW over the model's parameters
sae(tensors)                         an object with encode and decode
function(name, **plain)              from FUNCTIONS: metrics of logits, effects of a number; each logs its calls
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mi_course.asking.limits import time_limit
from mi_course.interp.containers import SparseCode
from mi_course.interp.models import load_native, reseed, small_model
from mi_course.wire import Ref, encode

__all__ = ["FUNCTIONS", "REFERENCES", "Function", "Resolver", "UnknownReference", "forward_hooks"]


class UnknownReference(ValueError):
    """A reference that is on no list."""


# ---------------------------------------------------------------------------------------------------------------------
# Functions


class Function:
    """A function from the registry that remembers what it was called with, as plain numbers."""

    MOST = 1000

    def __init__(self, name: str, function: Callable[..., Any], options: dict[str, Any]) -> None:
        self.__name__, self._function, self._options = name, function, options
        self.log: list[float] = []

    def __call__(self, value: Any) -> float:
        if len(self.log) < self.MOST:
            self.log.append(_summary(value))
        return self._function(value, **self._options)


def _summary(value: Any) -> float:
    """A number that tells calls apart: the argument itself, or a fingerprint of a tensor."""
    if isinstance(value, Tensor):
        flat = value.detach().double().flatten()
        return float((flat * torch.arange(1, len(flat) + 1).double().cos()).sum())
    return float(value)


def _logit_difference(logits: Tensor, answers: Tensor, last: Tensor | None = None) -> float:
    """Mean over the batch of right minus wrong at the last position: linear in the logits."""
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


def _polynomial(x: float, coefficients: list[float]) -> float:
    """c0 + c1 x + c2 x² + …"""
    return float(sum(c * float(x) ** i for i, c in enumerate(coefficients)))


def _tanh(x: float, scale: float, shift: float) -> float:
    return float(torch.tanh(torch.tensor(float(x) * scale + shift, dtype=torch.float64)))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "logit_difference": _logit_difference,
    "probability": _probability,
    "projection": _projection,
    "polynomial": _polynomial,
    "tanh": _tanh,
}


# ---------------------------------------------------------------------------------------------------------------------
# Resolving


class _Pool:
    """Booted models by configuration. Booting takes 40 to 90 ms, drawing new weights 1 ms.

    A model comes back only if it is still what was booted: an answer may leave a hook, change the configuration, fold
    the weights, put another function in the place of a module's. Else it is dropped, and the next Ask boots a new one.
    """

    MOST = 4

    def __init__(self) -> None:
        self.idle: dict[str, list[tuple[Any, Any]]] = defaultdict(list)

    def take(self, config: dict[str, Any], seed: int) -> tuple[Any, Any]:
        """The model, and its portrait, to be given back with it."""
        shelf = self.idle[_key(config)]
        model, portrait = shelf.pop() if shelf else _booted(config)
        return reseed(model, seed), portrait

    def put_back(self, config: dict[str, Any], model: Any, portrait: Any) -> None:
        shelf = self.idle[_key(config)]
        if len(shelf) < self.MOST and _still(model, portrait):
            shelf.append((model, portrait))


def _key(config: dict[str, Any]) -> str:
    return json.dumps(config, sort_keys=True)


def _booted(config: dict[str, Any]) -> tuple[Any, Any]:
    model = _warm(small_model(config, 0))
    return model, _portrait(model)


def _warm(model: Any) -> Any:
    """The bridge hangs a hook of its own on the model at the first forward pass: let that be over before we count."""
    with torch.no_grad():
        model(torch.zeros(1, 2, dtype=torch.long))
    return model


def _portrait(model: Any) -> tuple[Any, Any]:
    """What must be the same for the model to serve again: its outline, and what it says with the weights of seed 0."""
    return _outline(model), _speech(model)


def _outline(model: Any) -> Any:
    """Hooks, modules, what was put in the place of their methods, parameters and configuration. Runs no module."""
    modules = [
        (name, id(module), type(module), sorted(key for key, value in vars(module).items() if callable(value)))
        for name, module in model.named_modules()
    ]
    parameters = [(name, id(p), p.dtype, p.shape, bool(p._backward_hooks)) for name, p in model.named_parameters()]
    return forward_hooks(model), modules, parameters, repr(sorted(vars(model.cfg).items()))


def _speech(model: Any) -> list[Any]:
    model.requires_grad_(True)
    tokens = torch.arange(min(4, model.cfg.n_ctx)).remainder(model.cfg.d_vocab)[None]
    with torch.no_grad():
        return reseed(model, 0)(tokens).tolist()


def _still(model: Any, portrait: tuple[Any, Any]) -> bool:
    try:
        with time_limit(1.0):
            return _outline(model) == portrait[0] and _speech(model) == portrait[1]
    except BaseException as error:  # whatever was done to it
        if type(error) is KeyboardInterrupt:
            raise
        return False


def forward_hooks(model: Any) -> int:
    """How many hooks hang on the model's modules, forward and backward. (`hook_dict` would count aliases twice.)"""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules())


_POOL = _Pool()


class Resolver:
    """Turns the references of one Ask into things, each once. Leaving its context returns the models to the pool."""

    def __init__(self) -> None:
        self.resolved: dict[bytes, Any] = {}
        self.borrowed: list[tuple[dict[str, Any], Any, Any]] = []

    def __enter__(self) -> Resolver:
        return self

    def __exit__(self, *exception: object) -> None:
        for borrowed in self.borrowed:
            _POOL.put_back(*borrowed)
        self.resolved.clear()

    def fill(self, value: Any) -> Any:
        """A fresh copy of a plain value in which every reference is resolved."""
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
        return _warm(load_native(name))
    model, portrait = _POOL.take(config, seed)
    resolver.borrowed.append((config, model, portrait))
    return model


def _cache(resolver: Resolver, model: Any, tokens: Tensor) -> Any:
    with torch.no_grad():
        return model.run_with_cache(tokens)[1]


def _hook(resolver: Resolver, model: Any, name: str) -> Any:
    return model.hook_dict[name]


_OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}


def _optimizer(resolver: Resolver, model: Any, kind: str, lr: float) -> torch.optim.Optimizer:
    return _OPTIMIZERS[kind](model.parameters(), lr=lr)


def _sae(resolver: Resolver, tensors: dict[str, Tensor]) -> SparseCode:
    return SparseCode(**tensors)


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
    "function": _function,
}
