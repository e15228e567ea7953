"""The figures of generated palms as torchmetrics metrics, right over several processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from palmforge.metrics.generation import (
    KID_SUBSET_SIZE,
    KID_SUBSETS,
    UNIT_GAMMA,
    diversity,
    frechet_distance,
    kernel_distance,
    novelty,
    uniqueness,
)

NAN = float("nan")


class RecognizerFeatures(nn.Module):
    """A recogniser as the feature extractor of `ImageDistances` and of torchmetrics' FID and KID.

    Args:
        embed: [N, 3, H, W] RGB, uint8 or float in [0, 1] → [N, D]; for example the `embed` of a
            recogniser. A bound method keeps its network out of this module's weights, and so out of
            checkpoints; it runs where that network is.
        num_features: D.

    Example:
        >>> features = RecognizerFeatures(lambda images: images.float().mean((2, 3)), 3)
        >>> features(torch.full((2, 3, 8, 8), 255, dtype=torch.uint8)).shape
        torch.Size([2, 3])
    """

    def __init__(self, embed: Callable[[Tensor], Tensor], num_features: int) -> None:
        super().__init__()
        self.embed = embed
        self.num_features = num_features

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """[N, 3, H, W] images → [N, num_features] float32, on the device of the images.

        Raises:
            ValueError: If the recogniser makes something else.
        """
        features = self.embed(images)
        if features.shape != (len(images), self.num_features):
            wanted = (len(images), self.num_features)
            raise ValueError(f"features {wanted} expected, got {tuple(features.shape)}")
        return features.to(images.device, torch.float32)


class _Rows(Metric):
    """Rows of floats that are kept under a number each, as flat lists.

    Flat, because a process without any batch must join a gather with tensors of the right type and
    number of dimensions; see `VerificationMetrics.sync`.
    """

    full_state_update = False
    is_differentiable = False

    def __init__(self, *names: str) -> None:
        super().__init__()
        self._types: dict[str, torch.dtype] = {}
        for name in names:
            self._types |= {name: torch.float32, f"{name}_index": torch.int64}
        for state in self._types:
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """As `Metric.sync`; a process without any batch joins with empty tensors."""
        for name, dtype in self._types.items():
            if isinstance(state := getattr(self, name), list) and not state:
                state.append(torch.empty(0, dtype=dtype, device=self.device))
        super().sync(*args, **kwargs)

    def _keep(self, name: str, rows: Tensor, index: Tensor) -> None:
        if rows.ndim != 2 or index.shape != rows.shape[:1]:
            shapes = f"{tuple(rows.shape)} and {tuple(index.shape)}"
            raise ValueError(f"expected rows [N, D] and index [N], got {shapes}")
        finite = torch.isfinite(rows).all(1)
        if not bool(finite.all()):
            raise ValueError(f"NaN or infinity at index {index[~finite].tolist()[:10]}")
        getattr(self, name).append(rows.detach().float().flatten())
        getattr(self, f"{name}_index").append(index.detach().long())

    def _rows(self, name: str) -> Tensor:
        """[N, D] of all processes, each index once, in the order of the indices."""
        state, numbers = getattr(self, name), getattr(self, f"{name}_index")
        if isinstance(state, list) and not state:
            return torch.empty(0, 1, device=self.device)
        flat, index = dim_zero_cat(state), dim_zero_cat(numbers)
        if not len(index):
            return flat.reshape(0, 1)
        _, first = np.unique(index.cpu().numpy(), return_index=True)
        return flat.reshape(len(index), -1)[torch.from_numpy(first).to(flat.device)]


class GenerationMetrics(_Rows):
    """Uniqueness, novelty and diversity of all generated identities seen, in a dict of floats.

    Args:
        threshold: Cosine distance at or below which two palms match, that of a FAR on real impostor
            pairs (`generation.impostor_threshold`).
        training: [M, D] embeddings of the training images, by the same recogniser; None: there is
            no novelty.

    `compute()` returns `uniqueness`, `diversity` (mean cosine distance of all pairs), `vendi`,
    `num_identities`, and with `training` also `novelty`, `recognizer_fid` and `recognizer_kid` (on
    these embeddings: not to be compared with any FID on Inception features). With fewer than two
    identities they are NaN; it is no error.

    Rows with an `index` already seen are ignored: samplers fill up the last batch with repeats, so
    that index must number the generated identities.

    Example:
        >>> metric = GenerationMetrics(threshold=0.5)
        >>> metric.update(torch.eye(3), torch.arange(3))
        >>> metric.compute()["uniqueness"]
        1.0
    """

    embeddings: list[Tensor]
    embeddings_index: list[Tensor]

    def __init__(self, threshold: float, training: Tensor | None = None) -> None:
        super().__init__("embeddings")
        self.threshold = threshold
        self.training_embeddings = training

    def update(self, embeddings: Tensor, index: Tensor) -> None:
        """Adds a batch.

        Args:
            embeddings: [N, D] floats, one row an identity.
            index: [N] integers, the number of each identity.

        Raises:
            ValueError: Shapes that do not fit; NaN or infinity.
        """
        self._keep("embeddings", embeddings, index)

    def compute(self) -> dict[str, float]:
        """All figures of the identities seen by all processes; see the class."""
        rows = self._rows("embeddings")
        training = self.training_embeddings
        keys = ["uniqueness", "diversity", "vendi"]
        keys += ["novelty", "recognizer_fid", "recognizer_kid"] if training is not None else []
        figures = {"num_identities": float(len(rows)), **dict.fromkeys(keys, NAN)}
        if len(rows) < 2:
            return figures
        figures["uniqueness"] = uniqueness(rows, self.threshold)
        figures["diversity"], figures["vendi"] = diversity(rows)
        if training is not None:
            training = training.to(rows.device)
            figures["novelty"] = novelty(rows, training, self.threshold)
            figures["recognizer_fid"] = frechet_distance(training, rows)
            figures["recognizer_kid"] = kernel_distance(training, rows, gamma=UNIT_GAMMA)[0]
        return figures


class ImageDistances(_Rows):
    """FID and KID of all images seen, with any feature extractor, in a dict of floats.

    Features are made once for both, and kept: 8 KB an image for Inception's 2,048. Rows with an
    `index` already seen are ignored, real and generated counted apart; the subsets of KID do not
    depend on which process saw what.

    Args:
        features: Images → [N, D], such as `RecognizerFeatures` or an Inception. It is moved to
            where the images are, and its weights stay out of the checkpoint.
        kid_subsets: How many are drawn for KID.
        kid_subset_size: At most; see `generation.kernel_distance`.
        seed: Of the draws.
        kid_gamma: Of the kernel; `generation.UNIT_GAMMA` for features that are unit vectors.

    `compute()` returns `fid`, `kid`, `kid_std`; NaN with fewer than two images of a kind.
    """

    real: list[Tensor]
    generated: list[Tensor]

    def __init__(
        self,
        features: nn.Module,
        kid_subsets: int = KID_SUBSETS,
        kid_subset_size: int = KID_SUBSET_SIZE,
        seed: int = 0,
        kid_gamma: float | None = None,
    ) -> None:
        super().__init__("real", "generated")
        self._features = (features,)  # in a tuple: no submodule, so no weights in a checkpoint
        self.kid_subsets = kid_subsets
        self.kid_subset_size = kid_subset_size
        self.seed = seed
        self.kid_gamma = kid_gamma

    @torch.no_grad()
    def update(self, images: Tensor, index: Tensor, real: bool) -> None:
        """Adds a batch.

        Args:
            images: [N, 3, H, W], of the type that `features` takes.
            index: [N] integers, the number of each image among those of its kind.
            real: Whether they are real, or generated.

        Raises:
            ValueError: Features that are not [N, D]; NaN or infinity.
        """
        features = self._features[0].to(images.device)(images)
        self._keep("real" if real else "generated", features, index)

    def compute(self) -> dict[str, float]:
        """All figures of the images seen by all processes; see the class."""
        real, generated = self._rows("real"), self._rows("generated")
        if min(len(real), len(generated)) < 2:
            return dict.fromkeys(("fid", "kid", "kid_std"), NAN)
        drawn = (self.kid_subsets, self.kid_subset_size, self.seed, self.kid_gamma)
        kid, deviation = kernel_distance(real, generated, *drawn)
        return {"fid": frechet_distance(real, generated), "kid": kid, "kid_std": deviation}
