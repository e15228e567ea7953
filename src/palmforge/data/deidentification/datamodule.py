"""The DataModule of de-identification: a folder of photographs → hands → groups of them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader

from palmforge.data.dataset import limit_threads
from palmforge.data.deidentification.crops import Around
from palmforge.data.deidentification.exemplars import SHARES, Exemplar, check_exemplars
from palmforge.data.deidentification.photographs import Preparation, find_pictures
from palmforge.data.deidentification.plan import DeidentificationPlan
from palmforge.data.deidentification.segmentation import load_segmenter
from palmforge.data.embedded import SYNTHETIC, rendered, scan_root
from palmforge.data.layouts import Layout
from palmforge.data.synthetic import SyntheticPalms
from palmforge.errors import ConfigError, DataError

_HANDS = SyntheticPalms(20, 2, ("IF", "IN"), 384, 77)


class DeidentificationDataModule(L.LightningDataModule):
    """Photographs of hands for `Deidentifier`; `DeidentificationWriter` keeps what comes of them.

    `test` wants to know whose hand each shows: folders by identity, or another known layout.

    Every hand that the localizer finds in a photograph is repainted, or the photograph is not
    written at all. A hand that it does not find beside one that it does stays as it is: the
    manifest tells how many were found.

    Args:
        images: Folder of photographs; those in folders below it as well. Never written to.
            `synthetic`: rendered hands.
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
        around: What a crop shows: `hand`, or `palm` and what is next to it, for a small model.
        variants: Results of each photograph, each of seeds of its own.
        batch_size: Hands at once; and photographs that are done together.
        num_workers: DataLoader processes, which read and look for hands.
        seed: Of noise, with the picture's pixels, hand and variant. Linked to `seed_everything`.
        layout: Of `test`: how files lie under `images`, see `PalmDataModule`.
        synthetic: The rendered hands.
        synthetic_dir: Where they are rendered to.
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
        around: Around = "hand",
        variants: int = 1,
        batch_size: int = 8,
        num_workers: int = 1,
        seed: int = 0,
        layout: Layout = "auto",
        synthetic: SyntheticPalms = _HANDS,
        synthetic_dir: str = "data/synthetic",
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
        if synthetic.what != "hands":
            raise ConfigError("data.synthetic: what must be hands, not rois")
        self.images = images if images == SYNTHETIC else str(Path(images).expanduser())
        self.layout: Layout = layout
        self.synthetic = synthetic
        self.synthetic_dir = synthetic_dir
        self.out = out
        self.localizer = localizer
        self.segmenter = segmenter
        self.image_size = image_size
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.preparation = Preparation(
            image_size, tuple(exemplars), variants, thumb_root, palm_margin, margin, seed, around
        )
        self.plan: DeidentificationPlan | None = None
        self.others: dict[str, str] = {}
        self.identities: dict[str, str] = {}

    def setup(self, stage: str) -> None:
        """Lists the folder.

        Raises:
            ConfigError: If it is asked for anything but `predict` and `test`.
            DataError: If there is no picture; for `test`: of fewer than two identities.
        """
        if stage == "predict":
            root = self.images
            if root == SYNTHETIC:
                root = rendered(self.synthetic, self.synthetic_dir, self.num_workers)
            sources, self.others = find_pictures(root)
            self._lay(root, sources, self.preparation)
        elif stage == "test":
            self._setup_test()
        else:
            raise ConfigError("DeidentificationDataModule: nothing is trained here; use predict")

    def _setup_test(self) -> None:
        """With identities; every exemplar is cut, as methods show different ones."""
        scan = scan_root(
            self.images, self.layout, None, self.synthetic, self.synthetic_dir, self.num_workers
        )
        names = {os.path.relpath(r.path, scan.root).replace(os.sep, "/"): r for r in scan.records}
        self.identities = {source: names[source].identity for source in sorted(names)}
        self.others = dict(scan.problems)
        if len(set(self.identities.values())) < 2:
            raise DataError(
                f"data.images: {self.images} shows {len(set(self.identities.values()))} hand; "
                "what is left of identities is measured on two or more, a folder each"
            )
        every: Any = tuple(SHARES)
        self._lay(scan.root, list(self.identities), replace(self.preparation, exemplars=every))
        assert self.plan is not None
        self.plan.exemplars = self.preparation.exemplars

    def _lay(self, root: str, sources: list[str], preparation: Preparation) -> None:
        self.plan = DeidentificationPlan(
            root, sources, self.batch_size, self.localizer, self.segmenter, preparation
        )

    def predict_dataloader(self) -> DataLoader:
        """Groups of the plan.

        Raises:
            ConfigError: If nobody keeps the results.
        """
        return self._loader("DeidentificationWriter")

    def test_dataloader(self) -> DataLoader:
        """Groups of the plan.

        Raises:
            ConfigError: If nobody measures the results.
        """
        return self._loader("DeidentificationReport")

    def _loader(self, keeper: str) -> DataLoader:
        assert self.plan is not None
        if not getattr(self.plan, "is_kept", False):
            raise ConfigError(f"trainer.callbacks: {keeper} is missing; it keeps the results")
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
