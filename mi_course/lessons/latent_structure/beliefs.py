"""What a perfect predictor carries: the belief after a token, after each token of a string, and the loss that is left."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mi_course.exercises import Call, Case, Exercise, Mistake, Part, RandomInputs, case
from mi_course.interp.processes import boolean_process, mess3, rrxor, sample_process, stationary_distribution


def _process(draw: RandomInputs, n_tokens: int, n_states: int, sharpness: float = 1.5) -> Tensor:
    """A random process without symmetry: for each state the entries over tokens and next states sum to 1."""
    flat = draw.normal(n_states, n_tokens * n_states, std=sharpness).softmax(-1)
    return flat.view(n_states, n_tokens, n_states).permute(1, 0, 2).contiguous()


def _belief(draw: RandomInputs, n_states: int) -> Tensor:
    return draw.normal(n_states, std=1.2).softmax(-1)


def _normal(row: Tensor) -> Tensor:
    return row / row.sum(-1, keepdim=True)


# ---------------------------------------------------------------------------------------------------------------------
# belief_update


def _belief_update(belief: Tensor, T: Tensor, token: int) -> Tensor:
    """Oracle: the joint probability of each way to go, one by one, in double precision."""
    _, n_from, n_to = T.shape
    joint = [sum(float(belief[s].double() * T[token, s, r].double()) for s in range(n_from)) for r in range(n_to)]
    total = math.fsum(joint)
    if total == 0:
        raise ValueError(f"token {token} cannot follow")
    return torch.tensor([p / total for p in joint])


def _update_cases(draw: RandomInputs, size: str) -> list[Case]:
    return [
        case(
            _belief(draw, n_states),
            _process(draw, n_tokens, n_states),
            token,
            about=f"{n_states} states, {n_tokens} tokens, token {token}",
        )
        for n_tokens, n_states, token in ((4, 3, 2), (2, 5, 1), (3, 2, 0))
    ]


def _sure_cases(draw: RandomInputs, size: str) -> list[Case]:
    certain = torch.zeros(4)
    certain[draw.integer(1, 4)] = 1.0
    half = torch.tensor([0.0, 0.5, 0.5, 0.0, 0.0])
    return [
        case(certain, _process(draw, 3, 4), 1, about="a belief that is sure of one state"),
        case(half, rrxor(), 1, about="RRXOR, the first bit not known, the second is 1"),
        case(torch.ones(1), _process(draw, 3, 1), 2, about="a single state"),
        case(
            _belief(draw, 3),
            _process(draw, 3, 3) * torch.tensor([1.0, 1.0, 1e-6])[:, None, None],
            2,
            about="a token of one in a million",
        ),
    ]


def _impossible_cases(draw: RandomInputs, size: str) -> list[Case]:
    zero, one = torch.tensor([0.0, 0.0, 0.0, 1.0, 0.0]), torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0])
    calls = [(zero, rrxor(), 0), (zero, rrxor(), 1), (one, rrxor(), 0)]
    return [
        Case(
            calls=tuple(Call(args, "expects_error") for args in calls),
            about="a token that can follow, then two that cannot",
        )
    ]


def _no_error(belief: Tensor, T: Tensor, token: int) -> Tensor:
    return _normal(belief @ T[token])


def _updated(change: Callable[[Tensor, Tensor, int], Tensor]) -> Callable[[Tensor, Tensor, int], Tensor]:
    """A wrong update that still refuses a token that cannot follow."""

    def belief_update(belief: Tensor, T: Tensor, token: int) -> Tensor:
        _belief_update(belief, T, token)
        return change(belief, T, token)

    return belief_update


BELIEF_UPDATE = Exercise(
    id="latent_structure.belief_update",
    fixed={
        "T": "probabilities, which sum to 1 for each state",
        "belief": "a distribution over states",
        "T[0]": "the token is one of them",
        "result>=0": "probabilities",
        "result<=1": "probabilities",
    },
    task="The belief after one more token, by Bayes's rule; ValueError if the token cannot follow.",
    minutes=8,
    difficulty=1,
    oracle=_belief_update,
    parts=(
        Part("random processes", 2, _update_cases),
        Part("certain beliefs, rare tokens, a single state", 1, _sure_cases),
        Part("a token that cannot follow is refused", 1, _impossible_cases),
    ),
    mistakes=(
        Mistake(
            "not_normalized",
            "Your belief does not sum to 1: it sums to the probability of the token. Divide by that sum; Bayes's rule divides by what was seen.",
            _updated(lambda belief, T, token: belief @ T[token]),
        ),
        Mistake(
            "state_stays",
            "You weighed the old states by how well they explain the token, and left it there. While it emits the token the process also moves: sum over the old states, and keep the new one.",
            _updated(lambda belief, T, token: _normal(belief * T[token].sum(1))),
        ),
        Mistake(
            "transposed",
            "Old and new states are exchanged. T[token, s, r] goes *from* s *to* r, and the belief is about s: sum over the first of the two axes, `belief @ T[token]`.",
            _updated(lambda belief, T, token: _normal(T[token] @ belief)),
        ),
        Mistake(
            "token_ignored",
            "You moved the belief without looking at the token: the same comes out whatever was seen. Use the matrix of this token alone.",
            _updated(lambda belief, T, token: belief @ T.sum(0)),
        ),
        Mistake(
            "belief_ignored",
            "The old belief plays no part: this is what the token says to somebody who held every state for equally likely.",
            _updated(lambda belief, T, token: _normal(T[token].sum(0))),
        ),
        Mistake(
            "moved_then_weighed",
            "You moved first, and then weighed the new states by how likely *they* are to emit the token. The token is emitted on the way from s to r; T[token, s, r] has both in one number.",
            _updated(lambda belief, T, token: _normal((belief @ T.sum(0)) * T[token].sum(1))),
        ),
        Mistake(
            "token_and_move_apart",
            "You weighed the old states by the token, and then moved them as the process moves on average, whatever it emits. Which way it goes may depend on what it emits: T[token, s, r] is the probability of both together.",
            _updated(lambda belief, T, token: _normal(belief * T[token].sum(1)) @ T.sum(0)),
        ),
        Mistake(
            "most_likely_state",
            "You kept the most likely state alone. The belief is the whole distribution: what looks unlikely now may be what the next tokens say.",
            _updated(
                lambda belief, T, token: torch.nn.functional.one_hot(
                    _belief_update(belief, T, token).argmax(), T.shape[2]
                ).float()
            ),
        ),
        Mistake(
            "divided_by_the_largest",
            "You divided by the largest entry. Divide by the sum, so that the belief sums to 1.",
            _updated(lambda belief, T, token: belief @ T[token] / (belief @ T[token]).max()),
        ),
        Mistake(
            "divided_by_the_length",
            "You divided by the Euclidean length. Probabilities are divided by their sum.",
            _updated(lambda belief, T, token: belief @ T[token] / (belief @ T[token]).norm()),
        ),
        Mistake(
            "softmax",
            "You put a softmax over probabilities. They are no logits: divide by their sum.",
            _updated(lambda belief, T, token: (belief @ T[token]).softmax(-1)),
        ),
        Mistake(
            "impossible_token_accepted",
            "Right but for a token that cannot follow: 0/0 is NaN, and every belief after it is NaN too. Raise a ValueError: whoever sees such a token has the wrong process.",
            _no_error,
        ),
    ),
    hints=(
        "The probability that the process was in s, emitted the token and is now in r is belief[s] · T[token, s, r]. Which sum leaves a number for each r?",
        "`joint = belief @ T[token]` is that sum for each r; its own sum is the probability of the token.",
        "If that sum is 0, raise `ValueError`. Otherwise return `joint / joint.sum()`.",
    ),
    reveal="One vector-matrix product and one division: the forward algorithm of hidden Markov models (Rabiner 1989). What is divided by is the probability that the predictor gave to the token, so a perfect predictor has it anyway.",
)


# ---------------------------------------------------------------------------------------------------------------------
# belief_states


def _forward(tokens: Tensor, T: Tensor, initial: Tensor) -> Tensor:
    """The belief after each token, in double precision."""
    rows = []
    for string in tokens.tolist():
        belief, beliefs = initial.double(), []
        for token in string:
            belief = _normal(belief @ T[token].double())
            beliefs.append(belief)
        rows.append(torch.stack(beliefs))
    return torch.stack(rows).float()


def _belief_states(tokens: Tensor, T: Tensor, initial: Tensor) -> Tensor:
    """Oracle: logs of sums over paths, never a probability of a string."""
    log_T, rows = T.double().log(), []
    for string in tokens.tolist():
        log_joint, beliefs = initial.double().log(), []
        for token in string:
            log_joint = (log_joint[:, None] + log_T[token]).logsumexp(0)
            beliefs.append((log_joint - log_joint.logsumexp(0)).exp())
        rows.append(torch.stack(beliefs))
    return torch.stack(rows).float()


def _states_cases(draw: RandomInputs, size: str) -> list[Case]:
    cases = []
    for batch, length, n_tokens, n_states in ((4, 6, 3, 5), (1, 7, 2, 3), (5, 1, 4, 2)):
        T = _process(draw, n_tokens, n_states)
        tokens = draw.integers(0, n_tokens, batch, length)
        about = f"{batch} strings of {length} tokens, {n_states} states"
        cases.append(case(tokens, T, _belief(draw, n_states), about=about))
    return cases


def _known_cases(draw: RandomInputs, size: str) -> list[Case]:
    strings = sample_process(rrxor(), 6, 9, draw.seed())
    fractal = sample_process(mess3(), 3, 8, draw.seed())
    return [
        case(strings, rrxor(), stationary_distribution(rrxor()), about="RRXOR, where many transitions are impossible"),
        case(fractal, mess3(), torch.tensor([0.7, 0.1, 0.2]), about="Mess3, from a belief of your own"),
        case(draw.integers(0, 3, 2, 5), _process(draw, 3, 1), torch.ones(1), about="a single state"),
    ]


def _long_cases(draw: RandomInputs, size: str) -> list[Case]:
    T = _process(draw, 6, 4, sharpness=0.7)
    return [case(sample_process(T, 3, 400, draw.seed()), T, _belief(draw, 4), about="strings of 400 tokens")]


def _with(change: Callable[..., Tensor]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    def belief_states(tokens: Tensor, T: Tensor, initial: Tensor) -> Tensor:
        return change(tokens, T, initial)

    return belief_states


def _before(tokens: Tensor, T: Tensor, initial: Tensor) -> Tensor:
    first = initial.expand(len(tokens), 1, -1)
    return torch.cat([first, _forward(tokens, T, initial)[:, :-1]], 1)


def _one_after_the_other(tokens: Tensor, T: Tensor, initial: Tensor) -> Tensor:
    """The belief is not set back between the strings of a batch."""
    return _forward(tokens.reshape(1, -1), T, initial).view(*tokens.shape, -1)


def _each_alone(tokens: Tensor, T: Tensor, initial: Tensor) -> Tensor:
    """Each belief from its token alone."""
    return _normal(torch.stack([torch.stack([initial @ T[t] for t in string]) for string in tokens.tolist()]))


def _normalized_at_the_end(tokens: Tensor, T: Tensor, initial: Tensor) -> Tensor:
    rows = []
    for string in tokens.tolist():
        joint, joints = initial, []
        for token in string:
            joint = joint @ T[token]
            joints.append(joint)
        rows.append(torch.stack(joints))
    return _normal(torch.stack(rows))


def _never_normalized(tokens: Tensor, T: Tensor, initial: Tensor) -> Tensor:
    rows = []
    for string in tokens.tolist():
        joint, joints = initial.double(), []
        for token in string:
            joint = joint @ T[token].double()
            joints.append(joint)
        rows.append(torch.stack(joints))
    return torch.stack(rows).float()


def _states_stay(tokens: Tensor, T: Tensor, initial: Tensor) -> Tensor:
    rows = []
    for string in tokens.tolist():
        belief, beliefs = initial, []
        for token in string:
            belief = _normal(belief * T[token].sum(1))
            beliefs.append(belief)
        rows.append(torch.stack(beliefs))
    return torch.stack(rows)


def _smoothed(tokens: Tensor, T: Tensor, initial: Tensor) -> Tensor:
    """What each position would believe if it had seen the whole string."""
    rows = []
    for string, filtered in zip(tokens.tolist(), _forward(tokens, T, initial), strict=True):
        later = torch.ones(T.shape[1], dtype=torch.double)
        weights = [later]
        for token in reversed(string[1:]):
            later = T[token].double() @ later
            later = later / later.sum()
            weights.append(later)
        rows.append(_normal(filtered * torch.stack(weights[::-1])))
    return torch.stack(rows).float()


BELIEF_STATES = Exercise(
    id="latent_structure.belief_states",
    fixed={
        "T": "probabilities, which sum to 1 for each state",
        "initial": "a distribution over states",
        "T[0]": "the tokens are some of them",
        "result>=0": "probabilities",
        "result<=1": "probabilities",
    },
    task="The belief after each token of each string, from `initial` before the first.",
    minutes=8,
    difficulty=1,
    oracle=_belief_states,
    parts=(
        Part("random processes and strings", 2, _states_cases),
        Part("RRXOR and Mess3", 1, _known_cases),
        Part("strings of hundreds of tokens", 1, _long_cases),
    ),
    mistakes=(
        Mistake(
            "one_token_late",
            "These are the beliefs *before* each token: `initial` comes first, and the last belief is missing. A transformer's stream at a position has seen the token there; so must the belief.",
            _before,
        ),
        Mistake(
            "uniform_start",
            "You started from a uniform belief. Start each string from `initial`.",
            _with(lambda tokens, T, initial: _forward(tokens, T, torch.full_like(initial, 1 / len(initial)))),
        ),
        Mistake(
            "not_set_back",
            "The second string goes on from where the first one ended. Each string of the batch starts from `initial`.",
            _one_after_the_other,
        ),
        Mistake(
            "each_token_alone",
            "Each belief is made of `initial` and its own token alone. The belief after one token is what the next token updates.",
            _each_alone,
        ),
        Mistake(
            "never_normalized",
            "These are the joint probabilities of string and state: they sum to the probability of the string so far. Normalize after each token.",
            _never_normalized,
        ),
        Mistake(
            "normalized_at_the_end",
            "Right for short strings. After some hundred tokens the probability of a string is too small for a float32, and dividing 0 by 0 gives NaN: normalize after each token instead of at the end.",
            _normalized_at_the_end,
            degenerate=True,
        ),
        Mistake(
            "transposed",
            "Old and new states are exchanged. T[x, s, r] goes from s to r: `belief @ T[x]`.",
            _with(lambda tokens, T, initial: _forward(tokens, T.transpose(1, 2), initial)),
        ),
        Mistake(
            "states_stay",
            "You weighed the states by each token and never moved. T[x, s, r] says where the process goes while it emits x.",
            _states_stay,
        ),
        Mistake(
            "from_the_end",
            "Your strings are read from their ends. Position 0 is the first token.",
            _with(lambda tokens, T, initial: _forward(tokens.flip(1), T, initial)),
        ),
        Mistake(
            "knows_the_future",
            "Each position knows the tokens that come after it (smoothing, forward and backward). A predictor has only seen the tokens up to its own.",
            _smoothed,
        ),
        Mistake(
            "most_likely_states",
            "You gave each position its most likely state. The whole distribution is asked for.",
            _with(
                lambda tokens, T, initial: torch.nn.functional.one_hot(
                    _forward(tokens, T, initial).argmax(-1), len(initial)
                ).float()
            ),
        ),
        Mistake(
            "normalized_over_the_batch",
            "Your beliefs sum to 1 over the strings of the batch. They must over the states, the last axis.",
            _with(lambda tokens, T, initial: _normal(_forward(tokens, T, initial).movedim(0, -1)).movedim(-1, 0)),
        ),
    ),
    hints=(
        "A loop over positions; each takes the beliefs of all strings one token further. `T[tokens[:, pos]]` is [batch state state], each string's own matrix.",
        "`torch.einsum('bs,bsr->br', belief, T[tokens[:, pos]])`, then divide by the sum over the last axis, at each position.",
        "Start from `initial.expand(len(tokens), -1)`, collect the beliefs in a list, and `torch.stack(beliefs, dim=1)`.",
    ),
    reveal="It is the update again, a batch at a time. Normalizing at each step changes nothing about the direction, and keeps the numbers away from underflow: after 400 tokens a string's probability is about 10⁻³⁰⁰.",
)


# ---------------------------------------------------------------------------------------------------------------------
# optimal_loss


def _strings(T: Tensor, n: int, start: Tensor | None = None) -> dict[tuple[int, ...], float]:
    """Every string of n tokens with its probability, in double precision."""
    start = stationary_distribution(T) if start is None else start
    found = {}
    for string in itertools.product(range(len(T)), repeat=n):
        weights = start.double()
        for token in string:
            weights = weights @ T[token].double()
        found[string] = float(weights.sum())
    return found


def _entropy(probabilities: Any) -> float:
    return -math.fsum(p * math.log(p) for p in probabilities if p > 1e-14)


def _blocks(T: Tensor, n: int, start: Tensor | None = None) -> list[float]:
    """The entropy of the first 0, 1, … n tokens."""
    return [_entropy(_strings(T, length, start).values()) for length in range(n + 1)]


def _optimal_loss(T: Tensor, n: int) -> Tensor:
    """Oracle: differences of the entropies of longer and longer blocks (the chain rule)."""
    blocks = _blocks(T, n)
    return torch.tensor([after - before for before, after in itertools.pairwise(blocks)])


def _started(start: Callable[[Tensor], Tensor]) -> Callable[[Tensor, int], Tensor]:
    def optimal_loss(T: Tensor, n: int) -> Tensor:
        blocks = _blocks(T, n, start(T))
        return torch.tensor([after - before for before, after in itertools.pairwise(blocks)])

    return optimal_loss


def _by_powers(T: Tensor) -> Tensor:
    """Where a hundred steps lead from state 0: not the stationary distribution of a periodic process."""
    first = torch.zeros(T.shape[1], dtype=torch.double)
    first[0] = 1
    return first @ torch.linalg.matrix_power(T.double().sum(0), 100)


def _weighed_alike(T: Tensor, n: int) -> Tensor:
    """The mean over strings that can occur, each counted once."""
    losses = []
    for length in range(1, n + 1):
        before, after = _strings(T, length - 1), _strings(T, length)
        costs = [-math.log(p / before[string[:-1]]) for string, p in after.items() if p > 1e-14]
        losses.append(sum(costs) / len(costs))
    return torch.tensor(losses)


def _state_known(T: Tensor, n: int) -> Tensor:
    """The loss of somebody who sees the hidden state."""
    emit = T.double().sum(2)  # [token, state]
    each = torch.tensor([_entropy(emit[:, s].tolist()) for s in range(T.shape[1])], dtype=torch.double)
    return (stationary_distribution(T).double() @ each).float().expand(n).clone()


def _no_context(T: Tensor, n: int) -> Tensor:
    return _optimal_loss(T, 1).expand(n).clone()


def _one_token_of_context(T: Tensor, n: int) -> Tensor:
    losses = _optimal_loss(T, min(n, 2))
    return torch.cat([losses, losses[-1:].expand(n - len(losses))])


def _zero_log_zero(T: Tensor, n: int) -> Tensor:
    losses = _optimal_loss(T, n)
    for i in range(n):
        if min(_strings(T, i + 1).values()) < 1e-14:
            losses[i:] = torch.nan
            break
    return losses


def _entropy_cases(draw: RandomInputs, size: str) -> list[Case]:
    cases = []
    for n_tokens, n_states, n in ((3, 4, 5), (2, 3, 7), (4, 2, 3)):
        calls = [Call((_process(draw, n_tokens, n_states), n), watch=("arguments",)) for _ in range(2)]
        cases.append(Case(tuple(calls), about=f"two processes of {n_states} states, {n_tokens} tokens, n = {n}"))
    return cases


def _entropy_known_cases(draw: RandomInputs, size: str) -> list[Case]:
    return [
        case(rrxor(), 8, about="RRXOR"),
        case(mess3(0.8, 0.1), 4, about="Mess3"),
        case(boolean_process(lambda a, b: a & b), 6, about="random, random, AND"),
        case(_process(draw, 3, 1), 3, about="a single state"),
        case(_process(draw, 3, 2), 1, about="a single token"),
    ]


OPTIMAL_LOSS = Exercise(
    id="latent_structure.optimal_loss",
    fixed={
        "T": "probabilities, which sum to 1 for each state",
        "T[0]": "with fewer tokens the probabilities no longer sum to 1",
        "T[1]": "with fewer states the probabilities no longer sum to 1",
        "result>=0": "entropies",
    },
    task="The mean loss of a perfect predictor at each of the first n tokens, in nats: exact, over every string that can occur.",
    minutes=12,
    difficulty=3,
    oracle=_optimal_loss,
    parts=(
        Part("random processes", 2, _entropy_cases),
        Part("RRXOR, Mess3, AND; one state, one token", 2, _entropy_known_cases),
    ),
    mistakes=(
        Mistake(
            "in_bits",
            "These are bits. Losses of models are in nats: take the natural logarithm.",
            lambda T, n: _optimal_loss(T, n) / math.log(2),
        ),
        Mistake(
            "added_up",
            "Entry i is the loss of the first i + 1 tokens together. The loss of token i alone is asked for: the difference of two neighbors.",
            lambda T, n: torch.tensor(_blocks(T, n)[1:]),
        ),
        Mistake(
            "running_mean",
            "Entry i is the mean loss of the first i + 1 tokens. The loss of token i alone is asked for.",
            lambda T, n: torch.tensor(_blocks(T, n)[1:]) / torch.arange(1, n + 1),
        ),
        Mistake(
            "strings_weighed_alike",
            "You averaged over strings as if all were equally likely. Weigh each by its probability.",
            _weighed_alike,
        ),
        Mistake(
            "state_known",
            "This is the loss of somebody who sees the hidden state. A predictor sees the tokens alone, and has a belief.",
            _state_known,
        ),
        Mistake(
            "no_context",
            "Every entry is the loss of the first token, for which nothing was seen before. Token i is predicted from the i tokens before it.",
            _no_context,
        ),
        Mistake(
            "one_token_of_context",
            "You predict from the token before alone. The belief remembers all of them.",
            _one_token_of_context,
        ),
        Mistake(
            "uniform_start",
            "You started from a uniform belief. The first token comes from the stationary distribution, which `stationary_distribution(T)` computes.",
            _started(lambda T: torch.full((T.shape[1],), 1 / T.shape[1])),
        ),
        Mistake(
            "known_start",
            "You started in state 0, for sure. The predictor does not know where the process is: start from the stationary distribution.",
            _started(lambda T: torch.eye(T.shape[1])[0]),
        ),
        Mistake(
            "start_by_powers",
            "Right where the process mixes. RRXOR has a period of three: a high power of its transition matrix still depends on where it began. Take `stationary_distribution(T)`, which solves for the distribution that a step leaves as it is.",
            _started(_by_powers),
        ),
        Mistake(
            "one_token_late",
            "Your entries begin with the second token. Entry 0 is the loss of the first token, before which nothing was seen.",
            lambda T, n: _optimal_loss(T, n + 1)[1:],
        ),
        Mistake(
            "zero_log_zero",
            "Right until a string cannot occur: 0 · log 0 is NaN in floating point. Such a string adds nothing; drop it, or use `torch.xlogy`.",
            _zero_log_zero,
            degenerate=True,
        ),
    ),
    hints=(
        "Keep one row for each string so far: the probability of that string together with each state. One step makes `n_tokens` rows of each.",
        "`grown = torch.einsum('is,xsr->ixr', weights, T)`. Its sum over r is the probability of string i followed by token x; divided by the sum over x as well, it is what a perfect predictor gives to x.",
        "The loss of this position is −Σ p log(p / Σₓ p) over all strings and tokens. Then `weights = grown.flatten(0, 1)`, without the rows that are zero.",
    ),
    reveal="No training can get below this, so the distance to it says how much of the process a model has understood. Equivalently it is H(first i + 1 tokens) − H(first i): differences of block entropies, which fall towards the entropy rate as the predictor finds out in which state the process is.",
)
