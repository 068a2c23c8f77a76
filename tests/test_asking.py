"""Running an answer: every driver, watch and reference, time limits, stubs, and that nothing is disturbed."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from require import require

from mi_course import wire
from mi_course.asking import observe, references, stubs, watches
from mi_course.exercises import (
    cache_ref,
    function_ref,
    hook_ref,
    layout_ref,
    model_ref,
    optimizer_ref,
    sae_ref,
    trained_ref,
)
from mi_course.interp.models import small_model
from mi_course.wire import Ask, Call, Ref, Reply

CONFIG = {"n_layers": 2, "n_heads": 2, "d_model": 8, "d_head": 4, "d_vocab": 11, "n_ctx": 8, "attn_only": True}
MODEL = model_ref(CONFIG, 5)
TOKENS = torch.tensor([[1, 2, 3, 4]])


def ask(*args: Any, driver: str = "call", watch: tuple[str, ...] = (), limit_s: float = 5.0, **options: Any) -> Ask:
    return Ask((Call(args, driver, options, watch),), limit_s=limit_s)


def reply(answer: Any, *args: Any, **rest: Any) -> Reply:
    observation = observe(answer, ask(*args, **rest))
    wire.decode(wire.encode(observation))  # whatever was seen crosses
    return observation.replies[0]


# ---------------------------------------------------------------------------------------------------------------------
# Drivers


def test_call_and_value():
    assert reply(lambda a, b: a + b, 1, 2).value == 3
    assert reply([1, (2, 3)], driver="value").value == [1, (2, 3)]
    assert reply(7, 1).error.message == "the answer is 7, expected a function"
    assert reply(boom_object(), 1).status == "raised"


def test_hook_is_the_effective_activation():
    def in_place(z, hook):
        z[0] = 7.0

    point = hook_ref(MODEL, "blocks.1.attn.hook_z")
    assert reply(in_place, torch.zeros(2), point, driver="hook").value.tolist() == [7, 0]
    assert reply(lambda z, hook: z + hook.layer(), torch.zeros(2), point, driver="hook").value.tolist() == [1, 1]


def test_hook_factory_feeds_pairs():
    def factory(buffer):
        def hook(z, hook):
            buffer[hook.layer()] = z.sum()

        return hook

    feed = [(torch.ones(3), hook_ref(MODEL, f"blocks.{i}.attn.hook_z")) for i in (1, 0)]
    seen = reply(factory, torch.zeros(2), driver="hook_factory", feed=feed).value
    assert seen["buffers"][0].tolist() == [3, 3]
    assert len(seen["activations"]) == 2
    assert "expected a function" in reply(lambda b: 3, torch.zeros(2), driver="hook_factory", feed=feed).error.message


def test_gradients_count_none_as_zero():
    options = {"driver": "gradients", "wrt": [0, 1], "cotangents": [torch.tensor([1.0, 10.0])]}
    seen = reply(lambda x, y: x * x, torch.tensor([2.0, 3.0]), torch.ones(2), **options).value
    assert [g.tolist() for g in seen["gradients"]] == [[4, 60], [0, 0]]
    cut = reply(lambda x, y: (x * x).detach(), torch.tensor([2.0, 3.0]), torch.ones(2), **options).value
    assert [g.tolist() for g in cut["gradients"]] == [[0, 0], [0, 0]]
    with torch.no_grad():
        assert reply(lambda x, y: x, torch.ones(2), torch.ones(2), **options).value["gradients"][0].tolist() == [1, 10]


def test_train_runs_every_batch():
    def step(model, optimizer, tokens):
        optimizer.zero_grad()
        loss = model(tokens).square().mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    for kind in ("sgd", "adam", "adamw"):
        seen = reply(step, MODEL, optimizer_ref(MODEL, kind, 0.01), driver="train", batches=[TOKENS] * 3).value
        assert len(seen["losses"]) == 3
        assert seen["losses"][2] < seen["losses"][0]
        fresh = dict(small_model(CONFIG, 5).named_parameters())
        assert any(not torch.equal(value, fresh[name]) for name, value in seen["parameters"].items())


def test_raising_sees_hooks_after_an_error():
    def leaves(model, tokens):
        model.add_hook("blocks.0.attn.hook_z", lambda z, hook: z * 0)
        return model(tokens)

    def swallows(model, tokens):
        with contextlib.suppress(Exception):
            model(tokens)

    def wraps(model, tokens):
        try:
            model(tokens)
        except Exception as error:
            raise ValueError("mine") from error

    left = reply(leaves, MODEL, TOKENS, driver="raising", watch=("model",))
    assert left.value == {"trapped": True}
    assert left.watched["model"][0]["hooks"][1] > left.watched["model"][0]["hooks"][0]
    assert reply(swallows, MODEL, TOKENS, driver="raising").value == {"trapped": False}
    assert reply(wraps, MODEL, TOKENS, driver="raising").value == {"trapped": True}


def test_expects_error():
    def refuses(x):
        raise ZeroDivisionError("no")

    seen = reply(refuses, 1, driver="expects_error").value
    assert seen["raised"][:2] == ["ZeroDivisionError", "ArithmeticError"]
    assert reply(lambda x: x, 1, driver="expects_error").value == {"raised": [], "message": "", "returned": 1}


def test_sparing():
    """A product of 30 × 30 is too large, whichever way it is made; its columns one by one are not."""
    x = torch.arange(60.0).view(30, 2) / 60

    def one_by_one(x):
        return sum((x @ row).sum() for row in x)

    def with_(answer, most=100):
        return reply(answer, x, driver="sparing", most=most)

    for wasteful in (lambda x: (x @ x.T).sum(), lambda x: torch.einsum("id,jd->ij", x, x).sum()):
        seen = with_(wasteful)
        assert (seen.status, seen.error.kind) == ("raised", "TooLarge")
        assert "30 × 30 entries" in seen.error.message
        assert with_(wasteful, most=900).returned
    assert torch.allclose(with_(one_by_one).value, (x @ x.T).sum())
    assert reply(lambda x: (x @ x.T).sum(), x).returned  # it is not watched any more


@pytest.mark.parametrize(
    ("bad", "about"),
    [
        (Ask((Call(driver="pickle"),)), "no driver 'pickle'; there are call"),
        (Ask((Call(watch=("keyboard",)),)), "no watch 'keyboard'"),
        (Ask((Call((Ref("file", {}),)),)), "no reference 'file'"),
        (Ask((Call((function_ref("system"),)),)), "no function 'system'"),
    ],
)
def test_what_is_on_no_list_is_refused(bad, about):
    with pytest.raises(ValueError, match=about):
        observe(lambda *args: 1, bad)


# ---------------------------------------------------------------------------------------------------------------------
# Watches


def test_arguments():
    def changes(a, b, c):
        a[0] = 5.0
        b.append(1)
        return 0

    seen = reply(changes, torch.zeros(2), [], torch.zeros(2), watch=("arguments",)).watched["arguments"]
    assert seen == ["[0]", "[1]"]
    same = reply(lambda a: 0, torch.tensor([float("nan")]), watch=("arguments",)).watched["arguments"]
    assert same == []
    cache = cache_ref(MODEL, TOKENS)
    name = "blocks.0.attn.hook_z"
    edited = reply(lambda c: c[name].zero_().sum(), cache, watch=("arguments",)).watched["arguments"]
    assert f"[0]['{name}']" in edited


@pytest.mark.parametrize("draw", [random.random, np.random.random, lambda: float(torch.rand(()))])
def test_random_state(draw):
    seen = reply(draw, watch=("random_state",)).watched["random_state"]
    assert sum(seen.values()) == 2
    assert all(reply(lambda: 1, watch=("random_state",)).watched["random_state"].values())


def test_model_hooks_and_calls():
    def hooks(model):
        model.add_hook("blocks.0.attn.hook_z", lambda z, hook: z * 0)
        return 1

    watched = reply(hooks, MODEL, watch=("model", "hooks")).watched
    assert watched["model"] == watched["hooks"]  # told by their number: no second model is booted for the logits
    assert watched["hooks"][0]["hooks"][1] == watched["hooks"][0]["hooks"][0] + 1
    effect = function_ref("polynomial", coefficients=[1.0, 0.0, 2.0])
    seen = reply(lambda f: f(3.0) + f(0.5), effect, watch=("calls",))
    assert seen.value == 19 + 1.5
    assert seen.watched["calls"] == [[3.0, 0.5]]


def test_the_model_is_run_only_where_it_may_have_changed(monkeypatch):
    runs = []
    monkeypatch.setattr(
        watches,
        "_logits",
        lambda model, tokens, original=watches._logits: runs.append(original(model, tokens)) or runs[-1],
    )
    unchanged = reply(lambda m: m(TOKENS).sum().item(), MODEL, watch=("model",)).watched["model"][0]
    assert not runs
    assert "logits" not in unchanged
    harmless = reply(lambda m: setattr(m, "note", 1) or 1, MODEL, watch=("model",)).watched["model"][0]
    assert torch.allclose(*harmless["logits"])
    # The first call of an Ask changes the model, so the second starts from a changed one.
    zero = Call((MODEL,), watch=("model",))
    replies = observe(lambda m: [p.data.zero_() for p in m.parameters()] and 1, Ask((zero, zero))).replies
    first, second = (reply.watched["model"][0]["logits"] for reply in replies)
    assert not torch.allclose(*first)
    assert torch.allclose(*second)
    assert torch.allclose(first[1], second[0])


# ---------------------------------------------------------------------------------------------------------------------
# References


def test_every_reference_is_made():
    z = cache_ref(MODEL, TOKENS)
    expected = small_model(CONFIG, 5)
    with torch.no_grad():
        assert torch.allclose(reply(lambda m: m(TOKENS), MODEL).value, expected(TOKENS))
        pattern = expected.run_with_cache(TOKENS)[1]["pattern", 1]
    assert torch.allclose(reply(lambda c: c["pattern", 1], z).value, pattern)
    assert reply(lambda h: h.layer(), hook_ref(MODEL, "blocks.1.attn.hook_z")).value == 1
    sae = sae_ref(W_enc=torch.eye(3), b_enc=torch.zeros(3), W_dec=torch.eye(3), b_dec=torch.zeros(3))
    assert reply(lambda s: s.decode(s.encode(torch.tensor([1.0, -1.0, 2.0]))), sae).value.tolist() == [1, 0, 2]
    assert reply(lambda m: m.cfg.n_layers, trained_ref("tiny-induction")).value == 2
    answers = torch.tensor([[0, 1]])
    logits = torch.tensor([[[3.0, 1.0]]])
    assert reply(lambda f: f(logits), function_ref("logit_difference", answers=answers)).value == 2.0
    assert 0.8 < reply(lambda f: f(logits), function_ref("probability", answers=answers)).value < 0.9
    assert reply(lambda f: f(logits), function_ref("projection", weights=torch.tensor([1.0, 1.0]))).value == 4.0
    assert abs(reply(lambda f: f(0.5), function_ref("tanh", scale=2.0, shift=-1.0)).value) < 1e-9
    norm = function_ref("rms_norm", weight=torch.tensor([1.0, 2.0]), eps=1.0)
    assert torch.allclose(reply(lambda f: f(torch.tensor([[0.0, 4.0]])), norm).value, torch.tensor([[0.0, 8 / 3]]))


X, Y = torch.tensor([[0.0, 1.0], [2.0, 1.0], [4.0, 5.0], [-1.0, 1.0]]), torch.tensor([False, False, True, True])


def test_probes_and_scores_take_rows_and_labels():
    w, b = reply(lambda f: f(X, Y), function_ref("mass_mean")).value
    assert torch.allclose(w, torch.tensor([0.5, 2.0]))
    assert abs(b + 0.5 * 1.25 + 2.0 * 2.0) < 1e-6  # the boundary lies half way
    assert abs(reply(lambda f: f(X, Y), function_ref("mass_mean", lean=0.25)).value[1] - b + 0.25) < 1e-6
    w, b = reply(lambda f: f(X, Y), function_ref("least_squares", ridge=0.5)).value
    rows = torch.cat([X, torch.ones(4, 1)], 1).double()
    penalty = torch.diag(torch.tensor([0.5, 0.5, 0.0])).double()
    expected = torch.linalg.solve(rows.T @ rows + penalty, rows.T @ torch.tensor([-1.0, -1.0, 1.0, 1.0]).double())
    assert torch.allclose(torch.cat([w, torch.tensor([b])]).double(), expected, atol=1e-5)
    assert reply(lambda f: f(X, Y), function_ref("mean_gap")).value == round((0.5**2 + 2**2) ** 0.5, 6)
    assert reply(lambda f: f(X, Y), function_ref("accuracy_of_sign")).value == 0.5


def test_relations_of_texts():
    word, start = function_ref("share_a_word"), function_ref("start_alike")
    assert reply(lambda f: [f("in Rome", "rome"), f("Romeo", "Rome"), f("", "")], word).value == [True, False, True]
    assert reply(lambda f: [f("Rome", "roma"), f("in Rome", "Rome")], start).value == [True, False]


def test_what_a_function_of_several_arguments_was_called_with_is_logged():
    def both(f):
        f("a", "b"), f("a", "c"), f("a", "b")

    first, second, third = reply(both, function_ref("share_a_word"), watch=("calls",)).watched["calls"][0]
    assert first == third != second


def test_edits_of_latents_leave_their_argument_alone():
    def edited(edit):
        f = torch.tensor([[1.0, 2.0, 3.0]])
        return [edit(f).tolist(), f.tolist()]

    kept = [[1.0, 2.0, 3.0]]
    assert reply(edited, function_ref("set_latents", latents=[2, 0], value=7.0)).value == [[[7.0, 2.0, 7.0]], kept]
    assert reply(edited, function_ref("scale_latents", latents=[1], factor=-2.0)).value == [[[1.0, -4.0, 3.0]], kept]


def test_a_layout_says_where_things_stand():
    fields = {"hint": 1, "first_bit": 2, "n_bits": 3, "first_step": 6, "n_steps": 2, "even": (7,), "odd": (9,)}
    places = reply(lambda at: [list(at.bits), list(at.steps), at.question, at.odd], layout_ref(**fields)).value
    assert places == [[2, 3, 4], [6, 7], 8, (9,)]


def test_references_are_shared_within_an_ask_and_not_between_them():
    seen: list[Any] = []

    def remember(model, other, hook):
        seen.append(model)
        model.mark = getattr(model, "mark", 0) + 1
        return [model is other, hook is model.hook_dict["hook_embed"], model.mark]

    point = hook_ref(MODEL, "hook_embed")
    twice = Ask((Call((MODEL, model_ref(CONFIG, 5), point)), Call((MODEL, MODEL, point))))
    assert [r.value for r in observe(remember, twice).replies] == [[True, True, 1], [True, True, 2]]
    other = Ask((Call((MODEL, model_ref(CONFIG, 6), point)),))
    assert observe(remember, other).replies[0].value[0] is False


def test_inputs_are_fresh_for_every_call():
    def spoils(tensor, values):
        tensor += 1
        values.append(len(values))
        return [tensor.clone(), list(values)]

    tensor, values = torch.zeros(1), [1]
    call = Call((tensor, values))
    replies = observe(spoils, Ask((call, call))).replies
    assert [r.value[0].item() for r in replies] == [1, 1]
    assert [len(r.value[1]) for r in replies] == [2, 2]
    assert (tensor.item(), values) == (0, [1])


SPOILERS: dict[str, Callable[[Any], Any]] = {
    "nothing": lambda m: None,
    "hook": lambda m: m.add_hook("hook_embed", lambda z, hook: z * 0),
    "module hook": lambda m: m.register_forward_hook(lambda *a: torch.zeros(1, 4, 11)) and None,
    "weights": lambda m: [p.data.zero_() for p in m.parameters()],
    "frozen": lambda m: m.requires_grad_(False),
    "train": lambda m: m.train(),
    "double": lambda m: m.double(),
    "compatibility": lambda m: m.enable_compatibility_mode(),
    "config": lambda m: setattr(m.cfg, "n_heads", 7),
    "forward": lambda m: setattr(m, "forward", lambda *a, **k: torch.zeros(1)),
    "forward that hangs": lambda m: setattr(m, "forward", lambda *a, **k: hang()),
    "buffers": lambda m: [b.data.fill_(0) for b in m.buffers()],
    "parameter hook": lambda m: next(m.parameters()).register_hook(lambda g: g * 0) and None,
    "module gone": lambda m: m._modules.clear(),
    "raising hook": lambda m: m.add_hook("hook_embed", lambda z, hook: sys.exit(3)),
}


@pytest.mark.parametrize("spoil", SPOILERS)
def test_the_next_ask_finds_a_model_as_new(spoil):
    observe(lambda m: SPOILERS[spoil](m) and None, ask(MODEL, watch=("model", "hooks", "arguments")))
    fresh = small_model(CONFIG, 9)
    with torch.no_grad():
        expected = fresh(TOKENS)
    seen = reply(lambda m: [m(TOKENS), m.training, [p.requires_grad for p in m.parameters()]], model_ref(CONFIG, 9))
    assert torch.allclose(seen.value[0], expected, atol=1e-6)
    assert seen.value[1] is False
    assert all(seen.value[2])


def test_each_ask_gets_a_cache_of_its_own():
    seen = []

    def spoils(cache):
        seen.append(cache)
        cache["hook_embed"].zero_()

    question = ask(cache_ref(MODEL, TOKENS), driver="call")
    observe(spoils, question)
    observe(lambda cache: seen.append(cache), question)
    first, second = seen
    assert not first["hook_embed"].any()
    assert torch.allclose(second["hook_embed"], small_model(CONFIG, 5).run_with_cache(TOKENS)[1]["hook_embed"])
    assert list(second) == list(first)
    observe(lambda cache: seen.append(cache), ask(cache_ref(model_ref(CONFIG, 6), TOKENS)))
    assert not torch.allclose(seen[2]["hook_embed"], second["hook_embed"])


def test_the_pool_serves_a_model_again():
    seen = []
    for seed in range(3):
        observe(lambda m: seen.append(id(m)) or (m.run_with_cache(TOKENS) and None), ask(model_ref(CONFIG, seed)))
    assert len(set(seen)) == 1


# ---------------------------------------------------------------------------------------------------------------------
# Time, printing, exceptions


def hang() -> None:
    while True:
        pass


def swallow() -> None:
    while True:
        try:
            time.sleep(0.001)
        except Exception:
            continue


def in_thread(work: Callable[[], Any]) -> Any:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join(30)
    assert results, "the thread hangs"
    return results[0]


ENDLESS = [hang, swallow, lambda: all(True for _ in iter(int, 1)), lambda: [hang() for _ in "a"]]


@pytest.mark.parametrize("answer", ENDLESS)
@pytest.mark.parametrize("where", ["main", "thread"])
def test_the_time_limit_holds(answer, where):
    if where == "thread" and answer not in (hang, swallow):
        answer = hang
    began = time.monotonic()
    run = lambda: observe(answer, ask(limit_s=0.3))  # noqa: E731
    seen = run() if where == "main" else in_thread(run)
    assert seen.replies[0].status == "timed_out"
    assert time.monotonic() - began < 30
    time.sleep(0.5)  # no alarm may strike afterwards


def test_many_short_limits_leave_no_alarm_behind():
    def work() -> set[str]:
        return {observe(lambda: time.sleep(0.0101), ask(limit_s=0.01)).replies[0].status for _ in range(60)}

    assert work() <= {"timed_out", "returned"}
    assert in_thread(work) <= {"timed_out", "returned"}
    time.sleep(0.3)


def test_calls_after_a_time_out_are_not_made():
    replies = observe(lambda x: hang() if x else 1, Ask((Call((0,)), Call((1,)), Call((0,))), limit_s=0.3)).replies
    assert [r.status for r in replies] == ["returned", "timed_out"]


def test_an_alarm_that_was_set_before_still_rings():
    import signal

    rung = []
    before = signal.signal(signal.SIGALRM, lambda *a: rung.append(1))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.4)
        observe(hang, ask(limit_s=0.1))
        time.sleep(0.8)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert rung


def test_printing_is_captured_and_bounded(capsys):
    class Sly(str):
        def __len__(self):
            return 10**9

        def __str__(self):
            return self

    def prints():
        print(Sly("hello"))
        for _ in range(10_000):
            print("x" * 100)

    observation = observe(prints, ask())
    assert observation.printed.startswith("hello\nxxx")
    assert len(observation.printed) < 2100
    assert "more characters" in observation.printed
    assert type(observation.printed) is str
    assert capsys.readouterr().out == ""


class Vile(BaseException):
    def __str__(self):
        raise SystemExit(3)

    __traceback__ = property(lambda self: sys.exit(4))  # type: ignore


class Slow(Exception):
    def __str__(self):
        hang()


class Fake(Exception):
    def __str__(self):
        return type("s", (str,), {"__getitem__": lambda *a: self})("text")


def raiser(error: Any) -> Callable[[], None]:
    def answer():
        raise error

    return answer


ERRORS = [SystemExit(1), GeneratorExit(), Vile(), Slow(), Fake(), RecursionError(), MemoryError("m"), StopIteration(3)]
ERRORS += [
    references.UnknownReference("x"),
    type("Pause", (KeyboardInterrupt,), {})(),
    type("L" * 9999, (Exception,), {})(),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__[:20])
def test_any_exception_is_told_in_words(error):
    seen = reply(raiser(error))
    assert seen.status == "raised"
    assert type(seen.error.message) is str
    assert len(seen.error.kind) <= 100


def test_the_learners_line_is_named_and_the_keyboard_is_obeyed():
    assert "raise error" in reply(raiser(ValueError("no"))).error.where
    with pytest.raises(KeyboardInterrupt):
        observe(raiser(KeyboardInterrupt()), ask())


def boom_object() -> Any:
    def boom(*args: object) -> None:
        raise SystemExit(5)

    names = ("__getattribute__", "__repr__", "__eq__", "__iter__", "__len__", "__array__", "__bool__", "__str__")
    return object.__new__(type("Boom", (), {name: boom for name in names}))


UNSENDABLE = [set, object, boom_object, lambda: (i for i in ()), lambda: range(3), lambda: open, lambda: 2**70]


@pytest.mark.parametrize("make", [*UNSENDABLE, lambda: [[{1}]], lambda: Ref("model", {})])
def test_what_cannot_cross_is_unsendable(make):
    value = make()
    seen = reply(lambda: value)
    assert seen.status == "unsendable"
    assert "value" in seen.error.message
    assert reply(value, driver="value").status == "unsendable"


def test_a_value_that_is_returned_always_fits_its_observation():
    deep: Any = 1
    for _ in range(11):
        deep = [deep]
    assert reply(lambda: deep).status == "returned"
    assert reply(lambda: [[[[deep]]]]).status == "unsendable"
    many = observe(lambda: [0] * 40_000, Ask((Call(),) * 5))
    wire.decode(wire.encode(many))
    assert reply(lambda: torch.zeros(2**23)).status == "unsendable"


@pytest.mark.parametrize("watch", ["arguments", "random_state", "model", "hooks", "calls"])
def test_what_is_left_behind_does_not_reach_a_watch(watch, monkeypatch):
    def spoil(model, values, function):
        model.forward = lambda *a, **k: sys.exit(3)
        values[:] = [boom_object()]
        function.log = [boom_object()]
        return 1

    first = Call((MODEL, [1], function_ref("tanh", scale=1.0, shift=0.0)), watch=(watch,))
    seen = observe(spoil, Ask((first, first)))
    assert [r.status for r in seen.replies] == ["returned", "returned"]
    wire.encode(seen)


SEEDING = {
    "generators": (lambda: torch.rand(3, generator=torch.Generator().manual_seed(random.Random(0).randint(0, 9))), []),
    "random": (lambda: random.seed(0), ["random"]),
    "numpy": (lambda: np.random.seed(0), ["numpy"]),
    "torch": (lambda: torch.manual_seed(0), ["torch"]),
    "torch, then a number": (lambda: torch.manual_seed(0) and torch.rand(()), ["torch"]),
}


@pytest.mark.parametrize("session", [0, 7])
@pytest.mark.parametrize("way", SEEDING)
def test_any_seeding_shows(way, session):
    """Also with the very seed that the session has."""
    seeds, moved = SEEDING[way]
    state = torch.get_rng_state()
    try:
        torch.manual_seed(session)
        seen = reply(lambda: [seeds(), 1][1], watch=("random_state",)).watched["random_state"]
    finally:
        torch.set_rng_state(state)
    assert [name for name, kept in seen.items() if not kept] == moved


# ---------------------------------------------------------------------------------------------------------------------
# Stubs


def nothing(*args):
    pass


def dots(*args): ...


def documented(*args):
    """What it should do."""


def not_implemented(*args):
    raise NotImplementedError("your turn")


def assigned(*args):
    result = ...
    return result


def forgotten(*args):
    result = ...  # noqa: F841


def returned(*args):
    return ...


def used(*args):
    result = ...
    return result + 1


STUBS = [nothing, dots, documented, not_implemented, assigned, forgotten, returned, used, None, ...]
WAYS = {
    "call": {},
    "hook": {},
    "hook_factory": {"feed": [(torch.zeros(1), 0)]},
    "gradients": {"wrt": [0], "cotangents": [torch.ones(1)]},
    "train": {"batches": [TOKENS, TOKENS]},
    "raising": {},
    "expects_error": {},
    "sparing": {"most": 10},
}


@pytest.mark.parametrize("driver", WAYS)
@pytest.mark.parametrize("stub", STUBS, ids=lambda s: getattr(s, "__name__", str(s)))
def test_a_stub_is_not_attempted(stub, driver):
    args = (MODEL,) if driver in ("train", "raising") else (torch.zeros(1),)
    assert reply(stub, *args, driver=driver, **WAYS[driver]).status == "not_attempted"


def test_a_factory_of_stubs_and_a_value_of_dots_are_not_attempted():
    def factory(buffer):
        def hook(z, hook): ...

        return hook

    feed = {"feed": [(torch.zeros(1), 0)]}
    assert reply(factory, torch.zeros(1), driver="hook_factory", **feed).status == "not_attempted"
    assert reply(None, driver="value").status == "not_attempted"
    assert reply(..., driver="value").status == "not_attempted"


@pytest.mark.parametrize(
    "answer", [lambda x: x[..., 0], lambda x: 0, lambda x: x if x is not ... else ..., lambda x: []]
)
def test_an_answer_is_no_stub(answer):
    assert reply(answer, torch.zeros(2)).status == "returned"


STUBS_SOURCE = """
def gap_returned(x): return ...
def gap_after_an_error(x):
    y = x.no_such_attribute
    return ...
def gap_assigned(x):
    result = ...
    return result + 1
def gap_assigned_on_one_line(x): result = ...; return result
def gap_in_a_branch(x):
    if x:
        return ...
    return x
def gap_in_a_closure(x):
    result = ...
    return lambda: result
def whole_index(x): x[...] = 1; return x[..., 0]
def whole_comparison(x): return x is ...
def whole_none(x): return None
"""


@pytest.mark.parametrize("version", ["3.12", "3.13", "3.14"])
def test_stubs_are_found_on_other_pythons(version):
    """Bytecode differs between versions. `stubs` needs no torch, so a bare interpreter will do."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    pythons = [*sorted(map(str, pyenv.glob(f"versions/{version}.*/bin/python"))), f"python{version}"]
    path = next((which for name in pythons if (which := shutil.which(name)) and "shims" not in which), None)
    require(f"python{version}", path is not None, f"Python {version} is not on this machine.")
    code = (
        f"import sys, json; sys.path.insert(0, {str(Path(stubs.__file__).parent)!r}); import stubs; made = {{}};"
        f"exec({STUBS_SOURCE!r}, made); names = [name for name in made if name[:3] in ('gap', 'who')];"
        "print(json.dumps({name: [stubs.has_gaps(made[name]), stubs.is_empty(made[name])] for name in names}))"
    )
    out = subprocess.run([path, "-I", "-B", "-c", code], capture_output=True, text=True, check=True).stdout
    expected = {name: [name.startswith("gap"), name == "whole_none"] for name in json.loads(out)}
    assert len(expected) == 9
    assert json.loads(out) == expected


def test_a_stub_that_fails_before_its_gap_is_not_attempted():
    made: dict[str, Any] = {}
    exec(STUBS_SOURCE, made)
    assert reply(made["gap_after_an_error"], 1).status == "not_attempted"


# ---------------------------------------------------------------------------------------------------------------------
# Nothing is disturbed


def test_nothing_is_disturbed():
    def meddles(x):
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        torch.set_num_threads(1)
        sys.stdout = None
        return 1

    def state() -> list[Any]:
        return [
            *(random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()),
            *(torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_default_device(), torch.get_num_threads()),
            *(sys.stdout, threading.active_count(), sys.getswitchinterval()),
        ]

    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            before = state()
            for answer in (meddles, hang, not_implemented):
                observe(answer, ask(MODEL, limit_s=0.2, watch=("random_state", "model")))
                assert state() == before


# -- A learner's global settings ---------------------------------------------------------------------------------------

SETTINGS = {
    "float64": "torch.set_default_dtype(torch.float64)",
    "bfloat16": "torch.set_default_dtype(torch.bfloat16)",
    "device": "torch.set_default_device('meta')",
    "device_mode": "torch.device('meta').__enter__()",
    "autocast": "torch.autocast('cpu', dtype=torch.bfloat16).__enter__()",
    "no_grad": "torch.set_grad_enabled(False)",
    "inference_mode": "torch.inference_mode().__enter__()",
    "threads": "torch.set_num_threads(3)",
    "deterministic": "torch.use_deterministic_algorithms(True)",
    "anomaly": "torch.autograd.set_detect_anomaly(True)",
    "precision": "torch.set_float32_matmul_precision('medium')",
    "numpy_errors": "np.seterr(all='raise')",
    "warnings": "warnings.simplefilter('error')",
    "recursion": "sys.setrecursionlimit(200)",
    "sys_path": "sys.path.clear()",
}
CHECKED = """
import os, sys, traceback, warnings
import numpy as np, torch
from jaxtyping import Float, Int
from torch import Tensor
import mi_course
from mi_course import content
torch.set_num_threads(1)
lesson = mi_course.lesson("sae_training")
answers = dict(globals())
ids = ["sae_training.explained_variance", "sae_training.topk_activation", "sae_training.sae_loss"]
for cell, text in content.solution_code(mi_course.lessons.find("sae_training")):
    if cell in ids:
        exec(text, answers)

def state():
    return (torch.get_default_dtype(), torch.get_default_device(), torch.is_autocast_enabled("cpu"),
            torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.get_num_threads(),
            torch.are_deterministic_algorithms_enabled(), torch.is_anomaly_enabled(), np.geterr(),
            torch.get_float32_matmul_precision(), sys.getrecursionlimit(), list(sys.path), list(warnings.filters))

def check(setting):
    exec(setting)
    before = state()
    for id in ids:
        name = id.partition(".")[2]
        card = lesson.check(answers[name], name=name)
        assert card.passed, (id, card.status, card.message)
    assert state() == before, (state(), before)

for name, setting in SETTINGS.items():
    if not os.fork():  # some settings cannot be undone
        try:
            check(setting)
        except BaseException:
            traceback.print_exc()
            print(name)
        sys.stdout.flush()
        os._exit(0)
    os.wait()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_right_answer_passes_under_any_global_setting():
    code = f"SETTINGS = {SETTINGS!r}\n{CHECKED}"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stdout) == (0, ""), result.stderr
