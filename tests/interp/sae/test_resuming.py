"""A run that was stopped, or killed, ends with the weights of one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
import torch

from mi_course.interp.sae import SAE, SAEConfig, Trainer, train
from mi_course.interp.sae.checkpoints import CheckpointError, load_latest, save

SETTINGS = {
    "relu": {"l1": 0.3},
    "topk": {"k": 3},
    "batch_topk": {"k": 3},
    "matryoshka": {"k": 3},
    "jumprelu": {"l0": 0.05, "bandwidth": 0.2},
    "gated": {"l1": 0.2},
}


def config(architecture, steps=30):
    """Everything at work: warm-ups, auxiliary loss, resampling, several passes over the data."""
    return SAEConfig(
        d_in=12,
        n_latents=64,
        architecture=architecture,
        steps=steps,
        batch=64,
        lr=1e-2,
        warmup=5,
        decay=10,
        sparsity_warmup=8,
        dead_window=500,
        resample_every=9,
        clip=1.0,
        auxiliary=1 / 32,
        **SETTINGS[architecture],
    )


def data():
    return torch.randn(500, 12, generator=torch.Generator().manual_seed(0)) + 0.5


def assert_same(a: SAE, b: SAE) -> None:
    one, other = a.tensors(), b.tensors()
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(one[name], other[name]), name


@pytest.mark.parametrize("architecture", SETTINGS)
def test_a_stopped_run_goes_on_bit_for_bit(architecture, tmp_path):
    whole = train(config(architecture), data())

    class Stopped(Exception):
        pass

    def stop(progress):
        if progress.step == 17:
            raise Stopped

    with pytest.raises(Stopped):
        train(config(architecture), data(), folder=tmp_path, checkpoint_every=7, on_progress=stop, log_every=1)
    seen = []
    resumed = train(
        config(architecture), data(), folder=tmp_path, checkpoint_every=7, on_progress=seen.append, log_every=1
    )
    assert seen[0].step == 15
    assert_same(whole, resumed)
    lines = [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines == list(range(1, 31))


SCRIPT = """
import sys, torch
torch.set_num_threads(1)
sys.path.insert(0, sys.argv[1])
from test_resuming import config, data
from mi_course.interp.sae import train
print("begin", flush=True)
train(config(sys.argv[3], 400), data(), folder=sys.argv[2], checkpoint_every=3, log_every=1,
      on_progress=lambda p: print(p.step, flush=True))
"""


@pytest.mark.parametrize("architecture", ["topk", "gated"])
def test_a_run_that_is_killed_again_and_again_ends_the_same(architecture, tmp_path):
    """kill -9 at steps that have nothing to do with the checkpoints, while one may be half written."""
    command = [sys.executable, "-c", SCRIPT, os.path.dirname(__file__), str(tmp_path), architecture]
    for deadly in (20, 21, 58):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for line in process.stdout:
            if line.strip().isdigit() and int(line) >= deadly:
                process.send_signal(signal.SIGKILL)
                break
        process.stdout.close()
        assert process.wait() == -signal.SIGKILL
    begun = load_latest(tmp_path / "checkpoints")[0]
    assert 0 < begun < 400
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        resumed = train(config(architecture, 400), data(), folder=tmp_path, checkpoint_every=100)
        assert_same(train(config(architecture, 400), data()), resumed)
    finally:
        torch.set_num_threads(threads)


def test_a_finished_run_is_only_read(tmp_path):
    first = train(config("relu"), data(), folder=tmp_path)
    seen = []
    again = train(config("relu"), data(), folder=tmp_path, on_progress=seen.append)
    assert seen == []
    assert_same(first, again)


def test_a_checkpoint_half_written_is_not_seen(tmp_path):
    save(tmp_path, 3, {"a": torch.ones(2)}, {"n": 1})
    for name in ("000000004.123.part", "000000001.part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "values.json").write_text("{")
    step, tensors, values = load_latest(tmp_path)
    assert (step, tensors["a"].tolist(), values) == (3, [1.0, 1.0], {"n": 1})
    save(tmp_path, 5, {"a": torch.zeros(2)}, {"n": 2})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000003", "000000005"]


def test_only_the_last_checkpoints_are_kept(tmp_path):
    for step in range(5):
        save(tmp_path, step, {}, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000003", "000000004"]


def test_values_may_hold_tensors_at_any_depth(tmp_path):
    state = {"buffer": [torch.arange(3), {"rng": torch.get_rng_state()}], "epoch": 2, "name": None}
    save(tmp_path, 0, {"w": torch.ones(1)}, {"batches": state})
    _, tensors, values = load_latest(tmp_path)
    assert set(tensors) == {"w"}
    assert values["batches"]["epoch"] == 2
    assert values["batches"]["name"] is None
    assert torch.equal(values["batches"]["buffer"][0], torch.arange(3))
    assert torch.equal(values["batches"]["buffer"][1]["rng"], state["buffer"][1]["rng"])


@pytest.mark.parametrize("damage", ["truncated", "changed", "json", "gone"])
def test_a_damaged_checkpoint_is_refused_by_name(damage, tmp_path):
    train(config("topk"), data(), folder=tmp_path, checkpoint_every=10)
    latest = tmp_path / "checkpoints" / "000000030"
    tensors = latest / "tensors.safetensors"
    content = bytearray(tensors.read_bytes())
    if damage == "truncated":
        tensors.write_bytes(content[:-10])
    elif damage == "changed":
        content[-5] ^= 1
        tensors.write_bytes(content)
    elif damage == "json":
        (latest / "values.json").write_text("{")
    else:
        tensors.unlink()
    with pytest.raises(CheckpointError, match=r"000000030.*Delete .* to go on from an older one"):
        train(config("topk"), data(), folder=tmp_path)


def test_a_run_of_another_config_is_not_taken_up(tmp_path):
    train(config("topk"), data(), folder=tmp_path)
    with pytest.raises(CheckpointError, match=r"steps was 30 and is 40\. Give another folder"):
        train(config("topk", steps=40), data(), folder=tmp_path)


def test_step_and_result_may_be_used_by_hand():
    trainer = Trainer(config("topk"), data())
    for _ in range(30):
        trainer.step()
    assert_same(trainer.result(), train(config("topk"), data()))


def test_other_activations_do_not_resume_a_run(tmp_path):
    config = SAEConfig(d_in=16, n_latents=32, architecture="topk", k=4, steps=20, batch=64)
    first = torch.randn(500, 16, generator=torch.Generator().manual_seed(0))
    train(config, first, folder=tmp_path)
    with pytest.raises(CheckpointError, match="other activations"):
        train(config, first[:400] * 2 + 5, folder=tmp_path)
    with pytest.raises(CheckpointError, match="other activations"):
        train(config, first + 1, folder=tmp_path)
    train(config, first.clone(), folder=tmp_path)
