"""The settings of torch, numpy and Python under which answers are asked: the defaults, whatever a notebook set."""

from __future__ import annotations

import contextlib
import random
import sys
import warnings
from collections.abc import Iterator

import numpy as np
import torch

__all__ = ["default_settings"]

_SWITCH_S = 0.0002
"""How soon another computing thread must release the interpreter; with Python's default of 5 ms, waiting adds up."""
_RECURSION = 1000
_PATH = tuple(sys.path)


@contextlib.contextmanager
def default_settings() -> Iterator[None]:
    """Defaults within the block; afterwards the process's settings and random states are what they were.

    Otherwise a right answer fails in a notebook that computes in float64, on another device, under autocast or with
    warnings as errors. Within it torch uses one thread, as in the grader: models this small do not gain from a second
    one, and on a busy machine waiting for it costs many times the work. Threads that an answer left running release the
    interpreter sooner, or each operation of torch would wait 5 ms for each of them.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_python())
        stack.enter_context(np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
        stack.enter_context(_random_states())
        stack.enter_context(torch.inference_mode(False))
        for setting in (_grad, _dtype, _threads, _device, _autocast, _determinism, _anomaly, _precision):
            stack.enter_context(setting())
        yield


@contextlib.contextmanager
def _python() -> Iterator[None]:
    recursion, switch_s, path = sys.getrecursionlimit(), sys.getswitchinterval(), list(sys.path)
    sys.setrecursionlimit(max(recursion, _RECURSION))
    sys.setswitchinterval(_SWITCH_S)
    sys.path += [entry for entry in _PATH if entry not in path]
    try:
        with warnings.catch_warnings():
            if any(action == "error" for action, *_ in warnings.filters):
                warnings.simplefilter("default")
            yield
    finally:
        sys.setswitchinterval(switch_s)
        sys.path[:] = path
        with contextlib.suppress(RecursionError):
            sys.setrecursionlimit(recursion)


@contextlib.contextmanager
def _random_states() -> Iterator[None]:
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


@contextlib.contextmanager
def _grad() -> Iterator[None]:
    grad = torch.is_grad_enabled()
    torch.set_grad_enabled(True)
    try:
        yield
    finally:
        torch.set_grad_enabled(grad)


@contextlib.contextmanager
def _dtype() -> Iterator[None]:
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)


@contextlib.contextmanager
def _threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)


@contextlib.contextmanager
def _device() -> Iterator[None]:
    cpu, device = torch.device("cpu"), torch.get_default_device()
    if device != cpu:
        torch.set_default_device(None)
    surrounding = torch.get_default_device()  # of a `with torch.device(...)`
    try:
        with cpu if surrounding != cpu else contextlib.nullcontext():
            yield
    finally:
        if torch.get_default_device() != device:
            torch.set_default_device(device)


@contextlib.contextmanager
def _autocast() -> Iterator[None]:
    enabled = [kind for kind in ("cpu", "cuda", "mps") if torch.is_autocast_enabled(kind)]
    for kind in enabled:
        torch.set_autocast_enabled(kind, False)
    try:
        yield
    finally:
        for kind in enabled:
            torch.set_autocast_enabled(kind, True)


@contextlib.contextmanager
def _determinism() -> Iterator[None]:
    enabled, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    if enabled:
        torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        if enabled or torch.are_deterministic_algorithms_enabled():
            torch.use_deterministic_algorithms(enabled, warn_only=warn_only)


@contextlib.contextmanager
def _anomaly() -> Iterator[None]:
    enabled, nan = torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()
    torch.autograd.set_detect_anomaly(False)
    try:
        yield
    finally:
        torch.autograd.set_detect_anomaly(enabled, nan)


@contextlib.contextmanager
def _precision() -> Iterator[None]:
    precision = torch.get_float32_matmul_precision()
    if precision != "highest":
        torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        if torch.get_float32_matmul_precision() != precision:
            torch.set_float32_matmul_precision(precision)
