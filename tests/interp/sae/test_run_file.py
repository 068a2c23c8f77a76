"""`mi-course sae` from the outside, and the page "Train an SAE on your model" with its commands executed."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mi_course import cli
from mi_course.errors import CourseError
from mi_course.interp.sae import load_sae
from mi_course.interp.sae.run_file import RunFile, RunFileError, evaluate_floors

PAGE = Path(__file__).parents[3] / "docs" / "train-an-sae.md"
SMALLER = {"steps": 12, "batch": 64, "decay": 4, "checkpoint_every": 4, "hook": 1, "n_latents": 32, "k": 4, "row": 16}
"""What the tests put in the place of the page's numbers."""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny model with a tokenizer of words, in Hugging Face's format."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("model")
    words = ["<unk>", "<s>", "</s>", *WORDS]
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        bos_token_id=1,
        eos_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


WORDS = [
    "the",
    "cat",
    "dog",
    "sat",
    "ran",
    "on",
    "under",
    "mat",
    "tree",
    "and",
    "a",
    "house",
    "red",
    "blue",
    "old",
    "man",
    "saw",
    "it",
    "then",
    "they",
    "went",
    "home",
]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with some books, to work in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "books").mkdir()
    generator = torch.Generator().manual_seed(0)
    for name in ("one", "two"):
        documents = [
            " ".join(WORDS[i] for i in torch.randint(len(WORDS), (40,), generator=generator)) for _ in range(60)
        ]
        (tmp_path / "books" / f"{name}.txt").write_text("\n<|doc|>\n".join(documents))
    return tmp_path


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def write(place, model, text=None, **changed):
    """The page's sae.toml, for a tiny model."""
    text = (text or blocks("toml")[0]).replace('"smollm2"', json.dumps(str(model)))
    for name, value in {**SMALLER, **changed}.items():
        text = re.sub(rf"^{name} = \d+", f"{name} = {value}", text, flags=re.MULTILINE)
    (place / "sae.toml").write_text(text)
    return text


def run(command):
    words = shlex.split(command)
    assert words[0] == "mi-course"
    cli.app(words[1:], standalone_mode=False)


def test_the_pages_commands_lead_from_text_to_a_file_that_saelens_reads(place, model, capsys):
    write(place, model)
    commands = [line for block in blocks("sh") for line in block.splitlines()]
    assert [shlex.split(line)[2] for line in commands] == ["harvest", "train", "evaluate"]
    for command in commands:
        run(command)
    for code in blocks("python"):
        exec(compile(code, str(PAGE), "exec"), {})
    output = capsys.readouterr().out
    assert "jumprelu blocks.1.hook_resid_post" in output  # printed by the last block
    assert re.search(r"held-out tokens, massive tokens counted; no first tokens", output)
    manifest = json.loads((place / "my-sae/tokens/manifest.json").read_text())
    assert manifest["groups"]["books"]["licence"] == "public domain"
    cfg = json.loads((place / "my-sae/middle/cfg.json").read_text())
    assert (cfg["architecture"], cfg["d_in"], cfg["d_sae"]) == ("jumprelu", 16, 32)
    assert cfg["metadata"]["training_tokens"] == 12 * 64
    steps = [json.loads(line)["step"] for line in (place / "my-sae/middle/log.jsonl").read_text().splitlines()]
    assert steps == [10, 12]
    card = json.loads((place / "my-sae/middle/evaluation.json").read_text())
    assert card["exclude_massive"] is False
    assert 0 < card["l0"] < 16
    assert sum(card["density_log10"]["counts"]) + 32 * card["dead_share"] == pytest.approx(32)
    assert set(card["loss"]["books"]) == {"clean", "rise", "mean", "zero", "replaced", "tokens"}
    assert card["mix"] == {"books": 1.0}
    assert card["different_tokens"] == min(12 * 64, manifest["groups"]["books"]["train"]["rows"] * 15)
    assert card["shared"] == {}
    assert card["loss"]["books"]["replaced"] == pytest.approx(15 / 16)


SEVERAL = """
folder = "out"
[model]
name = "smollm2"
library = "transformers"
[tokens]
row = 16
exclude_massive = true
[text.books]
files = ["books/*.txt"]
separator = "<|doc|>"
held_out = 0.2
[activations]
rows = 1500
rows_per_shard = 400
[training]
steps = 12
batch = 64
[sae.early]
hook = 0
n_latents = 32
k = 4
[sae.mlp]
hook = "model.layers.1.mlp@in"
target = "model.layers.1.mlp"
architecture = "matryoshka"
n_latents = 32
k = 4
"""


def test_several_saes_of_a_hugging_face_model_with_activations_on_disk(place, model, capsys):
    write(place, model, SEVERAL, hook=0)
    for verb in ("harvest", "harvest", "train", "evaluate"):  # the second harvest finds everything done
        run(f"mi-course sae {verb} sae.toml")
    assert len(list((place / "out/activations").glob("*.safetensors"))) == 4
    assert load_sae(place / "out/early").about["hook_name"] == "model.layers.0"
    mlp = load_sae(place / "out/mlp")
    assert mlp.config.transcoder
    assert mlp.about["hook_name_out"] == "model.layers.1.mlp"
    output = capsys.readouterr().out
    assert "without massive tokens" in output
    assert "massive (" in output
    card = json.loads((place / "out/mlp/evaluation.json").read_text())
    assert card["target"] == "model.layers.1.mlp"
    read = RunFile.read("sae.toml")
    floors = evaluate_floors(read)  # needs no SAE, and gives what the cards compare with
    assert len({names for names, _, _ in floors}) == len(read.saes)
    for (names, group, _), loss in floors.items():
        if names == (card["hook"], card["target"]):
            assert card["loss"][group]["clean"] == pytest.approx(loss.clean)
            assert card["loss"][group]["zero"] == pytest.approx(loss.zero - loss.clean)


@pytest.mark.slow
def test_a_training_that_is_killed_goes_on(place, model):
    write(place, model, SEVERAL.replace("[activations]\nrows = 1500\nrows_per_shard = 400\n", ""), steps=400)
    text = (place / "sae.toml").read_text()
    (place / "sae.toml").write_text(text.replace("[training]\n", "[training]\ncheckpoint_every = 20\n"))
    run("mi-course sae harvest sae.toml")
    command = [sys.executable, "-m", "mi_course", "sae", "train", "sae.toml"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checkpoints = place / "out/training/checkpoints"
    while not (checkpoints / "000000040").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = sorted(checkpoints.glob("[0-9]*"))[-1].name
    assert int(before) < 400
    run("mi-course sae train sae.toml")
    steps = [json.loads(line)["step"] for line in (place / "out/early/log.jsonl").read_text().splitlines()]
    assert steps == list(range(10, 401, 10))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('folder = "out"', "", "lacks folder"),
        ("[tokens]", "[token]", "has token; expected activations"),
        ("row = 16", "rows = 16", r"\[tokens\] has rows; expected between"),
        ("rows = 1500", "", r"\[activations\].*rows"),
        ("k = 4", "kk = 4", r"\[sae.early\].*kk"),
        ("n_latents = 32", "n_latents = 0", r"\[sae.early\] n_latents is 0; expected a whole number"),
        ('["books/*.txt"]', '"books/*.txt"', r"\[text.books\] files is 'books/\*\.txt'; expected a list"),
        ("hook = 0", "", r"\[sae.early\] lacks hook"),
        ('"matryoshka"', '"topk"', r"\[sae.mlp\] is a transcoder of architecture 'topk'"),
        ("[training]", "[training", "is not TOML"),
    ],
)
def test_a_wrong_file_is_refused_before_any_work(place, old, new, message):
    (place / "sae.toml").write_text(SEVERAL.replace(old, new, 1))
    with pytest.raises(RunFileError, match=message):
        RunFile.read("sae.toml")


def test_what_cannot_be_done_is_said(place, model):
    with pytest.raises(CourseError, match=r"There is no file nothing\.toml"):
        run("mi-course sae train nothing.toml")
    write(place, model)
    with pytest.raises(CourseError, match="holds no tokens, or writing them was cut short"):
        run("mi-course sae train sae.toml")
    write(place, model, SEVERAL.replace("books/*.txt", "texts/*.txt"))
    with pytest.raises(CourseError, match=r"no file 'texts/\*\.txt'"):
        run("mi-course sae harvest sae.toml")
    write(place, model, SEVERAL, hook=7)
    with pytest.raises(CourseError, match="no layer 7; it has 3, from 0"):
        run("mi-course sae harvest sae.toml")
