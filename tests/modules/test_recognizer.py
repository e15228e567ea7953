"""The margin recogniser: phase-in, what is decayed, other identities, whole small runs."""

from __future__ import annotations

import math

import pytest
import torch
from runs import assert_same_bits, callbacks_yaml, load, newest

from palmforge.errors import CheckpointError
from palmforge.modules.recognizer import MarginRecognizer

SMALL = {"channels": [8, 8, 16, 16], "layers": [1, 1, 1, 1]}
SETTINGS = [
    "--config=configs/experiment/synthetic_only.yaml",
    "--model.backbone_args={channels: [8, 8, 16, 16], layers: [1, 1, 1, 1]}",
    "--model.grid_channels=4",
    "--model.embedding_dim=16",
    "--model.margin_start_step=1",
    "--data.augmentation_ramp_steps=3",
    "--model.margin_full_step=3",
    "--data.image_size=64",
    "--data.fractions=[0.5, 0.25, 0.25]",
    "--trainer.precision=32-true",
    "--trainer.val_check_interval=2",
    "--trainer.limit_val_batches=2",
]


def _module(names=("a", "b", "c"), **settings) -> MarginRecognizer:
    torch.manual_seed(0)
    settings = {"image_size": 64, "backbone_args": SMALL, "embedding_dim": 16, **settings}
    return MarginRecognizer(list(names), **settings)


def _checkpoint(module) -> dict:
    checkpoint = {"state_dict": dict(module.state_dict())}
    module.on_save_checkpoint(checkpoint)
    return checkpoint


def test_the_margin_is_phased_in():
    module = _module(margin_start_step=10, margin_full_step=20)
    assert [module.margin_strength(step) for step in (0, 10, 15, 20, 999)] == [0, 0, 0.5, 1, 1]
    assert _module(margin_start_step=0, margin_full_step=0).margin_strength(1) == 1


def test_a_checkpoint_serves_other_identities_but_not_another_network():
    checkpoint = _checkpoint(_module())
    other = _module(names=("x", "y"))
    with pytest.warns(UserWarning, match="trained on other identities"):
        other.on_load_checkpoint(checkpoint)
    other.load_state_dict(checkpoint["state_dict"])
    expected = _checkpoint(_module())["state_dict"]["network.linear.weight"]
    torch.testing.assert_close(other.network.linear.weight, expected)
    with pytest.raises(CheckpointError, match="another network"):
        _module(embedding_dim=8).on_load_checkpoint(_checkpoint(_module()))


def test_a_network_can_start_from_another_run(tmp_path):
    torch.save(_checkpoint(_module()), tmp_path / "easy.ckpt")
    torch.manual_seed(9)
    later = MarginRecognizer(
        ["x"], 64, backbone_args=SMALL, embedding_dim=16, weights=str(tmp_path / "easy.ckpt")
    )
    before = later.network.linear.weight.clone()
    later.load_pretrained(resuming=True)  # the checkpoint that is resumed says it all
    torch.testing.assert_close(later.network.linear.weight, before)
    later.load_pretrained(resuming=False)
    torch.testing.assert_close(later.network.linear.weight, _module().network.linear.weight)
    other = _module(embedding_dim=8, weights=str(tmp_path / "easy.ckpt"))
    with pytest.raises(CheckpointError, match=r"model\.weights"):
        other.load_pretrained(resuming=False)


@pytest.fixture
def fit(cli, tiny_data, tmp_path):
    def run(name: str, *settings: str, steps: int = 4) -> None:
        cli(
            "fit", *SETTINGS, *tiny_data, f"--name={name}", f"--trainer.max_steps={steps}",
            "--data.identities_per_batch=2", "--trainer.log_every_n_steps=1",
            callbacks_yaml(tmp_path / "callbacks.yaml", 2), *settings,
        )  # fmt: skip

    return run


@pytest.mark.parametrize("head", ["cosface", "adaface"])
def test_a_run_tests_open_set_and_resumes_to_the_same_bits(fit, logs, head):
    from palmforge.callbacks.evaluation_report import read_results

    settings = [f"--model.head={head}", "--model.lr_schedule=constant"]
    fit("whole", *settings, "--test_ckpt=last")
    metrics, counts = read_results(logs / "whole" / "version_0" / "results.json")
    assert 0 <= metrics["test/eer"] <= 1 and math.isfinite(metrics["test/auc"])
    assert counts.num_genuine > 0
    fit("half", *settings, steps=2)
    fit("half", *settings, "--ckpt_path=last")
    whole, half = (load(newest(logs / name, "last.ckpt")) for name in ("whole", "half"))
    assert_same_bits(whole["state_dict"], half["state_dict"])


def test_two_processes_learn_the_same_weights_as_each_other(fit, logs):
    """Each has its own pictures; the gradients, the classifier's included, are averaged."""
    fit("two", "--trainer.devices=2", "--trainer.strategy=ddp_fork", "--model.lr=1e-3")
    fit("one", "--model.lr=1e-3")
    one, two = (load(newest(logs / name, "last.ckpt"))["state_dict"] for name in ("one", "two"))
    # Batch norm sees half a batch, so they are near, and not the same.
    torch.testing.assert_close(one["loss.head.W"], two["loss.head.W"], rtol=0, atol=1e-2)


def test_early_steps_read_smaller_pictures(fit, monkeypatch):
    from palmforge.networks.embedding import PalmEmbedding

    seen = []
    features = PalmEmbedding.features
    monkeypatch.setattr(
        PalmEmbedding,
        "features",
        lambda self, images, size=None: (seen.append(size), features(self, images, size))[1],
    )
    fit("early", "--model.early_image_size=48", "--model.early_steps=2",
        "--trainer.limit_val_batches=0", steps=3)  # fmt: skip
    assert seen == [48, 48, None]


def test_predict_writes_unit_embeddings_with_their_identities(fit, cli, tiny_data, logs):
    import numpy as np
    import pyarrow.parquet as pq

    fit("model", "--trainer.limit_val_batches=0", steps=1)
    cli("predict", *SETTINGS, *tiny_data, "--name=model", "--ckpt_path=last",
        "--return_predictions=false")  # fmt: skip
    table = pq.read_table(next(logs.rglob("codes.parquet")))
    embeddings = np.stack(table["embedding"].to_pylist())
    assert embeddings.shape == (8 * 14, 16)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    assert all(row["identity"] in row["path"] for row in table.to_pylist())
