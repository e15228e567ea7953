"""Settings are checked early; groups are the same for everyone."""

from __future__ import annotations

import pytest
from hand_photographs import write_folder
from hands import write_hands

from palmforge.data.deidentification.datamodule import DeidentificationDataModule
from palmforge.data.synthetic import SyntheticPalms
from palmforge.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def data(root):
    data = DeidentificationDataModule(str(root), image_size=64, batch_size=3, num_workers=0)
    data.setup("predict")
    return data


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"exemplars": []}, r"data\.exemplars"),
        ({"segmenter": "none"}, r"data\.segmenter"),
        ({"variants": 0}, r"data\.variants"),
        ({"image_size": 0}, r"data\.image_size"),
        ({"margin": -1.0}, r"data\.margin"),
        ({"palm_margin": 3.0}, r"data\.palm_margin"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(changed, what):
    with pytest.raises(ConfigError, match=what):
        DeidentificationDataModule(**changed)


def test_it_is_for_predict_alone_and_wants_pictures(data, tmp_path):
    with pytest.raises(ConfigError, match="use predict"):
        data.setup("fit")
    with pytest.raises(ConfigError, match="DeidentificationWriter is missing"):
        data.predict_dataloader()
    with pytest.raises(DataError, match="no picture"):
        DeidentificationDataModule(str(tmp_path)).setup("predict")
    with pytest.raises(ConfigError, match=r"data\.batch_size"):
        DeidentificationDataModule(str(data.images), batch_size=0).setup("predict")


def test_groups_are_those_of_the_list_whatever_is_done(data):
    assert [data.plan.members(g) for g in data.plan.groups] == [
        ["a.jpg", "bad.jpg", "cut.png"], ["grey.png", "none.png", "sub/b.png"], ["sub/two.png"],
    ]  # fmt: skip
    data.plan.leave_out({"a.jpg", "bad.jpg", "cut.png", "grey.png"})
    assert data.plan.groups == [1, 2]
    data.plan.leave_out({"a.jpg", "bad.jpg", "cut.png", "sub/two.png"}, at_least=2)
    assert data.plan.groups == [1, 1]
    data.plan.leave_out(set(data.plan.sources), at_least=2)
    assert data.plan.groups == []


def test_the_folder_is_looked_at_with_the_real_localizer(data):
    groups = [data.plan[place] for place in range(3)]
    found = {p.source: p for group in groups for p in group["photographs"]}
    assert {source: len(p.hands) for source, p in found.items()} == {
        "a.jpg": 1, "bad.jpg": 0, "cut.png": 1, "grey.png": 1, "none.png": 0, "sub/b.png": 1,
        "sub/two.png": 2,
    }  # fmt: skip
    assert {source for source, p in found.items() if p.reason} == {"bad.jpg", "none.png"}
    assert groups[0]["batch_size"] == 3


def test_workers_give_what_this_process_does(data):
    data.plan.is_kept, data.num_workers = True, 1
    (first, *_) = data.predict_dataloader()
    again = data.plan[0]
    assert [p.digest for p in first["photographs"]] == [p.digest for p in again["photographs"]]
    one, other = first["photographs"][0].hands[0], again["photographs"][0].hands[0]
    assert one.seeds == other.seeds and (one.full_mask == other.full_mask).mean() > 0.999


def test_a_test_knows_whose_hands_they_are_and_cuts_every_exemplar(tmp_path):
    folder = write_hands(tmp_path / "hands", identities=2, captures=2) / "wild"
    data = DeidentificationDataModule(str(folder), image_size=64, batch_size=3, exemplars=["m"])
    data.setup("test")
    assert data.plan.sources == [
        "L_001/IMG_0001.JPG", "L_001/IMG_0002.JPG", "R_001/IMG_0001.JPG", "R_001/IMG_0002.JPG",
    ]  # fmt: skip
    identities = [data.identities[source] for source in data.plan.sources]
    assert identities[0] == identities[1] != identities[2] == identities[3]
    item = data.plan[0]
    assert item["exemplars"] == ["m"]  # what is shown where a method says nothing else
    assert all(len(one.hands[0].exemplars) == 3 for one in item["photographs"])
    with pytest.raises(ConfigError, match="DeidentificationReport is missing"):
        data.test_dataloader()


def test_rendered_rois_are_no_photographs():
    rois = SyntheticPalms(what="rois", size=64)
    with pytest.raises(ConfigError, match=r"data\.synthetic: what must be hands"):
        DeidentificationDataModule(synthetic=rois)
