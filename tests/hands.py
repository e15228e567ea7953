"""A small set of rendered hands in the form of `data synthesize`, for the locator's tests."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from palmforge.data.synthetic import render_palm


def write_hands(root: Path, identities: int = 8, captures: int = 2, size: int = 160) -> Path:
    """`root/wild/L_001/IMG_0001.JPG` … and `root/manifest.parquet`."""
    rows = []
    for identity in range(identities):
        for capture in range(1, captures + 1):
            image, truth = render_palm(identity, capture, "IN", size, seed=3)
            file = f"wild/{truth.hand}_{identity // 2 + 1:03d}/IMG_{capture:04d}.JPG"
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(root / file), image[..., ::-1])
            points = {14: truth.keypoints14, 21: truth.keypoints21}
            row = {"file": file, "identity": identity, "hand": truth.hand, "preset": "wild"}
            row |= {"capture": capture, "size": size}
            for count, xy in points.items():
                row[f"keypoints{count}"] = np.ravel(xy).tolist()
                row[f"visible{count}"] = ((xy >= 0) & (xy < size)).all(axis=1).tolist()
            rows.append(row)
    pq.write_table(pa.Table.from_pylist(rows), root / "manifest.parquet")
    return root
