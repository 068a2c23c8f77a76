"""Drivers: the ways to make a call. Each takes the answer, its arguments and options, and returns what is recorded.

call           the returned value
value          the answer itself, which is not a function
hook           the effective activation: what the hook returned, or its input as it is now if it returned None
hook_factory   the answer makes a hook, which is fed activations; records these and the buffers it was made with
gradients      of Σ output · cotangent with respect to some arguments; a missing gradient counts as zero
train          the losses of several steps, and the model's parameters afterwards
raising        as call, but the model raises late in its forward pass: are hooks removed after an error?
expects_error  the class of the exception, if one was raised
sparing        as call, but a tensor of more entries than allowed raises TooLarge where it is made

The list is closed but for plug-ins (`mi_course.asking.plugins`). Every driver raises NotImplementedError for a stub.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from mi_course.asking.stubs import has_gaps, is_empty

__all__ = ["DRIVERS", "TooLarge", "Trapped"]


class Trapped(RuntimeError):
    """Raised by the trap that `raising` sets."""


def call(answer: Callable[..., Any], args: list[Any]) -> Any:
    return answer(*args)


def value(answer: Any, args: list[Any]) -> Any:
    return answer


def hook(answer: Callable[..., Any], args: list[Any]) -> Any:
    returned = answer(*args)
    if returned is None and has_gaps(answer):
        raise NotImplementedError("the hook holds `...`")
    return args[0] if returned is None else returned


def _attempted(answer: Callable[..., Any], returned: Any) -> Any:
    """What was returned. Raises NotImplementedError for a stub's `...`, which a driver's record would hide."""
    if returned is Ellipsis or (returned is None and has_gaps(answer)):
        raise NotImplementedError("the function holds `...`")
    return returned


def hook_factory(answer: Callable[..., Any], args: list[Any], feed: list[tuple[Tensor, Any]]) -> dict[str, Any]:
    """feed: pairs of an activation and the hook point it comes from, in order."""
    made = answer(*args)
    if made is Ellipsis or is_empty(made) or (made is None and has_gaps(answer)):
        raise NotImplementedError("there is no hook yet")
    if not callable(made):
        name = getattr(answer, "__name__", "the answer")
        raise TypeError(f"{name} returned {made!r:.60}, expected a function that serves as a hook")
    activations = [hook(made, [activation, point]) for activation, point in feed]
    return {"buffers": [arg for arg in args if isinstance(arg, Tensor)], "activations": activations}


def gradients(answer: Callable[..., Any], args: list[Any], wrt: list[int], cotangents: list[Tensor]) -> dict[str, Any]:
    """wrt: indices of the arguments. cotangents: one for each output tensor, of its shape."""
    with torch.enable_grad():
        args = [arg.detach().clone().requires_grad_(True) if i in wrt else arg for i, arg in enumerate(args)]
        output = _attempted(answer, answer(*args))
        leaves = _as_expected(_leaves(output), cotangents)
        pairs = [
            (leaf, c)
            for leaf, c in zip(leaves, cotangents, strict=False)
            if leaf.requires_grad and leaf.shape == c.shape
        ]
        total = sum(((leaf * c).sum() for leaf, c in pairs), torch.zeros(()))
        inputs = [args[i] for i in wrt]
        connected = total.requires_grad
        grads = torch.autograd.grad(total, inputs, allow_unused=True) if connected else [None] * len(inputs)
    zeros = [torch.zeros_like(x) if g is None else g for x, g in zip(inputs, grads, strict=True)]
    return {"output": output, "gradients": zeros}


def _as_expected(leaves: list[Tensor], cotangents: list[Tensor]) -> list[Tensor]:
    """The leaves in the form of the cotangents: as rows for a tensor, or a tensor for its rows.

    A scalar has no axes, since statements that ask for gradients ask for a scalar tensor.
    """
    if len(cotangents) == 1 < len(leaves) and all(leaf.shape == cotangents[0].shape[1:] for leaf in leaves):
        leaves = [torch.stack(leaves)]  # a list of rows for a tensor
    elif len(leaves) == 1 < len(cotangents) and leaves[0].shape[:1] == (len(cotangents),):
        leaves = list(leaves[0].unbind())  # a tensor for a list
    return leaves


def _leaves(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, (list, tuple)):
        return [leaf for item in output for leaf in _leaves(item)]
    return []


def train(answer: Callable[..., Any], args: list[Any], batches: list[Tensor], left_over: float = 0.0) -> dict[str, Any]:
    """args: the model and other arguments of a step. batches: the last argument of each step in turn.

    left_over: the gradients that the model has before the first step; none if it is 0.
    """
    model = args[0]
    if left_over:
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, left_over)
    with torch.enable_grad():
        losses = [_attempted(answer, answer(*args, batch)) for batch in batches]
    parameters = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    return {"losses": losses, "parameters": parameters}


def raising(answer: Callable[..., Any], args: list[Any], after: int = 0) -> dict[str, Any]:
    """after: forward passes that go well first. If there are no more than these, nothing is expected of the answer."""
    model: Any = next(arg for arg in args if isinstance(arg, torch.nn.Module))

    passes = iter(range(after))

    def spring(module: Any, inputs: Any, output: Any) -> None:
        if next(passes, None) is not None:
            return
        raise Trapped("an error late in the forward pass, set on purpose")

    trap = model.unembed.register_forward_hook(spring)
    try:
        _attempted(answer, answer(*args))
    except Trapped:
        return {"trapped": True}
    except NotImplementedError:
        raise
    except Exception as error:
        if has_gaps(answer):
            raise
        # The answer may wrap the error in one of its own.
        return {"trapped": isinstance(error.__cause__ or error.__context__, Trapped)}
    finally:
        trap.remove()
    return {"trapped": after > 0}


def expects_error(answer: Callable[..., Any], args: list[Any]) -> dict[str, Any]:
    try:
        returned = _attempted(answer, answer(*args))
    except NotImplementedError:  # a stub
        raise
    except Exception as error:
        if has_gaps(answer):
            raise
        return {"raised": [cls.__name__ for cls in type(error).__mro__], "message": str(error)[:500], "returned": None}
    return {"raised": [], "message": "", "returned": returned}


class TooLarge(MemoryError):
    """Raised by `sparing`."""


class _Entries(TorchFunctionMode):
    """Looks at every tensor that a function of torch returns. (TorchDispatchMode would import torch's compiler.)"""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        returned = func(*args, **(kwargs or {}))
        for leaf in _leaves(returned):
            if leaf.numel() > self.most:
                shape = " × ".join(map(str, leaf.shape))
                raise TooLarge(f"a tensor of {shape} entries was made; at most {self.most:,} are allowed here")
        return returned


def sparing(answer: Callable[..., Any], args: list[Any], most: int) -> Any:
    """most: entries of the largest tensor that may be made on the way, views included. NumPy is not watched."""
    with _Entries(most):
        return answer(*args)


DRIVERS: dict[str, Callable[..., Any]] = {
    driver.__name__: driver
    for driver in (call, value, hook, hook_factory, gradients, train, raising, expects_error, sparing)
}
