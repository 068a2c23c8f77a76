"""Judges what the watches observed. It may cost a part, and never earns one."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mi_course.exercises import Case, Complaint
from mi_course.judging.comparison import UNFIT, same
from mi_course.wire import Call, Observation, Reply

__all__ = ["tidy"]


def tidy(
    case: Case, observation: Observation, truths: Sequence[Reply] = (), names: Sequence[str] = ()
) -> Complaint | None:
    """The complaint about what the calls left behind, of the kind `tidiness`; None if all is in order.

    names: the answer's parameters.
    """
    try:
        return _untidy(case, observation, truths, names)
    except UNFIT:
        return Complaint(
            "The values are right, but an argument, a model or the random state could not be inspected after the call: "
            "it is no longer what it was.",
            "tidiness",
        )


def _untidy(case: Case, observation: Observation, truths: Sequence[Reply], names: Sequence[str]) -> Complaint | None:
    for i, (call, reply) in enumerate(zip(case.calls, observation.replies, strict=False)):
        watched = reply.watched
        allowed = "[0]" if call.driver == "hook" else None  # a hook may work in place
        changed = [path for path in watched.get("arguments", []) if allowed is None or not path.startswith(allowed)]
        if call.driver == "hook_factory":
            changed = []  # its buffers are there to be written
        if changed:
            place, how = _argument(str(changed[0]), call, names)
            return Complaint(
                f"The values are right, but {place} was changed by the call: the next call gets another result. "
                f"Work on a copy{how}.",
                "tidiness",
            )
        moved = [name for name, kept in watched.get("random_state", {}).items() if not kept]
        if moved:
            return Complaint(
                f"The values are right, but the global random state of {moved[0]} changed: random numbers drawn later "
                f"depend on this call. Use a generator of your own: {_GENERATORS.get(moved[0], _GENERATORS['torch'])}.",
                "tidiness",
            )
        for model in [*watched.get("model", []), *watched.get("hooks", [])]:
            before, after = model["hooks"]
            if after > before:
                return Complaint(
                    f"{after - before} forward hook(s) are left on the model after the call, and change every later "
                    "forward pass. `with model.hooks(...)` and `model.run_with_hooks(...)` remove them.",
                    "tidiness",
                )
            logits, logits_after = model.get("logits", (None, None))
            if not same(logits, logits_after):
                return Complaint(
                    "The model gives other logits after the call than before it: the call changed the model.",
                    "tidiness",
                )
        if watched.get("used_model") == "differs":  # seen by the grader, which makes a second call
            return Complaint(
                "The values are right, but a second call on the same model gives another result than on a fresh one: "
                "the first call changed the model, or left a hook on it.",
                "tidiness",
            )
        if "calls" in watched and i < len(truths) and "calls" in truths[i].watched:
            seen, expected = (sorted(map(sorted, w)) for w in (watched["calls"], truths[i].watched["calls"]))
            if any(not set(_rounded(e)) <= set(_rounded(s)) for s, e in zip(seen, expected, strict=True)):
                return Complaint(
                    "The function among the arguments was not called with every value that it is needed for.",
                    "tidiness",
                )
    return None


_GENERATORS = {
    "torch": "`torch.Generator().manual_seed(seed)`",
    "numpy": "`numpy.random.default_rng(seed)`",
    "random": "`random.Random(seed)`",
}


def _argument(path: str, call: Call, names: Sequence[str]) -> tuple[str, str]:
    """The argument that a path such as `[3][0]` names, as the learner knows it, and how to copy it."""
    number, _, rest = path.removeprefix("[").partition("]")
    i = int(number) if number.isdigit() else -1
    if not 0 <= i < len(call.args):
        return f"argument {path}", ""
    how = {Tensor: " (`.clone()`)", list: " (`list(...)`)", dict: " (`dict(...)`)"}.get(type(call.args[i]), "")
    return (f"`{names[i]}{rest}`" if i < len(names) else f"argument {path}"), how


def _rounded(numbers: Sequence[float]) -> list[float]:
    return [round(n, 3) for n in numbers]
