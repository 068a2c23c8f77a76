"""A grader that is handed one submission after the other: what runs on each node of a cluster.

    python -m mi_course.grading.cluster_worker sandboxed|unsandboxed

Reads jobs, one JSON text on a line, and answers each with a line: {"marks": ...}, or {"refused": reason} where this
node cannot mark anything. A process of its own, since a Dask worker has threads, and marking is for one thread.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mi_course.grading.intake import Loaded

__all__ = ["job_of"]


def job_of(name: str, loaded: Loaded, lesson: str | int | None, secret: bytes, fingerprint: str) -> str:
    """All that a node needs in order to mark one submission, as one line."""
    files = [[file, base64.b64encode(raw).decode()] for file, raw in loaded.files]
    told = {"name": name, "files": files, "problem": loaded.problem, "notes": list(loaded.notes), "lesson": lesson}
    return json.dumps({**told, "secret": secret.hex(), "fingerprint": fingerprint})


def main() -> None:
    _end_with_the_parent()
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    from mi_course.grading import prepare
    from mi_course.grading.sandbox import Sandbox, SandboxError

    def answer(told: dict[str, Any]) -> None:
        out.write(json.dumps(told) + "\n")
        out.flush()

    try:
        with Sandbox.start(unsandboxed=sys.argv[1:] == ["unsandboxed"]) as sandbox:
            import torch

            torch.set_num_threads(1)
            prepare(sandbox)
            for line in sys.stdin:
                answer(_marked(json.loads(line), sandbox))
    except SandboxError as error:
        answer({"refused": str(error)})


def _marked(job: dict[str, Any], sandbox: Any) -> dict[str, Any]:
    import warnings

    from mi_course.grading.intake import Loaded
    from mi_course.grading.marking import mark
    from mi_course.grading.store import course_fingerprint

    warnings.simplefilter("ignore")  # Python warns of what it parses: a learner's `"\\d"` is no concern of ours
    if job["fingerprint"] != course_fingerprint():
        here = f"this node has {course_fingerprint()}, the grader {job['fingerprint']}"
        return {"refused": f"The course is another one here: {here}. Install the same version on all nodes."}
    files = tuple((name, base64.b64decode(raw)) for name, raw in job["files"])
    loaded = Loaded(files, job["problem"], tuple(job["notes"]))
    return {"marks": mark(job["name"], loaded, sandbox, bytes.fromhex(job["secret"]), job["lesson"]).to_json()}


def _end_with_the_parent() -> None:
    """A killed Dask worker takes this process with it, in the middle of a submission too."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main()
