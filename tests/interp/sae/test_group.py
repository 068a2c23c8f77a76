"""Several SAEs on one forward pass: each as if it were alone, and the same after kill -9."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from mi_course.interp.models.small import small_model
from mi_course.interp.sae import Member, ModelBatches, SAEConfig, collect_activations, places, train, train_group
from mi_course.interp.sae.activations import massive_at
from mi_course.interp.sae.checkpoints import CheckpointError, load_latest
from mi_course.interp.sae.group import resolve

SHAPE = {"n_layers": 3, "n_heads": 2, "d_model": 12, "d_head": 6, "d_mlp": 16, "d_vocab": 30, "n_ctx": 24}


def setting(steps=12):
    """The members, and a function that makes their source."""
    model = small_model(SHAPE, seed=0)
    tokens = torch.randint(2, 30, (40, 16), generator=torch.Generator().manual_seed(0))
    settings = {"d_in": 12, "n_latents": 24, "k": 3, "lr": 1e-2, "dead_window": 300}
    members = {
        "middle": Member(SAEConfig(**settings, steps=steps, seed=1, architecture="batch_topk"), 1),
        "late": Member(SAEConfig(**settings, steps=steps - 4), 2),
        "mlp": Member(SAEConfig(**settings, steps=steps, d_out=12), "blocks.1.mlp.hook_in", "blocks.1.hook_mlp_out"),
    }
    members = resolve(model, members)
    return model, tokens, members, lambda: ModelBatches(model, tokens, places(members), batch=64, buffer=128)


def with_massive_tokens(model):
    """Token 5's embedding is far longer than the others'."""
    with torch.no_grad():
        next(parameter for parameter in model.parameters() if parameter.shape == (30, 12))[5] *= 100
    return model


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        for key, tensor in a[name].tensors().items():
            assert torch.equal(tensor, b[name].tensors()[key]), (name, key)


def test_each_is_trained_as_if_it_were_alone():
    model, tokens, members, source = setting()
    saes = train_group(members, source())
    for name, member in members.items():
        options = {} if member.target is None else {"target": member.target}
        alone = train(member.config, ModelBatches(model, tokens, member.hook, batch=64, buffer=128, **options))
        assert_same({name: saes[name]}, {name: alone})


def test_a_group_that_was_cut_short_goes_on_bit_for_bit(tmp_path):
    *_, members, source = setting()
    whole = train_group(members, source())

    class Stopped(Exception):
        pass

    def stop(name, progress):
        if progress.step == 9 and name == "mlp":
            raise Stopped

    with pytest.raises(Stopped):
        train_group(members, source(), folder=tmp_path, checkpoint_every=5, log_every=1, on_progress=stop)
    assert_same(whole, train_group(members, source(), folder=tmp_path, checkpoint_every=5, log_every=1))
    for name, member in members.items():
        steps = [json.loads(line)["step"] for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        assert steps == list(range(1, member.config.steps + 1))
    with pytest.raises(CheckpointError, match="holds a run of middle, late, mlp, not of late"):
        train_group({"late": members["late"]}, source(), folder=tmp_path)
    other = {**members, "late": Member(SAEConfig(d_in=12, n_latents=25, k=3, steps=12), members["late"].hook)}
    with pytest.raises(CheckpointError, match="n_latents was 24 and is 25"):
        train_group(other, source(), folder=tmp_path)


SCRIPT = """
import sys, torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
from test_group import setting
from mi_course.interp.sae import train_group
*_, members, source = setting(150)
train_group(members, source(), folder=sys.argv[2], checkpoint_every=4, log_every=1,
            on_progress=lambda name, p: print(p.step, flush=True))
"""


def test_a_group_that_is_killed_ends_the_same(tmp_path):
    command = [sys.executable, "-c", SCRIPT, os.path.dirname(__file__), str(tmp_path)]
    for deadly in (22, 61):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for line in process.stdout:
            if int(line) >= deadly:
                process.send_signal(signal.SIGKILL)
                break
        process.stdout.close()
        assert process.wait() == -signal.SIGKILL
    assert 20 <= load_latest(tmp_path / "checkpoints")[0] < 150
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        *_, members, source = setting(150)
        assert_same(train_group(members, source()), train_group(members, source(), folder=tmp_path))
    finally:
        torch.set_num_threads(threads)


def test_what_nobody_needs_any_more_is_not_computed(tmp_path):
    """The late place has the fewest steps: afterwards the model stops before it. Resuming there is exact too."""
    *_, members, source = setting()
    own = source()
    assert own.site.stop is None
    whole = train_group(members, own, folder=tmp_path, checkpoint_every=5)
    assert own.site.stop == 2
    assert own.names == places({name: member for name, member in members.items() if name != "late"})
    shutil.rmtree(tmp_path / "checkpoints" / f"{12:09d}")
    assert load_latest(tmp_path / "checkpoints")[0] == 10
    assert_same(whole, train_group(members, source(), folder=tmp_path))


def test_each_sae_leaves_out_what_is_massive_at_its_own_place(tmp_path):
    model, tokens, members, _ = setting()
    model = with_massive_tokens(model)
    members["all"] = replace(members["middle"], exclude_massive=False)

    def source():
        return ModelBatches(model, tokens, places(members), batch=64, exclude_massive=True)

    columns = source().next_batch()
    late = members["late"].hook
    ordinary = ~columns[massive_at(late)][:, 0].bool()
    assert 0 < ordinary.sum() < 64
    assert torch.equal(members["late"].batch(columns), columns[late][ordinary])
    assert len(members["all"].batch(columns)) == 64
    x, target = members["mlp"].batch(columns)
    assert x.shape == target.shape
    whole = train_group(members, own := source(), folder=tmp_path, checkpoint_every=5)
    kept = places({name: member for name, member in members.items() if name != "late"})
    assert own.names == [*kept, *map(massive_at, kept)]
    shutil.rmtree(tmp_path / "checkpoints" / f"{12:09d}")
    assert_same(whole, train_group(members, source(), folder=tmp_path))


def test_marks_are_those_of_massive_tokens():
    model, tokens, members, _ = setting()
    model = with_massive_tokens(model)
    names = places(members)
    count = len(tokens) * (tokens.shape[1] - 1)
    columns = ModelBatches(model, tokens, names, batch=count, buffer=10**9, exclude_massive=True).next_batch()
    plain = ModelBatches(model, tokens, names, batch=count, buffer=10**9).next_batch()
    assert list(columns) == [*names, *map(massive_at, names)]
    seen = {}
    for name in names:
        assert torch.equal(columns[name], plain[name])  # nothing is left out, and the order is the same
        _, left_out = collect_activations(model, tokens, name, exclude_massive=True)
        seen[name] = int(columns[massive_at(name)].sum())
        assert seen[name] == left_out.massive
    assert seen["blocks.2.hook_resid_post"] > 0
    assert seen["blocks.1.mlp.hook_in"] == 0  # normalized


def test_a_place_that_the_source_does_not_give_is_named():
    model, tokens, members, _ = setting()
    with pytest.raises(ValueError, match=r"middle wants blocks\.1\.hook_resid_post; the source gives blocks\.0"):
        train_group(members, ModelBatches(model, tokens, [0], batch=64))
