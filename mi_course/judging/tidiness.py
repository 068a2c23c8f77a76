"""What the watches saw. It may cost a part, and never earns one."""

from __future__ import annotations

from collections.abc import Sequence

from mi_course.exercises import Case, Complaint
from mi_course.judging.comparison import UNFIT, same
from mi_course.wire import Observation, Reply

__all__ = ["tidy"]


def tidy(case: Case, observation: Observation, truths: Sequence[Reply] = ()) -> Complaint | None:
    try:
        return _untidy(case, observation, truths)
    except UNFIT:
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
