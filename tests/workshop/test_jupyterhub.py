"""docs/jupyterhub_config.py with a real JupyterHub, in an environment of its own, run by an unprivileged user."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import workshop_kit as kit
from browser import browse
from require import require
from workshop_kit import eventually

from mi_course.interp.models import cache_dir

ROOT = Path(__file__).parents[2]
TEST_CONFIG = """
import os
os.environ.setdefault("PATH", "")
load_subconfig({config!r})
c.Authenticator.allowed_users = {{"u1", "u2", "ana"}}
# For tests only: whoever knows a name logs in, and all users are one user of the system.
c.JupyterHub.authenticator_class = "dummy"
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = {folder!r} + "/homes/{{username}}"
# What is installed here lies beside the Hub's environment, not in it.
c.Spawner.env_keep = ["PATH", "LANG", "OMP_NUM_THREADS", "JUPYTER_CONFIG_PATH", "JUPYTER_PATH", "JUPYTERLAB_DIR"]
c.JupyterHub.bind_url = "http://127.0.0.1:{port}"
c.JupyterHub.hub_port = {hub_port}
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{proxy_port}"
c.ConfigurableHTTPProxy.command = [{proxy!r}]
c.JupyterHub.services[0]["url"] = "http://127.0.0.1:{board_port}"
c.JupyterHub.services.append({{"name": "test", "api_token": "test-token"}})
c.JupyterHub.load_roles.append(
    {{"name": "test", "scopes": ["admin:users", "admin:servers"], "services": ["test"]}}
)
"""
MISTAKE = """
import mi_course
lesson = mi_course.lesson("start_here")
def zero_head(z, hook, head):
    z[..., head] = 0
    return z
display(lesson.check(zero_head))
"""
MEASURE = """
import mi_course, os
model = mi_course.load_model()
lines = dict(line.split(":", 1) for line in open("/proc/self/smaps_rollup") if ":" in line)
print("RSS", int(lines["Rss"].split()[0]) // 1024, "PRIVATE", int(lines["Private_Dirty"].split()[0]) // 1024)
"""


@pytest.fixture(scope="module")
def hub_tools(request):
    """Python with JupyterHub beside what is installed here, and the proxy from npm."""
    if not request.config.getoption("--all", default=False):
        pytest.skip("takes minutes: --all runs it")
    require("chromium")
    ready = os.environ.get("MI_COURSE_HUB_TOOLS")
    with tempfile.TemporaryDirectory(prefix="mi-hub-tools-") as new:
        os.chmod(new, 0o755)  # the Hub runs as another user, for whom pytest's own folder is closed
        yield installed_tools(Path(ready or new), bool(ready))


def installed_tools(folder: Path, ready: bool) -> tuple[Path, Path]:
    python, proxy = folder / "env/bin/python", folder / "node_modules/.bin/configurable-http-proxy"
    if not ready:
        require("npm", shutil.which("npm") is not None, "npm is missing: install Debian's `npm`.")
        subprocess.run([sys.executable, "-m", "venv", str(folder / "env")], check=True)
        for command in (
            [str(python), "-m", "pip", "install", "-q", "jupyterhub==6.1.1", "nbgitpuller"],
            ["npm", "install", "--silent", "--prefix", str(folder), "configurable-http-proxy@5"],
        ):
            got = subprocess.run(command, capture_output=True, text=True, timeout=600)
            require("jupyterhub", got.returncode == 0, f"JupyterHub cannot be installed here: {got.stderr[-500:]}")
    for site in (folder / "env/lib").glob("python3*/site-packages"):
        paths = [path for path in sys.path if path.endswith("site-packages")]
        (site / "beside.pth").write_text("\n".join([*paths, str(ROOT)]) + "\n")
    return python, proxy


class Hub:
    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, path: str, method: str = "GET", body: object = None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/hub/api/{path}", data=data, method=method)
        request.add_header("Authorization", "token test-token")
        with urllib.request.urlopen(request, timeout=60) as reply:
            text = reply.read()
            return json.loads(text) if text else None

    def start(self, user: str) -> float:
        """Start a user's server. Returns the seconds that it took."""
        start = time.monotonic()
        with contextlib.suppress(urllib.error.HTTPError):  # made from `allowed_users`
            self.ask(f"users/{user}", "POST", {})
        self.ask(f"users/{user}/server", "POST", {})
        eventually(lambda: self.ask(f"users/{user}")["servers"].get("", {}).get("ready"), 120)
        return time.monotonic() - start


@pytest.fixture(scope="module")
def hub(hub_tools):
    # Not below pytest's folder, which is closed to other users whenever a run of pytest begins.
    with tempfile.TemporaryDirectory(prefix="mi-hub-") as folder:
        yield from running_hub(hub_tools, Path(folder))


def running_hub(hub_tools, folder: Path):
    python, proxy = hub_tools
    port, hub_port, proxy_port, board_port = (kit.free_port() for _ in range(4))
    config = folder / "config.py"
    config.write_text(
        TEST_CONFIG.format(
            config=str(ROOT / "docs" / "jupyterhub_config.py"), folder=str(folder), port=port, hub_port=hub_port,
            proxy_port=proxy_port, proxy=str(proxy), board_port=board_port,
        )
    )  # fmt: skip
    (folder / "homes").mkdir()
    options: dict = {}
    if os.getuid() == 0:
        options = {"user": "nobody", "group": "nogroup", "extra_groups": []}
        for path in (folder, folder / "homes"):
            shutil.chown(path, "nobody", "nogroup")
    environment = {
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        "MI_HUB_URL": f"http://127.0.0.1:{port}",
        "MI_COURSE_WORKSHOP_CODE": "KQ7D2M4X",
        "MI_COURSE_CACHE": str(cache_dir()),
        "MI_COURSE_HOME": str(folder / "board"),
        "MI_HUB_LEADS": "ana",
        "OMP_NUM_THREADS": "1",
        "JUPYTER_CONFIG_PATH": f"{sys.prefix}/etc/jupyter",
        "JUPYTER_PATH": f"{sys.prefix}/share/jupyter",
        "JUPYTERLAB_DIR": f"{sys.prefix}/share/jupyter/lab",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        [str(python), "-m", "jupyterhub", "-f", str(config)],
        cwd=folder,
        env=environment,
        stdout=log,
        stderr=log,
        **options,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 150
        while not (kit.reachable(f"{url}/hub/api/") and kit.reachable(f"{url}/services/board/health")):
            assert process.poll() is None, "JupyterHub ended"
            assert time.monotonic() < until, "JupyterHub or the board did not start"
            time.sleep(1)
        made = Hub(url)
        made.folder = folder
        yield made
    except BaseException:
        lines = [
            line
            for line in (folder / "log").read_text().splitlines()
            if "[I " in line or "[E " in line or "Err" in line
        ]
        print("\n".join(lines[-60:]))
        raise
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def log_in(page, hub, user: str) -> None:
    page.goto(f"{hub.url}/hub/login?next=%2Fhub%2Fhome")
    page.fill("#username_input", user)
    page.fill("#password_input", "x")
    page.click("#login_submit")
    page.wait_for_url("**/hub/home")


def run_first_cell(page, source: str) -> str:
    """Replace the first code cell and run it. Returns what can be read below it."""
    cell = page.locator(".jp-Notebook .jp-CodeCell").first
    page.locator("text=/\\| Idle/").first.wait_for(timeout=180_000)  # a kernel that starts forgets what it was sent
    cell.locator(".cm-content").click(timeout=120_000)
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(source + "\nprint('the', 'end')")
    page.keyboard.press("Shift+Enter")
    cell.locator(".jp-OutputArea >> text=the end").wait_for(timeout=300_000)
    return cell.locator(".jp-Cell-outputWrapper").inner_text()


@pytest.mark.slow
@pytest.mark.browser
def test_the_course_and_its_board_on_a_jupyterhub(hub):
    seconds = {user: hub.start(user) for user in ("u1", "u2")}
    print("started in", seconds)
    memory = ""
    for user in ("u1", "u2"):
        home = hub.folder / "homes" / user
        assert (home / "mi-course" / "02_induction_heads.ipynb").exists(), "the course is there"
        with browse(hub.url, "") as lab:
            page = lab.page()
            log_in(page, hub, user)
            page.goto(f"{hub.url}/user/{user}/lab/tree/mi-course/00_start_here.ipynb")
            try:
                said = run_first_cell(page, MISTAKE + (MEASURE if user == "u1" else ""))
            except Exception:
                page.screenshot(path=os.environ.get("MI_COURSE_PICTURES", str(hub.folder)) + f"/hub-{user}.png")
                raise
            assert "This JupyterHub takes part in a workshop" in said
            assert "Not yet" in said
            memory = memory or said.partition("RSS")[2]
            eventually(lambda home=home: (home / ".local/share/mi-course/workshop/sent.json").exists(), 60)
        assert (home / ".local/share/mi-course/progress.sqlite3").exists(), "a progress file each"
    print("MB in memory:", memory)
    assert "PRIVATE" in memory, "a cache that others own is read"
    if os.getuid() == 0:
        assert cache_dir().stat().st_uid == 0, "the model is root's, the Hub and its users are nobody's"

    with browse(hub.url, "") as lab:
        ana = lab.page()
        log_in(ana, hub, "ana")
        ana.goto(f"{hub.url}/services/board/board")
        ana.wait_for_selector("#grid tbody tr")
        assert sorted(ana.locator("#grid tbody .who").all_inner_texts()) == ["u1", "u2"]
        ana.wait_for_selector("#mistakes .mistake, #grid td.s-wrong, #grid td.s-crashed")
        assert "mi_" not in ana.url, "no secret in the address bar"
    with browse(hub.url, "") as lab:
        pupil = lab.page()
        log_in(pupil, hub, "u1")
        reply = pupil.goto(f"{hub.url}/services/board/board")
        assert reply.status == 403
    status = kit.Visitor(f"{hub.url}/services/board")("api/board").status
    assert status == 403
