"""How well a label or a direction does: detection, fuzzing, AUROC, and latents against neurons."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mi_course.exercises import Call, Case, Exercise, Mistake, Part, RandomInputs, case
from mi_course.wire import Observation

ENOUGH = 3
"""Replies that must agree with a wrong formula before a message names it."""


def _gives(wrong: Callable[..., Any], truth: Callable[..., Any], whole: Callable[..., bool]) -> Any:
    """A `detect`: what was seen in the first faulty case is what this formula gives, wherever no kind is absent.

    Where one is, the formula of a learner may give 0, ½, NaN or an error, and the diagnosis is the same.
    whole: whether no kind is absent from a call's arguments.
    """

    def detect(case: Case, observation: Observation) -> bool:
        pairs = zip(case.calls, observation.replies, strict=True)
        seen = [(float(reply.value), call.args) for call, reply in pairs if reply.returned and whole(*call.args)]
        if len(seen) < ENOUGH or any(not math.isclose(value, wrong(*args), abs_tol=1e-4) for value, args in seen):
            return False
        return any(abs(value - truth(*args)) > 1e-3 for value, args in seen)

    return detect


def _together(inputs: Sequence[tuple[Any, ...]], about: str) -> Case:
    """One case of several calls. Importing scikit-learn or SciPy for the first time takes seconds."""
    return Case(tuple(Call(args, watch=("arguments",)) for args in inputs), about=about, limit_s=15.0)


def _until(draw: Callable[[], Any], wanted: Callable[[Any], bool]) -> Any:
    """The first draw of 300 that is as wanted."""
    return next(filter(wanted, (draw() for _ in range(300))))


# ---------------------------------------------------------------------------------------------------------------------
# detection_score


def _share(flags: Sequence[bool], absent: float = 0.0) -> float:
    return sum(flags) / len(flags) if len(flags) else absent


def _rates(predicted: Tensor, fired: Tensor, absent: float = 0.0) -> tuple[float, float]:
    """The true positive rate and the true negative rate; `absent` in place of 0/0."""
    pairs = list(zip(predicted.tolist(), fired.tolist(), strict=True))
    return _share([p for p, f in pairs if f], absent), _share([not p for p, f in pairs if not f], absent)


def _both_kinds(flags: Tensor) -> bool:
    return len(set(flags.tolist())) == 2


def _detection_score(predicted: Tensor, fired: Tensor) -> float:
    """Oracle: context by context."""
    return sum(_rates(predicted, fired)) / 2 if _both_kinds(fired) else 0.5


Formula = Callable[[float, float, float, float], float]
"""From the numbers of true positives, false positives, false negatives and true negatives."""


def _formula(formula: Formula) -> Callable[[Tensor, Tensor], float]:
    """A score of the four counts; 0.5 where a kind is absent, 0 for 0/0."""

    def score(predicted: Tensor, fired: Tensor) -> float:
        if not _both_kinds(fired):
            return 0.5
        pairs = list(zip(predicted.tolist(), fired.tolist(), strict=True))
        counts = [pairs.count(kind) for kind in ((True, True), (True, False), (False, True), (False, False))]
        try:
            return formula(*counts)
        except ZeroDivisionError:
            return 0.0

    return score


def _exchanged_kinds(predicted: Tensor, fired: Tensor) -> float:
    return _detection_score(fired, predicted)


def _absent_rate(absent: float) -> Callable[[Tensor, Tensor], float]:
    return lambda predicted, fired: sum(_rates(predicted, fired, absent)) / 2


def _present_rate(predicted: Tensor, fired: Tensor) -> float:
    rates = [rate for rate in _rates(predicted, fired, math.nan) if not math.isnan(rate)]
    return sum(rates) / len(rates) if rates else 0.5


def _predictions(draw: RandomInputs, n: int, fired: float, hit: float, alarm: float) -> tuple[Tensor, Tensor]:
    """Contexts of both kinds, of which a rule finds about the share `hit` and takes the share `alarm` for others."""
    truth = torch.zeros(n, dtype=torch.bool)
    truth[draw.permutation(n)[: max(1, min(n - 1, round(n * fired)))]] = True
    return draw.uniform(n) < torch.where(truth, hit, alarm), truth


def _rare(draw: RandomInputs) -> tuple[Tensor, Tensor]:
    """300 contexts, of which two activate the latent and one of these is found."""
    predicted, fired = draw.uniform(300) < 0.1, torch.zeros(300, dtype=torch.bool)
    places = draw.permutation(300)[:2]
    fired[places] = True
    predicted[places] = torch.tensor([True, False])
    return predicted, fired


def _contexts(draw: RandomInputs, size: str) -> list[Case]:
    settings = (
        (40, 0.5, 0.7, 0.2),
        (57, 0.15, 0.6, 0.3),
        (33, 0.8, 0.4, 0.3),
        (90, 0.08, 0.9, 0.1),
        (26, 0.4, 0.3, 0.6),
    )

    def inputs(*setting: Any) -> Any:
        # Both kinds are found and missed, so that no two of the usual scores agree.
        return _until(
            lambda: _predictions(draw, *setting),
            lambda made: all(0 < rate < 1 for rate in _rates(*made)) and abs(_detection_score(*made) - 0.5) > 0.02,
        )

    drawn = [inputs(*setting) for setting in settings]
    predicted, fired = drawn[1]
    rare, others = _rare(draw), _rare(draw)
    changed = [(predicted, fired), (~predicted, fired), (predicted, ~fired), (predicted.flip(0), fired)]
    return [
        _together(drawn, "26 to 90 contexts, of which 8 to 80 % activate the latent"),
        case(*inputs(31, 0.3, 0.7, 0.2), about="31 contexts, of which 9 activate the latent"),
        case(*rare, about="300 contexts, of which 2 activate the latent"),
        case(~others[0], ~others[1], about="300 contexts, of which all but 2 activate the latent"),
        _together([*changed, (fired, predicted)], "the same contexts, one thing changed at a time"),
    ]


def _odd_contexts(draw: RandomInputs, size: str) -> list[Case]:
    some = torch.tensor([True, False, True, True, False])
    yes, no = torch.ones(5, dtype=torch.bool), torch.zeros(5, dtype=torch.bool)
    three = torch.tensor([True, False, False]), torch.tensor([True, False, True])
    return [
        case(*three, about="three contexts"),
        _together([(some, yes), (yes, yes), (no, yes)], "the latent is active in all contexts"),
        _together([(some, no), (yes, no), (no, no)], "the latent is active in no context"),
        _together([(flags[:1], truth[:1]) for flags in (yes, no) for truth in (yes, no)], "a single context"),
        case(no[:0], no[:0], about="no context at all"),
        _together([(some, some), (~some, some)], "all right, then all wrong"),
        _together([(yes, some), (no, some)], "a rule that says yes to everything, then one that never does"),
    ]


def _named(formula: Callable[..., float]) -> Any:
    return _gives(formula, _detection_score, lambda predicted, fired: _both_kinds(predicted) and _both_kinds(fired))


def _wrong_detection(name: str, message: str, formula: Callable[..., float]) -> Mistake:
    return Mistake(name, message, formula, _named(formula))


DETECTION_SCORE = Exercise(
    id="feature_steering.detection_score",
    task="How well a rule says in which contexts a latent is active: the balanced accuracy.",
    minutes=6,
    difficulty=1,
    fixed={"result>=0": "a mean of rates", "result<=1": "a mean of rates"},
    oracle=_detection_score,
    parts=(
        Part("many contexts, few, and rare ones", 2, _contexts),
        Part("a kind is absent, three contexts, one, none", 1, _odd_contexts),
    ),
    mistakes=(
        _wrong_detection(
            "accuracy",
            "This is plain accuracy. Where one context in a hundred activates the latent, a rule that never says yes has an accuracy of 0.99: average the rate among the active contexts and the rate among the others instead.",
            _formula(lambda tp, fp, fn, tn: (tp + tn) / (tp + fp + fn + tn)),
        ),
        _wrong_detection(
            "f1",
            "This is F1. It does not look at true negatives, and is not ½ for a rule that guesses: average the true positive and the true negative rate.",
            _formula(lambda tp, fp, fn, tn: 2 * tp / (2 * tp + fp + fn)),
        ),
        _wrong_detection(
            "precision",
            "This is the precision: of the contexts that the rule names, the share that activate the latent. Go the other way, from what the latent did to what the rule said, and for both kinds of context.",
            _formula(lambda tp, fp, fn, tn: tp / (tp + fp)),
        ),
        _wrong_detection(
            "recall",
            "This is the true positive rate alone, which is 1 for a rule that always says yes. Average it with the true negative rate.",
            _formula(lambda tp, fp, fn, tn: tp / (tp + fn)),
        ),
        _wrong_detection(
            "true_negatives_only",
            "This is the true negative rate alone, which is 1 for a rule that never says yes. Average it with the true positive rate.",
            _formula(lambda tp, fp, fn, tn: tn / (tn + fp)),
        ),
        _wrong_detection(
            "exchanged",
            "`predicted` and `fired` are exchanged. Balanced accuracy is not symmetric: both rates are taken among contexts of one kind of *truth*, `fired`, never among those of one prediction.",
            _exchanged_kinds,
        ),
        _wrong_detection(
            "precision_and_recall",
            "You averaged precision and recall. The other half of balanced accuracy is the true *negative* rate: the share of inactive contexts about which the rule says no.",
            _formula(lambda tp, fp, fn, tn: (tp / (tp + fp) if tp + fp else 0.0) / 2 + tp / (tp + fn) / 2),
        ),
        _wrong_detection(
            "informedness",
            "This is the sum of the two rates minus 1, which is 0 by chance. Their mean is asked for, which is ½ by chance.",
            _formula(lambda tp, fp, fn, tn: tp / (tp + fn) + tn / (tn + fp) - 1),
        ),
        _wrong_detection(
            "geometric_mean",
            "You took the geometric mean of the two rates, the root of their product. The arithmetic mean is asked for.",
            _formula(lambda tp, fp, fn, tn: math.sqrt(tp / (tp + fn) * tn / (tn + fp))),
        ),
        Mistake(
            "absent_is_nan",
            "Where all contexts are of one kind, the other rate is 0/0. Such contexts cannot show that a rule is good: return 0.5.",
            _absent_rate(math.nan),
            degenerate=True,
        ),
        Mistake(
            "absent_is_zero",
            "The rate of a kind that is absent counts as 0 in your mean. Such contexts cannot show whether a rule is good: return 0.5, whatever it says about the other kind.",
            _absent_rate(0.0),
        ),
        Mistake(
            "absent_is_one",
            "The rate of a kind that is absent counts as 1 in your mean. Such contexts cannot show whether a rule is good: return 0.5, whatever it says about the other kind.",
            _absent_rate(1.0),
        ),
        Mistake(
            "present_kind_only",
            "Where one kind of context is absent, you return the rate of the other. A rule that always says yes is then perfect on active contexts: return 0.5.",
            _present_rate,
        ),
    ),
    hints=(
        "Look at the contexts in which the latent is active, and at the others, separately. What share of each does the rule get right?",
        "`predicted[fired]` are the predictions for the active contexts. The mean of truth values is a share.",
        "`(predicted[fired].double().mean() + (~predicted[~fired]).double().mean()) / 2`, after the question whether both kinds are there.",
    ),
    reveal="Most latents are active in few contexts, and plain accuracy then rewards the rule that says no. Balanced accuracy gives each kind of context half of the weight: a rule that does not look, whether it always says yes, never, or throws a coin, gets ½ on average. "
    "The price: it does not say how many of the contexts that the rule names are wrong. Among rare latents a rule with a score of 0.95 may name ten wrong contexts for each right one.",
)


# ---------------------------------------------------------------------------------------------------------------------
# fuzzing_score


Marks = Callable[[Sequence[bool], Sequence[bool]], bool]
"""Says of one example, from `matched` and `marked`, whether its marks are right."""


def _at_least_half(matched: Sequence[bool], marked: Sequence[bool]) -> bool:
    found = [m for m, mark in zip(matched, marked, strict=True) if mark]
    return bool(found) and found.count(True) >= found.count(False)


def _fuzzing(
    says: Marks = _at_least_half, score: Callable[[Tensor, Tensor], float] = _detection_score
) -> Callable[[Tensor, Tensor, Tensor], float]:
    """Oracle, or one of which a piece is wrong: example by example, token by token."""

    def fuzzing_score(matched: Tensor, marked: Tensor, right: Tensor) -> float:
        said = [says(a, b) for a, b in zip(matched.tolist(), marked.tolist(), strict=True)]
        return score(torch.tensor(said, dtype=torch.bool), right)

    return fuzzing_score


def _hits(matched: Sequence[bool], marked: Sequence[bool]) -> int:
    return sum(a and b for a, b in zip(matched, marked, strict=True))


def _shares(matched: Tensor, marked: Tensor, right: Tensor) -> float:
    """The share of marked tokens that are matched, averaged instead of decided."""
    if not _both_kinds(right):
        return 0.5
    shares = (matched & marked).sum(1) / marked.sum(1).clamp(min=1)
    return float(shares[right].mean() + (1 - shares[~right]).mean()) / 2


def _pooled(matched: Tensor, marked: Tensor, right: Tensor) -> float:
    """Marked tokens of all examples in one pot."""
    return _detection_score(matched[marked], right[:, None].expand_as(marked)[marked])


def _tokens(matched: Tensor, marked: Tensor, right: Tensor) -> float:
    return _detection_score(matched.flatten(), marked.flatten())


def _marked_examples(
    draw: RandomInputs, examples: int, tokens: int, most: int, skill: float, noise: float = 0.1
) -> tuple[Tensor, Tensor, Tensor]:
    """Examples with 0 to `most` marks.

    In the share `skill` of them the rule matches more than half of the marks where they are right, and less than half
    where they are not; often it is half exactly, or one more, or one less.
    """
    marked = torch.zeros(examples, tokens, dtype=torch.bool)
    matched = draw.uniform(examples, tokens) < noise
    right = draw.uniform(examples) < 0.5
    for i in range(examples):
        marks = draw.integer(0 if i % 4 == 0 else 1, most + 1)
        places = draw.permutation(tokens)[:marks]
        yes = bool(right[i]) == (draw.number() < skill)
        near = (marks + 1) // 2 + draw.integer(0, 2) if yes else (marks - 1) // 2 - draw.integer(0, 2)
        hits = max(0, min(marks, near if i % 3 else draw.integer(0, marks + 1)))
        marked[i, places] = True
        matched[i, places] = torch.arange(marks) < hits
    return matched, marked, right


def _telling(made: tuple[Tensor, Tensor, Tensor]) -> bool:
    return _both_kinds(made[2]) and abs(_fuzzing()(*made) - 0.5) > 0.04


def _fuzzing_cases(draw: RandomInputs, size: str) -> list[Case]:
    settings = ((40, 8, 6, 0.8), (26, 14, 4, 0.7), (35, 30, 24, 0.8), (50, 6, 5, 0.25), (18, 11, 3, 0.9))
    drawn = [_until(partial(_marked_examples, draw, *s), _telling) for s in settings]
    matched, marked, right = drawn[0]
    changed = [
        (matched, marked, right),
        (matched.flip(0), marked, right),
        (matched, marked.flip(0), right),
        (matched, marked, right.flip(0)),
        (matched, marked, ~right),
        (~matched, marked, right),
        (marked, matched, right),
    ]
    unbalanced = _until(lambda: _marked_examples(draw, 24, 9, 4, 0.8), _telling)
    return [
        _together(drawn, "18 to 50 examples of 6 to 30 tokens"),
        case(*unbalanced, about="24 examples of 9 tokens"),
        _together(changed, "the same examples, one thing changed at a time"),
    ]


def _row(tokens: int, *places: int) -> list[bool]:
    return [place in places for place in range(tokens)]


def _odd_fuzzing(draw: RandomInputs, size: str) -> list[Case]:
    matched, marked, right = _until(lambda: _marked_examples(draw, 12, 7, 5, 0.8), _telling)
    # Half of the marks exactly, one mark in a hundred tokens, no mark, all tokens marked.
    hits = torch.tensor([_row(100, 3, 60), _row(100, 41), _row(100, 5), _row(100, *range(49)), _row(100, *range(50))])
    marks = torch.tensor([_row(100, 3, 8), _row(100, 41), _row(100), _row(100, *range(100)), _row(100, *range(100))])
    kinds = [[True, True, False, False, True], [True, True, True, False, True], [False, True, False, False, False]]
    many = _marked_examples(draw, 280, 3, 2, 1.0)
    seldom = torch.zeros(280, dtype=torch.bool)
    seldom[draw.permutation(280)[:3]] = True
    one = (
        torch.tensor([[True], [True], [False], [False], [True]]),
        torch.tensor([[True], [True], [True], [False], [True]]),
    )
    return [
        _together(
            [(hits, marks, torch.tensor(kind)) for kind in kinds],
            "5 examples of 100 tokens; half of the marks matched, one more, one less; no marks",
        ),
        _together([(*many[:2], seldom), (*many[:2], ~seldom)], "280 examples, of which 3 are of one kind"),
        _together([(*one, torch.tensor(kind)) for kind in kinds], "5 examples of a single token"),
        _together(
            [(matched, marked, right | True), (matched, marked, right & False)], "all marks are right, then none are"
        ),
        _together([(matched[i : i + 1], marked[i : i + 1], right[i : i + 1]) for i in range(3)], "a single example"),
        case(matched[:0], marked[:0], right[:0], about="no example"),
        _together(
            [(marked, marked, right), (~marked, marked, right)],
            "a rule that matches all marks, and one that matches all other tokens",
        ),
    ]


def _named_fuzzing(formula: Callable[..., float]) -> Any:
    return _gives(formula, _fuzzing(), lambda matched, marked, right: _both_kinds(right))


def _wrong_fuzzing(name: str, message: str, formula: Callable[..., float]) -> Mistake:
    return Mistake(name, message, formula, _named_fuzzing(formula))


FUZZING_SCORE = Exercise(
    id="feature_steering.fuzzing_score",
    task="How well a rule tells examples whose marks are right from examples whose marks were put elsewhere.",
    minutes=8,
    difficulty=2,
    fixed={"result>=0": "a mean of rates", "result<=1": "a mean of rates"},
    oracle=_fuzzing(),
    parts=(
        Part("many examples, with few and many marks", 2, _fuzzing_cases),
        Part("half of the marks, no marks, a kind is absent, one token, one example, none", 1, _odd_fuzzing),
    ),
    mistakes=(
        _wrong_fuzzing(
            "anywhere",
            'Your rule says "right" when it matches *any* token of the example, marked or not. That is detection; fuzzing asks about the marked tokens, and only a matched token that is marked speaks for the marks.',
            _fuzzing(lambda matched, marked: any(matched)),
        ),
        _wrong_fuzzing(
            "of_all_tokens",
            "You divided by the number of all tokens. Half of the *marked* tokens must be matched: divide by the number of marks.",
            _fuzzing(lambda matched, marked: 2 * _hits(matched, marked) >= len(marked)),
        ),
        _wrong_fuzzing(
            "tokens_agree",
            "You count tokens at which `matched` and `marked` agree, and unmarked tokens are nearly all of them. Only the marked ones are asked about: what share of these is matched?",
            _fuzzing(
                lambda matched, marked: 2 * sum(a == b for a, b in zip(matched, marked, strict=True)) >= len(marked)
            ),
        ),
        _wrong_fuzzing(
            "exactly_the_marks",
            'Your rule says "right" only when it matches the marked tokens and no others. A match elsewhere does not count against the marks: ask what share of the marked tokens is matched.',
            _fuzzing(lambda matched, marked: matched == marked),
        ),
        _wrong_fuzzing(
            "any_mark",
            'Your rule says "right" as soon as one marked token is matched. At least half of them must be.',
            _fuzzing(lambda matched, marked: _hits(matched, marked) > 0),
        ),
        _wrong_fuzzing(
            "all_marks",
            'Your rule says "right" only if all marked tokens are matched. Half of them are enough.',
            _fuzzing(lambda matched, marked: any(marked) and _hits(matched, marked) == sum(marked)),
        ),
        _wrong_fuzzing(
            "of_the_matches",
            "You ask whether half of the *matched* tokens are marked. Turn it around: at least half of the marked tokens must be matched.",
            _fuzzing(lambda matched, marked: any(matched) and 2 * _hits(matched, marked) >= sum(matched)),
        ),
        _wrong_fuzzing(
            "more_than_half",
            'Where exactly half of the marked tokens are matched, your rule says "not right". Half is enough: at least, `>=`.',
            _fuzzing(lambda matched, marked: 2 * _hits(matched, marked) > sum(marked)),
        ),
        _wrong_fuzzing(
            "no_marks_is_right",
            'Your rule calls the marks of an example without any right: 0 of 0 is at least half. Nothing there speaks for them, so it says "not right".',
            _fuzzing(lambda matched, marked: 2 * _hits(matched, marked) >= sum(marked)),
        ),
        _wrong_fuzzing(
            "per_token",
            "You score every token: is a matched token marked? That leaves out `right`, and with it the question. The rule decides about each *example* whether its marks are right; score these decisions against `right`.",
            _tokens,
        ),
        _wrong_fuzzing(
            "marks_in_one_pot",
            "You score marked tokens one by one, so that an example with ten marks counts ten times. The rule makes one decision for each example.",
            _pooled,
        ),
        _wrong_fuzzing(
            "not_decided",
            "You averaged the share of marked tokens that are matched. The rule has to decide about each example: is that share at least one half?",
            _shares,
        ),
        _wrong_fuzzing(
            "accuracy",
            "The decisions are right; the score is plain accuracy. Average the rate of right decisions among the examples with right marks and the rate among the others: `detection_score` does that.",
            _fuzzing(score=_formula(lambda tp, fp, fn, tn: (tp + tn) / (tp + fp + fn + tn))),
        ),
        _wrong_fuzzing(
            "exchanged",
            "The rule's decisions and `right` are exchanged: the rates are taken among examples of one kind of *truth*, `right`.",
            _fuzzing(score=_exchanged_kinds),
        ),
        Mistake(
            "absent_is_nan",
            "Where all marks are right, or none are, one of the two rates is 0/0. Return 0.5 then, as in `detection_score`.",
            _fuzzing(score=_absent_rate(math.nan)),
            degenerate=True,
        ),
        Mistake(
            "absent_is_zero",
            "Where all marks are right, or none are, the rate of the kind that is absent counts as 0 in your mean. Return 0.5 then, as in `detection_score`.",
            _fuzzing(score=_absent_rate(0.0)),
        ),
        Mistake(
            "present_kind_only",
            "Where all marks are right, or none are, you return the rate of that kind alone. Return 0.5 then, as in `detection_score`.",
            _fuzzing(score=_present_rate),
        ),
    ),
    hints=(
        "Two steps: what does the rule say about each example? Then score what it says against `right`, as in `detection_score`.",
        "`(matched & marked).sum(dim=1)` counts the marked tokens of each example that are matched; `marked.sum(dim=1)` counts the marks.",
        "`says = marked.any(dim=1) & (2 * (matched & marked).sum(dim=1) >= marked.sum(dim=1))`, then `detection_score(says, right)`.",
    ),
    reveal='Detection asks *whether* a latent is active in a context, fuzzing *where*. A label such as "texts about the law" may do well in detection and still match none of the tokens on which the latent is active. '
    "Wrong marks must be hard to refuse: put at random they mostly fall on words that no rule matches, and on text in which the latent is not active at all even a vague label sees that they are wrong. So say where they were put whenever you report the score.",
)


# ---------------------------------------------------------------------------------------------------------------------
# specificity


def _pairs(f_concept: Tensor, f_other: Tensor, tie: Fraction = Fraction(1, 2)) -> Fraction | None:
    """The share of pairs in which the first is larger, exactly; None if there are no pairs."""
    pairs = list(itertools.product(f_concept.tolist(), f_other.tolist()))
    won = sum(a > b for a, b in pairs) + tie * sum(a == b for a, b in pairs)
    return Fraction(won) / len(pairs) if pairs else None


def _specificity(f_concept: Tensor, f_other: Tensor) -> float:
    """Oracle: pair by pair."""
    share = _pairs(f_concept, f_other)
    return 0.5 if share is None else float(share)


def _ties_count(tie: int) -> Callable[[Tensor, Tensor], float]:
    def specificity(f_concept: Tensor, f_other: Tensor) -> float:
        share = _pairs(f_concept, f_other, Fraction(tie))
        return 0.5 if share is None else float(share)

    return specificity


def _of_area(change: Callable[[float], float]) -> Callable[[Tensor, Tensor], float]:
    return lambda f_concept, f_other: change(_specificity(f_concept, f_other))


def _of_sides(formula: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], float]:
    """Another number of the two sides; 0.5 if one is empty."""

    def specificity(f_concept: Tensor, f_other: Tensor) -> float:
        if not len(f_concept) or not len(f_other):
            return 0.5
        return float(formula(f_concept.double(), f_other.double()))

    return specificity


def _empty_side(value: float) -> Callable[[Tensor, Tensor], float]:
    def specificity(f_concept: Tensor, f_other: Tensor) -> float:
        share = _pairs(f_concept, f_other)
        return value if share is None else float(share)

    return specificity


def _best_threshold(f_concept: Tensor, f_other: Tensor) -> Tensor:
    thresholds = torch.cat([f_concept, f_other])[:, None]
    return ((f_concept >= thresholds).double().mean(1) + (f_other < thresholds).double().mean(1)).max() / 2


def _standardized(f_concept: Tensor, f_other: Tensor) -> Tensor:
    pooled = (f_concept.var(correction=0) + f_other.var(correction=0)) / 2
    return (f_concept.mean() - f_other.mean()) / pooled.sqrt().clamp(min=1e-9)


def _sides(
    draw: RandomInputs, n: int, m: int, shift: float, silent: float = 0.0, levels: int = 0
) -> tuple[Tensor, Tensor]:
    """Activations with and without the concept; the share `silent` of either is 0; `levels` values to a unit."""
    found = []
    for length, mean in ((n, shift), (m, 0.0)):
        f = draw.normal(length, mean=mean - 0.3)
        f = (f * levels).round() / levels if levels else f
        found.append(f.masked_fill(draw.uniform(length) < silent * (1 if mean == 0 else 0.8), 0.0))
    return found[0], found[1]


def _side_cases(draw: RandomInputs, size: str) -> list[Case]:
    settings = ((14, 23, 0.8, 0.2), (31, 9, -0.7, 0.3), (20, 26, 1.5, 0.5), (8, 40, 0.3, 0.4))

    def telling(made: tuple[Tensor, Tensor], shift: float) -> bool:
        """Whether the area lies on the side of one half that the shift says, and not at its end."""
        return 0.03 < math.copysign(1, shift) * (_specificity(*made) - 0.5) < 0.47

    drawn = [_until(partial(_sides, draw, *s), partial(telling, shift=s[2])) for s in settings]
    concept, other = drawn[0]
    sparse = _until(lambda: _sides(draw, 300, 210, 0.2, 0.97), lambda made: abs(_specificity(*made) - 0.5) > 1e-3)
    changed = [(concept, other), (concept.flip(0) - 0.5, other), (concept, other.flip(0) - 0.5), (other, concept)]
    changed += [(-concept, other), (concept, -other), (concept * 1000, other * 1000), (concept * 1e-4, other * 1e-4)]
    return [
        _together(drawn, "8 to 40 activations on either side, of which some are 0 and some negative"),
        case(*_sides(draw, 17, 12, 0.6), about="17 activations with the concept and 12 without, all different"),
        case(*sparse, about="300 activations with the concept and 210 without, nearly all of them 0"),
        _together(changed, "the same activations, one thing changed at a time"),
    ]


def _tied_sides(draw: RandomInputs, size: str) -> list[Case]:
    zeros = torch.zeros(6)
    high, low = draw.normal(7).sort().values + 9, draw.normal(5)
    return [
        case(*_sides(draw, 16, 21, 0.7, levels=2), about="many equal activations"),
        _together([(zeros, zeros[:4]), (zeros - 2.5, zeros[:3] - 2.5)], "all activations equal"),
        _together([(high, low), (low, high)], "all above all others, and all below"),
        _together([(high[:1], low[:1]), (low[:1], high[:1]), (low[:1], low[:1])], "one activation on either side"),
        _together([(low, low[:1]), (low[1:2], low)], "one activation against five"),
        _together([(zeros[:0], low), (low, zeros[:0]), (zeros[:0], zeros[:0])], "an empty side"),
    ]


def _no_side_empty(f_concept: Tensor, f_other: Tensor) -> bool:
    return len(f_concept) > 0 and len(f_other) > 0


def _wrong_area(name: str, message: str, formula: Callable[[Tensor, Tensor], float]) -> Mistake:
    return Mistake(name, message, formula, _gives(formula, _specificity, _no_side_empty))


SPECIFICITY = Exercise(
    id="feature_steering.specificity",
    task="How often an activation with the concept is larger than one without: the AUROC, equal activations counting one half.",
    minutes=6,
    difficulty=1,
    fixed={"result>=0": "a share", "result<=1": "a share"},
    oracle=_specificity,
    parts=(
        Part("several numbers of activations", 2, _side_cases),
        Part("equal activations, one on a side, none", 1, _tied_sides),
    ),
    mistakes=(
        _wrong_area(
            "sides_exchanged",
            "The area is turned around: 1 minus what is right. Count how often the activation *with* the concept is the larger one.",
            _of_area(lambda area: 1 - area),
        ),
        _wrong_area(
            "never_below_half",
            "You turned values below ½ around. A latent that is *less* active on the concept has an AUROC below ½, and that must be seen.",
            _of_area(lambda area: max(area, 1 - area)),
        ),
        _wrong_area(
            "ties_lose",
            "Pairs of equal activations count nothing in your sum; they count one half. A latent is 0 on nearly every token, so nearly all pairs may be equal, and a latent that is never active would get 0 instead of ½.",
            _ties_count(0),
        ),
        _wrong_area(
            "ties_win",
            "Pairs of equal activations count fully in your sum; they count one half. A latent is 0 on nearly every token, so nearly all pairs may be equal, and a latent that is never active would get 1 instead of ½.",
            _ties_count(1),
        ),
        _wrong_area(
            "gini",
            "This is 2 · AUROC − 1, which is 0 by chance. AUROC is ½ by chance.",
            _of_area(lambda area: 2 * area - 1),
        ),
        _wrong_area(
            "difference_of_means",
            "This is a difference of means. It grows with the unit of the activations, and one large activation can decide it: compare pairs.",
            _of_sides(lambda a, b: a.mean() - b.mean()),
        ),
        _wrong_area(
            "standardized_difference",
            "This is the difference of means in standard deviations. AUROC compares pairs, and knows only their order.",
            _of_sides(_standardized),
        ),
        _wrong_area(
            "difference_of_rates",
            "You compared how often the latent is active. AUROC also asks how strongly: compare each activation with the concept with each without.",
            _of_sides(lambda a, b: (a > 0).double().mean() - (b > 0).double().mean()),
        ),
        _wrong_area(
            "above_the_mean",
            "You compared the activations with the concept with the *mean* of the others. Compare them with each of the others.",
            _of_sides(lambda a, b: (a > b.mean()).double().mean()),
        ),
        _wrong_area(
            "best_threshold",
            "This is the balanced accuracy of the best threshold. AUROC needs no threshold: it compares pairs.",
            _of_sides(_best_threshold),
        ),
        Mistake(
            "empty_is_nan",
            "With an empty side there are no pairs, and their mean is NaN. Return 0.5 then.",
            _empty_side(math.nan),
            degenerate=True,
        ),
        Mistake(
            "empty_is_zero",
            "With an empty side there are no pairs, and you return 0, which would say that the concept always loses. Return 0.5.",
            _empty_side(0.0),
            degenerate=True,
        ),
    ),
    hints=(
        "Make a table of all pairs: rows are activations with the concept, columns those without.",
        "`f_concept[:, None] > f_other` says where the concept wins, `f_concept[:, None] == f_other` where it is equal.",
    ),
    reveal="½ for ties is what a fair coin would give, and it decides a lot here: two sides of zeros make every pair a tie. AUROC does not depend on how many examples each side has, nor on the unit of the activations. "
    "It is called specificity here in the loose sense of Templeton et al. (2024): is the latent active *because of* the concept? They let a model rate that; you compare with examples without the concept. What you choose for these decides the result.",
)


# ---------------------------------------------------------------------------------------------------------------------
# compare_bases

HALF = Fraction(1, 2)

Rows = Callable[[Tensor], Tensor]
"""From `train` to the rows that are used."""
Table = tuple[Tensor, Tensor, Tensor, Tensor]


def _train(train: Tensor) -> Tensor:
    return train


def _test(train: Tensor) -> Tensor:
    return ~train


def _all_rows(train: Tensor) -> Tensor:
    return train | True


def _areas(f: Tensor, labels: Tensor, rows: Tensor, tie: Fraction) -> list[Fraction]:
    """The AUROC of each column over these rows, exactly."""
    areas = (_pairs(column[rows & labels], column[rows & ~labels], tie) for column in f.T)
    return [HALF if area is None else area for area in areas]


def _mean_gaps(f: Tensor, labels: Tensor, rows: Tensor, tie: Fraction) -> list[Fraction]:
    """Differences of means, in place of areas: ½ for none."""
    if not (rows & labels).any() or not (rows & ~labels).any():
        return [HALF] * f.shape[1]
    f = f.double()
    return [Fraction(gap) + HALF for gap in (f[rows & labels].mean(0) - f[rows & ~labels].mean(0)).tolist()]


def _best(
    f: Tensor,
    labels: Tensor,
    train: Tensor,
    chosen: Rows = _train,
    signed: Rows = _train,
    reported: Rows = _test,
    either: bool = True,
    turn: bool = True,
    last: bool = False,
    tie: Fraction = HALF,
    measure: Callable[[Tensor, Tensor, Tensor, Fraction], list[Fraction]] = _areas,
) -> float:
    """The best column of one basis. The options make the mistakes."""
    known = [area - HALF for area in measure(f, labels, chosen(train), tie)]
    quality = [abs(area) for area in known] if either else known
    columns = [i for i, q in enumerate(quality) if q == max(quality)]
    i = columns[-1 if last else 0]
    column = f[:, i : i + 1]
    area = _areas(column, labels, reported(train), tie)[0]
    negative = measure(column, labels, signed(train), tie)[0] < HALF
    return float(1 - area if negative and either and turn else area)


def _bases(**options: Any) -> Callable[[Tensor, Tensor, Tensor, Tensor], tuple[float, float]]:
    """Oracle, or one of which a piece is wrong."""

    def compare_bases(f_sae: Tensor, f_neurons: Tensor, labels: Tensor, train: Tensor) -> tuple[float, float]:
        return _best(f_sae, labels, train, **options), _best(f_neurons, labels, train, **options)

    return compare_bases


def _sign_of_one(latents: bool) -> Callable[[Tensor, Tensor, Tensor, Tensor], tuple[float, float]]:
    """Either sign for one of the bases alone."""

    def compare_bases(f_sae: Tensor, f_neurons: Tensor, labels: Tensor, train: Tensor) -> tuple[float, float]:
        return _best(f_sae, labels, train, either=latents), _best(f_neurons, labels, train, either=not latents)

    return compare_bases


def _bases_exchanged(f_sae: Tensor, f_neurons: Tensor, labels: Tensor, train: Tensor) -> tuple[float, float]:
    latent, neuron = _bases()(f_sae, f_neurons, labels, train)
    return neuron, latent


def _absent_label(value: float) -> Callable[[Tensor, Tensor, Tensor, Tensor], tuple[float, float]]:
    def compare_bases(f_sae: Tensor, f_neurons: Tensor, labels: Tensor, train: Tensor) -> tuple[float, float]:
        if _both_kinds(labels[~train]):
            return _bases()(f_sae, f_neurons, labels, train)
        return value, value

    return compare_bases


_WRONG_BASES: dict[str, tuple[str, Callable[[Tensor, Tensor, Tensor, Tensor], tuple[float, float]]]] = {
    "chosen_on_test": (
        "You chose latent and neuron on the rows that you report. Among thousands of columns the best one there is lucky, and looks better than it is: choose where `train` is true.",
        _bases(chosen=_test, signed=_test),
    ),
    "chosen_on_all": (
        "You chose latent and neuron on all rows, and the test rows are among them: choose where `train` is true, and nowhere else.",
        _bases(chosen=_all_rows, signed=_all_rows),
    ),
    "reported_on_train": (
        "You report the AUROC on the rows that chose. Report it on the *other* rows, where `train` is false.",
        _bases(reported=_train),
    ),
    "reported_on_all": (
        "You report the AUROC on all rows, and those that chose are among them. Report it where `train` is false.",
        _bases(reported=_all_rows),
    ),
    "train_inverted": (
        "You chose where `train` is false, and report where it is true. It is the other way around.",
        _bases(chosen=_test, signed=_test, reported=_train),
    ),
    "sign_on_test": (
        "You took the sign from the test rows, so that no result can be below ½. The sign is part of the choice: take it where `train` is true. A column that points the other way on the test rows gets less than ½.",
        _bases(signed=_test),
    ),
    "sign_forgotten": (
        "You chose by either sign, and report the area without turning it. If the chosen column is lower on true rows where `train` is true, report 1 minus its area.",
        _bases(turn=False),
    ),
    "positive_only": (
        "You looked only for columns that are *higher* on true rows. Either sign counts, for latents and neurons: a column with an AUROC of 0.1 separates better than one with 0.8.",
        _bases(either=False),
    ),
    "positive_latents": (
        "Neurons may have either sign in yours, latents only the positive one. That favours the neurons: treat both bases alike.",
        _sign_of_one(latents=False),
    ),
    "positive_neurons": (
        "Latents may have either sign in yours, neurons only the positive one. That favours the latents: treat both bases alike.",
        _sign_of_one(latents=True),
    ),
    "bases_exchanged": ("The two results are exchanged: first the latent, then the neuron.", _bases_exchanged),
    "ties_lose": (
        "Pairs of equal activations count nothing in your areas; they count one half. Latents are 0 nearly everywhere, so this decides which basis wins.",
        _bases(tie=Fraction(0)),
    ),
    "ties_win": (
        "Pairs of equal activations count fully in your areas; they count one half. Latents are 0 nearly everywhere, so this decides which basis wins.",
        _bases(tie=Fraction(1)),
    ),
    "chosen_by_means": (
        "You chose the columns with the largest difference of means, which are those with the largest unit. Choose by the AUROC where `train` is true.",
        _bases(measure=_mean_gaps),
    ),
}


def _table(draw: RandomInputs, n: int, latents: int, neurons: int, true: float = 0.45) -> Table:
    """Latents that are often 0 and neurons that seldom are.

    One column of each is best on the training rows, with either sign, and worse on the others, some of them turned
    around; another is best on the test rows; one has a large unit.
    """
    labels = draw.uniform(n) < true
    train = torch.zeros(n, dtype=torch.bool)
    train[draw.permutation(n)[: n // 2 + 1]] = True
    found = []
    for columns, silent in ((latents, 0.45), (neurons, 0.1)):
        f = draw.normal(n, columns)
        sign = -1 if draw.integer(0, 2) else 1
        kinds = ((1.8, draw.number(-1.0, 1.2)), (0.7, 2.6), (-1.1 * sign, -0.8 * sign))
        for column, (known, unknown) in zip(draw.permutation(columns), kinds, strict=False):
            f[:, column] += labels * torch.where(train, known, unknown) * sign
        f[:, draw.integer(0, columns)] *= 4
        # A whole column moves, so that latents and neurons are below zero too.
        found.append(f.masked_fill(draw.uniform(n, columns) < silent, 0.0) - 0.2)
    return found[0], found[1], labels, train


def _clear(f_sae: Tensor, f_neurons: Tensor, labels: Tensor, train: Tensor) -> bool:
    """Whether one column of each basis is the best on the training rows, so that no rounding decides."""
    for f in (f_sae, f_neurons):
        quality = sorted((abs(area - HALF) for area in _areas(f, labels, train, HALF)), reverse=True)
        if quality[0] == 0 or quality[0] - (quality[1] if len(quality) > 1 else 0) < 1e-3:
            return False
    return _both_kinds(labels[~train])


def _varied(f_sae: Tensor, f_neurons: Tensor, labels: Tensor, train: Tensor) -> list[Table]:
    """The table, and what `mi_course.variations` makes of it."""
    with_zeros = []
    for f in (f_sae, f_neurons):
        turned = f.flip(1)
        turned[0] = 0.0
        with_zeros.append(turned)
    return [
        (f_sae, f_neurons, labels, train),
        (with_zeros[0], f_neurons, labels, train),
        (f_sae, with_zeros[1], labels, train),
        (f_sae, f_neurons, labels.flip(0), train),
        (f_sae, f_neurons, labels, train.flip(0)),
    ]


def _differ(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return any(abs(x - y) > 1e-3 for x, y in zip(a, b, strict=True))


def _tells_all_apart(tables: Sequence[Table]) -> bool:
    """Whether each wrong way shows in one of these tables, and no two of them agree in all."""
    ways = [_bases(), *(way for _, way in _WRONG_BASES.values())]
    results = [[way(*table) for table in tables] for way in ways]
    return all(any(map(_differ, a, b)) for a, b in itertools.combinations(results, 2))


def _table_cases(draw: RandomInputs, size: str) -> list[Case]:
    shapes = ((24, 7, 5), (30, 4, 9), (21, 6, 8), (27, 5, 3), (33, 8, 6))

    def clear(*shape: int) -> Any:
        return _until(lambda: _table(draw, *shape), lambda made: _clear(*made))

    drawn = _until(lambda: [clear(*shape) for shape in shapes], _tells_all_apart)
    first = _until(lambda: _table(draw, 26, 6, 4), lambda made: all(_clear(*table) for table in _varied(*made)))
    return [
        _together(drawn, "21 to 33 rows, 3 to 9 columns"),
        case(*first, about="26 rows, 6 latents, 4 neurons"),
    ]


def _equal_columns(draw: RandomInputs, order: Sequence[int]) -> Tensor:
    """Four columns over 8 training and 13 test rows, labels alternating on the former.

    The first three are equally good on the training rows, the third with the other sign; the last is worse. Their
    areas are whole multiples of 1/32, so that every way to compute them gives equal numbers.
    """
    values = torch.tensor([3.0, 1.0, 5.0, 0.0, 2.0, 2.0, 4.0, 6.0])
    known = torch.stack([values, values * 2 - 7, -values, torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0])], 1)
    return torch.cat([known, draw.normal(13, 4)])[:, list(order)]


def _tied_tables(draw: RandomInputs, size: str) -> list[Case]:
    train = torch.arange(21) < 8
    train_labels = torch.arange(8) % 2 == 0

    def tables() -> list[Table]:
        labels = torch.cat([train_labels, draw.uniform(13) < 0.5])
        orders = ((3, 0, 1, 2), (1, 2, 0, 3)), ((2, 1, 0, 3), (3, 1, 2, 0)), ((3, 2, 0, 1), (0, 2, 1, 3))
        return [(_equal_columns(draw, a), _equal_columns(draw, b), labels, train) for a, b in orders]

    def shown(made: list[Table]) -> bool:
        right, last = _bases(), _bases(last=True)
        return _both_kinds(made[0][2][8:]) and all(
            abs(x - y) > 1e-3 for t in made for x, y in zip(right(*t), last(*t), strict=True)
        )

    return [_together(_until(tables, shown), "latents that are equally good on the training rows, and neurons")]


def _weak_column(draw: RandomInputs, labels: Tensor, train: Tensor) -> Tensor:
    """A column that is lower on true training rows, by very little; on the others it is lower or higher."""

    def wanted(f: Tensor) -> bool:
        known, unknown = (float(_areas(f, labels, rows, HALF)[0]) for rows in (train, ~train))
        return 0.475 < known < 0.499 and abs(unknown - 0.5) > 0.02

    return _until(lambda: draw.normal(len(labels), 1), wanted)


def _odd_tables(draw: RandomInputs, size: str) -> list[Case]:
    def telling(made: Table) -> bool:
        """Whether no result is right by chance: of the best columns, and of the first where no row chooses."""
        f_sae, f_neurons, labels, train = made
        results = (*_bases()(*made), *_bases()(f_sae, f_neurons, labels, train & False))
        one = f_sae[:, :1], f_neurons[:, :1], labels, train
        return _clear(*made) and _clear(*one) and all(abs(result - 0.5) > 0.02 for result in results)

    f_sae, f_neurons, labels, train = _until(lambda: _table(draw, 22, 5, 4), telling)
    both, half = torch.arange(40) % 2 == 0, torch.arange(40) < 22
    return [
        case(f_sae[:, :1], f_neurons[:, :1], labels, train, about="one latent and one neuron"),
        case(
            _weak_column(draw, both, half),
            _weak_column(draw, both, half),
            both,
            half,
            about="one latent and one neuron that hardly separate the training rows",
        ),
        _together(
            [(f_sae, f_neurons, labels | train, train), (f_sae, f_neurons, labels & ~train, train)],
            "training rows that are all true, then all false",
        ),
        _together(
            [(f_sae, f_neurons, labels | ~train, train), (f_sae, f_neurons, labels & train, train)],
            "test rows that are all true, then all false",
        ),
        _together(
            [(f_sae, f_neurons, labels, train & False), (f_sae, f_neurons, labels, train | True)],
            "no training row, then no test row",
        ),
        _together(
            [
                (f_sae * 0, f_neurons, labels, train),
                (f_sae * 100, f_neurons * 1e-3, labels, train),
                (f_sae, f_sae, labels, train),
            ],
            "latents that are never active; a large unit and a small one; one basis twice",
        ),
    ]


COMPARE_BASES = Exercise(
    id="feature_steering.compare_bases",
    task="How well the best single latent and the best single neuron separate a concept, chosen on some rows and measured on the others.",
    minutes=12,
    difficulty=3,
    fixed={"result>=0": "areas", "result<=1": "areas"},
    oracle=_bases(),
    parts=(
        Part("several numbers of rows, latents and neurons", 3, _table_cases),
        Part("columns that are equally good", 1, _tied_tables),
        Part("one column, a label that is absent, no training rows, no test rows", 1, _odd_tables),
    ),
    mistakes=(
        *(Mistake(name, message, way) for name, (message, way) in _WRONG_BASES.items()),
        Mistake(
            "last_of_equals",
            "Of several columns that are equally good where `train` is true, you took the last. Take the first.",
            _bases(last=True),
        ),
        Mistake(
            "absent_is_nan",
            "Where all test rows have one label, there are no pairs, and their mean is NaN. Both results are 0.5 then.",
            _absent_label(math.nan),
            degenerate=True,
        ),
        Mistake(
            "absent_is_zero",
            "Where all test rows have one label, there are no pairs, and you return 0. Both results are 0.5 then.",
            _absent_label(0.0),
            degenerate=True,
        ),
    ),
    hints=(
        "Write a function for one basis, and call it twice. It needs the area of each column over the training rows, the column that is furthest from ½, and the area of that column over the test rows.",
        "`[specificity(c[train & labels], c[train & ~labels]) for c in f.T]` are the areas on the training rows.",
        "If the chosen area on the training rows is below ½, the column points the other way: return 1 minus its area on the test rows, whatever that is.",
    ),
    reveal="The best of 4,608 columns is good by luck as well as by merit, and the best of 1,536 by less luck: on the rows that chose, the larger basis has an advantage that means nothing. New rows take it away. Either sign for both: a neuron that is lower on the concept carries the same information. "
    "A single column is a hard test for neurons, which may carry a concept together; a probe on all of them answers another question.",
)
