"""AdamW with a warm-up and a decay, as Lightning wants it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

Schedule = Literal["constant", "cosine"]


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
        schedule: `constant`, or `cosine` down to 0 at `total_steps`.
        warmup_steps: Linear, from lr / (warmup_steps + 1).
        total_steps: Optimizer steps of the whole run.
    """

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        if schedule == "constant":
            return 1.0
        progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    optimizer = AdamW(parameters, lr=lr, weight_decay=weight_decay)
    scheduler = {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}
    return {"optimizer": optimizer, "lr_scheduler": scheduler}
