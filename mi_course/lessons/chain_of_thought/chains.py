"""Changing what is written: chains cut short, and chains with a wrong step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mi_course.exercises import Case, Exercise, Mistake, Part, RandomInputs, case, layout_ref
from mi_course.interp.containers import Layout
from mi_course.wire import Observation, Ref

_VOCAB = 30


def _layout(first_bit: int, n_bits: int, n_steps: int, even: Sequence[int] = (4,), odd: Sequence[int] = (9,)) -> Ref:
    """Hint before the bits, one token after them, then the steps."""
    return layout_ref(
        hint=first_bit - 1,
        first_bit=first_bit,
        n_bits=n_bits,
        first_step=first_bit + n_bits + 1,
        n_steps=n_steps,
        even=tuple(even),
        odd=tuple(odd),
    )


def _length(layout: Ref, after: int) -> int:
    """Tokens of a chain with `after` tokens from the question on."""
    fields = layout.options["fields"]
    return int(fields["first_step"] + fields["n_steps"] + after)


# ---------------------------------------------------------------------------------------------------------------------
# truncate_reasoning


def _truncate_reasoning(tokens: Tensor, steps_kept: int, layout: Layout) -> Tensor:
    """Oracle: token by token, without those that belong to a step that goes."""
    if steps_kept < 0 or steps_kept > layout.n_steps:
        raise ValueError("there are not so many steps")
    gone = list(layout.steps)[steps_kept:]
    return torch.tensor([[token for i, token in enumerate(row) if i not in gone] for row in tokens.tolist()])


def _joined(tokens: Tensor, end: int, start: int) -> Tensor:
    return torch.cat([tokens[:, : max(end, 0)], tokens[:, start:]], dim=1)


def _cut(wrong: Callable[[Tensor, int, Layout], Tensor]) -> Callable[[Tensor, int, Layout], Tensor]:
    """A wrong truncate_reasoning that raises where it should."""

    def truncate(tokens: Tensor, steps_kept: int, layout: Layout) -> Tensor:
        _truncate_reasoning(tokens[:1], steps_kept, layout)
        return wrong(tokens, steps_kept, layout)

    return truncate


def _is_blanked(case: Case, observation: Observation) -> bool:
    """As long as before, with all but the steps in place."""
    tokens, kept, layout = case.calls[0].args
    fields = layout.options["fields"]
    value = torch.as_tensor(observation.replies[0].value)
    if value.shape != tokens.shape or kept == fields["n_steps"]:
        return False
    first, question = fields["first_step"] + kept, fields["first_step"] + fields["n_steps"]
    same = torch.equal(value[:, :first], tokens[:, :first]) and torch.equal(value[:, question:], tokens[:, question:])
    return same and not bool((value[:, first:question] == tokens[:, first:question]).all())


def _unchecked(tokens: Tensor, steps_kept: int, layout: Layout) -> Tensor:
    return _joined(tokens, layout.first_step + steps_kept, layout.question)


def _one_off(shift: int) -> Callable[[Tensor, int, Layout], Tensor]:
    return lambda tokens, kept, layout: _joined(
        tokens, layout.first_step + min(max(kept + shift, 0), layout.n_steps), layout.question
    )


def _cut_cases(asked: Sequence[tuple[int, int, int, int, int, int]]) -> Callable[[RandomInputs, str], list[Case]]:
    """asked: batch, first bit, bits, steps, steps kept, tokens from the question on."""

    def cases(draw: RandomInputs, size: str) -> list[Case]:
        made = []
        for batch, first_bit, n_bits, n_steps, kept, after in asked:
            layout = _layout(first_bit, n_bits, n_steps)
            tokens = draw.integers(0, _VOCAB, batch, _length(layout, after))
            about = f"{batch} chains, {n_bits} bits, {n_steps} steps, {kept} kept"
            made.append(case(tokens, kept, layout, about=about))
        return made

    return cases


def _other_layout_cases(draw: RandomInputs, size: str) -> list[Case]:
    tokens = draw.integers(0, _VOCAB, 3, 13)
    return [
        case(tokens, 2, layout, about=f"the same tokens, {about}")
        for layout, about in (
            (_layout(1, 4, 5), "5 steps from position 6 on"),
            (_layout(2, 3, 4), "4 steps from position 6 on"),
            (_layout(1, 3, 5), "5 steps from position 5 on"),
        )
    ]


def _bounds_cases(draw: RandomInputs, size: str) -> list[Case]:
    layout = _layout(1, 4, 5)
    tokens = draw.integers(0, _VOCAB, 2, _length(layout, 2))
    raising = [
        case(tokens, kept, layout, driver="expects_error", about=f"{kept} steps kept of 5", watch=())
        for kept in (-1, 6, -5, 9)
    ]
    return [case(tokens, 3, layout, about="3 steps kept of 5"), *raising]


TRUNCATE_REASONING = Exercise(
    id="chain_of_thought.truncate_reasoning",
    task="Cut the written steps after the first few: the prompt, the steps that are kept, and from `?` on everything.",
    minutes=5,
    difficulty=1,
    fixed={"tokens[1]": "as long as the layout says"},
    oracle=_truncate_reasoning,
    parts=(
        Part(
            "some steps kept, in other layouts",
            2,
            lambda draw, size: [
                *_cut_cases(((3, 1, 5, 6, 2, 1), (4, 2, 4, 4, 1, 2), (1, 1, 3, 7, 5, 3)))(draw, size),
                *_other_layout_cases(draw, size),
            ],
        ),
        Part(
            "none, all, a single step",
            1,
            _cut_cases(
                ((2, 1, 5, 5, 0, 1), (3, 1, 4, 4, 4, 2), (2, 2, 3, 1, 0, 2), (1, 1, 6, 1, 1, 1), (5, 1, 2, 0, 0, 1))
            ),
        ),
        Part("a number of steps that there is not", 1, _bounds_cases),
    ),
    mistakes=(
        Mistake(
            "question_cut_off",
            "`?` is gone: everything after the kept steps was cut. The model is to answer, so `?` and what follows it has to come after them: `tokens[:, layout.question:]`.",
            _cut(lambda tokens, kept, layout: tokens[:, : layout.first_step + kept]),
        ),
        Mistake(
            "nothing_after_question",
            "`?` is there, but what follows it is gone. Only steps are cut; an answer that stands after `?` stays.",
            _cut(
                lambda tokens, kept, layout: _joined(tokens, layout.first_step + kept, layout.question)[
                    :, : layout.first_step + kept + 1
                ]
            ),
        ),
        Mistake(
            "last_steps_kept",
            "You kept the last steps and cut the first. The model is to answer early, having written the first `steps_kept` steps.",
            _cut(lambda tokens, kept, layout: _joined(tokens, layout.first_step, layout.question - kept)),
        ),
        Mistake(
            "steps_removed",
            "You cut `steps_kept` steps off the end. That many are to stay; the others go.",
            _cut(lambda tokens, kept, layout: _joined(tokens, layout.question - kept, layout.question)),
        ),
        Mistake(
            "one_too_many",
            "You kept one step more than `steps_kept`. The slice `tokens[:, :layout.first_step + steps_kept]` ends before the first that goes.",
            _cut(_one_off(1)),
        ),
        Mistake(
            "one_too_few",
            "You kept one step fewer than `steps_kept`. The end of a slice is not part of it: `tokens[:, :layout.first_step + steps_kept]`.",
            _cut(_one_off(-1)),
        ),
        Mistake(
            "bits_counted",
            "You took the number of bits for the number of steps: what you kept after the cut begins at the wrong place. There may be fewer steps than bits, or more; `layout.question` is the position after the last one.",
            _cut(
                lambda tokens, kept, layout: _joined(
                    tokens, layout.first_step + kept, layout.first_step + layout.n_bits
                )
            ),
        ),
        Mistake(
            "bits_cut",
            "You cut bits, and left the steps. The steps begin at `layout.first_step`.",
            _cut(
                lambda tokens, kept, layout: _joined(
                    tokens, layout.first_bit + min(kept, layout.n_bits), layout.first_bit + layout.n_bits
                )
            ),
        ),
        Mistake(
            "steps_blanked",
            "Your result is as long as the chain was, with other tokens in place of the steps. They are to be cut out, so that `?` comes right after the last kept step. (A blank is an experiment of its own: filler tokens.)",
            _cut(
                lambda tokens, kept, layout: torch.where(
                    (torch.arange(tokens.shape[1]) >= layout.first_step + kept)
                    & (torch.arange(tokens.shape[1]) < layout.question),
                    0,
                    tokens,
                )
            ),
            _is_blanked,
        ),
        Mistake(
            "steps_only",
            "Only the kept steps came back. The prompt before them stays, and so does `?`.",
            _cut(lambda tokens, kept, layout: tokens[:, layout.first_step : layout.first_step + kept]),
        ),
        Mistake(
            "no_error",
            "Right, but with fewer than 0 or more than all steps you returned something. Slices never complain: −1 cuts off part of the prompt. Raise a ValueError if `steps_kept` is not between 0 and `layout.n_steps`.",
            _unchecked,
        ),
    ),
    hints=(
        "The result is two slices of the positions, one behind the other: what comes before the first step that goes, and what begins with `?`.",
        "`tokens[:, : layout.first_step + steps_kept]` and `tokens[:, layout.question :]`, joined by `torch.cat([...], dim=1)`.",
        "`if not 0 <= steps_kept <= layout.n_steps: raise ValueError(...)` comes first.",
    ),
    reveal="Early answering (Lanham et al. 2023, section 2.3): if the answer is settled before the steps are written, they were not needed for it. The cut makes the chain shorter, so `?` stands where it never stood if a model has only seen whole chains, and then its answer says nothing about reasoning. "
    "The models of this lesson have seen chains of every length.",
)


# ---------------------------------------------------------------------------------------------------------------------
# corrupt_step


def _corrupt_step(tokens: Tensor, step: int, carry_on: bool, layout: Layout) -> Tensor:
    """Oracle: one token at a time."""
    rows = tokens.tolist()
    for row in rows:
        for i, position in enumerate(layout.steps):
            if i == step or (carry_on and i > step):
                pair = (layout.even, layout.odd) if row[position] in layout.even else (layout.odd, layout.even)
                row[position] = pair[1][pair[0].index(row[position])]
    return torch.tensor(rows)


def _opposite(token: int, layout: Layout, spelling: int | None = None) -> int:
    """The other meaning; in the same spelling if none is given. A token that is no step stays."""
    for here, there in ((layout.even, layout.odd), (layout.odd, layout.even)):
        if token in here:
            return there[here.index(token) if spelling is None else spelling]
    return token


def _at(
    pick: Callable[[int, bool, Layout], Sequence[int]], spelling: int | None = None
) -> Callable[[Tensor, int, bool, Layout], Tensor]:
    """A wrong corrupt_step that turns the tokens at other positions, or spells them otherwise."""

    def corrupt(tokens: Tensor, step: int, carry_on: bool, layout: Layout) -> Tensor:
        turned = tokens.clone()
        for position in pick(step, carry_on, layout):
            if 0 <= position < tokens.shape[1]:
                turned[:, position] = torch.tensor(
                    [_opposite(token, layout, spelling) for token in tokens[:, position].tolist()]
                )
        return turned

    return corrupt


def _right(step: int, carry_on: bool, layout: Layout) -> Sequence[int]:
    return layout.steps[step:] if carry_on else layout.steps[step : step + 1]


def _first_row(tokens: Tensor, step: int, carry_on: bool, layout: Layout) -> Tensor:
    return torch.cat([_corrupt_step(tokens[:1], step, carry_on, layout), tokens[1:]])


def _all_like_the_step(tokens: Tensor, step: int, carry_on: bool, layout: Layout) -> Tensor:
    """Later steps are set to what the wrong step says."""
    turned = _corrupt_step(tokens, step, False, layout)
    if carry_on:
        for position in layout.steps[step + 1 :]:
            turned[:, position] = turned[:, layout.steps[step]]
    return turned


def _every_such_token(tokens: Tensor, step: int, carry_on: bool, layout: Layout) -> Tensor:
    """Turns whatever the step says, wherever it stands in the row."""
    rows = tokens.tolist()
    out = []
    for row in rows:
        said = {row[position] for position in _right(step, carry_on, layout)}
        out.append([_opposite(token, layout) if token in said else token for token in row])
    return torch.tensor(out)


def _to_one_meaning(which: str) -> Callable[[Tensor, int, bool, Layout], Tensor]:
    def corrupt(tokens: Tensor, step: int, carry_on: bool, layout: Layout) -> Tensor:
        turned = _corrupt_step(tokens, step, carry_on, layout)
        for position in _right(step, False, layout):
            turned[:, position] = getattr(layout, which)[0]
        return turned

    return corrupt


def _other_spelling(tokens: Tensor, step: int, carry_on: bool, layout: Layout) -> Tensor:
    """The step is spelled otherwise and says the same."""
    turned = tokens.clone()
    for position in _right(step, carry_on, layout):
        for spellings in (layout.even, layout.odd):
            for i, token in enumerate(spellings):
                turned[:, position][tokens[:, position] == token] = spellings[(i + 1) % len(spellings)]
    return turned


def _steps_case(
    draw: RandomInputs, layout: Ref, batch: int, step: int, carry_on: bool, after: int = 1, about: str = ""
) -> Case:
    """Spellings stand everywhere in the chain, among the steps nothing else."""
    fields = layout.options["fields"]
    spellings = torch.tensor([*fields["even"], *fields["odd"]])
    tokens = draw.integers(0, _VOCAB, batch, _length(layout, after))
    strays = spellings[draw.integers(0, len(spellings), *tokens.shape)]
    tokens = torch.where(draw.uniform(*tokens.shape) < 0.5, strays, tokens)
    first, n = fields["first_step"], fields["n_steps"]
    tokens[:, first : first + n] = spellings[draw.integers(0, len(spellings), batch, n)]
    words = f"{batch} chains of {n} steps, step {step}{', carried on' if carry_on else ''}"
    return case(tokens, step, carry_on, layout, about=f"{words}; {about}" if about else words)


def _corrupt_cases(
    asked: Sequence[tuple[int, int, int, int, bool, int]], even: Sequence[int], odd: Sequence[int]
) -> Callable[[RandomInputs, str], list[Case]]:
    """asked: batch, bits, steps, step, carried on, tokens from the question on."""

    def cases(draw: RandomInputs, size: str) -> list[Case]:
        return [
            _steps_case(draw, _layout(1, n_bits, n_steps, even, odd), batch, step, carry_on, after)
            for batch, n_bits, n_steps, step, carry_on, after in asked
        ]

    return cases


def _alike_cases(draw: RandomInputs, size: str) -> list[Case]:
    """The same tokens, asked in ways that differ in one respect."""
    spelled = ((4, 7), (9, 11))
    first = _steps_case(draw, _layout(1, 4, 5, *spelled), 4, 1, True, 2)
    tokens = first.calls[0].args[0]
    again = _steps_case(draw, _layout(1, 4, 5, *spelled), 4, 1, True, 2, "others")
    # Steps stand at 6 to 10. Here they would be at 6 to 9, and spelled the other way round.
    others = [
        (1, False, _layout(1, 4, 5, *spelled), "not carried on"),
        (3, True, _layout(1, 4, 5, *spelled), "another step"),
        (1, True, _layout(1, 4, 4, *spelled), "one step fewer"),
        (1, True, _layout(1, 4, 5, (4, 7), (11, 9)), "spelled in other pairs"),
    ]
    return [first, again, *(case(tokens, step, on, layout, about=about) for step, on, layout, about in others)]


CORRUPT_STEP = Exercise(
    id="chain_of_thought.corrupt_step",
    task="Turn what one written step says, from even to odd or from odd to even; and every later step with it, if the mistake is to be carried on.",
    minutes=9,
    difficulty=2,
    fixed={
        "tokens": "among the steps there is nothing but even and odd",
        "tokens[1]": "as long as the layout says",
    },
    oracle=_corrupt_step,
    parts=(
        Part(
            "one step alone",
            2,
            _corrupt_cases(((5, 6, 7, 2, False, 1), (4, 5, 5, 4, False, 2), (6, 3, 4, 0, False, 3)), (4,), (9,)),
        ),
        Part(
            "carried on to the last step",
            2,
            _corrupt_cases(((5, 6, 7, 2, True, 2), (4, 5, 5, 4, True, 1), (6, 3, 4, 0, True, 3)), (6,), (2,)),
        ),
        Part(
            "several spellings, a single chain",
            1,
            lambda draw, size: [
                *_corrupt_cases(
                    ((6, 6, 7, 3, False, 2), (5, 4, 5, 1, True, 1), (1, 5, 6, 2, True, 1), (3, 3, 1, 0, False, 2)),
                    (10, 11, 12),
                    (13, 14, 3),
                )(draw, size),
                *_alike_cases(draw, size),
            ],
        ),
    ),
    mistakes=(
        Mistake(
            "carried_on_anyway",
            "Your later steps are turned even where `carry_on` is False. Then only the one step is wrong, and the next one no longer follows from it.",
            _at(lambda step, carry_on, layout: _right(step, True, layout)),
        ),
        Mistake(
            "never_carried_on",
            "Your later steps stay as they were, even with `carry_on`. A running parity that is wrong once is wrong from then on: turn every later step too.",
            _at(lambda step, carry_on, layout: _right(step, False, layout)),
        ),
        Mistake(
            "only_later_steps",
            "With `carry_on` you turned the later steps, and not the step itself.",
            _at(lambda step, carry_on, layout: layout.steps[step + 1 :] if carry_on else layout.steps[step : step + 1]),
        ),
        Mistake(
            "carried_one_step",
            "With `carry_on` you turned the step and the next one. The mistake is carried on to the last step.",
            _at(lambda step, carry_on, layout: layout.steps[step : step + 1 + carry_on]),
        ),
        Mistake(
            "carried_past_steps",
            "You carried the mistake beyond the last step, to `?` or what follows it. Steps end before `layout.question`.",
            _at(
                lambda step, carry_on, layout: (
                    range(layout.first_step + step, 99) if carry_on else layout.steps[step : step + 1]
                )
            ),
        ),
        Mistake(
            "earlier_steps_too",
            "With `carry_on` you turned all steps, the earlier ones too. They come before the mistake.",
            _at(lambda step, carry_on, layout: layout.steps if carry_on else layout.steps[step : step + 1]),
        ),
        Mistake(
            "all_like_the_step",
            "With `carry_on` you set the later steps to what the wrong step says. A later step is the parity so far: turned, it says the opposite of what *it* said.",
            _all_like_the_step,
        ),
        Mistake(
            "one_step_late",
            "You turned the step after the one that was meant. Steps count from 0: step i stands at `layout.first_step + i`.",
            _at(lambda step, carry_on, layout: _right(step + 1, carry_on, layout)),
        ),
        Mistake(
            "one_step_early",
            "You turned the step before the one that was meant (or `=`). Steps count from 0: step i stands at `layout.first_step + i`.",
            _at(
                lambda step, carry_on, layout: range(
                    layout.first_step + step - 1, layout.question if carry_on else layout.first_step + step
                )
            ),
        ),
        Mistake(
            "position_for_step",
            "You turned the token at position `step` of the chain. Step i stands at `layout.first_step + i`.",
            _at(lambda step, carry_on, layout: range(step, layout.question) if carry_on else [step]),
        ),
        Mistake(
            "bits_turned",
            "You turned tokens among the bits. The written steps begin at `layout.first_step`.",
            _at(
                lambda step, carry_on, layout: (
                    range(layout.first_bit + step, layout.first_bit + layout.n_bits)
                    if carry_on
                    else [layout.first_bit + step]
                )
            ),
        ),
        Mistake(
            "bits_counted",
            "You carried the mistake over as many steps as there are bits. There may be more steps, or fewer: `layout.n_steps` counts them.",
            _at(
                lambda step, carry_on, layout: (
                    range(layout.first_step + step, layout.first_step + layout.n_bits)
                    if carry_on
                    else layout.steps[step : step + 1]
                )
            ),
        ),
        Mistake(
            "first_chain_only",
            "Only the first chain was changed. Begin the index with `:` for all of them.",
            _first_row,
        ),
        Mistake(
            "always_odd",
            "Your step says *odd* now, whatever it said before: in half of the chains nothing has changed. It must say the opposite of what it said.",
            _to_one_meaning("odd"),
        ),
        Mistake(
            "always_even",
            "Your step says *even* now, whatever it said before: in half of the chains nothing has changed. It must say the opposite of what it said.",
            _to_one_meaning("even"),
        ),
        Mistake(
            "same_meaning",
            "Your step is spelled otherwise, and says what it said before. That is a paraphrase; a mistake says the opposite.",
            _other_spelling,
        ),
        Mistake(
            "first_spelling",
            "Your step says the right thing, in the first spelling. Keep the spelling (`layout.even[i]` becomes `layout.odd[i]`), so that nothing changes but what it says.",
            _at(_right, 0),
        ),
        Mistake(
            "every_such_token",
            "You turned that token wherever it stands in the chain, also outside the steps or in other steps. Only the positions that are meant may change.",
            _every_such_token,
        ),
        Mistake(
            "nothing_turned",
            "Nothing has changed: these are the chains as they were.",
            lambda tokens, step, carry_on, layout: tokens,
        ),
    ),
    hints=(
        "A dict from each spelling to its opposite does the turning: pair `layout.even + layout.odd` with `layout.odd + layout.even`.",
        "The positions are `layout.steps[step:]` if the mistake is carried on, else `layout.steps[step]` alone. (A range can be sliced.)",
        "On a copy: `turned[:, position] = torch.tensor([other[token] for token in tokens[:, position].tolist()])`.",
    ),
    reveal="Lanham et al. (2023, section 2.4) let one language model write the mistake, and the model under test go on from there. Here both are exact: a step has one opposite, and a running parity that is wrong once is wrong to the end. Whether the later steps are carried on decides what is tested. With them the whole text argues for another answer; "
    "without them the last step is still right, and a model that reads only that one looks as if it read nothing.",
)
