#!/usr/bin/env python3
"""The configuration reference, out of the code: `python scripts/config_reference.py DIR`.

The site is built with these pages (docs/hooks.py), so they cannot be out of date. Names, types and
defaults are what jsonargparse takes, words those of the docstrings.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import lightning as L
from docstring_parser import parse
from jsonargparse import SUPPRESS, ArgumentParser, auto_parser

import palmforge.callbacks
import palmforge.modules
from palmforge import cli

HEAD = "| setting | type, default | what |\n|---|---|---|"
FOLDERS = {
    "experiment": "One file, one run: `--config configs/experiment/NAME.yaml`.",
    "ablation": "What differs, laid over an experiment by another `--config`.",
    "data": "Presets of data: `--data configs/data/NAME.yaml`.",
    "trainer": "Presets of machines: `--trainer configs/trainer/NAME.yaml`.",
    "logger": "Trackers: `--config configs/logger/NAME.yaml`.",
    "study": "Many runs, one table: `train.py study configs/study/NAME.yaml`.",
    "sweep": "Search spaces: `train.py sweep configs/sweep/NAME.yaml`.",
    "evaluation": "Protocols: `train.py evaluate --config configs/evaluation/NAME.yaml`.",
    "reference": "Figures of papers, which tables print beside ours.",
}


def pages() -> dict[str, str]:
    """Name of a page → its Markdown."""
    return {"configuration": classes(), "commands": commands(), "configs": configs()}


def classes() -> str:
    """All that a YAML can name: models, data, callbacks."""
    kinds = {"Models": _named(palmforge.modules), "Data": _datamodules()}
    kinds["Callbacks"] = _named(palmforge.callbacks)
    lines = [
        "# Settings",
        "Printed from the code when this site is built. A class stands in a YAML as `class_path:`, "
        "its settings below `init_args:`; on the command line a setting of the model is "
        "`--model.NAME=VALUE`, of the data `--data.NAME=VALUE`. `train.py fit --model.help CLASS` "
        "and `--data.help CLASS` say the same in the terminal.",
    ]
    for kind, members in kinds.items():
        lines.append(f"## {kind}")
        lines += [part for member in members for part in _class(member)]
    return "\n\n".join(lines) + "\n"


def commands() -> str:
    """All options of the subcommands, ours and Lightning's."""
    lines = [
        "# Commands",
        "Printed from the code when this site is built; `train.py COMMAND --help` says the same.",
        "## fit, validate, test, predict",
        "`--config FILE`, as often as wanted: the later one wins, and what is typed behind wins "
        "over files. `--model`, `--data` and `--trainer` take a class or a file; one setting is "
        "`--model.NAME`, `--data.NAME`, `--trainer.NAME`: [Settings](configuration.md), and "
        "[Lightning's Trainer](https://lightning.ai/docs/pytorch/stable/common/trainer.html). "
        "`--print_config` prints the whole config and ends. Besides:",
        "\n".join([HEAD, *_rows(_run_options(), prefix="--")]),
    ]
    for name, component in cli.own_commands().items():
        members = component if isinstance(component, dict) else {"": component}
        for member, function in members.items():
            full = f"{name} {member}".strip()
            lines.append(f"## {full}")
            lines.append(_markdown(parse(inspect.getdoc(function) or "").short_description or ""))
            by_name = bool({name, full} & set(cli._ALL_BY_NAME))
            parser = auto_parser(function, as_positional=not by_name)
            lines.append("\n".join([HEAD, *_rows(parser._actions, prefix="--")]))
    return "\n\n".join(lines) + "\n"


def configs() -> str:
    """The YAMLs in configs/, each by the first line of its comment."""
    lines = ["# Configs", "Printed from the files when this site is built."]
    base = ROOT / "configs" / "base.yaml"
    lines.append(f"`configs/base.yaml`: {_first_comment(base)}")
    for folder, words in FOLDERS.items():
        rows = [
            f"| [`{path.stem}`](../../configs/{folder}/{path.name}) | {_first_comment(path)} |"
            for path in sorted((ROOT / "configs" / folder).glob("*.yaml"))
        ]
        lines += [f"## {folder}", words, "\n".join(["| file | what |", "|---|---|", *rows])]
    return "\n\n".join(lines) + "\n"


def _named(module: Any) -> list[type]:
    return [getattr(module, name) for name in module.__all__]


def _datamodules() -> list[type]:
    """Those that the command line knows."""
    found: list[type] = []
    pending = [L.LightningDataModule]
    while pending:
        kind = pending.pop()
        pending += kind.__subclasses__()
        if kind.__module__.startswith("palmforge."):
            found.append(kind)
    return sorted(found, key=lambda kind: kind.__name__)


def _class(kind: type) -> Iterator[str]:
    yield f"### {kind.__name__}"
    said = parse(inspect.getdoc(kind) or "")
    yield _markdown(said.short_description or "")
    parser = ArgumentParser()
    parser.add_class_arguments(kind)
    rows = list(_rows(parser._actions))
    yield "\n".join([HEAD, *rows]) if rows else "It has no settings."


def _rows(actions: Any, prefix: str = "") -> Iterator[str]:
    for action in actions:
        default = action.default
        if action.dest in ("help", "config") or default == SUPPRESS:
            continue
        positional = not action.option_strings and prefix
        name = action.dest.upper() if positional else f"{prefix}{action.dest}"
        hint = getattr(action, "_typehint", action.type or str)
        needed = (positional and action.nargs is None) or getattr(action, "required", False)
        told = "required" if needed else f"`{_value(default)}`"
        words = _markdown(action.help or "").replace("\n", " ").replace("|", "\\|")
        yield f"| `{name}` | {_type(hint)}, {told} | {words} |"


class _OwnOptions(ArgumentParser):
    """Takes what PalmCLI adds to Lightning's options, and leaves Lightning's out."""

    def link_arguments(self, *_: Any, **__: Any) -> None:
        """Nothing is here to be linked."""

    def add_lightning_class_args(self, *_: Any) -> None:
        """Of callbacks that have a page of their own."""


def _run_options() -> list[Any]:
    parser = _OwnOptions()
    cli.PalmCLI.add_arguments_to_parser(None, parser)  # type: ignore[arg-type]
    parser.add_argument(
        "--seed_everything", type=bool | int, default=1, help="Of all that is random."
    )
    parser.add_argument(
        "--ckpt_path",
        type=str | None,
        default=None,
        help="A file, `last` or `best` of the newest run of this experiment that has one; "
        "`pretrained`: the weights that a model comes with. With `fit`: go on from there.",
    )
    return parser._actions


def _type(hint: Any) -> str:
    text = hint.__name__ if isinstance(hint, type) and not hasattr(hint, "__args__") else str(hint)
    text = re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", text)
    text = re.sub(r"Literal\[(.*?)\]", lambda m: m[1].replace("'", "").replace(", ", " · "), text)
    text = re.sub(r"Optional\[(.*)\]$", r"\1 | None", text)
    text = re.sub(r"Union\[(.*)\]$", lambda m: m[1].replace(", ", " | "), text)
    return "`" + text.replace("NoneType", "None").replace(" | ", " or ") + "`"


def _value(default: Any) -> str:
    if default is None or isinstance(default, bool):
        return {None: "null", True: "true", False: "false"}[default]
    if isinstance(default, (int, float, str, list, tuple, dict)):
        return str(list(default) if isinstance(default, tuple) else default) or "''"
    return type(default).__name__


def _markdown(words: str) -> str:
    """Docstrings are nearly Markdown: ``code``, :func:`names` and bare stars are not."""
    words = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", words).replace("``", "`")
    parts = re.split(r"(`[^`]*`)", words)
    return "".join(part if part.startswith("`") else _escaped(part) for part in parts)


def _escaped(words: str) -> str:
    words = re.sub(r"(\*\w+\*)|([*_\[\]])", lambda found: found[1] or "\\" + found[2], words)
    return words.replace("<", "&lt;")


def _first_comment(path: Path) -> str:
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            return _markdown(line.lstrip("# ").replace("|", "\\|"))
    return ""


def main(out: str) -> None:
    """Writes the pages to a folder."""
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
