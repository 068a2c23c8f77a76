"""What a feature index says about a latent is what a loop over the texts finds; files are compact and checked."""

from __future__ import annotations

import copy
import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import feature_examples as examples
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from mi_course.interp.massive import massive_tokens
from mi_course.interp.sae import FeatureIndex, FileError, SAEConfig, build_feature_index, load_feature_index
from mi_course.interp.sae.base import SAE
from mi_course.interp.sae.feature_host import Host
from mi_course.interp.sae.feature_texts import TextSet, token_strings

HOOK = "blocks.1.hook_resid_post"


@pytest.fixture(scope="module")
def made():
    return examples.make()


@pytest.fixture(scope="module")
def by_hand(made):
    """[text pos F] activations, one text at a time; BOS counts as inactive."""
    sae, model, _ = made
    resid = torch.cat([model.run_with_cache(row[None])[1][HOOK] for row in examples.rows()])
    f = sae.encode(resid).detach()
    f[:, 0] = 0
    return f


@pytest.mark.parametrize("latent", [0, 3, examples.DEAD, 39])
def test_statistics_are_those_of_a_loop(made, by_hand, latent):
    sae, _, features = made
    page = features.page(sae, latent)
    active = by_hand[..., latent][by_hand[..., latent] > 0]
    assert page["tokens"] == 20 * 15
    assert page["count"] == len(active)
    assert page["density"] == pytest.approx(len(active) / 300)
    others = (by_hand > 0).sum((0, 1))
    assert page["denser_than"] == pytest.approx(float((others < len(active)).float().mean()))
    if latent == examples.DEAD:
        assert (page["largest"], page["groups"]) == (0, [])
        return
    assert page["largest"] == pytest.approx(float(active.max()), rel=1e-5)
    assert page["mean"] == pytest.approx(float(active.mean()), rel=1e-5)
    edges = torch.linspace(0, float(active.max()), len(page["histogram"]) + 1).tolist()
    inside = [
        sum(low <= v < high or (v == active.max() and high == edges[-1]) for v in active.tolist())
        for low, high in itertools.pairwise(edges)
    ]
    assert sum(page["histogram"]) == pytest.approx(1, abs=2e-3)
    assert sum(abs(share - n / len(active)) for share, n in zip(page["histogram"], inside, strict=True)) < 0.15


def test_contexts_hold_the_activations_and_the_words(made, by_hand):
    sae, model, features = made
    for latent in range(40):
        values = by_hand[..., latent]
        for group in features.page(sae, latent)["groups"]:
            for example in group["examples"]:
                row = examples.rows()[example["text"]].tolist()
                words = [model.tokenizer.words[i] for i in row]
                n = len(example["tokens"])
                first = next(
                    p
                    for p in range(17 - n)
                    if words[p : p + n] == example["tokens"]
                    and np.allclose(values[example["text"], p : p + n], example["values"], rtol=1e-3)
                )
                assert example["cut"] == [first > 0, first + n < 16]
                assert example["values"][example["at"]] > 0
                assert example["source"] == f"text {example['text']} <b>"


def test_the_strongest_contexts_are_the_strongest_and_shown_once(made, by_hand):
    sae, _, features = made
    for latent in (0, 3, 39):
        top = features.page(sae, latent)["groups"][0]
        shown = [example["values"][example["at"]] for example in top["examples"]]
        assert shown == sorted(shown, reverse=True)
        # Texts are shorter than a context, so each text gives its strongest token.
        peaks = by_hand[..., latent].amax(1)
        assert shown == pytest.approx(sorted(peaks[peaks > 0].tolist(), reverse=True)[:10], rel=1e-3)


def test_bands_hold_tokens_of_their_ranks():
    sae, _, features = examples.make(edges=[0, 0.2, 1.0], per_band=4)
    for latent in (0, 3, 39):
        page = features.page(sae, latent)
        resid = page["groups"][1:]
        assert [(group["low"], group["high"]) for group in resid] == [(0, 0.2), (0.2, 1.0)]
        low = [example["values"][example["at"]] for example in resid[1]["examples"]]
        high = [example["values"][example["at"]] for example in resid[0]["examples"]]
        assert len(low) == 4
        assert min(high) >= max(low)


def test_the_seed_decides_what_is_drawn_and_nothing_else():
    again, other = examples.make(), examples.make(seed=1)
    one = examples.make()
    torch.manual_seed(3)
    state = torch.random.get_rng_state()
    pages = [features.page(sae, 3) for sae, _, features in (one, again, other)]
    assert torch.equal(state, torch.random.get_rng_state())
    assert pages[0] == pages[1]
    assert pages[0]["groups"][0] == pages[2]["groups"][0]
    assert pages[0]["groups"] != pages[2]["groups"]


def test_promoted_tokens_are_those_of_the_logits(made):
    sae, model, features = made
    effect = sae.W_dec @ (model.ln_final.weight[:, None] * model.W_U)
    effect = (effect - effect.mean(1, keepdim=True)).detach()
    page = features.page(sae, 5)
    best = effect[5].argsort(descending=True)
    assert [word for word, _ in page["promoted"]] == [model.tokenizer.words[i] for i in best[:10]]
    assert [word for word, _ in page["suppressed"]] == [model.tokenizer.words[i] for i in best.flip(0)[:10]]
    assert [v for _, v in page["promoted"]] == pytest.approx(effect[5][best[:10]].tolist(), rel=2e-3)


def test_promoted_tokens_are_left_out_where_the_sae_does_not_write_into_the_stream():
    model = examples.make_model()
    features = build_feature_index(examples.make_sae(), model, examples.rows(), "blocks.1.attn.hook_q", progress=False)
    page = features.page(examples.make_sae(), 0)
    assert page["promoted"] == page["suppressed"] == []
    transcoder = SAE.build(SAEConfig(d_in=12, n_latents=20, d_out=12, k=4)).requires_grad_(False)
    mlp = {"target": "blocks.1.hook_mlp_out", "progress": False}
    features = build_feature_index(transcoder, model, examples.rows(), "blocks.1.mlp.hook_in", **mlp)
    assert len(features.page(transcoder, 0)["promoted"]) == 10


def test_nearest_latents_have_the_largest_cosines(made):
    sae, _, features = made
    rows = torch.nn.functional.normalize(sae.W_dec, dim=1)
    cosines = rows @ rows[11]
    cosines[11] = -2
    expected = cosines.topk(8)
    found = features.page(sae, 11)["nearest"]
    assert [latent for latent, _ in found] == expected.indices.tolist()
    assert [cosine for _, cosine in found] == pytest.approx(expected.values.tolist(), abs=1e-5)


@pytest.mark.parametrize("architecture", ["relu", "topk", "batch_topk", "jumprelu", "gated"])
def test_every_architecture_has_pages(architecture):
    sae = examples.make_sae(architecture)
    features = build_feature_index(sae, examples.make_model(), examples.rows(), 1, progress=False)
    assert all(features.page(sae, latent)["latent"] == latent for latent in range(40))


def test_rows_of_any_lengths_and_batches_change_nothing(by_hand, made):
    sae, model, _ = made
    lengths = [16, 3, 9, 1, 5]
    ragged = [row[:n].tolist() for row, n in zip(examples.rows(), lengths, strict=False)]
    one = build_feature_index(sae, model, ragged, 1, rows_at_once=1, progress=False)
    all_at_once = build_feature_index(sae, model, ragged, 1, rows_at_once=8, progress=False)
    count = sum((by_hand[i, :n] > 0).sum(0) for i, n in enumerate(lengths))
    for features in (one, all_at_once):
        assert features.about["tokens"] == sum(lengths) - len(lengths)
        assert features.arrays["count"].tolist() == count.tolist()


def test_activations_that_are_at_hand_need_no_run_of_the_model(made, monkeypatch):
    sae, model, _ = made
    ragged = [row[: 16 - i % 5].tolist() for i, row in enumerate(examples.rows())]
    expected = build_feature_index(sae, model, ragged, HOOK, exclude_massive=True, progress=False)
    known = torch.cat([model.run_with_cache(torch.tensor([row]))[1][HOOK][0] for row in ragged])
    monkeypatch.setattr(Host, "values", None)
    options = {"exclude_massive": True, "progress": False}
    got = build_feature_index(sae, model, ragged, HOOK, activations=known, **options)
    assert got.about == expected.about
    for name, array in expected.arrays.items():
        assert np.allclose(got.arrays[name], array, rtol=1e-3), name
    with pytest.raises(ValueError, match=r"activations has 3 rows, there are \d+ tokens"):
        build_feature_index(sae, model, ragged, HOOK, activations=known[:3], **options)


def test_massive_tokens_are_left_out_when_asked_and_every_page_says_so():
    sae, model = examples.make_sae(), examples.make_model()
    with torch.no_grad():
        model.embed.weight[5] *= 100
        resid = torch.cat([model.run_with_cache(row[None])[1][HOOK] for row in examples.rows()])
    real = torch.ones(resid.shape[:2], dtype=torch.bool)
    real[:, 0] = False
    massive = massive_tokens(resid.norm(dim=-1), real)
    n = int(massive.sum())
    assert n >= 5
    f = sae.encode(resid)
    f[~real] = 0
    for exclude, left_out in ((False, "the first token of each text"), (True, f"and {n} massive tokens")):
        features = build_feature_index(sae, model, examples.rows(), 1, exclude_massive=exclude, progress=False)
        counts = real & ~massive if exclude else real
        assert features.about["tokens"] == int(counts.sum())
        assert features.arrays["count"].tolist() == (f[counts] > 0).sum(0).tolist()
        assert features.page(sae, 0)["left_out"].endswith(left_out)


def test_search_finds_latents_by_what_they_are_active_on(made, by_hand):
    sae, _, features = made
    found = features.search("W12")
    assert found["active"]
    for row in found["active"]:
        example = row["example"]
        on = [v for word, v in zip(example["tokens"], example["values"], strict=True) if word == " w12"]
        assert max(on) > 0
    assert all(" w12" in [w for w, _ in features.page(sae, row["latent"])["promoted"]] for row in found["promoted"])
    by_count = [float(by_hand[examples.rows() == 12][:, row["latent"]].sum()) for row in found["active"]]
    assert min(by_count) > 0
    assert features.search("no such words") == {"active": [], "promoted": []}
    with pytest.raises(ValueError, match="Nothing to search for"):
        features.search("  ")


def test_search_crosses_tokens_but_not_texts():
    texts = TextSet.of([[0, 1], [2, 0]], ["Par", "is", " in"], [], "")
    assert texts.find("paris").tolist() == [True, True, False, False]
    assert texts.find("is in").tolist() == [False, False, False, False]
    assert texts.find("i").tolist() == [False, True, True, False]
    assert texts.find("IN").tolist() == [False, False, True, False]
    assert texts.vocabulary_with("I").tolist() == [1, 2]


def test_orders(made):
    _, _, features = made
    assert [row["latent"] for row in features.ordered("number", 5, 3)] == [5, 6, 7]
    densities = [row["density"] for row in features.ordered("densest", 0, 40)]
    assert densities == sorted(densities, reverse=True)
    rare = features.ordered("rarest", 0, 40)
    assert rare[-1]["density"] == 0
    assert features.ordered("strongest", 0, 1)[0]["largest"] == features.arrays["largest"].max()
    with pytest.raises(ValueError, match="densest"):
        features.ordered("best")


def test_a_new_sentence_is_read_as_the_model_reads_it(made):
    sae, model, features = made
    reading = features.read(sae, "w12 w20 w13", latent=3)
    f = sae.encode(model.run_with_cache(torch.tensor([[0, 12, 20, 13]]))[1][HOOK])[0].detach()
    f[0] = 0
    assert reading["tokens"] == ["<bos>", " w12", " w20", " w13"]
    assert reading["values"] == pytest.approx(f[:, 3].tolist(), abs=1e-5)
    assert reading["active"] == int((f.amax(0) > 0).sum())
    best = reading["strongest"][0]
    assert max(best[1]) == pytest.approx(float(f.max()), abs=1e-5)
    with pytest.raises(ValueError, match="Type some more"):
        features.read(sae, "<bos>")
    with pytest.raises(ValueError, match="type a sentence"):
        features.read(sae, " ")


# -- any model --------------------------------------------------------------------------------------------------------


def llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 12, "intermediate_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(LlamaConfig(vocab_size=30, **sizes, tie_word_embeddings=False)).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, 0.5, 0.5)
    return model


def test_a_hugging_face_model_is_read_at_a_submodule_and_stops_there():
    model, sae = llama(), examples.make_sae()
    later = []
    model.model.layers[2].register_forward_hook(lambda *_: later.append(1))
    words = examples.Words()
    features = build_feature_index(sae, model, examples.rows(), "model.layers.1", tokenizer=words, progress=False)
    assert later == []
    assert not any(module._forward_hooks for module in model.model.layers[:2])
    resid = model(examples.rows(), output_hidden_states=True).hidden_states[2]
    f = sae.encode(resid).detach()
    f[:, 0] = 0
    assert features.arrays["count"].tolist() == (f > 0).sum((0, 1)).tolist()
    effect = sae.W_dec @ (model.model.norm.weight[:, None] * model.lm_head.weight.T)
    assert features.page(sae, 2)["promoted"][0][0] == words.words[int(effect[2].argmax())]
    assert features.read(sae, "w12 w13", 0)["tokens"] == ["<bos>", " w12", " w13"]
    with pytest.raises(ValueError, match=r"no submodule 'layers.1'.*model\.layers"):
        Host(model, "layers.1")


def test_any_object_with_encode_and_w_dec_is_an_sae():
    own = examples.make_sae()
    foreign = SimpleNamespace(W_dec=own.W_dec, encode=own.encode)
    features = build_feature_index(foreign, examples.make_model(), examples.rows(), 1, progress=False)
    assert foreign.feature_index is features
    assert features.page(foreign, 3) == build_feature_index(
        own, examples.make_model(), examples.rows(), 1, progress=False
    ).page(own, 3)


def test_strings_of_tokens_keep_spaces_and_bytes():
    class Pieces:
        all_special_tokens = ("<s>",)

        def __init__(self, pieces):
            self.pieces = pieces

        def __len__(self):
            return len(self.pieces)

        def convert_ids_to_tokens(self, ids):
            return [self.pieces[i] for i in ids]

    byte_level = Pieces(["<s>", "Ġthe", "âĤ", "Ċ", "Ã©"])
    assert token_strings(byte_level, 6) == ["<s>", " the", "\\xe2\\x82", "\n", "é", "<5>"]
    assert token_strings(Pieces(["▁the", "<0xE2>", "<0x0A>", None]), 4) == [" the", "\\xe2", "\n", "<3>"]
    assert token_strings(None, 3) == ["0", "1", "2"]


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tokens": ["a text"]}, "expected token ids"),
        ({"tokens": []}, "tokens is empty"),
        ({"tokens": [[0, 1], []]}, "Row 1 of tokens is empty"),
        ({"tokens": [[0, 30]]}, "Row 0 of tokens has 30; expected ids from 0 to 29"),
        ({"tokens": [[0], [0]]}, "No token counts"),
        ({"edges": [0, 0.5, 0.5, 1]}, "rise from 0 to 1"),
        ({"edges": [0.1, 1]}, "rise from 0 to 1"),
        ({"before": 200}, "before is 200, expected 0 to 127"),
        ({"top": 0}, "top is 0, expected at least 1"),
        ({"hook": "blocks.9.hook_resid_post"}, "no hook point"),
        ({"hook": "blocks.1.mlp.hook_pre"}, "16 dimensions, the SAE reads 12"),
        ({"sources": ["one"]}, "1 entries for 20 texts"),
        ({"sae": torch.nn.Linear(2, 2)}, "not an SAE"),
    ],
)
def test_wrong_arguments_are_refused(change, words, made):
    arguments = {"sae": examples.make_sae(), "model": made[1], "tokens": examples.rows(), "hook": 1, **change}
    with pytest.raises(ValueError, match=words):
        build_feature_index(**arguments, progress=False)


def test_broken_weights_are_refused(made):
    sae = examples.make_sae("relu")
    with torch.no_grad():
        sae.b_enc[0] = torch.nan
    with pytest.raises(ValueError, match="NaN or infinity"):
        build_feature_index(sae, made[1], examples.rows(), 1, progress=False)


@pytest.mark.parametrize(("latent", "words"), [(40, "There is no latent 40"), (-1, "0 … 39"), ("3", "whole number")])
def test_latents_that_do_not_exist(made, latent, words):
    with pytest.raises(ValueError, match=words):
        made[2].page(made[0], latent)


def test_an_index_of_another_sae_is_refused(made):
    sae, _, features = made
    with pytest.raises(ValueError, match="24 latents, the index 40"):
        features.page(examples.make_sae(n_latents=24), 0)
    other = copy.deepcopy(sae)
    assert other.feature_index is sae.feature_index, "a copy keeps its index"
    with torch.no_grad():
        other.W_dec.copy_(other.W_dec.flip(0))
    with pytest.raises(ValueError, match="another SAE"):
        features.page(other, 0)
    half = copy.deepcopy(sae).bfloat16().float()
    assert features.page(half, 3)["latent"] == 3, "rounded weights are the same SAE"


# -- files ------------------------------------------------------------------------------------------------------------


def test_files_hold_everything_and_are_compact(made, tmp_path):
    sae, model, features = made
    features.save(tmp_path / "sae")
    fresh = examples.make_sae()
    loaded = load_feature_index(tmp_path / "sae", fresh, model)
    assert fresh.feature_index is loaded
    for latent in range(40):
        assert loaded.page(fresh, latent) == features.page(sae, latent)
    assert loaded.search("w12") == features.search("w12")
    assert loaded.read(fresh, "w12 w13", 0) == features.read(sae, "w12 w13", 0)
    assert (tmp_path / "sae" / "features.safetensors").stat().st_size < 40 * 900
    without = load_feature_index(tmp_path / "sae")
    assert not without.can_read
    with pytest.raises(ValueError, match="has no model"):
        without.read(fresh, "w12")


def test_several_indexes_share_their_texts(made, tmp_path):
    sae, model, features = made
    shared = tmp_path / "texts.safetensors"
    features.save(tmp_path / "a", texts=shared)
    written = shared.stat().st_mtime_ns
    features.save(tmp_path / "b", texts=shared)
    assert shared.stat().st_mtime_ns == written
    assert not (tmp_path / "b" / "texts.safetensors").exists()
    assert load_feature_index(tmp_path / "b").page(sae, 3) == features.page(sae, 3)
    other = build_feature_index(examples.make_sae(), model, examples.rows(1), 1, progress=False)
    with pytest.raises(FileError, match="holds other texts"):
        other.save(tmp_path / "c", texts=shared)


def rewrite(path: Path, change) -> None:
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        about = json.loads(file.metadata()["mi_course"])
    arrays = dict(load_file(path))
    change(arrays, about)
    save_file(arrays, path, {"mi_course": json.dumps(about)})


def put(name, index, value):
    def change(arrays, about):
        arrays[name] = arrays[name].copy()
        arrays[name][index] = value

    return change


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("features", put("position", 0, 10**6), "position"),
        ("features", put("position", 0, -1), "position"),
        ("features", put("offset", 0, 100), "offset"),
        ("features", put("band", 0, 99), "band"),
        ("features", put("promoted", (0, 0), 999), "promoted"),
        ("features", put("first_example", 1, 10**6), "first_example"),
        ("features", put("first_active", -1, 0), "first_active"),
        ("features", put("count", 0, -5), "count"),
        ("features", put("count", examples.DEAD, 3), "count"),
        ("features", put("largest", 0, np.nan), "NaN"),
        ("features", lambda a, _: a.pop("mean"), "expected"),
        ("features", lambda a, _: a.update(mean=a["mean"][:-1]), "mean"),
        ("features", lambda _, about: about.update(edges=["a"]), "band"),
        ("features", lambda _, about: about.update(before="x"), "before"),
        ("features", lambda _, about: about.update(tokens=0), "count"),
        ("features", lambda _, about: about.update(format=9), "format '9', expected 1"),
        ("features", lambda _, about: about.update(fingerprint="x"), "holds other texts"),
        ("features", lambda _, about: about.update(texts="absent"), "missing"),
        ("texts", put("starts", -1, 3), "bounds"),
        ("texts", put("tokens", 0, 300), "token 300"),
        ("texts", put("vocabulary_ends", -1, 3), "vocabulary"),
        ("texts", put("tokens", 0, 1), "holds other texts"),
        ("texts", lambda _, about: about.update(sources=["a"]), "sources"),
    ],
)
def test_damaged_files_are_refused_by_name(made, tmp_path, file, change, words):
    made[2].save(tmp_path)
    rewrite(tmp_path / f"{file}.safetensors", change)
    with pytest.raises(FileError, match=words):
        load_feature_index(tmp_path)


def test_files_that_are_cut_short_or_something_else_are_refused(made, tmp_path):
    made[2].save(tmp_path)
    path = tmp_path / "features.safetensors"
    whole = path.read_bytes()
    for data in (whole[:100], whole[:-10], b"", b"not safetensors"):
        path.write_bytes(data)
        with pytest.raises(FileError, match=r"features\.safetensors"):
            load_feature_index(tmp_path)
    with pytest.raises(FileError, match="missing"):
        load_feature_index(tmp_path / "nowhere")


def test_an_index_can_be_stored_without_its_model(made):
    import pickle

    again = pickle.loads(pickle.dumps(made[2]))
    assert isinstance(again, FeatureIndex)
    assert again.host is None
