"""What every recogniser can do."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Recognizer(Protocol):
    """Turns ROIs into templates and compares templates.

    Attributes:
        name: What to call it.
        template_bytes: Size of one template.
    """

    name: str

    @property
    def template_bytes(self) -> int:
        """Size of one template."""

    def embed(self, rois: Tensor) -> Tensor:
        """`[N, 3, H, W]` RGB, uint8 or float in [0, 1] → `[N, …]` templates."""

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """`[Na, …]`, `[Nb, …]` → `[Na, Nb]` float32: smaller is more alike."""
