"""Render the documents and the executed lessons as a website: `python scripts/docs.py FOLDER`.

Uses nbconvert, which JupyterLab brings. A document becomes a notebook of one Markdown cell, so that all pages look
alike. Lessons are shown executed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter

ROOT = Path(__file__).resolve().parents[1]
_RELATIVE = re.compile(r"(\]\()(?!https?:|#|\.\./\.\./)([^)\s]+?)\.(md|ipynb)(?=[)#])")


def main(site: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", "*.md", "docs", "solutions/*.ipynb"],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    exporter = HTMLExporter()
    for name in filter(None, listed.stdout.split("\0")):
        page = site / re.sub(r"^solutions/", "notebooks/", name)
        if name.startswith((".github/", "tests/")):
            continue
        page.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".md"):
            text = _RELATIVE.sub(r"\1\2.html", (ROOT / name).read_text(encoding="utf-8"))
            notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])
        elif name.endswith(".ipynb"):
            notebook = nbformat.read(ROOT / name, as_version=4)
        elif name.endswith((".png", ".svg")):
            shutil.copy(ROOT / name, page)
            continue
        else:
            continue
        body, _ = exporter.from_notebook_node(notebook, resources={"metadata": {"name": page.stem}})
        page.with_suffix(".html").write_text(body, encoding="utf-8")
    shutil.copy(site / "README.html", site / "index.html")
    print(f"{len(list(site.rglob('*.html')))} pages in {site}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
