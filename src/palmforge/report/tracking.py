"""A report's tables and plots for Weights & Biases."""

from __future__ import annotations

import io
import math
from numbers import Integral, Real
from typing import Any

from palmforge.report.document import Cell, HeatMap, PairList, Plot, Rate, Report, Table, walk
from palmforge.report.pictures import figure_png, thumbnail
from palmforge.report.wording import Slugs


def log_to_wandb(report: Report, run: Any, images: bool = False) -> None:
    """Logs tables and plots to a run, online or offline, as `report/<title>`.

    A column of rates becomes three of numbers in [0, 1]: `EER`, `EER low`, `EER high`. Text and
    config are not logged: the run has its own. Tables that name files of people stay here.

    Args:
        report: What to log.
        run: What `wandb.init` gave, or `WandbLogger.experiment`.
        images: Also the palms. They leave the machine if the run is online.
    """
    import wandb
    from PIL import Image

    slugs = Slugs()
    record: dict[str, Any] = {}
    for block in walk(report.blocks):
        if isinstance(block, Table) and block.is_private:
            continue
        if isinstance(block, (Table, HeatMap)):
            columns, rows = _numbers(block) if isinstance(block, Table) else _matrix(block)
            table = wandb.Table(columns=list(columns), data=rows, allow_mixed_types=True)
            record[f"report/{slugs(block.title)}"] = table
        elif isinstance(block, Plot):
            picture = Image.open(io.BytesIO(figure_png(block.figure)))
            record[f"report/{slugs(block.title)}"] = wandb.Image(picture, caption=block.caption)
        elif isinstance(block, PairList) and images:
            record[f"report/{slugs(block.title)}"] = [
                wandb.Image(_side_by_side(pair.left, pair.right), caption=pair.caption)
                for pair in block.shown
            ]
    if record:
        run.log(record)


def _numbers(table: Table) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows, rates split into three columns."""
    with_rates = [
        any(isinstance(row[column], Rate) for row in table.rows)
        for column in range(len(table.columns))
    ]
    columns: list[str] = []
    for name, split in zip(table.columns, with_rates, strict=True):
        columns += [name, f"{name} low", f"{name} high"] if split else [name]
    rows: list[list[Any]] = []
    for row in table.rows:
        cells: list[Any] = []
        for cell, split in zip(row, with_rates, strict=True):
            if isinstance(cell, Rate):
                cells += [_value(end) for end in (cell.value, cell.low, cell.high)]
            else:
                cells += [_value(cell), None, None] if split else [_value(cell)]
        rows.append(cells)
    return columns, rows


def _matrix(heat_map: HeatMap) -> tuple[list[str], list[list[Any]]]:
    rows = [
        [name, *(_value(value) for value in values)]
        for name, values in zip(heat_map.rows, heat_map.values, strict=True)
    ]
    return [heat_map.corner or "row", *heat_map.columns], rows


def _value(cell: Cell) -> str | int | float | bool | None:
    """A plain Python value; JSON has no NaN."""
    if isinstance(cell, (str, bool)) or not isinstance(cell, Real):
        return cell  # type: ignore[return-value]
    if isinstance(cell, Integral):
        return int(cell)
    return float(cell) if math.isfinite(cell) else None


def _side_by_side(left: Any, right: Any) -> Any:
    from PIL import Image

    parts = [thumbnail(left), thumbnail(right)]
    size = sum(part.width for part in parts) + 4, max(part.height for part in parts)
    picture = Image.new("RGB", size, "white")
    picture.paste(parts[0], (0, 0))
    picture.paste(parts[1], (parts[0].width + 4, 0))
    return picture
