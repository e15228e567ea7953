"""One photograph: its hands as they are repainted, or why it cannot be."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from palmforge.data.deidentification.crops import Around, Box, crop_box, cut, resized, resized_mask
from palmforge.data.deidentification.exemplars import Exemplar, cut_exemplars, exemplar_square
from palmforge.data.deidentification.segmentation import HandSegmenter, palm_mask
from palmforge.data.images import is_image, read_image
from palmforge.data.roi import quad_side
from palmforge.data.seeds import mixed_wide
from palmforge.errors import BadImage, ConfigError, DataError
from palmforge.localization.location import Localizer, PalmLocation

NO_HAND = "no hand found"
_TINY = 48  # pixels of fROI: too few to show creases, before and after


@dataclass(frozen=True)
class Hand:
    """A hand to repaint.

    Attributes:
        image: `[3, S, S]` uint8 RGB.
        mask: `[1, S, S]` bool.
        exemplars: `[E, 3, s, s]` uint8.
        seeds: One for each variant.
        box: What `image` shows of the photograph.
        full_mask: `[h, w]` bool, of the part of `box` inside the photograph, at full size.
        quad: ROI corners, `[4, 2]` pixels of the photograph.
        handedness: `L` or `R`.
    """

    image: Tensor
    mask: Tensor
    exemplars: Tensor
    seeds: list[int]
    box: Box
    full_mask: np.ndarray
    quad: np.ndarray
    handedness: str


@dataclass(frozen=True)
class Photograph:
    """A picture, looked at.

    Attributes:
        source: Its path, relative to the folder, with forward slashes.
        digest: Of its decoded pixels: `picture_digest`.
        hands: To repaint, the surest first; none where there is a `reason`.
        reason: Why it cannot be de-identified; it is not written then.
        notes: What is odd about it, but no reason.
    """

    source: str
    digest: int = 0
    hands: list[Hand] = field(default_factory=list)
    reason: str | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Preparation:
    """How hands are cut.

    Attributes:
        image_size: S, side of a crop.
        exemplars: Which of s, m, f.
        variants: Results wanted of a picture.
        thumb_root: Whether point 1 is a corner of the palm, as in the paper.
        palm_margin: By which the palm's polygon grows, as a share of its square's side.
        margin: Around the hand, on each side, as a share of it.
        seed: Of all noise.
        around: What a crop shows; see `crop_box`.
    """

    image_size: int = 512
    exemplars: tuple[Exemplar, ...] = ("s", "m")
    variants: int = 1
    thumb_root: bool = True
    palm_margin: float = 0.0
    margin: float = 0.15
    seed: int = 0
    around: Around = "hand"


def find_pictures(root: str | Path) -> tuple[list[str], dict[str, str]]:
    """All pictures of a folder and of those in it, by their relative paths, sorted.

    Hidden files and folders are left out.

    Returns:
        Pictures, and other files → why they are left out.

    Raises:
        DataError: If there is no such folder, or no picture in it.
    """
    top = Path(root)
    if not top.is_dir():
        raise DataError(f"data.images: no directory {str(top)!r}; give a folder of photographs")
    pictures, others = [], {}
    for folder, folders, files in os.walk(top):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            source = (Path(folder) / name).relative_to(top).as_posix()
            if is_image(Path(name)):
                pictures.append(source)
            elif not name.startswith("."):
                others[source] = "not a kind of picture that is read"
    if not pictures:
        raise DataError(f"data.images: no picture in {str(top)!r}")
    return sorted(pictures), others


def output_names(sources: Sequence[str], variants: int, suffix: str = ".png") -> list[list[str]]:
    """Where the results of pictures go, a list of `variants` paths for each.

    `folder/a.jpg` becomes `folder/a.png`, and of several variants `folder/a_00.png`, …; where
    another picture is called the same but for its ending, that is kept: `folder/a.jpg.png`.

    Raises:
        DataError: If two would still be written to one place.
    """
    stems = [source.rpartition(".")[0] for source in sources]
    # Without regard to case: the disk may be one that has none.
    times = Counter(stem.casefold() for stem in stems)
    pairs = zip(sources, stems, strict=True)
    bases = [source if times[stem.casefold()] > 1 else stem for source, stem in pairs]
    ends = [""] if variants == 1 else [f"_{variant:02d}" for variant in range(variants)]
    names = [[f"{base}{end}{suffix}" for end in ends] for base in bases]
    seen: dict[str, str] = {}
    for source, own in zip(sources, names, strict=True):
        for name in own:
            other = seen.setdefault(name.casefold(), source)
            if other != source:
                raise DataError(
                    f"data.images: {other} and {source} would both be written to {name}; rename one"
                )
    return names


def picture_digest(image: np.ndarray) -> int:
    """A number in [0, 2^64) for the pixels of a picture, the same in whatever file they stand."""
    found = hashlib.sha256(repr(image.shape).encode())
    found.update(np.ascontiguousarray(image).data)
    return int.from_bytes(found.digest()[:8], "big")


def look_at(
    root: str | Path,
    source: str,
    localizer: Localizer,
    segmenter: HandSegmenter,
    preparation: Preparation,
) -> Photograph:
    """Reads a picture, finds its hands and cuts them out.

    Never raises for what is wrong with the picture: that is its `reason`.

    Raises:
        ConfigError: If the localizer gives no 21 points, or the segmenter no mask.
    """
    try:
        image, _ = read_image(Path(root) / source)
    except BadImage as error:
        return Photograph(source, reason=f"unreadable: {error.reason}")
    palms = localizer.locate_all(image)
    if not palms:
        return Photograph(source, reason=NO_HAND)
    digest = picture_digest(image)
    hands, notes = [], []
    for number, palm in enumerate(palms):
        which = f"hand {number + 1} of {len(palms)}"
        found = _hand(image, palm, segmenter, preparation, (digest, number))
        if isinstance(found, str):  # of no hand may anything be left to see
            return Photograph(source, reason=f"{which}: {found}")
        hands.append(found)
        notes += [f"{which}: {note}" for note in _notes(image, palm, found)]
    if is_grey(image):
        notes.append("grey: repainted in grey")
    return Photograph(source, digest, hands, notes=notes)


def _hand(
    image: np.ndarray,
    palm: PalmLocation,
    segmenter: HandSegmenter,
    preparation: Preparation,
    key: tuple[int, int],
) -> Hand | str:
    """A hand, or why there is none."""
    points = palm.keypoints21
    if points is None:
        raise ConfigError("data.localizer: it finds no 21 key points, by which palms are masked")
    try:
        quad = palm.quad
    except ValueError as error:
        return f"its points span no palm ({error})"
    if not np.isfinite(points).all():
        return "its points are no finite numbers"
    box = crop_box(points, preparation.around, preparation.margin)
    rows, columns = box.inside(*image.shape[:2])
    if image[rows, columns].size == 0:
        return "it lies beside the picture"
    part = np.ascontiguousarray(image[rows, columns])
    inside = points - [columns.start, rows.start]
    grow = preparation.palm_margin * quad_side(exemplar_square(points, "f"))
    mask = palm_mask(part, inside, segmenter, preparation.thumb_root, grow)
    if not mask.any():
        return "no pixel of its palm lies in the picture"
    whole = np.zeros((box.side, box.side), bool)
    top, left = rows.start - box.top, columns.start - box.left
    whole[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    size = preparation.image_size
    exemplars = cut_exemplars(image, points, preparation.exemplars)
    return Hand(
        _as_tensor(resized(cut(image, box), size)[None])[0],
        torch.from_numpy(resized_mask(whole, size))[None],
        _as_tensor(exemplars),
        [mixed_wide(preparation.seed, *key, variant) for variant in range(preparation.variants)],
        box, mask, quad, palm.handedness,
    )  # fmt: skip


def _notes(image: np.ndarray, palm: PalmLocation, hand: Hand) -> list[str]:
    height, width = image.shape[:2]
    points, notes = palm.keypoints21, []
    assert points is not None
    if not ((points >= -0.5) & (points < [width - 0.5, height - 0.5])).all():
        notes.append("cut by the picture's border; what is in the picture is repainted")
    side = quad_side(exemplar_square(points, "f"))
    if side < _TINY:
        notes.append(f"tiny: its palm is {side:.0f} pixels wide")
    return notes


def is_grey(image: np.ndarray) -> bool:
    """Whether all three channels are one."""
    return bool((image == image[..., :1]).all())


def _as_tensor(pictures: np.ndarray) -> Tensor:
    """`[N, H, W, 3]` → `[N, 3, H, W]`."""
    return torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)))
