"""The exception of this package."""

from __future__ import annotations


class ModelError(Exception):
    """A model could not be found, fetched or read. The message is one paragraph: what was seen, and what to do next."""
