"""An audit as a report and as JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from palmforge.data.records import PalmRecord
from palmforge.evaluation.privacy import Audit, names
from palmforge.evaluation.privacy_pictures import Seen
from palmforge.metrics.privacy import Reach
from palmforge.metrics.scores import Floats
from palmforge.report import (
    Block,
    Cell,
    Heading,
    Pair,
    PairList,
    Paragraph,
    Plot,
    Rate,
    Report,
    Table,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TITLE = "Privacy audit"
_LISTED = 50  # leaks in the report; all are in audit.json
_WORDS = {  # (a leak was found, something is not measurable): the verdict in audit.json
    (True, True): "leaks", (True, False): "leaks", (False, True): "not measurable",
    (False, False): "passes",
}  # fmt: skip
PictureOf = Callable[[PalmRecord], np.ndarray]


def verdict(audit: Audit) -> str:
    """One line."""
    missing = "not measurable: " + "; ".join(audit.not_measurable) if audit.not_measurable else ""
    if audit.reasons:
        return "LEAKS: " + "; ".join(filter(None, (*audit.reasons, missing)))
    clean = (
        "no picture gives a training picture or palm away, at a false alarm rate of "
        f"{100 * audit.alpha:.2g} % a test"
    )
    return f"NO PASS: {clean}, but {missing}" if missing else f"passes: {clean}"


def as_json(audit: Audit, generated: Seen, training: Seen) -> dict[str, Any]:
    """Figures and every leak."""
    return {
        "verdict": _WORDS[bool(audit.reasons), bool(audit.not_measurable)],
        "reasons": audit.reasons,
        "not_measurable": audit.not_measurable,
        "alpha_per_test": audit.alpha,
        "leaks": names(audit.leaks, generated, training),
        "near_duplicates": asdict(audit.bits),
        "same_palm": asdict(audit.cosine),
        "matches": [asdict(one) for one in audit.matches],
        "membership": None if audit.membership is None else asdict(audit.membership),
        "no_membership": audit.no_membership,
        "self_test": audit.found,
        "seen_again": audit.seen_again,
    }


def summarize_audit(
    audit: Audit,
    sets: Mapping[str, Seen],
    remarks: Sequence[str],
    problems: Mapping[str, str],
    provenance: Mapping[str, Any],
    config_yaml: str,
    picture_of: tuple[PictureOf, PictureOf] | None = None,
) -> Report:
    """The report.

    Args:
        audit: What was found.
        sets: `generated`, `training` and `held_out`.
        remarks: Sentences on the data.
        problems: Path → why it was left out.
        provenance: Where it came from.
        config_yaml: The settings.
        picture_of: Read a generated and a training picture; None: no picture in the report.
    """
    generated, training = sets["generated"], sets["training"]
    blocks: list[Block] = [
        Paragraph(verdict(audit)), *(Paragraph(remark) for remark in remarks), _sets(sets),
        Heading("Single pictures"), _reaches(audit), _leaks(audit, generated, training),
    ]  # fmt: skip
    if picture_of is not None and audit.leaks:
        blocks.append(_pairs(audit, generated, training, picture_of))
    blocks += [
        Plot("Bits to the nearest training picture", _histogram(
            audit.generated.bits, audit.held_out.bits, audit.bits, "bits of the perceptual hash"
        )),
        Plot("Distance to the nearest training picture", _histogram(
            audit.generated.cosine, audit.held_out.cosine, audit.cosine, "cosine distance"
        )),
        _self_test(audit), Heading("All identities"), _matches(audit),
        Heading("Membership"), *_membership(audit),
    ]  # fmt: skip
    if problems:
        rows = sorted(problems.items())[:_LISTED]
        note = f"{len(rows)} of {len(problems):,}; all are in problems.csv."
        named = Table("Paths left out", ["path", "reason"], rows, note, is_private=True)
        blocks += [Heading("Left out"), named]
    return Report(TITLE, "PalmForge", blocks, provenance, config_yaml)


def _sets(sets: Mapping[str, Seen]) -> Table:
    rows: list[list[Cell]] = [
        [name.replace("_", "-"), len(one.records), len(one.identities), int(one.flat.sum())]
        for name, one in sets.items()
    ]
    note = "Pictures of one grey have no perceptual hash."
    return Table("Pictures", ["set", "pictures", "identities", "of one grey"], rows, note)


def _reaches(audit: Audit) -> Table:
    rows: list[list[Cell]] = []
    for name, one, values in (
        ("perceptual hash, bits", audit.bits, audit.generated.bits),
        ("recogniser, cosine distance", audit.cosine, audit.generated.cosine),
    ):
        below = int((values <= one.threshold).sum())
        rows.append(
            [name, float(values.min()), one.smallest, one.median, one.threshold, below]
        )  # fmt: skip
    return Table(
        "Distance to the nearest training picture",
        ["by", "generated, least", "held-out, least", "held-out, median", "leak at or below",
         "generated there"],
        rows,
        "No unrelated picture is expected so near: the lower tail of the held-out distances, drawn "
        f"on to one false alarm in {1 / audit.bits.false_alarms:,.0f} sets of "
        f"{audit.bits.pictures:,} pictures.",
    )  # fmt: skip


def _leaks(audit: Audit, generated: Seen, training: Seen) -> Table:
    found = names(audit.leaks[:_LISTED], generated, training)
    rows: list[list[Cell]] = [
        [one[key] for key in ("generated", "training", "kind", "distance")] for one in found
    ]
    note = f"{len(found)} of {len(audit.leaks):,}." if len(found) < len(audit.leaks) else ""
    columns = ["generated", "training", "kind", "distance"]
    return Table("Leaked pictures", columns, rows or [["none", None, None, None]], note)


def _pairs(audit: Audit, generated: Seen, training: Seen, read: tuple[PictureOf, ...]) -> PairList:
    pairs = []
    for leak in audit.leaks[:12]:
        ours, theirs = generated.records[leak.row], training.records[leak.training_row]
        caption = f"{ours.identity} and {theirs.identity}: {leak.kind}, {leak.distance:.4g}"
        pairs.append(Pair(read[0](ours), read[1](theirs), caption))
    return PairList("Leaked pictures, left, and training pictures", pairs)


def _self_test(audit: Audit) -> Table:
    rows: list[list[Cell]] = [[kind, Rate(share, digits=1)] for kind, share in audit.found.items()]
    rows.append(["another capture of the palm", _rate(audit.seen_again, digits=1)])
    return Table(
        "What it would have found",
        ["training pictures put in", "found"],
        rows,
        "Single pictures. What is not found here cannot be ruled out. Another capture: by the "
        "recogniser alone.",
    )


def _matches(audit: Audit) -> Table:
    rows: list[list[Cell]] = []
    notes = [
        "Exact 95 % intervals (Clopper and Pearson), exact one-sided test (Fisher). Visible: the "
        f"least share that would have been told from unrelated ones (p ≤ {audit.alpha:.2g})."
    ]
    for one in audit.matches:
        name, excess = f"{100 * one.fmr:g} %", one.excess
        if excess is None:
            rows.append([name, "not measurable", *[None] * 6])
            notes.append(f"FMR {name}: {one.refused}.")
            continue
        rows.append([
            name, one.threshold, _rate(one.of_all), one.images,
            Rate(excess.share, *excess.interval),
            Rate(excess.unrelated, *excess.unrelated_interval), f"{excess.p_value:.2g}",
            _rate(excess.visible),
        ])  # fmt: skip
    columns = [
        "FMR", "threshold", "generated", "pictures each", "generated, so many",
        "unrelated, so many", "p", "visible",
    ]  # fmt: skip
    return Table("Identities that match a training identity", columns, rows, " ".join(notes))


def _membership(audit: Audit) -> list[Block]:
    found = audit.membership
    if found is None:
        return [Paragraph(f"Not tested: {audit.no_membership}.")]
    row = [
        f"{found.auc:.3f} ({found.interval[0]:.3f}–{found.interval[1]:.3f})",
        f"{found.p_value:.2g}",
        None if found.tpr is None else Rate(found.tpr, *(found.tpr_interval or ())),
        *found.means,
    ]
    note = "95 % intervals by resampling identities. AUC 0.5: loss tells nothing."
    if found.refused:
        note += f" {found.refused}."
    columns = ["AUC", "p", "TPR at FPR 1 %", "mean loss, training", "mean loss, held-out"]
    return [Table("Denoising loss at fixed noise", columns, [row], note)]


def _rate(value: float | None, digits: int = 2) -> Rate | None:
    return None if value is None else Rate(value, digits=digits)


def _histogram(generated: Floats, held_out: Floats, limit: Reach, label: str) -> Figure:
    from matplotlib.figure import Figure

    from palmforge.plots import COLOURS

    told = [values[np.isfinite(values)] for values in (generated, held_out)]
    ends = np.concatenate([*told, [limit.threshold]])
    edges = np.linspace(float(ends.min()), float(ends.max()) or 1.0, 51)
    figure = Figure(figsize=(5.2, 3.4), layout="constrained")
    axes = figure.subplots()
    for values, name, colour in zip(told, ("generated", "held-out"), COLOURS, strict=False):
        shares = np.histogram(values, edges)[0] / max(1, values.size)
        axes.stairs(np.where(shares > 0, shares, math.nan), edges, color=colour, label=name)
    axes.axvline(limit.threshold, color="0.3", linewidth=1, linestyle="--", label="leak, at most")
    axes.set(xlabel=label, ylabel="share of pictures", yscale="log")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
    return figure
