"""Reading submissions: what LMSs export, and what attackers pack. Needs no sandbox."""

from __future__ import annotations

import os
import stat
import zipfile
from pathlib import Path

import pytest
from faults.attacks import ARCHIVES

from mi_course.grading import intake
from mi_course.grading.intake import Entry, find, load


def entry(path: Path) -> Entry:
    return Entry(path.name, path)


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, raw in members.items():
            archive.writestr(name, raw)
    return path


def test_what_counts_as_a_submission(tmp_path: Path):
    for name in ("b.ipynb", "a.py", "c.zip", "notes.txt", ".hidden.ipynb"):
        (tmp_path / name).touch()
    for name in ("ada", ".ipynb_checkpoints", "__MACOSX"):
        (tmp_path / name).mkdir()
    assert [one.name for one in find(tmp_path)] == ["a.py", "ada", "b.ipynb", "c.zip", "notes.txt"]
    assert [one.name for one in find(tmp_path / "b.ipynb")] == ["b.ipynb"]


def test_nothing_there(tmp_path: Path):
    with pytest.raises(ValueError, match="holds no submission"):
        find(tmp_path)
    with pytest.raises(FileNotFoundError):
        find(tmp_path / "absent")


def test_a_folder_and_a_zip_give_their_notebooks(tmp_path: Path):
    folder = tmp_path / "ada"
    (folder / "sub" / ".ipynb_checkpoints").mkdir(parents=True)
    (folder / "one.ipynb").write_bytes(b"1")
    (folder / "sub" / "two.ipynb").write_bytes(b"2")
    (folder / "sub" / ".ipynb_checkpoints" / "two.ipynb").write_bytes(b"old")
    (folder / "helper.py").write_bytes(b"x")
    assert load(entry(folder)).files == (("one.ipynb", b"1"), ("sub/two.ipynb", b"2"))
    assert "import from 'helper.py' is not there" in load(entry(folder)).notes[0]
    members = {"x/one.ipynb": b"1", "__MACOSX/x/one.ipynb": b"no", "x/readme.txt": b"", "x/": b""}
    assert load(entry(zipped(tmp_path / "a.zip", members))).files == (("x/one.ipynb", b"1"),)
    assert load(entry(zipped(tmp_path / "p.zip", {"answer.py": b"x"}))).files == (("answer.py", b"x"),)


def test_every_file_is_a_row(tmp_path: Path):
    for name in ("ada.ipynb.json", "bob.ipynb.txt", "cleo.ipynb.html", "dora.rar", "essay.docx"):
        (tmp_path / name).write_bytes(b"x")
    found = {one.name: load(one) for one in find(tmp_path)}
    assert len(found) == 5
    assert [bool(one.files) for one in found.values()] == [True, True, False, False, False]
    assert all("it is no notebook" in one.problem for one in list(found.values())[2:])
    (tmp_path / "ada").mkdir()
    (tmp_path / "ada" / "x.ipynb.txt").write_bytes(b"1")
    assert load(entry(tmp_path / "ada")).files == (("x.ipynb.txt", b"1"),)


def test_marks_inside_the_folder_are_no_submission(tmp_path: Path):
    for name in ("ada.ipynb", "marks.csv"):
        (tmp_path / name).touch()
    (tmp_path / "marks").mkdir()
    assert [one.name for one in find(tmp_path, tmp_path / "marks")] == ["ada.ipynb", "marks.csv"]
    assert [one.name for one in find(tmp_path, tmp_path)] == ["ada.ipynb", "marks"]


def test_an_empty_folder(tmp_path: Path):
    (tmp_path / "ada").mkdir()
    assert "no notebook" in load(entry(tmp_path / "ada")).problem


def test_a_bomb_ends_at_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(intake, "MAX_BYTES", 2**20)
    found = load(entry(zipped(tmp_path / "bomb.zip", {"a.ipynb": bytes(50 * 2**20)})))
    assert not found.files
    assert "unpacks to more than 1 MB" in found.problem
    monkeypatch.setattr(intake, "TOTAL_BYTES", 3 * 2**20)
    many = {f"{i}.ipynb": bytes(2**20 - 10) for i in range(8)}
    assert "unpacks to more than" in load(entry(zipped(tmp_path / "many.zip", many))).problem


def test_too_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(intake, "MAX_MEMBERS", 50)
    path = zipped(tmp_path / "m.zip", {f"{i}.txt": b"" for i in range(60)})
    assert "more than 50 files" in load(entry(path)).problem


def test_too_many_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(intake, "MAX_MEMBERS", 5)
    for i in range(6):
        (tmp_path / "ada" / str(i)).mkdir(parents=True)
    assert "more than 5 files" in load(Entry("ada", tmp_path / "ada")).problem


def test_paths_out_of_the_zip(tmp_path: Path):
    names = {
        "../../etc/evil.ipynb": b"1",
        "/abs.ipynb": b"2",
        "..\\win.ipynb": b"3",
        "C:/x.ipynb": b"4",
        "ok.ipynb": b"5",
    }
    found = load(entry(zipped(tmp_path / "t.zip", names)))
    assert found.files == (("ok.ipynb", b"5"),)
    assert len(found.notes) == 4
    assert sorted(os.listdir(tmp_path)) == ["t.zip"]


def test_symbolic_links(tmp_path: Path):
    secret = tmp_path / "secret.ipynb"
    secret.write_bytes(b"secret")
    path = tmp_path / "l.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("link.ipynb")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, str(secret))
    found = load(entry(path))
    assert not found.files
    assert "symbolic link" in found.notes[0]
    (tmp_path / "link.ipynb").symlink_to(secret)
    assert "symbolic link" in load(entry(tmp_path / "link.ipynb")).problem
    folder = tmp_path / "ada"
    folder.mkdir()
    (folder / "link.ipynb").symlink_to(secret)
    (folder / "all").symlink_to("/")
    assert load(entry(folder)).files == ()


@pytest.mark.parametrize("raw", [b"", b"PK\3\4", b"no zip at all", b"PK\5\6" + bytes(10)])
def test_what_is_no_zip(tmp_path: Path, raw: bytes):
    path = tmp_path / "x.zip"
    path.write_bytes(raw)
    assert "no zip file" in load(entry(path)).problem


def test_a_damaged_zip(tmp_path: Path):
    path = zipped(tmp_path / "x.zip", {"a.ipynb": os.urandom(5000)})
    raw = bytearray(path.read_bytes())
    raw[100:200] = bytes(100)
    path.write_bytes(raw)
    assert "no zip file that can be read" in load(entry(path)).problem


def test_a_pipe_does_not_hold_up(tmp_path: Path):
    os.mkfifo(tmp_path / "p.ipynb")
    assert "neither a file nor a folder" in load(entry(tmp_path / "p.ipynb")).problem
    (tmp_path / "d").mkdir()
    os.mkfifo(tmp_path / "d" / "p.ipynb")
    assert "no ordinary file" in load(entry(tmp_path / "d")).problem


def test_a_large_file_is_not_read_whole(tmp_path: Path):
    path = tmp_path / "big.ipynb"
    with open(path, "wb") as file:
        file.truncate(200 * 2**20)
    assert "more than 64 MB" in load(entry(path)).problem


@pytest.mark.parametrize("name", ARCHIVES)
def test_no_archive_raises(tmp_path: Path, name: str):
    path = tmp_path / "x.zip"
    path.write_bytes(ARCHIVES[name])
    found = load(entry(path))
    assert bool(found.problem) != bool(found.files)


def test_a_good_notebook_beside_a_member_without_a_name(tmp_path: Path):
    path = tmp_path / "x.zip"
    path.write_bytes(ARCHIVES["nul_and_good"])
    assert [name for name, _ in load(entry(path)).files] == ["00_start_here.ipynb"]


def test_whatever_is_raised_ends_in_the_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Odd(Exception):
        pass

    def burst(*args: object) -> None:
        raise Odd("nobody thought of it")

    path = zipped(tmp_path / "a.zip", {})
    monkeypatch.setattr(intake.zipfile, "ZipFile", burst)
    assert "Odd: nobody thought of it" in load(entry(path)).problem


def test_what_is_left_out_of_a_folder_is_noted(tmp_path: Path):
    folder = tmp_path / "ada"
    (folder / "/".join("abcdefgh")).mkdir(parents=True)
    (folder / "a" / "one.ipynb").write_bytes(b"1")
    (tmp_path / "elsewhere").mkdir()
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    found = load(entry(folder))
    assert found.files == (("a/one.ipynb", b"1"),)
    assert found.notes == (
        "link is a symbolic link to a folder, which is not followed",
        "folders more than 6 deep are not looked into, such as g",
    )


def test_a_damaged_member_costs_only_itself(tmp_path: Path):
    path = zipped(tmp_path / "a.zip", {"good.ipynb": b"1" * 50, "bad.ipynb": b"2" * 50})
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"bad.ipynb") + len("bad.ipynb")] ^= 0xFF  # its first compressed byte
    path.write_bytes(raw)
    found = load(entry(path))
    assert found.files == (("good.ipynb", b"1" * 50),)
    assert "'bad.ipynb' in the zip cannot be unpacked" in found.notes[0]


def test_notes_are_capped(tmp_path: Path):
    found = load(entry(zipped(tmp_path / "a.zip", {f"../{i}.ipynb": b"" for i in range(200)})))
    assert len(found.notes) == 21
    assert "180 more" in found.notes[-1]
