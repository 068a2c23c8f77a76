"""A submission to mark, and what marks it: `Job` and `Backend`. Imports no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mi_course.grading.intake import Loaded
from mi_course.grading.marks import Failure, Marks

__all__ = ["SUBMISSION_S", "Backend", "Job", "content_hash"]

SUBMISSION_S = 1800.0
"""How long marking one submission may take, by the clock, before its worker is killed."""


@dataclass(frozen=True)
class Job:
    """One submission to mark, and all that its marks depend on besides the course itself."""

    name: str
    load: Callable[[], Loaded]
    """Reads the submission. Its content is not kept, so that a large class fits into memory."""
    lesson: str | int | None
    """The lesson it answers; None if its notebooks say so themselves."""
    secret: bytes = field(repr=False)
    """Seeds the inputs, together with the content."""


class Backend(Protocol):
    """Marks submissions: `workers.LocalBackend` on this machine, `cluster.DaskBackend` on many."""

    sandboxed: bool

    def mark_all(self, jobs: Sequence[Job], alone: bool = False) -> Iterator[tuple[int, Marks | Failure]]:
        """Yield (index in `jobs`, result) for each job, in the order in which they are done. alone: one at a time."""
        ...


def content_hash(loaded: Loaded) -> str:
    """A hash of file names and bytes: any change makes it another submission."""
    digest = hashlib.sha256()
    for name, raw in loaded.files:
        for part in (name.encode("utf-8", "surrogatepass"), raw):
            digest.update(len(part).to_bytes(8, "little") + part)
    digest.update(loaded.problem.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
