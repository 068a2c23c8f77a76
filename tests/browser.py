"""JupyterLab in a headless browser, for tests, without the user's settings and without requests beyond this machine.

    with jupyterlab(folder, theme="dark") as lab:
        page = lab.page()
        open_notebook(page, "lesson.ipynb")
        run_cell(page, "answer-induction_score")
        assert "Passed" in cell_output_text(page, "answer-induction_score")
    assert lab.outside == []

Cells are named by id or by position. JupyterLab exposes its application object in the page (`window.jupyterapp`), so
running a cell waits until the kernel has answered, without guessing times.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from require import chromium

CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LOCAL = {"127.0.0.1", "localhost", "::1"}
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}


@dataclass
class Lab:
    """A running JupyterLab and the browser to look at it."""

    url: str
    token: str
    context: Any
    outside: list[str] = field(default_factory=list)  # refused requests beyond this machine
    errors: list[str] = field(default_factory=list)  # JavaScript errors of every page
    console: list[str] = field(default_factory=list)  # console errors of every page

    def page(self) -> Any:
        """A new page (Playwright, synchronous). Requests beyond this machine are refused and recorded in `outside`."""
        page = self.context.new_page()
        page.set_default_timeout(120_000)
        page.on("request", lambda request: self._note(request.url))
        page.on("websocket", lambda socket: self._note(socket.url))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self.console.append(message.text) if message.type == "error" else None)
        page.lab = self
        return page

    def _note(self, url: str) -> None:
        if not is_local(url):
            self.outside.append(url)


def is_local(url: str) -> bool:
    """Whether an address stays on this machine."""
    parts = urlsplit(url)
    return parts.scheme in {"data", "blob", "about", "chrome", "devtools"} or parts.hostname in LOCAL


@contextmanager
def jupyterlab(
    root_dir: str | Path,
    theme: Literal["light", "dark"] = "light",
    *,
    env: Mapping[str, str] | None = None,
    viewport: tuple[int, int] = (1360, 1000),
) -> Iterator[Lab]:
    """Start JupyterLab on `root_dir` and a headless browser; stop both at the end.

    The kernel is this interpreter's. Settings, workspaces, trust and history live in a temporary folder. env: more
    environment variables for the server and its kernels.
    """
    with tempfile.TemporaryDirectory(prefix="mi-lab-") as scratch:
        port, token = _free_port(), secrets.token_hex(16)
        server, log = _start(Path(root_dir), Path(scratch), theme, port, token, env or {})
        url = f"http://127.0.0.1:{port}"
        try:
            _wait(server, url, token, log)
            with browse(url, token, viewport) as lab:
                yield lab
        finally:
            stop(server, url, token)


@contextmanager
def browse(url: str, token: str, viewport: tuple[int, int] = (1360, 1000), *, scale: float = 1.0) -> Iterator[Lab]:
    """A headless browser on a JupyterLab that runs at `url`, started with LabApp.expose_app_in_browser.

    scale: pixels of a screenshot per pixel of the page.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=CHROMIUM_ARGS)
        context = browser.new_context(viewport={"width": viewport[0], "height": viewport[1]}, device_scale_factor=scale)
        context.route(lambda address: not is_local(address), lambda route: route.abort())
        try:
            yield Lab(url, token, context)
        finally:
            context.close()
            browser.close()


def _start(
    root: Path, scratch: Path, theme: str, port: int, token: str, env: Mapping[str, str]
) -> tuple[subprocess.Popen[bytes], Path]:
    folders = {
        "JUPYTER_CONFIG_DIR": scratch / "config",
        "JUPYTER_DATA_DIR": scratch / "data",
        "JUPYTER_RUNTIME_DIR": scratch / "runtime",
        "JUPYTERLAB_SETTINGS_DIR": scratch / "settings",
        "JUPYTERLAB_WORKSPACES_DIR": scratch / "workspaces",
        "IPYTHONDIR": scratch / "ipython",
    }
    for folder in folders.values():
        folder.mkdir()
    overrides = {
        "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
        "@jupyterlab/apputils-extension:themes": {"theme": THEMES[theme], "adaptive-theme": False},
        # Every cell stays in the page, so that a test can look at one that is out of sight.
        "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none"},
    }
    place = scratch / "config" / "labconfig" / "default_setting_overrides.json"
    place.parent.mkdir()
    place.write_text(json.dumps(overrides))
    log = scratch / "jupyterlab.log"
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--expose-app-in-browser"),
        *(f"--ServerApp.port={port}", "--ServerApp.port_retries=0", "--ServerApp.ip=127.0.0.1"),
        *(f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={root.resolve()}"),
        # Tests run as root in a container.
        "--allow-root",
    ]
    with log.open("wb") as out:
        environment = os.environ | {key: str(folder) for key, folder in folders.items()} | dict(env)
        server = subprocess.Popen(
            command, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    return server, log


def _wait(server: subprocess.Popen[bytes], url: str, token: str, log: Path) -> None:
    until = time.monotonic() + 90
    while time.monotonic() < until:
        if server.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{url}/api/status?token={token}", timeout=2) as reply:
                if reply.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not start. The end of its log:\n{log.read_text(errors='replace')[-3000:]}")


def stop(server: subprocess.Popen[bytes], url: str, token: str) -> None:
    """Shut down the server at `url` with its kernels; kill it if it does not answer.

    server: its process, or the one that waits for it.
    """
    try:
        request = urllib.request.Request(f"{url}/api/shutdown?token={token}", method="POST")
        urllib.request.urlopen(request, timeout=5).close()
        server.wait(15)
    except (urllib.error.URLError, OSError, subprocess.TimeoutExpired):
        server.terminate()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# What follows works on a page with a notebook in front.

FIND = """
const panel = window.jupyterapp.shell.currentWidget;
const cells = panel.content.widgets;
const index = typeof which === "number" ? (which < 0 ? cells.length + which : which)
                                         : cells.findIndex((cell) => cell.model.id === which);
if (!cells[index]) throw new Error(`no cell ${which}; there are ${cells.map((cell) => cell.model.id)}`);
const cell = cells[index];
"""


def open_notebook(page: Any, name: str, *, kernel: bool = True) -> None:
    """Open a notebook of the root folder and wait until its kernel is idle (or, without kernel, until it is drawn)."""
    lab = page.lab
    page.goto(f"{lab.url}/lab/tree/{quote(name)}?reset&token={lab.token}")
    page.wait_for_selector(".jp-NotebookPanel .jp-Cell")
    # Asked without promises: Playwright takes a promise for a yes.
    page.wait_for_function(
        """(kernel) => {
            const panel = window.jupyterapp?.shell.currentWidget;
            if (!panel?.context?.isReady || !panel.content?.widgets?.length) return false;
            const session = panel.sessionContext;
            const link = session.session?.kernel;
            return !kernel || (session.isReady && link?.connectionStatus === "connected" && link.status === "idle");
        }""",
        arg=kernel,
    )


def _in_cell(page: Any, which: int | str, body: str, **values: Any) -> Any:
    return page.evaluate(f"async ({{which, values}}) => {{ {FIND} {body} }}", {"which": which, "values": values})


def run_cell(page: Any, which: int | str, *, timeout_s: float = 300) -> None:
    """Run one cell and wait until it is done. Raises Playwright's TimeoutError after `timeout_s`."""
    _in_cell(page, which, "panel.content.activeCellIndex = index; panel.content.deselectAll();")
    _command(page, "notebook:run-cell", timeout_s)


def run_all(page: Any, *, timeout_s: float = 300) -> None:
    """Run every cell and wait until all are done, or one has raised."""
    _command(page, "notebook:run-all-cells", timeout_s)


def _command(page: Any, command: str, timeout_s: float) -> None:
    """Run one of JupyterLab's commands; its promise is kept when the cells are done."""
    page.evaluate(
        """(command) => {
            window.miPending = true;
            window.jupyterapp.commands.execute(command).finally(() => { window.miPending = false; });
        }""",
        command,
    )
    page.wait_for_function("() => window.miPending === false", timeout=1000 * timeout_s)


def set_source(page: Any, which: int | str, source: str) -> None:
    """Replace what stands in a cell, as if it had been typed."""
    _in_cell(page, which, "cell.model.sharedModel.setSource(values.source);", source=source)


def source_of(page: Any, which: int | str) -> str:
    """What stands in a cell."""
    return str(_in_cell(page, which, "return cell.model.sharedModel.getSource();"))


def save(page: Any) -> None:
    """Save the notebook in front."""
    page.evaluate("async () => { await window.jupyterapp.shell.currentWidget.context.save(); }")


def cell(page: Any, which: int | str) -> Any:
    """Playwright's handle on a cell's element."""
    index = _in_cell(page, which, "return index;")
    return page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Notebook .jp-Cell").nth(index)


def cell_output(page: Any, which: int | str) -> Any:
    """Playwright's handle on a cell's outputs."""
    return cell(page, which).locator(".jp-Cell-outputWrapper")


def cell_output_text(page: Any, which: int | str) -> str:
    """What can be read in a cell's outputs."""
    return str(cell_output(page, which).inner_text())


def screenshot(page: Any, path: str | Path, which: int | str | None = None) -> Path:
    """A picture of the page, or of one cell."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if which is None:
        page.screenshot(path=str(path))
    else:
        target = cell(page, which)
        target.scroll_into_view_if_needed()
        target.screenshot(path=str(path))
    return path
