"""Captures of palms that are there already: pairs to train on, and what is to be generated."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from palmforge.data.dataset import PalmDataset
from palmforge.data.generation.plan import GenerationPlan, image_seed
from palmforge.data.generation.prompted import NO_WORDS, PromptedDataset
from palmforge.data.sampler import Item
from palmforge.data.seeds import mixed

_CAPTION, _CONTROL, _BOTH, _PARTNER = range(1, 5)  # what a sample's seed is mixed with for


class CapturePairs(PromptedDataset):
    """Samples with `reference`, another capture of the same palm, if there is one.

    Args:
        palms: The pictures.
        prompts: One a row.
        caption_dropout: Share of samples without words.
        control_dropout: Share of samples without the palm.
        both_dropout: Share of samples without either, besides.
    """

    def __init__(
        self,
        palms: PalmDataset,
        prompts: Sequence[str],
        caption_dropout: float = 0.0,
        control_dropout: float = 0.0,
        both_dropout: float = 0.0,
    ) -> None:
        super().__init__(palms, prompts, caption_dropout)
        self.control_dropout = control_dropout
        self.both_dropout = both_dropout
        rows_of: dict[int, list[int]] = defaultdict(list)
        for row, label in enumerate(palms.labels):
            rows_of[label].append(row)
        self._captures = [rows_of[label] for label in palms.labels]

    def __getitem__(self, item: int | Item) -> dict[str, Any]:
        """As `PromptedDataset`, with `reference` `[3, S, S]` uint8 and `keep_control` 0 or 1."""
        sample = super().__getitem__(item)
        row, seed = sample["index"], sample["seed"]
        others = [other for other in self._captures[row] if other != row] or [row]
        partner = others[mixed(seed, _PARTNER) % len(others)]
        sample["reference"] = self.palms.plain(partner)
        dropped = isinstance(item, tuple) and (
            _share(seed, _CONTROL) < self.control_dropout or _share(seed, _BOTH) < self.both_dropout
        )
        sample["keep_control"] = 0.0 if dropped else 1.0
        return sample

    def prompt(self, item: int | Item) -> str:
        """As `PromptedDataset`; also none where both are dropped."""
        if isinstance(item, tuple) and _share(item[1], _BOTH) < self.both_dropout:
            return NO_WORDS
        return super().prompt(item)


class CapturePlan(GenerationPlan):
    """Captures of given palms; image i is capture i % M of palm i // M.

    Its batches have besides `reference` `[B, 3, S, S]` uint8 and `identity_seed` `[B]`, which all
    captures of a palm share.

    Args:
        references: A name and what loads its picture, `[S, S, 3]` uint8, a palm. More of them, in
            the same order, add to a set.
        prompts: Gone through again and again.
        captures: M.
        batch_size: Images at once.
        seed: >= 0.
    """

    def __init__(
        self,
        references: Sequence[tuple[str, Callable[[], np.ndarray]]],
        prompts: Sequence[str],
        captures: int,
        batch_size: int,
        seed: int = 0,
    ) -> None:
        self.references = list(references)
        self.captures = captures
        super().__init__(prompts, len(references) * captures, batch_size, seed)

    def identity(self, index: int) -> int:
        """The palm of an image."""
        return index // self.captures

    def capture(self, index: int) -> int:
        """Which image of its palm it is."""
        return index % self.captures

    def columns(self, index: int) -> dict[str, str | int]:
        """The palm that an image is of, and which of its captures it is."""
        name, _ = self.references[self.identity(index)]
        return {"reference": name, "capture": self.capture(index)}

    def settings(self) -> dict[str, str | int]:
        """What decides the pictures: also how many each palm has."""
        return {**super().settings(), "captures": self.captures}

    def __getitem__(self, place: int) -> dict[str, Any]:
        batch = super().__getitem__(place)
        palms = [self.identity(int(i)) % len(self.references) for i in batch["index"]]
        batch["reference"] = torch.stack([_tensor(self.references[p][1]()) for p in palms])
        batch["identity_seed"] = torch.tensor([image_seed(self.seed + 1, p) for p in palms])
        return batch


def _tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def _share(seed: int, what: int) -> float:
    return mixed(seed, what) / 2**32
