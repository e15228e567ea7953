"""What a factory is asked for."""

from __future__ import annotations

import lightning as L
import pytest

from palmforge.data.factory.datamodule import FactoryDataModule
from palmforge.errors import ConfigError, DataError


def test_prompts_are_of_the_grammar_or_the_users(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("a wet palm\n# no\na dry palm\n")
    plan = FactoryDataModule(reference_prompts=str(path), seed=3).plan
    assert plan.reference_prompts == ["a wet palm", "a dry palm"]
    assert len(set(plan.prompts)) > 500 and all("palm" in prompt for prompt in plan.prompts)
    assert FactoryDataModule(prompts=["a palm"]).plan.prompts == ["a palm"]
    assert FactoryDataModule(seed=3).plan.prompts == plan.prompts
    assert FactoryDataModule(seed=4).plan.prompts != plan.prompts


@pytest.mark.parametrize(
    ("wrong", "error", "what"),
    [
        ({"shard_identities": -1}, ConfigError, "data.shard_identities"),
        ({"num_identities": 0}, ConfigError, "data.num_identities"),
        ({"prompts": "no.txt"}, DataError, "data.prompts"),
        ({"templates": ["a {foot}"]}, ConfigError, "foot"),
    ],
)
def test_what_cannot_be_is_refused(wrong, error, what):
    with pytest.raises(error, match=what):
        FactoryDataModule(**wrong)


def test_it_has_nothing_to_train():
    data = FactoryDataModule()
    data.trainer = L.Trainer(accelerator="cpu", barebones=True)
    with pytest.raises(ConfigError, match="nothing to train; use predict"):
        data.setup("fit")


def test_without_a_keeper_there_are_no_batches():
    with pytest.raises(ConfigError, match="FactoryWriter is missing"):
        FactoryDataModule().predict_dataloader()
