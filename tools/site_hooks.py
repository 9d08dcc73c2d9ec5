"""What the site needs beyond docs/: the project's own pages and configs, notebooks as pages, and links that fit both places.

The pages link to one another as files of the project, so that they can be read on a code host; here the links are brought to the
site. mkdocs calls these functions by their names (see mkdocs.yml).
"""

from __future__ import annotations

import json
import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}  # in the project -> on the site
LINK = re.compile(r"\]\((?!\w+:|#)(?P<path>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")
FROM_ELSEWHERE = re.compile(r"<(?:script|link|img|iframe|video|source)\b[^>]*\b(?:src|href)=\"(?:https?:)?//[^\"]*")
log = logging.getLogger("mkdocs.hooks.site")  # a warning here fails `mkdocs build --strict`


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files of the project that pages link to, and a page for each notebook."""
    for path, uri in PAGES.items():
        files.append(File.generated(config, uri, content=(ROOT / path).read_text(encoding="utf-8")))
    for path in sorted((ROOT / "configs").rglob("*.yaml")):
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    for path in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        uri = path.relative_to(ROOT / "docs").with_suffix(".md").as_posix()
        files.append(File.generated(config, uri, content=notebook_page(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Bring links between files of the project to where those files are on the site."""
    del config, files
    uri = page.file.src_uri
    if uri.startswith("notebooks/"):
        return markdown
    here = next((path for path, other in PAGES.items() if other == uri), f"docs/{uri}")

    def moved(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(here), link["path"]))
        place = place_on_site(target)
        if place is None:
            return link[0]  # mkdocs says what is wrong with it
        return f"]({posixpath.relpath(place, posixpath.dirname(uri) or '.')}{link['anchor'] or ''})"

    return LINK.sub(moved, markdown)


def place_on_site(target: str) -> str | None:
    """Where a file of the project lies on the site; None where it does not."""
    if target.startswith("docs/notebooks/") and target.endswith(".ipynb"):
        return target.removeprefix("docs/").removesuffix(".ipynb") + ".md"
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    return target if target.startswith("configs/") and (ROOT / target).is_file() else PAGES.get(target)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Warn where a page would load anything from another host: the site has to work without a network."""
    del config
    for found in FROM_ELSEWHERE.findall(output):
        log.warning(f"{page.file.src_uri} loads from another host: {found}")
    return output


def notebook_page(path: Path) -> str:
    """A notebook's cells as Markdown, headed by a link to the file itself."""
    cells: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    parts = [f"```python\n{source(cell)}\n```" if cell["cell_type"] == "code" else source(cell) for cell in cells]
    heading, *rest = parts
    return "\n\n".join([heading, f"*This page is a notebook: [download it]({path.name}).*", *rest]) + "\n"


def source(cell: dict[str, Any]) -> str:
    """The text of a cell, which a notebook may hold as lines."""
    return cell["source"] if isinstance(cell["source"], str) else "".join(cell["source"])
