"""The parts of a sandbox: the folder that it shows, the paths of this machine that it binds, the bwrap command."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from mi_course.content import data_dir
from mi_course.lessons import asking_modules, catalogue

__all__ = ["environment", "forget", "probe", "remove_at_exit", "server_command", "stage_files"]

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parents[1]
VISIBLE = ("wire", "asking", "interp", "show")


_removers: dict[str, subprocess.Popen[bytes]] = {}


def remove_at_exit(folder: str) -> None:
    """Remove the folder when this process ends, even if it is killed: a shell waits for the end of its input."""
    command = ["/bin/sh", "-c", 'read -r _; rm -rf -- "$1"', "sh", folder]
    with contextlib.suppress(OSError):
        _removers[folder] = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )


def forget(folder: str) -> None:
    """Remove the folder now."""
    shutil.rmtree(folder, ignore_errors=True)
    remover = _removers.pop(folder, None)
    if remover:
        remover.communicate()


def stage_files(folder: Path) -> None:
    """Copy what a sandbox may see: the visible packages, plug-ins' asking modules, models, the server. No truth."""
    skip = shutil.ignore_patterns("__pycache__")
    target = folder / "course" / "mi_course"
    target.mkdir(parents=True)
    for name in ("__init__.py", "errors.py", "version.py"):
        shutil.copyfile(PACKAGE / name, target / name)
    for name in VISIBLE:
        shutil.copytree(PACKAGE / name, target / name, ignore=skip)
    shutil.copytree(HERE / "inside", folder / "course" / "mi_sandbox", ignore=skip)
    for module in asking_modules():
        spec = find_spec(module)
        if spec is not None and spec.origin:
            copy = folder.joinpath("course", *module.split(".")).with_suffix(".py")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(spec.origin, copy)
    (folder / "course" / "data").mkdir()
    for path in data_dir().glob("*.safetensors"):
        shutil.copyfile(path, folder / "course" / "data" / path.name)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


def environment(folder: str) -> dict[str, str]:
    """Environment variables inside; none of the grader's own."""
    return {
        "PATH": os.defpath,
        "HOME": "/tmp",
        "LANG": "C.UTF-8",
        "PYTHONPATH": folder,
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "OMP_THREAD_LIMIT": "1",
        "MKL_NUM_THREADS": "1",
        "MPLBACKEND": "Agg",
        "ARROW_DEFAULT_MEMORY_POOL": "system",  # its own allocator starts a thread
        "MI_COURSE_CACHE": "/tmp/cache",
        "MI_COURSE_HOME": "/tmp/home",
        "HF_HUB_OFFLINE": "1",
    }


def server_command(folder: str, control: int, sandboxed: bool) -> list[str]:
    """The command that starts the server. control: a descriptor that it inherits."""
    server = ["-s", "-m", "mi_sandbox.server", str(control), "1" if sandboxed else "0"]
    if not sandboxed:
        return ["/usr/bin/env", f"PYTHONPATH={folder}/course", sys.executable, *server]
    binds, links = _system()
    binds[f"{folder}/course"] = "/course"
    masks = _masks(binds)
    hidden = {
        "folders": [_inside(path, binds) for path in masks if os.path.isdir(path)],
        "files": [_inside(path, binds) for path in masks if os.path.isfile(path)],
    }
    return _launch(binds, links, hidden, environment("/course"), server)


def probe(seconds: float) -> str:
    """Go through the whole isolation once, without torch or a submission. Returns what fails, or nothing.

    Raises OSError or subprocess.TimeoutExpired if nothing can be started.
    """
    binds, links = _system()
    binds[str(HERE / "inside" / "isolation.py")] = "/probe/isolation.py"
    command = _launch(binds, links, {"folders": [], "files": []}, {}, ["-I", "-S", "-c", _PROBE])
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL, cwd="/")
    output = (done.stdout.strip() or done.stderr.strip()).splitlines()
    return "" if output == ["fine"] else (output[-1] if output else f"exit status {done.returncode}")


_PROBE = """
import os, sys
sys.path.insert(0, "/probe")
sys.dont_write_bytecode = True
ours, theirs = os.pipe()
if os.fork() == 0:
    try:
        import isolation
        isolation.close_all_but(theirs)
        isolation.enter_namespaces()
        isolation.set_rlimits(10)
        isolation.install_seccomp_filter()
        os.write(theirs, b"fine")
    except BaseException as error:
        os.write(theirs, f"{error}".encode())
    os._exit(0)
os.close(theirs)
print(b"".join(iter(lambda: os.read(ours, 4096), b"")).decode())
"""


def _system() -> tuple[dict[str, str], list[tuple[str, str]]]:
    """What of this machine is bound (path here -> path inside), and symbolic links (target, path)."""
    binds: dict[str, str] = {}
    links = []
    for path in ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/sbin"):
        if os.path.islink(path):
            links.append((os.readlink(path), path))
        elif os.path.isdir(path):
            binds[path] = path
    for path in ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/nix/store"):
        if os.path.exists(path):
            binds[path] = path
    for path in dict.fromkeys((sys.base_prefix, sys.prefix, os.path.dirname(os.path.realpath(sys.executable)))):
        if _inside(path, binds) is None:
            # Every submission gets a /tmp of its own, which would hide an environment that is installed there.
            binds[path] = f"/env/{len(binds)}" if f"{path}/".startswith("/tmp/") else path
    return binds, links


def _launch(
    binds: Mapping[str, str],
    links: Sequence[tuple[str, str]],
    masks: Mapping[str, Sequence[str | None]],
    env: Mapping[str, str],
    args: Sequence[str],
) -> list[str]:
    """The command that runs Python with these arguments behind bubblewrap."""
    python = _inside(sys.executable, binds) or sys.executable
    plan = {"bwrap": shutil.which("bwrap"), "binds": binds, "links": links, "masks": masks, "env": env}
    return [sys.executable, "-I", "-S", str(HERE / "launch.py"), json.dumps({**plan, "command": [python, *args]})]


def _inside(path: str, binds: Mapping[str, str]) -> str | None:
    """The path inside of a path of this machine; None if it is not bound."""
    for source, target in binds.items():
        if path == source or path.startswith(f"{source}/"):
            return target + path[len(source) :]
    return None


def _masks(binds: Mapping[str, str]) -> list[str]:
    """Files and folders that are bound and hold truth: an installed course, plug-ins' lessons beside it."""
    paths = [str(PACKAGE)]
    for info in catalogue():
        if info.folder:
            paths.append(info.folder)
            try:
                spec = find_spec(info.module.partition(".")[0])
            except (ImportError, ValueError):
                spec = None
            if spec:
                paths += spec.submodule_search_locations or [spec.origin or ""]
    root = PACKAGE.parent
    if (root / "solutions").is_dir():  # a clone that holds its own environment
        paths += [str(root / name) for name in ("solutions", "tests", "notebooks")]
    return sorted({path for path in paths if os.path.exists(path) and any(path.startswith(f"{b}/") for b in binds)})
