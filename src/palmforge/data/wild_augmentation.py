"""What happens between a palm and the ROI of it that reaches a recogniser, in the wild.

Made for learning from rendered palms what holds for real ones: the frame slips as a localiser's
does, ROI conventions differ by a third in size, light and colour are anything, the source had 45
to 400 pixels. Each capture draws how bad it is: half of them are fair, and a few have everything
wrong with them, as in life. In OpenCV, ROI by ROI: one resampling for all of the geometry, one
3 × 3 matrix for all of the colour, one table for the tone curve, ready-made noise: 0.8 ms a ROI at
128 pixels on one core (benchmarks/recognition.py).
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

VERSION = 1  # of how a seed becomes a picture

ROTATION_SD, ROTATION_MAX = 7.0, 15.0  # degrees
SCALE_MAX = 0.20  # either way: frames of two conventions differ by up to 1.44
SHIFT_MAX = 0.09  # of the side, each way
ASPECT_SD = 0.04
CORNER_SD = 0.025  # of the side: perspective
WARP_SD = 1.0  # pixels of 128: skin is not a plane
LIGHT_SD = 0.13  # of log brightness over the ROI, at the mean badness
COLOUR_SD = 0.10  # of log gain, each channel: white balance
GREY_PROBABILITY = 0.3
SOURCE_SIDES = (45.0, 400.0)  # pixels across the ROI, as the camera saw it
JPEG_QUALITIES = (35, 96)
ERASED_SIDES = (0.1, 0.4)  # of the side

_BORDERS = (cv2.BORDER_CONSTANT, cv2.BORDER_REFLECT_101, cv2.BORDER_REPLICATE)
_BORDER_ODDS = (0.2, 0.4, 0.4)


def recapture(
    roi: np.ndarray, seed: int, size: int, geometric: bool = True, strength: float = 1.0
) -> np.ndarray:
    """Another capture of the same palm; the same for the same seed.

    Args:
        roi: `[S', S', 3]` uint8 RGB.
        seed: Decides everything.
        size: S, the side of the result.
        geometric: Whether the frame moves and the skin warps.
        strength: In [0, 1], of geometry and of what spoils a picture: less than 1 for ROIs that
            show all of this already, as those rendered with the preset `wild` do.

    Returns:
        `[S, S, 3]` uint8 RGB.
    """
    rng = np.random.default_rng(seed)
    badness = rng.random() * strength
    image = _reframe(roi, rng, size, strength) if geometric else _resized(roi, size)
    image = _develop(_light(image, rng, badness), rng)
    image = _transmit(image, rng, size, badness)
    return _cover(image, rng, strength)


def _reframe(
    roi: np.ndarray, rng: np.random.Generator, size: int, strength: float = 1.0
) -> np.ndarray:
    """Rotation, scale, aspect, shift, perspective and a smooth warp in one resampling."""
    angle = np.clip(rng.normal(0, ROTATION_SD), -ROTATION_MAX, ROTATION_MAX) * strength
    angle = np.radians(angle)
    scale = np.exp(rng.uniform(-1, 1) * np.log1p(SCALE_MAX) * strength)
    aspect = np.exp(rng.normal(0, ASPECT_SD) * strength)
    axes = np.array(
        [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    ) * [scale * aspect, scale / aspect]  # fmt: skip
    corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    corners = corners + rng.normal(0, CORNER_SD, (4, 2)) * strength * (rng.random() < 0.7)
    shift = rng.uniform(-SHIFT_MAX, SHIFT_MAX, 2) * strength
    source = ((corners @ axes.T + shift + 0.5) * roi.shape[0] - 0.5).astype(np.float32)
    target = (np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * size - 0.5).astype(np.float32)
    m = cv2.getPerspectiveTransform(target, source).astype(np.float32)
    x, y, one = _grid(size)
    depth = 1 / (m[2, 0] * x + m[2, 1] * y + m[2, 2] * one)
    warp = _field(rng, size, int(rng.integers(3, 7)), 2) * (WARP_SD * roi.shape[0] / 128)
    map_x = (m[0, 0] * x + m[0, 1] * y + m[0, 2]) * depth + warp[..., 0]
    map_y = (m[1, 0] * x + m[1, 1] * y + m[1, 2]) * depth + warp[..., 1]
    border = _BORDERS[rng.choice(3, p=_BORDER_ODDS)]
    return cv2.remap(roi, map_x, map_y, cv2.INTER_LINEAR, borderMode=border)


def _light(image: np.ndarray, rng: np.random.Generator, badness: float) -> np.ndarray:
    """Uneven light, white balance, hue and saturation, on linear numbers; float32 out."""
    size = image.shape[0]
    x, y, _ = _grid(size)
    amount = 1.6 * badness * abs(rng.normal(0, LIGHT_SD))
    log_gain = _field(rng, size, int(rng.integers(2, 5)), 1) * amount
    if rng.random() < 0.5 * badness:  # the soft edge of a shadow
        angle, place = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.5) * size
        edge = (x - size / 2) * np.cos(angle) + (y - size / 2) * np.sin(angle) - place
        log_gain -= rng.uniform(0.1, 0.8) / (1 + np.exp(-edge / (rng.uniform(0.02, 0.2) * size)))
    image = cv2.transform(image.astype(np.float32), _colour_matrix(rng))
    return image * np.exp(log_gain)[..., None]


def _colour_matrix(rng: np.random.Generator) -> np.ndarray:
    """White balance, hue rotation about the grey axis and saturation as one 3 × 3 matrix."""
    if rng.random() < GREY_PROBABILITY:
        weights = rng.dirichlet((2.0, 4.0, 2.0))  # a grey picture may be any mix of the channels
        return np.tile(weights, (3, 1)).astype(np.float32)
    gains = np.exp(rng.normal(0, COLOUR_SD, 3) + rng.normal(0, 0.1))
    hue, saturation = np.radians(rng.normal(0, 8)), rng.uniform(0.4, 1.5)
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    mean = np.full((3, 3), 1 / 3)
    turn = mean + saturation * (np.cos(hue) * (np.eye(3) - mean) + np.sin(hue) * cross)
    return (np.diag(gains) @ turn).astype(np.float32)


def _develop(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Exposure and tone curve, through a table; uint8 out."""
    level = max(1.0, float(image.mean()))
    exposure = np.exp(rng.normal(0, 0.12))
    if rng.random() < 0.5:
        exposure = rng.uniform(45, 185) / level
    gamma, contrast = np.exp(rng.normal(0, 0.28)), np.exp(rng.normal(0, 0.2))
    tones = np.arange(256) / 255
    pivot = min(1.0, level * exposure / 255) ** gamma
    tones = (np.clip(tones * exposure, 0, 1) ** gamma - pivot) * contrast + pivot
    table = np.clip(tones * 255 + 0.5, 0, 255).astype(np.uint8)
    return cv2.LUT(np.clip(image, 0, 255).astype(np.uint8), table)


def _transmit(image: np.ndarray, rng: np.random.Generator, size: int, badness: float) -> np.ndarray:
    """Lens, sensor and file: resolution, blur, noise, sharpening, JPEG, and the way back up."""
    worst, best = np.log(SOURCE_SIDES)
    lowest = worst + (1 - badness) * (np.log(size) - worst)
    side = min(size, round(float(np.exp(rng.uniform(min(lowest, best), best)))))
    image = _resized(image, side)
    if rng.random() < 0.6 * badness:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.4) * max(0.6, side / 128))
    if rng.random() < 0.3 * badness:
        image = cv2.filter2D(image, -1, _motion(rng, side))
    if rng.random() < 0.3 + 0.6 * badness:
        image = _add_noise(image, rng, 1.5 + 14 * badness)
    if rng.random() < 0.25:
        soft = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.8, 2.0))
        amount = rng.uniform(0.3, 1.5)
        image = cv2.addWeighted(image, 1 + amount, soft, -amount, 0)
    if rng.random() < 0.5:
        # OpenCV takes the channels for BGR, which changes nothing that matters here.
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(*JPEG_QUALITIES))]
        image = np.asarray(cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR))
    return _resized(image, size, cv2.INTER_CUBIC if rng.random() < 0.5 else cv2.INTER_LINEAR)


def _cover(image: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """What hides a part: a frame that slipped off the palm (a black corner), a ring, a thumb."""
    size = image.shape[0]
    if rng.random() < 0.12 * strength:
        sign_x, sign_y = rng.choice([-1.0, 1.0], 2)
        slope = rng.uniform(0.3, 3.0)
        x, y, _ = _grid(size)
        along = sign_x * (x / size - 0.5) * slope + sign_y * (y / size - 0.5)
        hidden = along > (slope + 1) * rng.uniform(0.28, 0.48)
        image[hidden] = 0 if rng.random() < 0.7 else rng.integers(0, 256, 3)
    for _ in range(int(rng.choice(3, p=(0.65, 0.25, 0.1)))):
        height, width = (rng.uniform(*ERASED_SIDES, 2) * size).astype(int)
        top, left = rng.integers(0, (size - height, size - width))
        filling = rng.integers(0, 256, 3) if rng.random() < 0.5 else image.mean(axis=(0, 1))
        image[top : top + height, left : left + width] = filling
    return image


def _resized(image: np.ndarray, side: int, enlarge: int = cv2.INTER_LINEAR) -> np.ndarray:
    if image.shape[0] == side:
        return image.copy()
    way = cv2.INTER_AREA if image.shape[0] > side else enlarge
    return cv2.resize(image, (side, side), interpolation=way)


def _field(rng: np.random.Generator, size: int, knots: int, channels: int) -> np.ndarray:
    """`[S, S, C]` (`[S, S]` for one) smooth noise of mean 0 and deviation about 1."""
    coarse = rng.standard_normal((knots, knots, channels), np.float32)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)


def _motion(rng: np.random.Generator, side: int) -> np.ndarray:
    """The kernel of a straight motion of up to 4 % of the side."""
    half = max(1.0, rng.uniform(0.01, 0.02) * side)
    reach = int(np.ceil(half))
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    angle = rng.uniform(0, np.pi)
    for step in np.linspace(-half, half, 8 * reach):
        kernel[round(reach + step * np.sin(angle)), round(reach + step * np.cos(angle))] += 1
    return kernel / kernel.sum()


def _add_noise(image: np.ndarray, rng: np.random.Generator, most: float) -> np.ndarray:
    """Noise of deviation 1 to `most` levels of 255, in each channel or in all alike."""
    side = image.shape[0]
    bank = _noise_bank()
    top, left = rng.integers(0, bank.shape[0] - side, 2)
    noise = bank[top : top + side, left : left + side]
    if rng.random() < 0.3:
        noise = np.repeat(noise[..., :1], 3, axis=2)
    amount = float(np.exp(rng.uniform(0, np.log(most)))) / _BANK_SD
    return cv2.scaleAdd(noise, amount, image.astype(np.int16)).clip(0, 255).astype(np.uint8)


_BANK_SD = 1000.0


@lru_cache(maxsize=1)
def _noise_bank() -> np.ndarray:
    """`[640, 640, 3]` int16 normal noise: to draw 49,000 numbers a ROI would take 0.4 ms."""
    noise = np.random.default_rng(0x401).standard_normal((640, 640, 3), np.float32)
    return np.clip(noise * _BANK_SD, -32000, 32000).astype(np.int16)


@lru_cache(maxsize=4)
def _grid(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, y and ones, `[S, S]` float32, pixel centres at integers."""
    y, x = np.mgrid[:size, :size].astype(np.float32)
    return x, y, np.ones_like(x)
