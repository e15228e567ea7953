"""Records → the comparisons that a protocol asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from palmforge.data import protocols
from palmforge.data.protocols import Role
from palmforge.data.records import PalmRecord
from palmforge.errors import DataError

Protocol = Literal["closed_set", "open_set", "identification", "cross_domain", "cross_database"]
VALIDATION, TEST = "validation", "test"
RANK1 = " rank 1"  # ends the name of the closed set's identification parts


@dataclass(frozen=True)
class Part:
    """Palms that are compared with one another.

    Attributes:
        name: `test`, `validation`, or a domain, or `enrolled → probed`.
        records: Sorted by identity.
        roles: One a record, see `Role`.
        enrolled: The domain of the gallery, in the cross-domain protocol.
        probed: That of the probes.
    """

    name: str
    records: list[PalmRecord]
    roles: list[Role]
    enrolled: str = ""
    probed: str = ""

    @property
    def num_identities(self) -> int:
        """How many palms they are of."""
        return len({record.identity for record in self.records})


def has_intervals(protocol: Protocol, part: str) -> bool:
    """Whether a part's figures are told with intervals: not those of a matrix of a hundred."""
    if protocol in ("cross_domain", "identification"):
        return False
    return part != VALIDATION and not part.endswith(RANK1)


def closed_set(records: list[PalmRecord], train_images: int = 5) -> list[Part]:
    """Shao et al. 2020, §4.2: in each domain, the images that nothing was trained on.

    Two parts a domain: its test images with each other (verification), and its test images as
    probes for its training images (identification: a recogniser need not have a classifier).
    """
    split = protocols.first_five(records, train_images)
    parts = []
    for domain in sorted({record.domain for record in records}):
        test = [record for record in split.test if record.domain == domain]
        train = [record for record in split.train if record.domain == domain]
        parts.append(_part(domain, test, Role.ALL))
        both = [(r, Role.GALLERY) for r in train] + [(r, Role.PROBE) for r in test]
        parts.append(_mixed(f"{domain}{RANK1}", both))
    return parts


def open_set(
    records: list[PalmRecord], fractions: tuple[float, float, float], split_seed: int
) -> list[Part]:
    """Verification of palms nobody was trained on; thresholds come from other such palms.

    `validation` and `test` are those of `PalmDataModule` with `protocol: open_set`, the same
    fractions and the same seed: a recogniser trained there has seen neither.
    """
    split = protocols.open_set(records, fractions, split_seed)
    return [_part(VALIDATION, split.val, Role.ALL), _part(TEST, split.test, Role.ALL)]


def identification(
    records: list[PalmRecord],
    fractions: tuple[float, float, float],
    split_seed: int,
    gallery_images: int = 1,
    enrolled_share: float = 0.5,
) -> list[Part]:
    """Open-set identification: some of the palms are enrolled, the others must not be found.

    Whole people are enrolled or not. The first images of an enrolled palm are the gallery, its
    others are mated probes; all images of the others are non-mated probes.
    """
    if not 0 < enrolled_share < 1:
        raise DataError(f"enrolled_share: {enrolled_share} is not between 0 and 1")
    split = protocols.open_set(records, fractions, split_seed)
    parts = []
    for name, chosen in ((VALIDATION, split.val), (TEST, split.test)):
        people = sorted({record.subject for record in chosen})
        order = np.random.default_rng([split_seed, 0x1D]).permutation(len(people))
        count = round(enrolled_share * len(people))
        if not 0 < count < len(people):
            raise DataError(
                f"{name}: of {len(people)} people, {count} would be enrolled: some must be, and "
                "some must not. Take more people or other fractions"
            )
        inside = {people[row] for row in order[:count]}
        enrolled = [record for record in chosen if record.subject in inside]
        gallery, mated = protocols.head_and_tail(enrolled, gallery_images, by_domain=False)
        nonmated = [record for record in chosen if record.subject not in inside]
        probes = [(record, Role.PROBE) for record in mated + nonmated]
        parts.append(_mixed(name, [(record, Role.GALLERY) for record in gallery] + probes))
    return parts


def cross_domain(
    records: list[PalmRecord], fractions: tuple[float, float, float], split_seed: int
) -> list[Part]:
    """Every domain enrolled against every domain probed, of the test identities of `open_set`.

    Within a domain all pairs count, and nothing is compared with itself.
    """
    test = protocols.open_set(records, fractions, split_seed).test
    domains = sorted({record.domain for record in test})
    if len(domains) < 2:
        raise DataError(f"cross_domain needs two domains or more, there is {domains}")
    parts = []
    for enrolled in domains:
        for probed in domains:
            name = f"{enrolled} → {probed}"
            if enrolled == probed:
                own = [(r, Role.ALL) for r in test if r.domain == enrolled]
            else:
                own = [(r, Role.GALLERY) for r in test if r.domain == enrolled]
                own += [(r, Role.PROBE) for r in test if r.domain == probed]
            parts.append(_mixed(name, own, enrolled, probed))
    return parts


def cross_database(
    records: list[PalmRecord],
    validation: list[PalmRecord],
    fractions: tuple[float, float, float],
    split_seed: int,
) -> list[Part]:
    """All of another database; thresholds from the validation identities of the one trained on."""
    held_out = protocols.open_set(validation, fractions, split_seed).val
    return [_part(VALIDATION, held_out, Role.ALL), _part(TEST, records, Role.ALL)]


def _part(name: str, records: Sequence[PalmRecord], role: Role) -> Part:
    return _mixed(name, [(record, role) for record in records])


def _mixed(
    name: str, items: list[tuple[PalmRecord, Role]], enrolled: str = "", probed: str = ""
) -> Part:
    items = sorted(items, key=lambda item: (item[0].identity, item[0].path))
    part = Part(name, [r for r, _ in items], [role for _, role in items], enrolled, probed)
    if part.num_identities < 2:
        raise DataError(
            f"{name}: {part.num_identities} identity is left: there is no impostor pair. Take more "
            "of the data, or other fractions"
        )
    return part
