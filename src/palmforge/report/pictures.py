"""Figures and palms as bytes."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE = 128  # pixels of a palm's longer side at the most: enough to see which lines agree


def figure_png(figure: Figure) -> bytes:
    """A figure as PNG, the same bytes for the same figure."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110, bbox_inches="tight", metadata={"Software": None})
    return file.getvalue()


def thumbnail(image: NDArray[np.uint8]) -> Image.Image:
    """A palm, [H, W, 3] uint8, made no larger than `SIDE`."""
    picture = Image.fromarray(np.ascontiguousarray(image))
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return picture


def palm_jpeg(image: NDArray[np.uint8]) -> bytes:
    """A thumbnail as JPEG: about 5 KB, where PNG needs 30."""
    file = io.BytesIO()
    thumbnail(image).save(file, format="JPEG", quality=90, subsampling=0)
    return file.getvalue()


def data_uri(jpeg: bytes) -> str:
    """To be put into a page."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
