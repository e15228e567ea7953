"""Palms in photographs by two small networks: where they are, then where their points are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from palmforge.data.hands.frames import PalmFrame, crop_matrix, frame_of_points, transform
from palmforge.data.records import NUM_KEYPOINTS
from palmforge.localization.location import PalmLocation
from palmforge.localization.pyramid import Pyramid
from palmforge.localization.weights import LocalizerWeights, fused, load_weights
from palmforge.networks.landmarks import detector_peaks, peak_points

_MULTIPLE = 32  # the networks halve five times


@dataclass(frozen=True)
class LocalizerSettings:
    """When the localizer looks again, and what it reports.

    Attributes:
        candidate_score: Peaks of the detector below it are not looked at,
        candidate_share: nor those below this share of the highest peak.
        sure_score: With no peak above it the picture is looked at again at `more_scales`.
        more_scales: Relative to the detector's own size: small hands need a larger picture, a palm
            that fills the view a smaller one.
        same_palm: Two candidates whose centres are nearer than this share of a side are one.
        max_palms: Candidates whose points are looked for.
        max_passes: Times the points are looked for, each in a crop cut along the points before.
        min_confidence: Palms below it are not reported.
    """

    candidate_score: float = 0.12
    candidate_share: float = 0.3
    sure_score: float = 0.5
    more_scales: tuple[float, ...] = (2.0, 0.5)
    same_palm: float = 0.6
    max_palms: int = 4
    max_passes: int = 3
    min_confidence: float = 0.4


@dataclass(frozen=True)
class _Candidate:
    frame: PalmFrame
    score: float


@dataclass(frozen=True)
class _Reading:
    """What the landmark network says of one crop: points [35, 2] in the picture, probabilities."""

    points: np.ndarray
    visible: np.ndarray
    present: float
    mirrored: float


class PalmLocalizer:
    """Finds palms at any rotation and size, and their 14 + 21 points.

    Args:
        weights: The two networks.
        settings: Thresholds.
        device: Where they run.

    Example:
        >>> localizer = PalmLocalizer.from_pretrained()
        >>> palm = localizer.locate(image)  # doctest: +SKIP
        >>> roi = extract_roi(image, palm.quad, 128)  # doctest: +SKIP
    """

    def __init__(
        self,
        weights: LocalizerWeights,
        settings: LocalizerSettings = LocalizerSettings(),
        device: str = "cpu",
    ) -> None:
        self.weights = weights
        self.settings = settings
        self.device = torch.device(device)
        self._detector = fused(weights.detector).to(self.device)
        self._landmarks = fused(weights.landmarks).to(self.device)

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path = "default", device: str = "cpu"
    ) -> PalmLocalizer:
        """Loads weights: `default`, which come with the package, or a directory.

        Raises:
            CheckpointError: If they are not there, or not whole.
        """
        return cls(load_weights(name_or_path), device=device)

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes `model.safetensors` and `config.json`, for `from_pretrained`."""
        self.weights.save(folder)

    def locate(self, image: np.ndarray) -> PalmLocation | None:
        """The surest palm, or None.

        Args:
            image: [H, W, 3] uint8 RGB of any size.

        Raises:
            ValueError: If it is something else.
        """
        palms = self.locate_all(image)
        return palms[0] if palms else None

    def locate_all(self, image: np.ndarray) -> list[PalmLocation]:
        """All palms, the surest first.

        Args:
            image: [H, W, 3] uint8 RGB of any size.

        Raises:
            ValueError: If it is something else.
        """
        _check(image)
        pyramid = Pyramid(image)
        candidates = self._detect_all(pyramid, image.shape[0], image.shape[1])
        located = self._read_points(pyramid, candidates)
        located.sort(key=lambda palm: -palm.confidence)
        kept: list[PalmLocation] = []
        for palm in located:
            if palm.confidence >= self.settings.min_confidence and not any(
                self._same(frame_of_points(palm.keypoints14), frame_of_points(other.keypoints14))
                for other in kept
            ):
                kept.append(palm)
        return kept

    def _detect_all(self, pyramid: Pyramid, height: int, width: int) -> list[_Candidate]:
        found = self._detect(pyramid, height, width, 1.0)
        if not found or found[0].score < self.settings.sure_score:
            for scale in self.settings.more_scales:
                found += self._detect(pyramid, height, width, scale)
        found.sort(key=lambda candidate: -candidate.score)
        kept: list[_Candidate] = []
        for candidate in found:
            if candidate.score >= self.settings.candidate_share * found[0].score and not any(
                self._same(candidate.frame, other.frame) for other in kept
            ):
                kept.append(candidate)
        return kept[: self.settings.max_palms]

    def _detect(
        self, pyramid: Pyramid, height: int, width: int, relative: float
    ) -> list[_Candidate]:
        """Peaks of the detector on the picture at one scale, the surest first."""
        size, longer = self.weights.detector_settings.image_size, max(height, width)
        if relative > 1 and longer <= size:  # it is enlarged already: nothing more to see
            return []
        scale = relative * size / longer
        view = [_whole(side * scale) for side in (width, height)]
        matrix = np.diag([scale, scale, 1.0])
        for axis, side in enumerate((width, height)):  # the picture in the middle of the view
            matrix[axis, 2] = (view[axis] - 1) / 2 - scale * (side - 1) / 2
        pixels = pyramid.warp(matrix, *view)
        with torch.inference_mode():
            peaks = detector_peaks(self._detector(self._as_batch([pixels])), 16)[0]
        found = []
        for row in peaks.cpu().double().numpy():
            if row[6] < self.settings.candidate_score:
                break
            centre = (row[:2] - matrix[:2, 2]) / scale
            frame = PalmFrame(centre, max(row[2] / scale, 1.0), row[3:5], bool(row[5] > 0.5))
            found.append(_Candidate(frame, float(row[6])))
        return found

    def _read_points(self, pyramid: Pyramid, candidates: list[_Candidate]) -> list[PalmLocation]:
        """Points of all candidates; each pass in crops cut along the points of the one before."""
        frames = [candidate.frame for candidate in candidates]
        readings: list[_Reading | None] = [None] * len(frames)
        active = list(range(len(frames)))
        for _ in range(self.settings.max_passes):
            if not active:
                break
            results = self._read(pyramid, [frames[index] for index in active])
            following = []
            for index, reading in zip(active, results, strict=True):
                readings[index] = reading
                better = _next_frame(frames[index], reading)
                sure = np.sqrt(reading.present * candidates[index].score)
                if better is None or sure < self.settings.min_confidence / 2:
                    readings[index] = None  # points that span no palm, or of no palm
                elif not _agree(better, frames[index]):
                    following.append(index)
                    frames[index] = better
            active = following
        return [
            _location(frame, reading, candidate.score)
            for frame, reading, candidate in zip(frames, readings, candidates, strict=True)
            if reading is not None
        ]

    def _read(self, pyramid: Pyramid, frames: list[PalmFrame]) -> list[_Reading]:
        """The landmark network on the crops of all frames at once."""
        size = self.weights.landmarks_settings.image_size
        matrices = [crop_matrix(frame, size) for frame in frames]
        crops = [pyramid.warp(matrix, size, size) for matrix in matrices]
        with torch.inference_mode():
            output = self._landmarks(self._as_batch(crops))
            places, _ = peak_points(output.heat)
        points = places.cpu().double().numpy()
        visible = output.visible.sigmoid().cpu().double().numpy()
        present, mirrored = output.present.sigmoid().tolist(), output.mirrored.sigmoid().tolist()
        return [
            _Reading(transform(np.linalg.inv(matrix), points[row]), visible[row], *facts)
            for row, (matrix, *facts) in enumerate(zip(matrices, present, mirrored, strict=True))
        ]

    def _as_batch(self, pictures: list[np.ndarray]) -> Tensor:
        pixels = torch.from_numpy(np.stack(pictures)).to(self.device)
        # [N, H, W, 3] seen as [N, 3, H, W]: channels last without a copy.
        return pixels.permute(0, 3, 1, 2).float().div_(255)

    def _same(self, first: PalmFrame, second: PalmFrame) -> bool:
        apart = float(np.linalg.norm(first.centre - second.centre))
        return apart < self.settings.same_palm * max(first.side, second.side)


def _whole(side: float) -> int:
    """Up to what the networks can halve five times."""
    return max(1, -(-round(side) // _MULTIPLE)) * _MULTIPLE


def _check(image: np.ndarray) -> None:
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3:
        kind = getattr(image, "dtype", type(image).__name__)
        shape = list(getattr(image, "shape", []))
        raise ValueError(f"an RGB picture [H, W, 3] of uint8 is needed, got {kind} {shape}")
    if image.shape[2] != 3 or min(image.shape[:2]) < 1:
        raise ValueError(f"an RGB picture [H, W, 3] is needed, got shape {list(image.shape)}")


def _next_frame(frame: PalmFrame, reading: _Reading) -> PalmFrame | None:
    """The frame of the points that were read, and of the hand that the network takes it for."""
    try:
        better = frame_of_points(reading.points[:NUM_KEYPOINTS])
    except ValueError:
        return None
    return replace(better, left=frame.left != (reading.mirrored > 0.5))


def _agree(first: PalmFrame, second: PalmFrame) -> bool:
    """Whether another pass would see nearly the same crop."""
    return (
        first.left == second.left
        and float(first.up @ second.up) > 0.995  # 6 degrees
        and abs(np.log(first.side / second.side)) < 0.06
        and float(np.linalg.norm(first.centre - second.centre)) < 0.06 * second.side
    )


def _location(frame: PalmFrame, reading: _Reading, score: float) -> PalmLocation:
    """What is reported. Hand and quad come from the same points, so they never contradict."""
    points = reading.points
    left = frame_of_points(points[:NUM_KEYPOINTS]).left
    sure = reading.present * (1 - reading.mirrored) * (1.0 if left == frame.left else 0.5)
    hand: Literal["L", "R"] = "L" if left else "R"
    return PalmLocation(
        keypoints14=points[:NUM_KEYPOINTS],
        keypoints21=points[NUM_KEYPOINTS:],
        handedness=hand,
        confidence=float(np.sqrt(sure * score)),
        visible14=reading.visible[:NUM_KEYPOINTS],
        visible21=reading.visible[NUM_KEYPOINTS:],
    )
