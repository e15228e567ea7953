"""Training the two networks that find palms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from palmforge.data.hands.frames import CROP_SIDES, PalmFrame
from palmforge.data.roi import xjtu_roi_quad
from palmforge.losses.landmarks import (
    centre_focal_loss,
    heat_map_loss,
    known_cross_entropy,
    palm_regression_losses,
    palm_targets,
    point_loss,
)
from palmforge.metrics.localization import palm_width, point_errors, quad_iou, rotation_of
from palmforge.modules.schedule import Schedule, scheduled_adamw
from palmforge.networks.landmarks import (
    DETECTOR_STRIDE,
    LANDMARK_STRIDE,
    PalmDetector,
    PalmLandmarks,
    detector_peaks,
    expected_points,
    peak_points,
)

Batch = dict[str, Any]


class _PalmFinder(L.LightningModule):
    """What the two have in common: images, optimizer, and means over an evaluation."""

    network: nn.Module

    def __init__(
        self,
        class_names: Sequence[str],
        image_size: int,
        lr: float,
        weight_decay: float,
        warmup_steps: int,
        lr_schedule: Schedule,
        channels_last: bool,
    ) -> None:
        super().__init__()
        self.class_names = list(class_names)
        self.image_size = image_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.warmup_steps = warmup_steps
        self.lr_schedule = lr_schedule
        self.channels_last = channels_last
        self._seen: dict[str, list[float]] = {}

    def configure_model(self) -> None:
        """Memory format, before the strategy wraps the module."""
        if self.channels_last:
            self.network.to(memory_format=torch.channels_last)

    def images(self, batch: Batch) -> Tensor:
        """uint8 → [0, 1]."""
        images = batch["image"].float().div_(255)
        return (
            images.contiguous(memory_format=torch.channels_last) if self.channels_last else images
        )

    def forward(self, images: Tensor) -> Any:
        """`[N, 3, S, S]` RGB in [0, 1] → the network's output."""
        return self.network(images)

    def log_losses(self, losses: dict[str, Tensor]) -> Tensor:
        """Logs `train/*`; returns the sum."""
        total = torch.stack(list(losses.values())).sum()
        self.log_dict({f"train/{k}_loss": v.detach() for k, v in losses.items()}, sync_dist=True)
        self.log("train/loss", total.detach(), prog_bar=True, sync_dist=True)
        self.log("train/lr", self.trainer.optimizers[0].param_groups[0]["lr"])
        return total

    def keep(self, name: str, value: float) -> None:
        """Takes a value of one picture."""
        self._seen.setdefault(name, []).append(float(value))

    def _log_kept(self, split: str) -> None:
        for name, values in self._seen.items():
            numbers = np.array(values)
            result = np.median(numbers) if name.endswith("_median") else numbers.mean()
            self.log(f"{split}/{name}", float(result), sync_dist=True)
        self._seen = {}

    def on_validation_epoch_start(self) -> None:
        """Forgets."""
        self._seen = {}

    def on_test_epoch_start(self) -> None:
        """Forgets."""
        self._seen = {}

    def on_validation_epoch_end(self) -> None:
        """Logs `val/*`."""
        self._log_kept("val")

    def on_test_epoch_end(self) -> None:
        """Logs `test/*`."""
        self._log_kept("test")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """As validation."""
        self.validation_step(batch, batch_idx)

    def configure_optimizers(self) -> dict[str, Any]:  # type: ignore[override]
        """AdamW."""
        return scheduled_adamw(
            self.parameters(),
            lr=self.lr,
            weight_decay=self.weight_decay,
            schedule=self.lr_schedule,
            warmup_steps=self.warmup_steps,
            total_steps=int(self.trainer.estimated_stepping_batches),
        )


class PalmDetectorModule(_PalmFinder):
    """Finds palms: a heat map of their centres (Zhou et al. 2019), and at each what it looks like.

    Logs `val/found` (share of palms with a peak above `threshold` within half a side), and of those
    `val/iou_median`, `val/rotation_median` (degrees), `val/upside_down`, `val/hand_right`;
    `val/false_alarm`: share of views without a palm in which one is found.

    Args:
        class_names: L and R; linked from the data.
        image_size: Side of the views it is trained on; linked from the data.
        widths: Channels at 1/4, 1/8, 1/16, 1/32.
        depths: Blocks at each.
        neck: Channels of the merged map at 1/8.
        offset_weight: Of the centre's L1 error, in sides.
        side_weight: Of the L1 error of the side's logarithm.
        up_weight: Of the L1 error of the direction.
        left_weight: Of the cross-entropy of left and right.
        threshold: Score above which validation counts a peak.
        lr: Peak learning rate of AdamW.
        weight_decay: Of AdamW.
        warmup_steps: Linear warm-up.
        lr_schedule: What follows it.
        channels_last: Memory format; faster in bf16.
    """

    network: PalmDetector

    def __init__(
        self,
        class_names: Sequence[str] = ("L", "R"),
        image_size: int = 192,
        widths: Sequence[int] = (32, 64, 128, 192),
        depths: Sequence[int] = (1, 1, 1, 1),
        neck: int = 64,
        offset_weight: float = 2.0,
        side_weight: float = 2.0,
        up_weight: float = 1.0,
        left_weight: float = 1.0,
        threshold: float = 0.3,
        lr: float = 2e-3,
        weight_decay: float = 0.02,
        warmup_steps: int = 100,
        lr_schedule: Schedule = "cosine",
        channels_last: bool = True,
    ) -> None:
        super().__init__(
            class_names, image_size, lr, weight_decay, warmup_steps, lr_schedule, channels_last
        )
        self.save_hyperparameters(logger=False)
        self.weights = {
            "offset": offset_weight, "side": side_weight, "up": up_weight, "left": left_weight
        }  # fmt: skip
        self.threshold = threshold
        self.network = PalmDetector(widths, depths, neck)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Focal loss of the centres, and what is said of the palms."""
        output = self.network(self.images(batch))
        height, width = output.heat.shape[1:]
        truth = palm_targets(batch["palms"], height, width, DETECTOR_STRIDE)
        said = palm_regression_losses(output.offset, output.log_side, output.up, output.left, truth)
        losses = {"centre": centre_focal_loss(output.heat, truth.heat)}
        losses |= {name: self.weights[name] * value for name, value in said.items()}
        return self.log_losses(losses)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Compares the surest peaks with the palms."""
        peaks = detector_peaks(self.network(self.images(batch)), num_peaks=8)
        for found, palms in zip(peaks.cpu().numpy(), batch["palms"].cpu().numpy(), strict=True):
            found, palms = found[found[:, 6] > self.threshold], palms[palms[:, 6] > 0]
            if not len(palms):
                self.keep("false_alarm", len(found) > 0)
            for palm in palms:
                self._compare(found.astype(np.float64), palm.astype(np.float64))

    def _compare(self, found: np.ndarray, palm: np.ndarray) -> None:
        near = np.linalg.norm(found[:, :2] - palm[:2], axis=1) < 0.5 * palm[2]
        self.keep("found", near.any())
        if not near.any():
            self.keep("iou", 0.0)
            return
        best = found[near][found[near][:, 6].argmax()]
        ours, true = _quad(best), _quad(palm)
        turn = abs((rotation_of(ours) - rotation_of(true) + 180) % 360 - 180)
        self.keep("iou", quad_iou(ours, true) if turn < 90 else 0.0)
        self.keep("rotation_median", turn)
        self.keep("upside_down", turn > 90)
        self.keep("hand_right", (best[5] > 0.5) == (palm[5] > 0.5))


def _quad(palm: np.ndarray) -> np.ndarray:
    """The ROI `[4, 2]` of a row of `palms` or of peaks, as that of a right hand."""
    return PalmFrame(palm[:2], float(palm[2]), palm[3:5], left=False).quad


class PalmLandmarksModule(_PalmFinder):
    """Finds 14 + 21 points in an upright crop of a palm, by heat maps and their mean.

    Logs `val/nme` (mean error of the 14 points in palm widths), `val/nme21`, `val/iou_median`,
    `val/iou_over_0.7`, `val/rotation_median` (degrees), `val/present_right`, `val/mirrored_right`,
    `val/visible_right`.

    Args:
        class_names: L and R; linked from the data.
        image_size: Side of the crops; linked from the data.
        widths: Channels at 1/4, 1/8, 1/16, 1/32.
        depths: Blocks at each.
        neck: Channels of the merged map at 1/8.
        sigma_cells: Of the Gaussian that a heat map is to be, in cells of 4 pixels.
        point_weight: Of the mean L1 error in sides of the ROI; the heat maps have 1.
        fact_weight: Of the cross-entropies of visible, present and mirrored.
        lr: Peak learning rate of AdamW.
        weight_decay: Of AdamW.
        warmup_steps: Linear warm-up.
        lr_schedule: What follows it.
        channels_last: Memory format; faster in bf16.
    """

    network: PalmLandmarks

    def __init__(
        self,
        class_names: Sequence[str] = ("L", "R"),
        image_size: int = 160,
        widths: Sequence[int] = (32, 64, 128, 192),
        depths: Sequence[int] = (1, 2, 3, 1),
        neck: int = 96,
        sigma_cells: float = 1.2,
        point_weight: float = 5.0,
        fact_weight: float = 0.5,
        lr: float = 2e-3,
        weight_decay: float = 0.02,
        warmup_steps: int = 100,
        lr_schedule: Schedule = "cosine",
        channels_last: bool = True,
    ) -> None:
        super().__init__(
            class_names, image_size, lr, weight_decay, warmup_steps, lr_schedule, channels_last
        )
        self.save_hyperparameters(logger=False)
        self.sigma_cells = sigma_cells
        self.point_weight = point_weight
        self.fact_weight = fact_weight
        self.network = PalmLandmarks(widths, depths, neck)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Heat maps, their means, and what is known of crop and points."""
        output = self.network(self.images(batch))
        points, weight, there = batch["points"], batch["weight"], batch["present"]
        side = self.image_size / CROP_SIDES  # of a palm that is cut out well
        mirrored = torch.where(there > 0, batch["mirrored"], -1.0)
        facts = {
            "visible": known_cross_entropy(output.visible, _of_present(batch["visible"], there)),
            "present": binary_cross_entropy_with_logits(output.present, there),
            "mirrored": known_cross_entropy(output.mirrored, mirrored),
        }
        losses = {
            "heat": heat_map_loss(output.heat, points, weight, LANDMARK_STRIDE, self.sigma_cells),
            "point": self.point_weight
            * point_loss(expected_points(output.heat), points, weight, side),
        }
        losses |= {name: self.fact_weight * value for name, value in facts.items()}
        return self.log_losses(losses)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Compares points, ROIs and facts."""
        output = self.network(self.images(batch))
        points, _ = peak_points(output.heat)
        there = batch["present"] > 0
        for right in ((output.present > 0) == there).tolist():
            self.keep("present_right", right)
        right = (output.mirrored > 0) == (batch["mirrored"] > 0)
        for value in right[there].tolist():
            self.keep("mirrored_right", value)
        visible = batch["visible"][there]
        for value in ((output.visible[there] > 0) == (visible > 0))[visible >= 0].tolist():
            self.keep("visible_right", value)
        self._compare(*(t[there].double().cpu().numpy() for t in (
            points, batch["points"], batch["weight"])))  # fmt: skip

    def _compare(self, ours: np.ndarray, true: np.ndarray, weight: np.ndarray) -> None:
        errors = np.where(weight > 0, point_errors(ours, true, palm_width(true[:, :14])), np.nan)
        whole = (weight[:, :14] > 0).all(axis=1)
        for row in np.flatnonzero(whole):
            self.keep("nme", errors[row, :14].mean())
            if (weight[row, 14:] > 0).any():
                self.keep("nme21", float(np.nanmean(errors[row, 14:])))
            overlap, turn = _roi_errors(ours[row, :14], true[row, :14])
            self.keep("iou_median", overlap)
            self.keep("iou_over_0.7", overlap > 0.7)
            self.keep("rotation_median", turn)


def _of_present(visible: Tensor, present: Tensor) -> Tensor:
    """−1 (unknown) for all points of crops without a palm."""
    return torch.where(present[:, None] > 0, visible, -1.0)


def _roi_errors(ours: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """Overlap of the ROIs (0 upside down) and degrees between them, of two sets of 14 points."""
    quad = xjtu_roi_quad(true)
    try:
        found = xjtu_roi_quad(ours)
    except ValueError:
        return 0.0, 180.0
    turn = abs((rotation_of(found) - rotation_of(quad) + 180) % 360 - 180)
    return (quad_iou(found, quad) if turn < 90 else 0.0), turn
