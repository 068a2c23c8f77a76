"""The marks that are kept between runs: one file per finished submission, written as soon as it is finished.

OUT/.grading/secret   seeds the inputs; keep it, and marks can be reproduced
OUT/.grading/KEY.json a finished submission; the key hashes its content, the course, the secret and the options
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
from functools import cache
from pathlib import Path

from mi_course import __version__
from mi_course.content import data_dir, notebooks_dir, releases_dir
from mi_course.grading.marks import Marks
from mi_course.grading.text_files import write_text
from mi_course.interp.atomic_write import atomic_write
from mi_course.lessons import catalogue

__all__ = ["FORMAT", "Store", "course_fingerprint"]

FORMAT = 1


class Store:
    """The finished submissions of one OUT folder."""

    def __init__(self, out: Path) -> None:
        self.out, self.folder = out, out / ".grading"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.secret = self._secret()

    def _secret(self) -> bytes:
        path = self.folder / "secret"
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w") as file:
                file.write(secrets.token_hex(32))
        text = path.read_text().strip()
        if len(text) != 64:  # the grader was killed while writing it: nothing can have been marked with it
            atomic_write(path, secrets.token_hex(32), mode=0o600)
            text = path.read_text()
        return bytes.fromhex(text)

    def key(self, content: str, lesson: str | int | None, sandboxed: bool) -> str:
        """A hash of all that the marks depend on."""
        parts = json.dumps([FORMAT, content, course_fingerprint(), str(lesson), sandboxed])
        return hmac.new(self.secret, parts.encode(), hashlib.sha256).hexdigest()[:40]

    def get(self, key: str, name: str) -> Marks | None:
        """The marks kept under this key. None if there are none, or the file is damaged or of another format."""
        try:
            return Marks.from_json(json.loads((self.folder / f"{key}.json").read_text(encoding="utf-8")), name)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def put(self, key: str, marks: Marks) -> None:
        write_text(self.folder / f"{key}.json", json.dumps(marks.to_json()))


@cache
def course_fingerprint() -> str:
    """The course's version and a hash of all that marks depend on: its code, notebooks and data.

    The same wherever the course is installed, so that the nodes of a cluster can be compared.
    """
    package = Path(__file__).resolve().parents[1]
    paths = {f"mi_course/{name}.py": package / f"{name}.py" for name in ("exercises", "content", "submission")}

    def add(prefix: str, folder: Path, pattern: str) -> None:
        paths.update({f"{prefix}/{path.relative_to(folder)}": path for path in folder.rglob(pattern)})

    for room in ("wire", "asking", "judging", "lessons", "interp", "grading"):
        add(f"mi_course/{room}", package / room, "*.py")
    for info in (None, *catalogue()):
        prefix = info.id if info else ""
        add(f"{prefix}/notebooks", notebooks_dir(info), "*.ipynb")
        add(f"{prefix}/releases", releases_dir(info), "*.json")
        if info is not None and info.folder:
            add(prefix, Path(info.folder), "*.py")
    add("data", data_dir(), "*.safetensors")
    add("data", data_dir(), "*.json")
    digest = hashlib.sha256()
    for name, path in sorted(paths.items()):
        digest.update(name.encode("utf-8", "surrogateescape") + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return f"{__version__}+{digest.hexdigest()[:16]}"
