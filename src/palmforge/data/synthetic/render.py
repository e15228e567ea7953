"""From an identity and a capture to a photograph and its ground truth."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from palmforge.data.synthetic.background import paint_background, sleeve
from palmforge.data.synthetic.camera import Preset, expose, get_preset
from palmforge.data.synthetic.light import sample_light, shade
from palmforge.data.synthetic.pose import Pose, sample_pose
from palmforge.data.synthetic.skin import BLOOD, Skin, paint_skin
from palmforge.data.synthetic.streams import Stream, stream

_TEXELS_PER_PIXEL = (
    0.58  # hand units are about 0.45 of the picture: a little finer than the picture
)


@dataclass(frozen=True)
class PalmTruth:
    """What is known about a rendered picture.

    Attributes:
        keypoints14: [14, 2] float64 pixels (x, y), pixel centres at integers, y down: the points of
            XJTU-UP, index side first.
        keypoints21: [21, 2] float64 pixels: wrist, then thumb to little finger from root to tip.
        hand: "L" or "R".
        mask: [size, size] bool, True on the skin of hand and forearm (not on a sleeve).
        plane_to_image: [3, 3] homography from the posed plane of the hand to pixels.
    """

    keypoints14: np.ndarray
    keypoints21: np.ndarray
    hand: str
    mask: np.ndarray
    plane_to_image: np.ndarray


def subject_and_hand(identity: int) -> tuple[int, str]:
    """Person and hand of an identity: even identities are left hands, odd ones right."""
    return identity // 2, "LR"[identity % 2]


def render_palm(
    identity: int, capture: int, preset: str, size: int, seed: int
) -> tuple[np.ndarray, PalmTruth]:
    """Photograph a hand that does not exist.

    A pure function: the same arguments give the same picture. Anatomy, creases and skin depend on
    (seed, identity) alone; pose, light, background and camera noise on all of
    (seed, identity, capture, preset). The two hands of a person share build and skin tone, not
    creases.

    The picture is what the phone holds before it writes a JPEG file;
    :func:`palmforge.data.synthetic.camera.encode_jpeg` writes it as the preset's phone would.

    Args:
        identity: palm, >= 0; the person is `identity // 2`, even identities are left hands.
        capture: picture of that palm, >= 0.
        preset: domain code of XJTU-UP: IF IN HF HN LF LN SF SN MF MN.
        size: side of the square picture in pixels, >= 64.
        seed: seed of the data set, >= 0.

    Returns:
        The picture, uint8 RGB [size, size, 3], and what is known about it.

    Raises:
        ValueError: unknown preset, or a number out of range.
    """
    camera, skin, pose = _scene(identity, capture, preset, size, seed)
    key = (identity, capture, preset)
    scene, coverage = _photograph(skin, pose, camera, size, seed, key)
    image = expose(scene, camera, stream(seed, Stream.CAMERA, *key))
    truth = PalmTruth(
        keypoints14=pose.to_image(skin.hand, skin.keypoints14),
        keypoints21=pose.to_image(skin.hand, skin.hand.keypoints21),
        hand=subject_and_hand(identity)[1],
        mask=coverage > 0.5,
        plane_to_image=pose.plane_to_image,
    )
    return image, truth


def capture_keypoints14(
    identity: int, capture: int, preset: str, size: int, seed: int
) -> np.ndarray:
    """The 14 points [14, 2] of a picture without rendering it; arguments as :func:`render_palm`."""
    _, skin, pose = _scene(identity, capture, preset, size, seed)
    return pose.to_image(skin.hand, skin.keypoints14)


def _scene(
    identity: int, capture: int, preset: str, size: int, seed: int
) -> tuple[Preset, Skin, Pose]:
    """Camera, hand and pose of one capture."""
    camera = get_preset(preset)
    if min(identity, capture, seed) < 0 or size < 64:
        raise ValueError(
            "identity, capture and seed must be >= 0 and size >= 64, got "
            f"identity={identity}, capture={capture}, seed={seed}, size={size}"
        )
    skin = paint_skin(identity, seed, round(_TEXELS_PER_PIXEL * size))
    left = subject_and_hand(identity)[1] == "L"
    pose = sample_pose(stream(seed, Stream.POSE, identity, capture, preset), size, left)
    return camera, skin, pose


def _photograph(
    skin: Skin, pose: Pose, camera: Preset, size: int, seed: int, key: tuple[int, int, str]
) -> tuple[np.ndarray, np.ndarray]:
    """Light [S, S, 3] that enters the camera, and how much of each pixel is skin [S, S]."""
    light_rng = stream(seed, Stream.LIGHT, *key)
    background_rng = stream(seed, Stream.BACKGROUND, *key)
    where = pose.map_to_hand(skin.hand, size)
    texels = skin.raster.texel(where).astype(np.float32)
    layers = cv2.remap(
        skin.layers,
        texels[..., 0],
        texels[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    distance, height = cv2.extractChannel(layers, 0), cv2.extractChannel(layers, 1)
    height += np.float32(pose.cupping) * np.square(where[..., 0])
    pixels_per_unit = np.float32(
        np.sqrt(abs(np.linalg.det(pose.plane_to_image[:2, :2]))) / abs(pose.plane_to_image[2, 2])
    )

    light = sample_light(light_rng, camera.flash)
    irradiance, shine = shade(light, height * pixels_per_unit, distance, light_rng)
    picture = _reflectance(skin, layers)
    picture *= irradiance[..., None]
    picture += shine[..., None]

    coverage = np.clip(0.5 - distance * pixels_per_unit, 0, 1)
    behind = paint_background(background_rng, size) * np.float32(light.background)
    behind *= _cast_shadow(coverage, light.direction, light.main)[..., None]
    scene = behind + coverage[..., None] * (picture - behind)
    if (worn := sleeve(background_rng, where)) is not None:
        cloth, colour = worn
        scene += cloth[..., None] * (colour * irradiance.mean() - scene)
        coverage = coverage * (1 - cloth)
    return scene * light.colour, coverage


def _reflectance(skin: Skin, layers: np.ndarray) -> np.ndarray:
    """Colour [S, S, 3] of the skin in white light: palm to back, less what blood absorbs."""
    palm, back = np.log(skin.palm), np.log(skin.back)
    mixing = np.zeros((3, 5))
    mixing[:, 2], mixing[:, 3], mixing[:, 4] = back - palm, -BLOOD, palm
    return cv2.exp(cv2.transform(layers, mixing))


def _cast_shadow(coverage: np.ndarray, direction: np.ndarray, strength: float) -> np.ndarray:
    """Factor [S, S] by which the hand's blurred shadow darkens what is behind it."""
    size = len(coverage)
    small = cv2.resize(coverage, (size // 8, size // 8), interpolation=cv2.INTER_AREA)
    shift = -direction[:2] * size / 8 * 0.12
    moved = cv2.warpAffine(small, np.array([[1, 0, shift[0]], [0, 1, shift[1]]]), small.shape[::-1])
    soft = cv2.GaussianBlur(moved, (0, 0), size / 8 * 0.035)
    return 1 - np.float32(0.5 * strength) * cv2.resize(soft, (size, size))
