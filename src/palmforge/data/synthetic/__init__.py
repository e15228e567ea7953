"""Hands that do not exist: a procedural renderer of palm photographs with ground truth.

Read it in this order: `anatomy` (the hand), `silhouette` (the hand on a raster, key points),
`principal_lines`, `principal_creases`, `strokes`, `wrinkles` and `creases` (what identifies it),
`complexion` and `skin` (all of it, painted once an identity), `mesh` (its surface and bones);
then what changes from capture to capture: `articulation` (how it is held), `viewpoint` (the
camera's place), `worn`, `light`, `background` with `texture` and `scenery`, `device` and `camera`;
and at last `capture` (one capture's numbers), `render` and `dataset`.
"""

from palmforge.data.synthetic.camera import PRESETS, XJTU_PRESETS
from palmforge.data.synthetic.dataset import SyntheticPalms
from palmforge.data.synthetic.render import PalmTruth, RoiTruth, render_palm, render_roi

__all__ = [
    "PRESETS",
    "XJTU_PRESETS",
    "PalmTruth",
    "RoiTruth",
    "SyntheticPalms",
    "render_palm",
    "render_roi",
]
