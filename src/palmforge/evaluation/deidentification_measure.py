"""One photograph, original and concealed: what the tables of paper 001 are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from palmforge.data.deidentification.baselines import conceal
from palmforge.data.deidentification.crops import cut, resized
from palmforge.data.deidentification.methods import Method
from palmforge.data.deidentification.output import composed
from palmforge.data.deidentification.photographs import Hand, Photograph, picture_digest
from palmforge.data.deidentification.segmentation import HandSegmenter
from palmforge.data.images import read_image
from palmforge.data.roi import extract_roi
from palmforge.errors import BadImage
from palmforge.evaluation.deidentified_folder import USABILITY, Concealed, Measured
from palmforge.evaluation.perceptual import FeatureExtractor, PerceptualDistance
from palmforge.evaluation.usability import Looked, look, usability_of
from palmforge.localization.location import Localizer
from palmforge.metrics.image_quality import image_quality
from palmforge.metrics.scores import Floats

LARGEST = 512  # pixels a side at which quality is measured
SHOWN = 256  # pixels a side of what is looked at


@dataclass(frozen=True)
class Instruments:
    """What photographs are measured with.

    Attributes:
        root: Folder of the photographs.
        methods: Name → how palms are concealed.
        localizer: Finds hands.
        segmenter: Tells them.
        perceptual: Of `load_perceptual`.
        features: Of `fid_features`.
        roi_size: Side of the ROIs for recognisers.
        feather: See `DeidentificationWriter`.
    """

    root: str
    methods: Mapping[str, Method]
    localizer: Localizer
    segmenter: HandSegmenter
    perceptual: PerceptualDistance
    features: FeatureExtractor
    roi_size: int
    feather: float

    def measure(
        self,
        photograph: Photograph,
        repainted: Mapping[str, Sequence[Tensor | None]],
        embedding: Tensor | None,
        is_shown: bool,
    ) -> Measured | str:
        """A photograph by all methods, or why it cannot be measured.

        ROIs are cut where they lie in the *original*: whether a localizer still finds them is
        usability. Quality is that of the square around the hand, at most `LARGEST` pixels a side.

        Args:
            photograph: Of a `DeidentificationPlan`; its surest hand counts.
            repainted: Method → variants of that hand's crop.
            embedding: Fused exemplars.
            is_shown: Whether its pictures are kept too.
        """
        if photograph.reason is not None or not photograph.hands or embedding is None:
            return photograph.reason or "no hand found"
        if any(one is None for variants in repainted.values() for one in variants):
            return "the model gave numbers that are not finite"
        try:
            original, _ = read_image(Path(self.root) / photograph.source)
        except BadImage as error:
            return f"unreadable: {error.reason}"
        if picture_digest(original) != photograph.digest:
            return "it was changed while it was worked on"
        hand = photograph.hands[0]
        seen = look(original, self.localizer, self.segmenter)
        if not seen:
            return "the hand was found once, and not a second time"
        crop = _hand_crop(original, hand)
        concealed = {}
        for name, method in self.methods.items():
            pictures = self._pictures(original, hand, method, repainted.get(name, ()))
            other = _hand_crop(pictures[0], hand)
            concealed[name] = Concealed(
                np.stack([self._roi(picture, hand) for picture in pictures]),
                self._quality(crop, other),
                self._usability(seen, pictures[0]),
                self._features(other),
                resized(other, SHOWN) if is_shown else None,
            )
        return Measured(
            photograph.source, self._roi(original, hand), self._features(crop),
            embedding.double().numpy(), concealed, resized(crop, SHOWN) if is_shown else None,
        )  # fmt: skip

    def _pictures(
        self,
        original: np.ndarray,
        hand: Hand,
        method: Method,
        repainted: Sequence[Tensor | None],
    ) -> list[np.ndarray]:
        """The photograph, concealed: a variant each."""
        if method.baseline is not None:
            picture = original.copy()
            part = hand.box.inside(*picture.shape[:2])
            picture[part] = conceal(picture[part], hand.full_mask, method.baseline, method.strength)
            return [picture]
        made = [one for one in repainted if one is not None]
        return [composed(original, [hand], [one], self.feather) for one in made]

    def _roi(self, picture: np.ndarray, hand: Hand) -> np.ndarray:
        """`[3, R, R]` uint8."""
        return extract_roi(picture, hand.quad, self.roi_size).transpose(2, 0, 1)

    def _quality(self, crop: np.ndarray, other: np.ndarray) -> Floats:
        one, two = _as_tensor(crop), _as_tensor(other)
        found = image_quality(one, two)
        apart = float(self.perceptual.distance(one[None], two[None]))
        return np.array([found.ssim, found.ms_ssim, found.psnr, apart])

    def _usability(self, seen: Sequence[Looked], picture: np.ndarray) -> Floats:
        """Of the surest hand, in the order of `USABILITY`; NaN: lost, or no such answer."""
        found = usability_of(seen, look(picture, self.localizer, self.segmenter))[0]
        values = [getattr(found, name) for name in USABILITY]
        return np.array([np.nan if value is None else value for value in values])

    def _features(self, crop: np.ndarray) -> Floats:
        found: Floats = self.features(_as_tensor(crop)[None])[0].double().cpu().numpy()
        return found


def _hand_crop(picture: np.ndarray, hand: Hand) -> np.ndarray:
    """The square around the hand, not larger than it has to be."""
    crop = cut(picture, hand.box)
    return resized(crop, LARGEST) if len(crop) > LARGEST else crop


def _as_tensor(picture: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
