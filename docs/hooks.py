"""What the site has beyond docs/*.md: the reference, pages from the root, links out of docs/."""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
# Pages of the site that lie elsewhere in the repository.
FROM_ROOT = {
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "benchmarks.md": "benchmarks/README.md",
}
_PAGE_OF = {place: page for page, place in FROM_ROOT.items()} | {"README.md": "index.md"}
_LINK = re.compile(r"(?P<text>!?\[[^\]]*\])\((?P<target>[^)\s#:]+)(?P<anchor>#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that no file in docs/ holds."""
    if str(ROOT / "scripts") not in sys.path:
        sys.path.insert(0, str(ROOT / "scripts"))
    import config_reference

    brought = {
        page: (ROOT / place).read_text(encoding="utf-8") for page, place in FROM_ROOT.items()
    }
    for name, text in config_reference.pages().items():
        brought[f"reference/{name}.md"] = text
    for page, text in brought.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leads links to a page of the site, to the repository, or names the file."""
    here = page.file.src_uri
    place = FROM_ROOT.get(here, f"docs/{here}")

    def led(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(place), match["target"]))
        inside = _PAGE_OF.get(target) or target.removeprefix("docs/")
        if files.get_file_from_path(inside) is not None:
            relative = posixpath.relpath(inside, posixpath.dirname(here) or ".")
            return f"{match['text']}({relative}{match['anchor'] or ''})"
        if not (ROOT / target).exists():
            return match[0]  # mkdocs says what is wrong with it
        base = str(config.extra.get("repository") or "").rstrip("/")
        if base:
            return f"{match['text']}({base}/blob/main/{target})"
        text = match["text"].strip("![]")
        return (
            text
            if text.strip("`") in (target, posixpath.basename(target))
            else f"{text} (`{target}`)"
        )

    parts = re.split(r"(^ *```.*?^ *```)", markdown, flags=re.MULTILINE | re.DOTALL)
    return "".join(
        part if part.lstrip().startswith("```") else _LINK.sub(led, _lists(part)) for part in parts
    )


def _lists(markdown: str) -> str:
    """Python-Markdown wants an empty line before a list; GitHub does not."""
    return re.sub(
        r"^(?![-*|\d\s>#])(.+)\n(?=(?:- |\d+\. ))", r"\1\n\n", markdown, flags=re.MULTILINE
    )
