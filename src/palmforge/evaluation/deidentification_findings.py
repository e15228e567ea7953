"""All that a test of de-identification finds, from what was measured of each photograph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from palmforge.errors import DataError
from palmforge.evaluation.deidentification import Known, Left, embedded, know, what_is_left
from palmforge.evaluation.deidentified_folder import DeidentifiedPalms
from palmforge.evaluation.leakage import Probe, linear_probe
from palmforge.evaluation.linkage import Linkages, linkage
from palmforge.metrics.generation import frechet_distance
from palmforge.metrics.scores import Floats, Ints
from palmforge.recognition import Recognizer


@dataclass(frozen=True, eq=False)
class Diversity:
    """Fig. 5 for one recogniser: four sets of distances, and what links the green one.

    Attributes:
        recogniser: Its name.
        genuine: Of originals of one palm.
        impostor: Of originals of two.
        to_source: Of de-identified pictures and their sources.
        among: Of two variants of one photograph.
        linkages: How well variants are told to be of one photograph, or hand.
    """

    recogniser: str
    genuine: Floats
    impostor: Floats
    to_source: Floats
    among: Floats
    linkages: Linkages


@dataclass
class DeidentificationFindings:
    """All figures.

    Attributes:
        methods: Their names; the first is looked at closely.
        recognisers: Their names.
        num_photographs: That were measured.
        num_identities: Among them.
        num_variants: Of each, by the first method.
        left: Table V, a row each method and recogniser.
        quality: Method → [N, 4], `QUALITY`.
        frechet: Method → Fréchet distance of concealed to original hands; NaN: too few.
        usability: Method → [N, 5], `USABILITY`, in percent.
        diversity: A row each recogniser, where there are variants.
        probes: What a linear probe reads out of: name of the features → accuracy.
        remarks: Sentences on how it was measured.
    """

    methods: list[str]
    recognisers: list[str]
    num_photographs: int
    num_identities: int
    num_variants: int
    left: list[Left] = field(default_factory=list)
    quality: dict[str, Floats] = field(default_factory=dict)
    frechet: dict[str, float] = field(default_factory=dict)
    usability: dict[str, Floats] = field(default_factory=dict)
    diversity: list[Diversity] = field(default_factory=list)
    probes: dict[str, Probe] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def of(self, method: str, recogniser: str) -> Left:
        """A row of Table V."""
        return next(
            one for one in self.left if (one.method, one.recogniser) == (method, recogniser)
        )


def labels_of_sources(palms: DeidentifiedPalms, identities: Mapping[str, str]) -> Ints:
    """`[N]` int64, in the order of `palms.sources`.

    Raises:
        DataError: If nothing was measured.
    """
    sources = palms.sources
    if not sources:
        reasons = list(palms.problems.values())
        example = f"; the first reason: {reasons[0]}" if reasons else ""
        raise DataError(f"data.images: none of {len(reasons)} photographs can be measured{example}")
    names = [identities[source] for source in sources]
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def first_method(palms: DeidentifiedPalms) -> tuple[Tensor, Ints]:
    """ROIs of all its variants, `[N · V, 3, R, R]` uint8, and the row of the source of each."""
    rois = palms.array("rois", palms.methods[0])
    sources = np.repeat(np.arange(len(rois)), rois.shape[1])
    return torch.from_numpy(rois.reshape(-1, *rois.shape[2:])), sources


def find_out(
    palms: DeidentifiedPalms,
    identities: Mapping[str, str],
    recognisers: Mapping[str, Recognizer],
    resamples: int = 1000,
    seed: int = 0,
) -> DeidentificationFindings:
    """Every table but that of the attack.

    Args:
        palms: What was measured.
        identities: Source → whose hand it shows.
        recognisers: Name → what makes and compares templates.
        resamples: Of identities, for the intervals of DIR; 0: none.
        seed: Of the resamples.

    Raises:
        DataError: Too few photographs or identities, or a recogniser that makes NaN of them.
    """
    labels = labels_of_sources(palms, identities)
    originals = torch.from_numpy(palms.array("roi"))
    pictures, sources = first_method(palms)
    variants = len(pictures) // len(labels)
    found = DeidentificationFindings(
        palms.methods, list(recognisers), len(labels), len(np.unique(labels)), variants
    )
    known = [know(name, one, originals, labels) for name, one in recognisers.items()]
    rows = np.arange(len(labels))
    features = torch.from_numpy(palms.array("features"))
    for method in palms.methods:
        first = torch.from_numpy(palms.array("rois", method)[:, 0])
        found.left += [what_is_left(one, method, first, rows, resamples, seed) for one in known]
        found.quality[method] = palms.array("quality", method)
        found.usability[method] = palms.array("usability", method)
        found.frechet[method] = _frechet(
            features, torch.from_numpy(palms.array("features", method))
        )
    if variants > 1:
        found.diversity = [_diversity(one, pictures, sources, seed) for one in known]
    found.probes = _probes(known, palms.array("embedding"), labels)
    return found


def _frechet(originals: Tensor, concealed: Tensor) -> float:
    return frechet_distance(originals, concealed) if len(originals) > 1 else float("nan")


def _diversity(known: Known, pictures: Tensor, sources: Ints, seed: int) -> Diversity:
    templates = embedded(known.name, known.recogniser, pictures)
    found = linkage(templates, sources, known.labels, known.recogniser.distance, seed)
    # Of P de-identified pictures P · N distances would be held, for one a picture.
    own = [
        known.recogniser.distance(templates[sources == row], known.templates[row : row + 1])
        for row in np.unique(sources)
    ]
    among = []
    for row in np.unique(sources):
        apart = known.recogniser.distance(templates[sources == row], templates[sources == row])
        among.append(apart[torch.ones_like(apart, dtype=torch.bool).triu(1)])
    return Diversity(known.name, known.genuine, known.impostor, _joined(own), _joined(among), found)


def _joined(parts: Sequence[Tensor]) -> Floats:
    return torch.cat([part.flatten().double().cpu() for part in parts]).numpy()


def _probes(known: Sequence[Known], embeddings: Floats, labels: Ints) -> dict[str, Probe]:
    """By the fused exemplars and by each recogniser's vectors, with the same split of captures."""
    place = np.zeros(len(labels), int)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        place[rows] = np.arange(len(rows))
    learn, judge = place % 2 == 0, place % 2 == 1
    if not judge.any() or len(np.unique(labels[learn])) < 2:
        return {}
    of = {"fused exemplars (Eq. 1)": embeddings}
    of |= {
        one.name: one.templates.flatten(1).double().numpy()
        for one in known
        if one.templates.is_floating_point()
    }
    return {
        name: linear_probe(some[learn], labels[learn], some[judge], labels[judge])
        for name, some in of.items()
    }
