"""Batches of palms with prompts, and the plan of `predict`."""

from __future__ import annotations

import lightning as L
import pytest
import torch
from generators import SIZE, palms

from palmforge.data.generation.plan import image_seed
from palmforge.errors import ConfigError, DataError

NOWHERE = "/there/is/no/such/folder"


def _batches(root, **settings) -> list[dict]:
    data = palms(root, augmentation="mild", augmented_views=None, **settings)
    data.prepare_data()
    data.setup("fit")
    return [*data.train_dataloader(), *data.val_dataloader()]


def test_batches_are_the_same_for_any_number_of_workers(palms_root):
    one, other = (_batches(palms_root, num_workers=workers) for workers in (0, 2))
    assert len(one) == len(other) > 2
    for a, b in zip(one, other, strict=True):
        assert a.keys() == {"index", "seed", "prompt", "image"}
        assert torch.equal(a["image"], b["image"]) and a["image"].shape[1:] == (3, SIZE, SIZE)
        assert a["prompt"] == b["prompt"]
        assert a["seed"].tolist() == b["seed"].tolist()
        assert a["index"].tolist() == b["index"].tolist()


def test_identities_that_train_validate_and_test_are_disjoint(palms_root):
    data = palms(palms_root)
    data.setup("fit")
    parts = [
        {r.identity for r in dataset.palms.records} for dataset in (data.train, data.val, data.test)
    ]
    assert [len(part) for part in parts] == [4, 2, 2]
    assert len(set.union(*parts)) == 8


class Painter(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def predict_step(self, batch, batch_idx):
        return batch


def test_predict_needs_no_pictures():
    data = palms(NOWHERE, prompts=["a", "b"], num_identities=4)
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False
    )
    made = trainer.predict(Painter(), datamodule=data)
    assert [batch["index"].tolist() for batch in made] == [[0, 1, 2], [3, 4, 5]]  # whole ones
    assert made[0]["prompt"] == ["a", "b", "a"]
    assert made[1]["seed"].tolist() == [image_seed(0, i) for i in (3, 4, 5)]


def test_training_without_pictures_says_what_is_missing():
    with pytest.raises(DataError, match=NOWHERE):
        palms(NOWHERE).prepare_data()


def test_new_prompts_are_of_the_grammar_and_of_the_seed():
    plans = []
    for seed in (0, 0, 1):
        data = palms(NOWHERE, seed=seed, num_identities=6)
        data.setup("predict")
        plans.append([prompt for place in range(2) for prompt in data.plan[place]["prompt"]])
    assert plans[0] == plans[1] != plans[2]
    assert all("palm" in prompt for prompt in plans[0])


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_out_of_range_is_refused(palms_root, share):
    with pytest.raises(ConfigError, match=r"data\.caption_dropout must be in \[0, 1\]"):
        palms(palms_root, caption_dropout=share)
