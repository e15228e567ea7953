"""Figures and comparisons → a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from palmforge.data.records import PalmRecord
from palmforge.evaluation.figures import searched
from palmforge.evaluation.parts import RANK1, TEST, Part, Protocol
from palmforge.evaluation.run import Judged
from palmforge.metrics.comparison import ExtremePair, tar_key
from palmforge.metrics.open_set_identification import cmc, dir_curve
from palmforge.metrics.scores import ScoreCounts
from palmforge.plots import cmc_figure, det_figure, dir_figure, histogram_figure, roc_figure
from palmforge.report import (
    Block,
    Details,
    Heading,
    HeatMap,
    Pair,
    PairList,
    Paragraph,
    Plot,
    Rate,
    Report,
    Table,
)

TITLES = {
    "closed_set": "Closed-set verification and identification",
    "open_set": "Open-set verification",
    "identification": "Open-set identification",
    "cross_domain": "Cross-domain verification",
    "cross_database": "Cross-database verification",
}
_POINTS = 400  # of a curve; more cannot be seen
_NOTE = "In brackets: 95 % intervals, by resampling identities."

Rows = list[dict[str, Any]]
RoiOf = Callable[[PalmRecord], np.ndarray]


def summarize(
    protocol: Protocol,
    judged: Sequence[Judged],
    parts: Sequence[Part],
    figures: Mapping[str, Rows],
    remarks: Sequence[str],
    provenance: Mapping[str, Any],
    config_yaml: str | None,
    roi_of: RoiOf | None = None,
) -> Report:
    """The report of an evaluation.

    Args:
        protocol: Which.
        judged: Recognisers with their comparisons.
        parts: What they were compared on.
        figures: Of `all_figures`.
        remarks: Sentences on the data, for the start.
        provenance: Where it came from.
        config_yaml: The resolved config.
        roi_of: Gives the picture of a record; None: no picture in the report.
    """
    blocks: list[Block] = [Paragraph(remark) for remark in remarks]
    blocks.append(_recognisers(judged))
    blocks += _BODIES[protocol](judged, figures)
    if roi_of is not None:
        blocks += _pairs(judged, parts, roi_of)
    return Report(TITLES[protocol], "PalmForge", blocks, provenance, config_yaml)


def _recognisers(judged: Sequence[Judged]) -> Table:
    rows = [[one.name, one.template_bytes, one.embed_ms] for one in judged]
    return Table(
        "Recognisers",
        ["recogniser", "template, bytes", "ms a ROI"],
        rows,
        "Time of one ROI on the machine that evaluated, in batches of 64.",
    )


def _verified(judged: Sequence[Judged], figures: Mapping[str, Rows]) -> list[Block]:
    rows = figures["verification"]
    curves = {one.name: one.comparisons[TEST].counts() for one in judged}
    blocks: list[Block] = [Heading("Verification"), _rates_table("Test identities", rows)]
    if figures.get("fixed_thresholds"):
        blocks.append(_thresholds(figures["fixed_thresholds"]))
    return [*blocks, *_curves(curves)]


def _rates_table(title: str, rows: Rows, first: str = "recogniser") -> Table:
    keys = [
        key for key in rows[0] if key.startswith("tar@") and not key.endswith(("_low", "_high"))
    ]
    keys = [key for key in keys if any(key in row for row in rows)]
    refused = {key: reason for row in rows for key, reason in row["refused"].items()}
    table = []
    for row in rows:
        rates = [_rate(row, key) for key in ("eer", *keys)]
        counts = [int(row["num_genuine"]), int(row["num_impostor"])]
        table.append([row[first], *rates, row["dprime"], Rate(row["rank1"]), *counts])
    shown = [key.replace("tar@far=", "TAR at FAR ") for key in keys]
    note = _NOTE if any("eer_low" in row for row in rows) else ""
    for key, reason in refused.items():
        note += f" No {key.replace('tar@far=', 'TAR at FAR ')}: {reason}."
    columns = [first, "EER", *shown, "d′", "rank 1", "genuine pairs", "impostor pairs"]
    return Table(title, columns, table, note.strip())


def _rate(row: Mapping[str, Any], key: str) -> Rate:
    return Rate(row.get(key, float("nan")), row.get(f"{key}_low"), row.get(f"{key}_high"))


def _thresholds(rows: Rows) -> Table:
    table = [
        [
            row["recogniser"],
            row["aim"],
            row["threshold"],
            Rate(row["far"], digits=4),
            Rate(row["frr"]),
        ]
        for row in rows
    ]
    return Table(
        "Thresholds fixed on the validation identities",
        ["recogniser", "aim there", "threshold", "FAR on test", "FRR on test"],
        table,
        "What a system would see that is set up on some people and used by others.",
    )


def _curves(curves: Mapping[str, ScoreCounts]) -> list[Block]:
    histograms = [
        Plot(name, histogram_figure(counts, "distance")) for name, counts in curves.items()
    ]
    return [
        Plot("ROC", roc_figure(curves, _POINTS)),
        Plot("DET", det_figure(curves, _POINTS), "Both axes on a normal-deviate scale."),
        Details("Distances of genuine and impostor pairs", histograms),
    ]


def _closed(judged: Sequence[Judged], figures: Mapping[str, Rows]) -> list[Block]:
    blocks: list[Block] = [
        Heading("By domain"),
        Paragraph(
            "Verification: all pairs of test images. Rank 1: test images as probes, the training "
            "images as gallery."
        ),
    ]
    for one in judged:
        rows = [row for row in figures["verification"] if row["recogniser"] == one.name]
        table = _rates_table(one.name, rows, "part")
        mean = [float(np.mean([row["eer"] for row in rows])), np.mean([r["rank1"] for r in rows])]
        cells = ["mean", Rate(mean[0]), *[None] * (len(table.columns) - 2)]
        cells[table.columns.index("rank 1")] = Rate(float(mean[1]))
        blocks.append(Table(one.name, table.columns, [*table.rows, cells], table.note))
    counts = {
        one.name: _sum(
            c.counts() for part, c in one.comparisons.items() if not part.endswith(RANK1)
        )
        for one in judged
    }
    return [*blocks, Heading("All domains' pairs together"), *_curves(counts)]


def _sum(counts) -> ScoreCounts:
    total = ScoreCounts.from_histograms([], [])
    for one in counts:
        total = total + one
    return total


def _identified(judged: Sequence[Judged], figures: Mapping[str, Rows]) -> list[Block]:
    rows = figures["identification"]
    rates = {
        "FPIR": "fpir", "TPIR": "tpir", "rank 1": "rank1",
        "FPIR, fixed": "fixed_fpir", "TPIR, fixed": "fixed_tpir",
    }  # fmt: skip
    table = [
        [
            row["recogniser"],
            *(Rate(row.get(key, float("nan"))) for key in rates.values()),
            row["mated"],
            row["nonmated"],
        ]
        for row in rows
    ]
    note = (
        "TPIR: the enrolled palm comes first, within the threshold. Fixed: at the threshold that "
        "gives this FPIR on the validation identities, whose gallery has another size."
    )
    for reason in sorted({row["refused"] for row in rows if row["refused"]}):
        note += f" {reason}."
    columns = ["recogniser", *rates, "mated", "non-mated"]
    searches = {one.name: searched(one, TEST) for one in judged}
    curves = {name: dir_curve(s.mated, s.ranks, s.nonmated) for name, s in searches.items()}
    ranks = {name: cmc(s.ranks, 20) for name, s in searches.items()}
    return [
        Heading("Identification"),
        Table("Test identities", columns, table, note),
        Plot("Detection and identification rate", dir_figure(curves), "Rank 1."),
        Plot("Cumulative match characteristic", cmc_figure(ranks), "Mated probes, no threshold."),
    ]


def _matrix(judged: Sequence[Judged], figures: Mapping[str, Rows]) -> list[Block]:
    blocks: list[Block] = []
    means = []
    for one in judged:
        rows = {
            row["part"]: row for row in figures["verification"] if row["recogniser"] == one.name
        }
        domains = list(dict.fromkeys(part.split(" → ")[0] for part in rows))

        def values(key: str) -> list[list[float | None]]:
            cells = [[rows[f"{a} → {b}"].get(key) for b in domains] for a in domains]  # noqa: B023
            return [[None if v is None else 100 * v for v in row] for row in cells]

        eer, tar = np.array(values("eer")), tar_key(1e-2)
        inside = np.eye(len(domains), dtype=bool)
        means.append([one.name, eer[inside].mean() / 100, eer[~inside].mean() / 100])
        blocks += [
            Heading(one.name),
            HeatMap("EER, %", domains, domains, values("eer"), "enrolled ↓ probed →"),
            HeatMap("TAR at FAR 1e-2, %", domains, domains, values(tar), "enrolled ↓ probed →"),
        ]
    summary = Table(
        "Mean EER",
        ["recogniser", "within a domain", "across domains"],
        [[name, Rate(float(a)), Rate(float(b))] for name, a, b in means],
        "Within: all pairs of a domain's images. Across: one domain enrolled, another probed.",
    )
    return [Heading("Summary"), summary, *blocks]


def _pairs(judged: Sequence[Judged], parts: Sequence[Part], roi_of: RoiOf) -> list[Block]:
    """The genuine pairs farthest apart and the impostor pairs nearest, of the first parts."""
    by_name = {part.name: part for part in parts}
    blocks: list[Block] = [Heading("Where it goes wrong")]
    for one in judged:
        name = TEST if TEST in one.comparisons else next(iter(one.comparisons))
        worst, best = one.comparisons[name].extreme_pairs(6)
        for kind, found in (("Worst genuine pairs", worst), ("Best impostor pairs", best)):
            shown = [_pair(pair, by_name[name], roi_of) for pair in found]
            blocks.append(PairList(f"{one.name}, {name}: {kind.lower()}", shown))
    return blocks


def _pair(pair: ExtremePair, part: Part, roi_of: RoiOf) -> Pair:
    one, two = part.records[pair.first], part.records[pair.second]
    names = one.identity if one.identity == two.identity else f"{one.identity} and {two.identity}"
    return Pair(roi_of(one), roi_of(two), f"{names}: {pair.distance:.4g}")


_BODIES: dict[Protocol, Callable[[Sequence[Judged], Mapping[str, Rows]], list[Block]]] = {
    "closed_set": _closed,
    "open_set": _verified,
    "identification": _identified,
    "cross_domain": _matrix,
    "cross_database": _verified,
}
