"""Files that are there whole, or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

__all__ = ["atomic_write"]


def atomic_write(path: Path, write: Callable[[Path], object]) -> None:
    """`write` gets a path beside it; what stands there afterwards becomes the file. An old one stays until then."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        write(part)
        part.chmod(0o644)  # safetensors makes it private, but a course is shared
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
