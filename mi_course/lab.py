"""`mi-course lab`: copies the notebooks into the learner's folder, and opens JupyterLab there.

Without touching the user's configuration, the server is set not to fetch news or updates, and to run notebooks in this
Python. Its address is printed, since many machines have no browser to open.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import webbrowser
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import ProxyHandler, Request, build_opener

import nbformat
from jupyter_core.paths import jupyter_runtime_dir
from nbformat.sign import NotebookNotary

from mi_course.lessons import catalogue, find
from mi_course.workspace import LabError, Workspace

__all__ = ["command", "environment", "open_lab", "running_server", "trust"]

SETTINGS = Path(__file__).resolve().parent / "lab_config"
"""Contains `labconfig/default_setting_overrides.json`, which switches JupyterLab's news off."""
START_S = 60.0


def open_lab(
    folder: Path,
    lesson: str | int | None = None,
    *,
    browser: bool = True,
    upgrade: bool = False,
    say: Callable[[str], None] = print,
) -> int:
    """Update `folder` and run JupyterLab on it until it is stopped. Returns its exit status.

    If a server runs on this folder already, its address is shown instead. Raises LabError.
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
        # The terminal sent Ctrl-C to JupyterLab too, which asks whether to stop; a second Ctrl-C stops it.
        with contextlib.suppress(KeyboardInterrupt):
            return _exit_status(process)
        return _exit_status(process)
    finally:
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)


def _exit_status(process: subprocess.Popen[bytes]) -> int:
    status = process.wait()
    return 0 if status in (0, -signal.SIGINT, -signal.SIGTERM) else status


def command(folder: Path, page: str, browser: bool) -> list[str]:
    """The command that starts JupyterLab. The token is in the environment, where other users' `ps` does not see it."""
    options = {
        "ServerApp.root_dir": str(folder),
        "Application.log_level": "WARN",
        "LabApp.default_url": page,
        "LabApp.news_url": "None",
        "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
        "LabApp.extension_manager": "readonly",
        "MultiKernelManager.default_kernel_name": "python3",
    }
    words = [sys.executable, "-m", "jupyterlab", *(f"--{name}={value}" for name, value in options.items())]
    if not browser:
        words.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        words.append("--allow-root")  # containers often have no other user
    return words


def environment(token: str) -> dict[str, str]:
    """The environment of the server and its kernels."""
    paths = [str(SETTINGS), *filter(None, [os.environ.get("JUPYTER_CONFIG_PATH")])]
    return {
        **os.environ,
        "JUPYTER_CONFIG_PATH": os.pathsep.join(paths),
        "JUPYTER_PREFER_ENV_PATH": "1",  # this environment's kernel, not one of the same name in the user's home
        "JUPYTER_TOKEN": token,
    }


def _page(folder: Path, lesson: str | int | None) -> str:
    """The page to open: the lesson, else the first one, else the list of files."""
    try:
        info = find(lesson) if lesson is not None else next(iter(catalogue()), None)
    except KeyError as error:
        raise LabError(f"{error.args[0]}.") from None
    if info is None or not (folder / f"{info.notebook}.ipynb").is_file():
        return "/lab"
    return f"/lab/tree/{quote(info.notebook)}.ipynb"


def running_server(folder: Path) -> dict[str, Any] | None:
    """Jupyter's record of a reachable server that runs on this folder."""
    for server in running_servers():
        try:
            if Path(server["root_dir"]).resolve() == folder.resolve() and _answers(server):
                return server
        except (KeyError, TypeError, ValueError, OSError):
            continue
    return None


def running_servers() -> Iterator[Any]:
    """Jupyter's records of servers; some may have died."""
    for path in sorted(Path(jupyter_runtime_dir()).glob("jpserver-*.json")):
        with contextlib.suppress(OSError, ValueError):
            yield json.loads(path.read_text(encoding="utf-8"))


def _answers(server: dict[str, Any]) -> bool:
    """Whether a Jupyter that knows this token answers there: its record may be stale, and the port another's by now."""
    page = "api/status" if server["token"] else "api"
    request = Request(f"{server['url'].rstrip('/')}/{page}", headers={"Authorization": f"token {server['token']}"})
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=3) as reply:
            return isinstance(json.loads(reply.read(2**16)), dict)
    except (OSError, ValueError, HTTPException):
        return False


def _address(server: dict[str, Any], page: str) -> str:
    return f"{server['url'].rstrip('/')}{page}?token={server['token']}"


def _announcement(folder: Path, address: str, what: str) -> str:
    return f"\n  {what}.\n  Your notebooks are in {folder}\n\n  {address}\n"


def _has_browser() -> bool:
    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    return True


def trust(folder: Path) -> None:
    """Sign notebooks without outputs, so that Jupyter still shows their widgets after they were saved.

    Others are left unsigned: their outputs may come from anywhere.
    """
    with contextlib.suppress(Exception):  # a home that cannot be written must not keep the course from opening
        notary = NotebookNotary()
        for info in catalogue():
            path = folder / f"{info.notebook}.ipynb"
            if path.is_file():
                notebook = nbformat.read(path, as_version=4)
                if not any(cell.get("outputs") for cell in notebook.cells):
                    notary.sign(notebook)
