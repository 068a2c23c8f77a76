"""A grader process that marks one submission after another, on a node of a cluster.

    python -m mi_course.grading.cluster_worker sandboxed|unsandboxed

Reads requests, one JSON text per line, and answers each with a line: {"marks": ...}, or {"refused": reason} if this
node cannot mark anything. A process of its own, since a Dask worker has threads and marking needs a single one.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import threading
import time
import warnings
from typing import Any

from mi_course.grading.intake import Loaded
from mi_course.grading.sandbox import Sandbox, SandboxError
from mi_course.grading.store import course_fingerprint


def main() -> None:
    _exit_with_parent()
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not mix with the answers

    def answer(reply: dict[str, Any]) -> None:
        out.write(json.dumps(reply) + "\n")
        out.flush()

    try:
        with Sandbox.start(unsandboxed=sys.argv[1:] == ["unsandboxed"]) as sandbox:
            # Imported here, so that this process and the sandbox's server import torch at the same time.
            from mi_course.grading.bounded import limit_memory
            from mi_course.grading.marking import prepare

            prepare(sandbox)
            limit_memory()
            for line in sys.stdin:
                answer(_reply(json.loads(line), sandbox))
    except SandboxError as error:
        answer({"refused": str(error)})


def _reply(request: dict[str, Any], sandbox: Sandbox) -> dict[str, Any]:
    from mi_course.grading.marking import mark

    warnings.simplefilter("ignore")  # such as Python's about a learner's "\d"
    own = course_fingerprint()
    if request["fingerprint"] != own:
        difference = f"this node has {own}, the grader {request['fingerprint']}"
        return {"refused": f"The course differs here: {difference}. Install the same version on all nodes."}
    files = tuple((name, base64.b64decode(raw)) for name, raw in request["files"])
    loaded = Loaded(files, request["problem"], tuple(request["notes"]))
    marks = mark(request["name"], loaded, sandbox, bytes.fromhex(request["secret"]), request["lesson"])
    return {"marks": marks.to_json()}


def _exit_with_parent() -> None:
    """When the Dask worker is killed, so is this process, even in the middle of a submission."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main()
