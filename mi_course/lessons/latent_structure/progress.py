"""Progress that accuracy does not show: the part of the logits that the algorithm makes, and when measures turn."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mi_course.exercises import Call, Case, Exercise, Mistake, Part, RandomInputs, case
from mi_course.lessons.latent_structure.fourier import _basis

# ---------------------------------------------------------------------------------------------------------------------
# restricted_logits and excluded_logits


def _of_the_sum(logits: Tensor, keys: Sequence[int]) -> Tensor:
    """The part of the logits that is a wave of frequency k in a + b, for k among the keys, without the constant.

    By the complex Fourier transform over a and b: a function of a + b is on its diagonal.
    """
    p = len(logits)
    transform = torch.fft.fft2(logits.double(), dim=(0, 1))
    kept = torch.zeros(p, p, 1, dtype=torch.float64)
    for k in keys:
        kept[k, k] = kept[-k, -k] = 1
    return torch.fft.ifft2(transform * kept, dim=(0, 1)).real


def _mean(logits: Tensor) -> Tensor:
    return logits.double().mean((0, 1), keepdim=True)


def _restricted_logits(logits: Tensor, basis: Tensor, keys: list[int]) -> Tensor:
    """Oracle."""
    return (_of_the_sum(logits, keys) + _mean(logits)).float()


def _excluded_logits(logits: Tensor, basis: Tensor, keys: list[int]) -> Tensor:
    """Oracle."""
    return (logits.double() - _of_the_sum(logits, keys)).float()


_Split = Callable[[Tensor, Tensor, list[int]], Tensor]
_Waves = Callable[[Tensor, Tensor], list[Tensor]]


def _onto(logits: Tensor, wave: Tensor) -> Tensor:
    """The part of the logits along one function of (a, b)."""
    wave = wave / wave.norm()
    return wave[..., None] * torch.einsum("ab,abc->c", wave, logits)


def _split(waves: _Waves, *, keep: bool, constant: bool = True) -> _Split:
    """Logits with, or without, the part along waves that are made of the cosine and the sine of each key."""

    def answer(logits: Tensor, basis: Tensor, keys: list[int]) -> Tensor:
        x, rows = logits.double(), basis.double()
        part = torch.zeros_like(x)
        for k in keys:
            for wave in waves(rows[2 * k - 1], rows[2 * k]):
                part += _onto(x, wave)
        if keep:
            return (part + _mean(logits) if constant else part.expand_as(x)).float()
        return (x - part if constant else x - part - _mean(logits)).float()

    return answer


def _o(u: Tensor, v: Tensor) -> Tensor:
    return u[:, None] * v[None, :]


def _cos_and_sin(c: Tensor, s: Tensor) -> list[Tensor]:
    return [_o(c, c) - _o(s, s), _o(s, c) + _o(c, s)]


def _cos_alone(c: Tensor, s: Tensor) -> list[Tensor]:
    return [_o(c, c) - _o(s, s)]


def _difference(c: Tensor, s: Tensor) -> list[Tensor]:
    return [_o(c, c) + _o(s, s), _o(s, c) - _o(c, s)]


def _four_products(c: Tensor, s: Tensor) -> list[Tensor]:
    return [_o(c, c), _o(s, s), _o(s, c), _o(c, s)]


def _each_alone(c: Tensor, s: Tensor) -> list[Tensor]:
    one = torch.ones_like(c)
    return [_o(c, one), _o(s, one), _o(one, c), _o(one, s)]


def _not_normalized(*, keep: bool) -> _Split:
    def answer(logits: Tensor, basis: Tensor, keys: list[int]) -> Tensor:
        x, rows = logits.double(), basis.double()
        part = torch.zeros_like(x)
        for k in keys:
            for wave in _cos_and_sin(rows[2 * k - 1], rows[2 * k]):
                part += wave[..., None] * torch.einsum("ab,abc->c", wave, x)
        return (part + _mean(logits) if keep else x - part).float()

    return answer


def _rows_k(split: _Split) -> _Split:
    """Frequency k taken for rows k and k + 1 of the basis."""

    def answer(logits: Tensor, basis: Tensor, keys: list[int]) -> Tensor:
        x, rows = logits.double(), basis.double()
        part = torch.zeros_like(x)
        for k in keys:
            for wave in _cos_and_sin(rows[k], rows[k + 1]):
                part += _onto(x, wave)
        return (part + _mean(logits) if split is _restricted_logits else x - part).float()

    return answer


def _one_number_mean(logits: Tensor, basis: Tensor, keys: list[int]) -> Tensor:
    return (_of_the_sum(logits, keys) + logits.double().mean()).float()


def _over_answers(split: _Split) -> _Split:
    """The waves taken over the answers c instead of the inputs."""

    def answer(logits: Tensor, basis: Tensor, keys: list[int]) -> Tensor:
        rows = basis.double()[[row for k in keys for row in (2 * k - 1, 2 * k)]]
        x = logits.double()
        if x.shape[2] != rows.shape[1]:
            raise ValueError("as many answers as hours are needed")
        part = x @ rows.T @ rows
        mean = x.mean(2, keepdim=True)
        return (part + mean if split is _restricted_logits else x - part).float()

    return answer


def _other_keys(split: _Split) -> _Split:
    def answer(logits: Tensor, basis: Tensor, keys: list[int]) -> Tensor:
        others = [k for k in range(1, (len(logits) + 1) // 2) if k not in keys]
        return split(logits, basis, others)

    return answer


def _last_key_only(split: _Split) -> _Split:
    return lambda logits, basis, keys: split(logits, basis, keys[-1:])


def _logits(draw: RandomInputs, p: int, n_answers: int, keys: Sequence[int], noise: float) -> Tensor:
    """Waves of the sum in these frequencies, whatever a, b and a − b do, a constant for each answer, and noise."""
    x = torch.arange(p) * 2 * math.pi / p
    total = draw.normal(p, p, n_answers, std=noise) + draw.normal(n_answers, mean=-1.0, std=2.0)
    for k in [*keys, draw.integer(1, (p + 1) // 2)]:
        for angle in (k * (x[:, None] + x), k * (x[:, None] - x), k * x[:, None].expand(p, p), k * x.expand(p, p)):
            phases = draw.uniform(n_answers, high=6.3)
            total = total + draw.uniform(n_answers, low=0.3, high=2.0) * (angle[..., None] + phases).cos()
    return total


def _split_cases(draw: RandomInputs, size: str) -> list[Case]:
    return [
        case(
            _logits(draw, p, answers, keys, noise),
            _basis(p).float(),
            keys,
            about=f"p = {p}, {answers} answers, keys {keys}",
        )
        for p, answers, keys, noise in ((11, 7, [4, 2], 0.5), (13, 13, [1, 6, 3], 1.0), (7, 7, [3], 0.1))
    ]


def _split_edges(draw: RandomInputs, size: str) -> list[Case]:
    same = _logits(draw, 9, 4, [2], 0.3)
    calls = tuple(Call((same, _basis(9).float(), keys), watch=("arguments",)) for keys in ([2], [3, 2], []))
    return [
        case(_logits(draw, 5, 3, [1], 1.0), _basis(5).float(), [], about="no key at all"),
        case(_logits(draw, 5, 5, [1, 2], 1.0), _basis(5).float(), [1, 2], about="every frequency is a key"),
        case(_logits(draw, 11, 1, [5], 0.5), _basis(11).float(), [5], about="a single answer"),
        case(_logits(draw, 3, 2, [1], 0.5), _basis(3).float(), [1], about="p = 3"),
        case(1e-2 * _logits(draw, 7, 3, [1], 0.5), _basis(7).float(), [1], about="tiny logits"),
        Case(calls, "the same logits with other keys"),
    ]


_FIXED = {
    "keys": "frequencies, each once; varied by hand",
    "keys=twice": "each frequency once",
    "logits[0]": "p hours, along both axes",
    "logits[1]": "p hours, along both axes",
    "basis": "the basis of p hours",
    "basis[0]": "p rows",
    "basis[1]": "p hours",
}

_SHARED = (
    (
        "sine_forgotten",
        "The sine is missing. For each key frequency there are two waves, cos k(a + b) and sin k(a + b).",
        _cos_alone,
    ),
    (
        "difference",
        "These are waves of a − b. A sign is wrong in the addition theorem: cos k(a + b) = cos ka cos kb − sin ka sin kb, and sin k(a + b) = sin ka cos kb + cos ka sin kb.",
        _difference,
    ),
    (
        "four_products",
        "You treated the four products cos·cos, sin·sin, sin·cos and cos·sin as four waves. They also hold what depends on a − b. Only their two combinations cos k(a + b) and sin k(a + b) are asked for.",
        _four_products,
    ),
    (
        "each_number_alone",
        "You used waves of a alone and of b alone. The sum shows in products: cos k(a + b) = cos ka cos kb − sin ka sin kb.",
        _each_alone,
    ),
)


def _split_mistakes(split: _Split, *, keep: bool) -> tuple[Mistake, ...]:
    own = (
        (
            Mistake(
                "no_constant",
                "The constant is missing: the mean of each answer's logit over all pairs (a, b) stays.",
                _split(_cos_and_sin, keep=True, constant=False),
            ),
            Mistake(
                "one_mean_for_all",
                "You added the mean of all logits. Each answer c has a mean of its own, over all pairs (a, b).",
                _one_number_mean,
            ),
            Mistake(
                "excluded",
                "These are the excluded logits: you removed what should stay. Restricted means the constant and the key frequencies, and nothing else.",
                _excluded_logits,
            ),
        )
        if keep
        else (
            Mistake(
                "constant_removed",
                "You removed the constant too. Only the waves of the key frequencies go; the mean over pairs (a, b) stays.",
                _split(_cos_and_sin, keep=False, constant=False),
            ),
            Mistake(
                "restricted",
                "These are the restricted logits: you kept what should go. Excluded means everything but the key frequencies.",
                _restricted_logits,
            ),
            Mistake(
                "nothing_removed",
                "These are the logits as they came. Did you throw the difference away?",
                lambda logits, basis, keys: logits.clone(),
            ),
        )
    )
    return (
        *own,
        *(Mistake(name, message, _split(waves, keep=keep)) for name, message, waves in _SHARED),
        Mistake(
            "wave_of_length_two",
            (
                "Your waves count twice"
                if keep
                else "You subtracted twice as much as there is: the waves are there again, upside down"
            )
            + ". cos ka cos kb − sin ka sin kb, made of rows of length one, has length √2. Divide by it before you project.",
            _not_normalized(keep=keep),
        ),
        Mistake(
            "rows_not_frequencies",
            "You took rows k and k + 1 of the basis for frequency k. Its cosine is row 2k − 1, its sine row 2k.",
            _rows_k(split),
        ),
        Mistake(
            "waves_of_the_answer",
            "You transformed the last axis, the answers. The waves run over the two inputs, a and b.",
            _over_answers(split),
        ),
        Mistake(
            "last_key_only",
            "Only the last key has an effect. Add up over all of them.",
            _last_key_only(split),
        ),
        Mistake(
            "other_frequencies",
            "You treated the frequencies that are *not* among the keys as keys.",
            _other_keys(split),
        ),
    )


_HINTS = (
    "With c and s the rows of cos k and sin k: `torch.outer(c, c) - torch.outer(s, s)` is cos k(a + b) but for its length, and `torch.outer(s, c) + torch.outer(c, s)` is sin k(a + b).",
    'Divide a wave by its `norm()`. What an answer\'s logits hold of it is `torch.einsum("ab,abc->c", wave, logits)`, and that times the wave is the part: `wave[..., None] * strength`.',
)

RESTRICTED_LOGITS = Exercise(
    id="latent_structure.restricted_logits",
    task="The logits of all pairs (a, b), cut down to their mean over pairs and their waves cos k(a + b) and sin k(a + b), k among the keys.",
    minutes=10,
    difficulty=3,
    fixed=_FIXED,
    oracle=_restricted_logits,
    parts=(
        Part("logits of several answers", 2, _split_cases),
        Part("no key, all keys, one answer, tiny logits", 1, _split_edges),
    ),
    mistakes=_split_mistakes(_restricted_logits, keep=True),
    hints=(
        *_HINTS,
        "Begin with the mean over a and b, `logits.mean((0, 1)).expand_as(logits).clone()`, and add the parts.",
    ),
    reveal="Functions of (a, b) form a space of p² dimensions. What depends on a + b alone is a space of p dimensions in it, and one key frequency is a plane in that. If the model adds by these frequencies, almost nothing is lost on the way. "
    "So the restricted loss asks how good the algorithm is, whatever else is there. With one caution, to which the lesson comes: the strength of a wave is an average over all pairs, those of the training included.",
)

EXCLUDED_LOGITS = Exercise(
    id="latent_structure.excluded_logits",
    task="The opposite: the logits without their waves cos k(a + b) and sin k(a + b), k among the keys.",
    minutes=4,
    difficulty=2,
    fixed=_FIXED,
    oracle=_excluded_logits,
    parts=(
        Part("logits of several answers", 2, _split_cases),
        Part("no key, all keys, one answer, tiny logits", 1, _split_edges),
    ),
    mistakes=_split_mistakes(_excluded_logits, keep=False),
    hints=(
        "Everything that you subtract is in your `restricted_logits`, but so is the constant.",
        "`logits - restricted_logits(logits, basis, keys)` has lost the mean as well: put `logits.mean((0, 1))` back.",
    ),
    reveal="If the model has a second way to the answer, memory say, it is in what is left. On the training pairs a model that only memorizes loses next to nothing by the cut; one that only computes loses everything. The excluded loss on training pairs thus says how much the model leans on the algorithm, "
    "while the restricted loss says how good the algorithm has become.",
)


# ---------------------------------------------------------------------------------------------------------------------
# emergence_order

_Measures = dict[str, Tensor]
_Order = list[list[object]]


def _emergence_order(steps: Tensor, measures: _Measures) -> _Order:
    """Oracle: from the end backwards, in plain Python."""
    found = []
    for place, (name, values) in enumerate(measures.items()):
        numbers = values.tolist()
        if numbers[0] == numbers[-1]:
            continue
        sign = 1 if numbers[-1] > numbers[0] else -1
        i = len(numbers) - 1
        while sign * 2 * numbers[i - 1] >= sign * (numbers[0] + numbers[-1]):
            i -= 1
        found.append((int(steps[i]), place, name))
    return [[name, step] for step, _, name in sorted(found)]


def _order(
    first: Callable[[Tensor], int | None],
    *,
    sort: Callable[[list[tuple[str, int]], Tensor], list[tuple[str, int]]] | None = None,
    constant: bool = False,
    report: Callable[[int, Tensor], int] = lambda i, steps: int(steps[i]),
) -> Callable[[Tensor, _Measures], _Order]:
    """emergence_order by another first index, another order or another number."""

    def emergence_order(steps: Tensor, measures: _Measures) -> _Order:
        found = []
        for name, values in measures.items():
            i = first(values.double())
            if i is not None and (constant or bool(values[0] != values[-1])):
                found.append((name, report(i, steps)))
        found = sort(found, steps) if sort else sorted(found, key=lambda pair: pair[1])
        return [list(pair) for pair in found]

    return emergence_order


def _progress(values: Tensor) -> Tensor:
    """0 at the first checkpoint, 1 at the last."""
    change = values[-1] - values[0]
    return (values - values[0]) / torch.where(change != 0, change, 1.0)


def _stays(passed: Tensor) -> int | None:
    """The first index from which all are true."""
    failed = (~passed).nonzero()
    i = int(failed[-1]) + 1 if len(failed) else 0
    return i if i < len(passed) else None


def _first(passed: Tensor) -> int | None:
    return int(passed.nonzero()[0]) if passed.any() else None


def _right(values: Tensor) -> int | None:
    return _stays(_progress(values) >= 0.5)


def _right_or_first(values: Tensor) -> int | None:
    return _right(values) if values[0] != values[-1] else 0


def _between_extremes(values: Tensor) -> int | None:
    middle = (values.max() + values.min()) / 2
    return _stays(values >= middle) if values[-1] >= values[0] else _stays(values <= middle)


def _steepest(values: Tensor) -> int | None:
    return int(values.diff().abs().argmax()) + 1 if len(values) > 1 else None


def _whole_way(values: Tensor) -> int | None:
    return _stays(_progress(values) >= 0.9)


def _rising_only(values: Tensor) -> int | None:
    return _stays(values >= (values[0] + values[-1]) / 2)


def _half_of_the_last(values: Tensor) -> int | None:
    return _stays(values >= values[-1] / 2) if values[-1] >= values[0] else _stays(values <= values[0] / 2)


def _series(draw: RandomInputs, n: int, at: int, start: float, end: float, noise: float = 0.1) -> Tensor:
    """From start to end around index `at`, with noise that does not reach half the way."""
    before = torch.arange(n) < at
    way = torch.where(before, draw.uniform(n, high=2 * noise), 1 - draw.uniform(n, high=2 * noise))
    way[0], way[-1] = 0.0, 1.0
    return start + (end - start) * way


def _recorded(draw: RandomInputs, size: str) -> list[Case]:
    cases = []
    for n, names in ((12, ("test_accuracy", "restricted", "excluded", "norm")), (9, ("b", "c", "a"))):
        steps = draw.integers(20, 200, n).cumsum(0)
        spots = [1 + place % (n - 1) for place in draw.permutation(n - 1)[: len(names)]]
        measures = {}
        for i, (name, at) in enumerate(zip(names, spots, strict=True)):
            start, end = draw.number(-1, 1), draw.number(1.5, 4) * (-1) ** i
            measures[name] = _series(draw, n, at, start, start + end)
        cases.append(case(steps, measures, about=f"{len(names)} measures at {n} checkpoints"))
    return cases


def _spiky(draw: RandomInputs, size: str) -> list[Case]:
    n = 14
    steps = torch.arange(n) * 50 + draw.integer(0, 40)
    back = _series(draw, n, 3, 0.1, 1.0)  # there early, lost again, and back for good from index 9
    back[6:9] = torch.tensor([0.3, 0.9, 0.4])
    bump = _series(draw, n, 8, 2.0, 0.5)  # far above where it began, before it falls
    bump[4:6] = torch.tensor([6.0, 5.0])
    under = _series(draw, n, 5, 4.0, 1.0)  # beyond its last value for a while
    under[6:8] = torch.tensor([-3.0, -2.5])
    late = _series(draw, n, 11, -3.0, -1.0)
    return [case(steps, {"late": late, "back": back, "bump": bump, "under": under}, about="measures that go back")]


def _edges(draw: RandomInputs, size: str) -> list[Case]:
    steps = torch.tensor([0, 10, 30, 70, 150])
    halves = {
        "half": torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0]),  # half the way, to the digit, at step 30
        "nearly": torch.tensor([0.0, 0.1, 0.48, 0.52, 1.0]),
        "down": torch.tensor([8.0, 6.0, 4.0, 4.0, 0.0]),
        "first": torch.tensor([1.0, 3.0, 3.0, 3.0, 3.0]),
        "last": torch.tensor([-1.0, -1.0, -1.0, -1.0, 5.0]),
    }
    ties = {
        "z": torch.tensor([0.0, 0, 1, 1, 1]),
        "a": torch.tensor([5.0, 5, 2, 2, 2]),
        "m": torch.tensor([0.0, 0, 1, 1, 1]),
    }
    still = {"still": torch.tensor([2.0, 9.0, 2.0, 2.0, 2.0]), "moves": torch.tensor([0.0, 0.0, 0.0, 3.0, 3.0])}
    return [
        case(steps, halves, about="exactly half the way"),
        case(steps, ties, about="three at the same step"),
        case(steps, still, about="one that ends where it began"),
        case(steps, {"still": torch.full((5,), 0.5)}, about="one that never changes, alone"),
        case(torch.tensor([100, 300]), {"x": torch.tensor([1.0, 0.0])}, about="two checkpoints"),
        case(torch.tensor([7]), {"x": torch.tensor([1.0])}, about="a single checkpoint"),
        case(steps, {name: values * 1e-4 for name, values in halves.items()}, about="tiny values"),
    ]


EMERGENCE_ORDER = Exercise(
    id="latent_structure.emergence_order",
    task="For each measure the step at which it has gone half of its way for good, as (name, step) pairs, the earliest first.",
    minutes=8,
    difficulty=2,
    oracle=_emergence_order,
    parts=(
        Part("measures that rise and fall", 2, _recorded),
        Part("measures that go back", 1, _spiky),
        Part("half the way exactly, ties, measures that stay as they are", 1, _edges),
    ),
    fixed={"steps": "they increase", "steps[0]": "as many as each measure has values"},
    mistakes=(
        Mistake(
            "first_crossing",
            "You took the first time that half the way is reached. A measure that falls back afterwards has not arrived: take the step from which it *stays* beyond.",
            _order(lambda v: _first(_progress(v) >= 0.5)),
        ),
        Mistake(
            "rising_only",
            "You treat every measure as one that rises. A loss falls: measure the way from its first value to its last, in whichever direction that is.",
            _order(_rising_only),
        ),
        Mistake(
            "between_extremes",
            "You took the middle between the smallest and the largest value. The way goes from the *first* value to the *last*; a spike in between is not part of it.",
            _order(_between_extremes),
        ),
        Mistake(
            "half_of_the_last_value",
            "You compare with half of a value. Half of the *way* counts, (first + last)/2: a measure need not begin at 0.",
            _order(_half_of_the_last),
        ),
        Mistake(
            "steepest",
            "This is where each measure changes most from one checkpoint to the next. Half of the way is asked for.",
            _order(_steepest),
        ),
        Mistake(
            "nearly_there",
            "This is nine tenths of the way. Half is enough.",
            _order(_whole_way),
        ),
        Mistake(
            "beyond_half_only",
            "Exactly half of the way counts as half of the way: `>=`, not `>`.",
            _order(lambda v: _stays(_progress(v) > 0.5)),
        ),
        Mistake(
            "index",
            "You return the number of the checkpoint. The training step is asked for: `steps[i]`.",
            _order(_right, report=lambda i, steps: i),
        ),
        Mistake(
            "one_before",
            "Each step is one checkpoint too early: the last at which the measure was *not* there.",
            _order(_right, report=lambda i, steps: int(steps[max(i - 1, 0)])),
        ),
        Mistake(
            "not_sorted",
            "The steps are right, but the pairs are in the order of the dictionary. The earliest comes first.",
            _order(_right, sort=lambda found, steps: found),
        ),
        Mistake(
            "latest_first",
            "You sorted the latest first. The earliest comes first.",
            _order(_right, sort=lambda found, steps: sorted(found, key=lambda pair: -pair[1])),
        ),
        Mistake(
            "ties_by_name",
            "Measures that arrive at the same step keep the order that they have in the dictionary; you sorted them by name. `sorted(pairs, key=lambda pair: pair[1])` keeps it.",
            _order(_right, sort=lambda found, steps: sorted(found, key=lambda pair: (pair[1], pair[0]))),
        ),
        Mistake(
            "step_and_name",
            "Your pairs are (step, name). The name comes first.",
            lambda steps, measures: [pair[::-1] for pair in _emergence_order(steps, measures)],
        ),
        Mistake(
            "never_moved",
            "A measure that ends where it began has no way to go half of: leave it out.",
            _order(_right_or_first, constant=True),
        ),
    ),
    hints=(
        "Half of the way is at `(values[0] + values[-1]) / 2`. Whether to be above or below depends on whether the last value is the larger one.",
        "Put both directions into one: `way = (values - values[0]) / (values[-1] - values[0])` runs from 0 to 1 for every measure. The index that you look for is one beyond the last place where `way < 0.5`.",
    ),
    reveal="`way < 0.5` is true at index 0, since nothing has happened there, so a last such place always exists. Beyond the last value counts as there, too. The rule has to be chosen before one looks: with the first crossing, or the steepest step, noise decides which measure was earlier.",
)
