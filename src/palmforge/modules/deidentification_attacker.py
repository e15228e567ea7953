"""Trains a recogniser on originals and de-identified pictures of other people's palms.

See `deidentification_attack`, which lets it loose on victims.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from palmforge.data.augmentation import Preset, RoiAugmentation
from palmforge.data.seeds import mixed
from palmforge.errors import ConfigError, DataError, TrainingError
from palmforge.evaluation.attack_rates import QUESTIONS, Question, attack_pairs
from palmforge.losses.margin import SupervisedContrastiveLoss
from palmforge.metrics.scores import ArrayLike, Ints, as_numpy
from palmforge.metrics.verification import equal_error_rate
from palmforge.modules.schedule import scheduled_adamw
from palmforge.networks.ccnet import CCNet
from palmforge.networks.embedding import PalmEmbedding
from palmforge.recognition.embedding import EmbeddingRecognizer
from palmforge.recognition.recognizer import Recognizer
from palmforge.recognition.weights import EmbeddingNetwork, load_network

_LEAST_TO_CHOOSE = 10  # people, of whom a fifth is kept aside
_LOOKS = 5  # at those, besides the one before the first step
_WEIGHT_DECAY = 0.05
# From scratch: as the shipped one is made, half as wide, and it reads colour.
_SMALL = {"channels": [16, 32, 64, 128], "layers": [1, 1, 1, 1], "stem_type": "deep",
          "stem_width": 8, "output_stride": 16}  # fmt: skip


@dataclass(frozen=True)
class AttackSettings:
    """How the attacker trains.

    Attributes:
        steps: Of AdamW.
        batch_size: De-identified ROIs a step, each beside two originals of its palm.
        lr: Peak learning rate: a tenth of the steps up, then down a cosine.
        seed: Of batches, augmentation and fresh weights.
        start: What it is fine-tuned from, as `recognition.load` takes it; None: a small network
            with random weights.
        image_size: Side that it reads ROIs at; None: the network's own, 128. At 96 a step takes
            half the time; at 64 the shipped network starts worse than 100 steps could make up.
        temperature: Of the contrastive loss.
        augmentation: Of originals and de-identified ROIs alike.
        device: To train and embed on.
    """

    steps: int = 300
    batch_size: int = 12
    lr: float = 3e-4
    seed: int = 0
    start: str | None = "synthetic-only"
    image_size: int | None = None
    temperature: float = 0.1
    augmentation: Preset = "mild"
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "lr", "temperature"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"attack.{name}: {getattr(self, name)} is not above 0")
        if self.batch_size < 2:
            raise ConfigError("attack.batch_size: 1 has nothing to be told from; 2 or more")
        if self.image_size is not None and self.image_size < 32:
            raise ConfigError(f"attack.image_size: {self.image_size} pixels; 32 or more")
        if self.seed < 0:
            raise ConfigError(f"attack.seed: {self.seed} is below 0")
        if self.augmentation not in get_args(Preset):
            raise ConfigError(f"attack.augmentation: {self.augmentation!r} is none of the presets")


@dataclass(frozen=True, eq=False)
class HiddenPalms:
    """Originals and what a method made of them.

    Attributes:
        originals: `[N, 3, S, S]` uint8 RGB ROIs.
        labels: `[N]` int64, identities of the originals.
        deidentified: `[P, 3, S, S]` uint8 RGB ROIs.
        sources: `[P]` int64, row of the original that each was made of.
    """

    originals: Tensor
    labels: Ints
    deidentified: Tensor
    sources: Ints

    def of(self, identities: Ints) -> HiddenPalms:
        """Those of these identities alone."""
        kept = np.isin(self.labels, identities)
        probes = kept[self.sources]
        row = np.cumsum(kept) - 1
        return HiddenPalms(
            self.originals[torch.from_numpy(kept)], self.labels[kept],
            self.deidentified[torch.from_numpy(probes)], row[self.sources[probes]],
        )  # fmt: skip

    def distances(self, recognizer: Recognizer) -> Tensor:
        """`[P, N]` of de-identified ROIs to originals."""
        gallery = recognizer.embed(self.originals)
        return recognizer.distance(recognizer.embed(self.deidentified), gallery)

    def eer(self, recognizer: Recognizer, question: Question) -> float | None:
        """See `evaluation.attack_rates`; None: no probe has a genuine pair."""
        pairs = attack_pairs(self.distances(recognizer), self.sources, self.labels, question)
        return equal_error_rate(pairs.genuine, pairs.impostor)[0] if pairs.genuine.size else None


def train_attacker(
    originals: Tensor,
    labels: ArrayLike,
    deidentified: Tensor,
    sources: ArrayLike,
    settings: AttackSettings | None = None,
) -> EmbeddingRecognizer:
    """A recogniser to which a de-identified palm and its originals look alike; others do not.

    Supervised contrastive loss (Khosla et al. 2020) over batches of triples: a de-identified ROI,
    its source, another original of the palm. A fifth of his people he keeps aside, where there are
    ten or more, and takes the step that did best on them, which may be the first: on a few dozen
    palms a network soon learns by heart. The same for the same seed, on one machine; torch's own
    generators are left as they were.

    Args:
        originals: `[N, 3, S, S]` uint8 RGB ROIs.
        labels: `[N]` integers, identities of the originals.
        deidentified: `[P, 3, S, S]` uint8 RGB ROIs.
        sources: `[P]` row of the original that each was made of.
        settings: None: the defaults.

    Returns:
        On the device of the settings.

    Raises:
        CheckpointError: `start` is no recogniser with a network.
        DataError: De-identified ROIs of fewer than two identities.
        TrainingError: The loss is not finite.
        ValueError: Shapes, types or sources that do not fit.
    """
    settings = settings or AttackSettings()
    palms = hidden_palms(originals, labels, deidentified, sources)
    people = np.unique(palms.labels[palms.sources])
    if people.size < 2:
        raise DataError("de-identified pictures of one identity only; there must be another")
    device = torch.device(settings.device)
    forked = [device] if device.type == "cuda" else []
    # A test loop of Lightning runs in inference mode, where nothing can be trained.
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(forked):
        torch.manual_seed(settings.seed)
        network = _network(settings).to(device)
        network.to(memory_format=torch.channels_last)
        held_out = _held_out(people, settings.seed)
        learnt = palms.of(np.setdiff1d(palms.labels, held_out))
        triples = _Triples(learnt, network.image_size, settings)
        step = _fit(network, triples, palms.of(held_out) if held_out.size else None)
    name = f"adaptive attacker (step {step} of {settings.steps})"
    return EmbeddingRecognizer(network, name)


def _held_out(people: Ints, seed: int) -> Ints:
    """A fifth of them; none of fewer than `_LEAST_TO_CHOOSE`."""
    if people.size < _LEAST_TO_CHOOSE:
        return people[:0]
    return np.sort(np.random.default_rng([seed, 0xC05]).permutation(people)[: people.size // 5])


class _Triples:
    """Batches: a pure function of (seed, step)."""

    def __init__(self, palms: HiddenPalms, image_size: int, settings: AttackSettings) -> None:
        self.originals = palms.originals.permute(0, 2, 3, 1).cpu().numpy()
        self.deidentified = palms.deidentified.permute(0, 2, 3, 1).cpu().numpy()
        self.who, self.made_of, self.settings = palms.labels, palms.sources, settings
        self.augment = RoiAugmentation(settings.augmentation, True, image_size)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """`[3 B, 3, S, S]` float in [0, 1], and `[3 B]` identities.

        De-identified ROIs, then the source of each, then another original of the palm (the source
        once more where there is none): without it he forgets what captures of a palm share.
        """
        size, total = self.settings.batch_size, len(self.made_of)
        rng = np.random.default_rng([self.settings.seed, step])
        rows = rng.choice(total, size, replace=total < size)
        sources = self.made_of[rows]
        rois = [self.deidentified[row] for row in rows]
        rois += [self.originals[row] for row in (*sources, *(self._other(s, rng) for s in sources))]
        seen = [
            self.augment(np.ascontiguousarray(roi), mixed(self.settings.seed, step, place))
            for place, roi in enumerate(rois)
        ]
        images = torch.from_numpy(np.stack(seen)).permute(0, 3, 1, 2).float() / 255
        return images, torch.from_numpy(self.who[sources]).repeat(3)

    def _other(self, source: int, rng: np.random.Generator) -> int:
        others = np.flatnonzero(self.who == self.who[source])
        others = others[others != source]
        return int(rng.choice(others)) if others.size else source


def _network(settings: AttackSettings) -> EmbeddingNetwork:
    if settings.start is not None:
        network = load_network(settings.start)
        size = settings.image_size or network.image_size
        if isinstance(network, CCNet) and size != network.image_size:
            raise ConfigError(
                f"attack.image_size: a CCNet reads {network.image_size} pixels, not {size}"
            )
        network.image_size = size
        return network
    size = settings.image_size or 64
    return PalmEmbedding(image_size=size, grey=False, grid_channels=32, backbone_args=dict(_SMALL))


def _fit(network: EmbeddingNetwork, triples: _Triples, held_out: HiddenPalms | None) -> int:
    """Trains it, and leaves it as it was at the step that did best on `held_out`, or at the last.

    Returns:
        That step.
    """
    settings = triples.settings
    contrastive = SupervisedContrastiveLoss(settings.temperature)
    how = scheduled_adamw(
        network.parameters(), lr=settings.lr, weight_decay=_WEIGHT_DECAY, schedule="cosine",
        warmup_steps=settings.steps // 10, total_steps=settings.steps,
    )  # fmt: skip
    optimizer, schedule = how["optimizer"], how["lr_scheduler"]["scheduler"]
    looks = {settings.steps * part // _LOOKS for part in range(_LOOKS + 1)}
    best: tuple[float, int, Any] = (float("inf"), settings.steps, None)
    for step in range(settings.steps + 1):
        if held_out is not None and step in looks:
            eer = _mean_eer(network, held_out)
            if eer < best[0]:
                best = (eer, step, copy.deepcopy(network.state_dict()))
        if step == settings.steps:
            break
        network.train()
        images, who = (part.to(settings.device) for part in triples.batch(step))
        loss = contrastive(network(images), who)
        if not bool(loss.isfinite()):
            raise TrainingError(f"attack: the loss is {loss.item()} at step {step}; lower its lr")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    if best[2] is not None:
        network.load_state_dict(best[2])
    return best[1]


def _mean_eer(network: EmbeddingNetwork, palms: HiddenPalms) -> float:
    """Of both questions."""
    recognizer = EmbeddingRecognizer(copy.deepcopy(network))
    eers = [palms.eer(recognizer, question) for question in QUESTIONS]
    return float(np.mean([eer for eer in eers if eer is not None]))


def hidden_palms(
    originals: Tensor, labels: ArrayLike, deidentified: Tensor, sources: ArrayLike
) -> HiddenPalms:
    """Checked, and as they are kept; arguments as the attributes of `HiddenPalms`.

    Raises:
        ValueError: Shapes, types or sources that do not fit.
    """
    who, made_of = as_numpy(labels), as_numpy(sources)
    for name, rois, rows in (
        ("originals", originals, who), ("deidentified", deidentified, made_of),
    ):  # fmt: skip
        if rois.ndim != 4 or rois.shape[1] != 3 or rois.dtype != torch.uint8:
            raise ValueError(
                f"{name}: [N, 3, S, S] uint8 expected, got {rois.dtype} {list(rois.shape)}"
            )
        if rows.shape != (len(rois),) or not np.issubdtype(rows.dtype, np.integer):
            raise ValueError(
                f"{name}: {len(rois)} ROIs, but labels or sources are {rows.dtype} {rows.shape}; "
                "one integer a ROI is needed"
            )
    if made_of.size and not (made_of.min() >= 0 and made_of.max() < who.size):
        raise ValueError(
            f"sources are rows of {who.size} originals, got {made_of.min()} … {made_of.max()}"
        )
    return HiddenPalms(originals, who.astype(np.int64), deidentified, made_of.astype(np.int64))
