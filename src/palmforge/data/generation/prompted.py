"""Palm pictures with their prompts, or what frozen encoders have made of both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch.utils.data import Dataset

from palmforge.data.dataset import PalmDataset
from palmforge.data.sampler import Item
from palmforge.data.seeds import mixed
from palmforge.data.tensor_shards import TensorShards

NO_WORDS = ""  # what a dropped caption is: the unconditional prompt of classifier-free guidance


class PromptedDataset(Dataset[dict[str, Any]]):
    """Rows of a `PalmDataset` with prompts.

    Args:
        palms: The pictures.
        prompts: One a row.
        caption_dropout: Share of samples whose prompt is left out, for classifier-free guidance.

    Attributes:
        latents: When set, samples have its tensors in place of `image`: no picture is decoded.
        embeddings: When set, samples have its tensors of their prompt too.
    """

    def __init__(
        self, palms: PalmDataset, prompts: Sequence[str], caption_dropout: float = 0.0
    ) -> None:
        self.palms = palms
        self.prompts = list(prompts)
        self.caption_dropout = caption_dropout
        self.latents: TensorShards | None = None
        self.embeddings: TensorShards | None = None

    def __len__(self) -> int:
        return len(self.palms)

    def __getitem__(self, item: int | Item) -> dict[str, Any]:
        """A sample.

        Args:
            item: As `PalmDataset` takes them. A row alone always gives the same sample, seed
                included: that of validation.

        Returns:
            `prompt` str; `index`, `seed` (of all that is random about this sample) int; and
            `image` `[3, S, S]` uint8, or the tensors of `latents`; and those of `embeddings`.
        """
        row, seed = (item[0], item[1]) if isinstance(item, tuple) else (item, mixed(item, 0))
        sample: dict[str, Any] = {"index": row, "seed": seed, "prompt": self.prompt(item)}
        if self.latents is None:
            sample["image"] = self.palms[item]["image"]
        else:
            sample |= self.latents[self.palms.key(item)]
        if self.embeddings is not None:
            sample |= self.embeddings[sample["prompt"]]
        return sample

    def prompt(self, item: int | Item) -> str:
        """The prompt of a sample: its row's, unless this sample goes without."""
        if not isinstance(item, tuple):
            return self.prompts[item]
        dropped = mixed(item[1], 1) < self.caption_dropout * 2**32
        return NO_WORDS if dropped else self.prompts[item[0]]

    def all_prompts(self) -> list[str]:
        """Each prompt that a sample may have, once."""
        return sorted({NO_WORDS, *self.prompts})

    def all_views(self) -> list[Item | int]:
        """An item for each picture that a sample may show: rows × views.

        Raises:
            ValueError: If there is no end of them.
        """
        rows = range(len(self))
        if self.palms.views is None:
            raise ValueError("every sample is a new view of its picture")
        if not self.palms.augmentation.is_random:
            return list(rows)
        return [(row, view) for row in rows for view in range(self.palms.views)]
