"""The DataModule: scan → protocol → ROI cache → loaders."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Literal

import lightning as L
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch.utils.data import DataLoader

from palmforge.data import protocols
from palmforge.data.added import ADDED, AddedPalms, AddedRoiCache, check_apart, read_added
from palmforge.data.augmentation import Preset, RoiAugmentation
from palmforge.data.dataset import PalmDataset
from palmforge.data.embedded import SYNTHETIC, scan_root
from palmforge.data.layouts import Layout, Scan
from palmforge.data.loaders import evaluation_loader, training_loader
from palmforge.data.protocols import Split
from palmforge.data.records import PalmRecord
from palmforge.data.roi_cache import RoiCache, RoiSettings
from palmforge.data.sampler import IdentityBatchSampler
from palmforge.data.synthetic import SyntheticPalms
from palmforge.errors import ConfigError, DataError
from palmforge.localization.point_cache import PointCache


class PalmDataModule(L.LightningDataModule):
    """Palm images of any layout, cut to ROIs, in P × K batches.

    Batches are dicts: `image [N, 3, S, S]` uint8 RGB, `label`, `domain`, `index`, `role`, `seed`
    `[N]` (see `PalmDataset`).

    Args:
        root: The data set. `synthetic` is the embedded one, rendered at first use under
            `synthetic_dir`; anything else is a directory that must be there.
        layout: How files lie under `root`: `xjtu_up`, `folder` (identity/image), `auto` (one of
            these), or a public database (docs/databases.md).
        domains: Only these domains (`[IF, IN]`); null for all.
        protocol: `first_five` (Shao et al. 2020: closed set), `open_set` (identities disjoint) or
            `cross_domain` (enrol in one domain, probe from another): `palmforge.data.protocols`.
        train_images: Images of each identity and domain that train (`first_five`, `cross_domain`).
        val_images: Of those, held out for validation (`first_five`); 0 as in the paper.
        fractions: Of subjects, for train, validation and test (`open_set`).
        split_seed: Who goes where (`open_set`).
        train_domains: Domains to train on and enrol from (`cross_domain`), or to train and validate
            on (`open_set`; null: all).
        test_domains: Domains to probe from (`cross_domain`), or to test on (`open_set`; null: all).
        open_set_images: Images of each identity that train, in all domains together (`open_set`);
            null: all.
        train_identities: So many identities of `root` train, at most, drawn by `split_seed`; null:
            all; 0: only those of `added`.
        added: Folders of ROIs, identity/image, such as `predict` of a generator writes. Their palms
            train besides those of `root`, each identity a class of its own; nothing is validated
            or tested on them.
        added_identities: So many identities of each of these folders, at most; null: all.
        image_size: Side of the network's input, in pixels.
        roi: How ROIs are cut.
        localizer: Finds the palm in photographs without key points: `default` (the CNN that comes
            with the package), a PATH of its weights, or `dlib:PATH`; null: such pictures must be
            ROI crops. Which ones are looked at: `roi.source`. What was found is cached.
        cache_dir: Where cut ROIs are kept: 3 · size² bytes an image (77 KB at 160 pixels).
        augmentation: `none`, `mild`, `strong`, `wild` or `wild_light`: how far captures of one palm
            differ.
        augmentation_ramp_steps: `wild` grows from nothing to all of it over these steps: at full
            strength from the start it keeps a network from beginning to learn.
        geometric_augmentation: Rotation, scale, shift, perspective, as a switch of its own.
        augmented_views: Limits each image to so many augmented views, so that the output of frozen
            networks can be cached (`feature_cache_dir` of the model); null: a new one each time.
        identities_per_batch: P, of the global batch (over all GPUs).
        images_per_identity: K.
        eval_batch_size: Images a step and a process in validation, test and predict.
        predict_split: What `predict` goes through.
        num_workers: DataLoader processes.
        seed: Of batches and augmentation. Linked to `seed_everything`.
        synthetic: The embedded data set, for `root=synthetic`.
        synthetic_dir: Where it is rendered to.
    """

    def __init__(
        self,
        root: str = SYNTHETIC,
        layout: Layout = "auto",
        domains: list[str] | None = None,
        protocol: Literal["first_five", "open_set", "cross_domain"] = "first_five",
        train_images: int = 5,
        val_images: int = 0,
        fractions: tuple[float, float, float] = (0.6, 0.1, 0.3),
        split_seed: int = 0,
        train_domains: list[str] | None = None,
        test_domains: list[str] | None = None,
        open_set_images: int | None = None,
        train_identities: int | None = None,
        added: list[str] = [],  # noqa: B006  (never changed)
        added_identities: int | None = None,
        image_size: int = 128,
        roi: RoiSettings = RoiSettings(),  # noqa: B008  (frozen)
        localizer: str | None = None,
        cache_dir: str = "data/cache",
        augmentation: Preset = "strong",
        augmentation_ramp_steps: int = 0,
        geometric_augmentation: bool = True,
        augmented_views: int | None = None,
        identities_per_batch: int = 10,
        images_per_identity: int = 4,
        eval_batch_size: int = 64,
        predict_split: Literal["train", "val", "test", "all"] = "all",
        num_workers: int = 2,
        seed: int = 0,
        synthetic: SyntheticPalms = SyntheticPalms(),  # noqa: B008  (frozen)
        synthetic_dir: str = "data/synthetic",
    ) -> None:
        super().__init__()
        self.root = root
        self.layout = layout
        self.domains = domains
        self.protocol = protocol
        self.train_images = train_images
        self.val_images = val_images
        self.fractions = fractions
        self.split_seed = split_seed
        self.train_domains = train_domains
        self.test_domains = test_domains
        self.open_set_images = open_set_images
        self.train_identities = train_identities
        self.added = list(added)
        self.added_identities = added_identities
        self.image_size = image_size
        self.geometric_augmentation = geometric_augmentation
        if augmentation_ramp_steps and not augmentation.startswith("wild"):
            raise ConfigError(
                "data.augmentation_ramp_steps: only wild and wild_light have a strength, "
                f"augmentation is {augmentation}"
            )
        if augmentation_ramp_steps and augmented_views is not None:
            raise ConfigError(
                "data.augmentation_ramp_steps and data.augmented_views: a view that is kept cannot "
                "grow harder. Set one of them"
            )
        self.augmentation_ramp_steps = augmentation_ramp_steps
        self.augmented_views = augmented_views
        self.identities_per_batch = identities_per_batch
        self.images_per_identity = images_per_identity
        self.eval_batch_size = eval_batch_size
        self.predict_split = predict_split
        self.num_workers = num_workers
        self.seed = seed
        self.synthetic = synthetic
        self.synthetic_dir = synthetic_dir
        if localizer is not None and roi.source == "whole":
            raise ConfigError(
                "data.localizer: nothing is located with data.roi.source=whole: set one of them"
            )
        points = None if localizer is None else PointCache(cache_dir, localizer)
        self.localizer = localizer
        self.cache = (AddedRoiCache if self.added else RoiCache)(cache_dir, roi, points)
        self.augmentation = RoiAugmentation(augmentation, geometric_augmentation, image_size)
        self.problems: dict[str, str] = {}

    @cached_property
    def scan(self) -> Scan:
        """What `root` holds; the embedded data set is rendered if it is not there yet."""
        return scan_root(
            self.root, self.layout, self.domains, self.synthetic, self.synthetic_dir,
            self.num_workers,
        )  # fmt: skip

    @cached_property
    def added_palms(self) -> AddedPalms:
        """What the folders of `added` hold."""
        palms = read_added(self.added, self.added_identities)
        check_apart(palms.records, self.scan.records if self.added else [])
        return palms

    @cached_property
    def split(self) -> Split:
        """What the protocol selected and what is added, before unreadable pictures are left out."""
        added = self.added_palms
        if self.train_identities == 0 and not added.records:
            raise ConfigError(
                "data.train_identities: 0 leaves nothing to train on; give data.added"
            )
        images = self.open_set_images if self.protocol == "open_set" else None
        split = protocols.fewer(self._protocol(), self.train_identities, images, self.split_seed)
        return replace(split, train=split.train + added.records, notes=split.notes + added.notes)

    def _protocol(self) -> Split:
        records = self.scan.records
        if self.protocol == "first_five":
            return protocols.first_five(records, self.train_images, self.val_images)
        if self.protocol == "open_set":
            return protocols.open_set(
                records, self.fractions, self.split_seed, self.train_domains, self.test_domains
            )
        return protocols.cross_domain(
            records, self.train_domains or [], self.test_domains or [], self.train_images
        )

    @cached_property
    def class_names(self) -> list[str]:
        """The training identities; the class index counts through them."""
        return sorted({record.identity for record in self.split.train})

    @cached_property
    def labels(self) -> dict[str, int]:
        """Identity → index. Those never trained on come after the classes."""
        known = set(self.class_names)
        others = sorted({record.identity for record in self.scan.records} - known)
        return {identity: index for index, identity in enumerate(self.class_names + others)}

    def prepare_data(self) -> None:
        """Cuts the ROIs that are not cached yet; one process a node."""
        if self.trainer is not None and self.trainer.state.fn == "fit":
            # Raises for settings that do not fit, before an hour is spent on ROIs.
            self._sampler([self.labels[record.identity] for record in self.split.train])
        self.cache.fill(self._pictures, num_threads=max(1, self.num_workers))

    def setup(self, stage: str) -> None:
        """Leaves out what cannot be read, by name, and says what the protocol selected."""
        if "train" in self.__dict__:
            return
        bad = self.cache.problems(self._pictures)
        self.problems = {**self.scan.problems, **self.added_palms.problems, **bad}
        self.train = self._dataset([r for r in self.split.train if r.path not in bad], train=True)
        self.val = self._dataset([r for r in self.split.val if r.path not in bad])
        test = [
            (record, role)
            for record, role in zip(self.split.test, self.split.test_roles, strict=True)
            if record.path not in bad
        ]
        self.test = self._dataset([record for record, _ in test], roles=[role for _, role in test])
        rank_zero_info(f"{self.scan.root}, protocol {self.protocol}:\n{self.split}")
        self._warn()

    def train_dataloader(self) -> DataLoader:
        """P × K batches; the same ones for any number of processes and workers."""
        sampler = self._sampler(self.train.labels)
        return training_loader(self.train, sampler, self.num_workers, self.trainer)

    def val_dataloader(self) -> DataLoader:
        """Validation images, centred."""
        return self._eval_loader(self.val)

    def test_dataloader(self) -> DataLoader:
        """Test images, centred."""
        return self._eval_loader(self.test)

    def predict_dataloader(self) -> DataLoader:
        """The images of `predict_split`, centred."""
        return self._eval_loader(self.predict_dataset)

    @cached_property
    def predict_dataset(self) -> PalmDataset:
        """What `predict` goes through; its rows are the `index` of a batch."""
        if self.predict_split == "val":
            return self.val
        if self.predict_split == "test":
            return self.test
        if self.predict_split == "train":
            return self._dataset(self.train.records)  # without augmentation
        return self._dataset([r for r in self.scan.records if r.path not in self.problems])

    @property
    def _pictures(self) -> list[PalmRecord]:
        """All that may be looked at."""
        return self.scan.records + self.added_palms.records

    @property
    def _world_size(self) -> int:
        return self.trainer.world_size if self.trainer is not None else 1

    def _sampler(self, labels: list[int]) -> IdentityBatchSampler:
        return IdentityBatchSampler(
            labels,
            self.identities_per_batch,
            self.images_per_identity,
            self.seed,
            self.trainer.global_rank if self.trainer is not None else 0,
            self._world_size,
            self.augmentation_ramp_steps,
        )

    def _dataset(
        self,
        records: list[PalmRecord],
        roles: list[protocols.Role] | None = None,
        train: bool = False,
    ) -> PalmDataset:
        if not records:
            raise DataError(
                f"{self.scan.root}: none of the selected pictures can be used. First problems:\n"
                + _listed(self.problems)
            )
        return PalmDataset(
            records,
            self.labels,
            self.cache,
            self.augmentation if train else RoiAugmentation("none", False, self.image_size),
            [*self.scan.domains, ADDED],
            roles,
            self.augmented_views,
            self.seed,
        )

    def _eval_loader(self, dataset: PalmDataset) -> DataLoader:
        return evaluation_loader(dataset, self.eval_batch_size, self.num_workers, self.trainer)

    def _warn(self) -> None:
        if self.problems:
            roots = ", ".join([self.scan.root, *self.added])
            rank_zero_warn(
                f"{len(self.problems)} paths of {roots} are left out or wrong "
                f"(all of them: `data summary`):\n{_listed(self.problems)}"
            )


def _listed(problems: dict[str, str], most: int = 5) -> str:
    lines = [f"  {path}: {reason}" for path, reason in list(problems.items())[:most]]
    if len(problems) > most:
        lines.append(f"  … and {len(problems) - most} more")
    return "\n".join(lines)
