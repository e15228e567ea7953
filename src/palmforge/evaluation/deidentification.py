"""Recognisers before and after de-identification (paper 001, Tables II and V; Fig. 5)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from palmforge.errors import DataError
from palmforge.metrics.deidentification import (
    Deidentification,
    deidentification,
    deidentified_accuracy,
    deidentified_distances,
)
from palmforge.metrics.deidentification_interval import ratio_interval
from palmforge.metrics.scores import Floats, Ints
from palmforge.recognition import Recognizer

_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class Known:
    """What a recogniser makes of the originals.

    Attributes:
        name: Of the recogniser, in tables.
        recogniser: Makes and compares templates.
        templates: [N, …] of the originals.
        labels: [N] identities.
        distances: [N, N] between originals.
    """

    name: str
    recogniser: Recognizer
    templates: Tensor = field(repr=False)
    labels: Ints = field(repr=False)
    distances: Floats = field(repr=False)

    @cached_property
    def genuine(self) -> Floats:
        """Of pairs of originals of one identity."""
        return self._pairs(True)

    @cached_property
    def impostor(self) -> Floats:
        """Of pairs of two identities."""
        return self._pairs(False)

    def _pairs(self, same: bool) -> Floats:
        rows, columns = np.triu_indices(len(self.labels), 1)
        chosen = (self.labels[rows] == self.labels[columns]) == same
        return self.distances[rows[chosen], columns[chosen]]


@dataclass(frozen=True, eq=False)
class Left:
    """What a recogniser still knows of de-identified palms: a row of Table V.

    Attributes:
        method: Its name.
        recogniser: Its name.
        own_source: Each against the picture that it was made of.
        same_identity: Against all originals of that identity.
        interval: 95 % interval of the DIR of `own_source`, in percent, identities drawn anew; NaN
            where none was asked for.
        accuracy: Acc, in [0, 1], its source in the gallery.
        accuracy_without_source: Its source left out of the gallery; NaN: there is no other picture.
        to_source: [N] distances of each to its source.
    """

    method: str
    recogniser: str
    own_source: Deidentification
    same_identity: Deidentification
    interval: tuple[float, float]
    accuracy: float
    accuracy_without_source: float
    to_source: Floats = field(repr=False)


def know(name: str, recogniser: Recognizer, originals: Tensor, labels: Ints) -> Known:
    """Embeds the originals, `[N, 3, R, R]` uint8, and compares all with all.

    Raises:
        DataError: The recogniser cannot read them, makes NaN of them, or tells nobody apart.
    """
    templates = embedded(name, recogniser, originals)
    distances = _between(recogniser, templates, templates)
    known = Known(name, recogniser, templates, labels, distances)
    if not known.genuine.size or not known.impostor.size:
        raise DataError(
            "data.images: two pictures at least of one palm, and two palms, are needed to know "
            "what genuine and impostor pairs look like"
        )
    return known


def what_is_left(
    known: Known, method: str, pictures: Tensor, sources: Ints, resamples: int = 0, seed: int = 0
) -> Left:
    """A method through the eyes of a recogniser.

    Args:
        known: The recogniser and its originals.
        method: Its name.
        pictures: `[P, 3, R, R]` uint8, de-identified.
        sources: [P] row of the original of each.
        resamples: For the interval; 0: none.
        seed: Of the resamples.

    Raises:
        DataError: NaN in a template.
    """
    templates = embedded(known.name, known.recogniser, pictures)
    distances = _between(known.recogniser, templates, known.templates)
    of_source, of_hand = (
        deidentified_distances(distances, sources, known.labels, pairing)
        for pairing in ("own_source", "same_identity")
    )
    genuine, impostor = known.genuine, known.impostor
    interval = (float("nan"), float("nan"))
    if resamples:
        own = known.labels[sources]
        interval = ratio_interval(known.distances, known.labels, of_source, own, resamples, seed)
    return Left(
        method, known.name,
        deidentification(genuine, impostor, of_source),
        deidentification(genuine, impostor, of_hand), interval,
        deidentified_accuracy(distances, sources, known.labels),
        _accuracy_without(distances, sources, known.labels), of_source,
    )  # fmt: skip


def embedded(name: str, recogniser: Recognizer, pictures: Tensor) -> Tensor:
    """Templates of `[N, 3, R, R]` uint8, some at a time.

    Raises:
        DataError: It cannot read pictures of this size, or makes NaN of them.
    """
    try:
        parts = [recogniser.embed(part).cpu() for part in pictures.split(_AT_ONCE)]
    except (ValueError, RuntimeError) as error:
        raise DataError(
            f"recognisers: {name} cannot read pictures of {pictures.shape[-1]} pixels ({error}); "
            "see DeidentificationReport.roi_size"
        ) from error
    templates = torch.cat(parts)
    bad = ~torch.isfinite(templates.float()).flatten(1).all(1)
    if bool(bad.any()):
        raise DataError(f"recognisers: {name} makes NaN of {int(bad.sum())} pictures")
    return templates


def _between(recogniser: Recognizer, rows: Tensor, columns: Tensor) -> Floats:
    parts = [recogniser.distance(part, columns).double().cpu() for part in rows.split(_AT_ONCE)]
    return torch.cat(parts).numpy()


def _accuracy_without(distances: Floats, sources: Ints, labels: Ints) -> float:
    if np.bincount(labels).max() < 2:
        return float("nan")
    return deidentified_accuracy(distances, sources, labels, with_source=False)
