"""The site builds strictly: no dead link, no page that nothing leads to, nothing fetched."""

from __future__ import annotations

import ast
import logging
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from conftest import ROOT

import palmforge.callbacks
import palmforge.modules
from palmforge.cli import own_commands

pytest.importorskip("mkdocs", reason="the site needs mkdocs: pip install -r requirements-dev.txt")

REPOSITORY = "https://example.org/palmforge"


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Built as `make docs` builds it, with a repository to lead to."""
    from mkdocs.commands.build import build
    from mkdocs.config import load_config
    from mkdocs.exceptions import Abort

    folder = tmp_path_factory.mktemp("site")
    told: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: told.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("mkdocs").addHandler(handler)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_MKDOCS_2_WARNING", "1")
        patch.setenv("PALMFORGE_REPO_URL", REPOSITORY)
        config = load_config(str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(folder))
        config.plugins.on_startup(command="build", dirty=False)
        try:
            build(config)
        except Abort as error:
            pytest.fail(f"{error}\n" + "\n".join(told))
        finally:
            logging.getLogger("mkdocs").removeHandler(handler)
    return folder


class _Loaded(HTMLParser):
    """What a browser would fetch for a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        key = {"link": "href", "script": "src", "img": "src", "iframe": "src"}.get(tag)
        if tag == "link" and told.get("rel") in ("canonical", "prev", "next"):
            return
        if key and (where := told.get(key)):
            self.found.append(where)


def test_a_page_loads_nothing_from_elsewhere(site):
    for page in site.rglob("*.html"):
        loaded = _Loaded()
        loaded.feed(page.read_text(encoding="utf-8"))
        foreign = [where for where in loaded.found if re.match(r"(https?:)?//", where)]
        assert not foreign, f"{page.relative_to(site)}: {foreign}"


def test_every_class_and_command_stands_in_the_reference(site):
    settings = (site / "reference/configuration.html").read_text(encoding="utf-8")
    for name in [*palmforge.modules.__all__, *palmforge.callbacks.__all__, "PalmDataModule"]:
        assert f'<h3 id="{name.lower()}">' in settings, name
    assert "roi.source" in settings and "identities_per_batch" in settings
    commands = (site / "reference/commands.html").read_text(encoding="utf-8")
    for name, component in own_commands().items():
        for member in component if isinstance(component, dict) else ("",):
            full = f"{name} {member}".strip()
            assert f'<h2 id="{full.replace(" ", "-")}">' in commands, full


def test_every_config_stands_in_the_reference_with_what_it_is_for(site):
    listed = (site / "reference/configs.html").read_text(encoding="utf-8")
    for path in (ROOT / "configs").rglob("*.yaml"):
        if path.parent.name != "configs":
            assert f"{REPOSITORY}/blob/main/{path.relative_to(ROOT)}" in listed, path.name
    assert "<td></td>" not in listed, "a config without a first comment"


def test_links_out_of_the_docs_lead_to_the_repository_and_readmes_to_pages(site):
    export = (site / "export.html").read_text(encoding="utf-8")
    assert f"{REPOSITORY}/blob/main/examples/verify_onnx.py" in export
    assert 'href="benchmarks.html"' in (site / "data.html").read_text(encoding="utf-8")
    assert 'href="scale.html"' in (site / "benchmarks.html").read_text(encoding="utf-8")
    assert not (site / "hooks.py").exists()


def test_the_readme_fits_a_screen_and_its_links_are_there():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 80
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    assert targets and not [target for target in targets if not (ROOT / target).exists()]


def _quoted() -> list[str]:
    text = (ROOT / "docs" / "faq.md").read_text(encoding="utf-8")
    return re.findall(r"^- \*\*`([^`]+)`\*\*", text, flags=re.MULTILINE)


def _messages() -> list[str]:
    """All strings of the code; what a format string fills in is a gap, `\\0`."""
    found = []
    for path in (ROOT / "src" / "palmforge").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = (p.value if isinstance(p, ast.Constant) else "\0" for p in node.values)
                found.append("".join(map(str, parts)))
    return found


def test_the_errors_that_the_faq_explains_are_still_raised():
    quoted, messages = _quoted(), _messages()
    assert len(quoted) >= 25
    for quote in quoted:
        parts = [re.escape(part.strip(" ")) for part in quote.split("…") if part.strip()]
        pattern = re.compile(r".*?".join(parts), flags=re.DOTALL)
        assert any(pattern.search(message) for message in messages), f"nobody says: {quote}"
