"""An optimizer with a warm-up and a decay, as Lightning wants it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

Schedule = Literal["constant", "cosine", "linear"]


def scheduled_adamw(
    parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
    lr: float,
    weight_decay: float,
    schedule: Schedule,
    warmup_steps: int,
    total_steps: int,
) -> dict[str, Any]:
    """What `configure_optimizers` returns.

    Args:
        parameters: Those that are trained; or groups of them, as torch's optimizers take them.
        lr: Peak learning rate.
        weight_decay: Decoupled.
        schedule: See `scheduled`.
        warmup_steps: See `scheduled`.
        total_steps: See `scheduled`.
    """
    optimizer = AdamW(parameters, lr=lr, weight_decay=weight_decay)
    return scheduled(optimizer, schedule, warmup_steps, total_steps)


def scheduled(
    optimizer: Optimizer, schedule: Schedule, warmup_steps: int, total_steps: int
) -> dict[str, Any]:
    """Any optimizer with a learning rate that rises and falls.

    Args:
        optimizer: Its own learning rate is the peak.
        schedule: `constant`, or `cosine` or `linear` down to 0 at `total_steps`.
        warmup_steps: Linear, from lr / (warmup_steps + 1).
        total_steps: Optimizer steps of the whole run.
    """

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        if schedule == "constant":
            return 1.0
        progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
        return 1 - progress if schedule == "linear" else 0.5 * (1 + math.cos(math.pi * progress))

    scheduler = {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}
    return {"optimizer": optimizer, "lr_scheduler": scheduler}
