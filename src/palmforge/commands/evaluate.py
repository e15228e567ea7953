"""`train.py evaluate`: recognisers under a protocol, as tables, curves and one report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from palmforge.callbacks.run_report import provenance, write_problems
from palmforge.data.atomic import check_writable, write_aside
from palmforge.errors import ConfigError, DataError
from palmforge.evaluation import parts as protocols
from palmforge.evaluation.data import EvaluationData, PalmSet
from palmforge.evaluation.figures import all_figures
from palmforge.evaluation.kept import check_free, keep_scores, read_kept
from palmforge.evaluation.overlap import check_apart, check_unseen
from palmforge.evaluation.parts import Part, Protocol
from palmforge.evaluation.run import Figuring, Judged, judge
from palmforge.evaluation.summary import TITLES, summarize
from palmforge.recognition import load
from palmforge.report import Details, Plot, Report, log_to_wandb, to_markdown, write_report

DOMAIN = "{domain}"
_PALMS = {  # settings that kept scores have no use for
    "recogniser", "data", "validation", "fractions", "split_seed", "train_images",
    "gallery_images", "enrolled_share",
}  # fmt: skip


def evaluate(
    recogniser: str | list[str] = "synthetic-only",
    protocol: Protocol = "open_set",
    data: EvaluationData = EvaluationData(),  # noqa: B008  (frozen)
    validation: EvaluationData | None = None,
    fractions: tuple[float, float, float] = (0.6, 0.1, 0.3),
    split_seed: int = 0,
    train_images: int = 5,
    gallery_images: int = 1,
    enrolled_share: float = 0.5,
    fars: tuple[float, ...] = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6),
    fpirs: tuple[float, ...] = (1e-1, 1e-2, 1e-3),
    intervals: int = 1000,
    seed: int = 0,
    out: str = "results/evaluation",
    images: bool = False,
    save_scores: bool = False,
    scores: str | None = None,
    wandb_project: str | None = None,
) -> None:
    """Evaluates recognisers under a protocol; writes report.html, report.md and results.json.

    Args:
        recogniser: What `palmforge.recognition.load` takes, or a list: a name, a checkpoint, a
            folder. In the protocol `cross_domain`, `{domain}` in a path is replaced by the domain
            that is enrolled: a recogniser trained on each.
        protocol: `closed_set` (Shao et al. 2020), `open_set` (verification), `identification`
            (open-set), `cross_domain` (a matrix), `cross_database`.
        data: What is tested on.
        validation: The set trained on, whose validation identities fix the thresholds
            (`cross_database`).
        fractions: Of people, for train (left alone), validation and test.
        split_seed: Who is where; that of the training.
        train_images: Of each palm and domain (`closed_set`).
        gallery_images: Enrolled of each palm (`identification`).
        enrolled_share: Of the people; the others must not be found (`identification`).
        fars: False accept rates to report the TAR at.
        fpirs: False positive identification rates to report the TPIR at.
        intervals: Resamples of identities for 95 % intervals; 0: none.
        seed: Of the resamples.
        out: The folder of the report.
        images: Show palms in it: the worst pairs. Biometric data.
        save_scores: Keep all distances, as Parquet.
        scores: Take the distances that another evaluation kept in this folder (its `out`, or
            `scores` in it); neither palms nor recognisers are looked at.
        wandb_project: Log tables and curves there too; palms only with `images`.
    """
    settings = {k: v for k, v in locals().items() if v is not None}
    _check_rates("fars", fars)
    _check_rates("fpirs", fpirs)
    _check_counts(intervals=(intervals, 0), gallery_images=(gallery_images, 1),
                  split_seed=(split_seed, 0), seed=(seed, 0))  # fmt: skip
    if images and scores is not None:
        raise ConfigError("images: kept scores have no pictures in them; leave one of the two out")
    out = str(Path(out).expanduser())
    check_writable(Path(out), "out")
    figuring = Figuring(tuple(fars), intervals, seed)
    if scores is not None:
        judged, parts, remarks = read_kept(Path(scores).expanduser(), figuring, protocol)
        remarks, roi_of = [*remarks, f"Distances read from {scores}."], None
        settings = {key: value for key, value in settings.items() if key not in _PALMS}
    else:
        names = [recogniser] if isinstance(recogniser, str) else list(recogniser)
        _check_names(names, Path(out) / "scores" if save_scores else None)
        sets = _parts(
            protocol, data, validation, fractions, split_seed, train_images, gallery_images,
            enrolled_share,
        )  # fmt: skip
        judged = _judge(names, protocol, sets, figuring)
        parts = [part for _, own in sets for part in own]
        remarks = _remarks(sets, parts)
        palms = sets[-1][0]
        roi_of = palms.roi if images else None
        problems = {path: why for each, _ in sets for path, why in each.problems.items()}
        if problems:
            write_problems(Path(out) / "problems.csv", problems)
    if save_scores:
        keep_scores(Path(out) / "scores", judged, parts, protocol, remarks)
    figures = all_figures(protocol, judged, tuple(fpirs))
    config = yaml.safe_dump(_plain(settings), sort_keys=False, allow_unicode=True)
    where = provenance()
    report = summarize(protocol, judged, parts, figures, remarks, where, config, roi_of)
    _write(report, Path(out), protocol, figures, where, wandb_project, images)


def _check_rates(key: str, rates: Sequence[float]) -> None:
    for rate in rates:
        if not 0 < rate <= 1:
            raise ConfigError(f"{key}: {rate:g} is not a rate in (0, 1]")


def _check_counts(**least: tuple[int, int]) -> None:
    for key, (value, lowest) in least.items():
        if value < lowest:
            raise ConfigError(f"{key}: must be {lowest} or more, got {value}")


def _check_names(names: Sequence[str], scores: Path | None) -> None:
    """Raises for what would be told, or overwritten, after all palms were embedded."""
    if not names:
        raise ConfigError("recogniser: name one or more")
    twice = [name for name in dict.fromkeys(names) if list(names).count(name) > 1]
    if twice:
        raise ConfigError(f"recogniser: {twice[0]} is there twice")
    for name in names:
        if DOMAIN not in name:
            load(name)
    if scores is not None:
        check_free(scores, names)


def _parts(
    protocol: Protocol,
    data: EvaluationData,
    validation: EvaluationData | None,
    fractions: tuple[float, float, float],
    split_seed: int,
    train_images: int,
    gallery_images: int,
    enrolled_share: float,
) -> list[tuple[PalmSet, list[Part]]]:
    """Data sets with the parts made of each; the one tested on comes last."""
    if (validation is not None) != (protocol == "cross_database"):
        raise ConfigError(
            "validation: cross_database needs the data set that was trained on; the other "
            "protocols take their validation identities from `data`"
        )
    palms = PalmSet(data)
    if protocol == "closed_set":
        return [(palms, protocols.closed_set(palms.records, train_images))]
    if protocol == "open_set":
        return [(palms, protocols.open_set(palms.records, fractions, split_seed))]
    if protocol == "identification":
        made = protocols.identification(
            palms.records, fractions, split_seed, gallery_images, enrolled_share
        )
        return [(palms, made)]
    if protocol == "cross_domain":
        return [(palms, protocols.cross_domain(palms.records, fractions, split_seed))]
    assert validation is not None
    if validation == data:
        raise DataError("cross_database: data and validation are one and the same data set")
    source = PalmSet(validation)
    check_apart(source.records, palms.records)
    held_out, test = protocols.cross_database(palms.records, source.records, fractions, split_seed)
    return [(source, [held_out]), (palms, [test])]


def _judge(
    names: Sequence[str],
    protocol: Protocol,
    sets: list[tuple[PalmSet, list[Part]]],
    figuring: Figuring,
) -> list[Judged]:
    judged = []
    for name in names:
        if DOMAIN not in name:
            judged.append(_judge_one(name, protocol, sets, figuring))
            continue
        if protocol != "cross_domain":
            raise ConfigError(f"recogniser: {name}: {DOMAIN} belongs to protocol cross_domain")
        whole = Judged(name)
        palms, parts = sets[0]
        for domain in dict.fromkeys(part.enrolled for part in parts):
            own = [(palms, [part for part in parts if part.enrolled == domain])]
            path = name.replace(DOMAIN, domain)
            row = _judge_one(path, protocol, own, figuring)
            whole.comparisons |= row.comparisons
            whole.template_bytes, whole.embed_ms = row.template_bytes, row.embed_ms
        judged.append(whole)
    return judged


def _judge_one(
    name: str,
    protocol: Protocol,
    sets: list[tuple[PalmSet, list[Part]]],
    figuring: Figuring,
) -> Judged:
    recogniser = load(name)
    trained_on = getattr(recogniser, "class_names", None)
    if protocol != "closed_set":
        for palms, parts in sets:  # a threshold fixed on palms that were trained on is no use
            check_unseen(name, trained_on, palms.data, parts)
    return judge(name, recogniser, sets, figuring, protocol)


def _remarks(sets: list[tuple[PalmSet, list[Part]]], parts: Sequence[Part]) -> list[str]:
    remarks = []
    for palms, _ in sets:
        people = len({record.identity for record in palms.records})
        remark = f"{palms.data.root}: {len(palms.records):,} images of {people:,} identities"
        if palms.data.root == "synthetic":
            remark += ", rendered: no figure here is one of real palms"
        if palms.problems:
            remark += f"; {len(palms.problems):,} paths left out, see problems.csv"
        remarks.append(remark + ".")
    if len(parts) <= 3:
        remarks += [
            f"{part.name}: {len(part.records):,} images of {part.num_identities:,} identities."
            for part in parts
        ]
    return remarks


def _write(
    report: Report,
    out: Path,
    protocol: Protocol,
    figures: dict[str, Any],
    where: dict[str, Any],
    wandb_project: str | None,
    images: bool,
) -> None:
    path = write_report(report, out)
    with write_aside(out / "results.json") as aside:
        content = {"protocol": protocol, **figures, "provenance": where}
        aside.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    if wandb_project is not None:
        import wandb

        with wandb.init(project=wandb_project, dir=out, job_type="evaluate", name=out.name) as run:
            log_to_wandb(report, run, images)
    console = Console(markup=False, highlight=False, width=max(160, Console().width))
    blocks = [block for block in report.blocks if not isinstance(block, (Plot, Details))]
    console.print(to_markdown(replace(report, blocks=blocks)).split("\n## Provenance")[0])
    console.print(f"{TITLES[protocol]}: {path}")


def _plain(value: Any) -> Any:
    """What YAML can say."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return _plain(asdict(value))
    return value
