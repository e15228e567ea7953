"""A small folder of photographs with rendered hands, for the tests of de-identification."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from pictures import save

from palmforge.data.synthetic import render_palm

SIZE = 160


@cache
def hand(identity: int = 0, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """A picture and its 21 points; not to be changed."""
    image, truth = render_palm(identity, 1, "IN", size, seed=3)
    image.setflags(write=False)
    return image, truth.keypoints21


def write_folder(root: Path) -> Path:
    """Five that can be done, one of two hands, one cut, one grey; and three that cannot."""
    save(root / "a.jpg", hand(0)[0], quality=95)
    save(root / "sub/b.png", hand(1)[0])
    save(root / "sub/two.png", np.hstack([hand(2)[0], hand(3)[0]]))
    save(root / "cut.png", hand(0)[0][:, :110])
    save(root / "grey.png", hand(0)[0][..., 1])
    save(root / "none.png", np.full((40, 60, 3), 90, np.uint8))
    (root / "bad.jpg").write_bytes(b"no picture")
    (root / "notes.txt").write_text("hello")
    return root
