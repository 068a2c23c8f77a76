"""Training on a planted dictionary: what is learned, what is kept, what comes out the same twice."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from mi_course.interp.sae import SAE, SAEConfig, TensorBatches, Trainer, matmul, mean_max_cosine, train

D, G = 24, 48
SETTINGS = {
    "relu": {"l1": 1.0},
    "topk": {},
    "batch_topk": {},
    "matryoshka": {"prefixes": (48, 96)},
    "jumprelu": {"l0": 0.05, "bandwidth": 0.2, "threshold_init": 0.1},
    "gated": {"l1": 1.2},
}


@pytest.fixture(scope="module")
def dictionary():
    generator = torch.Generator().manual_seed(0)
    return torch.nn.functional.normalize(torch.randn(G, D, generator=generator), dim=1)


@pytest.fixture(scope="module")
def x(dictionary):
    generator = torch.Generator().manual_seed(1)
    present = torch.rand(12_000, G, generator=generator) < 0.05
    return (present * (0.5 + torch.rand(12_000, G, generator=generator))) @ dictionary * 3.0 + 0.7


def config(architecture="topk", **changed):
    settings = {"k": 3, "steps": 300, "batch": 256, "lr": 5e-3, "warmup": 10, "decay": 60, "dead_window": 20_000}
    return SAEConfig(d_in=D, n_latents=96, architecture=architecture, **(settings | SETTINGS[architecture] | changed))


def explained(x, x_hat):
    return 1 - float((x - x_hat).square().sum() / (x - x.mean(0)).square().sum())


def same(a: SAE, b: SAE) -> bool:
    one, other = a.tensors(), b.tensors()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("architecture", SETTINGS)
def test_a_batch_in_which_nothing_fires(architecture, x):
    trainer = Trainer(config(architecture, batch=64, dead_window=64), x)
    with torch.no_grad():
        trainer.sae.W_enc.zero_()
        (trainer.sae.b_gate if architecture == "gated" else trainer.sae.b_enc).fill_(-1.0)
        if architecture == "gated":
            trainer.sae.b_mag.fill_(-1.0)
    losses = [trainer.step() for _ in range(3)]
    assert losses[0].l0 == 0
    assert all(t.isfinite().all() for t in trainer.sae.tensors().values())


@pytest.mark.parametrize("architecture", SETTINGS)
def test_a_planted_dictionary_is_recovered(architecture, x, dictionary):
    seen = []
    sae = train(config(architecture), x, on_progress=seen.append, log_every=10)
    assert seen[-1].loss < 0.6 * seen[0].loss
    assert [p.step for p in seen] == list(range(10, 301, 10))
    f = sae.encode(x)
    assert (f >= 0).all()
    assert explained(x, sae(x)) == pytest.approx(seen[-1].explained_variance, abs=0.08)
    assert explained(x, sae(x)) > 0.8
    assert float((f > 0).sum(1).float().mean()) < 12
    assert mean_max_cosine(sae.W_dec, dictionary) > 0.85
    assert not any(parameter.requires_grad for parameter in sae.parameters())


def test_a_transcoder_learns_another_target(x, dictionary):
    generator = torch.Generator().manual_seed(5)
    y = (x @ torch.randn(D, 10, generator=generator)).relu() + 2.0
    sae = train(config(d_out=10, k=8), x, target=y)
    assert sae.W_dec.shape == (96, 10)
    assert explained(y, sae(x)) > 0.7


@pytest.mark.parametrize("architecture", SETTINGS)
def test_unit_rows_stay_unit(architecture, x):
    sae = train(config(architecture, decoder_norm="unit", steps=20, warmup=0, decay=0), x)
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(96), rtol=1e-5, atol=0)


def test_the_projected_gradient_is_orthogonal_to_the_rows(x):
    sae = SAE.build(config())
    sae.gradients(x[:256])
    assert torch.linalg.vecdot(sae.W_dec.grad, sae.W_dec).abs().max() > 1e-2
    sae.project_decoder_gradient()
    assert torch.linalg.vecdot(sae.W_dec.grad, sae.W_dec).abs().max() < 1e-5


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(x):
    short = config("gated", steps=25, decay=0)
    assert same(train(short, x), train(short, x))
    assert not same(train(short, x), train(replace(short, seed=1), x))


def test_training_leaves_the_global_random_state_and_the_data_alone(x):
    before, data = torch.get_rng_state(), x.clone()
    train(config("jumprelu", steps=5, warmup=0, decay=0, resample_every=2, dead_window=300), x)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(x, data)


@pytest.mark.parametrize("architecture", SETTINGS)
@pytest.mark.parametrize("d_out", [None, 10])
def test_normalization_is_folded_back_exactly(architecture, d_out, x):
    """The SAE of scaled activations, on scaled activations, says the same as the folded one on plain ones."""
    generator = torch.Generator().manual_seed(2)
    x = x[:2000].double()
    y = None if d_out is None else torch.randn(2000, d_out, generator=generator, dtype=torch.float64) + x[:, :d_out]
    trainer = Trainer(config(architecture, d_out=d_out, steps=40, warmup=0, decay=0), x, y)
    for _ in range(40):
        trainer.step()
    raw, folded = trainer.sae, trainer.result()
    assert trainer.input_scale != pytest.approx(1.0, abs=0.05)
    torch.testing.assert_close(folded.encode(x), raw.encode(x * trainer.input_scale) / trainer.output_scale)
    torch.testing.assert_close(folded(x), raw(x * trainer.input_scale) / trainer.output_scale)
    torch.testing.assert_close(folded.W_dec, raw.W_dec.detach())


def test_mean_norm_becomes_the_square_root_of_the_width(x):
    trainer = Trainer(config(), x)
    assert float((x * trainer.input_scale).norm(dim=1).mean()) == pytest.approx(D**0.5, rel=0.02)
    assert Trainer(config(normalize=False), x).input_scale == 1.0


def test_batch_topk_codes_a_row_by_itself_at_the_threshold_that_training_found(x):
    sae = train(config("batch_topk"), x)
    assert sae.threshold > 0
    alone = torch.cat([sae.encode(row[None]) for row in x[:50]])
    torch.testing.assert_close(sae.encode(x[:50]), alone)
    f = sae.encode(x)
    assert (f[f > 0] > sae.threshold).all()
    assert float((f > 0).sum(1).float().mean()) == pytest.approx(3, abs=0.7)
    assert int((sae.encode_batch(x[:100]) > 0).sum()) == 300


@pytest.mark.parametrize("start", ["typical rows", "quiet first rows", "loud first rows"])
def test_batch_topk_keeps_the_very_largest_of_the_batch(start, x, monkeypatch):

    monkeypatch.setattr(matmul, "BLOCK_BYTES", 64 * 96 * 4)
    rows = x[:512].clone()
    rows[:64] *= {"typical rows": 1.0, "quiet first rows": 0.01, "loud first rows": 100.0}[start]
    sae = SAE.build(config("batch_topk"))
    [(active, part)] = list(sae._active(rows))
    assert part == slice(0, 512)
    pre = sae.pre_activations(rows).detach().flatten()
    expected = pre.topk(3 * 512).values
    expected = expected[expected > 0].sort().values
    torch.testing.assert_close(active.pre.sort().values, expected)
    where = torch.repeat_interleave(torch.arange(512), active.offsets.diff()) * 96 + active.latents
    torch.testing.assert_close(pre[where], active.pre.detach())


@pytest.mark.parametrize(("width", "k"), [(512, 4), (500, 4), (512, 100), (64, 64)])
def test_the_fast_top_k_is_torch_topk(width, k):
    from mi_course.interp.sae.topk import largest

    pre = torch.randn(40, width, generator=torch.Generator().manual_seed(3))
    pre[0] = 1.0  # ties: any k of them
    values, latents = largest(pre, k)
    torch.testing.assert_close(values.sort(1).values, pre.topk(k).values.sort(1).values)
    torch.testing.assert_close(pre.gather(1, latents), values)
    assert all(len(set(row.tolist())) == k for row in latents)


def killed_latents(x, **changed):
    """A trainer whose first twelve latents can never fire by themselves."""
    trainer = Trainer(config(steps=200, decay=0, dead_window=2000, **changed), x)
    with torch.no_grad():
        trainer.sae.b_enc[:12] = -50.0
    return trainer


def test_dead_latents_are_counted_over_the_window(x):
    seen = []
    trainer = killed_latents(x, auxiliary=0.0)
    trainer.on_progress, trainer.log_every = seen.append, 1
    for _ in range(9):
        trainer.step()
    assert [p.dead_share > 0 for p in seen] == [p.activations >= 2000 for p in seen]
    assert seen[-1].dead_share >= 12 / 96


def revived(trainer, steps):
    """How many of the twelve fire in the last 50 of some steps."""
    fired = torch.zeros(12)
    for index in range(steps):
        losses = trainer.step()
        if index >= steps - 50:
            fired += losses.fired[:12]
    return int((fired > 0).sum())


def test_resampling_revives_dead_latents(x):
    trainer = killed_latents(x, resample_every=50, auxiliary=0.0)
    assert revived(trainer, 145) >= 4
    assert (trainer.sae.b_enc[:12] > -1).all()
    assert revived(killed_latents(x, auxiliary=0.0), 145) == 0


def test_the_auxiliary_loss_revives_dead_latents(x):
    def run(auxiliary):
        trainer = killed_latents(x, auxiliary=auxiliary)
        with torch.no_grad():
            trainer.sae.b_enc[:12] = 0.0
            trainer.sae.W_enc[:, :12] *= 0.05  # positive at times, and never among the three largest
        return revived(trainer, 200)

    assert run(1.0) >= run(0.0) + 3


def test_warm_up_and_decay(x):
    seen = []
    train(config(steps=10, warmup=4, decay=3, lr=1.0), x, on_progress=seen.append, log_every=1)
    assert [p.lr for p in seen] == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 2 / 3, 1 / 3])


def test_the_sparsity_penalty_warms_up(x):
    def penalties(warmup):
        seen = []
        c = config("relu", steps=3, warmup=0, decay=0, lr=1e-9, sparsity_warmup=warmup)
        train(c, x, on_progress=seen.append, log_every=1)
        return torch.tensor([p.sparsity for p in seen])

    torch.testing.assert_close(penalties(3) / penalties(0), torch.tensor([1 / 3, 2 / 3, 1.0]), rtol=1e-4, atol=0)


def test_the_log_has_a_line_for_each_progress(x, tmp_path):
    seen = []
    train(config(steps=20, warmup=0, decay=0), x, on_progress=seen.append, log_every=5, folder=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [5, 10, 15, 20]
    assert [line["loss"] for line in lines] == [p.loss for p in seen]


def test_tensorboard_missing_is_said(x, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        train(config(steps=2, warmup=0, decay=0), x, folder=tmp_path, tensorboard=True)


def test_weights_go_out_and_come_back():
    for architecture in SETTINGS:
        sae = SAE.build(config(architecture, seed=3))
        assert same(SAE.from_tensors(sae.config, sae.tensors()), sae)
        assert all(tensor.is_contiguous() for tensor in sae.tensors().values())


def test_half_precision_activations_are_trained_in_float32(x):
    sae = train(config(steps=3, warmup=0, decay=0), x.bfloat16())
    assert sae.W_dec.dtype == torch.float32


@pytest.mark.parametrize(("architecture", "d_out"), [*((name, None) for name in SETTINGS), ("topk", 10)])
def test_products_in_bfloat16_leave_the_weights_in_float32(architecture, d_out, x):
    """The same run, in which only the activations and the dense products are rounded."""
    target = None if d_out is None else x[:, :d_out] + 1
    settings = {"steps": 20, "warmup": 0, "decay": 0, "d_out": d_out, "resample_every": 8, "dead_window": 1000}
    exact, seen = Trainer(config(architecture, **settings), x, target), []
    rounded = Trainer(config(architecture, dtype="bfloat16", **settings), x, target, on_progress=seen.append)
    first = [trainer.step().total for trainer in (exact, rounded)]
    assert first[1] == pytest.approx(first[0], rel=0.02)
    for _ in range(19):
        exact.step()
        rounded.step()
    assert all(t.dtype == torch.float32 for t in rounded.sae.tensors().values())
    assert all(state["exp_avg"].dtype == torch.float32 for state in rounded._adam.state.values())
    assert rounded._next()[0].dtype == torch.bfloat16
    y = x if target is None else target
    assert explained(y, rounded.result()(x)) == pytest.approx(explained(y, exact.result()(x)), abs=0.05)
    assert 0 < seen[-1].explained_variance < 1


def test_the_config_names_the_device(x, tmp_path):
    elsewhere = Trainer(config(device="cpu"), x[:300])
    assert elsewhere.sae.W_dec.device.type == "cpu"
    with pytest.raises(ValueError, match="device is 'gpu'; expected 'auto', 'cpu', 'cuda'"):
        Trainer(config(device="gpu"), x)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device is 'cuda', which this machine, or this build"):
            Trainer(config(device="cuda"), x)
    train(config(steps=4, warmup=0, decay=0), x, folder=tmp_path, checkpoint_every=2)
    train(config(steps=4, warmup=0, decay=0, device="auto"), x, folder=tmp_path)  # a run may move


def test_a_block_is_larger_off_the_cpu():
    here, there = torch.zeros(4096, 2), torch.zeros(4096, 2, device="meta")
    assert [part.stop - part.start for part in matmul.blocks(here, 16_384)] == [128] * 32
    assert matmul.blocks(there, 16_384) == [slice(0, 4096)]


@pytest.mark.parametrize("architecture", ["topk", "batch_topk", "matryoshka", "jumprelu"])
def test_where_there_are_no_sparse_kernels_dense_ones_give_the_same(architecture, x, monkeypatch):
    from mi_course.interp.sae import active_latents

    def gradients():
        sae = SAE.build(
            config(architecture, threshold_init=0.8) if architecture == "jumprelu" else config(architecture)
        )
        losses = sae.gradients(x[:200])
        return losses.total, {name: parameter.grad for name, parameter in sae.named_parameters()}

    loss, expected = gradients()
    monkeypatch.setattr(active_latents, "_has_sparse", lambda values: False)
    again, found = gradients()
    assert again == pytest.approx(loss, rel=1e-5)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-4, msg=name)


def test_clipping_and_the_auxiliary_loss_are_on_where_the_paper_has_them():
    def on(architecture, **changed):
        c = SAEConfig(d_in=D, n_latents=96, architecture=architecture, **changed)
        return c.clip, c.auxiliary

    assert on("relu") == (1.0, 0.0)
    assert on("topk") == on("batch_topk") == on("matryoshka") == (0.0, 1 / 32)
    assert on("jumprelu") == on("gated") == (0.0, 0.0)
    assert on("gated", clip=2.0, auxiliary=0.5) == (2.0, 0.5)
    assert on("relu", clip=0) == (0, 0.0)


def test_batch_topks_threshold_is_the_mean_of_late_batches(x):
    trainer = Trainer(config("batch_topk", steps=20, warmup=0, decay=0, threshold_from=0.5), x)
    smallest = []
    for step in range(20):
        smallest.append(trainer.step().sums["smallest"])
        expected = smallest[-1] if step < 10 else sum(smallest[10:]) / (step - 9)
        assert float(trainer.sae.threshold) == pytest.approx(expected, rel=1e-4)


def test_a_batch_with_too_few_positive_entries_does_not_lower_the_threshold(x):
    trainer = Trainer(config("batch_topk", steps=20, warmup=0, decay=0), x)
    for _ in range(19):
        trainer.step()
    before = float(trainer.sae.threshold)
    with torch.no_grad():
        trainer.sae.b_enc.fill_(-30.0)
        trainer.sae.b_enc[0] = 40.0  # one latent is positive, in every row; three are wanted
    assert trainer.step().l0 < 3
    assert float(trainer.sae.threshold) == before > 0


def test_matryoshkas_first_latents_do_without_the_others(x):
    """Cut off after its first prefix, it explains more than a BatchTopK cut off there."""
    prefixes = (24, 96)
    nested, plain = (
        train(config(kind, k=4, **more), x)
        for kind, more in (("matryoshka", {"prefixes": prefixes}), ("batch_topk", {}))
    )

    def cut(sae):
        f = sae.encode(x)
        f[:, prefixes[0] :] = 0
        return explained(x, sae.decode(f))

    assert cut(nested) > cut(plain) + 0.1
    assert explained(x, nested(x)) > 0.75
    assert SAEConfig(d_in=8, n_latents=65_536, architecture="matryoshka").prefixes == (2048, 6144, 14336, 30720, 65536)


class Stream:
    """A source that counts, as an activation store would."""

    def __init__(self, x):
        self.x, self.at = x, 0

    def next_batch(self):
        self.at += 1
        return self.x[(self.at * 97) % 1000 :][:128]

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.at = state["at"]


def test_a_source_of_batches_is_trained_on(x):
    stream = Stream(x)
    seen = []
    train(config(steps=6, warmup=0, decay=0), stream, on_progress=seen.append, log_every=6)
    assert seen[0].activations == 6 * 128
    assert stream.at == 32 + 6  # 4096 rows to measure, then the steps


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"architecture": "lasso"}, "architecture is 'lasso'; expected one of relu, topk"),
        ({"k": 0}, "k is 0; expected a whole number, at least 1"),
        ({"k": True}, "k is True"),
        ({"k": 1000}, "k is 1000; expected at most n_latents, 96"),
        ({"lr": -1.0}, "lr is -1.0; expected a number above 0"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"l1": "much"}, "l1 is 'much'"),
        ({"sparsity": "log"}, "sparsity is 'log'; expected 'step' or 'tanh'"),
        ({"decoder_norm": "big"}, "decoder_norm is 'big'"),
        ({"warmup": 400}, "warmup is 400; expected warmup \\+ decay at most steps"),
        ({"target_l0": 5.0, "sparsity": "tanh"}, "target_l0 is 5.0 with sparsity='tanh'"),
        ({"d_out": 4, "subtract_decoder_bias": True}, "subtract_decoder_bias is True in a transcoder"),
        ({"architecture": "gated", "decoder_norm": "free"}, "decoder_norm is 'free' with architecture='gated'"),
        ({"decoder_init_norm": 0.1}, "decoder_init_norm is 0.1 with a unit decoder"),
        ({"betas": (0.9, 1.0)}, "betas is"),
        ({"betas": 0.9}, "betas is 0.9"),
        ({"prefixes": (3, 96)}, "prefixes is .*only matryoshka"),
        ({"architecture": "matryoshka", "prefixes": (3, 95)}, "prefixes is .*rise to n_latents, 96"),
        ({"architecture": "matryoshka", "prefixes": (8, 4, 96)}, "prefixes is .*rise to n_latents, 96"),
        ({"dtype": "float16"}, "dtype is 'float16'; expected float32 or bfloat16"),
        ({"threshold_from": 1.0}, "threshold_from is 1.0; expected a share of the steps"),
        ({"clip": -1.0}, "clip is -1.0; expected None or a number, at least 0"),
    ],
)
def test_wrong_settings_are_refused_by_name(changed, message):
    with pytest.raises(ValueError, match=message):
        SAEConfig(**({"d_in": D, "n_latents": 96, "steps": 300} | changed))


def test_a_config_survives_json():
    for c in (config("jumprelu", target_l0=4.0), config("matryoshka", prefixes=(5, 96)), config("relu", clip=0)):
        assert SAEConfig.from_json(json.loads(json.dumps(c.to_json()))) == c
    with pytest.raises(ValueError, match=r"Unknown fields \['width'\]"):
        SAEConfig.from_json({"width": 3})


def test_wrong_data_is_refused(x):
    with pytest.raises(ValueError, match=r"A batch has shape \(256, 5\); expected \(rows, 24\), for d_in"):
        train(config(), x[:, :5])
    with pytest.raises(ValueError, match="100 activations, fewer than a batch of 256"):
        train(config(), x[:100])
    with pytest.raises(ValueError, match=r"expected \(12000, d_out\)"):
        train(config(d_out=4), x, target=x[:5])
    with pytest.raises(ValueError, match="d_out=None, and there is a target"):
        train(config(), x, target=x)
    with pytest.raises(ValueError, match="d_out=4, and there is no target"):
        train(config(d_out=4), x)
    with pytest.raises(TypeError, match="activations is a list"):
        train(config(), [x])
    with pytest.raises(TypeError, match="cannot resume"):
        train(config(), type("Once", (), {"next_batch": lambda self: x[:5]})(), folder="unused")
    with pytest.raises(ValueError, match=r"Missing: \['b_enc'\]"):
        SAE.from_tensors(config(), {name: t for name, t in SAE.build(config()).tensors().items() if name != "b_enc"})


def test_batches_cover_the_data_and_differ_between_passes():
    batches = TensorBatches(torch.arange(12.0)[:, None], batch=4, seed=0)
    passes = [torch.cat([batches.next_batch() for _ in range(3)])[:, 0] for _ in range(2)]
    assert all(sorted(order.tolist()) == list(range(12)) for order in passes)
    assert not torch.equal(*passes)


@pytest.mark.parametrize("architecture", ["relu", "topk", "batch_topk", "jumprelu", "gated"])
@pytest.mark.parametrize(("bad", "name"), [(float("nan"), "NaN"), (float("inf"), "infinity")])
def test_activations_that_are_not_finite_are_refused(architecture, bad, name):
    x = torch.randn(500, 16, generator=torch.Generator().manual_seed(0))
    x[123, 3] = bad
    config = SAEConfig(d_in=16, n_latents=32, architecture=architecture, k=4, steps=10, batch=64)
    with pytest.raises(ValueError, match=f"activations holds {name} in row 123"):
        train(config, x)
    finite = torch.zeros(500, 16)
    with pytest.raises(ValueError, match=f"target holds {name} in row 123"):
        train(SAEConfig(d_in=16, d_out=16, n_latents=32, steps=10, batch=64), finite, target=x)
