"""What tests of several rooms share."""

from __future__ import annotations

from tiny_plugin import built_plugin, plugin

__all__ = ["built_plugin", "plugin"]
