"""`train.py deidentify alpha`: the α of Eq. 2 that leaves as much of the palm as may be left."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from palmforge.data.atomic import check_writable, write_aside
from palmforge.data.deidentification.crops import Around
from palmforge.data.deidentification.datamodule import DeidentificationDataModule
from palmforge.data.deidentification.output import composed
from palmforge.data.deidentification.photographs import Hand
from palmforge.data.embedded import SYNTHETIC
from palmforge.data.images import read_image
from palmforge.data.layouts import Layout
from palmforge.data.roi import extract_roi
from palmforge.data.synthetic import SyntheticPalms
from palmforge.errors import ConfigError, DataError
from palmforge.evaluation.deidentification import Known, know, what_is_left
from palmforge.modules.deidentification_attack import split_identities
from palmforge.modules.deidentifier import Deidentifier
from palmforge.recognition import Recognizer, load

_HANDS = SyntheticPalms(16, 2, ("IF", "IN"), 384, 78)
Measure = Callable[[float], float]


@dataclass(frozen=True)
class Found:
    """What a bisection found.

    Attributes:
        alpha: The largest α that was tried whose DIR is at least the target; 0 if none is.
        ratio: Its DIR, in percent.
        tried: (α, DIR), in the order of trials.
        is_reached: Whether that DIR is at least the target.
    """

    alpha: float
    ratio: float
    tried: list[tuple[float, float]]
    is_reached: bool


def alpha(
    images: str = SYNTHETIC,
    target: float = 80.0,
    pretrained_model_name_or_path: str = "Fantasy-Studio/Paint-by-Example",
    recogniser: str = "synthetic-only",
    layout: Layout = "auto",
    num_photographs: int = 64,
    tolerance: float = 0.02,
    share: float = 0.5,
    image_size: int = 512,
    around: Around = "hand",
    margin: float = 0.15,
    num_inference_steps: int | None = None,
    roi_size: int = 128,
    batch_size: int = 8,
    device: str = "cpu",
    out: str | None = None,
    synthetic: SyntheticPalms = _HANDS,
    synthetic_dir: str = "data/synthetic",
    seed: int = 0,
) -> None:
    """Chooses α for a wanted DIR, by bisection on some of the people; tells it of the others.

    The DIR falls as α grows, as more of the palm is shown to the model. The same start noise is
    used for every α, so that what changes is α's.

    Args:
        images: Photographs in folders by identity, or another layout; `synthetic`: rendered hands.
        target: DIR in percent that is wanted at least.
        pretrained_model_name_or_path: See `Deidentifier`.
        recogniser: Whose DIR, as `palmforge.recognition.load` takes it.
        layout: How files lie under `images`.
        num_photographs: At most so many of the validation people, and of the others.
        tolerance: Width of the interval of α at which the search ends.
        share: Of the people, for the search.
        image_size: Side of a hand's crop.
        around: What a crop shows, as in `DeidentificationDataModule`.
        margin: Likewise.
        num_inference_steps: Of the sampler; null: 50.
        roi_size: Side of the ROIs that the recogniser sees.
        batch_size: Hands at once.
        device: To sample on.
        out: A JSON file for all that was found, or null.
        synthetic: The rendered hands.
        synthetic_dir: Where they are rendered to.
        seed: Of the split and of noise.
    """
    if not 0 < tolerance < 1:
        raise ConfigError(f"tolerance: {tolerance} does not lie between 0 and 1")
    if out is not None:
        check_writable(Path(out).expanduser().parent, "out")
    judge = load(recogniser)
    model = Deidentifier(
        pretrained_model_name_or_path, image_size=image_size,
        num_inference_steps=num_inference_steps,
    )  # fmt: skip
    model.configure_model()
    assert model.parts is not None
    model.parts.to(device)
    data = DeidentificationDataModule(
        images, image_size=image_size, around=around, margin=margin, batch_size=batch_size,
        layout=layout, synthetic=synthetic, synthetic_dir=synthetic_dir, seed=seed,
    )  # fmt: skip
    data.setup("test")
    searched, others = _people(data, share, num_photographs, seed)
    console = Console(markup=False, highlight=False)

    def of(hands: _Hands) -> Measure:
        known = hands.known(recogniser, judge, roi_size)
        return lambda value: hands.ratio(model, value, known, roi_size, batch_size)

    measure = of(searched)

    def told(value: float) -> float:
        ratio = measure(value)
        console.print(f"α = {value:.3f}: DIR {ratio:.1f} %")
        return ratio

    found = bisect(told, target, tolerance)
    held_out = of(others)(found.alpha)
    console.print(_words(found, target, recogniser, searched, others, held_out), soft_wrap=True)
    if out is not None:
        content = {
            "alpha": found.alpha, "target": target, "recogniser": recogniser,
            "ratio": found.ratio, "ratio_of_others": held_out, "tried": found.tried,
        }  # fmt: skip
        with write_aside(Path(out).expanduser()) as aside:
            aside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def bisect(measure: Measure, target: float, tolerance: float) -> Found:
    """The largest α in [0, 1] with a DIR of at least the target, if the DIR falls with α.

    Args:
        measure: α → DIR in percent.
        target: In percent.
        tolerance: Where the interval is this narrow, its lower end is taken.
    """
    tried: list[tuple[float, float]] = []

    def at(value: float) -> float:
        tried.append((value, measure(value)))
        return tried[-1][1]

    low, ratio = 0.0, at(0.0)
    if ratio < target:
        return Found(0.0, ratio, tried, False)
    high, last = 1.0, at(1.0)
    if last >= target:
        return Found(1.0, last, tried, True)
    while high - low > tolerance:
        middle = (low + high) / 2
        found = at(middle)
        low, high, ratio = (middle, high, found) if found >= target else (low, middle, ratio)
    return Found(low, ratio, tried, True)


class _Hands:
    """Hands of some people, looked at once.

    Args:
        hands: Each with the path of its photograph and an identity.
    """

    def __init__(self, hands: list[tuple[Path, Hand, str]]) -> None:
        self.hands = hands
        names = [identity for _, _, identity in hands]
        self.labels = np.unique(names, return_inverse=True)[1].astype(np.int64)

    def known(self, name: str, recogniser: Recognizer, roi_size: int) -> Known:
        """The originals through the eyes of a recogniser."""
        rois = [self._roi(read_image(path)[0], hand, roi_size) for path, hand, _ in self.hands]
        return know(name, recogniser, torch.stack(rois), self.labels)

    def ratio(
        self, model: Deidentifier, value: float, known: Known, roi_size: int, batch_size: int
    ) -> float:
        """DIR at an α, each against its own source."""
        rois = []
        for start in range(0, len(self.hands), batch_size):
            part = self.hands[start : start + batch_size]
            made = model.repaint(
                [hand for _, hand, _ in part], [hand.seeds[0] for _, hand, _ in part], value
            )
            for (path, hand, _), one in zip(part, made, strict=True):
                if one is None:
                    raise DataError(f"{path}: the model gave numbers that are not finite")
                picture = composed(read_image(path)[0], [hand], [one], 0.01)
                rois.append(self._roi(picture, hand, roi_size))
        left = what_is_left(known, f"α={value:g}", torch.stack(rois), np.arange(len(rois)))
        return left.own_source.ratio

    @staticmethod
    def _roi(picture: np.ndarray, hand: Hand, size: int) -> torch.Tensor:
        roi = extract_roi(picture, hand.quad, size).transpose(2, 0, 1)
        return torch.from_numpy(np.ascontiguousarray(roi))


def _people(
    data: DeidentificationDataModule, share: float, most: int, seed: int
) -> tuple[_Hands, _Hands]:
    """Hands of those who are searched, and of the others."""
    assert data.plan is not None
    # Methods of `test` need all exemplars; here those of the data alone are shown.
    data.plan.preparation = data.preparation
    names = sorted(set(data.identities.values()))
    chosen, _ = split_identities(np.arange(len(names)), share, seed)
    searched = {names[row] for row in chosen}
    parts: tuple[list[tuple[Path, Hand, str]], ...] = ([], [])
    for place in range(len(data.plan)):
        if min(len(part) for part in parts) >= most:
            break
        for photograph in data.plan[place]["photographs"]:
            identity = data.identities[photograph.source]
            part = parts[identity not in searched]
            if photograph.hands and len(part) < most:
                path = Path(data.plan.root) / photograph.source
                part.append((path, photograph.hands[0], identity))
    return _Hands(parts[0]), _Hands(parts[1])


def _words(
    found: Found, target: float, recogniser: str, searched: _Hands, others: _Hands, ratio: float
) -> str:
    hands = f"{len(searched.hands)} photographs of {len(set(searched.labels))} hands"
    line = (
        f"α = {found.alpha:.3f}: DIR {found.ratio:.1f} % by {recogniser} on {hands}; of "
        f"{len(others.hands)} photographs of {len(set(others.labels))} others: {ratio:.1f} %"
    )
    if not found.is_reached:
        line += (
            f". {target:g} % is not reached even at α = 0, where the model sees nothing of the "
            "palm: what is left comes from around the mask (data.palm_margin), or is chance"
        )
    return line
