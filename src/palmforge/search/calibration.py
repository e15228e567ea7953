"""How far a gallery may be trusted: its false positive identification rate, measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palmforge.errors import ConfigError
from palmforge.metrics.open_set_identification import fpir_at, fpir_refusal, fpir_threshold
from palmforge.metrics.scores import Floats

TARGETS = (1e-1, 1e-2, 1e-3)


@dataclass(frozen=True, eq=False)
class Calibration:
    """Top-1 distances of probes whose identities are not enrolled (non-mated, ISO/IEC 19795-1).

    It holds for the gallery that it was measured on: FPIR grows with the identities enrolled, and
    with how hard an approximate index looks.

    Attributes:
        distances: [M] floats, ascending; float32 where those of the search are; inf where it
            returned nobody.
        whole: distances are whole numbers (bits), and so are thresholds.
        num_identities: enrolled when it was measured.
        num_images: enrolled when it was measured.
    """

    distances: NDArray[np.floating]
    whole: bool
    num_identities: int
    num_images: int

    @property
    def num_nonmated(self) -> int:
        """Probes it was measured with."""
        return int(self.distances.size)

    def threshold(self, fpir: float) -> float:
        """The largest distance that keeps the FPIR <= fpir; a distance <= it is accepted.

        Raises:
            ConfigError: fpir is not in (0, 1], or there were fewer than 1 / fpir probes.
        """
        reason = self.refusal(fpir)
        if reason is not None:
            raise ConfigError(f"fpir: {reason}")
        found = fpir_threshold(self.distances, fpir)
        return float(math.floor(found)) if self.whole and math.isfinite(found) else found

    def refusal(self, fpir: float) -> str | None:
        """Why there is no threshold for this FPIR; None when there is one."""
        if not 0.0 < fpir <= 1.0:
            return f"must lie in (0, 1], got {fpir}"
        reason = fpir_refusal(self.num_nonmated, fpir)
        return reason and f"{reason}: take a larger one, or calibrate with more of them"

    def fpir(self, distances: NDArray[Any]) -> Floats:
        """FPIR of thresholds at these distances: how often a stranger's top-1 is as near or nearer.

        Args:
            distances: Any shape.

        Returns:
            Of the same shape, in [0, 1]. 0 means: below what so many probes can resolve.
        """
        return fpir_at(self.distances, distances.ravel()).reshape(distances.shape)

    def thresholds(self) -> dict[str, float]:
        """Threshold by FPIR, for those of 1e-1, 1e-2, 1e-3 that the probes support."""
        return {f"{f:g}": self.threshold(f) for f in TARGETS if self.refusal(f) is None}

    def to_dict(self) -> dict[str, Any]:
        """Plain lists for JSON."""
        finite = self.distances[np.isfinite(self.distances)]
        values, counts = np.unique(finite, return_counts=True)
        return {
            "num_nonmated": self.num_nonmated,
            "num_identities": self.num_identities,
            "num_images": self.num_images,
            "thresholds": self.thresholds(),
            "distances": (values.astype(np.int64) if self.whole else values).tolist(),
            "counts": counts.tolist(),
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any], whole: bool) -> Calibration:
        """The inverse of `to_dict`.

        Raises:
            ValueError: values that no calibration has.
        """
        values = np.asarray(record["distances"], np.float64)
        counts = np.asarray(record["counts"], np.int64)
        missing = int(record["num_nonmated"]) - int(counts.sum())
        if values.shape != counts.shape or np.any(np.diff(values) <= 0) or missing < 0:
            raise ValueError("calibration: distances and counts do not fit")
        distances = np.concatenate((np.repeat(values, counts), np.full(missing, np.inf)))
        if not whole:
            distances = distances.astype(np.float32)
        return cls(distances, whole, int(record["num_identities"]), int(record["num_images"]))
