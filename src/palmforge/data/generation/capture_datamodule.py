"""The DataModule of what makes captures of palms that are there already."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from itertools import groupby, islice
from operator import attrgetter
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch

from palmforge.data.augmentation import Preset
from palmforge.data.dataset import PalmDataset
from palmforge.data.embedded import SYNTHETIC
from palmforge.data.factory.filters import Filters
from palmforge.data.generation.captures import CapturePairs, CapturePlan
from palmforge.data.generation.datamodule import GenerationDataModule
from palmforge.data.generation.prompts import DEFAULT_TEMPLATES, prompts_of
from palmforge.data.layouts import Layout, scan
from palmforge.data.records import PalmRecord
from palmforge.data.roi_cache import RoiSettings, extract
from palmforge.data.synthetic import SyntheticPalms
from palmforge.errors import BadImage, ConfigError, DataError
from palmforge.metrics.palm_quality import palm_quality

Reference = tuple[str, Callable[[], np.ndarray]]  # its name, and what loads `[S, S, 3]` uint8
_identity = attrgetter("identity")


class CaptureDataModule(GenerationDataModule):
    """As `GenerationDataModule`, each sample with a `reference`: another capture of its palm.

    Where a palm has one picture only, that is its own reference. For `predict`, `references` are
    the palms (the first picture of each identity), and `captures` of each are made.

    Args:
        root: See `GenerationDataModule`, as all that is not told here.
        layout: See there.
        domains: See there.
        protocol: See there.
        fractions: See there.
        split_seed: See there.
        image_size: See there.
        roi: See there.
        localizer: See there.
        cache_dir: See there.
        augmentation: See there.
        geometric_augmentation: See there.
        augmented_views: See there.
        templates: See there.
        caption_dropout: Share of samples without words.
        control_dropout: Share of samples without the palm, for guidance by it alone.
        both_dropout: Share of samples without either, besides.
        batch_size: See there.
        eval_batch_size: See there.
        prompts: For `predict`: what captures are like.
        references: For `predict`: a folder of ROIs, `identity/image`, such as `predict` of the
            identity generator writes; null: the palms of the test split. Those that are neither
            square nor have key points are left out and listed; `roi.source=whole` squeezes them.
        num_identities: For `predict`: of the references, at most.
        captures: For `predict`: of each palm.
        out: See there.
        num_workers: See there.
        seed: See there.
        synthetic: See there.
        synthetic_dir: See there.
    """

    def __init__(
        self,
        root: str = SYNTHETIC,
        layout: Layout = "auto",
        domains: list[str] | None = None,
        protocol: Literal["first_five", "open_set", "cross_domain"] = "open_set",
        fractions: tuple[float, float, float] = (0.9, 0.05, 0.05),
        split_seed: int = 0,
        image_size: int = 512,
        roi: RoiSettings = RoiSettings(size=512),  # noqa: B008  (frozen)
        localizer: str | None = None,
        cache_dir: str = "data/cache",
        augmentation: Preset = "none",
        geometric_augmentation: bool = True,
        augmented_views: int | None = 1,
        templates: list[str] = list(DEFAULT_TEMPLATES),  # noqa: B006  (never changed)
        caption_dropout: float = 0.05,
        control_dropout: float = 0.05,
        both_dropout: float = 0.05,
        batch_size: int = 8,
        eval_batch_size: int = 8,
        prompts: str | list[str] | None = None,
        references: str | None = None,
        num_identities: int = 100,
        captures: int = 10,
        out: str | None = None,
        num_workers: int = 2,
        seed: int = 0,
        synthetic: SyntheticPalms = SyntheticPalms(what="rois", size=128),  # noqa: B008  (frozen)
        synthetic_dir: str = "data/synthetic",
    ) -> None:
        super().__init__(
            root, layout, domains, protocol, fractions, split_seed, image_size, roi, localizer,
            cache_dir, augmentation, geometric_augmentation, augmented_views, templates,
            caption_dropout, batch_size, eval_batch_size, prompts, num_identities, out, num_workers,
            seed, synthetic, synthetic_dir,
        )  # fmt: skip
        for name, share in (("control_dropout", control_dropout), ("both_dropout", both_dropout)):
            if not 0 <= share <= 1:
                raise ConfigError(f"data.{name} must be in [0, 1], got {share}")
        if captures < 1:
            raise ConfigError(f"data.captures must be 1 or more, got {captures}")
        self.control_dropout = control_dropout
        self.both_dropout = both_dropout
        self.references = references
        self._source: Literal["auto", "whole"] = "whole" if roi.source == "whole" else "auto"
        self.captures = captures

    def prepare_data(self) -> None:
        """Cuts the ROIs that are not cached yet; for `predict` those of the test palms alone."""
        if not self._predicting:
            super().prepare_data()
        elif self.references is None:
            self._cut_rois()

    def setup(self, stage: str) -> None:
        """Pictures and prompts; or the plan."""
        if stage != "predict":
            super().setup(stage)
            return
        self.palms.trainer = self.trainer
        size, seed = self.palms.eval_batch_size, self.palms.seed
        self.plan = CapturePlan(self._reference_palms(), self._prompts(), self.captures, size, seed)

    def _reference_palms(self) -> list[Reference]:
        """Of each palm the first picture that can be read."""
        if self.references is None:
            self.palms.setup("predict")
            test = self.palms.test
            rows = np.unique(test.labels, return_index=True)[1][: self.num_identities]
            named = partial(_relative, root=self.scan.root)
            return [(named(test.records[r].path), partial(_pixels, test, int(r))) for r in rows]
        if not Path(self.references).expanduser().is_dir():
            raise DataError(
                f"data.references: no directory {self.references!r}. Give a folder of ROIs, "
                "identity/image, or null for the palms of the test split"
            )
        found = scan(self.references, "folder", None)
        self.palms.problems |= found.problems
        records = sorted(found.records, key=_identity)
        readable = (self._first_readable(own) for _, own in groupby(records, _identity))
        palms = list(islice(filter(None, readable), self.num_identities))
        if self.palms.problems and (self.trainer is None or self.trainer.is_global_zero):
            listed = "\n".join(f"  {p}: {reason}" for p, reason in self.palms.problems.items())
            count = len(self.palms.problems)
            warnings.warn(f"data.references: left out {count}:\n{listed}", stacklevel=2)
        if not palms:
            raise DataError(f"data.references: no picture of {self.references!r} can be used")
        return palms

    def _first_readable(self, records: Iterable[PalmRecord]) -> Reference | None:
        """Of an identity's pictures; what cannot be read is counted and listed."""
        for record in records:
            load = partial(_reference, record, self.palms.augmentation.image_size, self._source)
            try:
                check_palm(load(), record.path)
            except BadImage as error:
                self.palms.problems[error.path] = error.reason
                continue
            return _relative(record.path, str(self.references)), load
        return None

    def _prompted(self, palms: PalmDataset, caption_dropout: float) -> CapturePairs:
        prompts = prompts_of(palms.records, self.scan.root, self.templates, self.palms.seed)
        drops = (caption_dropout, self.control_dropout, self.both_dropout)
        return CapturePairs(palms, prompts, *drops)  # validation asks by row, and none is dropped


def check_palm(image: np.ndarray, path: str) -> None:
    """Refuses a reference without anything of a palm in it: grey, dark, or without a line.

    Args:
        image: `[S, S, 3]` uint8 RGB.
        path: For the message.

    Raises:
        BadImage: If a score is out of the limits that factories have.
    """
    picture = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
    limits = Filters()
    scores = {name: float(value) for name, value in palm_quality(picture).items()}
    if (name := limits.poor(scores)) is not None:
        least, most = getattr(limits, name)
        raise BadImage(
            path, f"no palm to be seen: {name} {scores[name]:.3f} is not in [{least:g}, {most:g}]"
        )


def _relative(path: str, root: str) -> str:
    return Path(os.path.relpath(path, Path(root).expanduser())).as_posix()


def _pixels(palms: PalmDataset, row: int) -> np.ndarray:
    return palms.plain(row).permute(1, 2, 0).numpy()


def _reference(record: PalmRecord, size: int, source: Literal["auto", "whole"]) -> np.ndarray:
    """`[S, S, 3]` uint8 RGB; `auto` refuses what is not square, and would be squeezed."""
    image = extract(record, RoiSettings(size=max(16, size), source=source))
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
