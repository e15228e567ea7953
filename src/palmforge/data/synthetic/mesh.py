"""The hand as a surface: triangles over its outline, and the bones that each point follows."""

from __future__ import annotations

from dataclasses import dataclass, field

import contourpy
import cv2
import numpy as np
from scipy.sparse import csr_matrix
from scipy.spatial import Delaunay

from palmforge.data.synthetic.anatomy import WRIST_Y, Hand
from palmforge.data.synthetic.silhouette import Raster, relief, signed_distance

NUM_BONES = 17  # palm; three of each digit, thumb first, root to tip; forearm
PALM, FOREARM = 0, 16
# What a mesh of the whole hand covers (the forearm runs out of every picture), and of a palm only.
WHOLE = (-0.95, -1.25, 1.35, 3.40)
PALM_BOX = (-0.66, -0.20, 0.72, 1.22)

_DENSITY = 96.0  # texels per hand unit of the distance map that the triangles are cut from
_EDGE = 0.020  # spacing of the points on the outline
_INNER = 0.050  # spacing of the points inside
_RINGS = (-0.010, -0.028, -0.053, -0.084)  # lines at these depths round the edges off
_THICKNESS = 0.10  # of the back half of the hand


@dataclass(frozen=True)
class HandMesh:
    """The surface of one hand at rest, front and back.

    Attributes:
        xy: [V, 2] float32 places in the hand frame; they are texture coordinates as well.
        z: [V] float32 height towards the camera, hand units; negative on the back.
        back: [V] bool, on the back of the hand.
        triangles: [T, 3] int32 vertex numbers.
        weights: [V, 17] float32, how much each vertex follows each bone; rows sum to 1.
        incidence: [V, T] which triangles meet in a vertex.
    """

    xy: np.ndarray
    z: np.ndarray
    back: np.ndarray
    triangles: np.ndarray
    weights: np.ndarray
    incidence: csr_matrix = field(repr=False)

    def normals(self, points: np.ndarray) -> np.ndarray:
        """Unit normals [V, 3] of the surface when its vertices are at `points` [V, 3]."""
        a, b, c = (points[self.triangles[:, k]] for k in range(3))
        normals = self.incidence @ _cross(b - a, c - a)
        length = np.sqrt(np.einsum("ij,ij->i", normals, normals))
        return normals / np.maximum(length, 1e-12)[:, None]


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cross products of rows [N, 3]; several times faster than `np.cross`."""
    return np.stack(
        [
            a[:, 1] * b[:, 2] - a[:, 2] * b[:, 1],
            a[:, 2] * b[:, 0] - a[:, 0] * b[:, 2],
            a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0],
        ],
        axis=1,
    )


def build_mesh(hand: Hand, box: tuple[float, float, float, float] = WHOLE) -> HandMesh:
    """Cut a hand into triangles.

    Args:
        hand: anatomy.
        box: left, top, right, bottom of the part that is wanted.

    Returns:
        The mesh; it does not depend on the size of any picture. About 80 ms for a whole hand, 25
        for a palm.
    """
    raster = Raster(_DENSITY, box)
    distance = signed_distance(hand, raster)
    points = _points(distance, raster)
    depth = _sample(distance, raster, points)
    height = np.where(depth < -1e-3, _sample(relief(hand, distance, raster), raster, points), 0)
    height *= np.clip(depth / _RINGS[0], 0, 1)
    roundness = np.sqrt(1 - (1 - np.clip(depth / -0.13, 0, 1)) ** 2)
    triangles = Delaunay(points).simplices
    triangles = triangles[_sample(distance, raster, points[triangles].mean(1)) < 0]
    # Triangles turn the way round that makes their normals point out of the hand.
    a, b, c = (points[triangles[:, k]] for k in range(3))
    (abx, aby), (acx, acy) = (b - a).T, (c - a).T
    clockwise = (abx * acy - aby * acx) < 0
    triangles[clockwise] = triangles[clockwise][:, ::-1]
    number, count = len(points), len(triangles)
    both = np.concatenate([triangles, triangles[:, ::-1] + number]).astype(np.int32)
    weights = skin_weights(hand, points)
    incidence = csr_matrix(
        (np.ones(6 * count, np.float32), (both.ravel(), np.repeat(np.arange(2 * count), 3))),
        shape=(2 * number, 2 * count),
    )
    return HandMesh(
        xy=np.tile(points, (2, 1)).astype(np.float32),
        z=np.concatenate([height, -_THICKNESS * roundness]).astype(np.float32),
        back=np.repeat([False, True], number),
        triangles=both,
        weights=np.tile(weights, (2, 1)),
        incidence=incidence,
    )


def _points(distance: np.ndarray, raster: Raster) -> np.ndarray:
    """Vertices [N, 2] of one side: the outline, lines just inside it, and a lattice."""
    left, top, right, bottom = raster.box
    contours = contourpy.contour_generator(z=distance)
    points = []
    for depth in (0.0, *_RINGS):
        for line in contours.lines(depth):
            line = np.asarray(line) / raster.density + raster.box[:2]
            steps = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
            spacing = _EDGE if depth > _RINGS[1] else 1.4 * _EDGE
            at = np.linspace(0, steps[-1], max(4, int(steps[-1] / spacing)))[:-1]
            points.append(np.stack([np.interp(at, steps, line[:, k]) for k in range(2)], axis=1))
    rows = np.arange(top, bottom, _INNER * 0.866)
    columns = np.arange(left, right, _INNER)
    lattice = np.stack(np.meshgrid(columns, rows), axis=-1)
    lattice[1::2, :, 0] += _INNER / 2
    lattice = lattice.reshape(-1, 2)
    points.append(lattice[_sample(distance, raster, lattice) < _RINGS[-1] - 0.4 * _INNER])
    return np.concatenate(points)


def _sample(image: np.ndarray, raster: Raster, points: np.ndarray) -> np.ndarray:
    """Values [N] of a raster at points [N, 2] of the hand frame."""
    x, y = raster.texel(points).astype(np.float32).T
    shape = (-1, 1)
    sampled = cv2.remap(
        image, x.reshape(shape), y.reshape(shape), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return sampled[:, 0]


def skin_weights(hand: Hand, points: np.ndarray) -> np.ndarray:
    """How much each place of the skin follows each bone.

    Args:
        hand: anatomy.
        points: [N, 2] in the hand frame.

    Returns:
        [N, 17] float32, rows sum to 1; bones: palm, thumb (3), index (3), …, little (3), forearm.
    """
    along, aside = np.empty((5, len(points))), np.empty((5, len(points)))
    for digit in range(5):
        forward = hand.directions[digit]
        offset = points - hand.joints[digit, 0]
        along[digit] = offset @ forward
        aside[digit] = offset @ np.array([-forward[1], forward[0]])
    digits = np.empty_like(along)
    # The thumb takes the thenar with it, but not the index side of the palm above its web.
    beyond_web = points[:, 0] - 0.475 + 0.9 * np.maximum(points[:, 1] - 0.36, 0)
    thumb = _smoothstep(along[0], 0.02, 0.5) * (1 - _smoothstep(-aside[0], 0.14, 0.32))
    digits[0] = thumb * _smoothstep(beyond_web, -0.14, 0.14)
    # Fingers: the nearest axis rules beyond the knuckles; a web follows both of its fingers.
    near = np.exp(-(np.abs(aside[1:]) - np.abs(aside[1:]).min(0)) / 0.025)
    digits[1:] = (1 - digits[0]) * _smoothstep(along[1:], 0.02, 0.30) * near / near.sum(0)

    weights = np.zeros((len(points), NUM_BONES), np.float32)
    for digit in range(5):
        stops = (hand.joints[digit, 1:3] - hand.joints[digit, 0]) @ hand.directions[digit]
        middle, last = (_smoothstep(along[digit], stop - 0.07, stop + 0.07) for stop in stops)
        bones = (1 - middle, middle - last, last)
        for bone, share in enumerate(bones):
            weights[:, 1 + 3 * digit + bone] = digits[digit] * share
    forearm = (1 - digits.sum(0)) * _smoothstep(points[:, 1], WRIST_Y - 0.12, WRIST_Y + 0.14)
    weights[:, FOREARM] = forearm
    weights[:, PALM] = 1 - digits.sum(0) - forearm
    return weights


def _smoothstep(value: np.ndarray, start: float, end: float) -> np.ndarray:
    """0 before `start`, 1 after `end`, smooth in between."""
    t = np.clip((value - start) / (end - start), 0, 1)
    return t * t * (3 - 2 * t)
