"""The attacker who knows the method: a recogniser trained on what it makes of other people's palms.

A black-box recogniser that no longer knows a de-identified palm says nothing of one that has learnt
what the method leaves. Whoever can run the method can run it on palms of his own, and train on
(original, de-identified) pairs: the parrot attack of Newton, Sweeney and Malin (2005, IEEE TKDE
17(2)). His people and the victims are disjoint here, as they are in life.

What it finds is a lower bound: another network, more people or more steps may find more. An EER
near 50 % therefore is believed only if the attacker has learnt his own pairs (`Attack.trained_eer`)
and still knows originals (`Seen.originals_eer`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from palmforge.errors import ConfigError, DataError
from palmforge.evaluation.attack_rates import QUESTIONS, AttackRates, attack_rates
from palmforge.metrics.embeddings import pair_distances
from palmforge.metrics.scores import ArrayLike, Ints, as_numpy
from palmforge.metrics.verification import equal_error_rate
from palmforge.modules.deidentification_attacker import (
    AttackSettings,
    HiddenPalms,
    hidden_palms,
    train_attacker,
)
from palmforge.recognition.embedding import EmbeddingRecognizer
from palmforge.recognition.recognizer import Recognizer
from palmforge.recognition.weights import load_network

__all__ = ["Attack", "AttackSettings", "Seen", "attack", "split_identities", "train_attacker"]

LEAST_IDENTITIES = 4  # two to train on, two to attack


@dataclass(frozen=True)
class Seen:
    """The victims, as one recogniser sees them.

    Attributes:
        own_source: Which photograph was a de-identified one made of?
        other_pictures: Whose palm is it, its source not being in the gallery? None: each victim
            has one original.
        originals_eer: Of originals among each other; None: as above.
    """

    own_source: AttackRates
    other_pictures: AttackRates | None
    originals_eer: float | None


@dataclass(frozen=True)
class Attack:
    """What a recogniser sees of de-identified palms, before and after it learns the method.

    Attributes:
        before: A recogniser that knows nothing of the method.
        after: The attacker.
        trained_eer: EER (`own_source`) of the attacker on his own people, most of whom he has
            trained on. Near 50 % he has found nothing, not even by heart, and `after` says only
            that *he* did not: try more steps, another start.
        attackers: Identities that he trained on.
        victims: Identities of `before` and `after`.
        attacker: The recogniser that he trained; its name tells which step was taken.
    """

    before: Seen
    after: Seen
    trained_eer: float
    attackers: int
    victims: int
    attacker: EmbeddingRecognizer = field(repr=False)


def attack(
    originals: Tensor,
    labels: ArrayLike,
    deidentified: Tensor,
    sources: ArrayLike,
    settings: AttackSettings | None = None,
    share: float = 0.5,
    black_box: Recognizer | None = None,
    resamples: int = 1000,
) -> Attack:
    """Trains an attacker on some of the people and lets him loose on the others.

    Args:
        originals: `[N, 3, S, S]` uint8 RGB ROIs.
        labels: `[N]` integers, identities of the originals.
        deidentified: `[P, 3, S, S]` uint8 RGB ROIs.
        sources: `[P]` row of the original that each was made of; several may have one (seeds).
        settings: Of the attacker; None: the defaults.
        share: Of the identities, to train on.
        black_box: The recogniser of `before`; None: `synthetic-only`.
        resamples: Of the victims, for intervals.

    Raises:
        ConfigError: A share outside (0, 1).
        DataError: Fewer than `LEAST_IDENTITIES` identities with de-identified ROIs.
        ValueError: Shapes, types or sources that do not fit.
    """
    settings = settings or AttackSettings()
    palms = hidden_palms(originals, labels, deidentified, sources)
    people = split_identities(palms.labels[np.unique(palms.sources)], share, settings.seed)
    learnt, target = (palms.of(some) for some in people)
    attacker = train_attacker(
        learnt.originals, learnt.labels, learnt.deidentified, learnt.sources, settings
    )
    trained = learnt.eer(attacker, "own_source")
    assert trained is not None
    unaware = black_box or EmbeddingRecognizer(load_network("synthetic-only")).to(settings.device)
    return Attack(
        _seen(unaware, target, resamples, settings.seed),
        _seen(attacker, target, resamples, settings.seed),
        trained, len(people[0]), len(people[1]), attacker,
    )  # fmt: skip


def split_identities(labels: ArrayLike, share: float, seed: int) -> tuple[Ints, Ints]:
    """(attackers, victims): the identities in `labels`, each in one of the two, ascending.

    Args:
        labels: `[N]` integers.
        share: Of the identities, the attackers'; at least two are on each side.
        seed: Of the split.

    Raises:
        ConfigError: A share outside (0, 1).
        DataError: Fewer than `LEAST_IDENTITIES` identities.
    """
    if not 0.0 < share < 1.0:
        raise ConfigError(f"attack.share: {share} does not lie between 0 and 1")
    everyone = np.unique(as_numpy(labels))
    if everyone.size < LEAST_IDENTITIES:
        raise DataError(
            f"{everyone.size} identities have de-identified pictures: an attack needs at least "
            f"{LEAST_IDENTITIES}, some to learn from and others to find; some dozens to mean much"
        )
    count = min(max(2, round(share * everyone.size)), everyone.size - 2)
    shuffled = np.random.default_rng([seed, 0xA77]).permutation(everyone)
    return np.sort(shuffled[:count]), np.sort(shuffled[count:])


def _seen(recognizer: Recognizer, palms: HiddenPalms, resamples: int, seed: int) -> Seen:
    distances = palms.distances(recognizer)
    own, others = (
        attack_rates(distances, palms.sources, palms.labels, question, resamples, seed)
        for question in QUESTIONS
    )
    assert own is not None  # every de-identified picture has a source
    gallery = recognizer.embed(palms.originals)
    genuine, impostor = pair_distances(gallery, palms.labels, distance=recognizer.distance)
    return Seen(own, others, equal_error_rate(genuine, impostor)[0] if len(genuine) else None)
