"""Atomic file writes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

__all__ = ["atomic_write"]


def atomic_write(path: Path, content: str | bytes | Callable[[Path], object], mode: int = 0o644) -> None:
    """Atomically replace `path`: whatever happens, it is the old file or the new one.

    content: text (written as UTF-8, line endings as they are) or bytes, flushed to disk before the renaming; or a
    function that fills the temporary sibling whose path it is given. The sibling may be a folder: only its creation is
    atomic, since an old folder is removed first.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        if callable(content):
            content(part)
        else:
            with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
        if part.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            part.chmod(mode)  # safetensors makes files private, but a course's files are shared
        part.replace(path)
    finally:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)
