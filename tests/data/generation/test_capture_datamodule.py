"""Batches of pairs; and the palms of which `predict` makes captures."""

from __future__ import annotations

import cv2
import lightning as L
import numpy as np
import pytest
import torch
from controlnets import captures
from generators import SIZE

from palmforge.data.generation.prompted import NO_WORDS
from palmforge.data.roi_cache import RoiSettings
from palmforge.errors import ConfigError, DataError

NOWHERE = "/there/is/no/such/folder"
ALL = {"caption_dropout": 1.0, "control_dropout": 1.0, "both_dropout": 1.0}


def test_batches_are_the_same_for_any_number_of_workers(palms_root):
    found = []
    for workers in (0, 2):
        data = captures(palms_root, num_workers=workers, control_dropout=0.5)
        data.prepare_data()
        data.setup("fit")
        found.append([*data.train_dataloader(), *data.val_dataloader()])
    one, other = found
    assert len(one) == len(other) > 2
    for a, b in zip(one, other, strict=True):
        assert a["reference"].shape[1:] == (3, SIZE, SIZE)
        for key in ("image", "reference", "keep_control", "seed"):
            assert torch.equal(a[key], b[key])


def test_validation_drops_nothing(palms_root):
    data = captures(palms_root, **ALL)
    data.setup("fit")
    for dataset in (data.val, data.test):
        for row in range(len(dataset)):
            sample = dataset[row]
            assert sample["prompt"] != NO_WORDS and sample["keep_control"] == 1.0
            assert torch.equal(sample["reference"], dataset[row]["reference"])
    assert data.train[0, 1]["prompt"] == NO_WORDS and data.train[0, 1]["keep_control"] == 0.0


@pytest.mark.parametrize("name", ALL)
def test_one_of_the_three_alone_drops(palms_root, name):
    """None of them switches the others on or off."""
    data = captures(palms_root, **{other: float(other == name) for other in ALL})
    data.setup("fit")
    sample = data.train[0, 1]
    assert (sample["prompt"] == NO_WORDS) == (name != "control_dropout")
    assert (sample["keep_control"] == 0.0) == (name != "caption_dropout")


@pytest.mark.parametrize("settings", [
    {"control_dropout": 1.1}, {"both_dropout": -0.1}, {"captures": 0},
])  # fmt: skip
def test_numbers_out_of_range_are_refused(settings):
    (name,) = settings
    with pytest.raises(ConfigError, match=rf"data\.{name} must be"):
        captures(NOWHERE, **settings)


class Painter(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def predict_step(self, batch, batch_idx):
        return batch


def predicted(data) -> list[dict]:
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False
    )
    return trainer.predict(Painter(), datamodule=data)


@pytest.fixture
def folder(tmp_path):
    """Three palms of two pictures, grey: 10, 11, 20, 21, 30, 31."""
    for palm in (1, 2, 3):
        (tmp_path / f"{palm:06d}").mkdir()
        for capture in (0, 1):
            image = lined(10 * palm + capture)
            cv2.imwrite(str(tmp_path / f"{palm:06d}" / f"{capture:03d}.png"), image)
    return tmp_path


def lined(grey: int) -> np.ndarray:
    """Lines on skin as bright as a camera has it; its number is the grey of the first pixel."""
    image = np.full((SIZE, SIZE, 3), 150, np.uint8)
    image[SIZE // 2 - 2 : SIZE // 2] = image[:, SIZE // 3] = 60
    image[0, 0] = grey
    return image


def test_a_reference_without_a_palm_is_listed_with_the_reason(folder):
    cv2.imwrite(str(folder / "000001/000.png"), np.full((SIZE, SIZE, 3), 90, np.uint8))
    cv2.imwrite(str(folder / "000002/000.png"), np.zeros((SIZE, SIZE, 3), np.uint8))
    data = captures(NOWHERE, references=str(folder), num_identities=2, captures=1)
    with pytest.warns(UserWarning, match=r"000001/000\.png: no palm to be seen: contrast 0\.000"):
        made = predicted(data)
    assert greys(made)[:2] == [11, 21]
    assert "brightness" in data.problems[str(folder / "000002/000.png")]


def test_a_reference_that_is_not_square_is_listed_and_not_squeezed(folder):
    path = str(folder / "000001/000.png")
    cv2.imwrite(path, np.concatenate([lined(12), lined(12)]))
    settings = {"references": str(folder), "num_identities": 2, "captures": 1}
    data = captures(NOWHERE, **settings)
    with pytest.warns(UserWarning, match=rf"000001/000\.png: {SIZE} × {2 * SIZE} pixels are no sq"):
        made = predicted(data)
    assert greys(made)[:2] == [11, 20] and list(data.problems) == [path]
    whole = captures(NOWHERE, **settings, roi=RoiSettings(size=40, source="whole"))
    (batch, *_) = predicted(whole)
    assert whole.problems == {} and batch["reference"].shape[2:] == (SIZE, SIZE)


def greys(made: list[dict]) -> list[int]:
    return [int(reference[0, 0, 0]) for batch in made for reference in batch["reference"]]


def test_the_first_picture_of_each_palm_in_a_folder_is_its_reference(folder):
    data = captures(NOWHERE, references=str(folder), num_identities=10, captures=2)
    made = predicted(data)
    assert greys(made) == [10, 10, 20, 20, 30, 30]
    assert made[0]["reference"].shape == (3, 3, SIZE, SIZE)
    assert data.problems == {}


def test_not_more_palms_than_asked_for(folder):
    data = captures(NOWHERE, references=str(folder), num_identities=2, captures=3)
    assert greys(predicted(data)) == [10, 10, 10, 20, 20, 20]


def test_references_that_cannot_be_read_are_listed_and_others_take_their_place(folder):
    (folder / "000001/000.png").write_bytes(b"no picture")
    for capture in ("000", "001"):
        (folder / f"000002/{capture}.png").write_bytes(b"")
    data = captures(NOWHERE, references=str(folder), num_identities=2, captures=1)
    with pytest.warns(UserWarning, match=r"data\.references: left out 3:\n.*000001/000\.png"):
        made = predicted(data)
    assert greys(made)[:2] == [11, 30]
    assert len(data.problems) == 3 and all(data.problems.values())


def test_without_a_reference_that_can_be_used_nothing_is_made(folder):
    with pytest.raises(DataError, match=r"data\.references: no directory '/there/is"):
        predicted(captures(NOWHERE, references=NOWHERE))
    for path in folder.rglob("*.png"):
        path.write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="left out 6"),
        pytest.raises(DataError, match=r"data\.references: no picture of .* can be used"),
    ):
        predicted(captures(NOWHERE, references=str(folder)))


def test_without_references_they_are_palms_of_the_test_split(palms_root):
    data = captures(palms_root, num_identities=5, captures=2)
    made = predicted(data)
    test = data.palms.test
    first = np.unique(test.labels, return_index=True)[1]
    assert len(first) == 2  # fewer than asked for
    shown = [r for batch in made for r in batch["reference"]]
    for place in range(4):
        assert torch.equal(shown[place], test.plain(int(first[place // 2])))
