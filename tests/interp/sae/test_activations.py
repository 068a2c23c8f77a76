"""What reaches a trainer: ordinary tokens only, in an order the seed decides, and the same after a restart."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from mi_course.interp.models.small import small_model
from mi_course.interp.sae import (
    ModelBatches,
    SAEConfig,
    ShardBatches,
    TensorBatches,
    clamp,
    collect_activations,
    loss_with_sae,
    ordinary_tokens,
    sampled_tokens,
    splice,
    train,
    write_shards,
)
from mi_course.interp.sae.batches import Batches

CONFIG = {"n_layers": 3, "n_heads": 2, "d_model": 12, "d_head": 6, "d_mlp": 16, "d_vocab": 30, "n_ctx": 24}


@pytest.fixture(scope="module")
def model():
    return small_model(CONFIG, seed=0)


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(2, 30, (20, 16), generator=torch.Generator().manual_seed(0))


def by_hand(model, tokens, hook, lengths=None):
    """Ordinary tokens one text at a time, with a loop."""
    rows = []
    for i, text in enumerate(tokens):
        text = text[: lengths[i]] if lengths is not None else text
        resid = model.run_with_cache(text[None])[1][hook][0].flatten(1)
        norms = [float(v.norm()) for v in resid]
        later = sorted(norms[1:])
        median = later[(len(later) - 1) // 2]
        rows += [resid[p] for p in range(1, len(text)) if norms[p] <= 3 * median]
    return torch.stack(rows)


def same_rows(a, b):
    """The same rows, in any order."""
    a, b = (
        torch.stack(sorted(rows, key=lambda row: row.tolist())) for rows in (a.round(decimals=4), b.round(decimals=4))
    )
    return a.shape == b.shape and torch.allclose(a, b, atol=1e-3)


def rounds(source, n):
    return [source.next_batch() for _ in range(n)]


def test_first_padding_and_massive_are_left_out():
    resid = torch.ones(2, 6, 4)
    resid[0, 0], resid[0, 3], resid[1, 2] = 100, 4, 2.9
    real = torch.ones(2, 6, dtype=torch.bool)
    real[1, 4:] = False
    resid[1, 5] = 50
    ordinary, massive = ordinary_tokens(resid, real)
    assert ordinary.tolist() == [[False, True, True, False, True, True], [False, True, True, True, False, False]]
    assert massive.nonzero().tolist() == [[0, 3]]


def test_collected_activations_are_those_of_a_loop(model, tokens):
    x, left_out = collect_activations(model, tokens, 1, rows_at_once=3, exclude_massive=True)
    assert torch.allclose(x, by_hand(model, tokens, "blocks.1.hook_resid_post"), atol=1e-5)
    assert left_out.kept == len(x)
    assert left_out.first == 20
    assert left_out.padding == 0
    assert left_out.massive == 20 * 15 - len(x)
    assert f"{left_out.kept} tokens kept; left out: {left_out.massive} massive" in str(left_out)
    everything, left_out = collect_activations(model, tokens, 1)
    assert len(everything) == left_out.kept == 20 * 15
    assert "300 tokens kept, massive ones included; left out: 20 first ones" in str(left_out)


def test_padding_is_left_out_and_changes_nothing(model, tokens):
    lengths = [16 - i % 7 for i in range(20)]
    ragged = [row[:n].tolist() for row, n in zip(tokens, lengths, strict=True)]
    x, left_out = collect_activations(model, ragged, "blocks.0.hook_mlp_out", exclude_massive=True)
    assert torch.allclose(x, by_hand(model, tokens, "blocks.0.hook_mlp_out", lengths), atol=1e-5)
    assert left_out.padding == 20 * 16 - sum(lengths)
    mask = torch.arange(16)[None] < torch.tensor(lengths)[:, None]
    masked, _ = collect_activations(model, tokens, "blocks.0.hook_mlp_out", mask=mask, exclude_massive=True)
    assert torch.allclose(masked, x, atol=1e-5)


def test_a_pass_gives_every_ordinary_token_once(model, tokens):
    expected = by_hand(model, tokens, "blocks.1.hook_resid_post")
    source = ModelBatches(model, tokens, 1, batch=len(expected), buffer=64, rows_at_once=3, exclude_massive=True)
    assert isinstance(source, Batches)
    first, second = rounds(source, 2)
    assert same_rows(first, expected)
    assert same_rows(second, expected)
    assert not torch.equal(first, second), "each pass has its own order"
    assert source.left_out.kept >= 2 * len(expected)


def test_batches_are_shuffled_across_texts(model, tokens):
    source = ModelBatches(model, tokens, 1, batch=30, buffer=10_000)
    x, _ = collect_activations(model, tokens, 1)
    batch = source.next_batch()
    places = torch.cdist(batch, x).argmin(dim=1)
    assert len({int(site) // 15 for site in places}) > 10, "30 activations come from many of 20 texts"


def test_the_seed_decides_the_order(model, tokens):
    def batches(seed):
        return rounds(ModelBatches(model, tokens, 1, batch=50, buffer=64, seed=seed), 3)

    assert all(torch.equal(a, b) for a, b in zip(batches(1), batches(1), strict=True))
    assert not torch.equal(batches(1)[0], batches(2)[0])


@pytest.mark.parametrize("buffer", [16, 64, 10_000])
def test_it_resumes_exactly_anywhere(model, tokens, buffer):
    def source():
        return ModelBatches(
            model, tokens, 1, batch=23, buffer=buffer, target="blocks.2.hook_mlp_out", exclude_massive=True
        )

    whole = source()
    batches, states = [], []
    for _ in range(20):  # more than one pass
        states.append(json.loads(json.dumps(whole.state_dict(), default=lambda t: {"t": t.tolist()})))
        states[-1]["waiting"] = [torch.tensor(column["t"]) for column in states[-1]["waiting"]]
        batches.append(whole.next_batch())
    for start in (0, 1, 7, 13, 19):
        again = source()
        again.load_state_dict(states[start])
        for x, y in batches[start:]:
            a, b = again.next_batch()
            assert torch.equal(a, x)
            assert torch.equal(b, y)
        assert again.left_out == whole.left_out


def test_a_state_of_another_source_is_refused(model, tokens):
    state = ModelBatches(model, tokens, 1, batch=23).state_dict()
    with pytest.raises(ValueError, match="batch 23, this source 24"):
        ModelBatches(model, tokens, 1, batch=24).load_state_dict(state)
    with pytest.raises(ValueError, match="of 20 texts, this source has 19"):
        ModelBatches(model, tokens[:19], 1, batch=23).load_state_dict(state)


def test_pairs_belong_to_the_same_token(model, tokens):
    x, y = ModelBatches(model, tokens, "blocks.1.mlp.hook_in", batch=40, target="blocks.1.hook_mlp_out").next_batch()
    assert x.shape == y.shape == (40, 12)
    cache = model.run_with_cache(tokens)[1]
    xs, ys = (cache[f"blocks.1.mlp.hook_{which}"].flatten(0, 1) for which in ("in", "out"))
    site = torch.cdist(x, xs).argmin(dim=1)
    assert torch.allclose(ys[site], y, atol=1e-4)


def test_wrong_tokens_and_places_are_refused(model, tokens):
    with pytest.raises(ValueError, match=r"no hook point 'blocks\.7\.hook_resid_post'"):
        ModelBatches(model, tokens, 7)
    with pytest.raises(ValueError, match=r"outside 0 … 29"):
        ModelBatches(model, tokens + 20, 1)
    with pytest.raises(ValueError, match="25 tokens, the model's context holds 24"):
        ModelBatches(model, torch.ones(2, 25, dtype=torch.long), 1)
    with pytest.raises(ValueError, match="Move it to the end"):
        ModelBatches(model, tokens, 1, mask=torch.arange(16)[None].expand(20, -1) > 3)
    with pytest.raises(ValueError, match="whole numbers"):
        ModelBatches(model, tokens.float(), 1)
    with pytest.raises(ValueError, match="Prompt 1 holds no tokens"):
        ModelBatches(model, [[1, 2], []], 1)
    with pytest.raises(ValueError, match="No token of all these texts remains"):
        ModelBatches(model, tokens[:, :1], 1).next_batch()


def test_memory_is_bounded_by_the_buffer(model, tokens):
    source = ModelBatches(model, tokens, 1, batch=10, buffer=64)
    for _ in range(40):
        source.next_batch()
        assert sum(len(column) for column in source._rows + source._waiting) <= 64 + 10


def test_training_on_a_stream_resumes_bit_for_bit(model, tokens, tmp_path):
    config = SAEConfig(d_in=12, n_latents=24, architecture="topk", k=3, steps=12, batch=64, lr=1e-2)

    def source():
        return ModelBatches(model, tokens, 1, batch=64, buffer=128)

    whole = train(config, source(), folder=tmp_path / "whole", checkpoint_every=5)
    train(config, source(), folder=tmp_path / "cut", checkpoint_every=5)
    shutil.rmtree(tmp_path / "cut" / "checkpoints" / f"{12:09d}")
    again = train(config, source(), folder=tmp_path / "cut", checkpoint_every=5)
    for name, tensor in whole.tensors().items():
        assert torch.equal(tensor, again.tensors()[name]), name


# -- on disk ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def shards(tmp_path):
    x = torch.arange(300.0)[:, None] * torch.ones(4)
    return write_shards(TensorBatches(x, 50, seed=0), tmp_path / "acts", 300, rows_per_shard=70, about={"hook": "here"})


def test_shards_hold_what_was_given(shards):
    assert len(list(shards.glob("*.safetensors"))) == 5
    source = ShardBatches(shards, batch=300, seed=0)
    assert source.rows == 300
    assert source.list["about"] == {"hook": "here"}
    first, second = rounds(source, 2)
    assert sorted(first[:, 0].tolist()) == list(range(300))
    assert sorted(second[:, 0].tolist()) == list(range(300))
    assert not torch.equal(first, second)


def test_shards_resume_exactly(shards):
    whole = ShardBatches(shards, batch=32, seed=1)
    rounds(whole, 8)
    state = whole.state_dict()
    rest = rounds(whole, 9)
    again = ShardBatches(shards, batch=32, seed=1)
    again.load_state_dict(state)
    assert all(torch.equal(a, b) for a, b in zip(rest, rounds(again, 9), strict=True))


def test_pairs_and_short_floats_cross_the_disk(tmp_path):
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    y = torch.cat([2 * x, -x], dim=1)
    folder = write_shards(TensorBatches(x, 16, 0, target=y), tmp_path, 60, rows_per_shard=25, dtype=torch.bfloat16)
    a, b = ShardBatches(folder, batch=60).next_batch()
    assert a.dtype == torch.float32
    assert a.shape == (60, 4)
    assert torch.allclose(b, torch.cat([2 * a, -a], dim=1))


def test_damaged_shards_are_refused_by_name(shards, tmp_path):
    with pytest.raises(ValueError, match="holds activations already"):
        write_shards(TensorBatches(torch.ones(4, 2), 2, 0), shards, 4)
    with pytest.raises(ValueError, match=r"has no activations\.json"):
        ShardBatches(tmp_path / "nothing")

    file = shards / "activations-00002.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-4] + b"\0\0\0\1")
    with pytest.raises(ValueError, match=r"activations-00002\.safetensors is not what was written"):
        rounds(ShardBatches(shards, batch=30), 10)
    file.write_bytes(whole[:-10])
    with pytest.raises(ValueError, match=rf"00002\.safetensors has {len(whole) - 10} bytes, expected {len(whole)}"):
        ShardBatches(shards)
    file.unlink()
    with pytest.raises(ValueError, match=r"00002\.safetensors has no bytes"):
        ShardBatches(shards)
    (shards / "activations.json").write_text('{"format": 2, "shards": [{"file": "../../etc/passwd", "bytes": 1}]}')
    with pytest.raises(ValueError, match="expected a file beside it"):
        ShardBatches(shards)
    (shards / "activations.json").write_text('{"format"')
    with pytest.raises(ValueError, match="is not JSON"):
        ShardBatches(shards)


class Cut(Exception):
    pass


def test_writing_goes_on_where_it_was_cut_short(model, tokens, tmp_path):
    """Cut after any shard, with rows of the source waiting: the same files as in one go."""

    def source():
        return ModelBatches(model, tokens, 1, batch=37, buffer=64)

    whole = write_shards(source(), tmp_path / "whole", 500, rows_per_shard=70)
    for stop_at in (70, 210, 490):

        def stop(rows, stop_at=stop_at):
            if rows == stop_at:
                raise Cut

        with pytest.raises(Cut):
            write_shards(source(), tmp_path / str(stop_at), 500, rows_per_shard=70, on_progress=stop)
        with pytest.raises(ValueError, match="holds no activations, or writing them was cut short"):
            ShardBatches(tmp_path / str(stop_at))
        with pytest.raises(ValueError, match="holds a part of other activations"):
            write_shards(source(), tmp_path / str(stop_at), 400, rows_per_shard=70)
        again = write_shards(source(), tmp_path / str(stop_at), 500, rows_per_shard=70)
        assert {p.name: p.read_bytes() for p in again.iterdir()} == {p.name: p.read_bytes() for p in whole.iterdir()}


def test_a_shard_larger_than_the_buffer_is_read_in_parts(tmp_path):
    x = torch.arange(300.0)[:, None] * torch.ones(4)
    folder = write_shards(TensorBatches(x, 50, seed=0), tmp_path, 300, rows_per_shard=300)
    source = ShardBatches(folder, batch=16, seed=3, buffer=64, dtype=torch.bfloat16)
    seen, most = [], 0
    for _ in range(300 // 16):
        seen.append(source.next_batch())
        most = max(most, sum(len(column) for column in source._rows))
    assert most <= 64
    assert seen[0].dtype == torch.bfloat16
    assert len(torch.cat(seen)[:, 0].float().unique()) > 150  # bfloat16 has 8 bits
    one = ShardBatches(folder, batch=300, seed=3, buffer=64).next_batch()
    assert sorted(one[:, 0].tolist()) == list(range(300))


def test_rows_stay_where_the_model_is_unless_told(model, tokens):
    assert ModelBatches(model, tokens, 1, batch=8).next_batch().dtype == torch.float32
    source = ModelBatches(model, tokens, 1, batch=8, dtype=torch.bfloat16)
    assert source.next_batch().dtype == torch.bfloat16
    assert source.device == next(model.parameters()).device
    away = ModelBatches(model, tokens, 1, batch=8, device="meta")
    assert away.next_batch().device.type == "meta"


def test_several_places_come_from_one_forward_pass(model, tokens):
    hooks = ["blocks.0.hook_resid_post", 1, "blocks.1.hook_mlp_out"]
    source = ModelBatches(model, tokens, hooks, batch=40, buffer=64)
    names = ["blocks.0.hook_resid_post", "blocks.1.hook_resid_post", "blocks.1.hook_mlp_out"]
    assert source.site.stop == 2
    for _ in range(3):
        batch = source.next_batch()
        assert list(batch) == names
    cache = model.run_with_cache(tokens)[1]
    site = torch.cdist(batch[names[0]], cache[names[0]].flatten(0, 1)).argmin(dim=1)
    for name in names:
        assert torch.allclose(cache[name].flatten(0, 1)[site], batch[name], atol=1e-4)
    with pytest.raises(ValueError, match="With a list of hooks there is no target"):
        ModelBatches(model, tokens, hooks, target=0)


# -- splicing ---------------------------------------------------------------------------------------------------------


class Through:
    """An SAE that changes nothing, and remembers what it was given."""

    def __init__(self, add: float = 0.0):
        self.add, self.seen = add, []

    def encode(self, x):
        self.seen.append(x)
        return x

    def decode(self, f):
        return f + self.add


def test_a_perfect_sae_recovers_everything(model, tokens):
    sae = Through()
    result = loss_with_sae(model, sae, tokens, 1, exclude_massive=True)
    logits = model(tokens, return_type="logits")
    losses = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    assert result.clean == pytest.approx(losses.item(), abs=1e-5)
    assert result.spliced == pytest.approx(result.clean, abs=1e-5)
    assert result.zero > result.clean
    assert result.recovered == pytest.approx(1, abs=1e-4)
    expected = by_hand(model, tokens, "blocks.1.hook_resid_post")
    assert torch.allclose(torch.cat(sae.seen), expected, atol=1e-5), "it is given ordinary tokens, and no others"
    assert result.replaced == pytest.approx(len(expected) / tokens.numel())


def test_what_is_not_ordinary_passes_unchanged(model, tokens):
    """Against a hook of our own that adds to the ordinary tokens, and one that zeroes them."""
    real = torch.ones_like(tokens, dtype=torch.bool)
    resid = model.run_with_cache(tokens)[1]["blocks.1.hook_resid_post"]
    ordinary, _ = ordinary_tokens(resid, real)

    def loss(change):
        with torch.no_grad(), model.hooks(fwd_hooks=[("blocks.1.hook_resid_post", lambda value, hook: change(value))]):
            logits = model(tokens, return_type="logits")
        return float(torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()))

    result = loss_with_sae(model, Through(add=0.7), tokens, 1, exclude_massive=True)
    assert result.spliced == pytest.approx(loss(lambda v: v + 0.7 * ordinary[..., None]), abs=1e-5)
    assert result.zero == pytest.approx(loss(lambda v: v * ~ordinary[..., None]), abs=1e-5)
    assert "massive ones not among them" in str(result)
    later = real.clone()
    later[:, 0] = False
    mean = resid[later].mean(dim=0)
    result = loss_with_sae(model, Through(add=0.7), tokens, 1, mean=mean)
    assert result.spliced == pytest.approx(loss(lambda v: v + 0.7 * later[..., None]), abs=1e-5)
    assert result.mean == pytest.approx(loss(lambda v: torch.where(later[..., None], mean, v)), abs=1e-5)
    assert result.replaced == pytest.approx(15 / 16)
    assert "massive ones among them" in str(result)


def test_padding_neither_counts_nor_is_replaced(model, tokens):
    ragged = [row[:n].tolist() for row, n in zip(tokens[:4], (16, 9, 12, 5), strict=True)]
    together = loss_with_sae(model, Through(0.5), ragged, 1)
    apart = [loss_with_sae(model, Through(0.5), [row], 1) for row in ragged]
    weights = [len(row) - 1 for row in ragged]
    for way in ("clean", "spliced", "zero"):
        mean = sum(w * getattr(a, way) for w, a in zip(weights, apart, strict=True)) / sum(weights)
        assert getattr(together, way) == pytest.approx(mean, abs=1e-5)


def test_a_transcoder_reads_one_place_and_writes_another(model, tokens):
    mlp = small_model(CONFIG, seed=0).blocks[1].mlp  # another model's, whose hooks are not those that splice

    class Mlp:
        """Layer 1's own MLP in the place of a transcoder."""

        def encode(self, x):
            return x

        def decode(self, f):
            with torch.no_grad():
                return mlp(f[None])[0]

    result = loss_with_sae(model, Mlp(), tokens, "blocks.1.mlp.hook_in", target="blocks.1.hook_mlp_out")
    assert result.spliced == pytest.approx(result.clean, abs=1e-4)
    assert abs(result.zero - result.clean) > 1e-3


def test_a_place_that_is_never_visited_is_refused(model, tokens):
    with pytest.raises(ValueError, match=r"never visits it|is False"):
        ModelBatches(model, tokens, "blocks.1.hook_mlp_in").next_batch()
    with pytest.raises(ValueError, match=r"never visits it|is False"):
        loss_with_sae(model, Through(), tokens, "blocks.1.hook_mlp_in")
    with pytest.raises(ValueError, match="reads first, then writes"):
        loss_with_sae(model, Through(), tokens, "blocks.2.mlp.hook_in", target="blocks.1.mlp.hook_out")


def test_hooks_are_gone_after_an_error(model, tokens):
    before = sum(len(m._forward_hooks) for m in model.modules())
    with pytest.raises(ValueError, match="rows of 6 numbers"):
        loss_with_sae(model, type("Half", (Through,), {"decode": lambda self, f: f[:, :6]})(), tokens, 1)
    assert sum(len(m._forward_hooks) for m in model.modules()) == before


class Half(torch.nn.Module):
    """Two latents, of the first two dimensions; everything else is error."""

    def encode(self, x):
        return x[:, :2].relu()

    def decode(self, f):
        return torch.nn.functional.pad(f, (0, 10)) + 0.5


def test_an_edit_with_the_error_kept_changes_nothing_else(model, tokens):
    value = model.run_with_cache(tokens)[1]["blocks.1.hook_resid_post"]
    assert torch.equal(splice(value, sae=Half(), keep_error=True), value)
    bare = splice(value, sae=Half())
    assert torch.equal(bare[:, 0], value[:, 0])
    assert torch.allclose(bare[:, 1:, 2:], torch.tensor(0.5))
    own = value[:, 1:, :2].relu()
    out = splice(value, sae=Half(), edit=clamp({1: 3.0}), keep_error=True)
    assert torch.allclose(out[:, 1:, 1], value[:, 1:, 1] + 3.0 - own[..., 1], atol=1e-5)
    others = [0, *range(2, 12)]
    assert torch.allclose(out[:, 1:][..., others], value[:, 1:][..., others], atol=1e-6)
    where = torch.zeros(20, 16, dtype=torch.bool)
    where[3, 5] = True
    changed = (splice(value, sae=Half(), where=where) != value).any(dim=-1)
    assert changed.nonzero().tolist() == [[3, 5]]
    assert splice(value.bfloat16(), sae=Half(), keep_error=True).dtype == torch.bfloat16


# -- the real model ---------------------------------------------------------------------------------------------------


def test_sampled_tokens_are_smollm2s():
    tokens = sampled_tokens()
    assert tokens.shape == (784, 256)
    assert tokens.dtype == torch.int64
    assert bool((tokens[:, 0] == 1).all())
    assert int(tokens.min()) >= 0
    assert int(tokens.max()) < 49_152
    assert len(tokens.unique()) > 10_000
    assert len(tokens.unique(dim=0)) == 784


@pytest.mark.real_model
def test_massive_tokens_carry_half_of_smollm2s_early_variance():
    """Measured on 32 rows: 1.6 % of the tokens and 51 % of the variance at layer 4, none at layer 14."""
    import mi_course

    model, tokens = mi_course.load_model("smollm2", compatibility=False), sampled_tokens()[:4]
    ordinary, left_out = collect_activations(model, tokens, 4, exclude_massive=True)
    assert 0.003 < left_out.massive_share < 0.05
    resid = model.run_with_cache(tokens, names_filter="blocks.4.hook_resid_post", return_type=None)[1]
    everything = resid["blocks.4.hook_resid_post"][:, 1:].flatten(0, 1)
    variances = [float((x - x.mean(0)).square().sum()) for x in (ordinary, everything)]
    assert variances[0] < 0.75 * variances[1]
