"""Hands that do not exist: a procedural renderer of palm photographs with ground truth.

Read it in this order: `anatomy` (the hand), `silhouette` (the hand on a raster, key points),
`principal_lines`, `strokes` and `creases` (what identifies it), `skin` (all of it, painted
once an identity), `pose`, `light`, `background`, `camera` (what changes from capture to
capture), `render`, `dataset`.
"""

from palmforge.data.synthetic.camera import PRESETS
from palmforge.data.synthetic.dataset import SyntheticPalms
from palmforge.data.synthetic.render import PalmTruth, render_palm

__all__ = ["PRESETS", "PalmTruth", "SyntheticPalms", "render_palm"]
