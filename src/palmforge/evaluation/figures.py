"""Comparisons → plain numbers, as they stand in `results.json` and in the tables."""

from __future__ import annotations

from typing import Any

from palmforge.errors import DataError
from palmforge.evaluation.parts import RANK1, TEST, VALIDATION, Protocol
from palmforge.evaluation.run import Judged
from palmforge.metrics.comparison import Comparison, Searches
from palmforge.metrics.open_set_identification import (
    cmc,
    fpir_at,
    fpir_refusal,
    fpir_threshold,
    tpir_at,
    tpir_at_fpir,
)


def verification(name: str, part: str, comparison: Comparison) -> dict[str, Any]:
    """The figures of `Comparison.figures`, and what was refused.

    Raises:
        DataError: If there is no genuine or no impostor pair.
    """
    counts = comparison.counts()
    for kind, pairs in (("genuine", counts.num_genuine), ("impostor", counts.num_impostor)):
        if not pairs:
            raise DataError(
                f"{part}: there is no {kind} pair, so there is nothing to verify. An evaluation "
                "needs two identities or more, and two images of some"
            )
    figures = comparison.figures()
    return {"recogniser": name, "part": part, **figures, "refused": dict(comparison.refused)}


def fixed_thresholds(judged: Judged) -> list[dict[str, Any]]:
    """Thresholds that give a FAR on the validation identities, and what they do to the test ones.

    FARs that the validation pairs cannot support are left out.
    """
    validation, test = judged.comparisons[VALIDATION].counts(), judged.comparisons[TEST].counts()
    if not validation.num_genuine or not validation.num_impostor:
        return []
    wanted = {"EER": validation.equal_error_rate()[1]}
    for far in judged.comparisons[VALIDATION].fars:
        if validation.far_refusal(far) is None:
            wanted[f"FAR {far:g}"] = validation.threshold_at_far(far)
    rows = []
    for aim, threshold in wanted.items():
        far, frr = test.rates_at(threshold)
        rows.append({
            "recogniser": judged.name, "aim": aim, "threshold": threshold, "far": far, "frr": frr,
        })  # fmt: skip
    return rows


def searched(judged: Judged, part: str) -> Searches:
    """The searches of a part.

    Raises:
        DataError: If there are no mated or no non-mated probes.
    """
    searches = judged.comparisons[part].searches()
    if not searches.ranks.size or not searches.nonmated.size:
        kind = "non-mated" if searches.ranks.size else "mated"
        raise DataError(
            f"{part}: there is no {kind} probe. Enrol fewer images of a palm (gallery_images), or "
            "take more palms"
        )
    return searches


def identification(judged: Judged, fpirs: tuple[float, ...]) -> list[dict[str, Any]]:
    """TPIR at FPIR on the test identities; and at the threshold found on the validation ones.

    FPIR grows with the gallery: where validation enrols fewer palms than test, the threshold from
    there lets more through. Both figures are given.
    """
    ours, theirs = searched(judged, TEST), searched(judged, VALIDATION)
    rank1 = float(cmc(ours.ranks, 1).rates[0])
    rows = []
    for fpir in fpirs:
        row: dict[str, Any] = {"recogniser": judged.name, "fpir": fpir, "rank1": rank1}
        row |= {"mated": ours.ranks.size, "nonmated": ours.nonmated.size}
        row["refused"] = fpir_refusal(ours.nonmated.size, fpir)
        if row["refused"] is None:
            row["tpir"] = tpir_at_fpir(ours.mated, ours.ranks, ours.nonmated, fpir)
        if fpir_refusal(theirs.nonmated.size, fpir) is None:
            threshold = fpir_threshold(theirs.nonmated, fpir)
            row["fixed_threshold"] = threshold
            row["fixed_fpir"] = float(fpir_at(ours.nonmated, [threshold])[0])
            row["fixed_tpir"] = tpir_at(ours.mated, ours.ranks, threshold)
        rows.append(row)
    return rows


def all_figures(
    protocol: Protocol, judged: list[Judged], fpirs: tuple[float, ...]
) -> dict[str, list[dict[str, Any]]]:
    """`verification`, `fixed_thresholds` and `identification`: a list of rows each."""
    found: dict[str, list[dict[str, Any]]] = {}
    for one in judged:
        if protocol == "identification":
            found.setdefault("identification", []).extend(identification(one, fpirs))
            continue
        rows: list[dict[str, Any]] = []
        for part, comparison in one.comparisons.items():
            if part.endswith(RANK1):
                rows[-1]["rank1"] = comparison.rank1()
            elif part != VALIDATION:
                rows.append(verification(one.name, part, comparison))
        found.setdefault("verification", []).extend(rows)
        if VALIDATION in one.comparisons:
            found.setdefault("fixed_thresholds", []).extend(fixed_thresholds(one))
    return found
