"""Build hooks: the course's content in the wheel, and links that also work outside the repository."""

import re
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

CONTENT = ("notebooks", "solutions", "data", "constraints.txt")


class ContentHook(BuildHookInterface):
    """Copies notebooks, solutions and data into the wheel. An editable install finds them in the clone."""

    def initialize(self, version: str, build_data: dict) -> None:
        if version != "editable":
            build_data["force_include"].update({name: f"mi_course/_content/{name}" for name in CONTENT})


class LinksHook(MetadataHookInterface):
    """Makes the project's URLs, and the README's relative links absolute, from the repository's address."""

    def update(self, metadata: dict) -> None:
        repository, tag = self.config["repository"], f"v{metadata['version']}"
        readme = Path(self.root, "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": absolute_links(readme, repository, tag)}
        metadata["urls"] = {
            "Repository": repository,
            "Documentation": f"{repository}/tree/{tag}/docs",
            "Issues": f"{repository}/issues",
            "Changelog": f"{repository}/blob/{tag}/CHANGELOG.md",
        }


def absolute_links(markdown: str, repository: str, tag: str) -> str:
    """The text with its relative links and pictures pointing into the repository at `tag`."""

    def absolute(match: re.Match[str]) -> str:
        opening, target = match.groups()
        if target.startswith("../../"):  # how a README on GitHub points at the repository's own pages
            return f"{opening}{repository}/{target.removeprefix('../../')}"
        kind = "raw" if target.endswith((".png", ".svg")) else "blob"
        return f"{opening}{repository}/{kind}/{tag}/{target}"

    return re.sub(r"(\]\()(?!https?:|mailto:|#)([^)\s]+)", absolute, markdown)
