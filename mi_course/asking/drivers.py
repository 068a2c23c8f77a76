"""How a call is made. A closed list; each takes the answer, the arguments and its options, and returns what was seen.

call           the returned value
value          the answer itself, which is no function
hook           the effective activation: what the hook returned, or its input as it is now if it returned None
hook_factory   the answer makes a hook; it is fed activations, and the buffers it was made with are looked at
gradients      of Σ output · cotangent with respect to chosen arguments; none counts as zero
train          losses, and the model's parameters, after several steps
raising        as call, with a trap late in the model, to see what is left behind after an error
expects_error  the class of the exception, if one was raised

A stub shows itself by NotImplementedError, whatever the driver.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mi_course.asking.stubs import has_gaps, is_empty

__all__ = ["DRIVERS", "Trapped"]


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
    """What was returned, where it is not a stub's `...`. Inside what a driver records nobody else would see it."""
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
    """wrt: which arguments. cotangents: one for each output tensor, of its shape."""
    with torch.enable_grad():
        args = [arg.detach().clone().requires_grad_(True) if i in wrt else arg for i, arg in enumerate(args)]
        output = _attempted(answer, answer(*args))
        leaves = _leaves(output)
        pairs = [
            (leaf, c)
            for leaf, c in zip(leaves, cotangents, strict=False)
            if leaf.requires_grad and leaf.shape == c.shape
        ]
        total = sum(((leaf * c).sum() for leaf, c in pairs), torch.zeros(()))
        inputs = [args[i] for i in wrt]
        depends = total.requires_grad
        grads = torch.autograd.grad(total, inputs, allow_unused=True) if depends else [None] * len(inputs)
    zeros = [torch.zeros_like(x) if g is None else g for x, g in zip(inputs, grads, strict=True)]
    return {"output": output, "gradients": zeros}


def _leaves(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, (list, tuple)):
        return [leaf for item in output for leaf in _leaves(item)]
    return []


def train(answer: Callable[..., Any], args: list[Any], batches: list[Tensor]) -> dict[str, Any]:
    """args: the model first. batches: the last argument of each step in turn."""
    model = args[0]
    with torch.enable_grad():
        losses = [_attempted(answer, answer(*args, batch)) for batch in batches]
    parameters = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    return {"losses": losses, "parameters": parameters}


def raising(answer: Callable[..., Any], args: list[Any]) -> dict[str, Any]:
    model = next(arg for arg in args if isinstance(arg, torch.nn.Module))

    def spring(module: Any, inputs: Any, output: Any) -> None:
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
        # The answer may wrap the error in its own: that is its right
        return {"trapped": isinstance(error.__cause__ or error.__context__, Trapped)}
    finally:
        trap.remove()
    return {"trapped": False}


def expects_error(answer: Callable[..., Any], args: list[Any]) -> dict[str, Any]:
    try:
        returned = _attempted(answer, answer(*args))
    except NotImplementedError:  # a stub, here as elsewhere
        raise
    except Exception as error:
        if has_gaps(answer):
            raise
        return {"raised": [cls.__name__ for cls in type(error).__mro__], "message": str(error)[:500], "returned": None}
    return {"raised": [], "message": "", "returned": returned}


DRIVERS: dict[str, Callable[..., Any]] = {
    driver.__name__: driver for driver in (call, value, hook, hook_factory, gradients, train, raising, expects_error)
}
