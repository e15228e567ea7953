"""Generated palms beside real ones: embeddings of both → every figure, each with its reference."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from palmforge.data.records import PalmRecord
from palmforge.errors import ConfigError, DataError
from palmforge.metrics.embeddings import embedding_counts
from palmforge.metrics.generation import (
    UNIT_GAMMA,
    Nearest,
    diversity,
    expected_uniqueness,
    frechet_distance,
    impostor_threshold,
    kernel_distance,
    nearest,
)
from palmforge.metrics.scores import ScoreCounts

QUANTILES = (0.01, 0.5, 0.99)


@dataclass(frozen=True)
class Embedded:
    """Palms as a recogniser sees them.

    Attributes:
        records: The pictures.
        embeddings: [N, D], in their order.
        inception: [identities, 2048] features of the pictures in `chosen`, or None.
    """

    records: list[PalmRecord]
    embeddings: Tensor
    inception: Tensor | None = None

    @property
    def labels(self) -> np.ndarray:
        """[N] int64, the identities in the order of their names."""
        names = [record.identity for record in self.records]
        return np.unique(names, return_inverse=True)[1].astype(np.int64)

    @property
    def chosen(self) -> np.ndarray:
        """[identities] int64, the row of the picture that stands for each identity.

        One each: pictures of one palm are no independent draws, which KID and FID ask for. From
        identity to identity it is the next one, so that no device or light is preferred.
        """
        labels = self.labels
        order = np.argsort(labels, kind="stable")
        start, count = np.unique(labels[order], return_index=True, return_counts=True)[1:]
        return order[start + np.arange(len(start)) % count]


@dataclass(frozen=True)
class Row:
    """A figure of generated palms and the same of real ones; None: there is none.

    Attributes:
        measure: What it is.
        of: What it was measured on, in words.
        generated: Of generated palms.
        real: The same of training palms.
        expected: Of palms that have nothing to do with each other.
    """

    measure: str
    of: str
    generated: float
    real: float | None = None
    expected: float | None = None


@dataclass(frozen=True)
class Measures:
    """All that was found.

    Attributes:
        threshold: Cosine distance of the FAR; at or below it two palms match.
        rows: The figures.
        impostors: Impostor pairs of the training identities, by distance.
        among_generated: Nearest other generated identity, of one picture an identity.
        to_training: Nearest training picture of each generated identity.
        among_real: Nearest picture of another training identity, of one picture an identity.
    """

    threshold: float
    rows: list[Row]
    impostors: ScoreCounts
    among_generated: Nearest
    to_training: Nearest
    among_real: Nearest


def measure_palms(generated: Embedded, training: Embedded, far: float, seed: int = 0) -> Measures:
    """Every figure of generated palms.

    Args:
        generated: Of two identities or more.
        training: Of the identities that the generator was trained on.
        far: False accept rate, on the training identities, that fixes what a match is.
        seed: Of the subsets of KID.

    Raises:
        ConfigError: The training pairs cannot support this FAR.
        DataError: A set has fewer than two identities.
    """
    for name, one in (("images", generated), ("training", training)):
        if len(one.chosen) < 2:
            raise DataError(
                f"{name}: {len(one.chosen)} identity with a usable picture; uniqueness is between "
                "identities, so two or more are needed (one folder each)"
            )
    impostors = embedding_counts(
        training.embeddings, training.labels, distance="cosine", fars=(far,)
    )
    threshold = _threshold(impostors, far)
    palms, real = (one.embeddings[one.chosen] for one in (generated, training))
    labels = torch.from_numpy(training.labels)
    found = Measures(
        threshold, [], impostors,
        among_generated=nearest(palms),
        to_training=nearest(palms, training.embeddings),
        among_real=nearest(
            real, training.embeddings, identities=(labels[training.chosen], labels)
        ),
    )  # fmt: skip
    found.rows.extend(_uniqueness(palms, real, threshold, far))
    found.rows.append(_novelty(found, training, far))
    found.rows.extend(_diversity(palms, real))
    found.rows.extend(_set_distances("recogniser", generated, training, seed))
    if generated.inception is not None:
        found.rows.extend(_set_distances("Inception", generated, training, seed))
    found.rows.extend(_quantiles(found, palms, real))
    return found


def _threshold(impostors: ScoreCounts, far: float) -> float:
    reason = impostors.far_refusal(far)
    if reason is not None:
        raise ConfigError(f"far: {reason}. Give a higher FAR, or more training identities")
    threshold = impostor_threshold(impostors, far)
    if not np.isfinite(threshold):
        raise DataError(
            f"training: more than {far:g} of the impostor pairs have one and the same, smallest "
            "distance, so there is no threshold. Are pictures in it twice, under two identities?"
        )
    return threshold


def _uniqueness(palms: Tensor, real: Tensor, threshold: float, far: float) -> list[Row]:
    """Of all generated identities, and of as many generated as real ones."""

    def share(rows: Tensor) -> float:
        return _beyond(nearest(rows), threshold)

    count = min(len(palms), len(real))
    rows = [
        Row(
            "uniqueness", f"{count:,} identities", share(_even(palms, count)),
            share(_even(real, count)), expected_uniqueness(far, count),
        )
    ]  # fmt: skip
    if len(palms) > count:
        expected = expected_uniqueness(far, len(palms))
        rows.append(Row("uniqueness", f"{len(palms):,} identities", share(palms), None, expected))
    return rows


def _novelty(found: Measures, training: Embedded, far: float) -> Row:
    """A training palm is compared with all pictures of the others."""
    images = len(training.records)
    return Row(
        "novelty", f"against {images:,} training images",
        _beyond(found.to_training, found.threshold), _beyond(found.among_real, found.threshold),
        expected_uniqueness(far, images + 1),
    )  # fmt: skip


def _diversity(palms: Tensor, real: Tensor) -> list[Row]:
    count = min(len(palms), len(real))
    ours, theirs = diversity(_even(palms, count)), diversity(_even(real, count))
    of = f"{count:,} identities"
    rows = [
        Row("mean cosine distance", of, ours.mean_distance, theirs.mean_distance),
        Row("Vendi score", of, ours.vendi, theirs.vendi),
    ]
    if len(palms) > count:
        rows.append(Row("Vendi score", f"{len(palms):,} identities", diversity(palms).vendi))
    return rows


def _set_distances(features: str, generated: Embedded, training: Embedded, seed: int) -> list[Row]:
    """One picture of each palm; and one half of the training palms against the other."""
    ours, theirs = (
        one.inception if features == "Inception" else one.embeddings[one.chosen]
        for one in (generated, training)
    )
    assert ours is not None and theirs is not None
    gamma = None if features == "Inception" else UNIT_GAMMA
    halves = theirs[::2], theirs[1::2]
    enough = min(len(half) for half in halves) >= 2
    of = f"{len(ours):,} | {len(theirs):,} identities"
    return [
        Row(
            f"KID, {features} features", of,
            kernel_distance(theirs, ours, seed=seed, gamma=gamma)[0],
            kernel_distance(*halves, seed=seed, gamma=gamma)[0] if enough else None,
        ),
        Row(
            f"FID, {features} features", of, frechet_distance(theirs, ours),
            frechet_distance(*halves) if enough else None,
        ),
    ]  # fmt: skip


def _quantiles(found: Measures, palms: Tensor, real: Tensor) -> list[Row]:
    count = min(len(palms), len(real))
    among = (nearest(_even(palms, count)), nearest(_even(real, count)))
    rows = []
    for what, of, both in (
        ("nearest identity", f"{count:,} identities", among),
        ("nearest training image", "all", (found.to_training, found.among_real)),
    ):
        for share in QUANTILES:
            pair = (float(np.quantile(one.distance.numpy(), share)) for one in both)
            rows.append(Row(f"distance to {what}", f"{of}, quantile {100 * share:g} %", *pair))
    return rows


def _beyond(found: Nearest, threshold: float) -> float:
    return float((found.distance > threshold).double().mean())


def _even(rows: Tensor, count: int) -> Tensor:
    """So many of the rows, evenly spread."""
    return rows[torch.arange(count) * len(rows) // count]
