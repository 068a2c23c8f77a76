"""Checks what works on this machine, and says what to do about the rest. Imports nothing slow, torch included."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import webbrowser
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from mi_course import content
from mi_course.interp.models import cache_dir, list_models
from mi_course.progress import home_dir

__all__ = ["Finding", "examine", "offline", "to_json"]

MODEL_MB = 700
"""Free space that the first load of SmolLM2 needs: 93 MB wheel, 91 MB GGUF, 269 MB stored, and room to spare."""
PROBE_S = 10.0


@dataclass(frozen=True)
class Finding:
    """One thing that was checked."""

    what: str
    state: str
    """ok, warn (the course works, something is missing or slower) or missing (some of the course does not work)."""
    seen: str
    todo: str = ""


def examine(*more: Callable[[], Finding]) -> list[Finding]:
    """Check everything that the course can use, in a second or so. more: checks from packages above this one."""
    checks: tuple[Callable[[], Finding], ...] = (
        _python,
        _torch,
        _accelerator,
        _transformer_lens,
        _versions,
        _model,
        _disk,
        _progress,
        _jupyter,
        _kernel,
        _browser,
        *more,
    )
    with ThreadPoolExecutor(len(checks)) as pool:
        return list(pool.map(_safely, checks))


def _safely(check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except Exception as error:  # a check that fails must not hide the others
        return Finding(check.__name__.strip("_"), "warn", f"could not be examined: {type(error).__name__}: {error}")


OFFLINE = """
import socket
connect, connect_ex, getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo
def local(socket, address):
    return not isinstance(address, tuple) or address[0] in ("127.0.0.1", "::1", "localhost")
def refusing(allowed, real):
    def call(*args, **options):
        if allowed(*args[:2]):
            return real(*args, **options)
        raise OSError("the network is off for this test")
    return call
socket.socket.connect, socket.socket.connect_ex = refusing(local, connect), refusing(local, connect_ex)
socket.getaddrinfo = refusing(lambda host, *rest: host in ("127.0.0.1", "::1", "localhost"), getaddrinfo)
import mi_course
model = mi_course.load_model()
assert model("A B C A B").shape[-1] == model.cfg.d_vocab
lesson = mi_course.lesson("start_here")
lesson.check(lesson.use("zero_head"), name="zero_head").raise_if_not_passed()
"""
IN_A_KERNEL = f"""
from jupyter_client.manager import start_new_kernel
manager, kernel = start_new_kernel(kernel_name="python3", startup_timeout=120)
try:
    reply = kernel.execute_interactive({OFFLINE!r}, allow_stdin=False, output_hook=lambda message: None)["content"]
finally:
    kernel.stop_channels()
    manager.shutdown_kernel(now=True)
if reply["status"] != "ok":
    raise SystemExit(f"{{reply['ename']}}: {{reply['evalue']}}".splitlines()[0])
"""
OFFLINE_S = 300.0


def offline() -> Finding:
    """Prove, in a kernel of its own with the network switched off, that the model loads and an exercise is checked."""
    model = _model()
    if model.state != "ok":
        return Finding("offline", "missing", f"SmolLM2 is {model.seen}", model.todo)
    with tempfile.TemporaryDirectory() as home:
        env = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        env |= {"MI_COURSE_HOME": home, "MI_COURSE_CACHE": str(cache_dir()), "MI_COURSE_WORKSHOP": "off"}
        env |= {"PIP_NO_INDEX": "1", "HF_HUB_OFFLINE": "1"}  # other processes, which the kernel could start
        try:
            done = subprocess.run(
                [sys.executable, "-c", IN_A_KERNEL], capture_output=True, text=True, timeout=OFFLINE_S, env=env
            )
        except subprocess.TimeoutExpired:
            return Finding(
                "offline", "missing", f"took longer than {OFFLINE_S:.0f} s", "Close other programs, try again."
            )
    if done.returncode == 0:
        return Finding("offline", "ok", "a kernel started, the model loaded, an exercise was checked, without network")
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return Finding("offline", "missing", last[:300], "Show this line to whoever leads the workshop.")


def to_json(findings: list[Finding]) -> str:
    return json.dumps([asdict(finding) for finding in findings], indent=1)


# ---------------------------------------------------------------------------------------------------------------------


def _python() -> Finding:
    seen = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {sys.executable}"
    if sys.prefix == sys.base_prefix:
        return Finding("Python", "warn", seen, "A virtual environment keeps the course apart: python -m venv .venv")
    return Finding("Python", "ok", seen)


def _torch() -> Finding:
    try:
        found = version("torch")
    except PackageNotFoundError:
        return Finding("torch", "missing", "not installed", "pip install mi-course -c constraints.txt")
    cores = os.cpu_count() or 1
    threads = os.environ.get("OMP_NUM_THREADS", f"up to {cores}")
    return Finding("torch", "ok", f"{found}, {_torch_build()}, {threads} threads")


def _torch_build() -> str:
    """From torch's own version file; importing torch takes seconds."""
    spec = find_spec("torch")
    file = Path(spec.origin).with_name("version.py") if spec and spec.origin else None
    text = file.read_text(encoding="utf-8") if file and file.is_file() else ""
    for name in ("cuda", "hip", "xpu"):
        found = re.search(rf"^{name}\b.*?=\s*['\"]([\d.]+)['\"]", text, re.MULTILINE)
        if found:
            return f"{name.upper()} {found[1]} build"
    return "MPS and CPU build" if sys.platform == "darwin" else "CPU build"


def _accelerator() -> Finding:
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return Finding("GPU", "ok", "none seen; the lessons are made for the CPU")
    listed = subprocess.run([smi, "-L"], capture_output=True, text=True, timeout=PROBE_S).stdout.strip()
    if not listed:
        return Finding("GPU", "ok", "nvidia-smi lists none; the lessons are made for the CPU")
    name = re.sub(r"\s*\(UUID.*", "", listed.splitlines()[0])
    if "CPU" in _torch_build():
        return Finding("GPU", "ok", f"{name}; torch is the CPU build, which the lessons are made for")
    return Finding("GPU", "ok", name)


def _transformer_lens() -> Finding:
    try:
        found = version("transformer-lens")
    except PackageNotFoundError:
        return Finding("TransformerLens", "missing", "not installed", "pip install mi-course -c constraints.txt")
    if not found.startswith("4."):
        return Finding("TransformerLens", "missing", found, 'pip install "transformer-lens>=4.3,<5"')
    return Finding("TransformerLens", "ok", found)


def _versions() -> Finding:
    """Installed versions against the tested ones."""
    file = content.constraints_file()
    if not file.is_file():
        return Finding(
            "versions", "warn", f"{file} is missing, so there is nothing to compare", "Install the course again."
        )
    pins = list(_pins(file.read_text(encoding="utf-8")))
    drifted = [f"{name} {found} (tested {pin})" for name, pin in pins if (found := _installed(name)) not in (pin, None)]
    if not drifted:
        return Finding("versions", "ok", f"all of the {len(pins)} tested versions that are installed agree")
    shown = ", ".join(drifted[:6]) + (f" and {len(drifted) - 6} more" if len(drifted) > 6 else "")
    return Finding("versions", "warn", shown, f"pip install mi-course -c {file} brings back the tested ones.")


def _pins(text: str) -> Iterator[tuple[str, str]]:
    """Name and version of each pin that applies here."""
    from packaging.requirements import InvalidRequirement, Requirement

    for line in text.splitlines():
        bare = line.partition(" #")[0].strip()
        if not bare or bare.startswith(("#", "-")):
            continue
        try:
            wanted = Requirement(bare)
        except InvalidRequirement:
            continue
        if wanted.marker is None or wanted.marker.evaluate():
            for pin in wanted.specifier:
                if pin.operator == "==":
                    yield wanted.name, pin.version


def _installed(name: str) -> str | None:
    """The version without its local part: 2.13.0 for 2.13.0+cpu."""
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return None


def _model() -> Finding:
    model = next((model for model in list_models() if model.name == "smollm2"), None)
    if model is not None and model.present:
        return Finding("SmolLM2", "ok", "fetched; it loads without network")
    return Finding(
        "SmolLM2", "warn", "not fetched yet", "mi-course models fetch smollm2 (93 MB, once; needs the network)"
    )


def _disk() -> Finding:
    folder = cache_dir()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    used = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else 0
    free = shutil.disk_usage(existing).free
    seen = f"{folder}: {used / 1e6:,.0f} MB used, {free / 1e9:,.1f} GB free"
    if not os.access(existing, os.W_OK):
        return Finding("model cache", "missing", f"{seen}, not writable", "Set MI_COURSE_CACHE to a folder that is.")
    if not used and free < MODEL_MB * 1e6:
        return Finding("model cache", "missing", seen, f"SmolLM2 needs {MODEL_MB} MB. MI_COURSE_CACHE moves the cache.")
    return Finding("model cache", "ok", seen)


def _progress() -> Finding:
    """Whether progress can be stored. Writes there, since permissions do not reveal a full disk."""
    home = home_dir()
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home) as file:
            file.write(b"\0" * 8192)
    except OSError as error:
        todo = "Checks work, but progress is lost. Set MI_COURSE_HOME to a writable folder."
        return Finding("progress", "warn", f"{home}: {error.strerror or error}", todo)
    return Finding("progress", "ok", str(home))


def _jupyter() -> Finding:
    found = _installed("jupyterlab")
    if found is None:
        return Finding("JupyterLab", "missing", "not installed", "pip install mi-course -c constraints.txt")
    for package in ("anywidget", "jupyterlab_widgets"):
        if _installed(package) is None:
            return Finding("JupyterLab", "warn", f"{found}, without {package}", f"pip install {package}")
    return Finding("JupyterLab", "ok", found)


def _kernel() -> Finding:
    """The kernel that a notebook's `python3` starts."""
    from jupyter_core.paths import jupyter_path

    if _installed("ipykernel") is None:
        return Finding("kernel", "missing", "ipykernel is not installed", "pip install ipykernel")
    for folder in jupyter_path("kernels"):
        file = Path(folder, "python3", "kernel.json")
        if file.is_file():
            python = json.loads(file.read_text(encoding="utf-8")).get("argv", [""])[0]
            if Path(python).name == python or Path(python) == Path(sys.executable):
                return Finding("kernel", "ok", f"python3 of this environment ({file})")
            if Path(folder).is_relative_to(sys.prefix):
                return Finding("kernel", "warn", f"{file} names {python}", "python -m ipykernel install --sys-prefix")
    return Finding("kernel", "ok", "python3 of this environment")


def _browser() -> Finding:
    try:
        return Finding("browser", "ok", getattr(webbrowser.get(), "name", "") or "the system's own")
    except webbrowser.Error:
        todo = "mi-course lab prints a URL: open it in a browser, or from another machine through ssh -L."
        return Finding("browser", "warn", "none found", todo)
