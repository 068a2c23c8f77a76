"""Puts notebooks, solutions and data into the wheel. An editable install finds them in the clone and needs no copy."""

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CONTENT = ("notebooks", "solutions", "data", "constraints.txt")


class ContentHook(BuildHookInterface):
    def initialize(self, version: str, build_data: dict) -> None:
        if version != "editable":
            build_data["force_include"].update({name: f"mi_course/_content/{name}" for name in CONTENT})
