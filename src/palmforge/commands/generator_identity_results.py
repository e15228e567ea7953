"""What `generator identity` leaves: report, figures, montages, and a table on the screen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from rich.console import Console
from rich.table import Table as RichTable
from torch import Tensor

from palmforge.callbacks.run_report import provenance, write_problems
from palmforge.commands.generator_references import ReferencePalms
from palmforge.data.atomic import write_aside
from palmforge.evaluation.identity import Findings, Setting
from palmforge.evaluation.identity_pictures import identity_montage
from palmforge.evaluation.identity_summary import as_json, summarize_identity
from palmforge.report import Report, Table, write_report
from palmforge.report.wording import cell_words

IDENTITY = "identity.json"
Shown = dict[Setting, Tensor]  # captures of the first palms, [R, M, 3, S, S] uint8


def write_results(
    folder: Path,
    found: Findings,
    palms: ReferencePalms,
    shown: Shown,
    settings: dict[str, Any],
) -> None:
    """Writes them; `identity.json` last of all: where it is, the measurement is whole.

    Args:
        folder: Where to.
        found: What was measured.
        palms: The references.
        shown: Captures for the montages.
        settings: Of the command.
    """
    if palms.problems:
        write_problems(folder / "problems.csv", palms.problems)
    _write_montages(folder, found, palms, shown)
    where, plain = provenance(), _plain(settings)
    report = summarize_identity(
        found, palms.problems, where, yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
    )
    path = write_report(report, folder)
    content = {**plain, **as_json(found), "provenance": where}
    with write_aside(folder / IDENTITY) as aside:
        aside.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    _show(report, found.remarks, path)


def _show(report: Report, remarks: Sequence[str], path: Path) -> None:
    """Prints the report's tables."""
    console = Console(markup=False, highlight=False, width=max(160, Console().width))
    for remark in remarks:
        console.print(remark, soft_wrap=True)
    for block in report.blocks:
        if not isinstance(block, Table) or block.is_private:
            continue
        shown = RichTable(title=block.title, caption=block.note or None)
        for column, letter in zip(block.columns, block.alignment, strict=True):
            shown.add_column(column, justify="right" if letter == "r" else "left")
        for row in block.rows:
            words = (cell_words(cell) for cell in row)
            shown.add_row(*(f"{value} ({of})" if of else value for value, of in words))
        console.print(shown)
    console.print(str(path), soft_wrap=True)


def _write_montages(folder: Path, found: Findings, palms: ReferencePalms, shown: Shown) -> None:
    """A row is a palm: its captures at each K, and its first capture at each m."""
    count = len(next(iter(shown.values())))
    references = _pixels(palms.pictures[:count])
    sheets = {
        f"captures_k{setting.shared_steps}.png": (
            shown[setting], [str(n + 1) for n in range(shown[setting].shape[1])]
        )
        for setting in found.noise
    }  # fmt: skip
    if found.dial:
        first = torch.stack([shown[setting][:, 0] for setting in found.dial], 1)
        names = [f"m = {setting.similarity:g}" for setting in found.dial]
        sheets["captures_dial.png"] = (first, names)
    for name, (captures, columns) in sheets.items():
        sheet = identity_montage(references, _pixels(captures), columns)
        with write_aside(folder / name) as aside:
            sheet.save(aside)


def _pixels(pictures: Tensor) -> np.ndarray:
    """`[…, 3, S, S]` → `[…, S, S, 3]`."""
    return pictures.movedim(-3, -1).numpy()


def _plain(value: Any) -> Any:
    """What YAML and JSON can say."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
