"""What is measured, and on what: pairs of prompts, and the logit difference."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mi_course.exercises import Case, Exercise, Mistake, Part, RandomInputs, case

# ---------------------------------------------------------------------------------------------------------------------
# ioi_prompts

Prompts = tuple[list[str], list[str], list[tuple[str, str]]]


def _filled(template: str, a: str, b: str, s: str) -> str:
    return template.replace("{A}", a).replace("{B}", b).replace("{S}", s)


def _ioi_prompts(pairs: list[tuple[str, str]], template: str) -> Prompts:
    """Oracle: by replacing, two prompts for each pair, written out."""
    clean, corrupted, names = [], [], []
    for a, b in pairs:
        abb, aba = _filled(template, a, b, b), _filled(template, a, b, a)
        clean += [abb, aba]
        corrupted += [aba, abb]
        names += [(a, b), (b, a)]
    return clean, corrupted, names


def _changed(change: Callable[[list, list, list], Prompts]) -> Callable[..., Prompts]:
    """An ioi_prompts that changes the right result."""
    return lambda pairs, template: change(*_ioi_prompts(pairs, template))


def _one_by_one(make: Callable[[str, str, str], list[tuple[str, str, tuple[str, str]]]]) -> Callable[..., Prompts]:
    """An ioi_prompts that makes each pair's prompts by `make(template, a, b)`."""

    def ioi_prompts(pairs: list[tuple[str, str]], template: str) -> Prompts:
        rows = [row for a, b in pairs for row in make(template, a, b)]
        return tuple(map(list, zip(*rows, strict=True)))

    return ioi_prompts


def _orders_apart(pairs: list[tuple[str, str]], template: str) -> Prompts:
    rows = list(zip(*_ioi_prompts(pairs, template), strict=True))
    return tuple(map(list, zip(*(rows[0::2] + rows[1::2]), strict=True)))


def _first_order(pairs: list[tuple[str, str]], template: str) -> Prompts:
    return tuple(column[0::2] for column in _ioi_prompts(pairs, template))


_NAMES = ("Mary", "John", "Alice", "Tom", "Sarah", "James", "Anna", "Paul", "Emma", "David", "Laura", "Peter")
_TEMPLATES = (
    "When {A} and {B} went to the shop, {S} handed a coin to",
    "The letter for {A} came while {B} slept, so {S} read it to",
    "{A} met {B}. {S} said hello to",
)
_OTHER_TEMPLATES = (
    "{S} was late. After {A} and {B} had eaten, {S} paid for",
    "Because {A} had asked {B} and {A} again, {S} gave a ladder to",
)


def _prompt_cases(templates: tuple[str, ...]) -> Callable[[RandomInputs, str], list[Case]]:
    def cases(draw: RandomInputs, size: str) -> list[Case]:
        cases = []
        for i, template in enumerate(templates):
            names = [_NAMES[n] for n in draw.permutation(len(_NAMES))]
            pairs = [(names[2 * k], names[2 * k + 1]) for k in range(2 + i)]
            cases.append(case(pairs, template, about=f"{len(pairs)} pairs and {template!r}"))
        return [*cases, case(pairs, templates[0], about=f"{len(pairs)} pairs and {templates[0]!r}")]

    return cases


IOI_PROMPTS = Exercise(
    id="activation_patching.ioi_prompts",
    task="For each pair (a, b), in this order: two clean prompts with A=a and B=b, first S=b, then S=a; for each its corrupted prompt, which has the other S; and for each the pair (indirect object, subject), "
    "where the indirect object is the one who is not S in the clean prompt. Three lists; a placeholder may occur more than once.",
    minutes=8,
    difficulty=1,
    revision=2,
    oracle=_ioi_prompts,
    parts=(
        Part("both orders, pair by pair", 2, _prompt_cases(_TEMPLATES)),
        Part("templates in which a name or S occurs twice", 1, _prompt_cases(_OTHER_TEMPLATES)),
    ),
    mistakes=(
        Mistake(
            "names_swapped",
            "The names come out as (subject, indirect object). The right answer stands first: for A=Mary, B=John, S=John it is Mary, so the pair is "
            "(Mary, John). Swapped, every logit difference changes its sign.",
            _changed(lambda clean, corrupted, names: (clean, corrupted, [pair[::-1] for pair in names])),
        ),
        Mistake(
            "clean_and_corrupted_exchanged",
            "Clean and corrupted have changed places. The first clean prompt of a pair has S=b; the corrupted one beside it has S=a.",
            _changed(lambda clean, corrupted, names: (corrupted, clean, names)),
        ),
        Mistake(
            "corrupted_is_clean",
            "The corrupted prompts are the clean ones. Between two equal runs there is nothing to patch: put the other name in the place of {S}.",
            _changed(lambda clean, corrupted, names: (clean, list(clean), names)),
        ),
        Mistake(
            "one_order_only",
            "Each pair gives one prompt, in which the answer is named first. A head that looks at the first name then cannot be told from one that looks for the answer: add the prompt with S=a.",
            _first_order,
        ),
        Mistake(
            "names_exchanged_too",
            "In your second prompt a and b have changed places as well as S, so that the answer is named first in both. Keep A=a and B=b; only S changes.",
            _one_by_one(
                lambda t, a, b: [
                    (_filled(t, a, b, b), _filled(t, a, b, a), (a, b)),
                    (_filled(t, b, a, a), _filled(t, b, a, b), (b, a)),
                ]
            ),
        ),
        Mistake(
            "everything_exchanged",
            "In your corrupted prompts A and B are exchanged, and S is not. Change S only: then there is one position at which the runs differ.",
            _one_by_one(
                lambda t, a, b: [
                    (_filled(t, a, b, b), _filled(t, b, a, b), (a, b)),
                    (_filled(t, a, b, a), _filled(t, b, a, a), (b, a)),
                ]
            ),
        ),
        Mistake(
            "orders_apart",
            "The prompts are right, their order is not: first all with S=b, then all with S=a. The order is pair by pair, two prompts for each.",
            _orders_apart,
        ),
        Mistake(
            "names_in_reading_order",
            "The names are always (a, b). In the second prompt of a pair a is the subject, so there it is (b, a).",
            _changed(lambda clean, corrupted, names: (clean, corrupted, [names[i - i % 2] for i in range(len(names))])),
        ),
        Mistake(
            "names_with_space",
            "The names have a leading space. The tokenizer will need one; the names themselves should have none.",
            _changed(lambda clean, corrupted, names: (clean, corrupted, [(f" {a}", f" {b}") for a, b in names])),
        ),
    ),
    hints=(
        "A loop over the pairs, and in it one over the two subjects. In each turn one clean prompt, one corrupted, one pair of names.",
        "`template.format(A=a, B=b, S=subject)` fills the template by name, wherever the braces stand. Who is S in the corrupted prompt?",
    ),
    reveal="Clean and corrupted differ in S alone, and S decides who the answer is. The two prompts of a pair are each other's corrupted prompt, so what the model thinks of particular names cancels; and the answer is named first in one and second in the "
    "other, so a head that follows the order of names cannot pass for one that follows their roles.",
)


# ---------------------------------------------------------------------------------------------------------------------
# logit_difference


def _logit_difference(logits: Tensor, answers: Tensor, last: Tensor) -> Tensor:
    """Oracle: one prompt after the other."""
    values = []
    for b in range(len(logits)):
        row = logits[b][int(last[b])].tolist()
        values.append(row[int(answers[b][0])] - row[int(answers[b][1])])
    return torch.tensor(values)


def _picked(rows: Tensor, answers: Tensor) -> Tensor:
    """right minus wrong of [batch, vocab]."""
    both = rows.gather(-1, answers)
    return both[:, 0] - both[:, 1]


def _at(logits: Tensor, last: Tensor) -> Tensor:
    return logits[torch.arange(len(logits)), last]


def _difference_cases(
    shapes: tuple[tuple[int, int, int], ...], full_length: bool
) -> Callable[[RandomInputs, str], list[Case]]:
    def cases(draw: RandomInputs, size: str) -> list[Case]:
        cases = []
        for batch, pos, vocab in shapes:
            answers = torch.tensor([draw.permutation(vocab)[:2] for _ in range(batch)])
            last = draw.integers(1, pos - 1, batch)
            # At least two prompts of different length, whatever was drawn.
            last[0], last[-1] = (pos - 1, pos - 1) if full_length else (2, pos - 2)
            cases.append(
                case(
                    draw.normal(batch, pos, vocab, mean=1.5, std=2.0),
                    answers,
                    last,
                    about=f"{batch} prompts, last positions {last.tolist()} of {pos}",
                )
            )
        return cases

    return cases


LOGIT_DIFFERENCE = Exercise(
    id="activation_patching.logit_difference",
    revision=2,
    fixed={
        "logits[1]": "`last` indexes it",
        "logits[2]": "`answers` index it",
        "answers[1]": "right and wrong",
    },
    task="The logit of the right answer minus that of the wrong one, at each prompt's own last position.",
    minutes=6,
    difficulty=1,
    oracle=_logit_difference,
    parts=(
        Part("prompts of different lengths", 2, _difference_cases(((3, 7, 9), (5, 6, 12)), False)),
        Part("some as long as the batch; a single prompt", 1, _difference_cases(((4, 5, 8), (1, 6, 7)), True)),
    ),
    mistakes=(
        Mistake(
            "always_last_column",
            "You read the last column of every prompt. Shorter prompts end earlier, followed by padding: use `last`.",
            lambda logits, answers, last: _picked(logits[:, -1], answers),
        ),
        Mistake(
            "one_last_for_all",
            "You read all prompts at the last position of the first one. Each has its own: index batch and position together, `logits[rows, last]`.",
            lambda logits, answers, last: _picked(logits[:, int(last[0])], answers),
        ),
        Mistake(
            "sign_flipped",
            "The sign is flipped: this is wrong minus right. The right answer is `answers[:, 0]`.",
            lambda logits, answers, last: -_picked(_at(logits, last), answers),
        ),
        Mistake(
            "one_position_early",
            "You read one position before the last. The logits *at* the last position already predict what comes next; no shift is needed.",
            lambda logits, answers, last: _picked(_at(logits, last - 1), answers),
        ),
        Mistake(
            "averaged",
            "You returned the mean over the batch. One value per prompt is asked for: the caller averages, or looks at single prompts.",
            lambda logits, answers, last: _picked(_at(logits, last), answers).mean(),
        ),
        Mistake(
            "all_positions",
            "You returned the difference at every position. Only the position where the answer is due counts: each prompt's last.",
            lambda logits, answers, last: (
                logits.gather(-1, answers[:, None, :1].expand(-1, logits.shape[1], -1))
                - logits.gather(-1, answers[:, None, 1:].expand(-1, logits.shape[1], -1))
            ).squeeze(-1),
        ),
        Mistake(
            "right_logit_only",
            "This is the logit of the right answer alone. It moves whenever all names become likelier; the difference does not.",
            lambda logits, answers, last: _at(logits, last).gather(-1, answers)[:, 0],
        ),
        Mistake(
            "probabilities",
            "You subtracted probabilities. They saturate and depend on every other token; logits are what heads add to. Leave out the softmax.",
            lambda logits, answers, last: _picked(_at(logits, last).softmax(-1), answers),
        ),
        Mistake(
            "first_answers_for_all",
            "You used the answers of the first prompt for all of them. Row b of `answers` belongs to prompt b.",
            lambda logits, answers, last: _picked(_at(logits, last), answers[:1].expand(len(logits), -1)),
        ),
    ),
    hints=(
        "First the rows: which of the `pos` rows of each prompt counts? `logits[torch.arange(batch), last]` is [batch, vocab].",
        "Then the columns, prompt by prompt: `at_end[rows, answers[:, 0]]` and `at_end[rows, answers[:, 1]]`.",
    ),
    reveal="Indexing with two tensors picks element by element: `logits[rows, last]` takes for each prompt its own position. The logit difference is linear in the final residual "
    "stream once the norm is frozen, and it equals the log odds of the two names. That makes it a good ruler for contributions.",
)
