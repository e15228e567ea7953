"""SAM 2 (Ravi et al. 2024) as a segmenter of hands, through transformers."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from palmforge.errors import CheckpointError

_MARGIN = 0.08  # of the box around the points: skin goes on beyond joints and finger tips
_KINDS = ("sam2", "sam2_video")  # the published checkpoints are those of the video model


class Sam2Segmenter:
    """A hand by its 21 points and the box around them; of three masks the one SAM 2 trusts most.

    Points that lie outside the picture are left out. Weights are read on the first call, in the
    process that asks; that they can be had is known before, from the configuration.

    Args:
        name_or_path: A folder with `config.json`, `*.safetensors` and the processor's files, as
            `save_pretrained` writes it, or a name of the hub such as `facebook/sam2.1-hiera-tiny`
            (Apache-2.0), which is fetched once.
        device: Where it runs. DataLoader workers have the CPU alone.

    Raises:
        CheckpointError: If it cannot be had, or is another model.
    """

    def __init__(self, name_or_path: str, device: str = "cpu") -> None:
        self.name_or_path = str(Path(name_or_path).expanduser())
        self.device = torch.device(device)
        if not Path(self.name_or_path).is_dir():
            self.name_or_path = name_or_path
        self._check_config()

    def __call__(self, image: np.ndarray, keypoints21: np.ndarray) -> np.ndarray:
        """See `HandSegmenter`. Without a point in the picture there is no hand in it.

        Raises:
            CheckpointError: If the weights cannot be read, or do not fit.
        """
        height, width = image.shape[:2]
        points = np.asarray(keypoints21, dtype=np.float64)
        inside = ((points >= 0) & (points <= [width - 1, height - 1])).all(axis=1)
        if not inside.any():
            return np.zeros((height, width), bool)
        return self._segmented(image, points[inside], _box(points, height, width))

    @torch.inference_mode()
    def _segmented(self, image: np.ndarray, points: np.ndarray, box: list[float]) -> np.ndarray:
        model, processor = self._parts
        inputs = processor(
            images=image.copy(),  # torch wants to be able to write to it
            input_points=[[points.tolist()]],
            input_labels=[[[1] * len(points)]],
            input_boxes=[[box]],
            return_tensors="pt",
        ).to(self.device)
        sizes = inputs.pop("original_sizes")
        found = model(**inputs, multimask_output=True)
        masks = processor.post_process_masks(found.pred_masks.cpu(), sizes.cpu())[0][0]
        best: np.ndarray = masks[int(found.iou_scores[0, 0].argmax())].numpy()
        return best.astype(bool)

    @cached_property
    def _parts(self) -> tuple[Any, Any]:
        """Model and processor."""
        from transformers import Sam2Model, Sam2Processor

        try:
            loaded: Any = Sam2Model.from_pretrained(
                self.name_or_path,
                output_loading_info=True,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # refused below, by name
                dtype=torch.float32,
            )
            processor = Sam2Processor.from_pretrained(self.name_or_path)
        except Exception as error:  # of the network, of the hub, of the file
            raise self._not_had(error) from error
        model, report = loaded
        wrong = [*sorted(report["missing_keys"]), *(key[0] for key in report["mismatched_keys"])]
        if wrong:
            raise CheckpointError(
                f"sam2: {self.name_or_path}: {len(wrong)} weights are missing or of another size, "
                f"such as {wrong[0]}. Was the download cut?"
            )
        return model.requires_grad_(False).eval().to(self.device), processor

    def _check_config(self) -> None:
        from transformers.utils import cached_file

        try:
            found = cached_file(self.name_or_path, "config.json")
            config = json.loads(Path(str(found)).read_text(encoding="utf-8"))
        except Exception as error:
            raise self._not_had(error) from error
        kind = config.get("model_type") if isinstance(config, dict) else None
        if kind not in _KINDS:
            raise CheckpointError(f"sam2: {self.name_or_path} holds a model {kind!r}, not SAM 2")

    def _not_had(self, error: Exception) -> CheckpointError:
        said = str(error).strip().splitlines()[:1] or [type(error).__name__]
        return CheckpointError(
            f"sam2: {self.name_or_path!r} is no folder of SAM 2 here, and could not be had from "
            f"the hub ({said[0][:200]}). Without a network: `hf download "
            "facebook/sam2.1-hiera-tiny --local-dir DIR` on a machine that has one, and give "
            "sam2:DIR; or use grabcut"
        )


def _box(points: np.ndarray, height: int, width: int) -> list[float]:
    """Left, top, right, bottom of the hand, within the picture."""
    low, high = points.min(axis=0), points.max(axis=0)
    margin = _MARGIN * float((high - low).max())
    corners = np.clip([low - margin, high + margin], 0, [width - 1, height - 1])
    box: list[float] = corners.ravel().tolist()
    return box
