"""The DataModule of de-identification: a folder of photographs → hands → groups of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader

from palmforge.data.dataset import limit_threads
from palmforge.data.deidentification.exemplars import Exemplar, check_exemplars
from palmforge.data.deidentification.photographs import Preparation, find_pictures
from palmforge.data.deidentification.plan import DeidentificationPlan
from palmforge.data.deidentification.segmentation import load_segmenter
from palmforge.errors import ConfigError


class DeidentificationDataModule(L.LightningDataModule):
    """Photographs of hands for `Deidentifier`; `DeidentificationWriter` keeps what comes of them.

    Every hand that the localizer finds in a photograph is repainted, or the photograph is not
    written at all. A hand that it does not find beside one that it does stays as it is: the
    manifest tells how many were found.

    Args:
        images: Folder of photographs; those in folders below it as well. Never written to.
        out: Where results go; null: as `DeidentificationWriter.directory` says.
        localizer: Finds hands and their 21 points: `default`, a path, `python:module:function`.
        segmenter: Tells the hand from what is around it: `grabcut`, `skeleton` (the points alone),
            `everything` (the palm's polygon as it is), `python:module:function`.
        image_size: Side in pixels at which a hand is repainted; the model's: 512.
        exemplars: Crops that say what a palm looks like: any of `s` (10 % of the palm's square),
            `m` (50 %), `f` (all of it).
        thumb_root: Whether the thumb's root is a corner of the palm: in the paper it is, in the
            authors' code it is not.
        palm_margin: By which the palm's polygon grows on all sides, as a share of its square's
            side. 0 is the paper, which leaves the heel and the edges of the palm to be seen.
        margin: Around a hand, on each side, as a share of its length.
        variants: Results of each photograph, each of seeds of its own.
        batch_size: Hands at once; and photographs that are done together.
        num_workers: DataLoader processes, which read and look for hands.
        seed: Of noise, with the picture's pixels, hand and variant. Linked to `seed_everything`.
    """

    def __init__(
        self,
        images: str = "photographs",
        out: str | None = None,
        localizer: str = "default",
        segmenter: str = "grabcut",
        image_size: int = 512,
        exemplars: list[Exemplar] = ["s", "m"],  # noqa: B006  (never changed)
        thumb_root: bool = True,
        palm_margin: float = 0.0,
        margin: float = 0.15,
        variants: int = 1,
        batch_size: int = 8,
        num_workers: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_exemplars(exemplars)
        load_segmenter(segmenter)
        if variants < 1:
            raise ConfigError(f"data.variants: {variants} is less than 1")
        if image_size < 8:
            raise ConfigError(f"data.image_size: {image_size} pixels are too few")
        for name, share in (("margin", margin), ("palm_margin", palm_margin)):
            if not 0 <= share <= 2:
                raise ConfigError(f"data.{name}: {share} is not in [0, 2]")
        self.images = str(Path(images).expanduser())
        self.out = out
        self.localizer = localizer
        self.segmenter = segmenter
        self.image_size = image_size
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.preparation = Preparation(
            image_size, tuple(exemplars), variants, thumb_root, palm_margin, margin, seed
        )
        self.plan: DeidentificationPlan | None = None
        self.others: dict[str, str] = {}

    def setup(self, stage: str) -> None:
        """Lists the folder.

        Raises:
            ConfigError: If it is asked for anything but `predict`.
            DataError: If there is no picture.
        """
        if stage != "predict":
            raise ConfigError("DeidentificationDataModule: nothing is trained here; use predict")
        sources, self.others = find_pictures(self.images)
        self.plan = DeidentificationPlan(
            self.images, sources, self.batch_size, self.localizer, self.segmenter, self.preparation
        )

    def predict_dataloader(self) -> DataLoader:
        """Groups of the plan.

        Raises:
            ConfigError: If nobody keeps the results.
        """
        assert self.plan is not None
        if not getattr(self.plan, "is_kept", False):
            raise ConfigError(
                "trainer.callbacks: DeidentificationWriter is missing; it keeps the results"
            )
        return DataLoader(
            self.plan,
            batch_size=None,
            num_workers=self.num_workers,
            worker_init_fn=limit_threads,
        )

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Stays on the CPU: the module moves what it needs."""
        return batch
