"""Who trains, who is tested, and what is said about it."""

from __future__ import annotations

import random
from itertools import product

import pytest

from palmforge.data.protocols import Role, cross_domain, first_five, open_set
from palmforge.data.records import PalmRecord
from palmforge.errors import DataError


def _records(domains=("IF", "IN"), subjects=10, images=8, hands="LR") -> list[PalmRecord]:
    found = [
        PalmRecord(f"/{d}/{h}_{s:02}/IMG_{i}.JPG", f"{s:02}", h, f"{h}_{s:02}", domain=d)
        for d, s, h, i in product(domains, range(subjects), hands, range(1, images + 1))
    ]
    random.Random(0).shuffle(found)
    return found


def _numbers(records, identity="L_03", domain="IF") -> list[int]:
    return sorted(int(r.path[-5]) for r in records if (r.identity, r.domain) == (identity, domain))


def _identities(records) -> set[str]:
    return {record.identity for record in records}


def test_first_five_by_file_name_in_each_domain() -> None:
    split = first_five(_records())
    for domain in ("IF", "IN"):
        assert _numbers(split.train, domain=domain) == [1, 2, 3, 4, 5]
        assert _numbers(split.test, domain=domain) == [6, 7, 8]
    assert len(split.train) == 2 * 20 * 5
    assert split.val == split.train
    assert set(split.test_roles) == {Role.ALL}
    assert len(split.test_roles) == len(split.test)
    assert split.closed_set
    assert split.notes == ["validation repeats the training images: the paper holds none out"]


def test_file_names_decide_and_not_the_folders_above() -> None:
    """A domain may be spread over two folders: `HUAWEI` and `huawei` are one."""
    paths = [f"/{folder}/L_1/{i}.jpg" for i, folder in enumerate("BABABAB")]
    split = first_five([PalmRecord(path, "1", "L", "L_1", domain="HF") for path in paths])
    assert [r.path[-5] for r in split.train] == list("01234")


def test_selection_does_not_depend_on_the_order_of_records() -> None:
    records = _records()
    for protocol in (first_five, open_set, lambda r: cross_domain(r, ["IF"], ["IN"])):
        a, b = protocol(records), protocol(records[::-1])
        for part in ("train", "val", "test"):
            assert set(getattr(a, part)) == set(getattr(b, part))


def test_validation_images_are_the_last_of_the_first_five() -> None:
    split = first_five(_records(), val_images=2)
    assert _numbers(split.train) == [1, 2, 3]
    assert _numbers(split.val) == [4, 5]
    assert _numbers(split.test) == [6, 7, 8]
    assert split.notes == []


@pytest.mark.parametrize(("train", "val"), [(5, 1), (5, 5), (5, -1), (0, 0)])
def test_validation_images_that_make_no_sense_are_refused(train, val) -> None:
    with pytest.raises(DataError, match=r"data\.val_images"):
        first_five(_records(), train, val)


def test_identities_with_too_few_images_are_named() -> None:
    records = _records(("IF",), subjects=3, hands="L")
    few = [PalmRecord(f"/IF/R_99/{i}.jpg", "99", "R", "R_99", domain="IF") for i in range(5)]
    one = [PalmRecord("/IF/R_98/0.jpg", "98", "R", "R_98", domain="IF")]
    notes = first_five(records + few + one).notes
    assert "no image left to test: IF R_98, IF R_99" in notes
    assert "one training image: no genuine pair but with itself: IF R_98" in notes


def test_long_lists_of_names_are_cut() -> None:
    records = _records(("IF",), subjects=20, images=5, hands="L") + _records(("IF",), subjects=1)
    (note,) = [n for n in first_five(records).notes if "no image left to test" in n]
    assert note.endswith("IF L_10 … (19 in all)")


def test_nothing_left_to_test_is_an_error() -> None:
    with pytest.raises(DataError, match="no image for test"):
        first_five(_records(images=5))


def test_open_set_parts_share_no_subject_and_keep_hands_together() -> None:
    split = open_set(_records(subjects=20), seed=3)
    parts = [split.train, split.val, split.test]
    subjects = [{record.subject for record in part} for part in parts]
    assert [len(part) for part in subjects] == [12, 2, 6]
    assert set.union(*subjects) == {f"{s:02}" for s in range(20)}
    for part, names in zip(parts, subjects, strict=True):
        assert _identities(part) == {f"{h}_{s}" for h in "LR" for s in names}
        assert len(part) == len(names) * 2 * 2 * 8
    assert not split.closed_set


def test_open_set_is_a_function_of_the_seed_and_the_names() -> None:
    records = _records(subjects=20)
    a, again, other = (
        open_set(records, seed=1),
        open_set(records, seed=1),
        open_set(records, seed=2),
    )
    assert (a.train, a.val, a.test) == (again.train, again.val, again.test)
    assert _identities(a.train) != _identities(other.train)
    only_if = open_set([r for r in records if r.domain == "IF"], seed=1)
    assert _identities(only_if.test) == _identities(a.test)


@pytest.mark.parametrize("fractions", [(0.98, 0.01, 0.01), (0.01, 0.01, 0.98), (0.01, 0.98, 0.01)])
@pytest.mark.parametrize("subjects", [3, 4, 11])
def test_open_set_leaves_no_part_empty(fractions, subjects) -> None:
    split = open_set(_records(subjects=subjects), fractions)
    assert min(len(split.train), len(split.val), len(split.test)) > 0


def test_open_set_errors_and_notes() -> None:
    with pytest.raises(DataError, match="three subjects or more, there are 2"):
        open_set(_records(subjects=2))
    for fractions in ((0.5, 0.5, 0.0), (0.6, 0.3, 0.3), (1.2, -0.1, -0.1)):
        with pytest.raises(DataError, match=r"data\.fractions"):
            open_set(_records(), fractions)
    (note,) = open_set(_records(("IF",), images=1), seed=1).notes
    assert note.startswith("one test image: no genuine pair: IF L_")


def test_cross_domain_enrols_in_one_and_probes_from_another() -> None:
    split = cross_domain(_records(("IF", "IN", "HF")), ["IF"], ["IN", "HF"])
    assert {r.domain for r in split.train + split.val} == {"IF"}
    assert _numbers(split.train) == [1, 2, 3, 4, 5]
    assert _numbers(split.val) == [6, 7, 8]
    roles = dict(zip(split.test, split.test_roles, strict=True))
    assert {r for r, role in roles.items() if role == Role.GALLERY} == set(split.train)
    assert {r.domain for r, role in roles.items() if role == Role.PROBE} == {"IN", "HF"}
    assert sum(role == Role.PROBE for role in split.test_roles) == 2 * 20 * 8
    assert split.closed_set
    assert split.notes == [f"gallery: the {len(split.train)} training images; probes: 320 images"]


def test_probes_that_are_not_enrolled_are_counted() -> None:
    records = _records(("IF",), subjects=3) + _records(("IN",), subjects=5)
    split = cross_domain(records, ["IF"], ["IN"])
    assert split.notes[1:] == ["4 probe identities are not enrolled"]
    assert not split.closed_set


def test_cross_domain_without_images_to_spare_validates_on_the_training_images() -> None:
    split = cross_domain(_records(images=4), ["IF"], ["IN"])
    assert split.val == split.train


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ([], ["IN"], r"data\.train_domains: \[\] must name domains that are there: IF, IN"),
        (["IF"], [], r"data\.test_domains"),
        (["IF"], ["HF"], r"data\.test_domains: \['HF'\]"),
        (["IF", "IN"], ["IN"], "IN is in train and in test"),
    ],
)
def test_cross_domain_refuses_wrong_domains(train, test, message) -> None:
    with pytest.raises(DataError, match=message):
        cross_domain(_records(), train, test)


def test_a_split_says_what_it_selected() -> None:
    text = str(first_five(_records(), val_images=2))
    assert text.splitlines() == [
        "train: 120 images of 20 identities IF IN",
        "validation: 80 images of 20 identities IF IN",
        "test: 120 images of 20 identities IF IN",
    ]
