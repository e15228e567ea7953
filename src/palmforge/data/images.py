"""Reading one picture, whatever a camera or a scanner made of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from palmforge.data.webdataset import openable
from palmforge.errors import BadImage

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})


def is_image(path: Path) -> bool:
    """Whether the name is that of a picture (hidden files are not)."""
    return path.suffix.lower() in EXTENSIONS and not path.name.startswith(".")


def read_image(path: str | Path, min_scale: float = 1.0) -> tuple[np.ndarray, float]:
    """Reads a picture as upright RGB.

    Grey, palette, CMYK, 16-bit and transparent pictures become 8-bit RGB; EXIF rotation is applied.

    Args:
        path: The file; or one in a factory's shard, `shard-000000.tar/000012-003.png`.
        min_scale: In (0, 1]. A JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, but not below
            this scale: decoding 12 megapixels to cut a 160-pixel ROI would be most of the work.

    Returns:
        image: `[H, W, 3]` uint8.
        scale: The scale it was decoded at; pixel coordinates of the file times it are those of
            `image` (up to the half-pixel rule of `scale_points`).

    Raises:
        BadImage: If the file cannot be decoded as a whole.
    """
    try:
        with Image.open(openable(path)) as picture:
            scale = 1.0
            if min_scale < 1.0:
                full_width = picture.width
                wanted = (int(picture.width * min_scale) + 1, int(picture.height * min_scale) + 1)
                drafted = picture.draft("RGB", wanted)  # JPEG alone; others ignore it
                if drafted is not None:  # its box is the picture's size before rounding up
                    scale = drafted[1][2] / full_width
            picture.load()
            upright = ImageOps.exif_transpose(picture)
            return np.ascontiguousarray(_to_rgb(upright)), scale
    except FileNotFoundError:
        raise BadImage(str(path), "no such file") from None
    except UnidentifiedImageError:
        raise BadImage(str(path), "not a picture in a format that Pillow knows") from None
    except Exception as error:  # Pillow's readers let anything through: struct.error, IndexError…
        raise BadImage(str(path), str(error) or type(error).__name__) from error


def _to_rgb(picture: Image.Image) -> np.ndarray:
    if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
        return _grey_to_rgb(np.asarray(picture))
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        canvas = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(canvas, picture.convert("RGBA"))
    return np.asarray(picture.convert("RGB"))


def _grey_to_rgb(grey: np.ndarray) -> np.ndarray:
    """16 bits and more to 8. Pillow itself would clip at 255, which turns most pictures white."""
    values = grey.astype(np.float64)
    top = 65535.0 if values.max(initial=0) > 255 else 255.0
    eight = np.clip(np.rint(values / top * 255.0), 0, 255).astype(np.uint8)
    return np.repeat(eight[..., None], 3, axis=2)


def scale_points(points: np.ndarray, scale: float) -> np.ndarray:
    """Points of the full picture in a picture decoded at `scale`.

    Pixel centres are integers, so the corner of the picture is at −0.5 and stays there.
    """
    return (np.asarray(points, dtype=np.float64) + 0.5) * scale - 0.5
