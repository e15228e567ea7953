"""Anatomy on a raster: signed distance, relief, and the 14 points found on the outline."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from palmforge.data.synthetic.anatomy import WRIST_Y, Hand

# The part of the hand frame that is kept as a raster: left, top, right, bottom.
BOX = (-0.85, -1.15, 1.25, 1.72)


@dataclass(frozen=True)
class Raster:
    """The grid that an identity is painted on.

    Attributes:
        density: texels per unit of the hand frame.
        box: left, top, right and bottom of the part of the hand frame that is painted.
    """

    density: float
    box: tuple[float, float, float, float] = BOX

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        left, top, right, bottom = self.box
        return round((bottom - top) * self.density), round((right - left) * self.density)

    def texel(self, points: np.ndarray) -> np.ndarray:
        """Hand frame [..., 2] -> texel coordinates [..., 2]; texel centres are integers."""
        return (np.asarray(points) - self.box[:2]) * self.density

    def coordinates(self) -> tuple[np.ndarray, np.ndarray]:
        """X [1, W] and y [H, 1] of the texels, in the hand frame, float32."""
        rows, columns = self.shape
        x = np.arange(columns, dtype=np.float32)[None] / self.density + self.box[0]
        y = np.arange(rows, dtype=np.float32)[:, None] / self.density + self.box[1]
        return x.astype(np.float32), y.astype(np.float32)

    def enlarge(self, coarse: np.ndarray) -> np.ndarray:
        """Resample an image of the whole box, of any resolution, onto this grid."""
        rows, columns = self.shape
        return cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_CUBIC)

    def sample(self, image: np.ndarray, grid: Raster, cubic: bool = False) -> np.ndarray:
        """Resample an image [h, w, ...] of the whole hand, painted on `grid`, onto this one."""
        scale = grid.density / self.density
        shift = grid.texel(np.array(self.box[:2]))
        matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
        rows, columns = self.shape
        how = cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR
        return cv2.warpAffine(
            image,
            matrix,
            (columns, rows),
            flags=how | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )

    def blur(self, image: np.ndarray, sigma: float) -> np.ndarray:
        """Gaussian blur with `sigma` in hand units."""
        return cv2.GaussianBlur(
            image, (0, 0), sigma * self.density, borderType=cv2.BORDER_REPLICATE
        )


def signed_distance(hand: Hand, raster: Raster) -> np.ndarray:
    """Distance to the outline of the hand, negative inside.

    The polygons of palm and digits are joined, and a blurred threshold rounds what they leave
    sharp: the webs between the fingers.

    Args:
        hand: anatomy.
        raster: grid.

    Returns:
        [H, W] float32, in hand units.
    """
    canvas = np.zeros(raster.shape, np.uint8)
    _fill(canvas, raster.texel(hand.palm))
    for axis, half_width in zip(hand.axes, hand.half_widths, strict=True):
        tangent = np.gradient(axis, axis=0)
        normal = tangent[:, ::-1] * [1, -1] / np.linalg.norm(tangent, axis=1, keepdims=True)
        side = normal * half_width[:, None]
        _fill(canvas, raster.texel(np.concatenate([axis + side, (axis - side)[::-1]])))
    rounding = 0.017
    blurred = raster.blur(canvas.astype(np.float32), rounding) / 255
    inside = (blurred > 0.5).astype(np.uint8)
    texels = cv2.distanceTransform(1 - inside, cv2.DIST_L2, 5) - cv2.distanceTransform(
        inside, cv2.DIST_L2, 5
    )
    # Close to the outline the blurred step itself tells the distance, without the mask's staircase.
    near = (0.5 - blurred) * np.float32(math.sqrt(2 * math.pi) * rounding * raster.density)
    weight = np.exp(-np.square(texels / 1.6))
    return (weight * near + (1 - weight) * texels) / np.float32(raster.density)


def _fill(canvas: np.ndarray, polygon: np.ndarray) -> None:
    """Fill a polygon given in texels, with 1/16 texel precision."""
    cv2.fillPoly(canvas, [np.round(polygon * 16).astype(np.int32)], 255, shift=4)


def relief(hand: Hand, distance: np.ndarray, raster: Raster) -> np.ndarray:
    """Height of the hand towards the camera: round fingers, thenar, hypothenar, pads, hollow palm.

    Args:
        hand: anatomy.
        distance: [H, W] of :func:`signed_distance`.
        raster: grid.

    Returns:
        [H, W] float32, in hand units.
    """
    depth = np.clip(distance / np.float32(-0.10), 0, 1)
    height = np.float32(0.085) * np.sqrt(1 - (1 - depth) ** 2)
    # The mounds are smooth: a sixteenth of the texels say it all.
    coarse = Raster(raster.density / 4, raster.box)
    return raster.blur(height, 0.014) + raster.enlarge(_mounds(hand, coarse))


def _mounds(hand: Hand, raster: Raster) -> np.ndarray:
    """Thenar, hypothenar, hollow, the pads below the webs and those of the phalanges, [H, W]."""
    x, y = raster.coordinates()
    thenar, hypothenar, pads, hollow = (float(h) for h in hand.relief)
    height = 0.085 * thenar * _mound(x, y, (0.31, 0.74), (0.17, 0.29), 35)
    height += 0.055 * hypothenar * _mound(x, y, (-0.27, 0.80), (0.15, 0.27), -8)
    height -= 0.035 * hollow * _mound(x, y, (0.0, 0.55), (0.16, 0.24), 10)
    bases = hand.bases[1:]
    for centre in (bases[:-1] + bases[1:]) / 2 + [0, 0.14]:
        height += 0.014 * pads * _mound(x, y, centre, (0.07, 0.07), 0)
    return height + 0.018 * pads * _phalanx_pads(hand, x, y)


def _mound(
    x: np.ndarray, y: np.ndarray, centre: tuple | np.ndarray, radii: tuple, degrees: float
) -> np.ndarray:
    """Gaussian hill [H, W] of height 1, its long axis turned from vertical towards the thumb."""
    angle = math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    dx, dy = x - float(centre[0]), y - float(centre[1])
    across, along = (cos * dx + sin * dy) / radii[0], (cos * dy - sin * dx) / radii[1]
    return np.exp(-0.5 * (across**2 + along**2))


def _phalanx_pads(hand: Hand, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Soft cushions [H, W] between the joint creases of the digits."""
    cushions = np.zeros(np.broadcast_shapes(x.shape, y.shape), np.float32)
    for digit in range(5):
        start = hand.bases[digit]
        stops = hand.joints[digit, 2 if digit == 0 else 1 :]
        for stop in stops:
            dx, dy = (float(v) for v in stop - start)
            tilt = math.degrees(math.atan2(dx, -dy))
            reach = 0.36 * math.hypot(dx, dy)
            cushions += _mound(x, y, (start + stop) / 2, (0.075, reach), tilt)
            start = stop
    return cushions


def keypoints14(hand: Hand, distance: np.ndarray, raster: Raster) -> np.ndarray:
    """The 14 points of XJTU-UP, found on the outline by walking out of the hand.

    Args:
        hand: anatomy.
        distance: [H, W] of :func:`signed_distance`.
        raster: grid.

    Returns:
        [14, 2] in the hand frame, P0 on the index side to P12 and P13 on the little-finger side.
    """
    bases, directions = hand.bases[1:], hand.directions[1:]
    outward = np.stack([-directions[:, 1], directions[:, 0]], axis=1)  # towards the thumb
    above = bases + 0.09 * directions  # clear of the rounding of the webs
    right = [_walk(distance, raster, above[k], outward[k]) for k in range(4)]
    left = [_walk(distance, raster, above[k], -outward[k]) for k in range(4)]
    valleys = []
    for k in range(3):
        up = directions[k] + directions[k + 1]
        between = (bases[k] + bases[k + 1]) / 2 - 0.06 * up
        valleys.append(_walk(distance, raster, between, up / np.linalg.norm(up)))
    index_mcp, little_mcp = hand.joints[1, 0], hand.joints[4, 0]
    edge_index = _walk(distance, raster, index_mcp, np.array([1.0, 0.0]))
    edge_little = _walk(distance, raster, little_mcp, np.array([-1.0, 0.0]))
    halfway = np.array([-0.2, (edge_little[1] + WRIST_Y) / 2])
    edge_heel = _walk(distance, raster, halfway, np.array([-1.0, 0.0]))
    return np.stack(
        [edge_index, right[0], left[0], valleys[0], right[1], left[1], valleys[1],
         right[2], left[2], valleys[2], right[3], left[3], edge_little, edge_heel]
    )  # fmt: skip


def _walk(distance: np.ndarray, raster: Raster, start: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Where the ray from `start` (inside) along the unit vector `step` leaves the hand."""
    reach = np.linspace(0.0, 0.4, 401)
    ray = start + reach[:, None] * step
    x, y = raster.texel(ray).astype(np.float32).T
    along = cv2.remap(
        distance, x[None], y[None], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )[0]
    leaves = int(np.argmax(along > 0))
    return ray[leaves]
