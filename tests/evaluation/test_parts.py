"""Who is compared with whom under each protocol."""

from __future__ import annotations

from itertools import product

import pytest

from palmforge.data.protocols import Role
from palmforge.data.records import PalmRecord
from palmforge.errors import DataError
from palmforge.evaluation import parts

FRACTIONS = (0.2, 0.4, 0.4)


def records(people: int = 10, images: int = 4, domains: tuple[str, ...] = ("IF",)):
    return [
        PalmRecord(
            f"/d/{domain}/{hand}_{person:03d}/{image}.jpg", f"{person:03d}", hand,
            f"{hand}_{person:03d}", domain=domain,
        )
        for person, hand, domain, image in product(range(people), "LR", domains, range(images))
    ]  # fmt: skip


def _identities(part, role=None):
    pairs = zip(part.records, part.roles, strict=True)
    return {record.identity for record, own in pairs if role is None or own == role}


def test_open_set_keeps_people_apart_and_is_that_of_the_datamodule():
    from palmforge.data.protocols import open_set

    validation, test = parts.open_set(records(), FRACTIONS, 3)
    split = open_set(records(), FRACTIONS, 3)
    assert _identities(validation) == {record.identity for record in split.val}
    assert _identities(test) == {record.identity for record in split.test}
    assert not {r.subject for r in validation.records} & {r.subject for r in test.records}
    assert set(test.roles) == {Role.ALL}


def test_identification_enrols_the_first_image_of_some_people_and_nobody_of_the_others():
    _, test = parts.identification(records(), FRACTIONS, 0, gallery_images=1, enrolled_share=0.5)
    gallery = [r for r, role in zip(test.records, test.roles, strict=True) if role == Role.GALLERY]
    assert len(gallery) == 4 and all(record.path.endswith("/0.jpg") for record in gallery)
    mated = _identities(test, Role.GALLERY)
    others = _identities(test, Role.PROBE) - mated
    assert len(mated) == 4 and len(others) == 4
    # Both hands of a person are on one side.
    assert not {name[2:] for name in mated} & {name[2:] for name in others}
    assert len(test.records) == 4 * 2 * 4  # nothing is lost


def test_closed_set_has_a_verification_and_an_identification_part_for_each_domain():
    made = parts.closed_set(records(domains=("IF", "IN"), images=7), 5)
    assert [part.name for part in made] == ["IF", "IF rank 1", "IN", "IN rank 1"]
    assert len(made[0].records) == 20 * 2 and set(made[0].roles) == {Role.ALL}
    assert made[1].roles.count(Role.GALLERY) == 20 * 5
    assert {record.domain for record in made[2].records} == {"IN"}


def test_a_set_without_domains_has_both_closed_set_parts_too():
    verification, identification = parts.closed_set(records(domains=("",), images=7), 5)
    assert parts.has_intervals("closed_set", verification.name)
    assert not parts.has_intervals("closed_set", identification.name)


def test_cross_domain_is_a_matrix_whose_diagonal_compares_nothing_with_itself():
    made = parts.cross_domain(records(domains=("IF", "IN", "HF")), FRACTIONS, 0)
    assert len(made) == 9
    by_name = {part.name: part for part in made}
    assert set(by_name["IF → IF"].roles) == {Role.ALL}
    one = by_name["IF → HF"]
    for record, role in zip(one.records, one.roles, strict=True):
        assert record.domain == ("IF" if role == Role.GALLERY else "HF")


def test_cross_database_tests_all_of_the_other_set():
    others = records(people=3)
    held_out, test = parts.cross_database(others, records(), FRACTIONS, 0)
    assert len(test.records) == len(others)
    assert len(_identities(held_out)) == 8


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: parts.cross_domain(records(), FRACTIONS, 0), "two domains"),
        (lambda: parts.identification(records(3), (0.3, 0.3, 0.4), 0), "some must"),
        (lambda: parts.identification(records(), FRACTIONS, 0, enrolled_share=1.0), "between 0"),
        (
            lambda: parts.open_set([r for r in records(3) if r.hand == "L"], (0.3, 0.3, 0.4), 0),
            "no impostor pair",
        ),
    ],
)
def test_what_leaves_nothing_to_compare_is_refused(make, message):
    with pytest.raises(DataError, match=message):
        make()
