"""Enrol palms, and verify one, with onnxruntime, NumPy and OpenCV alone: what a phone app does.

python examples/verify_onnx.py MODEL enrol  ROIS gallery.npz          ROIS/owner/picture.png
python examples/verify_onnx.py MODEL verify PICTURE OWNER gallery.npz

MODEL is a folder of `train.py export --format onnx` (or onnx-int8) of a recogniser. Pictures are
regions of interest: square, fingers up, index side on the right.
"""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import onnxruntime


class Recogniser:
    def __init__(self, folder):
        self.model = json.loads((Path(folder) / "model.json").read_text(encoding="utf-8"))
        self.session = onnxruntime.InferenceSession(Path(folder) / self.model["file"])
        self.side = self.model["network"]["image_size"]

    def template(self, path):
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if picture is None:
            sys.exit(f"{path}: no picture")
        size = (self.side, self.side)
        if picture.shape[:2] != size:  # averages where it shrinks, so that lines do not alias
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        rgb = np.ascontiguousarray(picture[..., ::-1].transpose(2, 0, 1)[None])
        return self.session.run(None, {"image": rgb})[0][0]

    def distances(self, template, gallery):
        if self.model["distance"] == "hamming":
            return np.bitwise_count(gallery ^ template).sum(axis=1)
        return 1 - gallery @ template


def main(folder, command, *words):
    recogniser = Recogniser(folder)
    if command == "enrol":
        pictures = sorted(p for p in Path(words[0]).glob("*/*") if p.is_file())
        if not pictures:
            sys.exit(f"{words[0]}: no owner/picture in it")
        templates = np.stack([recogniser.template(p) for p in pictures])
        np.savez(words[1], templates=templates, owners=[p.parent.name for p in pictures])
        print(f"{words[1]}: {len(pictures)} pictures")
    elif command == "verify":
        gallery = np.load(words[2])
        own = gallery["templates"][gallery["owners"] == words[1]]
        if not len(own):
            sys.exit(f"{words[1]}: nobody of that name is enrolled")
        nearest = recogniser.distances(recogniser.template(words[0]), own).min()
        limit = recogniser.model["threshold"]["accept_at_or_below"]
        print(f"{'accepted' if nearest <= limit else 'refused'}: {nearest:.4g}, limit {limit:.4g}")


main(*sys.argv[1:]) if len(sys.argv) > 4 else print(__doc__)
