"""A test of de-identification → the paper's tables, beside the paper's figures; JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from palmforge.errors import ConfigError
from palmforge.evaluation.deidentification import Left
from palmforge.evaluation.deidentification_figures import diversity_figure
from palmforge.evaluation.deidentification_findings import DeidentificationFindings
from palmforge.evaluation.deidentified_folder import QUALITY, USABILITY
from palmforge.evaluation.finite import finite
from palmforge.metrics.image_quality import mean_and_deviation
from palmforge.metrics.scores import Floats
from palmforge.report import Block, Cell, Heading, Paragraph, Plot, Rate, Report, Table

TITLE, LEFT_OUT = "What is left of a palm", "Left out"
_LISTED = 50
_RATES = (
    "RR: rejected at the threshold of the EER among originals. DIR: 0 % like another picture of "
    "the palm, 100 % like a stranger's; in brackets 95 % of resampled identities. “of its hand”: "
    "against all originals of the hand, its source among them. Acc: rank 1, originals as gallery."
)
_QUALITY_WORDS = ("SSIM", "MS-SSIM", "PSNR, dB")
_USABILITY_WORDS = (
    "hand detection", "2-D key points", "3-D key points", "ROI", "hand segmentation",
)  # fmt: skip


@dataclass(frozen=True)
class Reference:
    """Figures of a paper.

    Attributes:
        source: Which paper, which data.
        methods: Method → `recognisers` (name → RR, DIR, Acc), `quality` and `usability`.
    """

    source: str
    methods: dict[str, dict[str, Any]]

    def rates(self, method: str, recogniser: str) -> str:
        """`RR / DIR / Acc`, or nothing."""
        return _slashed(self.methods.get(method, {}).get("recognisers", {}).get(recogniser))

    def row(self, method: str, table: str) -> str:
        """All of a table's row, or nothing."""
        return _slashed(self.methods.get(method, {}).get(table))


def load_deidentification_reference(path: str) -> Reference:
    """Reads configs/reference/*.yaml.

    Raises:
        ConfigError: If it cannot be read or is something else.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        return Reference(str(content["source"]), dict(content["methods"]))
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"DeidentificationReport.reference: {path}: {error!r}") from error


def summarize_deidentification(
    found: DeidentificationFindings,
    names: tuple[str, str],
    reference: Reference | None,
    more: Sequence[Block],
    problems: Mapping[str, str],
    where: Mapping[str, Any],
) -> Report:
    """The report; it shows no palm.

    Args:
        found: What was found.
        names: What the perceptual and the Fréchet distance are called.
        reference: A paper's figures.
        more: Further sections, before what was left out.
        problems: Photograph → why it is in no figure.
        where: Where it came from.
    """
    blocks: list[Block] = [Paragraph(remark) for remark in found.remarks]
    blocks += [
        Heading("Recognisers (Tables II and V)"), _recognition(found, reference),
        Heading("Quality (Tables III and VI)"), _quality(found, names, reference),
        Heading("Use (Tables IV and VII)"), _usability(found, reference),
    ]  # fmt: skip
    if found.diversity:
        blocks += [Heading("Diversity (Fig. 5) and linking"), _linking(found)]
        blocks += [Plot(one.recogniser, diversity_figure(one)) for one in found.diversity]
    if found.probes:
        blocks += [Heading("What the model is told of the palm"), _probes(found)]
    blocks += more
    if problems:
        rows = sorted(problems.items())[:_LISTED]
        note = f"{len(rows)} of {len(problems):,}; all are in problems.csv."
        named = Table(LEFT_OUT, ["photograph", "reason"], rows, note, is_private=True)
        blocks += [Heading(LEFT_OUT), named]
    return Report(TITLE, "PalmForge", blocks, where)


def figures_of(found: DeidentificationFindings) -> dict[str, float]:
    """What trackers get: `method/recogniser/dir` and so on, rates in [0, 1], DIR in percent."""
    figures: dict[str, float] = {}
    for one in found.left:
        place = f"{one.method}/{one.recogniser}"
        figures |= {
            f"{place}/rejection_rate": one.own_source.rejection_rate,
            f"{place}/deidentification_ratio": one.own_source.ratio,
            f"{place}/accuracy": one.accuracy,
        }
    for method, values in found.quality.items():
        means = zip(QUALITY, values.T, strict=True)
        figures |= {f"{method}/{name}": mean_and_deviation(v).mean for name, v in means}
        figures[f"{method}/frechet"] = found.frechet[method]
    return figures


def as_json(found: DeidentificationFindings) -> dict[str, Any]:
    """All figures, and nothing that JSON cannot say."""
    return finite({
        "photographs": found.num_photographs, "identities": found.num_identities,
        "variants": found.num_variants, "remarks": found.remarks,
        "recognition": [
            {
                "method": one.method, "recogniser": one.recogniser,
                "own_source": asdict(one.own_source), "same_identity": asdict(one.same_identity),
                "ratio_interval": one.interval, "accuracy": one.accuracy,
                "accuracy_without_source": one.accuracy_without_source,
            }
            for one in found.left
        ],
        "quality": {m: _means(QUALITY, values) for m, values in found.quality.items()},
        "frechet": found.frechet,
        "usability": {
            m: {**_means(USABILITY, values), "lost": float(np.isnan(values[:, 0]).mean())}
            for m, values in found.usability.items()
        },
        "linking": [
            {
                "recogniser": one.recogniser, "reading": reading,
                "system": kept.system, "shuffled": kept.shuffled,
                "shuffled_high": kept.shuffled_high,
            }
            for one in found.diversity
            for reading in ("of_one_photograph", "of_one_hand")
            if (kept := getattr(one.linkages, reading)) is not None
        ],
        "probes": {name: asdict(probe) for name, probe in found.probes.items()},
    })  # fmt: skip


def _recognition(found: DeidentificationFindings, reference: Reference | None) -> Table:
    columns = ["method", "recogniser", "RR", "DIR", "DIR of its hand", "Acc", "Acc, no source"]
    rows: list[list[Cell]] = [
        [
            method, name, Rate(one.own_source.rejection_rate), _ratio(one),
            f"{one.same_identity.ratio:.1f} %", Rate(one.accuracy),
            Rate(one.accuracy_without_source),
        ]
        for method in found.methods
        for name in found.recognisers
        for one in (found.of(method, name),)
    ]  # fmt: skip
    note = _RATES
    if reference is not None:
        columns.append("RR / DIR / Acc there")
        for row in rows:
            row.append(reference.rates(str(row[0]), str(row[1])))
        note += f" There: {reference.source}."
    align = "llrrrrr" + "r" * (reference is not None)
    return Table("What recognisers still know", columns, rows, note, align)


def _ratio(one: Left) -> str:
    low, high = one.interval
    interval = "" if math.isnan(low) else f" ({low:.1f} to {high:.1f})"
    return f"{one.own_source.ratio:.1f} %{interval}"


def _quality(
    found: DeidentificationFindings, names: tuple[str, str], reference: Reference | None
) -> Table:
    columns = ["method", *_QUALITY_WORDS, *names]
    rows: list[list[Cell]] = [
        [method, *_cells(values, 4), f"{found.frechet[method]:.4g}"]
        for method, values in found.quality.items()
    ]
    note = (
        "Mean ± standard deviation over photographs, of the square around the hand: what was not "
        "changed counts too."
    )
    return _beside(Table("Quality", columns, rows, note), reference, "quality")


def _usability(found: DeidentificationFindings, reference: Reference | None) -> Table:
    columns = ["method", *_USABILITY_WORDS, "hands lost"]
    rows: list[list[Cell]] = [
        [method, *_cells(values, 3), Rate(float(np.isnan(values[:, 0]).mean()))]
        for method, values in found.usability.items()
    ]
    note = (
        "Mean absolute differences in percent of the picture, less is better; of the hands that "
        "are found again."
    )
    return _beside(Table("Use", columns, rows, note), reference, "usability")


def _beside(table: Table, reference: Reference | None, which: str) -> Table:
    """With the paper's row."""
    align = "l" + "r" * (len(table.columns) - 1)
    if reference is None:
        return Table(table.title, table.columns, table.rows, table.note, align)
    rows = [[*row, reference.row(str(row[0]), which)] for row in table.rows]
    note = f"{table.note} There: {reference.source}, in the same order."
    return Table(table.title, [*table.columns, "there"], rows, note, align + "r")


def _linking(found: DeidentificationFindings) -> Table:
    rows: list[list[Cell]] = []
    words = {
        "of_one_photograph": "variants of one photograph",
        "of_one_hand": "photographs of one hand",
    }
    for one in found.diversity:
        for reading, told in words.items():
            kept = getattr(one.linkages, reading)
            if kept is None:
                rows.append([one.recogniser, told, None, one.linkages.refused[reading]])
            else:
                chance = f"{kept.shuffled:.3f}, 95 % below {kept.shuffled_high:.3f}"
                rows.append([one.recogniser, told, kept.system, chance])
    note = (
        "D↔sys of Gomez-Barrero et al. 2018 among de-identified pictures: 0 nothing links them, 1 "
        "all do. With few pairs chance gives more than 0."
    )
    columns = ["recogniser", "linked are", "D↔sys", "of shuffled pairs"]
    return Table("Can results be brought together?", columns, rows, note, "llrr")


def _probes(found: DeidentificationFindings) -> Table:
    rows: list[list[Cell]] = [
        [name, Rate(one.accuracy, *one.interval), Rate(one.chance), one.num_classes, one.num_test]
        for name, one in found.probes.items()
    ]
    note = "A linear probe trained on every other capture names the palm of the rest."
    columns = ["of", "named rightly", "by chance", "palms", "captures"]
    return Table("Identity in vectors", columns, rows, note, "lrrrr")


def _cells(values: Floats, digits: int) -> list[str]:
    found = [mean_and_deviation(column) for column in values.T]
    return [
        f"{one.mean:.{digits}g} ± {one.deviation:.{max(1, digits - 1)}g}" if one.count else "–"
        for one in found
    ]


def _means(names: Sequence[str], values: Floats) -> dict[str, Any]:
    return {name: asdict(mean_and_deviation(v)) for name, v in zip(names, values.T, strict=True)}


def _slashed(values: Sequence[float] | None) -> str:
    return " / ".join(f"{value:g}" for value in values) if values else "–"
