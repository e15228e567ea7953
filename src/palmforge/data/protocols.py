"""Records → train, validation and test; gallery and probe. Plain functions, deterministic."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import IntEnum

import numpy as np

from palmforge.data.records import PalmRecord
from palmforge.errors import DataError


class Role(IntEnum):
    """What a test image is compared with."""

    ALL = 0  # with every other test image
    GALLERY = 1  # enrolled: with probes only
    PROBE = 2  # with the gallery only


@dataclass
class Split:
    """What a protocol selected.

    Attributes:
        train: Trained on.
        val: Watched while training.
        test: Reported.
        test_roles: One a test record.
        closed_set: Whether the identities of `test` are those of `train`; only then does the
            classifier head say anything about a test image.
        notes: What to know of this selection, in words; printed at the start of a run.
    """

    train: list[PalmRecord]
    val: list[PalmRecord]
    test: list[PalmRecord]
    test_roles: list[Role]
    closed_set: bool
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        def count(name: str, records: list[PalmRecord]) -> str:
            identities = len({record.identity for record in records})
            domains = " ".join(sorted({record.domain for record in records} - {""}))
            return f"{name}: {len(records)} images of {identities} identities {domains}".rstrip()

        lines = [
            count("train", self.train), count("validation", self.val), count("test", self.test)
        ]  # fmt: skip
        return "\n".join(lines + self.notes)


def first_five(records: list[PalmRecord], train_images: int = 5, val_images: int = 0) -> Split:
    """The closed-set protocol of Shao et al. 2020, §4.2.

    In each domain the first `train_images` images of each identity (file names sorted) train, the
    others test. The paper has no validation images. With `val_images=0` the training images,
    without augmentation, stand in: they show that training runs, and must not choose a checkpoint.
    With `val_images=v ≥ 2` the last v of the first five are held out instead.

    Raises:
        DataError: If nothing is left to train on or to test.
    """
    if not 0 <= val_images < train_images or val_images == 1:
        raise DataError(
            f"data.val_images: {val_images} of {train_images} training images cannot be held out "
            "(0, or 2 and more, so that they make genuine pairs, and fewer than data.train_images)"
        )
    first, rest = head_and_tail(records, train_images)
    train, val = first, first
    if val_images:
        train, val = head_and_tail(first, train_images - val_images)
    notes = []
    if not val_images:
        notes.append("validation repeats the training images: the paper holds none out")
    notes += _note_few(records, lambda n: n <= train_images, "no image left to test")
    notes += _note_few(
        train, lambda n: n < 2, "one training image: no genuine pair but with itself"
    )
    return _checked(Split(train, val, rest, [Role.ALL] * len(rest), True, notes))


def open_set(
    records: list[PalmRecord],
    fractions: tuple[float, float, float] = (0.6, 0.1, 0.3),
    seed: int = 0,
    train_domains: list[str] | None = None,
    test_domains: list[str] | None = None,
) -> Split:
    """Identities disjoint between train, validation and test.

    Whole subjects are drawn, so that both hands of a person fall on the same side: a left palm
    tells something about the right one. Where a data set names no hands, subject = identity.

    Args:
        records: All of them.
        fractions: Of the subjects, for train, validation and test. They add up to 1.
        seed: Decides who goes where, together with the names of the subjects and nothing else.
        train_domains: Train and validate on these domains only; None: on all.
        test_domains: Test on these only; None: on all. Where the two share no domain, neither the
            people nor the cameras of the test have been seen.

    Raises:
        DataError: If the fractions or domains are wrong, or a part would be empty.
    """
    if min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise DataError(f"data.fractions: {fractions} must be positive and add up to 1")
    subjects = sorted({record.subject for record in records})
    if len(subjects) < 3:
        raise DataError(f"open_set needs three subjects or more, there are {len(subjects)}")
    order = np.random.default_rng([seed, 0x0BE2]).permutation(len(subjects))
    bounds = np.rint(np.cumsum(fractions) * len(subjects)).astype(int)
    bounds[0] = np.clip(bounds[0], 1, len(subjects) - 2)
    bounds[1] = np.clip(bounds[1], bounds[0] + 1, len(subjects) - 1)
    part_of = {
        subjects[who]: int(np.searchsorted(bounds[:2], rank, side="right"))
        for rank, who in enumerate(order)
    }
    parts: list[list[PalmRecord]] = [[], [], []]
    for record in records:
        parts[part_of[record.subject]].append(record)
    wanted = {"train_domains": train_domains, "test_domains": test_domains}
    _check_domains(records, {key: names for key, names in wanted.items() if names is not None})
    train, val = (_of_domains(part, train_domains) for part in parts[:2])
    test = _of_domains(parts[2], test_domains)
    notes = _note_few(test, lambda n: n < 2, "one test image: no genuine pair")
    return _checked(Split(train, val, test, [Role.ALL] * len(test), False, notes))


def cross_domain(
    records: list[PalmRecord],
    train_domains: list[str],
    test_domains: list[str],
    train_images: int = 5,
) -> Split:
    """Enrol in one domain, probe from another.

    Of each identity and each training domain, the first `train_images` images train and are the
    gallery; the others are validation. All images of the test domains are probes.

    Raises:
        DataError: If the domains overlap or are not there.
    """
    _check_domains(records, {"train_domains": train_domains, "test_domains": test_domains})
    if both := set(train_domains) & set(test_domains):
        raise DataError(f"cross_domain: {', '.join(sorted(both))} is in train and in test")
    train, val = head_and_tail(_of_domains(records, train_domains), train_images)
    probes = _of_domains(records, test_domains)
    roles = [Role.GALLERY] * len(train) + [Role.PROBE] * len(probes)
    unknown = {r.identity for r in probes} - {r.identity for r in train}
    notes = [f"gallery: the {len(train)} training images; probes: {len(probes)} images"]
    notes += [f"{len(unknown)} probe identities are not enrolled"] if unknown else []
    return _checked(Split(train, val or train, train + probes, roles, not unknown, notes))


def fewer(split: Split, identities: int | None, images: int | None, seed: int = 0) -> Split:
    """The same split with less to train on; validation and test stay as they are.

    Args:
        split: What a protocol selected.
        identities: So many of its training identities at most; 10 are among the 25 that the same
            seed chooses. None: all; 0: none, for those who train on other palms.
        images: So many images of each at most, in all domains together, the first by file name.
            None: all.
        seed: Decides which identities.

    Raises:
        DataError: If a number is too small.
    """
    if (identities is not None and identities < 0) or (images is not None and images < 1):
        raise DataError(
            f"data.train_identities must be 0 or more and data.open_set_images 1 or more, got "
            f"{identities} and {images}"
        )
    names = np.array(sorted({record.identity for record in split.train}))
    chosen = set(np.random.default_rng([seed, 0xF3E]).permutation(names)[:identities].tolist())
    train = [record for record in split.train if record.identity in chosen]
    if images is not None:
        train, _ = head_and_tail(train, images, by_domain=False)
    known = split.closed_set and len(chosen) == len(names)
    return replace(split, train=train, closed_set=known)


def head_and_tail(
    records: Iterable[PalmRecord], count: int, by_domain: bool = True
) -> tuple[list[PalmRecord], list[PalmRecord]]:
    """The first `count` images (file names sorted) of each identity and domain, and the others.

    Args:
        records: In any order.
        count: How many.
        by_domain: Whether an identity has a first image in each domain, or one in all.
    """
    groups: dict[tuple[str, str], list[PalmRecord]] = defaultdict(list)
    for record in records:
        groups[record.domain if by_domain else "", record.identity].append(record)
    head, tail = [], []
    for key in sorted(groups):
        images = sorted(groups[key], key=lambda r: (os.path.basename(r.path), r.path))
        head += images[:count]
        tail += images[count:]
    return head, tail


def _check_domains(records: list[PalmRecord], wanted: dict[str, list[str]]) -> None:
    here = {record.domain for record in records}
    for key, names in wanted.items():
        if not names or set(names) - here:
            raise DataError(
                f"data.{key}: {names} must name domains that are there: {', '.join(sorted(here))}"
            )


def _of_domains(records: list[PalmRecord], domains: list[str] | None) -> list[PalmRecord]:
    return [record for record in records if domains is None or record.domain in domains]


def _note_few(records: list[PalmRecord], too_few: Callable[[int], bool], what: str) -> list[str]:
    counts = Counter((record.domain, record.identity) for record in records)
    names = [" ".join(key).strip() for key, n in sorted(counts.items()) if too_few(n)]
    if not names:
        return []
    more = f" … ({len(names)} in all)" if len(names) > 10 else ""
    return [f"{what}: {', '.join(names[:10])}{more}"]


def _checked(split: Split) -> Split:
    for name in ("train", "val", "test"):
        if not getattr(split, name):
            raise DataError(f"the protocol leaves no image for {name}. It selected:\n{split}")
    return split
