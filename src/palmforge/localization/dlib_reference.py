"""The paper's method (Shao et al. 2020, §4.1), as a reference: HOG + SVM, then regression trees.

1. Palm detection: a linear SVM on HOG features, in a window that slides over an image pyramid,
   with non-maximum suppression (Dalal and Triggs 2005, King 2015: `dlib.simple_object_detector`).
2. Key points: an ensemble of regression trees (Kazemi and Sullivan 2014: `dlib.shape_predictor`).
3. The ROI from the points' distances (`palmforge.data.roi`).

The paper's hands are upright. Here the window is trained on upright right hands, and turned and
mirrored copies of the picture are searched: `rotations` angles (12: every 30 degrees) times two
hands. The best window of each place wins, which also tells left from right. The trees then run
twice, the second time in the frame that the first one's points give.

dlib is optional: `pip install dlib-bin` (wheels; to build `dlib` itself takes 12 minutes and more).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np

from palmforge.data.atomic import write_aside
from palmforge.data.roi import extract_roi, quad_side, xjtu_roi_quad
from palmforge.errors import ConfigError, DataError
from palmforge.localization.location import PalmLocation

DETECTOR, SHAPE, SETTINGS = "detector.svm", "shape.dat", "settings.json"

_WINDOW = 80  # pixels: dlib's detection window, 10 × 10 HOG cells
_SCENE = 240  # pixels: side of a training picture of the detector, the palm's window in its middle
_CROP = 160  # pixels: side of what the trees see; the window is its middle half
_BOX_OVER_ROI = 2.4  # window over ROI side: from the wrist to the first finger joints


class PalmSample(NamedTuple):
    """A picture to train on.

    Attributes:
        image: [H, W, 3] uint8 RGB.
        keypoints14: [14, 2] pixels.
    """

    image: np.ndarray
    keypoints14: np.ndarray


@dataclass(frozen=True)
class DlibSettings:
    """How the reference is trained and run.

    Attributes:
        svm_c: C of the detector's SVM.
        svm_epsilon: At which gap its training stops.
        cascade_depth: Levels of the ensemble.
        trees_per_level: Regression trees in each.
        tree_depth: Of each tree.
        shrinkage: nu of Kazemi and Sullivan.
        oversampling: Start shapes for each training picture, turned, scaled and shifted.
        rotations: Angles at which a picture is searched, evenly over the circle.
        longest_side: Pictures are shrunk to this many pixels before they are searched. A palm
            must be at least 0.17 of it wide (|P0 P12|) to fill the window.
        threshold: Of the SVM's score; 0 is its own.
    """

    svm_c: float = 5.0
    svm_epsilon: float = 0.01
    cascade_depth: int = 10
    trees_per_level: int = 500
    tree_depth: int = 4
    shrinkage: float = 0.1
    oversampling: int = 20
    rotations: int = 12
    longest_side: int = 320
    threshold: float = 0.0

    def __post_init__(self) -> None:
        """Check the settings.

        Raises:
            ConfigError: A number out of range.
        """
        counts = (self.cascade_depth, self.trees_per_level, self.tree_depth, self.oversampling)
        if min(*counts, self.rotations) < 1 or self.longest_side < 80:
            raise ConfigError(
                "settings: depths, trees, oversampling and rotations must be >= 1 and longest_side "
                f">= 80 pixels, got {self}"
            )
        if not (self.svm_c > 0 and self.svm_epsilon > 0 and 0 < self.shrinkage <= 1):
            raise ConfigError(
                f"settings: svm_c and svm_epsilon must be > 0 and shrinkage in (0, 1], got {self}"
            )


class DlibLocalizer:
    """HOG + SVM, then an ensemble of regression trees; a `Localizer`.

    Made by `fit` or `load`.
    """

    def __init__(self, detector: Any, shape: Any, settings: DlibSettings) -> None:
        self.detector = detector
        self.shape = shape
        self.settings = settings

    @classmethod
    def fit(
        cls,
        samples: Iterable[PalmSample],
        settings: DlibSettings = DlibSettings(),
        seed: int = 0,
        num_threads: int = 1,
    ) -> DlibLocalizer:
        """Trains both parts.

        Args:
            samples: Pictures of one palm each, any size, hand and rotation; each is turned upright,
                and left hands are mirrored. They are read once; 150 KB of each are kept.
            settings: Of training and search.
            seed: Of the start shapes and the jitter.
            num_threads: For dlib.

        Raises:
            DataError: If there is no sample.
            ConfigError: If dlib is missing.
        """
        dlib = _dlib()
        rng = np.random.default_rng(seed)
        scenes: list[np.ndarray] = []
        boxes: list[Any] = []
        crops: list[np.ndarray] = []
        shapes: list[Any] = []
        middle = _rectangle(dlib, (_SCENE - 1) / 2, _WINDOW + 8)  # a little more than the window
        for sample in samples:
            frame = _upright_frame(sample.keypoints14)
            jittered = _moved(frame, rng, shift=0.0, degrees=8, scale=0.05)
            upright = _cut(sample.image, jittered, _SCENE, _WINDOW + 8)
            scenes += [upright, _wrong_way(upright, rng)]
            boxes += [[middle], []]
            for _ in range(2):
                crop, shape = _shape_example(dlib, sample, frame, rng)
                crops.append(crop)
                shapes.append([shape])
        if not scenes:
            raise DataError("locate fit: there is no picture with key points to train on")
        detector = dlib.train_simple_object_detector(
            scenes, boxes, _detector_options(dlib, settings, num_threads)
        )
        shape_predictor = dlib.train_shape_predictor(
            crops, shapes, _shape_options(dlib, settings, seed, num_threads)
        )
        return cls(detector, shape_predictor, settings)

    def save(self, folder: str) -> None:
        """Writes `detector.svm`, `shape.dat` (dlib's own formats) and `settings.json`."""
        for name, part in ((DETECTOR, self.detector), (SHAPE, self.shape)):
            with write_aside(Path(folder) / name) as aside:
                part.save(str(aside))
        with write_aside(Path(folder) / SETTINGS) as aside:
            text = json.dumps(asdict(self.settings), indent=2)
            aside.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str) -> DlibLocalizer:
        """Reads what `save` wrote.

        dlib's files are not pickles and run no code, but its reader is C++ that trusts its input:
        load only files that you trust.

        Raises:
            DataError: If a file is missing or not readable.
            ConfigError: If dlib is missing.
        """
        dlib, top = _dlib(), Path(folder)
        missing = [name for name in (DETECTOR, SHAPE, SETTINGS) if not (top / name).is_file()]
        if missing:
            raise DataError(
                f"{top}: no {', '.join(missing)} in it. `train.py locate fit --out {top}` makes a "
                "dlib locator"
            )
        try:
            settings = DlibSettings(**json.loads((top / SETTINGS).read_text(encoding="utf-8")))
            detector = dlib.simple_object_detector(str(top / DETECTOR))
            shape = dlib.shape_predictor(str(top / SHAPE))
        except (RuntimeError, TypeError, ValueError) as error:
            raise DataError(f"{top}: not a dlib locator ({error})") from error
        return cls(detector, shape, settings)

    def locate_all(self, image: np.ndarray) -> list[PalmLocation]:
        """All palms in a picture, the surest first (see `Localizer`).

        The confidence is 1 / (1 + exp(−2 · score)) of the SVM: 0.5 at its own threshold.
        """
        palms: list[PalmLocation] = []
        for found in _without_overlap(self._search(image)):
            points = self._points(image, found)
            try:
                xjtu_roi_quad(points)
            except ValueError:
                continue
            hand: Literal["L", "R"] = "L" if _runs_backwards(found.corners) else "R"
            confidence = float(1 / (1 + np.exp(-2 * found.score)))
            palms.append(PalmLocation(points, None, hand, confidence))
        return palms

    def locate(self, image: np.ndarray) -> PalmLocation | None:
        """The surest palm, or None."""
        return next(iter(self.locate_all(image)), None)

    def _search(self, image: np.ndarray) -> list[_Window]:
        """Windows above the threshold, at all angles and for both hands, in picture pixels."""
        dlib, settings = _dlib(), self.settings
        height, width = image.shape[:2]
        side = round(settings.longest_side * np.hypot(height, width) / max(height, width))
        centre = np.array([(width - 1) / 2, (height - 1) / 2])
        half = np.hypot(height, width) / 2
        windows = []
        for step in range(settings.rotations):
            angle = 2 * np.pi * step / settings.rotations
            for mirror in (1, -1):
                frame = _frame(centre, half, angle, mirror)
                turned = _grey(extract_roi(image, frame, side))
                boxes, scores, _ = dlib.simple_object_detector.run_multiple(
                    [self.detector], turned, 0, settings.threshold
                )
                for box, score in zip(boxes, scores, strict=True):
                    windows.append(_Window(_to_picture(_corners(box), frame, side), score))
        return windows

    def _points(self, image: np.ndarray, window: _Window) -> np.ndarray:
        """The 14 points [14, 2] of a window, in picture pixels."""
        dlib = _dlib()
        box = _rectangle(dlib, (_CROP - 1) / 2, _CROP // 2)
        frame = window.corners
        for _ in range(2):
            crop = _cut(image, frame, _CROP, _CROP // 2)
            found = self.shape(crop, box)
            inside = np.array([[point.x, point.y] for point in found.parts()], dtype=np.float64)
            points = _to_picture(inside, _grown(frame, 2.0), _CROP)
            try:
                better = _upright_frame(points)
            except ValueError:
                break
            if _runs_backwards(better) != _runs_backwards(frame):
                break
            frame = better
        return points


class _Window(NamedTuple):
    """A detection: corners [4, 2] in picture pixels, in the order of a ROI quad, and its score."""

    corners: np.ndarray
    score: float


def _dlib() -> ModuleType:
    try:
        import dlib
    except ImportError as error:
        raise ConfigError(
            "the dlib locator needs dlib, which is not installed: pip install dlib-bin"
        ) from error
    return dlib


def _upright_frame(keypoints14: np.ndarray) -> np.ndarray:
    """The detector's window [4, 2] around a palm: upright, thumb on the right, as its ROI quad."""
    quad = xjtu_roi_quad(keypoints14)
    return _grown(quad, _BOX_OVER_ROI)


def _grown(quad: np.ndarray, factor: float) -> np.ndarray:
    centre = quad.mean(axis=0)
    return centre + factor * (quad - centre)


def _frame(centre: np.ndarray, half: float, angle: float, mirror: int) -> np.ndarray:
    """A square [4, 2], turned clockwise by `angle`, mirrored if `mirror` is −1."""
    cos, sin = np.cos(angle), np.sin(angle)
    corners = half * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * [mirror, 1]
    return centre + corners @ np.array([[cos, sin], [-sin, cos]])


def _cut(image: np.ndarray, frame: np.ndarray, size: int, window: int) -> np.ndarray:
    """Grey [size, size] in which `frame` is the middle `window` pixels."""
    return _grey(extract_roi(image, _grown(frame, size / window), size))


def _grey(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def _to_picture(points: np.ndarray, frame: np.ndarray, side: int) -> np.ndarray:
    """Points [N, 2] of a crop of side `side` that shows `frame` → picture pixels."""
    share = (points + 0.5) / side
    return frame[0] + share[:, :1] * (frame[1] - frame[0]) + share[:, 1:] * (frame[3] - frame[0])


def _to_crop(points: np.ndarray, frame: np.ndarray, side: int) -> np.ndarray:
    """The inverse of `_to_picture`."""
    axes = np.column_stack([frame[1] - frame[0], frame[3] - frame[0]])
    return np.linalg.solve(axes, (points - frame[0]).T).T * side - 0.5


def _wrong_way(upright: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What the detector must not take for an upright right hand: turned, or a left hand."""
    turned = np.rot90(upright, int(rng.integers(1, 4))) if rng.random() < 0.67 else upright
    return np.ascontiguousarray(turned if turned is not upright else upright[:, ::-1])


def _shape_example(
    dlib: ModuleType, sample: PalmSample, frame: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, Any]:
    """A crop as a detection would give it, not quite upright nor centred, and its points."""
    moved = _moved(frame, rng, shift=0.05, degrees=10, scale=0.10)
    crop = _cut(sample.image, moved, _CROP, _CROP // 2)
    points = _to_crop(sample.keypoints14, _grown(moved, 2.0), _CROP)
    parts = [dlib.point(round(x), round(y)) for x, y in points]
    return crop, dlib.full_object_detection(_rectangle(dlib, (_CROP - 1) / 2, _CROP // 2), parts)


def _moved(
    frame: np.ndarray, rng: np.random.Generator, shift: float, degrees: float, scale: float
) -> np.ndarray:
    """A frame shifted (in its sides), turned and scaled by normal deviates."""
    centre = frame.mean(axis=0)
    angle, factor = np.deg2rad(rng.normal(0, degrees)), np.exp(rng.normal(0, scale))
    cos, sin = np.cos(angle), np.sin(angle)
    turned = factor * (frame - centre) @ np.array([[cos, sin], [-sin, cos]])
    return centre + rng.normal(0, shift, 2) * quad_side(frame) + turned


def _rectangle(dlib: ModuleType, centre: float, side: int) -> Any:
    """A square of whole pixels about (centre, centre)."""
    start = round(centre - (side - 1) / 2)
    return dlib.rectangle(start, start, start + side - 1, start + side - 1)


def _corners(box: Any) -> np.ndarray:
    left, top, right, bottom = box.left(), box.top(), box.right(), box.bottom()
    square = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float64)
    return square + 0.5 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])


def _runs_backwards(quad: np.ndarray) -> bool:
    """Whether a quad runs counter-clockwise as seen: that of a left hand."""
    (ax, ay), (bx, by) = quad[1] - quad[0], quad[3] - quad[0]
    return bool(ax * by - ay * bx < 0)


def _without_overlap(windows: list[_Window]) -> list[_Window]:
    """Non-maximum suppression over angles and hands: one window a place."""
    kept: list[_Window] = []
    for window in sorted(windows, key=lambda w: -w.score):
        centre, side = window.corners.mean(axis=0), quad_side(window.corners)
        if all(
            np.linalg.norm(centre - other.corners.mean(axis=0))
            > 0.75 * max(side, quad_side(other.corners))  # a window is about a hand wide
            for other in kept
        ):
            kept.append(window)
    return kept


def _detector_options(dlib: ModuleType, settings: DlibSettings, num_threads: int) -> Any:
    options = dlib.simple_object_detector_training_options()
    options.C, options.epsilon = settings.svm_c, settings.svm_epsilon
    options.detection_window_size = _WINDOW**2
    options.add_left_right_image_flips = False  # a mirrored hand is another hand
    options.num_threads, options.be_verbose = num_threads, False
    return options


def _shape_options(dlib: ModuleType, settings: DlibSettings, seed: int, num_threads: int) -> Any:
    options = dlib.shape_predictor_training_options()
    options.cascade_depth = settings.cascade_depth
    options.num_trees_per_cascade_level = settings.trees_per_level
    options.tree_depth, options.nu = settings.tree_depth, settings.shrinkage
    options.oversampling_amount = settings.oversampling
    options.feature_pool_region_padding = 0.2
    options.random_seed = str(seed)
    options.num_threads, options.be_verbose = num_threads, False
    return options
