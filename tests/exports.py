"""Tiny checkpoints of what can be exported, and pictures to check them on."""

from __future__ import annotations

from pathlib import Path

import torch
from pictures import noise, save

from palmforge.modules import HashingStudent, HashingTeacher
from palmforge.modules.landmarks import PalmDetectorModule, PalmLandmarksModule
from palmforge.modules.recognizer import MarginRecognizer

TINY_FINDER = {"widths": (8, 8, 8, 8), "depths": (1, 1, 1, 1), "neck": 8}


def checkpoint(kind: str, folder: Path) -> str:
    """A file as Lightning would leave it, of random weights."""
    torch.manual_seed(0)
    content: dict = {}
    if kind == "student":
        module = HashingStudent(["a", "b"], num_bits=32, image_size=64)
    elif kind == "teacher":
        module = HashingTeacher(["a", "b"], num_bits=32, image_size=64, width=0.0625, weights=None)
    elif kind == "margin":
        arguments = {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}
        module = MarginRecognizer(["a", "b"], 64, embedding_dim=24, backbone_args=arguments)
    else:
        finder = {"landmarks": PalmLandmarksModule, "detector": PalmDetectorModule}[kind]
        module = finder(image_size=64, **TINY_FINDER)
        content["hyper_parameters"] = dict(module.hparams)
    module.configure_model()
    content["state_dict"] = module.state_dict()
    module.on_save_checkpoint(content)
    path = folder / f"{kind}.ckpt"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return str(path)


def palms(root: Path, identities: int = 7, images: int = 6) -> str:
    """identity/picture, 64 pixels: noise of the palm and noise of the picture."""
    for identity in range(identities):
        palm = noise(64, 64, seed=identity, smooth=5)
        for image in range(images):
            view = palm // 2 + noise(64, 64, seed=100 + images * identity + image, smooth=2) // 2
            save(root / f"palm_{identity}" / f"{image}.png", view)
    return str(root)
