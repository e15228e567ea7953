"""Where the camera stands, and from triangles in space to what each pixel sees."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from palmforge.data.synthetic.mesh import HandMesh
from palmforge.data.synthetic.streams import truncated_normal

_FAR = 1000.0
_NEAR = 0.5
_FOV = np.pi / 2


@dataclass(frozen=True)
class Viewpoint:
    """A pin-hole camera before the hand. Lengths are hand units (a palm's width, about 85 mm).

    Attributes:
        roll: degrees that the hand is turned in the picture, clockwise.
        tilt: [2] degrees that the palm is turned away, about the picture's x and y axes.
        distance: from the camera to the point that it aims at.
        palm_width: of the picture's side, at that distance.
        aim: [2] the point of the hand frame that is aimed at.
        shift: [2] where that point is in the picture, from its middle, of the side.
        left: a left hand, whose picture is mirrored.
    """

    roll: float
    tilt: np.ndarray
    distance: float
    palm_width: float
    aim: np.ndarray
    shift: np.ndarray
    left: bool

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """Posed points [N, 3] -> camera space [N, 3]: x right, y down, z = depth along the axis."""
        mirror = -1.0 if self.left else 1.0
        centred = (points - [*self.aim, 0.0]) * [mirror, 1.0, 1.0]
        view = centred @ self._rotation().T
        return view * [1.0, 1.0, -1.0] + [0.0, 0.0, self.distance]

    def normals_to_view(self, normals: np.ndarray) -> np.ndarray:
        """Normals [N, 3] of the posed hand -> view space: x right, y down, z to the camera."""
        mirror = -1.0 if self.left else 1.0
        return (normals * [mirror, 1.0, 1.0]) @ self._rotation().T

    def intrinsic(self, size: int) -> np.ndarray:
        """[3, 3] matrix from camera space to pixels of a picture with sides of `size`."""
        focal = self.palm_width * size * self.distance
        x, y = (size - 1) / 2 + self.shift * size
        return np.array([[focal, 0, x], [0, focal, y], [0, 0, 1]])

    def _rotation(self) -> np.ndarray:
        """[3, 3] from the hand to the view."""
        (cr, cx, cy), (sr, sx, sy) = (
            f(np.deg2rad([self.roll, *self.tilt])) for f in (np.cos, np.sin)
        )
        about_z = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
        about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
        about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        return about_x @ about_y @ about_z


def sample_viewpoint(rng: np.random.Generator, wild: bool, left: bool) -> Viewpoint:
    """Point a camera at a hand.

    Args:
        rng: the capture's generator.
        wild: any camera, at any angle; else a phone held upright some 40 cm away.
        left: whether it is a left hand.

    Returns:
        The viewpoint.
    """
    if not wild:
        return Viewpoint(
            roll=float(8.0 * truncated_normal(rng)),
            tilt=7.0 * truncated_normal(rng, 2),
            distance=5.0,
            palm_width=0.452 * float(np.exp(0.06 * truncated_normal(rng))),
            aim=np.array([0.09, 0.20]),
            shift=0.025 * truncated_normal(rng, 2),
            left=left,
        )
    palm_width = float(np.exp(rng.uniform(np.log(0.19), np.log(0.66))))
    room = max(0.0, 0.5 - 0.75 * palm_width)  # the palm itself stays in the picture
    aim = np.array([0.03, 0.40]) + 0.12 * truncated_normal(rng, 2)
    return Viewpoint(
        roll=float(rng.uniform(-180, 180)),
        tilt=15.0 * truncated_normal(rng, 2, limit=2.8),
        distance=float(np.exp(rng.uniform(np.log(2.6), np.log(9.0)))),
        palm_width=palm_width,
        aim=aim,
        shift=room * rng.uniform(-0.95, 0.95, 2),
        left=left,
    )


def project(intrinsic: np.ndarray, camera_points: np.ndarray) -> np.ndarray:
    """Camera space [N, 3] -> pixels [N, 2], pixel centres at integers."""
    pixels = camera_points @ intrinsic.T
    return pixels[:, :2] / pixels[:, 2:]


@dataclass(frozen=True)
class Seen:
    """What the pixels of a picture see of a mesh.

    Attributes:
        hit: [H, W] bool, anything at all.
        texture: [H, W, 2] float32 places in the hand frame, rubbish where nothing is hit.
        back: [H, W] bool, the back of the hand.
        normals: [H, W, 3] float32 view-space normals, about unit length.
        depth: [H, W] float32 along the optical axis, hand units; 1000 where nothing is hit.
    """

    hit: np.ndarray
    texture: np.ndarray
    back: np.ndarray
    normals: np.ndarray
    depth: np.ndarray


def look(
    mesh: HandMesh,
    camera_points: np.ndarray,
    normals: np.ndarray,
    intrinsic: np.ndarray,
    shape: tuple[int, int],
    mirrored: bool,
) -> Seen:
    """Rasterise a mesh, with hidden surfaces hidden.

    Args:
        mesh: for its triangles and texture coordinates.
        camera_points: [V, 3] of :meth:`Viewpoint.to_camera`.
        normals: [V, 3] in view space.
        intrinsic: [3, 3] camera space to pixels; it may hold any affine map of the picture.
        shape: rows and columns.
        mirrored: whether the points are mirrored against the mesh: a left hand.

    Returns:
        What each pixel sees.
    """
    rows, columns = shape
    depth = camera_points[:, 2]
    # OpenCV's camera has its centre in the middle of the picture and one focal length: put our
    # intrinsic matrix into the points. It stays a linear map of space: planes stay planes.
    half = rows / 2  # focal length in pixels at a field of view of 90 degrees
    pixels = camera_points @ intrinsic.T  # times depth
    across = (pixels[:, 0] - ((columns - 1) / 2) * depth) / half
    down = (pixels[:, 1] - ((rows - 1) / 2) * depth) / half
    vertices = np.stack([across, -down, -depth], axis=1).astype(np.float32)
    low, high = mesh.xy.min(0), mesh.xy.max(0)
    colours = np.column_stack([(mesh.xy - low) / (high - low), mesh.back]).astype(np.float32)
    settings = _settings(mirrored)
    # OpenCV does not cut triangles at the camera's plane: those that reach it are left out.
    triangles = mesh.triangles[(depth > _NEAR)[mesh.triangles].all(axis=1)]
    texture = np.zeros((rows, columns, 3), np.float32)
    seen = np.full((rows, columns), _FAR, np.float32)
    camera = np.eye(4, dtype=np.float32)
    directions = np.zeros_like(texture)
    for colour, buffer in ((colours, texture), (normals * 0.5 + 0.5, directions)):
        seen.fill(_FAR)
        cv2.triangleRasterize(
            vertices, triangles, colour.astype(np.float32), buffer, seen, camera, _FOV, _NEAR,
            _FAR, settings,
        )  # fmt: skip
    directions *= 2
    directions -= 1
    return Seen(
        hit=seen < 0.9 * _FAR,
        texture=texture[..., :2] * (high - low) + low,
        back=texture[..., 2] > 0.5,
        normals=directions,
        depth=seen,
    )


@lru_cache(maxsize=2)
def _settings(mirrored: bool) -> cv2.TriangleRasterizeSettings:
    """Triangles that face away are left out (a hand is closed); colours change smoothly."""
    settings = cv2.TriangleRasterizeSettings()
    facing = cv2.RASTERIZE_CULLING_CW if mirrored else cv2.RASTERIZE_CULLING_CCW
    settings.setCullingMode(facing)
    settings.setShadingType(cv2.RASTERIZE_SHADING_SHADED)
    return settings
