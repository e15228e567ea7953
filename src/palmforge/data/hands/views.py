"""One view of a photographed hand: where it is put, on what, and beside what.

A view is made with one perspective warp of each picture in it. The truth goes through the same
matrix as the pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from palmforge.data.hands.frames import (
    CROP_SIDES,
    PalmFrame,
    crop_matrix,
    frame_of_points,
    transform,
)
from palmforge.data.hands.photometry import background, degrade
from palmforge.data.records import NUM_KEYPOINTS

HAND_SIDES = 4.2  # length of a hand in sides of its ROI
HAND_SPAN = (0.14, 1.9)  # of the view; palms at close range are larger than it
NO_HAND = 0.15  # share of views without a palm
WRONG_MIRROR = 0.3  # share of crops that show the palm the wrong way round


@dataclass(frozen=True)
class HandPicture:
    """A picture and what is known of the palm in it.

    Attributes:
        image: [H, W, 3] uint8 RGB.
        points: [35, 2] pixels; NaN where unknown.
        visible: [35] 1, 0 or NaN.
    """

    image: np.ndarray
    points: np.ndarray
    visible: np.ndarray

    @property
    def frame(self) -> PalmFrame:
        """The palm."""
        return frame_of_points(self.points[:NUM_KEYPOINTS])


def detector_view(
    pictures: Sequence[HandPicture], size: int, rng: np.random.Generator
) -> tuple[np.ndarray, list[PalmFrame]]:
    """Up to two hands anywhere, at any size, turned any way, left or right; or none.

    Args:
        pictures: One or two; none gives a view without a hand.
        size: Side of the view in pixels.
        rng: Decides everything.

    Returns:
        The view `[size, size, 3]` uint8, and the palms whose centre is in it.
    """
    canvas, frames = background(rng, size), []
    no_hand = not pictures or rng.random() < NO_HAND
    if pictures and (not no_hand or rng.random() < 0.6):
        first = without_hand(pictures[0], rng) if no_hand else pictures[0]
        matrix = _placement(first.frame, size, rng)
        canvas = paste(canvas, first, matrix, rng, rng.random() < 0.3 and not no_hand)
        frames += [] if no_hand else [_moved(first, matrix)]
    if len(pictures) > 1 and frames:
        beside = _placement_beside(pictures[1].frame, frames[0], size, rng)
        if beside is not None:
            canvas = paste(canvas, pictures[1], beside, rng, outlined=True)
            frames.append(_moved(pictures[1], beside))
    inside = [f for f in frames if (f.centre > -0.5).all() and (f.centre < size - 0.5).all()]
    return degrade(canvas, rng), inside


@dataclass(frozen=True)
class LandmarkCrop:
    """A crop as the detector might cut it, and its truth.

    Attributes:
        image: [S, S, 3] uint8.
        points: [35, 2] pixels of the crop; NaN where unknown.
        weight: [35] 1 where the point is known and inside the crop.
        visible: [35] 1, 0, or NaN where unknown.
        present: Whether a palm is in the middle.
        mirrored: Whether it is shown as a left hand.
    """

    image: np.ndarray
    points: np.ndarray
    weight: np.ndarray
    visible: np.ndarray
    present: bool
    mirrored: bool


def landmark_crop(
    picture: HandPicture | None,
    other: HandPicture | None,
    size: int,
    rng: np.random.Generator,
) -> LandmarkCrop:
    """A crop about a palm, as wrong as a detector may be: turned, shifted, scaled, mirrored.

    Args:
        picture: The hand; None gives a crop without one.
        other: A hand that may come into the crop as well, not in its middle.
        size: Side of the crop in pixels.
        rng: Decides everything.
    """
    canvas = background(rng, size)
    unknown = np.full((35, 2), np.nan)
    absent = LandmarkCrop(canvas, unknown, np.zeros(35), unknown[:, 0], False, False)
    if picture is None:
        return replace(absent, image=degrade(canvas, rng))
    kind = rng.random()
    seen = without_hand(picture, rng) if kind < 0.05 else picture
    frame = _jittered(picture.frame, rng)
    if 0.05 <= kind < 0.12:  # a detector's mistake: fingers, a forearm, nothing
        frame = _displaced(frame, rng)
    mirrored = bool(rng.random() < WRONG_MIRROR)
    frame = replace(frame, left=frame.left != mirrored)
    matrix = _skew(size, rng) @ crop_matrix(frame, size)
    canvas = paste(canvas, seen, matrix, rng, rng.random() < 0.2)
    if kind < 0.12:
        return replace(absent, image=degrade(canvas, rng))
    points = transform(matrix, picture.points.astype(np.float64))
    if other is not None:
        centre = transform(matrix, picture.frame.centre)
        main = PalmFrame(centre, size / CROP_SIDES, np.array([0.0, -1.0]), mirrored)
        beside = _placement_beside(other.frame, main, size, rng)
        canvas = canvas if beside is None else paste(canvas, other, beside, rng, outlined=True)
    with np.errstate(invalid="ignore"):
        inside = np.all((points > -0.5) & (points < size - 0.5), axis=1)
    visible = np.where(inside | np.isnan(points[:, 0]), picture.visible, 0.0)
    weight = np.asarray(inside, np.float64)
    return LandmarkCrop(degrade(canvas, rng), points, weight, visible, True, mirrored)


def paste(
    canvas: np.ndarray,
    picture: HandPicture,
    matrix: np.ndarray,
    rng: np.random.Generator,
    outlined: bool,
) -> np.ndarray:
    """Lays a picture over the canvas.

    Args:
        canvas: [S, S, 3] uint8.
        picture: Laid over.
        matrix: Picture → canvas.
        rng: Of the edges.
        outlined: Only a soft patch about the hand, so that no frame gives away that a palm is in
            it; else the whole picture, its border carried on at times.
    """
    size = len(canvas)
    image, matrix = _reduced(picture.image, matrix)
    height, width = image.shape[:2]
    border = cv2.BORDER_REPLICATE
    warped = cv2.warpPerspective(image, matrix, (size, size), borderMode=border)
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]]) - 0.5
    frame = _filled(transform(matrix, corners), size)
    if not outlined:
        return warped if rng.random() < 0.2 else cv2.copyTo(warped, frame, canvas.copy())
    full_to_canvas = matrix @ _scaling(width / picture.image.shape[1])
    patch = _filled(_outline(picture, full_to_canvas, rng.uniform(1.1, 1.5)), size) & frame
    soft = cv2.GaussianBlur(patch, (0, 0), size * rng.uniform(0.004, 0.03))
    share = cv2.merge([soft] * 3).astype(np.float32) * np.float32(1 / 255)
    return (canvas + share * (warped.astype(np.float32) - canvas) + 0.5).astype(np.uint8)


def without_hand(picture: HandPicture, rng: np.random.Generator) -> HandPicture:
    """The picture with something else where the hand was."""
    height, width = picture.image.shape[:2]
    size = max(height, width)
    patch = _filled(_outline(picture, np.eye(3), 1.35), size)[:height, :width]
    behind = background(rng, 64)
    if rng.random() < 0.4:  # smooth skin: its colour alone is no palm
        middle, reach = np.rint(picture.frame.centre).astype(int), int(picture.frame.side / 2) + 1
        left, top = np.clip(middle - reach, 0, (width - 2, height - 2))
        skin = picture.image[top : middle[1] + reach, left : middle[0] + reach]
        behind = cv2.resize(skin, (5, 5), interpolation=cv2.INTER_AREA) if skin.size else behind
    behind = cv2.resize(behind, (width, height), interpolation=cv2.INTER_CUBIC)
    return replace(picture, image=cv2.copyTo(behind, patch, picture.image.copy()))


def _outline(picture: HandPicture, matrix: np.ndarray, grow: float) -> np.ndarray:
    """Convex polygon on the canvas that holds the known points, or a disc where fingers are not."""
    frame = picture.frame
    points = picture.points[np.isfinite(picture.points[:, 0])].astype(np.float64)
    if len(points) <= NUM_KEYPOINTS:
        turns = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        middle = frame.centre + 0.45 * frame.side * frame.up
        points = middle + 2.1 * frame.side * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    hull = cv2.convexHull(points.astype(np.float32))[:, 0]
    middle = hull.mean(axis=0)
    away = hull - middle
    length = np.linalg.norm(away, axis=1, keepdims=True) + 1e-6
    return transform(matrix, middle + away * (grow + 0.3 * frame.side / length))


def _filled(polygon: np.ndarray, size: int) -> np.ndarray:
    mask = np.zeros((size, size), np.uint8)
    limit = 32 * size  # of OpenCV's fixed-point numbers
    cv2.fillConvexPoly(mask, np.clip(np.rint(polygon), -limit, limit).astype(np.int32), 255)
    return mask


def _scaling(scale: float) -> np.ndarray:
    """Full picture → picture resized by `scale`; the corner at −0.5 stays."""
    return np.array([[scale, 0, (scale - 1) / 2], [0, scale, (scale - 1) / 2], [0, 0, 1]])


def _reduced(image: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Averages pixels first where the warp makes the picture less than half as large."""
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:2, :2]))))
    if scale > 0.6:
        return image, matrix
    factor = max(1.5 * scale, 0.05)
    height, width = image.shape[:2]
    shape = (max(1, round(width * factor)), max(1, round(height * factor)))
    small = cv2.resize(image, shape, interpolation=cv2.INTER_AREA)
    return small, matrix @ np.linalg.inv(_scaling(shape[0] / width))


def _moved(picture: HandPicture, matrix: np.ndarray) -> PalmFrame:
    return frame_of_points(transform(matrix, picture.points[:NUM_KEYPOINTS].astype(np.float64)))


def _sample_side(size: int, rng: np.random.Generator) -> float:
    """Of the ROI, in pixels of the view: small hands in a third of the views, most about half."""
    low, high = np.log(HAND_SPAN)
    span = np.exp(low + (high - low) * rng.beta(1.6, 1.2))
    return float(span * size / HAND_SIDES)


def _placement(
    frame: PalmFrame, size: int, rng: np.random.Generator, side: float | None = None
) -> np.ndarray:
    """Picture → view: any rotation, either hand, and the ROI's centre somewhere in the view."""
    side = _sample_side(size, rng) if side is None else side
    # The larger the hand, the nearer to the middle: somebody has framed it.
    margin = np.clip(0.12 + 0.5 * side / size, 0.12, 0.38)
    centre = size * rng.uniform(margin, 1 - margin, 2)
    return _place_at(frame, centre, side, size, rng)


def _place_at(
    frame: PalmFrame, centre: np.ndarray, side: float, size: int, rng: np.random.Generator
) -> np.ndarray:
    turn = rng.uniform(-np.pi, np.pi)
    cos, sin = np.cos(turn), np.sin(turn)
    scale = side / frame.side
    mirror = np.diag([rng.choice([-1.0, 1.0]), 1.0])
    rotation = scale * np.array([[cos, -sin], [sin, cos]]) @ mirror
    matrix = np.eye(3)
    matrix[:2, :2] = rotation
    matrix[:2, 2] = centre - rotation @ frame.centre
    there = np.eye(3)
    there[:2, 2] = centre - (size - 1) / 2
    return there @ _skew(size, rng) @ np.linalg.inv(there) @ matrix


def _placement_beside(
    frame: PalmFrame, other: PalmFrame, size: int, rng: np.random.Generator
) -> np.ndarray | None:
    """Picture → view so that it hardly covers the other hand; None if there is no room."""
    for _ in range(8):
        side = min(_sample_side(size, rng), 0.2 * size)
        centre = size * rng.uniform(0.05, 0.95, 2)
        if np.linalg.norm(centre - other.centre) > 1.5 * side + 1.3 * other.side:
            return _place_at(frame, centre, side, size, rng)
    return None


def _skew(size: int, rng: np.random.Generator) -> np.ndarray:
    """A little aspect, shear and perspective about the middle of the view."""
    matrix = np.eye(3)
    matrix[:2, :2] += rng.normal(0, 0.05, (2, 2))
    matrix[2, :2] = np.clip(rng.normal(0, 0.08, 2), -0.2, 0.2) / size
    middle = np.eye(3)
    middle[:2, 2] = (size - 1) / 2
    return middle @ matrix @ np.linalg.inv(middle)


def _jittered(frame: PalmFrame, rng: np.random.Generator) -> PalmFrame:
    kind = rng.random()
    turn = rng.normal(0, 12)
    if kind < 0.25:
        turn = rng.uniform(-50, 50)
    elif kind < 0.33:
        turn = rng.uniform(-180, 180)
    side = frame.side * np.exp(np.clip(rng.normal(0, 0.13), -0.35, 0.35))
    shift = np.clip(rng.normal(0, 0.15, 2), -0.5, 0.5) * frame.side
    return PalmFrame(frame.centre + shift, float(side), _turned(frame.up, turn), frame.left)


def _displaced(frame: PalmFrame, rng: np.random.Generator) -> PalmFrame:
    """A frame that misses the palm by more than its side."""
    away = _turned(np.array([1.0, 0.0]), rng.uniform(-180, 180)) * rng.uniform(1.6, 3.0)
    side = frame.side * np.exp(rng.normal(0, 0.3))
    up = _turned(frame.up, rng.uniform(-180, 180))
    return PalmFrame(frame.centre + away * frame.side, float(side), up, frame.left)


def _turned(vector: np.ndarray, degrees: float) -> np.ndarray:
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([cos * vector[0] - sin * vector[1], sin * vector[0] + cos * vector[1]])
