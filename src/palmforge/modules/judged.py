"""What modules that are judged by verification share: their logs and their classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import lightning as L
from lightning.pytorch.utilities import rank_zero_warn

from palmforge.errors import CheckpointError


def log_figures(
    module: L.LightningModule, split: Literal["val", "test"], figures: Mapping[str, float]
) -> None:
    """Logs `split/*`; the figures are over all processes already."""
    for name, value in figures.items():
        # The same on all processes; sync_dist because Lightning warns of each one without.
        shown = name == "eer" and split == "val"
        module.log(f"{split}/{name}", value, sync_dist=True, prog_bar=shown)


def same_classes(
    module: L.LightningModule, ours: list[str], theirs: list[str], otherwise: str
) -> bool:
    """Whether a checkpoint knows the identities of this data; warns if it does not.

    Args:
        module: That loads it.
        ours: Training identities of this data, in the order of the labels.
        theirs: Those of the checkpoint.
        otherwise: What becomes of the classifier when they differ; ends the warning.

    Raises:
        CheckpointError: If they differ and training is to go on.
    """
    if theirs == ours:
        return True
    if module._trainer is not None and module.trainer.training:
        raise CheckpointError(
            f"the checkpoint was trained on {len(theirs)} identities ({', '.join(theirs[:3])}…), "
            f"this data has {len(ours)} ({', '.join(ours[:3])}…): "
            "training cannot go on with other classes"
        )
    rank_zero_warn(f"the checkpoint was trained on other identities: {otherwise}")
    return False
