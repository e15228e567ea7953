"""What a ControlNet is told of the palm that it shall keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from palmforge.errors import ConfigError
from palmforge.networks.line_filters import LineFilters
from palmforge.networks.preparation import as_float

Condition = Literal["lines", "reference", "embedding"]
CONDITIONS = ("lines", "reference", "embedding")


class IdentityConditions(nn.Module):
    """A picture of a palm → control images, and tokens beside the words.

    For plain diffusers, which knows no tokens, `conditions` and `line_mode` are enough.

    Args:
        conditions: Of `lines` (its line map), `reference` (the picture itself), `embedding` (a
            frozen recogniser's vector as tokens).
        line_mode: `soft` or `binary`.
        token_dim: Width of the UNet's words.
        embedding_dim: D of the recogniser; 0: there are no tokens.
        num_tokens: Tokens that the vector becomes.
        dial: Whether a similarity m in [−1, 1] is told too (CemiFace, spec §4).

    Raises:
        ConfigError: If there is no condition, or an unknown one.
    """

    def __init__(
        self,
        conditions: Sequence[str],
        line_mode: Literal["soft", "binary"] = "soft",
        token_dim: int = 0,
        embedding_dim: int = 0,
        num_tokens: int = 0,
        dial: bool = False,
    ) -> None:
        super().__init__()
        if not conditions or set(conditions) - set(CONDITIONS):
            raise ConfigError(
                f"model.conditions: some of {', '.join(CONDITIONS)}, got {list(conditions)}"
            )
        self.conditions = tuple(conditions)
        self.num_tokens = num_tokens
        self.lines = LineFilters(mode=line_mode) if "lines" in conditions else None
        self.similarity: nn.Module | None = None
        self.tokens: nn.Module | None = None
        if "embedding" in conditions or dial:
            width = embedding_dim + (64 if dial else 0)
            self.similarity = nn.Linear(1, 64) if dial else None  # C_sim
            self.tokens = nn.Sequential(  # C = MLP([E(x), C_sim])
                nn.Linear(width, 4 * token_dim),
                nn.SiLU(),
                nn.Linear(4 * token_dim, num_tokens * token_dim),
                nn.Unflatten(1, (num_tokens, token_dim)),
                nn.LayerNorm(token_dim),
            )

    @property
    def num_channels(self) -> int:
        """Of `control`: three for each picture-like condition, that plain pipelines take images."""
        return 3 * max(1, len({"lines", "reference"} & set(self.conditions)))

    def control(self, reference: Tensor) -> Tensor:
        """`[N, 3, S, S]` pictures (uint8, or float in [0, 1]) → `[N, C, S, S]` in [0, 1]."""
        images = as_float(reference)
        parts = []
        if self.lines is not None:
            parts.append(self.lines(images).expand(-1, 3, -1, -1))
        if "reference" in self.conditions:
            parts.append(images)
        return torch.cat(parts, 1) if parts else torch.zeros_like(images)

    def identity_tokens(self, embedding: Tensor, similarity: Tensor | None) -> Tensor | None:
        """Tokens `[N, num_tokens, token_dim]`, or None where nothing is told by tokens.

        Args:
            embedding: E(x), `[N, D]` unit vectors; zeros where it is dropped.
            similarity: m, `[N]` in [−1, 1]; needed with a dial.
        """
        if self.tokens is None:
            return None
        told: Any = embedding
        if self.similarity is not None:
            assert similarity is not None
            told = torch.cat([embedding, self.similarity(similarity[:, None])], 1)
        tokens: Tensor = self.tokens(told)
        return tokens
