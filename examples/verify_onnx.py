"""Enrol palms, and verify one, with onnxruntime, NumPy and OpenCV alone: what a phone app does.

python examples/verify_onnx.py MODEL enrol  ROIS gallery.npz          ROIS/owner/picture.png
python examples/verify_onnx.py MODEL verify PICTURE OWNER gallery.npz

MODEL is a folder of `train.py export --format onnx` (or onnx-int8) of a recogniser, with its
model.json. Pictures are regions of interest: square, fingers up, index side on the right.
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

    def template(self, path):
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if picture is None:
            return None
        size = (self.model["network"]["image_size"],) * 2
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
        found = {path: recogniser.template(path) for path in sorted(Path(words[0]).glob("*/*"))}
        read = {path: template for path, template in found.items() if template is not None}
        owners, templates = [path.parent.name for path in read], list(read.values())
        np.savez(words[1], templates=templates, owners=owners)
        left_out = sorted(found.keys() - read)
        print(f"{words[1]}: {len(read)} pictures; {len(left_out)} left out", *left_out)
    elif command == "verify":
        gallery, template = np.load(words[2]), recogniser.template(words[0])
        own = gallery["templates"][gallery["owners"] == words[1]]
        if template is None or not len(own):
            sys.exit(f"{words[0]} is no picture, or nobody called {words[1]} is enrolled")
        nearest = recogniser.distances(template, own).min()
        limit = recogniser.model["threshold"]["accept_at_or_below"]
        print(f"{'accepted' if nearest <= limit else 'refused'}: {nearest:.4g}, limit {limit:.4g}")


usable = len(sys.argv) > 4 and (Path(sys.argv[1]) / "model.json").is_file()
main(*sys.argv[1:]) if usable else sys.exit(__doc__)
