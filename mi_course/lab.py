"""`mi-course lab`: brings the notebooks into the learner's folder, and opens JupyterLab there.

The server is told, without touching the user's own configuration, not to ask the network for news or updates, and which
Python its notebooks run in. Its address is printed clearly, since many machines have no browser that it could open.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import webbrowser
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mi_course.lessons import catalogue, find
from mi_course.workspace import LabError, Workspace

__all__ = ["command", "environment", "open_lab", "running_server", "trust"]

SETTINGS = Path(__file__).resolve().parent / "lab_config"
"""Holds `labconfig/default_setting_overrides.json`: JupyterLab asks nobody about news."""
START_S = 60.0


def open_lab(
    folder: Path,
    lesson: str | int | None = None,
    *,
    browser: bool = True,
    upgrade: bool = False,
    say: Callable[[str], None] = print,
) -> int:
    """Brings `folder` up to date and runs JupyterLab on it until it is stopped. Returns its exit status.

    Where a server runs on this folder already, its address is shown instead. Raises LabError.
    """
    folder = folder.expanduser().resolve()
    for change in Workspace(folder).update(upgrade):
        if change.message or change.what != "new":
            say(f"{change.what:>8}  {change.path.name}{': ' + change.message if change.message else ''}")
    page = _page(folder, lesson)
    trust(folder)
    browser = browser and _has_browser()
    if (running := running_server(folder)) is not None:
        address = _address(running, page)
        say(_announcement(folder, address, "JupyterLab is open on this folder already"))
        if browser:
            webbrowser.open(address)
        return 0
    return _serve(folder, page, browser, say)


def _serve(folder: Path, page: str, browser: bool, say: Callable[[str], None]) -> int:
    token = secrets.token_hex(24)
    process = subprocess.Popen(command(folder, page, browser), cwd=folder, env=environment(token))
    try:
        began = time.monotonic()
        while process.poll() is None and time.monotonic() - began < START_S:
            running = running_server(folder)
            if running is not None:
                address = _address(running, page)
                say(_announcement(folder, address, "JupyterLab is open. To stop it, press Ctrl-C here twice"))
                break
            time.sleep(0.1)
        return process.wait()
    except KeyboardInterrupt:
        # The terminal sent Ctrl-C to JupyterLab too, which asks whether to stop; a second one stops it.
        with contextlib.suppress(KeyboardInterrupt):
            return _stopped(process)
        return _stopped(process)
    finally:
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)


def _stopped(process: subprocess.Popen[bytes]) -> int:
    status = process.wait()
    return 0 if status in (0, -signal.SIGINT, -signal.SIGTERM) else status


def command(folder: Path, page: str, browser: bool) -> list[str]:
    """How JupyterLab is started. The token is in the environment, where other users' `ps` does not see it."""
    options = {
        "ServerApp.root_dir": str(folder),
        "Application.log_level": "WARN",
        "LabApp.default_url": page,
        "LabApp.news_url": "None",
        "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
        "LabApp.extension_manager": "readonly",
        "MultiKernelManager.default_kernel_name": "python3",
    }
    made = [sys.executable, "-m", "jupyterlab", *(f"--{name}={value}" for name, value in options.items())]
    if not browser:
        made.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        made.append("--allow-root")  # in a container there often is nobody else
    return made


def environment(token: str) -> dict[str, str]:
    """The environment of the server and its kernels."""
    paths = [str(SETTINGS), *filter(None, [os.environ.get("JUPYTER_CONFIG_PATH")])]
    return {
        **os.environ,
        "JUPYTER_CONFIG_PATH": os.pathsep.join(paths),
        "JUPYTER_PREFER_ENV_PATH": "1",  # the kernel of this environment, not one of the same name in the user's home
        "JUPYTER_TOKEN": token,
    }


def _page(folder: Path, lesson: str | int | None) -> str:
    """The page to open: the lesson, or the first one, or the list of files."""
    try:
        info = find(lesson) if lesson is not None else next(iter(catalogue()), None)
    except KeyError as error:
        raise LabError(f"{error.args[0]}.") from None
    if info is None or not (folder / f"{info.notebook}.ipynb").is_file():
        return "/lab"
    return f"/lab/tree/{quote(info.notebook)}.ipynb"


def running_server(folder: Path) -> dict[str, Any] | None:
    """What Jupyter wrote down about a server that runs on this folder and can be reached."""
    for told in running_servers():
        try:
            if Path(told["root_dir"]).resolve() == folder.resolve() and _listens(told):
                return told
        except (KeyError, TypeError, ValueError, OSError):
            continue
    return None


def running_servers() -> Iterator[Any]:
    from jupyter_core.paths import jupyter_runtime_dir

    for path in sorted(Path(jupyter_runtime_dir()).glob("jpserver-*.json")):
        with contextlib.suppress(OSError, ValueError):
            yield json.loads(path.read_text(encoding="utf-8"))


def _listens(told: dict[str, Any]) -> bool:
    with socket.socket(socket.AF_INET) as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", int(told["port"]))) == 0


def _address(told: dict[str, Any], page: str) -> str:
    return f"{told['url'].rstrip('/')}{page}?token={told['token']}"


def _announcement(folder: Path, address: str, what: str) -> str:
    return f"\n  {what}.\n  Your notebooks are in {folder}\n\n  {address}\n"


def _has_browser() -> bool:
    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    return True


def trust(folder: Path) -> None:
    """Signs notebooks that hold no outputs yet, so that Jupyter shows widgets in them after they were saved.

    Others are left as they are: their outputs may be from anywhere.
    """
    import nbformat
    from nbformat.sign import NotebookNotary

    with contextlib.suppress(Exception):  # a home that cannot be written must not keep the course from opening
        notary = NotebookNotary()
        for info in catalogue():
            path = folder / f"{info.notebook}.ipynb"
            if path.is_file():
                notebook = nbformat.read(path, as_version=4)
                if not any(cell.get("outputs") for cell in notebook.cells):
                    notary.sign(notebook)
