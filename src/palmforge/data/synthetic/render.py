"""From an identity and a capture to a photograph, or straight to a ROI, with ground truth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np

from palmforge.data.roi import xjtu_roi_quad
from palmforge.data.synthetic.anatomy import build_hand
from palmforge.data.synthetic.background import Background, paint_background
from palmforge.data.synthetic.camera import expose, get_preset
from palmforge.data.synthetic.capture import Capture, draw_capture, subject_and_hand
from palmforge.data.synthetic.complexion import BLOOD
from palmforge.data.synthetic.light import shade
from palmforge.data.synthetic.mesh import PALM_BOX, WHOLE, HandMesh, build_mesh, skin_weights
from palmforge.data.synthetic.skin import Skin, paint_skin
from palmforge.data.synthetic.streams import Stream, stream, truncated_normal
from palmforge.data.synthetic.viewpoint import Seen, look, project
from palmforge.data.synthetic.worn import cover, swell

_TEXELS_PER_PIXEL = 0.58  # of a whole picture: a little finer than it shows an ordinary hand
_ROI_DENSITY = 1.8  # texels per hand unit and pixel of a ROI, whose side is 0.6 units
_FOLD = 0.005  # hand units by which closing the palm deepens its creases
_LEAST_SIDE = 45.0  # pixels that any camera has for a side of the ROI, if `size` allows
_IN_FRONT = 0.10  # hand units: what is nearer by more than this hides a point of the skin


@dataclass(frozen=True)
class PalmTruth:
    """What is known about a rendered picture.

    Attributes:
        keypoints14: [14, 2] float64 pixels (x, y), pixel centres at integers, y down: the points of
            XJTU-UP, index side first.
        keypoints21: [21, 2] float64 pixels: wrist, then thumb to little finger from root to tip.
        visible14: [14] bool, in the picture and not hidden.
        visible21: [21] bool, likewise.
        hand: "L" or "R".
        mask: [size, size] bool, True on the skin of hand and forearm (not on sleeve or ring).
        place: [size, size, 2] float32: which place of the hand frame each pixel of the mask shows.
        capture: every number drawn for the picture.
        background: what is behind the hand.
    """

    keypoints14: np.ndarray
    keypoints21: np.ndarray
    visible14: np.ndarray
    visible21: np.ndarray
    hand: str
    mask: np.ndarray
    place: np.ndarray
    capture: Capture
    background: Background

    @property
    def quad(self) -> np.ndarray:
        """[4, 2] corners of the ROI (:func:`palmforge.data.roi.xjtu_roi_quad`)."""
        return xjtu_roi_quad(self.keypoints14)


@dataclass(frozen=True)
class RoiTruth:
    """What is known about a ROI that was rendered directly.

    Attributes:
        hand: "L" or "R".
        source_side: pixels that the camera had for a side of the ROI.
        capture: every number drawn for the picture.
        background: what is behind the hand.
    """

    hand: str
    source_side: int
    capture: Capture
    background: Background


def render_palm(
    identity: int, capture: int, preset: str, size: int, seed: int
) -> tuple[np.ndarray, PalmTruth]:
    """Photograph a hand that does not exist.

    A pure function: the same arguments give the same picture. Anatomy, creases and skin depend on
    (seed, identity) alone; pose, light, background and camera on all of
    (seed, identity, capture, preset). The two hands of a person share build and skin tone, not
    creases. Geometry and truth scale exactly with `size`.

    The picture is what the camera holds before it writes a JPEG file;
    :func:`palmforge.data.synthetic.camera.encode_jpeg` writes it as the preset's camera would.

    Args:
        identity: palm, >= 0; the person is `identity // 2`, even identities are left hands.
        capture: picture of that palm, >= 0.
        preset: `wild`, or a domain code of XJTU-UP: IF IN HF HN LF LN SF SN MF MN.
        size: side of the square picture in pixels, >= 64.
        seed: seed of the data set, >= 0.

    Returns:
        The picture, uint8 RGB [size, size, 3], and what is known about it.

    Raises:
        ValueError: unknown preset, or a number out of range.
    """
    _check(size, least=64)
    drawn = draw_capture(identity, capture, preset, seed)
    skin = paint_skin(identity, seed, round(_TEXELS_PER_PIXEL * size))
    mesh = _mesh(identity, seed, WHOLE)
    intrinsic = drawn.viewpoint.intrinsic(size)
    key = (seed, identity, capture, preset)
    taken = _photograph(drawn, skin, mesh, intrinsic, size, float(size), key)
    points14, depth14 = _points(drawn, skin, 14, intrinsic)
    points21, depth21 = _points(drawn, skin, 21, intrinsic)
    truth = PalmTruth(
        keypoints14=points14,
        keypoints21=points21,
        visible14=_visible(points14, depth14 - _IN_FRONT, taken.seen),
        # These are inside the digits: the skin above them does not hide them.
        visible21=_visible(points21, depth21 - 2 * _IN_FRONT, taken.seen),
        hand=subject_and_hand(identity)[1],
        mask=taken.skin,
        place=taken.seen.texture,
        capture=drawn,
        background=taken.background,
    )
    return taken.image, truth


def render_roi(
    identity: int, capture: int, preset: str, size: int, seed: int, frame_error: float = 0.0
) -> tuple[np.ndarray, RoiTruth]:
    """Photograph the ROI only: the same capture as :func:`render_palm`, several times faster.

    In the `wild`, the camera sees the ROI with 45 to 400 pixels a side, whatever `size` is.

    Args:
        identity: as for :func:`render_palm`.
        capture: likewise.
        preset: likewise.
        size: side of the ROI in pixels, >= 32.
        seed: likewise.
        frame_error: how far a localiser misses the frame: 1 = by 6° of rotation, 7 % of the side
            and 9 % of scale (standard deviations), 0 = not at all.

    Returns:
        The ROI, uint8 RGB [size, size, 3], fingers up and index side on the right for either hand,
        and what is known about it.

    Raises:
        ValueError: unknown preset, or a number out of range.
    """
    _check(size, least=32)
    if frame_error < 0:
        raise ValueError(f"frame_error must be >= 0, got {frame_error}")
    drawn = draw_capture(identity, capture, preset, seed)
    skin = paint_skin(identity, seed, round(_ROI_DENSITY * size), PALM_BOX)
    mesh = _mesh(identity, seed, PALM_BOX)
    key = (seed, identity, capture, preset)
    rng = stream(seed, Stream.FRAME, identity, capture, preset)
    wild = get_preset(preset).wild
    widest = float(np.exp(rng.uniform(np.log(_LEAST_SIDE), np.log(400))))
    seen_side = widest if wild else 1.25 * size
    side = int(np.clip(seen_side, 32, 1.3 * size))
    unit = drawn.viewpoint.intrinsic(1000)
    quad = xjtu_roi_quad(_points(drawn, skin, 14, unit)[0])
    quad = _miss(quad, frame_error, rng)
    corners = np.array([[0, 0], [side, 0], [side, side]]) - 0.5
    crop = np.eye(3)
    crop[:2] = cv2.getAffineTransform(quad[:3].astype(np.float32), corners.astype(np.float32))
    frame = side * 1000 / np.linalg.norm(quad[1] - quad[0])  # side of the whole picture
    taken = _photograph(drawn, skin, mesh, crop @ unit, side, float(frame), key)
    truth = RoiTruth(subject_and_hand(identity)[1], side, drawn, taken.background)
    if side == size:
        return taken.image, truth
    way = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
    return cv2.resize(taken.image, (size, size), interpolation=way), truth


def _check(size: int, least: int) -> None:
    if size < least:
        raise ValueError(f"size must be >= {least}, got {size}")


@lru_cache(maxsize=4)
def _mesh(identity: int, seed: int, box: tuple[float, float, float, float]) -> HandMesh:
    return build_mesh(build_hand(identity // 2, identity, seed), box)


def _points(
    drawn: Capture, skin: Skin, number: int, intrinsic: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [N, 2] and depths [N] of the 14 or the 21 points."""
    places, weights = _landmarks(skin, number)
    posed = drawn.pose.place(skin.hand, places, np.zeros(number), weights)
    camera = drawn.viewpoint.to_camera(posed)
    return project(intrinsic, camera), camera[:, 2]


@lru_cache(maxsize=8)
def _landmarks(skin: Skin, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Places [N, 2] of the 14 or the 21 points, and the bones that they follow [N, 17]."""
    places = skin.keypoints14 if number == 14 else skin.hand.keypoints21
    return places, skin_weights(skin.hand, places)


def _visible(points: np.ndarray, depth: np.ndarray, seen: Seen) -> np.ndarray:
    """Which points [N] are in the picture, and have nothing in front of them."""
    rows, columns = seen.hit.shape
    x, y = np.rint(points).astype(int).T
    inside = (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
    nearest = seen.depth[np.clip(y, 0, rows - 1), np.clip(x, 0, columns - 1)]
    return inside & (nearest > depth)


def _miss(quad: np.ndarray, error: float, rng: np.random.Generator) -> np.ndarray:
    """A quad [4, 2] turned, scaled, moved and sheared, as a localiser's would be."""
    turn = np.deg2rad(6.0) * error * truncated_normal(rng)
    scale = np.exp(0.09 * error * truncated_normal(rng))
    stretch = np.exp(0.03 * error * truncated_normal(rng))
    shift = 0.07 * error * truncated_normal(rng, 2)
    centre = quad.mean(0)
    across, down = (quad[1] - quad[0]) / 2, (quad[3] - quad[0]) / 2
    cos, sin = np.cos(turn), np.sin(turn)
    right, below = cos * across + sin * down, cos * down - sin * across
    right, below = right * scale * stretch, below * scale / stretch
    centre = centre + 2 * (shift[0] * across + shift[1] * down)
    signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    return centre + signs[:, :1] * right + signs[:, 1:] * below


@dataclass(frozen=True)
class _Taken:
    """A picture [S, S, 3] uint8, what its pixels see, where that is skin, and what is behind."""

    image: np.ndarray
    seen: Seen
    skin: np.ndarray
    background: Background


def _photograph(
    drawn: Capture,
    skin: Skin,
    mesh: HandMesh,
    intrinsic: np.ndarray,
    size: int,
    frame: float,
    key: tuple[int, int, int, str],
) -> _Taken:
    """Take one picture with sides of `size`; `frame` is the side of the whole it is a part of."""
    seed, owner = key[0], key[1:]
    noise = stream(seed, Stream.NOISE, *owner)
    viewpoint = drawn.viewpoint
    posed = drawn.pose.place(skin.hand, *swell(drawn.worn, mesh.xy, mesh.z), mesh.weights)
    normals = viewpoint.normals_to_view(mesh.normals(posed))
    mirrored = viewpoint.left != (np.linalg.det(intrinsic[:2, :2]) < 0)
    seen = look(mesh, viewpoint.to_camera(posed), normals, intrinsic, (size, size), mirrored)
    pixels_per_unit = float(np.sqrt(abs(np.linalg.det(intrinsic[:2, :2]))) / viewpoint.distance)

    layers = _sample(skin, seen.texture, pixels_per_unit)
    layers[..., 3] += _blotches(drawn.blotches, pixels_per_unit, size, noise)
    bumped = _engraved(seen.normals, layers, drawn.pose.folding, pixels_per_unit)
    irradiance, shine = shade(drawn.light, bumped, _occlusion(seen, pixels_per_unit), noise)
    shine *= np.float32(skin.gloss)
    albedo, worn = _albedo(drawn, skin, seen, layers, shine)
    albedo *= irradiance
    albedo += shine

    if seen.hit.all():  # nothing of it would be seen
        image = _expose(albedo, drawn, pixels_per_unit, noise, frame)
        return _Taken(image, seen, ~worn, Background("hidden", (0.0, 0.0, 0.0), 0.0))
    rng = stream(seed, Stream.BACKGROUND, *owner)
    behind, background = paint_background(rng, size, size, owner[-1])
    behind *= drawn.light.background_light.astype(np.float32)
    behind *= _cast_shadow(seen.hit, drawn.light.directions[0])[..., None]
    scene = _soften(np.where(seen.hit[..., None], albedo, behind), seen.hit)
    image = _expose(scene, drawn, pixels_per_unit, noise, frame)
    return _Taken(image, seen, seen.hit & ~worn, background)


def _expose(
    scene: np.ndarray,
    drawn: Capture,
    pixels_per_unit: float,
    noise: np.random.Generator,
    frame: float,
) -> np.ndarray:
    """Let the camera take the scene [S, S, 3]."""
    # However small the web made the picture, some pixels of the palm are left.
    shrink = min(drawn.device.shrink, max(1.0, 0.6 * pixels_per_unit / _LEAST_SIDE))
    return expose(scene, replace(drawn.device, shrink=shrink), drawn.flash, noise, frame)


def _sample(skin: Skin, texture: np.ndarray, pixels_per_unit: float) -> np.ndarray:
    """Painted layers [H, W, 4] at the places that the pixels see."""
    # A painting much finer than the picture would alias: take it from a smaller copy.
    level = max(0, round(np.log2(skin.raster.density / max(pixels_per_unit, 1.0))))
    layers = skin.reduced(level)
    texels = (skin.raster.texel(texture) + 0.5) / 2**level - 0.5
    x, y = (cv2.extractChannel(texels.astype(np.float32), k) for k in range(2))
    return cv2.remap(layers, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def _blotches(
    amount: float, pixels_per_unit: float, size: int, rng: np.random.Generator
) -> np.ndarray:
    """Redness of the moment [S, S]: cold, warmth and pressure move blood about in minutes."""
    cells = int(np.clip(8 * size / pixels_per_unit, 4, 64))
    coarse = rng.standard_normal((cells, cells), dtype=np.float32)
    return cv2.resize(np.float32(amount) * coarse, (size, size), interpolation=cv2.INTER_CUBIC)


def _engraved(
    normals: np.ndarray, layers: np.ndarray, folding: float, pixels_per_unit: float
) -> np.ndarray:
    """View-space unit normals [H, W, 3] of the skin with its creases."""
    height = cv2.addWeighted(
        cv2.extractChannel(layers, 1), pixels_per_unit,
        cv2.extractChannel(layers, 0), -_FOLD * folding * pixels_per_unit, 0,
    )  # fmt: skip
    bumped = normals
    bumped[..., 0] -= cv2.Sobel(height, cv2.CV_32F, 1, 0, ksize=3, scale=1 / 8)
    bumped[..., 1] -= cv2.Sobel(height, cv2.CV_32F, 0, 1, ksize=3, scale=1 / 8)
    x, y, z = cv2.split(bumped)
    length = cv2.sqrt(x * x + y * y + z * z + np.float32(1e-6))
    return cv2.merge([x / length, y / length, z / length])


def _occlusion(seen: Seen, pixels_per_unit: float) -> np.ndarray:
    """How much of the room each pixel sees [H, W]: less between fingers, and behind others."""
    rows, columns = seen.hit.shape
    coarse = (max(8, columns // 4), max(8, rows // 4))
    hit = seen.hit.astype(np.float32)
    depth = np.where(seen.hit, seen.depth, 0)
    weight = cv2.resize(hit, coarse, interpolation=cv2.INTER_AREA)
    near = cv2.resize(depth, coarse, interpolation=cv2.INTER_AREA)
    sigma = max(0.8, 0.07 * pixels_per_unit * coarse[0] / columns)
    weight = cv2.GaussianBlur(weight, (0, 0), sigma) + np.float32(1e-4)
    mean = cv2.resize(cv2.GaussianBlur(near, (0, 0), sigma) / weight, (columns, rows))
    return np.clip(1 - 4.5 * np.maximum(depth - mean - 0.01, 0), 0.3, 1).astype(np.float32)


def _albedo(
    drawn: Capture, skin: Skin, seen: Seen, layers: np.ndarray, shine: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Colour [H, W, 3] of skin, cloth and metal, and where it is not skin [H, W]; sets `shine`."""
    layers[..., 2] = np.where(seen.back, 1.0, layers[..., 2])
    palm, back = np.log(skin.palm), np.log(skin.back)
    mixing = np.zeros((3, 5))
    mixing[:, 0] = -0.35 * drawn.pose.folding * BLOOD
    mixing[:, 2], mixing[:, 3], mixing[:, 4] = back - palm, -BLOOD, palm - drawn.blush * BLOOD
    albedo = cv2.exp(cv2.transform(layers, mixing))
    worn = np.zeros(seen.hit.shape, bool)
    where = np.nonzero(seen.hit)
    if drawn.worn.cuff < seen.texture[..., 1].max() or drawn.worn.bands:
        covered, colour, gloss = cover(drawn.worn, skin.hand, seen.texture[where])
        where = tuple(axis[covered] for axis in where)
        albedo[where] = colour[covered]
        shine[where] *= gloss[covered][:, None]
        worn[where] = True
    return albedo, worn


def _soften(scene: np.ndarray, hit: np.ndarray) -> np.ndarray:
    """Let the pixels on the outline of the hand see both sides of it, as a camera's do."""
    share = cv2.GaussianBlur(hit.astype(np.float32), (3, 3), 0.7)
    edge = cv2.merge([4 * share * (1 - share)] * 3)
    return scene + edge * (cv2.GaussianBlur(scene, (3, 3), 0.7) - scene)


def _cast_shadow(hit: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Factor [H, W] by which the hand's blurred shadow darkens what is behind it."""
    rows, columns = hit.shape
    coarse = (max(8, columns // 8), max(8, rows // 8))
    small = cv2.resize(hit.astype(np.float32), coarse, interpolation=cv2.INTER_AREA)
    shift = -direction[:2] * coarse[0] * 0.12
    moved = cv2.warpAffine(small, np.array([[1, 0, shift[0]], [0, 1, shift[1]]]), coarse)
    soft = cv2.GaussianBlur(moved, (0, 0), coarse[0] * 0.035)
    return 1 - np.float32(0.35) * cv2.resize(soft, (columns, rows))
