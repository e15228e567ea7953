"""Captures and their palms, measured → a report, a figure, JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from palmforge.evaluation.finite import finite
from palmforge.evaluation.identity import FARS, Dial, Findings, Setting
from palmforge.evaluation.identity_figures import dial_figure, noise_figure, trade_figure
from palmforge.metrics.comparison import tar_key
from palmforge.plots import histogram_figure
from palmforge.report import Block, Cell, Heading, Paragraph, Plot, Rate, Report, Table

TITLE = "Is the palm kept?"
_REAL = "other captures, not generated"
_TRADE = "Farther right: captures of a palm are more alike. Farther up: they look more different."
_SPREAD = "Mean and standard deviation over captures; shaded: 5th to 95th percentile."
_NOTE = "In brackets: 95 % intervals, by resampling palms."


def summarize_identity(
    found: Findings, problems: Mapping[str, str], where: Mapping[str, Any], config_yaml: str
) -> Report:
    """The report; it shows no palm.

    Args:
        found: What was measured.
        problems: Path → why a reference was left out.
        where: Where it came from.
        config_yaml: The settings.
    """
    blocks: list[Block] = [Paragraph(remark) for remark in found.remarks]
    blocks.append(_judges(found))
    if found.dial:
        blocks += [Heading("The dial"), _dials(found), _achieved(found)]
        blocks.append(Plot("Asked and achieved", dial_figure(found), _SPREAD))
        blocks.append(_rates("Captures at each m", found, found.dial))
    title = "Sharing noise" if len(found.noise) > 1 else "Captures"
    blocks += [Heading(title), _rates("Captures at each K", found, found.noise), _looks(found)]
    if len(found.noise) > 1:
        blocks.append(Plot("What sharing noise changes", noise_figure(found)))
    if found.dial and len(found.noise) > 1:
        blocks += [Heading("Dial and sharing beside each other"),
                   Plot("Likeness and variety", trade_figure(found), _TRADE)]  # fmt: skip
    blocks += [
        Plot(f"Captures with one another, {judge.name}, {one.setting}",
             histogram_figure(one.scores, "distance"))
        for judge in found.judges for one in found.of(judge, found.noise[:1])
    ]  # fmt: skip
    if problems:
        rows = sorted(problems.items())[:50]
        note = f"{len(rows)} of {len(problems):,}; all are in problems.csv."
        named = Table("Paths left out", ["path", "reason"], rows, note, is_private=True)
        blocks += [Heading("Left out"), named]
    return Report(TITLE, "PalmForge", blocks, where, config_yaml)


def as_json(found: Findings) -> dict[str, Any]:
    """Figures, and nothing that JSON cannot say."""
    return finite({
        "recognisers": [
            {"name": one.name, "generator_learned_from_it": one.own, "similarity": one.unit}
            for one in found.judges
        ],
        "dial": [_dial(one) for one in found.dials],
        "captures": [
            {
                "recogniser": one.judge,
                "setting": None if one.setting is None else asdict(one.setting),
                "similarity_to_reference": float(one.to_reference.mean()),
                "similarity_to_reference_deviation": float(one.to_reference.std()),
                "count": len(one.to_reference),
                "similarity_within": one.within, "similarity_between": one.between,
                "vendi_score": one.vendi, "picture_spread": found.spread[one.setting],
                "among": one.among, "to_references": one.found,
            }
            for one in found.kept
        ],
        "remarks": found.remarks,
    })  # fmt: skip


def _dial(dial: Dial) -> dict[str, Any]:
    return {
        "recogniser": dial.judge, "spearman": dial.spearman._asdict(),
        "mean_absolute_error": dial.error,
        "achieved": [asdict(row) for row in dial.achieved],
    }  # fmt: skip


def _judges(found: Findings) -> Table:
    rows = [[one.name, "yes" if one.own else "no", one.unit] for one in found.judges]
    note = "What the generator learned to please proves little: look at the others."
    columns = ["recogniser", "the generator learned from it", "its similarity"]
    return Table("Recognisers", columns, rows, note)


def _dials(found: Findings) -> Table:
    rows: list[list[Cell]] = []
    for one, judge in zip(found.dials, found.judges, strict=True):
        low, high = one.spearman.low, one.spearman.high
        interval = "" if math.isnan(low) else f" ({low:.3f} to {high:.3f})"
        error = one.error if judge.is_cosine else None  # of codes it would be of other units
        rows.append([one.judge, f"{one.spearman.value:.3f}{interval}", error])
    columns = ["recogniser", "Spearman’s ρ", "mean |m − similarity|"]
    return Table("m and what came of it", columns, rows, f"Over all captures. {_NOTE}", "lrr")


def _achieved(found: Findings) -> Table:
    rows: list[list[Cell]] = [
        [one.judge, row.asked, row.mean, row.deviation, row.low, row.high, row.count]
        for one in found.dials for row in one.achieved
    ]  # fmt: skip
    columns = [
        "recogniser", "m", "mean similarity", "deviation", "5th percentile", "95th", "captures",
    ]  # fmt: skip
    return Table("Similarity of capture and reference", columns, rows)


def _rates(title: str, found: Findings, settings: Sequence[Setting]) -> Table:
    """A row each recogniser and setting, and one of what is not generated."""
    rows: list[list[Cell]] = []
    refused: set[str] = set()
    for judge in found.judges:
        for one in found.of(judge, [*settings, None]):
            rates = [_rate(one.among, "eer"), *(_rate(one.among, tar_key(far)) for far in FARS)]
            refused |= {far for far in map(tar_key, FARS) if far not in one.among}
            rows.append([
                judge.name, _REAL if one.setting is None else str(one.setting),
                one.among["dprime"], *rates, Rate(one.among["rank1"], digits=1),
                one.found["dprime"], Rate(one.found["rank1"], digits=1),
                float(one.to_reference.mean()),
            ])  # fmt: skip
    columns = [
        "recogniser", "captures", "d′", "EER", *(f"TAR at FAR {far:g}" for far in FARS),
        "rank 1", "d′ to references", "rank 1 among references", "similarity to reference",
    ]  # fmt: skip
    note = f"d′, EER, TAR, rank 1 (leave one out): captures with one another. {_NOTE}"
    if refused:
        note += " –: too few impostor pairs."
    return Table(title, columns, rows, note)


def _looks(found: Findings) -> Table:
    rows: list[list[Cell]] = []
    for judge in found.judges:
        for one in found.of(judge, list(dict.fromkeys([*found.dial, *found.noise, None]))):
            name = _REAL if one.setting is None else str(one.setting)
            spread = found.spread[one.setting]
            rows.append([judge.name, name, one.within, one.between, one.vendi, spread])
    note = (
        "Vendi score: effective number of different captures of a palm, by a recogniser whose "
        "templates are vectors. Grey levels: mean absolute difference of two captures of a palm, "
        "pixel by pixel."
    )
    columns = [
        "recogniser", "captures", "within a palm", "between palms", "Vendi score",
        "grey levels apart",
    ]  # fmt: skip
    return Table("Mean similarity of two captures, and how they look", columns, rows, note)


def _rate(figures: Mapping[str, float], key: str) -> Rate:
    return Rate(figures.get(key, math.nan), figures.get(f"{key}_low"), figures.get(f"{key}_high"))
