"""A matplotlib figure as SVG to be put into a page: small, deterministic, in the page's colours."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from palmforge.plots import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Names of the page's colours (assets/report/report.css), which differ between light and dark.
THEME = dict(zip(COLOURS, ("blue", "vermilion", "green", "purple", "orange", "sky"), strict=False))

_XLINK = "{http://www.w3.org/1999/xlink}href"
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))


def figure_svg(figure: Figure, prefix: str, label: str) -> str:
    """An `<svg>` element.

    Text stays text and takes the page's font. Black, white and greys become the page's ink, paper
    and rules, and Okabe and Ito's colours its variants of them, so that both themes can be read.

    Args:
        figure: Left as it was.
        prefix: Of all ids in it; must differ between the figures of a page.
        label: What a screen reader says instead of it.
    """
    import matplotlib

    file = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": prefix}):
        figure.savefig(
            file, format="svg", bbox_inches="tight", transparent=True, metadata=_NO_METADATA
        )
    root = ElementTree.fromstring(file.getvalue())
    used = set(re.findall(rb"#([\w.-]+)[\")]", file.getvalue()))
    for parent in list(root.iter()):
        for child in list(parent):  # the style sheet would speak to the whole page
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    for element in root.iter():
        _adopt(element, prefix, {name.decode() for name in used})
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.attrib.update({"role": "img", "aria-label": label})
    return re.sub(r">\s+<", "><", ElementTree.tostring(root, encoding="unicode"))


def _adopt(element: ElementTree.Element, prefix: str, used: set[str]) -> None:
    """Takes off the namespace, and makes ids, colours, fonts and lengths those of the page."""
    element.tag = element.tag.partition("}")[2]
    attributes = element.attrib
    if _XLINK in attributes:
        attributes["href"] = attributes.pop(_XLINK)
    if attributes.get("href", "").startswith("#"):
        attributes["href"] = f"#{prefix}{attributes['href'][1:]}"
    if "id" in attributes and (name := attributes.pop("id")) in used:
        attributes["id"] = prefix + name
    for key, value in attributes.items():
        if key in ("clip-path", "style"):
            attributes[key] = _in_theme(value.replace("url(#", f"url(#{prefix}"))
        elif key == "d":  # a hundredth of a point is finer than any screen
            rounded = re.sub(r"\d+\.\d{3,}", lambda m: f"{float(m[0]):.2f}", value)
            attributes[key] = " ".join(rounded.split())


def _in_theme(style: str) -> str:
    style = re.sub(r"font-family:[^;]*;?\s*", "", style)
    return re.sub(r"#[0-9a-fA-F]{6}\b", lambda match: _colour(match[0]), style)


def _colour(code: str) -> str:
    if code.upper() in THEME:
        return f"var(--{THEME[code.upper()]})"
    red, green, blue = (int(code[at : at + 2], 16) for at in (1, 3, 5))
    if not red == green == blue:
        return code
    names = ((0x30, "ink"), (0x80, "soft"), (0xF8, "rule"), (0x100, "page"))
    return f"var(--{next(name for limit, name in names if red < limit)})"
