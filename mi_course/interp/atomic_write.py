"""Atomic file writes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

__all__ = ["atomic_write"]


def atomic_write(path: Path, write: Callable[[Path], object]) -> None:
    """Atomically replace `path`: `write` fills a temporary sibling, which is then renamed.

    The sibling may be a file or a folder. Of a folder only the creation is atomic: an old one is removed first.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        write(part)
        if part.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            part.chmod(0o644)  # safetensors makes files private, but a course's files are shared
        part.replace(path)
    finally:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)
