"""`train.py audit`: does a generated set give away what its generator was trained on?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console

from palmforge.callbacks.run_report import provenance, write_problems
from palmforge.commands.audit_membership import evenly, identities, losses_of
from palmforge.commands.generated_set import generated_set, readable
from palmforge.data import protocols
from palmforge.data.atomic import check_writable, write_aside
from palmforge.data.embedded import SYNTHETIC
from palmforge.data.layouts import Layout
from palmforge.data.records import PalmRecord
from palmforge.data.roi_cache import RoiSettings, extract
from palmforge.data.synthetic import SyntheticPalms
from palmforge.errors import CheckpointError, ConfigError, DataError
from palmforge.evaluation.data import EvaluationData, PalmSet
from palmforge.evaluation.finite import finite
from palmforge.evaluation.overlap import check_unseen
from palmforge.evaluation.parts import Part
from palmforge.evaluation.privacy import Audit, audit_pictures, finds
from palmforge.evaluation.privacy_changes import CHANGES, Change
from palmforge.evaluation.privacy_pictures import Seen, look_at
from palmforge.evaluation.privacy_summary import as_json, summarize_audit, verdict
from palmforge.metrics.perceptual_hash import VIEWS
from palmforge.metrics.privacy import MIN_GROUPS, membership
from palmforge.recognition import EmbeddingRecognizer, load_embedding
from palmforge.report import Details, PairList, Plot, to_markdown, write_report

AUDIT = "audit.json"
LEAKS, NOT_MEASURABLE = 3, 4  # exit codes
_CHANGED = 60  # training pictures that are changed and looked for
_ENOUGH = 0.9  # of the JPEGs among them: else a pass would say nothing
_PALMS = tuple[PalmSet, list[PalmRecord]]


def audit(
    images: str,
    training: str = SYNTHETIC,
    layout: Layout = "auto",
    domains: list[str] | None = None,
    held_out: str | None = None,
    held_out_layout: Layout | None = None,
    held_out_domains: list[str] | None = None,
    fractions: tuple[float, float, float] = (0.9, 0.05, 0.05),
    split_seed: int = 0,
    recogniser: str = "synthetic-only",
    checkpoint: str | None = None,
    membership_images: int = 500,
    noise_levels: int = 8,
    max_auc: float = 0.5,
    alpha: float = 0.01,
    out: str = "results/audit",
    show_images: bool = False,
    roi: RoiSettings = RoiSettings(),  # noqa: B008  (frozen)
    localizer: str | None = None,
    cache_dir: str = "data/cache",
    num_workers: int = 2,
    synthetic: SyntheticPalms = SyntheticPalms(),  # noqa: B008  (frozen)
    synthetic_dir: str = "data/synthetic",
    seed: int = 0,
) -> None:
    """Looks for training pictures and palms in a generated set.

    Exits with 0 if it passes, 3 if it leaks, 4 if no leak was found but a false match rate is not
    measurable (too few pictures), 2 if it could not be audited.

    Writes report.html, report.md and audit.json. Everything is measured against held-out palms,
    which the generator has not seen; the more of them, the smaller a leak that can be told from
    chance (some hundreds of identities).

    Args:
        images: A folder of generated palms, `identity/image`, each picture a whole ROI.
        training: What the generator was trained on, or `synthetic`: the embedded set.
        layout: How files lie under `training`.
        domains: Only these of the training set; null for all.
        held_out: Palms that the generator has not seen, of the same kind of pictures; then all of
            `training` was trained on. Null: the people that `fractions` keep from training.
        held_out_layout: How files lie under it; null: as of `training`.
        held_out_domains: Only these of it; null for all.
        fractions: Of people, for train, validation and test, where there is no `held_out`: those of
            the generator's training.
        split_seed: Who is where; that of its training.
        recogniser: What `palmforge.recognition.load` takes, of the embedding kind; best one that
            has seen neither training nor held-out palms.
        checkpoint: Of `IdentityGenerator`: also test whether its loss tells training pictures.
        membership_images: For that, of training and of held-out pictures, each.
        noise_levels: For that; each picture is denoised once a level.
        max_auc: For that: an AUC that is let pass. 0.5: none above chance.
        alpha: Chance that a clean set is found to leak.
        out: A new folder for the report.
        show_images: Show leaked pictures and the training pictures in it. Biometric data.
        roi: How ROIs of training and held-out palms are cut; generated ones get their size.
        localizer: Finds the palm in photographs without key points, see `PalmDataModule`.
        cache_dir: Where cut ROIs are kept.
        num_workers: Threads that cut, processes that render.
        synthetic: The embedded set.
        synthetic_dir: Where it is rendered to.
        seed: Of the intervals of the membership test.
    """
    settings = dict(locals())
    folder = _checked(out, alpha, max_auc, membership_images, noise_levels)
    model = load_embedding(recogniser, "recogniser")
    generator = None if checkpoint is None else _generator(checkpoint)
    listing = generated_set(images)
    data = EvaluationData(
        training, layout, domains, roi, localizer, False, cache_dir, num_workers, synthetic,
        synthetic_dir,
    )  # fmt: skip
    other = None if held_out is None else replace(
        data, root=held_out, layout=held_out_layout or layout, domains=held_out_domains
    )  # fmt: skip
    (palms, known), (others, unseen) = _palms(data, other, fractions, split_seed)
    problems = {**palms.problems, **others.problems, **listing.problems}
    read = partial(extract, settings=RoiSettings(size=roi.size, source="whole"))
    sets = {
        "generated": look_at(
            readable(listing.records, read, problems), "generated", len(listing.records), model
        ),
        "training": look_at(_rois(palms, known), "training", len(known), model, VIEWS),
        "held_out": look_at(_rois(others, unseen), "held-out", len(unseen), model),
    }
    tests = 4 + (checkpoint is not None)
    found = audit_pictures(sets["generated"], sets["training"], sets["held_out"], alpha, tests)
    _self_test(found, palms, known, sets["training"], model)
    found.no_membership = "no checkpoint was given"
    if generator is not None:
        _test_membership(
            found, generator, ((palms, known), (others, unseen)), membership_images, noise_levels,
            max_auc, seed,
        )  # fmt: skip
    remarks = _remarks(model, recogniser, palms, (others, unseen), sets)
    left_out = len(listing.records) - len(sets["generated"].records)
    if left_out:
        remarks.append(f"{left_out:,} generated pictures could not be read; see problems.csv.")
    pictures = (read, palms.roi) if show_images else None
    where, config = provenance(), yaml.safe_dump(_plain(settings), sort_keys=False)
    report = summarize_audit(found, sets, remarks, problems, where, config, pictures)
    if problems:
        write_problems(folder / "problems.csv", problems)
    path = write_report(report, folder)
    content = {
        **_plain(settings), **as_json(found, sets["generated"], sets["training"]),
        "left_out": left_out, "remarks": remarks, "provenance": where,
    }  # fmt: skip
    with write_aside(folder / AUDIT) as aside:
        aside.write_text(json.dumps(finite(content), indent=2) + "\n", encoding="utf-8")
    _show(report, found, path)


def _checked(out: str, alpha: float, max_auc: float, pictures: int, levels: int) -> Path:
    """The folder of the report, before an hour is spent on it."""
    for key, value, low, high in (("alpha", alpha, 0.0, 1.0), ("max_auc", max_auc, 0.4999, 1.0)):
        if not low < value < high:
            raise ConfigError(f"{key}: {value:g} is not between {low:.1g} and {high:g}")
    for key, number, least in (
        ("membership_images", pictures, MIN_GROUPS), ("noise_levels", levels, 1),
    ):  # fmt: skip
        if number < least:
            raise ConfigError(f"{key}: must be {least} or more, got {number}")
    folder = Path(out).expanduser()
    if (folder / AUDIT).exists():
        raise ConfigError(f"out: {folder / AUDIT} is there already; name another folder")
    check_writable(folder, "out")
    return folder


def _generator(checkpoint: str) -> Any:
    from palmforge.modules.identity_generator import load_generator

    try:
        return load_generator(checkpoint)
    except CheckpointError as error:
        raise CheckpointError(f"checkpoint: {error}") from error


def _palms(
    data: EvaluationData,
    other: EvaluationData | None,
    fractions: tuple[float, float, float],
    split_seed: int,
) -> tuple[_PALMS, _PALMS]:
    """Training and held-out palms."""
    palms = PalmSet(data)
    if other is not None:
        others = PalmSet(other)
        return (palms, palms.records), (others, others.records)
    split = protocols.open_set(palms.records, fractions, split_seed)
    unseen = sorted(split.val + split.test, key=lambda record: (record.identity, record.path))
    return (palms, split.train), (palms, unseen)


def _rois(
    palms: PalmSet, records: Sequence[PalmRecord], change: Change | None = None
) -> Iterator[tuple[PalmRecord, np.ndarray]]:
    for record in records:
        image = palms.roi(record)
        yield record, image if change is None else change(image)


def _self_test(
    found: Audit,
    palms: PalmSet,
    known: Sequence[PalmRecord],
    training: Seen,
    model: EmbeddingRecognizer,
) -> None:
    some = evenly(known, _CHANGED)
    for name, change in CHANGES.items():
        changed = look_at(_rois(palms, some, change), f"copies, {name}", len(some), model)
        found.found[name] = finds(found, changed, training)


def _test_membership(
    found: Audit,
    generator: Any,
    sides: tuple[_PALMS, _PALMS],
    count: int,
    levels: int,
    max_auc: float,
    seed: int,
) -> None:
    few = min(len({record.identity for record in records}) for _, records in sides)
    if few < MIN_GROUPS:
        found.no_membership = f"one side has {few} identities, at least {MIN_GROUPS} are needed"
        return
    losses = []
    for palms, records in sides:
        some = evenly(records, count)
        values = losses_of(generator, palms, some, levels, num_workers=palms.data.num_workers)
        losses.append((values, identities(some)))
    found.membership = membership(losses[0], losses[1], max_auc, seed=seed)


def _remarks(
    model: EmbeddingRecognizer,
    recogniser: str,
    palms: PalmSet,
    held_out: _PALMS,
    sets: dict[str, Seen],
) -> list[str]:
    remarks = []
    if SYNTHETIC in (palms.data.root, held_out[0].data.root):
        remarks.append("Rendered palms take part: no figure here is one of real palms alone.")
    for name, one, records in (
        ("training", palms, sets["training"].records), ("held-out", *held_out),
    ):  # fmt: skip
        part = Part(name, list(records), [protocols.Role.ALL] * len(records))
        try:
            check_unseen(recogniser, model.class_names, one.data, [part])
        except DataError:
            both = set(model.class_names or ()) & {record.identity for record in records}
            remarks.append(
                f"The recogniser was trained on {len(both):,} of the {name} palms (by name): their "
                "distances are not those of palms that it has not seen. Take another recogniser."
            )
    return remarks


def _show(report: Any, found: Audit, path: Path) -> None:
    """Prints it, and ends with `LEAKS` where it leaks, `NOT_MEASURABLE` where that is not known."""
    console = Console(markup=False, highlight=False, width=max(160, Console().width))
    hidden = (Plot, Details, PairList)
    blocks = [block for block in report.blocks if not isinstance(block, hidden)]
    text = to_markdown(replace(report, blocks=blocks)).split("\n## Provenance")[0]
    console.print(text, soft_wrap=True)
    console.print(f"{verdict(found)}\n{path}", soft_wrap=True)
    if found.reasons:
        raise SystemExit(LEAKS)
    share = next(iter(found.found.values()))
    if share < _ENOUGH:
        raise DataError(
            f"audit: only {100 * share:.0f} % of training pictures that were put in as JPEGs would "
            "have been found, so that nothing is ruled out. Name more held-out identities; or some "
            "of them lie as near to training palms as copies do: see the report"
        )
    if found.not_measurable:
        raise SystemExit(NOT_MEASURABLE)


def _plain(value: Any) -> Any:
    """What YAML and JSON can say."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return {key: _plain(getattr(value, key)) for key in value.__dataclass_fields__}
    return value
