"""The folder of fetched models, and free disk space."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def cache_dir() -> Path:
    """The folder of fetched models, which may not exist yet: `MI_COURSE_CACHE`, or a folder in the user's cache."""
    override = os.environ.get("MI_COURSE_CACHE")
    if override:
        return Path(override).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("mi-course", appauthor=False)


def free_bytes(folder: Path) -> int:
    """Bytes free on the disk of this folder, which need not exist yet."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return shutil.disk_usage(folder).free
