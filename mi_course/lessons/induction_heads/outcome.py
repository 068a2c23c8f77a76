"""What the learner finds in SmolLM2: a list of heads, judged by scores measured on sequences they never saw."""

from __future__ import annotations

from collections.abc import Callable

from mi_course.exercises import Call, Case, Complaint, Exercise, Mistake, Part, RandomInputs, heads_in
from mi_course.interp.induction import smollm2_scores
from mi_course.wire import Observation

AT_LEAST, ABOVE = 4, 0.2
"""How many heads are asked for, and the induction score that each needs on held-out sequences. Measured there: eight heads
above 0.38, five between 0.2 and 0.3, and a median of 0.01 (`data/measure_smollm2_induction.py`)."""


def _planted(draw: RandomInputs) -> dict[str, list[list[float]]]:
    """The small size: a table with seven planted heads of each kind, at random positions."""
    layers, heads = 12, 7
    tables = {
        kind: draw.uniform(layers, heads, high=0.1) for kind in ("induction", "duplicate_token", "previous_token")
    }
    places = draw.permutation(layers * heads)
    for i, kind in enumerate(tables):
        for place in places[7 * i : 7 * i + 7]:
            tables[kind].view(-1)[place] = draw.number(0.45, 0.95)
    return {kind: table.tolist() for kind, table in tables.items()}


def _judge(case: Case, observation: Observation) -> Complaint | None:
    tables = case.judge_data
    heads = heads_in(
        observation.replies[0].value,
        len(tables["induction"]),
        len(tables["induction"][0]),
        empty="The list is empty: no head is above your threshold. Lower it, and look at the picture of scores.",
        example="[(3, 1), (5, 0)]",
    )
    if isinstance(heads, Complaint):
        return heads
    induction = tables["induction"]
    strong = {(la, h) for la, row in enumerate(induction) for h, score in enumerate(row) if score >= ABOVE}
    weak = [head for head in heads if head not in strong]
    if not weak and len(heads) >= AT_LEAST:
        return None
    for kind, mistake in (("duplicate_token", "duplicate_token_heads"), ("previous_token", "previous_token_heads")):
        if weak and sum(tables[kind][la][h] >= ABOVE for la, h in weak) > len(weak) / 2:
            return Complaint("", mistake=mistake)
    swapped = [(h, la) for la, h in heads if h < len(induction) and la < len(induction[0])]
    if weak and len(swapped) == len(heads) and all(head in strong for head in swapped):
        return Complaint("", mistake="head_first")
    if not weak:
        return Complaint("", mistake="too_few")
    if len(heads) > 3 * len(strong):
        return Complaint("", mistake="threshold_too_low")
    names = ", ".join(f"{la}.{h} ({induction[la][h]:.2f})" for la, h in weak[:3])
    return Complaint(
        f"Not all of these are induction heads: on sequences that you have not seen, {names} scored below {ABOVE}. "
        f"At least {AT_LEAST} heads are asked for, each with that score or more."
    )


def _cases(draw: RandomInputs, size: str) -> list[Case]:
    tables = smollm2_scores() if size == "full" else _planted(draw)
    return [Case(calls=(Call(driver="value"),), judge=_judge, judge_data=tables, about="scores on held-out sequences")]


def _strongest(kind: str, n: int = 5) -> Callable[[Case], list[tuple[int, int]]]:
    def heads(case: Case) -> list[tuple[int, int]]:
        tables = case.judge_data
        ranked = sorted(
            ((score, la, h) for la, row in enumerate(tables[kind]) for h, score in enumerate(row)), reverse=True
        )
        return [(la, h) for _, la, h in ranked[:n]]

    return heads


MY_INDUCTION_HEADS = Exercise(
    id="induction_heads.my_induction_heads",
    task=f"At least {AT_LEAST} induction heads of SmolLM2, found by you: each scores {ABOVE} or more on sequences you have not seen.",
    minutes=5,
    difficulty=1,
    kind="value",
    fallback="mi_course.interp.induction:smollm2_induction_heads",
    parts=(Part("held-out sequences", 3, _cases),),
    mistakes=(
        Mistake(
            "previous_token_heads",
            "These are previous-token heads: they look one position back, whatever token is there. They are the other half of the circuit, and the "
            "next part of the lesson.",
            _strongest("previous_token"),
        ),
        Mistake(
            "duplicate_token_heads",
            "These are duplicate-token heads: they look at the first copy of the *same* token. An induction head looks one further.",
            _strongest("duplicate_token"),
        ),
        Mistake(
            "head_first",
            "Your pairs are (head, layer). Layer comes first: head 4 of layer 12 is (12, 4).",
            lambda case: [(h, la) for la, h in _strongest("induction")(case)],
        ),
        Mistake(
            "too_few",
            f"These are induction heads, but there are more. At least {AT_LEAST} are asked for: lower your threshold a little.",
            _strongest("induction", 2),
        ),
        Mistake(
            "threshold_too_low",
            "Your list is long, and most of it does not score on sequences that you have not seen. Raise the threshold.",
            lambda case: [(la, h) for la, row in enumerate(case.judge_data["induction"]) for h in range(len(row))],
        ),
    ),
    hints=(
        "You have a table of scores and a function that picks the heads above a threshold. Look at the picture: where is the gap between the heads "
        "that do it and those that do not?",
        "`my_induction_heads = top_heads(scores, 0.4)`, with `scores` from the cell above.",
    ),
    reveal="A score near 0.4 lies in the gap: a handful of heads are above it, and almost all of the others are near zero. Heads between the two are "
    "not a mistake of the method: the model is not made of labelled parts, and some heads do this work some of the time.",
)
