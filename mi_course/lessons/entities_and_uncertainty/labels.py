"""What counts as known, folds that split no entity, and pairs that differ in nothing else."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mi_course.exercises import (
    Call,
    Case,
    Complaint,
    Exercise,
    Mistake,
    Part,
    RandomInputs,
    case,
    moved_random_state,
)
from mi_course.wire import Observation

# ---------------------------------------------------------------------------------------------------------------------
# label_known


def _label_known(correct: Tensor) -> list[str]:
    """Oracle: entity by entity, attribute by attribute."""
    labels = []
    for entity in correct:
        right = [attribute for attribute in range(correct.shape[1]) if bool(entity[attribute])]
        labels.append({0: "unknown", 1: "dropped"}.get(len(right), "known"))
    return labels


def _labels(known: Callable[[int, int], bool], unknown: Callable[[int, int], bool]) -> Callable[[Tensor], list[str]]:
    """From two conditions on (right, attributes)."""

    def label_known(correct: Tensor) -> list[str]:
        n = correct.shape[1]
        counts = [int(entity.sum()) for entity in correct]
        return ["known" if known(c, n) else "unknown" if unknown(c, n) else "dropped" for c in counts]

    return label_known


def _right_cases(draw: RandomInputs, attributes: Sequence[int]) -> list[Case]:
    cases = []
    for n in attributes:
        counts = [i % (n + 1) for i in draw.permutation(2 * n + 3)]
        correct = torch.zeros(len(counts), n, dtype=torch.bool)
        for row, count in zip(correct, counts, strict=True):
            row[draw.permutation(n)[:count]] = True
        cases.append(case(correct, about=f"{len(counts)} entities with {n} attribute{'s' * (n > 1)} each"))
    return cases


LABEL_KNOWN = Exercise(
    id="entities_and_uncertainty.label_known",
    task='Label each entity by how many of its attributes the model got right: "known", "unknown" or "dropped".',
    minutes=5,
    difficulty=1,
    oracle=_label_known,
    parts=(
        Part("three, four and six attributes", 2, lambda draw, size: _right_cases(draw, (4, 3, 6))),
        Part(
            "one and two attributes, one entity, none",
            1,
            lambda draw, size: [
                *_right_cases(draw, (1, 2)),
                case(torch.ones(1, 3, dtype=torch.bool), about="a single entity, of which all is known"),
                case(torch.tensor([[False, True, False]]), about="a single entity with one right answer"),
                case(torch.zeros(0, 3, dtype=torch.bool), about="no entities"),
            ],
        ),
    ),
    mistakes=(
        Mistake(
            "one_is_enough",
            'You count an entity as known from one right answer on. One may be luck: from two on it is "known", and with one it is "dropped".',
            _labels(lambda right, n: right >= 1, lambda right, n: True),
        ),
        Mistake(
            "none_dropped",
            'You keep entities with exactly one right answer as "unknown". They are neither: "dropped".',
            _labels(lambda right, n: right >= 2, lambda right, n: True),
        ),
        Mistake(
            "all_needed",
            'You ask for all attributes. Two right answers are enough for "known", however many attributes there are.',
            _labels(lambda right, n: right == n, lambda right, n: right == 0),
        ),
        Mistake(
            "majority",
            'You ask for more than half of the attributes. Two right answers are enough for "known", however many attributes there are.',
            _labels(lambda right, n: 2 * right > n, lambda right, n: right == 0),
        ),
        Mistake(
            "half",
            'You ask for half of the attributes. The rule counts: two right answers are "known", one is "dropped", whatever their share.',
            _labels(lambda right, n: 2 * right >= n, lambda right, n: right == 0),
        ),
        Mistake(
            "three_needed",
            'You ask for more than two right answers. Two are enough for "known".',
            _labels(lambda right, n: right > 2, lambda right, n: right == 0),
        ),
        Mistake(
            "one_wrong_is_unknown",
            '"Unknown" are only those of which the model got nothing right; you take every entity with a mistake for unknown.',
            _labels(lambda right, n: right == n and right >= 2, lambda right, n: right < n),
        ),
        Mistake(
            "swapped",
            '"dropped" and "unknown" are swapped: nothing right is "unknown", one right answer is "dropped".',
            _labels(lambda right, n: right >= 2, lambda right, n: right == 1),
        ),
        Mistake(
            "reversed",
            "You counted wrong answers. `correct` is true where the model was right.",
            lambda correct: _label_known(~correct),
        ),
        Mistake(
            "over_entities",
            "You counted over the entities, and labeled attributes. Each row is an entity: count along it.",
            lambda correct: _label_known(correct.T),
        ),
        Mistake(
            "dropped_left_out",
            'You left the dropped entities out of the list. There is one label for each entity: "dropped" is one of them.',
            lambda correct: [label for label in _label_known(correct) if label != "dropped"],
        ),
    ),
    hints=(
        "`correct.sum(dim=1)` counts the right answers of each entity. There are three cases: none, one, more.",
        '`"known" if right >= 2 else "unknown" if right == 0 else "dropped"`, for each count.',
    ),
    reveal="What is thrown away matters as much as what is kept: an entity with one right answer would be noise in either class. The rule depends on how easily an attribute is guessed, though. If half of all books are novels, a model that always says *novel* knows half of them; so report the majority's guess beside each attribute.",
)


# ---------------------------------------------------------------------------------------------------------------------
# group_folds


def _group_folds(groups: list[str], n_folds: int, seed: int) -> list[list[int]]:
    """Oracle: Python's own shuffle, groups dealt like cards."""
    names = list(dict.fromkeys(groups))
    if n_folds < 2 or n_folds > len(names):
        raise ValueError(f"{len(names)} groups, {n_folds} folds")
    random.Random(seed).shuffle(names)
    hands = [set(names[k::n_folds]) for k in range(n_folds)]
    return [[i for i in range(len(groups)) if groups[i] in hand] for hand in hands]


def _rows_shuffled(groups: list[str], n_folds: int, seed: int) -> list[list[int]]:
    rows = list(range(len(groups)))
    random.Random(seed).shuffle(rows)
    return [rows[k::n_folds] for k in range(n_folds)]


def _training_rows(groups: list[str], n_folds: int, seed: int) -> list[list[int]]:
    return [[i for i in range(len(groups)) if i not in fold] for fold in _group_folds(groups, n_folds, seed)]


def _group_names(groups: list[str], n_folds: int, seed: int) -> list[Any]:
    return [sorted({groups[i] for i in fold}) for fold in _group_folds(groups, n_folds, seed)]


def _one_row_each(groups: list[str], n_folds: int, seed: int) -> list[list[int]]:
    return [[i for i in fold if groups.index(groups[i]) == i] for fold in _group_folds(groups, n_folds, seed)]


def _each_alone(groups: list[str], n_folds: int, seed: int) -> list[list[int]]:
    dice = random.Random(seed)
    fold = {name: dice.randrange(n_folds) for name in dict.fromkeys(groups)}
    return [[i for i, name in enumerate(groups) if fold[name] == k] for k in range(n_folds)]


def _rows_balanced(groups: list[str], n_folds: int, seed: int) -> list[list[int]]:
    """As scikit-learn's GroupKFold: the largest group first, always to the fold with the fewest rows."""
    names = list(dict.fromkeys(groups))
    random.Random(seed).shuffle(names)
    folds: list[list[int]] = [[] for _ in range(n_folds)]
    for name in sorted(names, key=groups.count, reverse=True):
        min(folds, key=len).extend(i for i, other in enumerate(groups) if other == name)
    return folds


def _rotated(groups: list[str], n_folds: int, seed: int) -> list[list[int]]:
    names = sorted(set(groups))
    start = random.Random(seed).randrange(len(names))
    fold = {name: (start + i) * n_folds // len(names) % n_folds for i, name in enumerate(names)}
    return [[i for i, name in enumerate(groups) if fold[name] == k] for k in range(n_folds)]


def _global_folds(groups: list[str], n_folds: int, seed: int) -> list[list[int]]:
    torch.manual_seed(seed)
    return _group_folds(groups, n_folds, int(torch.randint(0, 2**31, (1,))))


def _unchecked_folds(groups: list[str], n_folds: int, seed: int) -> list[list[int]]:
    names = list(dict.fromkeys(groups))
    random.Random(seed).shuffle(names)
    return [[i for i in range(len(groups)) if groups[i] in names[k::n_folds]] for k in range(max(1, n_folds))]


def _no_error(case: Case, observation: Observation) -> bool:
    """A `detect`: nothing was raised where a ValueError is expected."""
    wanted = [r.value for c, r in zip(case.calls, observation.replies, strict=False) if c.driver == "expects_error"]
    return any(isinstance(value, dict) and value.get("raised") == [] for value in wanted)


def _read_folds(value: Any, groups: list[str], n_folds: int) -> list[list[int]] | Complaint:
    folds = value.tolist() if isinstance(value, Tensor) else value
    if isinstance(folds, dict) or not isinstance(folds, (list, tuple)) or len(folds) != n_folds:
        return Complaint(f"Expected a list of {n_folds} lists of rows, one for each fold.", "shape")
    read = []
    for fold in folds:
        fold = fold.tolist() if isinstance(fold, Tensor) else fold
        if isinstance(fold, (list, tuple)) and fold and all(isinstance(row, str) for row in fold):
            return Complaint("", mistake="group_names")
        if not isinstance(fold, (list, tuple)) or not all(type(row) is int for row in fold):
            return Complaint("A fold is not a list of rows, that is, of whole numbers.", "type")
        read.append(list(fold))
    return read


def _folds_complaint(value: Any, groups: list[str], n_folds: int) -> Complaint | None:
    folds = _read_folds(value, groups, n_folds)
    if isinstance(folds, Complaint):
        return folds
    counts = Counter(row for fold in folds for row in fold)
    if set(counts) - set(range(len(groups))):
        return Complaint(
            f"There is no row {max(set(counts) - set(range(len(groups))))}: they run from 0 to {len(groups) - 1}."
        )
    if n_folds > 2 and all(counts[row] == n_folds - 1 for row in range(len(groups))):
        return Complaint("", mistake="training_rows")
    if any(counts[row] != 1 for row in range(len(groups))):
        if all(counts[groups.index(name)] == 1 for name in groups) and sum(counts.values()) == len(set(groups)):
            return Complaint("", mistake="one_row_each")
        row = next(row for row in range(len(groups)) if counts[row] != 1)
        return Complaint(f"Row {row} stands in {counts[row]} of the lists, expected 1.")
    members = [{groups[row] for row in fold} for fold in folds]
    for a, b in itertools.combinations(range(n_folds), 2):
        if both := members[a] & members[b]:
            if len(both) > 1 or len(set(groups)) == len(groups):
                return Complaint("", mistake="groups_split")
            return Complaint(
                f"Rows of the group {sorted(both)[0]!r} stand in lists {a} and {b}; no group may be split."
            )
    sizes = sorted(map(len, members))
    if sizes[-1] - sizes[0] > 1:
        return Complaint("", mistake="uneven")
    return None


def _judge_folds(case: Case, observation: Observation) -> Complaint | None:
    for call, reply in zip(case.calls, observation.replies, strict=False):
        if problem := _folds_complaint(reply.value, *call.args[:2]):
            return problem
    return None


def _partition(value: Any, groups: list[str], n_folds: int) -> set[frozenset[int]]:
    folds = _read_folds(value, groups, n_folds)
    return set() if isinstance(folds, Complaint) else {frozenset(fold) for fold in folds}


def _judge_fold_seeds(case: Case, observation: Observation) -> Complaint | None:
    """Two calls with one seed, then many with others: each pair of groups comes together as often as chance has it."""
    if problem := _judge_folds(case, observation):
        return problem
    groups, n_folds = case.calls[0].args[:2]
    found = [_partition(reply.value, groups, n_folds) for reply in observation.replies]
    if found[0] != found[1]:
        return Complaint("The same seed gave two different partitions.")
    if all(partition == found[0] for partition in found):
        return Complaint("", mistake="seed_ignored")
    names, seeds = list(dict.fromkeys(groups)), found[1:]
    sizes = [len(names) // n_folds + (k < len(names) % n_folds) for k in range(n_folds)]
    chance = sum(s * (s - 1) for s in sizes) / (len(names) * (len(names) - 1))
    spread = (chance * (1 - chance) / len(seeds)) ** 0.5
    for a, b in itertools.combinations(names, 2):
        i, j = groups.index(a), groups.index(b)
        share = sum(any({i, j} <= fold for fold in partition) for partition in seeds) / len(seeds)
        if abs(share - chance) > 6 * spread:
            return Complaint(
                f"Over {len(seeds)} seeds the groups {a!r} and {b!r} share a fold in {share:.0%} of the partitions, where chance has {chance:.0%}. Shuffle all groups."
            )
    return None


def _groups(draw: RandomInputs, sizes: Sequence[int]) -> list[str]:
    """Rows of groups of these sizes, in random order; the names say nothing about the order."""
    words = ["Oslo", "Rome", "Lima", "Cairo", "Quito", "Paris", "Berne", "Accra", "Delhi", "Hanoi", "Minsk", "Sofia"]
    names = [words[i] for i in draw.permutation(len(words))[: len(sizes)]]
    rows = [name for name, size in zip(names, sizes, strict=True) for _ in range(size)]
    return [rows[i] for i in draw.permutation(len(rows))]


def _fold_cases(draw: RandomInputs, size: str) -> list[Case]:
    settings = (((3, 1, 4, 2, 5, 2, 1), 3), ((2,) * 8, 4), ((9, 1, 1, 1, 1, 2), 2), ((1, 2, 3, 4, 2), 4))
    return [
        case(
            _groups(draw, sizes),
            n_folds,
            draw.seed(),
            judge=_judge_folds,
            about=f"{len(sizes)} groups, {n_folds} folds",
        )
        for sizes, n_folds in settings
    ]


def _small_folds(draw: RandomInputs, size: str) -> list[Case]:
    errors = [(_groups(draw, (2, 3, 1)), n_folds, draw.seed()) for n_folds in (4, 1, 0)]
    errors.append((["Rome"] * 4, 2, draw.seed()))
    return [
        case(_groups(draw, (1,) * 7), 3, draw.seed(), judge=_judge_folds, about="groups of one row"),
        case(_groups(draw, (3, 2, 4)), 3, draw.seed(), judge=_judge_folds, about="as many folds as groups"),
        case(_groups(draw, (3, 2)), 2, draw.seed(), judge=_judge_folds, about="two groups, two folds"),
        Case(
            tuple(Call(args, "expects_error") for args in errors),
            about="more folds than groups; one fold, none; a single group",
        ),
    ]


def _fold_seeds(draw: RandomInputs, size: str) -> list[Case]:
    groups, seed = _groups(draw, (3, 1, 4, 2, 2, 1, 3)), draw.seed()
    seeds = [seed, seed, *(draw.seed() for _ in range(150))]
    other = _groups(draw, (2, 2, 1, 3, 1))
    others = [(other, 3, seed), (other, 2, seed), (other[::-1], 3, seed), (sorted(other), 2, seed)]
    return [
        Case(
            tuple(Call((groups, 3, s), watch=("random_state", "arguments")[i > 2 :]) for i, s in enumerate(seeds)),
            judge=_judge_fold_seeds,
            about="the same seed twice, then 150 others",
        ),
        Case(
            tuple(Call(args, watch=("arguments",)) for args in others),
            judge=_judge_folds,
            about="the same seed with other groups and folds",
        ),
    ]


GROUP_FOLDS = Exercise(
    id="entities_and_uncertainty.group_folds",
    task="Deal rows into the test folds of a cross-validation so that no group is split between folds.",
    minutes=8,
    difficulty=2,
    fixed={"groups": "judged by properties, varied by hand"},
    oracle=_group_folds,
    parts=(
        Part("no group is split", 2, _fold_cases),
        Part("groups of one row, as many folds as groups, too many folds", 1, _small_folds),
        Part("the seed decides, and nothing else is touched", 1, _fold_seeds),
    ),
    mistakes=(
        Mistake(
            "groups_split",
            "Rows of one group stand in different folds. A probe could then recognize in the test what it saw in training: deal out *groups*, and give each row to its group's fold.",
            _rows_shuffled,
        ),
        Mistake(
            "training_rows",
            "These are the training rows: each row stands in all folds but one. List k holds the rows that are *tested* in fold k.",
            _training_rows,
        ),
        Mistake(
            "group_names",
            "Your folds hold the names of groups. Rows are asked for: their indices in `groups`.",
            _group_names,
        ),
        Mistake(
            "one_row_each",
            "Of each group there is only one row. All rows of a group belong to its fold.",
            _one_row_each,
        ),
        Mistake(
            "uneven",
            "Your folds differ by more than one group. Shuffle the groups, then deal them out in turn. (Balanced are numbers of groups, not of rows.)",
            _each_alone,
        ),
        Mistake(
            "seed_ignored",
            "Another seed gives the same folds. Shuffle the groups with a generator that the seed sets.",
            lambda groups, n_folds, seed: _group_folds(groups, n_folds, 0),
        ),
        Mistake(
            "no_error",
            "There cannot be more folds than groups, nor fewer than two: raise a ValueError. A fold without rows would have no accuracy.",
            _unchecked_folds,
            _no_error,
        ),
        Mistake(
            "global_random_state",
            "The folds are right, but the global random state moved, and with it everything random that comes later in the notebook. Use `torch.Generator().manual_seed(seed)` and pass it on.",
            _global_folds,
            moved_random_state,
        ),
    ),
    hints=(
        "First forget the rows: shuffle the different names, and deal them out like cards. Then look up each row's fold.",
        "`names = sorted(set(groups))`, then `torch.randperm(len(names), generator=generator)`; the group at place p of the shuffled names goes to fold `p % n_folds`.",
    ),
    reveal="Ten prompts about Paris are not ten independent observations: a probe that remembers *Paris* gets the other nine right. Split by rows, every probe looks as if it generalized. "
    "`sorted(set(...))` rather than `set(...)`: the order of a set of strings changes with every start of Python, and with it the folds of a seed.",
)


# ---------------------------------------------------------------------------------------------------------------------
# match_on


def _scores(features: Tensor, correction: int = 0) -> Tensor:
    """z-scores; a feature without spread is 0."""
    x = features.double()
    varies = (x != x[:1]).any(0)
    return torch.where(varies, (x - x.mean(0)) / x.std(0, correction=correction), torch.zeros(()).double())


def _distances(z: Tensor, order: float = 2) -> Tensor:
    return torch.cdist(z, z, p=order, compute_mode="donot_use_mm_for_euclid_dist")


def _allowed(distances: Tensor, labels: Tensor, caliper: float) -> Tensor:
    """[row, row]: whether a true and a false row are close enough."""
    return (distances <= caliper) & labels[:, None] & ~labels


def _most(allowed: Tensor) -> list[tuple[int, int]]:
    """As many pairs as possible."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import maximum_bipartite_matching

    partner = maximum_bipartite_matching(csr_matrix(allowed.numpy()), perm_type="column")
    return [(i, int(j)) for i, j in enumerate(partner) if j >= 0]


def _match_on(features: Tensor, labels: Tensor, caliper: float) -> list[tuple[int, int]]:
    """Oracle: the largest matching of the graph of pairs that are close enough."""
    return _most(_allowed(_distances(_scores(features)), labels, caliper))


def _matched(
    distances: Callable[[Tensor, Tensor], Tensor] = lambda features, labels: _distances(_scores(features)),
    pairs: Callable[[list[tuple[int, int]], Tensor], list[Any]] = lambda pairs, labels: pairs,
    caliper: Callable[[float], float] = lambda caliper: caliper,
) -> Callable[[Tensor, Tensor, float], list[Any]]:
    """A match_on of which one piece is wrong."""

    def match_on(features: Tensor, labels: Tensor, wide: float) -> list[Any]:
        return pairs(_most(_allowed(distances(features, labels), labels, caliper(wide))), labels)

    return match_on


def _raw(features: Tensor, labels: Tensor) -> Tensor:
    return _distances(features.double())


def _sampled(features: Tensor, labels: Tensor) -> Tensor:
    return _distances(_scores(features, 1)) if len(features) > 1 else _distances(_scores(features))


def _per_feature(features: Tensor, labels: Tensor) -> Tensor:
    return _distances(_scores(features), torch.inf)


def _in_classes(features: Tensor, labels: Tensor) -> Tensor:
    z = torch.zeros_like(features, dtype=torch.float64)
    for one in (labels, ~labels):
        if one.any():
            z[one] = _scores(features[one])
    return _distances(z)


def _within_classes(pairs: list[tuple[int, int]], labels: Tensor) -> list[tuple[int, int]]:
    true, false = labels.nonzero().flatten().tolist(), (~labels).nonzero().flatten().tolist()
    return [(true.index(i), false.index(j)) for i, j in pairs]


def _reused(features: Tensor, labels: Tensor, caliper: float) -> list[tuple[int, int]]:
    """Each true row with its nearest false row, however often that is taken."""
    z, false = _scores(features), (~labels).nonzero().flatten().tolist()
    pairs = []
    for i in labels.nonzero().flatten().tolist():
        distance, j = min(((float((z[i] - z[j]).norm()), j) for j in false), default=(torch.inf, -1))
        if distance <= caliper:
            pairs.append((i, j))
    return pairs


def _mutual(features: Tensor, labels: Tensor, caliper: float) -> list[tuple[int, int]]:
    """Only those that are nearest to each other."""
    allowed = _allowed(distances := _distances(_scores(features)), labels, caliper)
    far = distances.where(allowed, torch.inf)
    pairs = []
    for i in range(len(labels)):
        if allowed[i].any():
            j = int(far[i].argmin())
            if int(far[:, j].argmin()) == i:
                pairs.append((i, j))
    return pairs


def _read_pairs(value: Any, labels: Tensor) -> list[tuple[int, int]] | Complaint:
    value = value.tolist() if isinstance(value, Tensor) else value
    if not isinstance(value, (list, tuple)):
        return Complaint("Expected a list of pairs (true row, false row).", "type")
    pairs = []
    for item in value:
        pair = item.tolist() if isinstance(item, Tensor) else item
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            return Complaint(f"{pair!r:.60} is no pair; expected (true row, false row).", "type")
        if not all(isinstance(row, (int, Tensor)) and not isinstance(row, bool) for row in pair):
            return Complaint(f"{pair!r:.60} are not two rows, that is, whole numbers.", "type")
        pairs.append((int(pair[0]), int(pair[1])))
    if outside := [row for pair in pairs for row in pair if not 0 <= row < len(labels)]:
        return Complaint(f"There is no row {outside[0]}: they run from 0 to {len(labels) - 1}.")
    return pairs


def _pairs_complaint(value: Any, features: Tensor, labels: Tensor, caliper: float) -> Complaint | None:
    pairs = _read_pairs(value, labels)
    if isinstance(pairs, Complaint):
        return pairs
    distances = _distances(_scores(features))
    if wrong := [(i, j) for i, j in pairs if not labels[i] or labels[j]]:
        if all(labels[j] and not labels[i] for i, j in pairs):
            return Complaint("", mistake="false_first")
        if _is_positions(pairs, distances, labels, caliper):
            return Complaint("", mistake="positions_in_class")
        i, j = wrong[0]
        return Complaint(
            f"The pair ({i}, {j}) joins a {bool(labels[i])} row with a {bool(labels[j])} one; expected (true row, false row)."
        )
    for side, which in ((0, "true"), (1, "false")):
        row, times = Counter(pair[side] for pair in pairs).most_common(1)[0] if pairs else (0, 0)
        if times > 1:
            if all(distances[i, j] <= caliper * 1.0001 for i, j in pairs):
                return Complaint("", mistake="row_twice")
            return Complaint(f"The {which} row {row} stands in {times} pairs; no row may stand in two.")
    return _caliper_complaint(pairs, features, labels, caliper) or _count_complaint(pairs, features, labels, caliper)


def _is_positions(pairs: list[tuple[int, int]], distances: Tensor, labels: Tensor, caliper: float) -> bool:
    """Whether the pairs are right once they are read as positions among the true rows, and among the false ones."""
    true, false = labels.nonzero().flatten().tolist(), (~labels).nonzero().flatten().tolist()
    return all(
        i < len(true) and j < len(false) and float(distances[true[i], false[j]]) <= caliper * 1.0001 for i, j in pairs
    )


def _caliper_complaint(
    pairs: list[tuple[int, int]], features: Tensor, labels: Tensor, caliper: float
) -> Complaint | None:
    distances = _distances(_scores(features))
    i, j = max(pairs, key=lambda pair: float(distances[pair]), default=(0, 0))
    if not pairs or float(distances[i, j]) <= caliper * 1.0001:
        return None
    return Complaint(
        f"{_said(features, caliper)}, rows {i} and {j} are a pair; on standardized features they are {float(distances[i, j]):.3g} apart."
    )


def _said(features: Tensor, caliper: float) -> str:
    n, f = features.shape
    return f"Of {n} rows with {f} feature{'s' * (f != 1)}, with a caliper of {caliper:.3g}"


def _other_rule(calls: Sequence[Call], lists: Sequence[list[tuple[int, int]]]) -> str | None:
    """The mistake that explains the pairs of all calls. A single one could be explained by several."""
    rules: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "sample_deviation": _sampled,
        "not_standardized": _raw,
        "per_feature": _per_feature,
        "within_classes": _in_classes,
    }
    for name, distances in rules.items():
        if all(_follows(pairs, distances, *call.args) for call, pairs in zip(calls, lists, strict=True)):
            return name
    most = [min(int(call.args[1].sum()), int((~call.args[1]).sum())) for call in calls]
    return "no_caliper" if [len(pairs) for pairs in lists] == most else None


def _follows(
    pairs: list[tuple[int, int]],
    rule: Callable[[Tensor, Tensor], Tensor],
    features: Tensor,
    labels: Tensor,
    caliper: float,
) -> bool:
    """Whether these pairs are right under other distances."""
    distances = rule(features, labels)
    close = all(distances[pair] <= caliper * 1.0001 for pair in pairs)
    return close and not _left_over(pairs, _allowed(distances, labels, caliper * 0.9999))


def _left_over(pairs: Sequence[tuple[int, int]], allowed: Tensor) -> list[tuple[int, int]]:
    """Pairs that could be added."""
    free = allowed.clone()
    for i, j in pairs:
        free[i], free[:, j] = False, False
    return [(int(i), int(j)) for i, j in free.nonzero()]


def _count_complaint(
    pairs: list[tuple[int, int]], features: Tensor, labels: Tensor, caliper: float
) -> Complaint | None:
    distances = _distances(_scores(features))
    allowed = _allowed(distances, labels, caliper * 0.9999)
    if more := _left_over(pairs, allowed):
        i, j = more[0]
        return Complaint(
            f"{_said(features, caliper)}, you have {len(pairs)} pair{'s' * (len(pairs) != 1)}, and more are possible: rows {i} and {j}, {float(distances[i, j]):.3g} apart, are both left over."
        )
    return None


def _judge_pairs(case: Case, observation: Observation) -> Complaint | None:
    for call, reply in zip(case.calls, observation.replies, strict=False):
        if problem := _pairs_complaint(reply.value, *call.args):
            return problem
    return None


def _judge_and_name(case: Case, observation: Observation) -> Complaint | None:
    """As `_judge_pairs`. Distances of another kind are named if they explain all calls."""
    problem = _judge_pairs(case, observation)
    if problem is None or problem.mistake or problem.kind != Complaint("").kind:
        return problem
    lists = [
        _read_pairs(reply.value, call.args[1]) for call, reply in zip(case.calls, observation.replies, strict=True)
    ]
    if any(isinstance(pairs, Complaint) for pairs in lists):
        return problem
    name = _other_rule(case.calls, lists)  # type: ignore[arg-type]
    return Complaint("", mistake=name) if name else problem


def _features(draw: RandomInputs, n: int, scales: Sequence[float], shift: float = 1.0) -> tuple[Tensor, Tensor]:
    """Rows of two classes that overlap, in features of very different scale; labels in random order."""
    labels = torch.zeros(n, dtype=torch.bool)
    labels[draw.permutation(n)[: n * 2 // 5]] = True
    z = draw.normal(n, len(scales)) + shift * labels[:, None]
    return z * torch.tensor(scales) + 3.0 * torch.tensor(scales), labels


def _match_cases(draw: RandomInputs, size: str) -> list[Case]:
    settings = ((40, (1.0, 25.0), 0.5), (60, (0.02, 1.0, 300.0), 0.9), (25, (7.0,), 0.15), (30, (1.0, 1.0), 1.2))
    two = torch.tensor([[1.0], [2.0]])  # two standard deviations apart
    inputs = [
        *((*_features(draw, n, scales), caliper) for n, scales, caliper in settings),
        (two, torch.tensor([True, False]), 1.7),
        (two, torch.tensor([False, True]), 2.2),
    ]
    calls = tuple(Call(args, watch=("arguments",)) for args in inputs)
    return [Case(calls, judge=_judge_and_name, about="2 to 60 rows, 1 to 3 features, calipers of 0.15 to 2.2")]


def _edge_cases(draw: RandomInputs, size: str) -> list[Case]:
    features, labels = _features(draw, 20, (1.0, 4.0))
    constant = torch.cat([features, torch.full((20, 1), 0.3)], 1)
    same = torch.full((6, 2), 0.7)
    rare = torch.cat([draw.normal(80, 1), torch.zeros(80, 1)], 1)
    rare[draw.integer(0, 80), 1] = 3.0
    both = torch.tensor([True, False, True, True, False, False])
    far = torch.tensor([[-1.0, 0.0], [-1.1, 0.1], [5.0, 3.0], [5.2, 3.1], [4.9, 2.9]])
    inputs = [
        (constant, labels, 0.6, "a feature whose values are all equal"),
        (same, both, 0.1, "equal rows"),
        (same, both, 0.0, "equal rows, caliper 0"),
        (rare, draw.uniform(80) < 0.5, 0.1, "a feature in which one value of 80 differs"),
        (features[labels], labels[labels], 1.0, "a class is missing"),
        (features[~labels], labels[~labels], 1.0, "the other class is missing"),
        (far, torch.tensor([True, True, False, False, False]), 0.5, "nothing is close enough"),
        (features[:1], labels[:1], 1.0, "a single row"),
    ]
    cases = [case(x, y, c, judge=_judge_pairs, about=about) for x, y, c, about in inputs]
    calls = [(features, labels, c) for c in (0.5, 0.2, 0.02, 2.5, 0.7, 1.4)]
    calls += [(features.flip(0) * factor, labels, 0.5) for factor in (1.0, 1e-3, 1e3)] + [
        (features, labels.flip(0), 0.5)
    ]
    some_zero = features.clone()
    some_zero[::3] = 0.0
    calls += [(some_zero, labels, 0.4), (-features, labels, 0.4), (features.round(), labels, 0.3)]
    shown = tuple(Call(args, watch=("arguments",)) for args in calls)
    return [*cases, Case(shown, judge=_judge_pairs, about="other calipers, other rows, other labels, other units")]


MATCH_ON = Exercise(
    id="entities_and_uncertainty.match_on",
    task="Pair true rows with false ones that are close to them on standardized features; no row twice.",
    minutes=12,
    difficulty=3,
    fixed={
        "features": "judged by properties, varied by hand",
        "labels": "judged by properties, varied by hand",
        "caliper": "judged by properties, varied by hand",
        "caliper>=0": "a distance",
    },
    oracle=_match_on,
    parts=(
        Part("close pairs, nobody twice, no pair left out", 3, _match_cases),
        Part("equal values, a missing class, other units and calipers", 1, _edge_cases),
    ),
    mistakes=(
        Mistake(
            "not_standardized",
            "Your pairs are close in raw units. A feature that is counted in hundreds then decides alone: subtract each feature's mean and divide by its standard deviation first.",
            _matched(_raw),
        ),
        Mistake(
            "per_feature",
            "In your pairs each feature by itself is within the caliper. Asked for is the Euclidean distance, the root of the sum of squares over all features.",
            _matched(_per_feature),
        ),
        Mistake(
            "within_classes",
            "You standardized each class by itself, which removes the very difference between the classes that matching is about. Take mean and standard deviation over all rows.",
            _matched(_in_classes),
        ),
        Mistake(
            "no_caliper",
            "You paired rows that are too far apart. Where nothing is within the caliper, a row stays alone.",
            _matched(caliper=lambda caliper: torch.inf),
        ),
        Mistake(
            "sample_deviation",
            "Your standard deviation divides by n − 1, so that your distances come out a little too small. Divide by n: `std(dim=0, correction=0)`.",
            _matched(_sampled),
        ),
        Mistake(
            "row_twice",
            "A row stands in two pairs. Once it is taken, it is gone: otherwise a few rows stand for a whole class.",
            _reused,
        ),
        Mistake(
            "false_first",
            "Your pairs begin with the false row. The order is (true row, false row).",
            _matched(pairs=lambda pairs, labels: [(j, i) for i, j in pairs]),
        ),
        Mistake(
            "positions_in_class",
            "Your numbers are positions among the true rows, and among the false ones. Rows of `features` are asked for: look the positions up in `labels.nonzero()`.",
            _matched(pairs=_within_classes),
        ),
    ),
    hints=(
        "Standardize, and make a list of all (distance, true row, false row). In which order do you go through it?",
        "`for distance, i, j in sorted(near)`: take the pair if the distance is within the caliper and neither row is taken.",
        "A feature without spread gives 0/0: set its z-scores to 0.",
    ),
    reveal="The closest pair first, then the closest of what is left: simple, and with at least half as many pairs as the best list has, since each pair can block two others at most (`scipy.optimize.linear_sum_assignment` finds the best). Matching throws away what has no partner, and with it some of what the two classes are: the question becomes narrower, and the answer means something. "
    "Whatever the features do not measure stays a confound.",
)
