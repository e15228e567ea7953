"""Montages of palms and their captures: a row is a palm, the palm itself stands framed in front."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_SIDE = 96  # pixels of a picture at the least
_GAP, _APART, _FRAME = 4, 16, 3  # between pictures, behind the reference, around it
_HEADER = 22
_BLUE = (0, 114, 178)


def identity_montage(
    references: NDArray[np.uint8],
    captures: NDArray[np.uint8],
    columns: Sequence[str],
    first: str = "reference",
) -> Image.Image:
    """A picture of R palms with C captures of each.

    Args:
        references: [R, S, S, 3] RGB.
        captures: [R, C, S, S, 3] RGB.
        columns: C words above the captures.
        first: Word above the palms.

    Raises:
        ValueError: Shapes that do not go together.
    """
    rows, count = captures.shape[:2]
    if len(references) != rows or len(columns) != count:
        raise ValueError(f"{len(references)} palms, {len(columns)} columns, {captures.shape}")
    from matplotlib.font_manager import findfont  # it brings a font that has α

    side = max(_SIDE, references.shape[1])
    step = side + _GAP
    left = 2 * _FRAME + side + _APART
    size = (left + count * step, _HEADER + rows * (step + 2 * _FRAME))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.truetype(findfont("DejaVu Sans"), 13)
    for column, word in enumerate([first, *columns]):
        middle = (_FRAME if not column else left + (column - 1) * step) + side / 2
        draw.text((middle, _HEADER / 2), word, "black", font, anchor="mm")
    for row in range(rows):
        top = _HEADER + row * (step + 2 * _FRAME)
        draw.rectangle((0, top, side + 2 * _FRAME - 1, top + side + 2 * _FRAME - 1), _BLUE)
        sheet.paste(_fitted(references[row], side), (_FRAME, top + _FRAME))
        for column in range(count):
            place = (left + column * step, top + _FRAME)
            sheet.paste(_fitted(captures[row, column], side), place)
    return sheet


def _fitted(image: NDArray[np.uint8], side: int) -> Image.Image:
    picture = Image.fromarray(np.ascontiguousarray(image))
    return picture.resize((side, side), Image.Resampling.BICUBIC)
