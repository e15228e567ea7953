"""The floors of the house: nothing imports upward, and the lowest floor knows no Lightning."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from conftest import ROOT

SOURCE = ROOT / "src" / "palmforge"
FLOORS = (
    ("errors", "losses", "networks", "metrics", "plots"),
    ("data", "recognition", "localization", "search", "report", "evaluation", "export"),
    ("modules", "callbacks"),
    ("commands", "checkpoints"),
    ("cli",),
    ("front",),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# data.datamodule is the one place below the modules that is made of Lightning.
MAY_KNOW_LIGHTNING = {"modules", "callbacks", "commands", "checkpoints", "cli", "front"}


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


@pytest.mark.parametrize(
    "path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE))
)
def test_imports_go_down(path):
    room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    if room == "__init__":
        return
    for name in _imports(path):
        if name.startswith("palmforge."):
            other = name.split(".")[1]
            assert FLOOR_OF[other] <= FLOOR_OF[room], f"{room} imports {other}"
        if name.split(".")[0] == "lightning":
            assert room in MAY_KNOW_LIGHTNING or path.name == "datamodule.py"
