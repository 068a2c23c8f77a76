"""Holds observations against the truth, and names the mistake.

    plan = exercise.plan(seed)
    observations = [run(ask) for ask in plan.asks]          # in the notebook, or in a sandbox
    verdict = judge(plan, observations, ask=observe)        # never runs the learner's code

`ask(answer, ask) -> Observation` runs code of ours only: the spec, and each mistake's `wrong`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mi_course import wire
from mi_course.exercises import Case, Complaint, Exercise, Mistake, PartResult, Plan, Verdict
from mi_course.wire import Ask, Observation, Reply

__all__ = ["compare", "judge", "same"]

Asker = Callable[[Any, Ask], Observation]

DIAGNOSIS_SECONDS = 3.0
"""Processor time that naming the mistake may take, once the answer is known not to be right. (By the clock, a busy
machine would find fewer names than a quiet one.)"""


def judge(
    plan: Plan, observations: Sequence[Observation], ask: Asker, diagnosis_s: float = DIAGNOSIS_SECONDS
) -> Verdict:
    """The verdict on one exercise. observations: one for each Ask of the plan, in order; others are counted as lost."""
    exercise = plan.exercise
    # The first reply to an Ask counts; what answers another Ask, or is no observation, is ignored.
    seen = {one.ask: one for one in reversed(list(observations)) if isinstance(one, Observation)}
    found = [seen.get(planned.ask.id, Observation(planned.ask.id, ())) for planned in plan.cases]
    truths = _Truths(plan, ask)
    complaints = [
        _complaint(planned.case, obs, truths, i) for i, (planned, obs) in enumerate(zip(plan.cases, found, strict=True))
    ]

    details = _details(plan, complaints)
    failed = [i for i, complaint in enumerate(complaints) if complaint]
    if not failed:
        return _verdict(exercise, "passed", details, _praise(exercise))
    status = _status(complaints)
    worst = _worst(complaints, status)
    mistake, message = None, complaints[worst].message
    if status == "not_attempted":
        message = f"Not attempted yet: {_what_to_write(exercise)}, then run this cell again."
    else:
        named = _name(plan, found, complaints, truths, ask, diagnosis_s)
        if named:
            mistake, message = named.name, named.message
        elif status == "wrong":
            about = plan.cases[worst].case.about
            message += f"\n\nAsked with {about}." if about else ""
    message = message[:1].upper() + message[1:_LONGEST]
    return _verdict(exercise, status, details, message, mistake=mistake, printed=found[worst].printed[:_LONGEST])


_LONGEST = 4000
"""Characters of a message, or of what was printed: whoever forges an observation may make them long."""


def _verdict(exercise: Exercise, status: str, details: tuple[PartResult, ...], message: str, **rest: Any) -> Verdict:
    earned = sum(part.earned for part in details)
    return Verdict(exercise.id, exercise.revision, status, earned, exercise.points, message, details=details, **rest)


def _praise(exercise: Exercise) -> str:
    cases = "every case" if len(exercise.parts) == 1 else f"all {len(exercise.parts)} parts"
    return f"Right in {cases}."


def _what_to_write(exercise: Exercise) -> str:
    return f"write `{exercise.name}`" if exercise.kind == "function" else f"set `{exercise.name}`"


_UNFINISHED = ("crashed", "timed_out", "not_attempted")


def _status(complaints: Sequence[Complaint | None]) -> str:
    kinds = [complaint.kind for complaint in complaints if complaint]
    if all(complaint and complaint.kind == "not_attempted" for complaint in complaints):
        return "not_attempted"
    if any(kind not in _UNFINISHED for kind in kinds):
        return "wrong"
    # Of these the first; where some cases are not attempted and the others right, the answer is wrong.
    return next((kind for kind in kinds if kind != "not_attempted"), "wrong")


def _worst(complaints: Sequence[Complaint | None], status: str) -> int:
    """The complaint that the message is about: the first that makes the status what it is."""
    fits = [i for i, c in enumerate(complaints) if c and (c.kind == status or c.kind not in _UNFINISHED)]
    return fits[0] if fits else next(i for i, c in enumerate(complaints) if c)


def _details(plan: Plan, complaints: Sequence[Complaint | None]) -> tuple[PartResult, ...]:
    results = []
    for part in plan.exercise.parts:
        own = [c for planned, c in zip(plan.cases, complaints, strict=True) if planned.part is part]
        bad = next((c for c in own if c), None)
        earned = part.points if own and bad is None else 0
        results.append(PartResult(part.name, part.points, earned, bad.message[:_LONGEST] if bad else ""))
    return tuple(results)


# ---------------------------------------------------------------------------------------------------------------------
# One case


class _Truths:
    """The expected replies of each case, found when they are needed and kept."""

    def __init__(self, plan: Plan, ask: Asker) -> None:
        self.plan, self.ask, self.known = plan, ask, {}

    def __getitem__(self, i: int) -> Sequence[Reply]:
        if i not in self.known:
            self.known[i] = self._find(i)
        return self.known[i]

    def _find(self, i: int) -> Sequence[Reply]:
        planned, exercise = self.plan.cases[i], self.plan.exercise
        truth = planned.case.truth
        if truth is not None:
            values = truth() if callable(truth) else truth
            return [Reply(wire.RETURNED, wire.plain(value)) for value in values]
        if exercise.spec is None:
            raise TypeError(f"{exercise.id}: a case has no truth and no judge, and the exercise has no spec")
        replies = self.ask(exercise.spec, planned.ask).replies
        for reply in replies:
            if not reply.returned:
                raise RuntimeError(f"{exercise.id}: the spec itself came to {reply.status} ({reply.error}) in a case")
        return replies


def _complaint(case: Case, observation: Observation, truths: _Truths, i: int) -> Complaint | None:
    for call_index, _call in enumerate(case.calls):
        if call_index >= len(observation.replies):
            return Complaint("The answer's process ended before it replied.", "crashed")
        if trouble := _trouble(observation.replies[call_index], case):
            return trouble
    if case.judge is not None:
        return _judged(case, observation, truths.plan.exercise) or _tidy(case, observation)
    for call, reply, truth in zip(case.calls, observation.replies, truths[i], strict=False):
        if call.driver == "expects_error":
            problem = _compare_error(reply.value, truth.value)
        else:
            problem = compare(reply.value, truth.value, rtol=case.rtol, atol=case.atol)
        if problem:
            return problem
    return _tidy(case, observation, truths[i])


_UNFIT = (TypeError, ValueError, AttributeError, LookupError, RuntimeError, ArithmeticError)
"""What reading a value raises that is not of the form that was expected."""


def _judged(case: Case, observation: Observation, exercise: Exercise) -> Complaint | None:
    try:
        return _in_full(case.judge(case, observation), exercise)
    except _UNFIT:
        seen = ", ".join(_say(reply.value) for reply in observation.replies[:3])
        return Complaint(f"The answer, {seen}, is not of the form that is asked for: {exercise.asks}", "type")


def _in_full(complaint: Complaint | None, exercise: Exercise) -> Complaint | None:
    """A judge that recognises a mistake gives its name only; the words are the mistake's."""
    if complaint is None or complaint.mistake is None:
        return complaint
    message = next(mistake.message for mistake in exercise.mistakes if mistake.name == complaint.mistake)
    return replace(complaint, message=message)


def _trouble(reply: Reply, case: Case) -> Complaint | None:
    if reply.returned:
        return None
    error = reply.error
    if reply.status == wire.NOT_ATTEMPTED:
        return Complaint("Here it still holds `...`, or raises NotImplementedError.", "not_attempted")
    if reply.status == wire.TIMED_OUT:
        return Complaint(
            f"It was still running after {case.limit_s:g} seconds. Look for a loop that never ends, or one over "
            "elements that a tensor operation could do at once.",
            "timed_out",
        )
    if reply.status == wire.UNSENDABLE:
        return Complaint(
            f"{error.message[:1].upper()}{error.message[1:]}." if error else "The value cannot be checked.", "type"
        )
    if reply.status == wire.DIED:
        return Complaint(f"It ended its process: {error.message if error else 'no reason is known'}.", "crashed")
    where = f" at {error.where}" if error and error.where else ""
    kind, text = (error.kind, error.message) if error else ("an error", "")
    return Complaint(f"It raised {kind}{where}\n\n`{text}`" if text else f"It raised {kind}{where}.", "crashed")


def _compare_error(seen: Any, truth: Any) -> Complaint | None:
    if not (isinstance(seen, dict) and set(seen) == set(truth) and isinstance(seen["raised"], list)):
        return Complaint("The record of what it raised cannot be read.", "type")
    expected = truth["raised"][0] if truth["raised"] else None
    raised = seen["raised"]
    if expected is None:
        if raised:
            return Complaint(f"It raised {raised[0]} ({seen['message']}) where an answer was expected.")
        return compare(seen["returned"], truth["returned"])
    if expected in raised:
        return None
    got = f"raised {raised[0]}" if raised else f"returned {_say(seen['returned'])}"
    return Complaint(f"It {got} where a {expected} was expected: there is no right value to return.")


# ---------------------------------------------------------------------------------------------------------------------
# Tidiness: what the watches saw. It may cost a part, and never earns one.


def _tidy(case: Case, observation: Observation, truths: Sequence[Reply] = ()) -> Complaint | None:
    try:
        return _untidy(case, observation, truths)
    except _UNFIT:
        return Complaint(
            "The values are right, but what the call left behind could not be looked at: an argument, a model or a "
            "random state is no longer what it was.",
            "tidiness",
        )


def _untidy(case: Case, observation: Observation, truths: Sequence[Reply] = ()) -> Complaint | None:
    for i, (call, reply) in enumerate(zip(case.calls, observation.replies, strict=False)):
        watched = reply.watched
        allowed = "[0]" if call.driver == "hook" else None  # a hook may work in place
        changed = [path for path in watched.get("arguments", []) if allowed is None or not path.startswith(allowed)]
        if call.driver == "hook_factory":
            changed = []  # its buffers are there to be written
        if changed:
            return Complaint(
                f"The values are right, but argument {changed[0]} was changed by the call: whoever calls it again gets "
                "another answer. Work on a copy (`.clone()`).",
                "tidiness",
            )
        moved = [name for name, kept in watched.get("random_state", {}).items() if not kept]
        if moved:
            return Complaint(
                f"The values are right, but the global random state of {moved[0]} moved: whatever is drawn afterwards "
                "depends on this call. Use a `torch.Generator()` of your own with `manual_seed(seed)`.",
                "tidiness",
            )
        for model in [*watched.get("model", []), *watched.get("hooks", [])]:
            before, after = model["hooks"]
            if after > before:
                return Complaint(
                    f"{after - before} forward hook(s) are left on the model after the call, and change every later "
                    "forward pass. `with model.hooks(...)` and `model.run_with_hooks(...)` take them off again.",
                    "tidiness",
                )
            if "logits" in model and not same(*model["logits"], rtol=1e-4, atol=1e-5):
                return Complaint(
                    "The model gives other logits after the call than before it: the call changed the model.",
                    "tidiness",
                )
        if "calls" in watched and i < len(truths) and "calls" in truths[i].watched:
            seen, expected = (sorted(map(sorted, w)) for w in (watched["calls"], truths[i].watched["calls"]))
            if any(not set(_rounded(e)) <= set(_rounded(s)) for s, e in zip(seen, expected, strict=True)):
                return Complaint(
                    "The function that was passed in was not called with everything it should be asked.", "tidiness"
                )
    return None


def _rounded(numbers: Sequence[float]) -> list[float]:
    return [round(n, 3) for n in numbers]


# ---------------------------------------------------------------------------------------------------------------------
# Comparing


def same(a: Any, b: Any, rtol: float = 1e-4, atol: float = 1e-5) -> bool:
    """Whether two plain values agree: within tolerance for floats, exactly for everything else."""
    return compare(a, b, rtol=rtol, atol=atol) is None


def compare(
    seen: Any, expected: Any, *, rtol: float = 1e-4, atol: float = 1e-5, path: str = "the result"
) -> Complaint | None:
    """The first difference, in words; None where there is none.

    A float, an int and a 0-d tensor with one value are the same number; so are lists and tuples of the same items.
    Tensors must have the same shape and kind of dtype (bool, whole or floating; float64 for float32 is fine).
    """
    if _is_number(expected):
        return _compare_number(seen, expected, rtol, atol, path)
    if isinstance(expected, Tensor):
        return _compare_tensor(seen, expected, rtol, atol, path)
    if isinstance(expected, (list, tuple)):
        return _compare_sequence(seen, expected, rtol, atol, path)
    if isinstance(expected, dict):
        return _compare_dict(seen, expected, rtol, atol, path)
    if type(seen) is type(expected) and seen == expected:
        return None
    return Complaint(
        f"{path} is {_say(seen)}, expected {_say(expected)}.", "value" if type(seen) is type(expected) else "type"
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (bool, int, float)) or (isinstance(value, Tensor) and value.ndim == 0)


def _number(value: Any) -> float | int | bool:
    return value.item() if isinstance(value, Tensor) else value


def _compare_number(seen: Any, expected: Any, rtol: float, atol: float, path: str) -> Complaint | None:
    if isinstance(seen, Tensor) and seen.numel() == 1 and seen.ndim <= 1:
        seen = seen.reshape(())
    if not _is_number(seen):
        kind = "shape" if isinstance(seen, Tensor) else "type"
        return Complaint(f"{path} is {_say(seen)}, expected a single number.", kind)
    s, e = _number(seen), _number(expected)
    if isinstance(e, bool) != isinstance(s, bool):
        return Complaint(
            f"{path} is {_say(seen)}, expected {'True or False' if isinstance(e, bool) else 'a number'}.", "dtype"
        )
    if isinstance(s, float) and math.isnan(s) and not (isinstance(e, float) and math.isnan(e)):
        return Complaint(
            f"{path} is NaN, expected {_figure(e)}. Look for 0/0, log of 0 or infinity minus infinity.", "nan"
        )
    if s == e or (math.isnan(s) and math.isnan(e)):
        return None
    if isinstance(e, int) and not isinstance(s, float):
        return Complaint(f"{path} is {s}, expected {e}.")
    tolerance = atol + rtol * abs(e)
    # A whole number may come as a float, but not as its neighbour; and nothing is close to infinity.
    if abs(s - e) <= (min(tolerance, 0.01) if isinstance(e, int) else tolerance) and math.isfinite(e):
        return None
    return Complaint("{path} is {}, expected {}.".format(*_figures(s, e), path=path))


def _kind(dtype: torch.dtype) -> str:
    return "bool" if dtype == torch.bool else "floating point" if dtype.is_floating_point else "whole numbers"


def _compare_tensor(seen: Any, expected: Tensor, rtol: float, atol: float, path: str) -> Complaint | None:
    given = seen
    if isinstance(seen, (list, tuple)):
        seen = _as_tensor(seen, expected)
    if not isinstance(seen, Tensor):
        return Complaint(f"{path} is {_say(given)}, expected a tensor of shape {_shape(expected)}.", "type")
    if seen.shape != expected.shape:
        return Complaint(f"{path} has shape {_shape(seen)}, expected {_shape(expected)}.", "shape")
    if _kind(seen.dtype) != _kind(expected.dtype):
        return Complaint(
            f"{path} holds {_kind(seen.dtype)} ({_dtype(seen)}), "
            f"expected {_kind(expected.dtype)} ({_dtype(expected)}).",
            "dtype",
        )
    s, e = seen.double(), expected.double()
    nans = s.isnan() & ~e.isnan()
    if nans.any():
        index = _index(nans)
        return Complaint(
            f"{path}{_at(index)} is NaN, expected {_figure(e[index].item())}; {int(nans.sum())} of {s.numel()} values "
            "are NaN. Look for 0/0, log of 0 or infinity minus infinity.",
            "nan",
        )
    # Whole numbers are right or wrong, however large: 15,001 is no token near 15,000.
    exact = not expected.dtype.is_floating_point
    close = seen == expected if exact else torch.isclose(s, e, rtol=rtol, atol=atol, equal_nan=True)
    if close.all():
        return None
    # The largest difference tells more than the first.
    gap = (s - e).abs().masked_fill(close, -1).nan_to_num(posinf=1e300)
    index = _index(gap == gap.max())
    wrong = int((~close).sum())
    one, other = _figures(_number(seen[index]), _number(expected[index]))
    return Complaint(f"{path}{_at(index)} is {one}, expected {other}; {wrong} of {s.numel()} values differ.")


def _as_tensor(seen: Sequence[Any], expected: Tensor) -> Tensor | None:
    """A list as the tensor that was expected; None where it is none. A list of tensors is stacked."""
    try:
        if seen and all(isinstance(item, Tensor) for item in seen):
            return torch.stack([item.reshape(()) if item.numel() == 1 == expected.ndim else item for item in seen])
        made = torch.tensor(seen, dtype=torch.float64 if expected.numel() == 0 else None)
    except (ValueError, TypeError, RuntimeError):
        return None
    if not seen or (_kind(made.dtype) == "whole numbers" and expected.dtype.is_floating_point):
        return made.to(expected.dtype)  # [0, 1] is a list of floats as well
    return made


def _index(mask: Tensor) -> tuple[int, ...]:
    return tuple(mask.nonzero()[0].tolist())


def _at(index: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, index))}]" if index else ""


def _compare_sequence(seen: Any, expected: Sequence[Any], rtol: float, atol: float, path: str) -> Complaint | None:
    if isinstance(seen, Tensor) and seen.ndim >= 1:
        seen = seen.tolist()
    if not isinstance(seen, (list, tuple)):
        return Complaint(f"{path} is {_say(seen)}, expected a list of {len(expected)}.", "type")
    if len(seen) != len(expected):
        return Complaint(
            f"{path} has {len(seen)} entries ({_say(seen)}), expected {len(expected)} ({_say(expected)}).", "shape"
        )
    for i, (s, e) in enumerate(zip(seen, expected, strict=True)):
        if problem := compare(s, e, rtol=rtol, atol=atol, path=f"{path}[{i}]"):
            return problem
    return None


def _compare_dict(seen: Any, expected: dict[Any, Any], rtol: float, atol: float, path: str) -> Complaint | None:
    if not isinstance(seen, dict) or set(seen) != set(expected):
        what = f"a dict with {sorted(map(str, seen))[:20]}" if isinstance(seen, dict) else _say(seen)
        return Complaint(f"{path} is {what}, expected a dict with {sorted(map(str, expected))}.", "shape")
    for key, e in expected.items():
        # What a driver recorded is told in its own words.
        where = f"{path}[{key!r}]" if path != "the result" or key not in _RECORDED else _RECORDED[key]
        if problem := compare(seen[key], e, rtol=rtol, atol=atol, path=where):
            return problem
    return None


_RECORDED = {
    "output": "the result",
    "gradients": "the gradient",
    "losses": "the loss of each step",
    "parameters": "after the steps, parameter",
    "buffers": "the tensor that was passed in",
    "activations": "what the hook lets through",
    "trapped": "whether an error in the model reached the caller",
}


def _shape(tensor: Tensor) -> str:
    return f"({', '.join(map(str, tensor.shape))})" if tensor.ndim != 1 else f"({tensor.shape[0]},)"


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _figure(number: float) -> str:
    return str(number) if isinstance(number, (bool, int)) else f"{number:.4g}"


def _figures(seen: float, expected: float) -> tuple[str, str]:
    """Both with as many digits as it takes to see that they differ."""
    if isinstance(seen, int) and isinstance(expected, int):
        return str(seen), str(expected)
    for digits in (4, 6, 9, 17):
        texts = f"{seen:.{digits}g}", f"{expected:.{digits}g}"
        if texts[0] != texts[1]:
            break
    return texts


def _say(value: Any, depth: int = 0) -> str:
    """A value in a few words."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {_shape(value)}" if value.ndim else _figure(value.item())
    if value is None or isinstance(value, (bool, str)):
        return f"{value!r:.60}"
    if isinstance(value, (int, float)):
        return _figure(value)
    if isinstance(value, (list, tuple)):
        shown = [_say(item, depth + 1) for item in value[:4]] if depth < 2 else []
        inside = ", ".join(shown + ["..."] * (len(value) > len(shown)))
        return f"[{inside}]" if isinstance(value, list) else f"({inside})"
    return f"a {type(value).__name__}"


# ---------------------------------------------------------------------------------------------------------------------
# Naming the mistake


def _name(
    plan: Plan,
    found: Sequence[Observation],
    complaints: Sequence[Complaint | None],
    truths: _Truths,
    ask: Asker,
    seconds: float,
) -> Mistake | None:
    exercise = plan.exercise
    by_judge = next((c.mistake for c in complaints if c and c.mistake), None)
    if by_judge:
        return next((m for m in exercise.mistakes if m.name == by_judge), None)
    # Where the values are right and only tidiness is at fault, no other implementation can tell what is wrong.
    only_untidy = all(c is None or c.kind == "tidiness" for c in complaints)
    deadline = time.thread_time() + seconds
    for mistake in exercise.mistakes:
        if time.thread_time() > deadline:
            return None
        if mistake.sign is not None:
            cases = zip(plan.cases, found, complaints, strict=True)
            if any(_shows(mistake.sign, planned.case, observation) for planned, observation, c in cases if c):
                return mistake
        elif not only_untidy and _reproduces(mistake, plan, found, truths, ask, deadline):
            return mistake
    return None


def _shows(sign: Callable[[Case, Observation], bool], case: Case, observation: Observation) -> bool:
    if not any(reply.returned for reply in observation.replies):
        return False
    try:
        return bool(sign(case, observation))
    except _UNFIT:
        return False  # a value of a form that the sign does not expect does not bear it


def _reproduces(
    mistake: Mistake, plan: Plan, found: Sequence[Observation], truths: _Truths, ask: Asker, deadline: float
) -> bool:
    """Whether `wrong` gives what the answer gave wherever that returned a value, and differs from the truth."""
    telling = False
    for i, (planned, observation) in enumerate(zip(plan.cases, found, strict=True)):
        case = planned.case
        if case.judge is not None:
            continue
        returned = [
            (call, reply) for call, reply in zip(case.calls, observation.replies, strict=False) if reply.returned
        ]
        if not returned:
            continue
        if time.thread_time() > deadline:
            return False
        wrong = ask(_answer(mistake, plan.exercise, case), planned.ask).replies
        for j, (call, reply) in enumerate(zip(case.calls, observation.replies, strict=False)):
            if not reply.returned:
                continue
            if j >= len(wrong) or not wrong[j].returned:
                return False
            if not _alike(call.driver, reply, wrong[j], case):
                return False
            telling = telling or _tells(mistake, call.driver, wrong[j], truths[i][j], case)
    return telling


def _answer(mistake: Mistake, exercise: Exercise, case: Case) -> Any:
    """The wrong answer itself; for a value exercise it may be made from the case."""
    return mistake.wrong(case) if exercise.kind == "value" and callable(mistake.wrong) else mistake.wrong


def _alike(driver: str, reply: Reply, wrong: Reply, case: Case) -> bool:
    if driver == "expects_error":
        return _compare_error(reply.value, wrong.value) is None
    return same(reply.value, wrong.value, rtol=case.rtol, atol=case.atol)


def _tells(mistake: Mistake, driver: str, wrong: Reply, truth: Reply, case: Case) -> bool:
    """Whether this case shows the mistake: its value is neither the truth nor something any broken answer gives."""
    if driver == "expects_error":
        return _compare_error(wrong.value, truth.value) is not None
    return (mistake.degenerate or not degenerate(wrong.value)) and not same(
        wrong.value, truth.value, rtol=case.rtol, atol=case.atol
    )


def degenerate(value: Any) -> bool:
    """Nothing, NaN, or zero throughout: what many mistakes come to, and therefore the sign of none."""
    if value is None or (isinstance(value, (list, tuple, dict)) and not value):
        return True
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, Tensor):
        flat = value.detach().double().flatten()
        return flat.numel() == 0 or bool(flat.isnan().any()) or bool((flat == 0).all())
    if isinstance(value, (list, tuple)):
        tensors = [item for item in wire.tensors_in(value) if item.numel()]
        if tensors:
            return degenerate(torch.cat([item.detach().double().flatten() for item in tensors]))
        return all(map(degenerate, value))
    return isinstance(value, (int, float)) and not isinstance(value, bool) and (value == 0 or math.isnan(value))
