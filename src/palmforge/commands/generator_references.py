"""The palms that captures are made of: one picture each, and what else there is of them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

import cv2
import numpy as np
import torch
from torch import Tensor

from palmforge.data.records import PalmRecord
from palmforge.errors import ConfigError
from palmforge.evaluation.data import EvaluationData, PalmSet
from palmforge.metrics.perceptual_hash import is_flat
from palmforge.metrics.scores import Ints

_identity = attrgetter("identity")


@dataclass(frozen=True)
class ReferencePalms:
    """Palms as a generator is shown them.

    Attributes:
        records: [P], one picture of each palm.
        pictures: [P, 3, S, S] uint8 RGB.
        others: [N, 3, S, S], further pictures of the same palms.
        others_of: [N] int64, which palm each is of.
        problems: Path → why it was left out.
    """

    records: list[PalmRecord]
    pictures: Tensor
    others: Tensor
    others_of: Ints
    problems: dict[str, str]


def reference_palms(
    data: EvaluationData, count: int, most_others: int, side: int
) -> ReferencePalms:
    """The first usable picture of each identity, by name.

    A picture of one grey shows no palm. Whether there is one in what does show something is for a
    localizer to say (`data.localizer`).

    Args:
        data: Where they are, and how ROIs are cut.
        count: Palms, at the most.
        most_others: Further pictures of a palm, at the most.
        side: S, to which the ROIs are brought as the DataModules do it.

    Raises:
        ConfigError: Fewer than two palms are left.
        DataError: The set is missing, or nothing in it can be read.
    """
    palms = PalmSet(data)
    problems = dict(palms.problems)
    chosen: list[PalmRecord] = []
    pictures, others, others_of = [], [], []
    for _, records in groupby(palms.records, _identity):
        shown = []
        for record in records:
            picture = _sized(palms.roi(record), side)
            if is_flat(picture[None])[0]:
                problems[record.path] = "one grey everywhere: there is no palm in it"
                continue
            shown.append((record, picture))
            if len(shown) > most_others:
                break
        if not shown:
            continue
        others += [picture for _, picture in shown[1:]]
        others_of += [len(chosen)] * (len(shown) - 1)
        chosen.append(shown[0][0])
        pictures.append(shown[0][1])
        if len(chosen) == count:
            break
    if len(chosen) < 2:
        first = next(iter(problems.items()), None)
        why = "" if first is None else f". First left out: {first[0]}: {first[1]}"
        raise ConfigError(
            f"references: {len(chosen)} palms in {data.root} can be used; two or more are needed, "
            f"to tell them apart{why}"
        )
    stacked = torch.stack(others) if others else torch.zeros(0, 3, side, side, dtype=torch.uint8)
    return ReferencePalms(
        chosen, torch.stack(pictures), stacked, np.array(others_of, np.int64), problems
    )


def _sized(image: np.ndarray, side: int) -> Tensor:
    if image.shape[0] != side:
        image = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
